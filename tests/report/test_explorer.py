"""The explorer shows the numbers that probes find, keeps within its bounds, and takes any study and model."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from test_page import Elements

from apps.composition.exhibits import exhibits as composition_exhibits
from apps.composition.heads import PATTERNS, ideal_maps, score_heads
from apps.composition.settings import CompositionConfig
from apps.gssm.settings import GssmConfig
from apps.memory.settings import MemoryConfig
from nanollama.cli.command import main as nanollama
from nanollama.config import load_config
from nanollama.data.batch import IGNORE, Batch, collate
from nanollama.model.influence import token_influence
from nanollama.model.probe import ablated_heads, edited_maps, recorded_maps
from nanollama.monitor.run_folder import TrainResult
from nanollama.report.attention.command import explore
from nanollama.report.attention.exhibits import (
    GENERIC,
    Exhibits,
    Shown,
    beginning,
    by_length,
    from_batch,
    induction,
    mixed,
    previous_token,
)
from nanollama.report.attention.extent import MAX_BYTES, choose_extent, n_bytes, spread
from nanollama.report.attention.looks import View, changes_of, ideal_map, views_of
from nanollama.report.attention.page import Vocabulary
from nanollama.training.trained import Trained, load_run
from tests.explorer_runs import EVIL, data_of, numbers_of, write_handmade_run, write_random_run

CONFIGS = Path(__file__).parents[2] / "apps"
ROUNDED = 0.5 / 255 + 1e-6
STEP = 2  # of the checkpoints, that of the model built by hand
VIEWS = [["attention", 0, 0], ["attention", 1, 0], ["model", None, None]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_handmade_run(tmp_path_factory.mktemp("explorer") / "run")
    result = TrainResult("finished", 100, 1.0, 1, {}, "")
    (folder / "result.json").write_text(json.dumps(asdict(result)))
    explore(folder)
    return folder


@pytest.fixture(scope="module")
def trained(run: Path) -> Trained[CompositionConfig]:
    return load_run(CompositionConfig, run)


def square(packed: np.ndarray, n_views: int, n_tokens: int) -> np.ndarray:
    """Maps (views, T, T) of their lower halves."""
    maps = np.zeros((n_views, n_tokens, n_tokens))
    rows, columns = np.tril_indices(n_tokens)
    maps[:, rows, columns] = packed.reshape(n_views, -1)
    return maps


@torch.no_grad()
def test_maps_are_those_of_the_probe(run: Path, trained: Trained[CompositionConfig]) -> None:
    data = data_of(run / "attention.html")
    assert data["views"] == VIEWS and len(data["sequences"]) == 6
    shown = composition_exhibits(trained.config).sequences
    for number, sequence in enumerate(data["sequences"]):
        tokens = torch.tensor(shown[number].tokens)
        assert len(sequence["tokens"]) == len(tokens)
        with recorded_maps(trained.model) as maps:
            trained.model(tokens[None])
        influence = token_influence(trained.model, tokens)
        expected = np.stack([maps[0][0, 0], maps[1][0, 0], influence])
        packed = numbers_of(data["checkpoints"][STEP]["maps"][number])
        assert np.abs(square(packed, 3, len(tokens)) - expected).max() <= ROUNDED


@torch.no_grad()
def test_scores_are_those_of_the_study(run: Path, trained: Trained[CompositionConfig]) -> None:
    data = data_of(run / "attention.html")
    names = [pattern["name"] for pattern in data["patterns"]]
    assert names == ["end of input", "iteration", "previous token", "induction", "beginning of row"]
    scores = np.array(data["checkpoints"][STEP]["scores"][:2])
    sums, count, copied = np.zeros((2, 2)), 0, []
    for _, tokens in by_length(composition_exhibits(trained.config).sequences):
        length = tokens.shape[1] // 2 - 1
        with recorded_maps(trained.model) as maps:
            trained.model(tokens)
        for layer, place in ((0, 0), (0, 1), (1, 0), (1, 1)):
            mean = score_heads(maps[layer], PATTERNS[place], length).mean
            sums[layer, place] += float(mean[0]) * length * len(tokens)
        count += length * len(tokens)
        copied += [
            float(sum(maps[1][row, 0, query, key] for key in keys))
            for row, read in enumerate(tokens.tolist())
            for query in range(len(read))
            if (keys := [key for key in range(1, query) if read[key - 1] == read[query]])
        ]
    assert scores[1, 3] == pytest.approx(sum(copied) / len(copied), abs=1e-4)
    assert scores[:, :2] == pytest.approx(sums / count, abs=1e-4)
    assert scores[0, 0] > 0.999 and scores[1, 1] > 0.999, "this is how it was built"
    assert data["checkpoints"][STEP]["scores"][2] == [None] * 5


@torch.no_grad()
def test_answers_are_those_of_the_model_and_of_changed_models(
    run: Path, trained: Trained[CompositionConfig]
) -> None:
    data, model = data_of(run / "attention.html"), trained.model
    assert data["changes"] == [[view, how] for view in (0, 1) for how in (None, 0, 1, 2, 3, 4)]
    shown = composition_exhibits(trained.config).sequences[0]
    tokens, places = torch.tensor([shown.tokens]), list(shown.answers)
    length = len(shown.tokens) // 2 - 1
    told = data["checkpoints"][STEP]["answers"]
    spell = composition_exhibits(trained.config).spell
    ids = {spell(token): token for token in range(64)}

    def compare(number: int, logits: torch.Tensor) -> None:
        likely = logits[0, places].softmax(-1)
        n_told = 1 if number else 3
        found = (numbers_of(told[number][0]) * 255).round().astype(int).reshape(len(places), -1)
        expected = likely.topk(n_told)
        told_ids = torch.tensor(
            [
                [ids[data["labels"][row[3 * at] + 256 * row[3 * at + 1]]] for at in range(n_told)]
                for row in found
            ]
        )
        assert torch.allclose(likely.gather(1, told_ids), expected.values, atol=1e-5), "but for ties"
        shares = torch.tensor(found[:, [*range(2, 3 * n_told, 3), -1]]) / 255
        of_right = likely[range(len(places)), list(shown.answers.values())]
        wanted = torch.cat([expected.values, of_right[:, None]], dim=1)
        assert torch.allclose(shares.float(), wanted, atol=ROUNDED)

    compare(0, model(tokens))
    for layer in (0, 1):
        with ablated_heads(model, [(layer, 0)]):
            compare(1 + 6 * layer, model(tokens))
        for place, pattern in enumerate(PATTERNS):
            edit = {layer: lambda maps, pattern=pattern: ideal_maps(maps, pattern, length)}
            with edited_maps(model, edit):
                compare(2 + 6 * layer + place, model(tokens))


def test_patterns_are_what_their_words_say() -> None:
    tokens = torch.tensor([7, 8, 9, 7, 7, 8])
    assert previous_token(tokens).nonzero().tolist() == [[1, 0], [2, 1], [3, 2], [4, 3], [5, 4]]
    assert beginning(tokens).nonzero().tolist() == [[n, 0] for n in range(1, 6)]
    assert induction(tokens).nonzero().tolist() == [[3, 1], [4, 1], [5, 2]]
    assert not any(pattern.mask(torch.tensor([5])).any() for pattern in GENERIC)
    maps = torch.full((1, 5, 5), 1 / 5)
    ideal = ideal_map(maps, torch.stack([induction(torch.tensor([7, 8, 7, 9, 7]))]))
    assert ideal[0, 4].tolist() == [0, 0.5, 0, 0.5, 0] and torch.equal(ideal[0, 0], maps[0, 0])


def test_rows_of_a_batch_are_shown_without_padding() -> None:
    rows = [np.array([1, 2, 3, 4]), np.array([5, 6])]
    masks = [np.array([False, False, True, True]), np.array([False, True])]
    shown = from_batch(collate(rows, masks))
    assert [(one.tokens, dict(one.answers)) for one in shown] == [((5,), {0: 6}), ((1, 2, 3), {1: 3, 2: 4})]
    packed = from_batch(collate(rows, masks, row_len=8))
    assert [(one.tokens, dict(one.answers)) for one in packed] == [((5,), {0: 6})]
    masked = Batch(
        torch.tensor([[1, 0, 3]]), torch.tensor([[2, IGNORE]]), torch.tensor([[1, 0]]), None, 1, 3, 1
    )
    (one,) = from_batch(Batch(**{**masked.__dict__, "sees_all": True}))
    assert one.tokens == (1, 0, 3) and one.answers == {1: 2}


def test_the_first_of_a_stream_are_short_and_long() -> None:
    rows = [Shown(str(n), (1,) * n, {}) for n in range(1, 201)]
    found = mixed(rows)
    assert len({one.tokens for one in found}) == len(found) <= 64
    assert [len(one.tokens) for one in found[:6]] == [1, 37, 73, 109, 145, 181]
    assert mixed(rows[:2]) == tuple(rows[:2]) and mixed([]) == ()


def test_of_many_tokens_the_last_have_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanollama.report.attention.page.MAX_LABELS", 2)
    vocabulary = Vocabulary(str)
    assert [vocabulary.number(token) for token in (7, 8, 7, 9, 8)] == [0, 1, 0, 2, 1]
    assert vocabulary.labels == ["7", "8", "(another)"]


def test_what_does_not_fit_is_left_out_and_said(trained: Trained[CompositionConfig]) -> None:
    model, views = trained.model, views_of(trained.model)

    def extent(n_tokens: int, n_steps: int, n_views: int = 1) -> tuple[list[int], str, float]:
        answers = dict.fromkeys(range(n_tokens), 1)
        sequences = (Shown("one", (1,) * n_tokens, answers),) * 20
        heads = [View("attention", 0, number) for number in range(n_views)]
        found = choose_extent(model, Exhibits(sequences, ""), range(n_steps), heads, GENERIC)
        size = n_bytes(found, heads, model)
        n_read = len(found.sequences[0].tokens)
        return (
            [n_read, len(found.sequences), len(found.steps), len(found.changes)],
            " ".join(found.left_out),
            size,
        )

    assert extent(18, 3)[:2] == (
        [18, 6, 3, 4],
        "Heads are scored on 20 sequences, of which the first 6 are shown.",
    )
    sizes, said, size = extent(500, 50, 60)
    assert sizes[0] < 500 and sizes[2] < 50 and sizes[3] == 60 and size <= MAX_BYTES
    for words in ("of 50 intact checkpoints", "Of sequences of up to 500 tokens", "Ideal maps"):
        assert words in said
    sizes, said, _ = extent(500, 50, 5000)
    assert sizes[1:] == [1, 1, 0] and "switched off would be too much" in said
    assert spread(range(10, 110, 10), 4) == (10, 40, 70, 100) and spread([5], 8) == (5,)
    assert len(changes_of(views, GENERIC)) == 2 * (1 + len(GENERIC))


def test_what_a_page_takes_is_known_beforehand(run: Path, trained: Trained[CompositionConfig]) -> None:
    exhibits, views = composition_exhibits(trained.config), views_of(trained.model)
    patterns = (*exhibits.patterns, *GENERIC)
    extent = choose_extent(trained.model, exhibits, [0, 50, 100], views, patterns)
    texts = [
        text
        for checkpoint in data_of(run / "attention.html")["checkpoints"]
        for packed in (checkpoint["maps"], *checkpoint["answers"])
        for text in packed
    ]
    without_padding = sum(len(text.rstrip("=")) for text in texts)
    assert abs(without_padding - n_bytes(extent, views, trained.model)) < len(texts)


def test_the_page_runs_one_script_and_loads_nothing(run: Path) -> None:
    text = (run / "attention.html").read_text(encoding="utf-8")
    elements = Elements(text)
    assert [one.get("type") for one in elements.all("script")] == ["application/json", None]
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in elements.elements}
    policy = next(one["content"] for one in elements.all("meta") if one.get("http-equiv"))
    script, style = (re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("script", "style"))
    hashes = [b64encode(sha256(one.encode()).digest()).decode() for one in (*script, *style)]
    assert policy is not None and policy.startswith(
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
    )
    assert len(hashes) == 2 and "unsafe" not in policy
    assert not any(word in script[0] for word in ("innerHTML", "fetch(", "eval(", "import ", "export "))
    assert not re.findall(r"https?://", text.replace("http://www.w3.org/2000/svg", ""))
    assert len(text) < 100_000 and "has not ended" not in text


def test_nothing_that_is_written_can_leave_its_block(tmp_path: Path) -> None:
    folder = write_handmade_run(tmp_path / "<script>window.owned = 1<")
    evil = Exhibits((Shown(EVIL, (1, 2), {1: 2}),), EVIL, lambda token: EVIL, (), {EVIL: EVIL})
    text = explore(folder, (), evil).read_text(encoding="utf-8")
    assert text.count("<script") == 2 and text.count("</script") == 2 and "<img" not in text
    assert "&lt;script&gt;window.owned = 1&lt;" in text
    assert data_of(folder / "attention.html")["labels"][0] == EVIL


def test_a_hybrid_of_gssm_has_maps_of_influence(tmp_path: Path) -> None:
    keys = ["model.implementation=[mamba2, transformer]", "data.seq_len=12", f"run_dir={tmp_path}"]
    write_random_run(load_config(GssmConfig, [str(CONFIGS / "gssm/config/debug.yaml"), *keys]))
    assert nanollama(["report", "attention", str(tmp_path), "training.device=cpu"]) == 0
    data = data_of(tmp_path / "attention.html")
    assert data["views"] == [
        ["mamba2", 0, None],
        *(["attention", 1, n] for n in (0, 1)),
        ["model", None, None],
    ]
    assert data["changes"][0] == [0, None] and data["checkpoints"][0]["scores"][0] == [None] * 3
    assert data["sequences"][0]["asked"] == list(range(12))
    text = (tmp_path / "attention.html").read_text()
    assert "Only one intact checkpoint was kept" in text
    assert "Its training has not ended: the newest is of step 2." in text


def test_dialogs_of_memory_are_asked_what_the_assistant_writes(tmp_path: Path) -> None:
    keys = ["model.n_layers=1", "recall.sets=[trained]", "recall.n_people=2", f"run_dir={tmp_path}"]
    write_random_run(load_config(MemoryConfig, [str(CONFIGS / "memory/config/debug.yaml"), *keys]))
    explore(tmp_path, ["training.device=cpu"])
    data = data_of(tmp_path / "attention.html")
    sequence = data["sequences"][0]
    said = "".join(data["labels"][token] for token in sequence["right"])
    assert sequence["title"].startswith("trained person: ") and said.endswith(".<end>")
    assert data["patterns"][0]["name"] == "beginning of turn"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "usage: nanollama report attention RUN"),
        (["nowhere"], "There is no run folder nowhere"),
        (["run", "size=3"], "size=3: expected "),
        (["run/checkpoints/step_00000100"], "step_00000100 is a checkpoint: expected the folder"),
    ],
)
def test_wrong_arguments_are_told(
    argv: list[str],
    said: str,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(run.parent)
    assert nanollama(["report", "attention", *argv]) == 2
    assert said in capsys.readouterr().err
