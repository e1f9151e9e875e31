"""What has gone into the weights of a run is known whatever became of the runs that they came from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nanollama.config import dump_config
from nanollama.errors import UserError
from nanollama.model.config import ModelConfig
from nanollama.monitor.files import read_json
from nanollama.monitor.origin import origin_of, record_origin
from nanollama.training.config import TrainingConfig
from nanollama.training.intervention_config import LoadConfig
from nanollama.training.run_config import TrainingRunConfig
from nanollama.training.trained import loaded_runs

STEP = 5


def config(folder: Path, parent: str | None = None, seed: int = 0) -> TrainingRunConfig:
    """Of a run beside others, which is told from them by its seed."""
    load = () if parent is None else (LoadConfig(implementation="load", run=folder.parent / parent),)
    return TrainingRunConfig(
        study="toy",
        name=folder.name,
        run_dir=folder,
        model=ModelConfig(implementation="transformer", vocab_size=8, d_model=8, n_layers=1, n_heads=1),
        training=TrainingConfig(n_steps=STEP, seed=seed),
        interventions=load,
    )


def leave(folder: Path, parent: str | None = None, seed: int = 0) -> TrainingRunConfig:
    """What a run leaves of itself, with weights by its seed."""
    shutil.rmtree(folder, ignore_errors=True)
    checkpoint = folder / "checkpoints" / f"step_{STEP:08d}"
    checkpoint.mkdir(parents=True)
    files = {"model.safetensors": {"sha256": f"{seed}", "n_bytes": 1}}
    manifest = {"version": 1, "step": STEP, "config_hash": f"{seed}", "files": files}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    (folder / "result.json").write_text(json.dumps({"status": "finished", "step": STEP}))
    (folder / "environment.json").write_text("{}")
    made = config(folder, parent, seed)
    (folder / "config.yaml").write_text(dump_config(made))
    if parent is not None:
        source = folder.parent / parent
        origin = origin_of(source, 0, source / "checkpoints" / checkpoint.name)
        record_origin(folder, "interventions.0", origin)
    return made


def seeds(run: TrainingRunConfig) -> list[tuple[str, int]]:
    return [(path.name, one.training.seed) for path, one in loaded_runs(run)]


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A folder with the runs a, b from a, and c from b."""
    leave(tmp_path / "a", seed=1)
    leave(tmp_path / "b", "a", seed=2)
    leave(tmp_path / "c", "b", seed=3)
    return tmp_path


@pytest.mark.parametrize("gone", [(), ("a",), ("a", "b")])
def test_what_is_gone_has_still_been_learned_from(line: Path, gone: tuple[str, ...]) -> None:
    for name in gone:
        shutil.rmtree(line / name)
    assert seeds(config(line / "d", "c")) == [("c", 3), ("b", 2), ("a", 1)]
    assert seeds(config(line / "c", "b", seed=3)) == [("b", 2), ("a", 1)], "it goes on"


def test_what_was_trained_anew_is_what_it_was_when_it_was_loaded(line: Path) -> None:
    leave(line / "a", seed=7)
    assert seeds(config(line / "c2", "b")) == [("b", 2), ("a", 1)]
    leave(line / "b", "a", seed=8)
    assert seeds(config(line / "c2", "b")) == [("b", 8), ("a", 7)]
    assert seeds(config(line / "c", "b", seed=3)) == [("b", 2), ("a", 1)]
    both = config(line / "d", "c")
    second = LoadConfig(implementation="load", run=line / "b")
    both = both.model_copy(update={"interventions": (*both.interventions, second)})
    assert set(seeds(both)) == {("c", 3), ("b", 2), ("a", 1), ("b", 8), ("a", 7)}


def test_what_a_run_loads_again_is_read_where_it_is(line: Path) -> None:
    leave(line / "b", seed=8)
    shutil.rmtree(line / "c" / "checkpoints")
    assert seeds(config(line / "c", "b", seed=3)) == [("b", 8)]
    shutil.rmtree(line / "b")
    assert seeds(config(line / "c", "b", seed=3)) == [], "it is refused when it is due"


def forget_config(folder: Path, *keys: str) -> None:
    """Leave the notes of a run as they were before they held a config."""
    environment = read_json(folder / "environment.json")
    for key in keys:
        environment["loaded"]["interventions.0"].pop(key, None)
    (folder / "environment.json").write_text(json.dumps(environment))


def test_where_no_config_was_noted_a_run_that_is_gone_or_another_is_refused(line: Path) -> None:
    forget_config(line / "b", "config", "loaded")
    child = config(line / "d", "b")
    assert seeds(child) == [("b", 2), ("a", 1)]
    leave(line / "a", seed=7)
    with pytest.raises(UserError, match=r"What .*/a had learned cannot be told: .* was trained anew since"):
        seeds(child)
    shutil.rmtree(line / "a")
    with pytest.raises(UserError, match=r"What .*/a had learned cannot be told: .* and it is gone\. Restore"):
        seeds(child)
