"""The scripts and configs of the studies do what their first lines say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nanollama.launcher.plan import read_grid

SCRIPTS = Path("apps/memory/scripts")
GRIDS = {
    "params_needed": ("paper",),
    "ood_grid": ("paper",),
    "compressibility": ("paper", "paper_8192"),
    "calculator": ("paper",),
    "mixtures": (),
}


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPTS / name), *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("name", GRIDS)
def test_every_study_is_a_grid_of_three_seeds_with_claims_about_its_runs(name: str) -> None:
    plan = read_grid([f"apps/memory/config/{name}.yaml"])
    assert len({run.values["training.seed"] for run in plan.runs}) == 3
    assert plan.expect or name == "mixtures"


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name in GRIDS for scale in GRIDS[name]])
def test_published_sizes_train_as_published(name: str, scale: str) -> None:
    seeds_only = ["grid.product={}", "grid.zip=[]", "grid.seeds=1"]  # thousands of runs take a while to build
    plan = read_grid([f"apps/memory/config/{name}.yaml", f"scale={scale}", *seeds_only, "expect=[]"])
    training = plan.runs[0].config.training  # type: ignore[attr-defined]
    assert (training.n_steps, training.batch_size) == (100_000, 128)
    assert training.optimizer.learning_rate == 1e-3
    assert plan.name == f"{name}_{scale}"


@pytest.mark.slow
def test_scripts_write_the_people_they_promise(tmp_path: Path) -> None:
    assert run("generate_ood_data.sh", "2", "--root", str(tmp_path)).returncode == 0
    assert run("generate_dependent_data.sh", "--num", "3", "--root", str(tmp_path)).returncode == 0
    folder = tmp_path / "memory"
    written = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.jsonl")}
    assert written == {"new_people.jsonl": 2, "new_qa.jsonl": 8, "new_qatool.jsonl": 8}
    assert len(list(folder.glob("dependent/alpha_*/qa.jsonl"))) == 5


@pytest.mark.parametrize("name", ["generate_ood_data.sh", "generate_dependent_data.sh"])
def test_scripts_say_how_they_are_used(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 2 and done.stderr.startswith(f"usage: {name}")


@pytest.mark.slow
def test_scripts_of_studies_hand_their_arguments_on() -> None:
    done = run("compressibility.sh", "--dry-run", "grid.seeds=2")
    assert done.returncode == 0, done.stderr
    assert "seed-1" in done.stdout and "seed-2" not in done.stdout
