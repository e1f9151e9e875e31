"""What the page of a chat shows is what the model and the tool said, number by number."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import torch
from spoken import endless, get, post, speaker

from nanollama.chat.conversation import MAX_KEPT, UNASKED, Busy, Conversation, note_of
from nanollama.chat.reading import Part, looked_at, parts_of, pieces_of
from nanollama.chat.server import ChatServer
from nanollama.dialogs.generate import Completion, generate
from nanollama.dialogs.tools import CalculatorConfig, CalculatorTool, Reply, Toolbox
from nanollama.model.probe import recorded_maps
from nanollama.tokenizer import Message
from tests.page_attacks import at_work
from tests.toy_dialogs import TOKENIZER, FactTool, toy_model, toy_prompts


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with at_work(ChatServer(speaker(), 0)) as server:
        yield server


@pytest.fixture(scope="module")
def dialog(server: ChatServer) -> dict[str, Any]:
    status, (found,) = post(server, "a")
    assert status == 200
    return found


def ids_of(server: ChatServer, letter: str) -> list[int]:
    who = server.conversation.speaker
    return generate(who.model, TOKENIZER, toy_prompts(letter), who.tool, max_new_tokens=48)[0].ids


def text_of(part: dict[str, Any]) -> str:
    return "".join(token["text"] for token in part["tokens"])


def test_question_request_reply_answer_and_truth(dialog: dict[str, Any]) -> None:
    assert [(part["who"], part["is_written"], text_of(part)) for part in dialog["parts"]] == [
        ("question", False, "<user>a<assistant>"),
        ("request", True, "?a<database>"),
        ("database", False, "red<assistant>"),
        ("answer", True, "a: red.<end>"),
    ]
    assert dialog["verdict"] == {"truth": "red", "about": "a letter", "is_right": True}
    assert dialog["note"] == ""


def test_probabilities_are_the_models(server: ChatServer, dialog: dict[str, Any]) -> None:
    ids = ids_of(server, "a")
    with torch.no_grad():
        expected = server.conversation.speaker.model(torch.tensor([ids]))[0].softmax(dim=-1)
    tokens = [token for part in dialog["parts"] for token in part["tokens"]]
    assert [token["at"] for token in tokens] == list(range(len(ids)))
    assert "p" not in tokens[0]
    for token, index, row in zip(tokens[1:], ids[1:], expected[:-1], strict=True):
        assert token["p"] == pytest.approx(float(row[index]), rel=1e-4, abs=1e-7)
        best = row.topk(5)
        assert [p for _, p in token["best"]] == pytest.approx(best.values.tolist(), rel=1e-4, abs=1e-7)
        assert [text for text, _ in token["best"]] == [TOKENIZER.decode([i]) for i in best.indices.tolist()]


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("place", [1, 4, 9])
def test_what_was_looked_at_is_the_models_map(
    server: ChatServer, dialog: dict[str, Any], layer: int, place: int
) -> None:
    status, found = get(server, f"api/look?dialog={dialog['number']}&place={place}&layer={layer}")
    model = server.conversation.speaker.model
    with torch.no_grad(), recorded_maps(model) as maps:
        model(torch.tensor([ids_of(server, "a")]))
    assert status == 200
    torch.testing.assert_close(
        torch.tensor(found["heads"]), maps[layer][0, :, place - 1, :place], atol=2e-6, rtol=1e-5
    )


def test_a_mixer_without_maps_is_told_of_in_words() -> None:
    model = toy_model(implementation=("mingru", "transformer"))
    with at_work(ChatServer(speaker(model), 0)) as server:
        (dialog,) = post(server, "a")[1]
        assert get(server, "api/about")[1]["layers"] == [
            {"mixer": "mingru", "n_heads": 0},
            {"mixer": "attention", "n_heads": 2},
        ]
        path = f"api/look?dialog={dialog['number']}&place=3"
        assert get(server, f"{path}&layer=0")[1]["why"].startswith(
            "Layer 0 is mingru: it has no attention maps"
        )
        assert len(get(server, f"{path}&layer=1")[1]["heads"]) == 2
        assert get(server, f"{path}&layer=2") == (400, "the question is wrong")


def test_the_tool_that_replied_is_named() -> None:
    box = Toolbox({"FIND": FactTool(), "CALC": CalculatorTool(CalculatorConfig(), "database")}, "database")
    turns = [Message("user", "?"), Message("assistant", "```\nCALC 2+3\n```"), Message("database", "5")]
    ids = [*TOKENIZER.encode_prompt(turns[:1]), *TOKENIZER.encode(turns[1].content)]
    n_prompt = len(TOKENIZER.encode_prompt(turns[:1]))
    ids += [TOKENIZER.special_ids["database"], *TOKENIZER.encode_reply("5"), *TOKENIZER.encode("5!")]
    completion = Completion(ids, [Reply("5", ok=True)])
    assert [part.who for part in parts_of(completion, n_prompt, TOKENIZER, box)] == [
        "question",
        "request",
        "calculator",
        "answer",
    ]
    assert box.who("```\nFIND a\n```") == box.who("hello") == "database"
    half = Completion([*ids[:n_prompt], *TOKENIZER.encode("```\nFIND"), TOKENIZER.end_id], ending="end")
    assert [part.who for part in parts_of(half, n_prompt, TOKENIZER, box)] == ["question", "request"]
    assert note_of("end", "request") == UNASKED and note_of("end", "answer") == ""
    cut = Completion(ids[: n_prompt + len(TOKENIZER.encode(turns[1].content)) + 2], [Reply("5", ok=True)])
    assert [part.stop for part in parts_of(cut, n_prompt, TOKENIZER, box)][-1] == len(cut.ids)


def test_a_character_of_several_bytes_is_one_piece_and_no_byte_is_lost() -> None:
    ids = [*TOKENIZER.encode("né🙂"), 0xFF, *TOKENIZER.encode("x"), TOKENIZER.end_id, 0xC3]
    pieces = list(pieces_of(ids, Part("answer", 0, len(ids), True), TOKENIZER))
    assert [(piece.text, piece.stop - piece.start) for piece in pieces] == [
        ("n", 1),
        ("é", 2),
        ("🙂", 4),
        ("\ufffdx", 2),
        ("<end>", 1),
        ("\ufffd", 1),
    ]


def test_several_questions_at_once_and_one_that_is_too_long(server: ChatServer) -> None:
    _, found = post(server, f"b {'c' * 70} d")
    assert [dialog["question"][0] for dialog in found] == ["b", "c", "d"]
    assert found[1]["note"] == "too long: the model reads 64 tokens at most" and found[1]["number"] is None
    assert found[2]["verdict"]["truth"] == "pink"
    assert post(server, "z")[1][0]["verdict"] is None


def test_a_model_that_never_ends_is_cut_off() -> None:
    with at_work(ChatServer(endless(), 0)) as server:
        (dialog,) = post(server, "a")[1]
    assert dialog["note"] == "cut off: the model did not come to an end"
    assert text_of(dialog["parts"][-1]) == "x" * 48


def test_a_model_that_has_lost_its_numbers_still_answers() -> None:
    model = toy_model()
    with torch.no_grad():
        model.get_parameter("head.weight").fill_(torch.nan)
    with at_work(ChatServer(speaker(model), 0)) as server:
        status, (dialog,) = post(server, "a")
    assert status == 200
    assert dialog["parts"][-1]["tokens"][0]["p"] is None


def test_one_question_at_a_time_and_the_others_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanollama.chat.conversation.SECONDS_TO_WAIT", 1000)

    class Waiting(FactTool):
        def reply(self, requests: Any) -> list[Reply]:
            statuses.append(post(server, "b")[0])
            return super().reply(requests)

    statuses: list[int] = []
    with at_work(ChatServer(speaker(tool=Waiting()), 0)) as server:
        assert post(server, "a")[0] == 200
        assert statuses == [503]
        assert post(server, "b")[0] == 200


def test_who_looks_waits_for_the_model_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanollama.chat.conversation.SECONDS_TO_WAIT", 0.01)
    conversation = Conversation(speaker())
    number = conversation.ask("a")[0]["number"]
    with conversation._model, pytest.raises(Busy):
        conversation.look(number, 1, 0)
    assert "heads" in conversation.look(number, 1, 0)


def test_old_dialogs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanollama.chat.conversation.MAX_KEPT", 2)
    conversation = Conversation(endless())
    first, *_, last = [conversation.ask("a")[0]["number"] for _ in range(3)]
    assert MAX_KEPT > 2 and "heads" in conversation.look(last, 1, 0)
    with pytest.raises(KeyError):
        conversation.look(first, 1, 0)


def test_looking_leaves_the_model_as_it_was() -> None:
    model = toy_model(20)
    threads = [Thread(target=looked_at, args=(model, ids, 1)) for ids in toy_prompts("ab")]
    before = [model.layers[1].mixer.kernel]  # type: ignore[attr-defined]
    for thread in threads:
        thread.start()
        thread.join()
    assert [model.layers[1].mixer.kernel] == before and not model.training  # type: ignore[attr-defined]
