"""The commands of the study, its options, its measures, and its words to wrong input."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from apps.tying import eval, local_grid, options, train
from apps.tying.data import held_out_batches, read_text, token_frequencies
from apps.tying.grid_sections import MATRICES, matrix_pictures, scope
from apps.tying.measures import Examiner, distances
from apps.tying.settings import STUDY, EvalConfig, TyingConfig
from nanollama.config import config_hash, load_config
from nanollama.launcher.grid.estimate import describe_plan
from nanollama.launcher.grid.results import GridResults, collect
from nanollama.launcher.plan import read_grid
from nanollama.model import build_model
from nanollama.report.runs import read_run
from nanollama.training.loss import next_token_loss
from nanollama.training.trained import load_run
from tests.toy_training import rows, same_end

pytest.importorskip("tokenizers")
CONFIGS = Path(train.__file__).parent / "config"
SMALL = [
    "text.files=[text.txt]",
    "text.tokenizer.vocab_size=100",
    "text.held_out=0.2",
    "text.cache=cache",
    "text.seq_len=16",
    "n_rows=40",
    "model.d_model=16",
    "training.n_steps=6",
    "training.batch_size=8",
    "training.log_every=1",
    "training.eval_every=2",
    "training.checkpoint={every: 1, keep: null}",
    "training.device=cpu",
    "measures.n_rows=6",
]
OPTIONS = [
    *["--train-batch-size", "8", "--device", "cpu", "--dir", "out"],
    *["--arch", "d_model", "16", "n_layers", "1", "vocab_size", "100", "max_seq_len", "16"],
    *["--data", "files", "text.txt", "held_out", "0.2", "seq_len", "16", "size", "40"],
]


@pytest.fixture(autouse=True)
def in_folder_with_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    lines = [
        " ".join(numbers[(first + n * step) % 10] for n in range(30))
        for first in range(10)
        for step in (1, 3, 7, 9)
    ]
    Path("text.txt").write_text("\n".join(lines))


def train_small(folder: str, *keys: str) -> int:
    return train.main([str(CONFIGS / "debug.yaml"), f"run_dir={folder}", *SMALL, *keys])


def test_a_run_untied_midway_stops_goes_on_and_is_examined(capsys: pytest.CaptureFixture[str]) -> None:
    untie = "interventions=[{implementation: untie, at_step: 3}]"
    assert train_small("whole", untie) == 0
    assert train_small("cut", untie, "training.max_minutes=1e-9") == 75
    assert train_small("cut", untie) == 0
    assert same_end(Path("whole"), Path("cut"))
    evals = rows(Path("whole"), "evals.jsonl")
    assert [row["cosine"] == pytest.approx(1) for row in evals] == [True, False, False]
    assert evals[0]["procrustes"] == pytest.approx(0, abs=1e-6) and evals[-1]["procrustes"] > 1e-6
    Path("eval.yaml").write_text("study: tying\nrun: whole\ndevice: cpu\n")
    assert eval.main(["eval.yaml"]) == 0
    assert "loss (nats)" in capsys.readouterr().out
    (table,) = Path("whole/evaluations").glob("step_00000006_*/measures.csv")
    assert table.read_text().startswith("step,loss_nats,accuracy")


def test_what_a_checkpoint_measures_stays_when_the_checkpoint_is_removed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train_small("run", "interventions=[]") == 0
    checkpoint = min(Path("run/checkpoints").glob("step_*"))
    kept = {*checkpoint.iterdir()}
    Path("eval.yaml").write_text(f"study: tying\nrun: {checkpoint}\ndevice: cpu\n")
    assert eval.main(["eval.yaml"]) == 0
    assert {*checkpoint.iterdir()} == kept
    assert [*Path("run/evaluations").glob(f"{checkpoint.name}_*/measures.csv")]
    assert eval.main(["eval.yaml", "out=elsewhere"]) == 0
    assert {path.name for path in Path("elsewhere").iterdir()} == {"config.yaml", "measures.csv"}
    capsys.readouterr()
    assert eval.main(["eval.yaml", "out=elsewhere", "measures.split=valid"]) == 2
    assert "out = elsewhere holds what another config has written" in capsys.readouterr().err


def test_an_examination_of_another_split_overwrites_nothing_and_says_which_it_is() -> None:
    assert train_small("run", "interventions=[]") == 0
    Path("eval.yaml").write_text("study: tying\nrun: run\ndevice: cpu\n")
    found = {}
    for split in ("test", "valid", "test"):
        assert eval.main(["eval.yaml", f"measures.split={split}"]) == 0
    for folder in Path("run/evaluations").iterdir():
        config = load_config(EvalConfig, [str(folder / "config.yaml")])
        assert folder.name == f"step_00000006_{config_hash(config)}"
        found[config.measures.split] = (folder / "measures.csv").read_text()
    assert found.keys() == {"test", "valid"} and found["test"] != found["valid"]
    shutil.copytree(folder, Path("run/evaluations/step_00000006"))  # as they were called before
    reported = [examination.tables["measures"] for examination in read_run(Path("run")).examinations]
    assert len(reported) == 3
    for text in found.values():
        assert [line.split(",") for line in text.splitlines()] in reported


def test_a_model_is_not_measured_on_another_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_small("run", "interventions=[]") == 0
    Path("eval.yaml").write_text("study: tying\nrun: run\ndevice: cpu\n")
    assert train.main(OPTIONS) == 0
    lines = Path("text.txt").read_text()
    Path("text.txt").write_text(lines + "\nzero and nothing else")
    for measure in (lambda: eval.main(["eval.yaml"]), lambda: train.main(OPTIONS)):
        capsys.readouterr()
        assert measure() == 2
        assert "The text text.txt is not what" in capsys.readouterr().err
    assert not Path("run/eval").exists()
    Path("text.txt").write_text(lines)
    assert eval.main(["eval.yaml"]) == 0


def test_what_a_loaded_run_has_learned_is_not_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_small("first", "interventions=[]") == 0
    load = "interventions=[{implementation: load, run: %s}]"
    assert train_small("second", load % "first") == 0
    for name in ("first", "second"):  # by way of which the first was loaded
        capsys.readouterr()
        assert train_small("third", load % name, "text.held_out=0.25") == 2
        said = capsys.readouterr().err
        assert f"The run {name} has learned from what would be held out now: text.held_out is 0.2" in said
    assert train_small("fourth", load % "second", "text.held_out=0.15") == 0


def test_a_causal_model_tells_the_next_token() -> None:
    causal = ["model.causal=true", "model.positions=rotary", "interventions=[]"]
    assert train_small("run", *causal, "training.n_steps=30", "training.eval_every=30", "n_rows=null") == 0
    first, last = rows(Path("run"))[0], rows(Path("run"))[-1]
    assert last["loss"] < first["loss"] - 0.3


def small_config(*keys: str) -> TyingConfig:
    return load_config(TyingConfig, [str(CONFIGS / "debug.yaml"), *SMALL, "interventions=[]", *keys])


def test_masks_of_examinations_are_the_same_for_all_runs() -> None:
    batches = [
        held_out_batches(config, read_text(config), "valid", None, size)
        for config, size in ((small_config(), 3), (small_config("training.seed=5"), 100))
    ]
    for name in ("input_ids", "targets", "query_positions"):
        one, other = (torch.cat([getattr(batch, name) for batch in some]) for some in batches)
        assert torch.equal(one, other)


def test_the_loss_measured_is_the_mean_over_masked_tokens() -> None:
    config = small_config()
    text = read_text(config)
    model = build_model(config.model, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        found = Examiner(config, config.measures, text).evaluate(model, 0)
        (batch,) = held_out_batches(config, text, "valid", 6, 64)
        loss = float(next_token_loss(model, batch)) / batch.n_loss_tokens
    assert found["loss_nats"] == pytest.approx(loss)
    shares = token_frequencies(config, text)
    learned = np.load(text.folder / "train.npy")[: 40 * 16]  # n_rows of seq_len
    counts = np.bincount(learned, minlength=config.model.vocab_size) + 1  # none is impossible
    counts[text.special] = 0
    assert shares == pytest.approx(counts / counts.sum())
    frequency = -np.log((counts / counts.sum())[batch.targets.numpy()]).mean()
    assert found["learned_nats"] == pytest.approx(frequency - loss)
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]


def test_distances_see_through_rotations_and_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(40, 6, generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    same, turned = distances(first, 3 * first), distances(first, 3 * first @ rotation)
    other = distances(first, torch.randn(40, 6, generator=generator))
    assert same["cosine"] == pytest.approx(1) and same["procrustes"] == pytest.approx(0, abs=1e-6)
    assert turned["cosine"] < 0.6 and turned["procrustes"] == pytest.approx(0, abs=1e-6)
    assert other["procrustes"] > 0.5
    assert same["output_norm"] == pytest.approx(3 * same["input_norm"])
    line = torch.outer(torch.arange(1.0, 41), torch.ones(6))
    assert distances(line, first)["input_effective_rank"] == pytest.approx(1)
    assert 5 < distances(line, first)["output_effective_rank"] <= 6


def test_options_leave_their_files_and_go_on_untied() -> None:
    assert train.main([*OPTIONS, "--epochs", "2", "--seed", "3"]) == 0
    out = Path("out")
    steps = {
        name: [json.loads(line)["step"] for line in (out / name).read_text().splitlines()]
        for name in ("train.jsonl", "valid.jsonl", "test.jsonl")
    }
    assert steps == {"train.jsonl": [1, 10], "valid.jsonl": [5, 10], "test.jsonl": [10]}
    assert json.loads((out / "state.json").read_text())["status"] == "finished"
    final = torch.load(out / "final.pt", weights_only=True)
    assert (final["step"], final["tied"], final["arch"]["d_model"]) == (10, True, 16)
    before = final["model"]["embedding.weight"]

    again = [*OPTIONS, "--restore", "out/final.pt", "--ioemb-copy", "True", "--opti", "lr", "1e-9"]
    again += ["--arch", "tied", "False"]
    assert train.main(again) == 0
    final = torch.load(out / "final.pt", weights_only=True)
    assert not final["tied"] and final["step"] == 5
    run_of_final = (out / "state.json").read_text()
    assert train.main(again) == 0  # it is finished
    assert (out / "state.json").read_text() == run_of_final and len(list((out / "runs").iterdir())) == 2
    for name in ("embedding.weight", "head.weight"):
        torch.testing.assert_close(final["model"][name], before, rtol=0, atol=1e-6)
    run = out / json.loads((out / "state.json").read_text())["run"]
    trained = load_run(TyingConfig, run)
    assert trained.config.first_step == 10 and not trained.model.is_tied
    drawn = [*again, "--ioemb-copy", "False", "--dir", "drawn", "--restore", str(run)]
    assert train.main(drawn) == 2  # that one is untied already
    back = [*OPTIONS, "--restore", str(run), "--dir", "back", "--arch", "tied", "True"]
    assert train.main(back) == 0
    assert torch.load("back/final.pt", weights_only=True)["tied"]


def test_a_restored_model_is_untied_by_no_other_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([*OPTIONS, "--dir", "first"]) == 0
    for word in ("yes", "1", "on"):
        typed = [*OPTIONS, "--restore", "first/final.pt", "--arch", "tied", word]
        assert train.main(typed) == 2
        assert f"model.tied_embeddings={word}: expected true or false" in capsys.readouterr().err


def test_the_name_of_a_run_is_never_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = SimpleNamespace(hexdigest=lambda: "585e51230742")
    monkeypatch.setattr(options, "hashlib", SimpleNamespace(sha256=lambda content: digest))
    config = options.build(options._parser().parse_args(OPTIONS))
    assert config.name == config.folder.name == "r585e51230742"


def test_another_optimizer_has_its_own_defaults() -> None:
    typed = [*OPTIONS, "--opti", "name", "sgd", "lr", "0.1", "momentum", "0.9"]
    optimizer = options.build(options._parser().parse_args(typed)).training.optimizer
    assert (optimizer.implementation, optimizer.momentum) == ("sgd", 0.9)


BAD = [
    (["--restore", "no.pt"], "--restore: there is no no.pt; expected a final.pt, or the folder of a run."),
    (["--restore", "text.txt"], "--restore: text.txt is not a final.pt of this study."),
    (
        ["--restore", "other", "--arch", "d_model", "8"],
        "has another architecture: model.d_model is 16 there and 8 here",
    ),
    (["--ioemb-copy", "True"], "--ioemb-copy says where the output embeddings of a restored model come from"),
    (["--restore", "other", "--ioemb-copy", "True"], "none are made: the restored model is tied, and"),
    (["--ioemb-copy", "maybe"], "Argument --ioemb-copy: expected True or False, got 'maybe'"),
    (["--epochs", "0"], "Argument --epochs: expected a number >= 1, got 0"),
    (["--epochs", "many"], "Argument --epochs: expected a number >= 1, got many"),
    (["--epoch", "1"], "Unrecognized arguments: --epoch 1"),
    (["--compiler", "gcc"], "Argument --compiler: invalid choice: 'gcc'"),
    (["--restore", "other", "--arch", "tied", "maybe"], "model.tied_embeddings=maybe"),
    (["--restore", "other", "--data", "held_out", "0.3"], "text.held_out is 0.2 there and 0.3 here"),
    (["--restore", "other", "--data", "files", "words.txt"], "has learned other tokens than those of this"),
    (["--opti", "name", "sgd", "betas", "[0.9, 0.9]"], "betas belongs to implementation = adamw"),
    (["--arch", "tied"], "max_seq_len 16 tied'."),
    (["--arch", "d_modle", "8"], "model.d_modle=8: unknown key; did you mean 'd_model'?"),
    (["--data", "siez", "8"], "--data has no 'siez'; did you mean 'size'?"),
    (["--data", "files", "no.txt"], "The text no.txt cannot be read: No such file or directory."),
    (["--data", "files", "empty.txt"], "There is nothing to learn from in empty.txt"),
    (["--device", "gpu"], "training.device=gpu: expected auto, cpu, cuda or cuda:N"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD, ids=[" ".join(wrong) for wrong, _ in BAD])
def test_wrong_options_are_told_in_one_sentence(
    wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.txt").write_text("\n \n")
    Path("words.txt").write_text(Path("text.txt").read_text().replace("e", "q"))
    if "other" in wrong:
        assert train.main([*OPTIONS, "--dir", "first"]) == 0
        Path("first/final.pt").rename("first/kept")
        Path("other").symlink_to(next(Path("first/runs").iterdir()))
        capsys.readouterr()
    typed = [*OPTIONS, "--seed", "1", *wrong]
    assert train.main(typed) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["model.max_seq_len=8"], "model.max_seq_len = 8 is too small: examples have text.seq_len = 16"),
        (["model.vocab_size=10"], "model.vocab_size = 10 is too small: the tokenizer has"),
        (["interventions=[{implementation: tie}]"], "interventions.0: the embeddings are tied already"),
        (["model.tied_embeddings=false"], "the embeddings are not tied at step 3, so cannot be untied"),
        (["text.seq_len=4000", "model.max_seq_len=4000"], "less than one example of 4000"),
    ],
)
def test_wrong_configs_are_told_in_one_sentence(
    keys: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    untie = "interventions=[{implementation: untie, at_step: 3}]"
    assert train_small("run", untie, *keys) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_every_config_is_valid() -> None:
    Path("apps").symlink_to(CONFIGS.parents[1])
    for path in sorted(CONFIGS.glob("*.yaml")):
        if path.stem == "eval":
            load_config(EvalConfig, [str(path)])
        elif "grid:" in path.read_text():
            read_grid([str(path)])
        else:
            load_config(TyingConfig, [str(path)])


def test_a_grid_is_estimated_with_the_parameters_that_learn_and_draws_each_measure_once() -> None:
    Path("apps").symlink_to(CONFIGS.parents[1])
    lines = list(describe_plan(read_grid([str(CONFIGS / "tying.yaml")])))
    sizes = {line.split("_")[0]: line.split()[1] for line in lines if "_seed-0 " in line}
    tied, untied = sizes.pop("arm-tied"), sizes.pop("arm-untied")
    assert tied != untied
    assert sizes.pop("arm-tied-then-untied") == sizes.pop("arm-redrawn") == untied
    assert sizes.pop("arm-untied-then-tied") == tied
    assert not {*MATRICES} & {*STUDY.measures}  # which every grid draws by itself


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_arms"), [("tying", 9), ("moments", 8), ("decoder", 7)])
def test_the_grids_of_the_study_at_a_toy_size(
    name: str, n_arms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All arms branch from their stems with weights and moments; the page of one shows both matrices."""
    if name != "tying":
        monkeypatch.setattr("nanollama.launcher.local.run._show_outcome", lambda plan: 0)
    Path("apps").symlink_to(CONFIGS.parents[1])
    source = (CONFIGS / f"{name}.yaml").read_text()
    for n_steps, small in (("800", "4"), ("600", "3"), ("400", "2")):
        for key in ("n_steps", "first_step"):
            source = source.replace(f"{key}: {n_steps}\n", f"{key}: {small}\n")
    Path("grid.yaml").write_text(source.replace("warmup_steps: 100", "warmup_steps: 2"))
    keys = [key for key in SMALL if not key.startswith("training.n_steps")]
    # The last checkpoint of each run is the only one: no arm begins with another.
    command = ["grid.yaml", *keys, "training.checkpoint.every=100", "grid.seeds=1", "expect=[]"]
    assert local_grid.main(command) == 0
    plan = read_grid(command)
    assert (plan.folder / "report.html").exists() == (name == "tying")
    done = collect(plan)
    assert {row["status"] for row in done} == {"finished"} and len(done) == n_arms
    results = GridResults(plan, done)
    assert [picture.name for picture in matrix_pictures(results)] == [f"matrices_{name}" for name in MATRICES]
    first, _ = scope(results)
    assert re.match(r"Settings end -?\d\.\d\d to -?\d\.\d\d nats below the frequencies", first.text)
