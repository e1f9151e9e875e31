"""The scripts and configs of the studies do what their first lines say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nanollama.launcher.grid.verdict import judge
from nanollama.launcher.plan import read_grid

SCRIPTS = Path("apps/memory/scripts")
DATA_SCRIPTS = ("generate_data.sh", "generate_ood_data.sh", "generate_dependent_data.sh")
GRIDS = {
    "params_needed": ("paper",),
    "ood_grid": ("paper",),
    "compressibility": ("paper", "paper_8192"),
    "calculator": ("paper",),
    "mixtures": (),
}


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPTS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


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
    if name != "calculator":  # which is a question of our own
        model = plan.runs[0].config.model  # type: ignore[attr-defined]
        assert (model.n_layers, model.n_heads, model.rope_two_pi) == (2, 2, True)


@pytest.mark.parametrize(
    ("trained", "word"), [(0.99, "holds"), (0.1, "not told: recall_trained >= 0.9 in 0 of 3")]
)
def test_few_people_are_by_heart_only_where_they_are_known(trained: float, word: str) -> None:
    plan = read_grid(["apps/memory/config/ood_grid.yaml"])
    (claim,) = (each for each in plan.expect if each.claim.startswith("few people are learned by heart"))
    measures = {"recall_trained": trained, "recall_new_names": 0.02}
    rows = [{"run": run.name, "status": "finished", **measures} for run in plan.runs]
    (verdict,) = judge([claim], plan.runs, rows, plan.seed_key or "")
    assert verdict.word.startswith(word)


@pytest.mark.slow
def test_scripts_write_the_people_they_promise(tmp_path: Path) -> None:
    root = ["--root", str(tmp_path)]
    for name, options in (("generate_ood_data.sh", []), ("generate_dependent_data.sh", ["--seed", "3"])):
        done = run(name, "2", *root, *options)  # the end of the input is a no
        assert done.returncode == 0, done.stderr
        assert "SQLite database as well?" in done.stdout
    folder = tmp_path / "memory"
    written = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.jsonl")}
    assert written == {"new_people.jsonl": 2, "new_qa.jsonl": 8, "new_qatool.jsonl": 8}
    assert len(list(folder.glob("dependent/alpha_*_seed_3/qa.jsonl"))) == 5
    assert not list(folder.rglob("*.sqlite"))
    for name, n_databases in (("generate_ood_data.sh", 1), ("generate_dependent_data.sh", 6)):
        assert run(name, "2", *root, "--yes").returncode == 0
        assert len(list(folder.rglob("*.sqlite"))) == n_databases


@pytest.mark.parametrize("name", DATA_SCRIPTS)
def test_scripts_of_data_take_the_same_arguments(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {name} N [--yes] [--root DIR]")
    for arguments, message in {
        (): "Expected a number of people, got ''",
        ("2", "3"): "Expected one number of people, got '2' and '3'",
        ("--num", "3"): "Unknown option '--num'",
        ("3", "--root"): "--root needs a folder",
    }.items():
        done = run(name, *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"{message}; usage: {name} N") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_scripts_of_studies_hand_their_arguments_on() -> None:
    done = run("compressibility.sh", "--dry-run", "grid.seeds=2")
    assert done.returncode == 0, done.stderr
    assert "seed-1" in done.stdout and "seed-2" not in done.stdout
