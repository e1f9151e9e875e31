"""The commands of the study: train, stop, go on, evaluate, transfer, show; and their words to wrong input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from apps.composition import attention, eval, local_grid, train
from apps.composition.settings import (
    CompositionConfig,
    EvalConfig,
    HandmadeConfig,
)
from nanollama.config import Config, load_config
from nanollama.config.source import read_source
from nanollama.launcher.grid.outcome import judge_grid, show_outcome
from nanollama.launcher.grid.results import collect
from nanollama.launcher.grid.verdict import judge
from nanollama.launcher.plan import read_grid
from nanollama.monitor import preemption
from nanollama.report import command as report_command
from tests.toy_training import rows, same_end

CONFIGS = Path(__file__).parents[3] / "apps" / "composition" / "config"
CLASSES: dict[str, type[Config]] = {
    "eval": EvalConfig,
    "handmade": HandmadeConfig,
    "debug": CompositionConfig,
}
SMALL = [
    "data.max_length=3",
    "data.n_train=6",
    "data.n_test=4",
    "model.d_model=16",
    "training.n_steps=6",
    "training.batch_size=8",
    "training.log_every=2",
    "training.eval_every=3",
    "training.checkpoint.every=2",
    "training.device=cpu",
]


def train_small(folder: Path, *keys: str) -> int:
    return train.main([str(CONFIGS / "debug.yaml"), f"run_dir={folder}", *SMALL, *keys])


@pytest.mark.parametrize("scale", ["small", "paper"])
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_valid(path: Path, scale: str) -> None:
    if path.stem in ("debug", "eval", "handmade"):  # they have one size
        load_config(CLASSES[path.stem], [str(path)])
    elif "grid" in read_source([str(path)]).value:
        plan = read_grid([str(path), f"scale={scale}"])
        assert plan.name == path.stem + ("_paper" if scale == "paper" else "")
        assert len({run.values["training.seed"] for run in plan.runs}) == (
            5 if "arm" in plan.runs[0].values else 3
        )
    else:
        load_config(CLASSES.get(path.stem, CompositionConfig), [str(path), f"scale={scale}"])


@pytest.mark.parametrize(
    "name", ["mix", "sparse_addition", "curriculum_lengths", "curriculum_tasks", "sparse_curriculum"]
)
def test_phases_change_at_the_same_share_of_the_steps_at_both_sizes(name: str) -> None:
    shares = []
    for scale in ("small", "paper"):
        argv = [str(CONFIGS / f"{name}.yaml"), f"scale={scale}"]
        is_grid = "grid" in read_source(argv).value
        configs = (
            [run.config for run in read_grid(argv).runs]
            if is_grid
            else [load_config(CompositionConfig, argv)]
        )
        found = []
        for config in configs:
            assert isinstance(config, CompositionConfig)
            n_steps = config.resolved_training.n_steps
            found.append([phase.from_step / n_steps for phase in config.data.phases])
        shares.append(found)
    assert any(len(phases) > 1 for phases in shares[0])
    for small, paper in zip(*shares, strict=True):
        assert paper == pytest.approx(small, rel=0.03)


def test_the_head_is_that_of_polynomial_iteration_stopped_when_it_is_there() -> None:
    head, whole = (
        load_config(CompositionConfig, [str(CONFIGS / f"{n}.yaml")]) for n in ("head", "polynomial")
    )
    changed = {name: getattr(head.training, name) for name in ("eval_every", "checkpoint", "stop_when")}
    assert head.training.optimizer.schedule == "constant", "so that steps do not depend on how many there are"
    assert (
        whole.model_copy(update={"name": "head", "training": whole.training.model_copy(update=changed)})
        == head
    )


@pytest.mark.slow
def test_a_grid_leaves_a_page_with_its_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_command, "FORMATS", (".svg",))
    keys = [
        "grid.zip=[]",
        "grid.zip=[]",
        "grid.product={model.d_model: [8, 16]}",
        "model.position_dim=null",
        "grid.seeds=2",
        "measures.causal=true",
    ]
    keys += ["training.eval_every=null", "data.max_length=2"]
    expect = "expect=[{claim: it counts, measure: uniform_maps_over_chance, at_most: 1}]"
    plan = read_grid([str(CONFIGS / "width.yaml"), f"run_dir={tmp_path}", *SMALL, *keys, expect])
    for run in plan.runs:
        assert isinstance(run.config, CompositionConfig)
        train.run(run.config)
    rows = collect(plan)
    assert show_outcome(judge_grid(plan, rows)) == 0
    assert "4 of 4 runs" in (tmp_path / "report.html").read_text()
    assert {"iteration_peakiness_long_by_d_model.svg", "accuracy_by_length.svg", "results_1.csv"} <= {
        path.name for path in (tmp_path / "figures").iterdir()
    }
    assert "d_model=8" in (tmp_path / "figures" / "results_1.csv").read_text()
    assert "| it counts" in (tmp_path / "verdict.md").read_text()
    losses = [row["ideal_maps_loss"] for row in rows]
    assert all(-1 <= loss <= 1 for loss in losses)


@pytest.mark.slow
def test_train_evaluate_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert train_small(folder) == 0
    found = rows(folder, "evals.jsonl")
    assert [row["step"] for row in found] == [3, 6]
    assert {"test_accuracy", "test_grammar", "circuit_score", "iteration_peakiness"} <= found[-1].keys()
    assert "test/layer_1/head_0/iteration_peakiness/length_3" in found[-1]

    assert eval.main([str(CONFIGS / "eval.yaml"), f"run={folder}"]) == 0
    assert "uniform maps: every head" in capsys.readouterr().out
    (examined,) = (folder / "evaluations").glob("step_00000006_*")
    with open(examined / "measures.csv", newline="") as file:
        table = list(csv.DictReader(file))
    accuracies = [
        float(row["value"]) for row in table if (row["split"], row["measure"]) == ("test", "accuracy")
    ]
    assert sum(accuracies) / len(accuracies) == pytest.approx(found[-1]["test_accuracy"])
    said = json.loads((examined / "result.json").read_text())["metrics"]
    assert said["test_accuracy"] == pytest.approx(found[-1]["test_accuracy"]) and "circuit_score" in said
    assert (examined / "causal.csv").exists() and (examined / "probes.csv").exists()

    assert attention.main([str(folder), "length=2"]) == 0
    assert "<image" not in (folder / "attention.html").read_text(), "the page's policy would not show it"
    names = {path.name for path in (folder / "attention").iterdir()}
    assert {"attention_mean.svg", "attention_example.pdf", "attention_growth.svg"} <= names
    assert not [name for name in names if "step_" in name], "frames of the film are in the page alone"

    (folder / "checkpoints" / "step_00000004" / "model.safetensors").write_bytes(b"damaged")
    assert attention.main([str(folder), "length=2", "training.device=cpu"]) == 0
    assert "Only one intact checkpoint was kept" in (folder / "attention.html").read_text()


def test_a_model_is_examined_where_it_was_trained_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path) == 0
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("device: cpu", "device: cuda:99"))
    examine = [str(CONFIGS / "eval.yaml"), f"run={tmp_path}"]
    assert (eval.main(examine), attention.main([str(tmp_path)])) == (2, 2)
    assert capsys.readouterr().err.count("The device cuda:99 needs GPU number 99") == 2
    assert eval.main([*examine, "device=cpu"]) == 0


def test_a_split_without_sequences_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where sequences are drawn afresh there are none to learn from, so the circuit is that of the test."""
    keys = ["measures.splits=[train, test]"]
    assert train_small(tmp_path, "data.n_train=null", "measures.causal=true", *keys) == 0
    assert "ideal_maps_loss" in rows(tmp_path, "evals.jsonl")[-1]
    assert eval.main([str(CONFIGS / "eval.yaml"), f"run={tmp_path}", *keys]) == 0
    assert "uniform maps: every head" in capsys.readouterr().out


def test_a_run_goes_on_across_an_intervention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [
        "interventions=[{implementation: freeze, parameters: ['blocks.0.*'], at_step: 2}, "
        "{implementation: reinitialize, parameters: ['blocks.1.mlp.*'], at_step: 4}]"
    ]
    assert train_small(tmp_path / "whole", *keys) == 0
    for stop in (2, 3, 4, 5):
        folder = tmp_path / f"cut_{stop}"
        with monkeypatch.context() as patch:
            patch.setattr(preemption.Preemption, "reason", _StopAfter(stop))
            assert train_small(folder, *keys) == 75
        assert train_small(folder, *keys) == 0
        assert same_end(tmp_path / "whole", folder)


class _StopAfter:
    """A reason to stop, from the n-th time it is asked for."""

    def __init__(self, n: int) -> None:
        self.n, self.asked = n, 0

    def __get__(self, instance: object, owner: type) -> str | None:
        self.asked += 1
        return "a test" if self.asked >= self.n else None

    def __set__(self, instance: object, value: object) -> None:
        pass


@pytest.mark.slow
def test_transfer_trains_pairs_and_says_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_command, "FORMATS", (".svg",))
    arguments = [
        str(CONFIGS / "transfer_frozen.yaml"),
        f"run_dir={tmp_path}",
        "grid.seeds=2",
        "grid.arms.source={training.n_steps: 8}",
        "model.d_model=16",
        "model.position_dim=null",
        "data.max_length=3",
        "data.n_train=6",
        "data.n_test=4",
        "training.n_steps=4",
        "training.batch_size=8",
        "training.eval_every=2",
        "training.device=cpu",
        "training.stop_when=null",
        "local.n_jobs=2",
    ]
    claim = "claim: x, runs: {arm: scratch}, over: {arm: transfer}, measure: test_accuracy, statistic: mean"
    for reaches, code, word in ((0, 0, "holds"), (1, 1, "not told: nothing bounds 2 of 2 values")):
        expect = f"expect=[{{{claim}, reaches: {reaches}, at_least: 1}}]"
        assert local_grid.main([*arguments, expect]) == code
        assert word in (tmp_path / "verdict.md").read_text()
    assert (tmp_path / "figures" / "accuracy_by_length.svg").exists()
    pairs = (tmp_path / "figures" / "claims_2.csv").read_text().splitlines()
    assert pairs[1:] == [f"arm-scratch_seed-{seed},> 4.000,> 4.000,-" for seed in (0, 1)]
    last = max((tmp_path / "arm-source_seed-1" / "checkpoints").iterdir())
    source, end = (
        load_file(path / "model.safetensors")
        for path in (last, max((tmp_path / "arm-transfer_seed-1" / "checkpoints").iterdir()))
    )
    changed = {name.partition(".")[0] for name in end if not torch.equal(source[name], end[name])}
    assert "blocks" in changed and not {name for name in changed if "embedding" in name}


@pytest.mark.parametrize(("steps", "code"), [((40, 90), 0), ((20, 30), 1)])
def test_a_smaller_speedup_than_claimed_is_missed(tmp_path: Path, steps: tuple[int, int], code: int) -> None:
    """From scratch it takes the first number of steps with four seeds, the second with one; else 10."""
    plan = read_grid([str(CONFIGS / "transfer.yaml"), f"run_dir={tmp_path}"])
    found = []
    for run in plan.runs:
        run.folder.mkdir(parents=True)
        scratch = steps[run.values["training.seed"] == 3]
        step = {"arm-source": 5, "arm-scratch": scratch, "arm-transfer": 10}[run.name.partition("_")[0]]
        rows = [
            {"step": step, "test_accuracy": 0.9, "train_accuracy": 0.0},
            {"step": 2 * step, "test_accuracy": 1.0, "train_accuracy": 1.0},
        ]
        (run.folder / "evals.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        found.append({"run": run.name, "status": "finished", **run.values, **rows[-1]})
    learned, faster, chance = judge(plan.expect, plan.runs, found, "training.seed")
    assert faster.values == (steps[0] / 10,) * 3 + (steps[1] / 10, steps[0] / 10)
    assert (learned.word, chance.word, chance.p_value) == ("holds", "holds", 1 / 32)
    assert faster.failed == (code == 1)


@pytest.mark.parametrize(
    ("wide", "narrow", "words"),
    [
        (1.0, 0.0, ["holds", "holds"]),
        (0.0, 0.0, ["MISSED", "holds"]),
        (1.0, 1.0, ["holds", "MISSED"]),
    ],
)
def test_width_is_judged_by_what_was_learned(
    tmp_path: Path, wide: float, narrow: float, words: list[str]
) -> None:
    """Not by the peakiness of heads, which an untrained model lacks at any width."""
    plan = read_grid([str(CONFIGS / "width.yaml"), f"run_dir={tmp_path}"])
    found = []
    for run in plan.runs:
        accuracy = wide if run.values["model.d_model"] == 64 else narrow
        of_run = {"test_accuracy_long": accuracy, "iteration_peakiness_long": 0.159}
        found.append({"run": run.name, "status": "finished", "step": 2000, **run.values, **of_run})
    assert [verdict.word for verdict in judge(plan.expect, plan.runs, found, "training.seed")] == words


PARITY = "{implementation: parity, problem_token: 32}"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["data.tasks=[{implementation: party, problem_token: 32}]"], "'parity'"),
        (["data.tasks=[]"], "data.tasks"),
        (["data.n_trian=5"], "did you mean 'n_train'?"),
        (["data.max_length=0"], "data.max_length"),
        (["data.tokens.end_of_input=63"], "end_of_sequence = 63 is also the token of end_of_input"),
        (["data.tokens.end_of_input=32"], "tasks.0.problem_token = 32 is also the token of end_of_input"),
        (["model.vocab_size=40"], "model.vocab_size = 40 is too small: the data use token 63"),
        (["model.max_seq_len=9"], "data.max_length = 4 makes inputs of 10 tokens"),
        (["model.n_heads=3"], "d_model = 32 is not a multiple of n_heads = 3"),
        (
            ["model.positions=none", "model.position_dim=4"],
            "position_dim needs positions = learned, not none",
        ),
        (["model.position_dim=64"], "position_dim = 64 is more than d_model = 32"),
        (["training.optimizer.implementation=sgd", "training.optimizer.eps=1e-6"], "eps belongs to"),
        (["training.optimizer.momentum=0.9"], "momentum belongs to implementation = sgd"),
        (["interventions=[{implementation: freeze, at_step: 300}]"], "is never reached in 300 steps"),
        (["interventions=[{implementation: thaw}]"], "'freeze'"),
        (
            [
                "data.full_batch=true",
                "data.n_train=1",
                "training.batch_size=99",
                "training.n_accumulation=99",
            ],
            "n_accumulation is 99, but with data.full_batch a batch is the",
        ),
        (["data.phases=[{from_step: 500}]"], "from_step = 500, which is never reached in 300 steps"),
        (
            ["data.n_epochs=9", "data.phases=[{from_step: 4}]"],
            "from_step = 4, which is never reached in 4 steps",
        ),
        (
            ["data.n_epochs=9", "interventions=[{implementation: freeze, at_step: 4}]"],
            "at_step = 4 is never reached in 4 steps",
        ),
        (
            ["interventions=[{implementation: load, run: runs/nowhere}]"],
            "there is no run folder runs/nowhere",
        ),
        (["interventions=[{implementation: freeze, parameters: [hed]}]"], "'hed' matches no parameter"),
        ([f"data.tasks=[{PARITY}, {PARITY}]"], "tasks.1.problem_token = 32 is also the token of"),
        (["data.max_length=1", "data.n_test=1"], "tasks.0 has too few distinct sequences of 1 to 1 inputs"),
        (
            ["data.n_train=null", "measures.splits=[train]"],
            "measures.splits = [train] leaves nothing to measure",
        ),
        (["measures={causal: true, heads: false}"], "causal = true has no effect with heads = false"),
        (["data.file=README.md"], "README.md must end in .npz"),
    ],
)
def test_wrong_configs_are_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: list[str], message: str
) -> None:
    assert train.main([str(CONFIGS / "debug.yaml"), f"run_dir={tmp_path / 'run'}", *keys]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (eval, [str(CONFIGS / "eval.yaml"), "run=runs/nowhere"], "There is no run folder runs/nowhere"),
        (attention, ["runs/nowhere"], "There is no run folder runs/nowhere"),
        (attention, [], "usage: nanollama report attention RUN"),
        (
            attention,
            ["runs/x/checkpoints/step_00000004"],
            "step_00000004 is a checkpoint: expected the folder",
        ),
        (attention, ["runs/x", "size=3"], "size=3: expected length=L with a number L"),
        (attention, ["runs/x", "length=²"], "length=²: expected length=L with a number L"),
    ],
)
def test_wrong_arguments_of_other_commands(
    command: Any, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
