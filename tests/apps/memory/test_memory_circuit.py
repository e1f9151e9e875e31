import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.memory import circuit
from apps.memory.circuit import page as circuit_page
from apps.memory.circuit.weights import (
    CODE,
    GAP,
    MAX_SEQ_LEN,
    PERIODS,
    LayerWriter,
    build_circuit,
    circuit_shape,
    code,
)
from apps.memory.circuit.words import Words
from apps.memory.dataset.templates import Templates, default_templates
from apps.memory.sources import build_tokenizer
from apps.memory.strangers import database_of, make_strangers
from apps.memory.trained import load_trained
from nanollama.dialogs.generate import generate_one
from nanollama.errors import UserError
from nanollama.model import model_class
from nanollama.model.protocol import LanguageModel
from nanollama.tokenizer import Message


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return build_circuit(build_tokenizer(), Words())


def changed_templates(kind: str, attribute: str, **texts: str) -> Templates:
    tree = default_templates().model_dump()
    tree[kind][attribute].update(texts)
    return Templates.model_validate(tree)


def test_every_question_about_strangers_is_answered_to_the_letter(model: LanguageModel) -> None:
    answers = list(circuit.ask_about_strangers(model, n_people=10, n_questions=60, seed=1))
    assert len({(a.question.messages[0], a.question.answer) for a in answers}) == 60
    assert all(answer.is_right for answer in answers)
    assert all(answer.messages == answer.question.messages for answer in answers)


def test_the_plainest_decoding_says_the_same(model: LanguageModel) -> None:
    strangers = make_strangers(2, np.random.Generator(np.random.Philox(3)))
    assert strangers[1].name.startswith(strangers[0].name.split()[0])
    with database_of(strangers) as tool:
        for person in strangers:
            question = Message("user", f"What does {person.name} do for a living?")
            prompt = build_tokenizer().encode_prompt([question])
            completion = generate_one(model, build_tokenizer(), prompt, tool, max_new_tokens=250)
            last = build_tokenizer().decode_dialog(completion.ids)[-1]
            assert last == Message("assistant", f"{person.name} works as a {person.occupation}.")


def test_an_unknown_name_is_said_to_be_unknown(model: LanguageModel) -> None:
    with database_of(make_strangers(1, np.random.Generator(np.random.Philox(0)))) as tool:
        prompt = build_tokenizer().encode_prompt([Message("user", "Where does Nobody Here live?")])
        completion = generate_one(model, build_tokenizer(), prompt, tool, max_new_tokens=250)
    assert build_tokenizer().decode(completion.ids).endswith("Nobody Here lives in unknown name.<end>")


def test_codes_of_different_numbers_are_a_gap_apart() -> None:
    codes = torch.stack([code(number) for number in range(PERIODS[0])])
    products = codes @ codes[0]
    assert products[0] == len(PERIODS)
    assert products[1:].max() == pytest.approx(len(PERIODS) - GAP, abs=1e-6)


def test_a_layer_subtracts_any_two_positions() -> None:
    width = 3 * CODE + 1
    shape = circuit_shape(build_tokenizer(), Words()).model_copy(update={"d_model": width})
    blank = model_class(shape)(shape)
    units = torch.eye(width)
    with torch.no_grad():
        for parameter in blank.parameters():
            parameter.zero_()
        writer = LayerWriter(blank, 0, units[-1])
        writer.difference(units[:CODE], units[CODE : 2 * CODE], units[2 * CODE : 3 * CODE])
        pairs = list(itertools.product(range(0, MAX_SEQ_LEN, 7), range(0, MAX_SEQ_LEN, 11)))
        inputs = torch.stack([torch.cat([code(a), code(b), torch.zeros(CODE + 1)]) for a, b in pairs])
        found = blank.get_submodule("blocks.0.mlp")(inputs)[:, 2 * CODE : 3 * CODE]
    torch.testing.assert_close(found, torch.stack([code(a - b) for a, b in pairs]), atol=1e-6, rtol=0)


def test_norms_change_nothing_but_the_large_coordinate(model: LanguageModel) -> None:
    ids = torch.arange(256)
    x = model.get_parameter("embedding.weight")[ids].detach()
    x[:, :CODE] += model.get_parameter("position_embedding.weight")[ids].detach()
    normed = model.get_submodule("blocks.0.attention_norm")(x).detach()
    assert normed[..., CODE] == pytest.approx(1.0, abs=1e-6)
    others = [index for index in range(x.shape[1]) if index != CODE]
    torch.testing.assert_close(normed[..., others], x[..., others], atol=1e-6, rtol=0)


def test_other_words_make_another_circuit() -> None:
    templates = changed_templates(
        "qatool", "birth_date", question="Do tell: birthday of {name}", answer="So, {name}: {birth_date}."
    )
    words = Words(templates)
    assert words.answer("birth_date") == (b"So, ", b": ")
    assert words.request("birth_date").endswith(b"FIND birth_date FOR ")
    assert words.n_behind_name("birth_date") == 0


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"question": "Is {name} {name}?"}, "the name once"),
        ({"request": "I ask for {name}:"}, "the name once"),
        ({"question": "Where was {name} really born?"}, "no letter differs in all questions"),
    ],
)
def test_words_of_another_form_are_refused(texts: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Words(changed_templates("qatool", "birth_date", **texts))


def test_the_command_leaves_a_page_and_a_run_to_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    explanations = {(2, 1): circuit_page.EXPLANATIONS[2, 1]}  # each picture takes a second
    monkeypatch.setattr(circuit_page, "EXPLANATIONS", explanations)
    folder = tmp_path / "run"
    keys = [f"run_dir={folder}", f"data_root={tmp_path}", "n_people=[1, 3]", "n_questions=4"]
    assert circuit.main(["apps/memory/config/circuit.yaml", *keys]) == 0
    out = capsys.readouterr().out
    assert "4 of 4" in out and "All right, as expected: yes." in out
    rows = json.loads((folder / circuit.RESULT).read_text())["rows"]
    assert [row["n_people"] for row in rows] == [1, 3]
    assert len({row["n_params"] for row in rows}) == 1
    page = (folder / "circuit.html").read_text()
    assert "Layer 2, head 1: the value." in page and "the full stop" in page
    assert circuit.main(["apps/memory/config/circuit.yaml", *keys]) == 0  # again, in the same folder
    assert circuit.main(["apps/memory/config/circuit.yaml", *keys, "name=other"]) == 2
    assert "belongs to another config" in capsys.readouterr().err
    trained = load_trained(folder)
    assert trained.step == 0 and trained.model.n_params() == rows[0]["n_params"]


def test_a_wrong_answer_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("apps.memory.circuit.weights.NAME", 0.0)
    monkeypatch.setattr(circuit, "write_circuit_page", lambda *_: tmp_path)
    keys = [f"run_dir={tmp_path}", "n_people=[2]", "n_questions=3"]
    assert circuit.main(["apps/memory/config/circuit.yaml", *keys]) == 1
    assert "no, 3 questions were not" in capsys.readouterr().out
