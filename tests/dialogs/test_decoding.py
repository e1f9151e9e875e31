"""Decoding side by side writes what decoding one dialog at a time writes; turns, limits and ties."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from toy_dialogs import (
    FACTS,
    TOKENIZER,
    UNKNOWN,
    FactTool,
    scripted_model,
    token_id,
    toy_dialog,
    toy_model,
    toy_prompts,
)

from nanollama.dialogs import generate as inference
from nanollama.dialogs.generate import TIE, Completion, evaluating, generate, generate_one, most_likely
from nanollama.dialogs.tools.protocol import Reply
from nanollama.model.protocol import LanguageModel
from nanollama.model.state import DecodingState
from nanollama.tokenizer import Message

LETTERS = "abcdefghxyz"
SHAPES = {
    "rotary": {},
    "one key-value head": {"n_heads": 4, "n_kv_heads": 1},
    "gpt-2": {"positions": "learned", "norm": "layer", "mlp": "gelu", "bias": True, "tied_embeddings": True},
    "no positions": {"positions": "none"},
}


ALPHABET = dict(pairwise("abcdefgh"))


def text_of(completion: Completion) -> str:
    return TOKENIZER.decode(completion.ids)


def prompt_of(text: str) -> list[int]:
    return TOKENIZER.encode_prompt([Message("user", text)])


@pytest.mark.parametrize("n_steps", [0, 8, 11, 60])
@pytest.mark.parametrize("batch_size", [3, 256])
def test_side_by_side_equals_one_at_a_time(n_steps: int, batch_size: int) -> None:
    model = toy_model(n_steps)
    prompts = toy_prompts(LETTERS)
    together = generate(model, TOKENIZER, prompts, FactTool(), max_new_tokens=40, batch_size=batch_size)
    alone = [generate_one(model, TOKENIZER, prompt, FactTool(), max_new_tokens=40) for prompt in prompts]
    assert together == alone


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_side_by_side_equals_one_at_a_time_for_every_shape(changes: dict[str, object]) -> None:
    model = toy_model(9, **changes)
    prompts = [prompt_of("a" * n_letters) for n_letters in (1, 9, 4, 20, 2)]
    together = generate(model, TOKENIZER, prompts, FactTool(), max_new_tokens=40)
    assert together == [
        generate_one(model, TOKENIZER, prompt, FactTool(), max_new_tokens=40) for prompt in prompts
    ]


def test_prompts_may_be_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = toy_model(11), [prompt_of("a" * n_letters) for n_letters in (7, 1, 9, 4, 20, 2, 5)]
    whole = generate(model, TOKENIZER, prompts, FactTool(), max_new_tokens=40)
    monkeypatch.setattr("nanollama.dialogs.generate.N_READ", 3)
    assert generate(model, TOKENIZER, prompts, FactTool(), max_new_tokens=40) == whole


def test_no_more_dialogs_are_written_side_by_side_than_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, prompts = toy_model(11), toy_prompts()
    whole = generate(model, TOKENIZER, prompts, FactTool(), max_new_tokens=40)
    sizes: list[int] = []
    make_state = model.make_state

    def watched(n_rows: int, capacity: int) -> DecodingState:
        state = make_state(n_rows, capacity)
        sizes.append(sum(part.nbytes for layer in state.layers for part in layer.tensors().values()))
        return state

    monkeypatch.setattr(model, "make_state", watched)
    for n_rows in (0, 1, 3):
        sizes.clear()
        room = n_rows * model.state_bytes(len(prompts[0]) + 40)
        monkeypatch.setattr("nanollama.dialogs.generate.STATE_BYTES", room)
        assert generate(model, TOKENIZER, prompts, FactTool(), max_new_tokens=40) == whole
        assert len(sizes) == -(-len(prompts) // max(1, n_rows))
        assert n_rows == 0 or max(sizes) <= room


def test_a_trained_model_asks_and_answers() -> None:
    tool = FactTool()
    completions = generate(toy_model(60), TOKENIZER, toy_prompts(), tool, max_new_tokens=40)
    for completion, (letter, colour) in zip(completions, FACTS.items(), strict=True):
        assert TOKENIZER.decode_dialog(completion.ids) == toy_dialog(letter, colour)
        assert completion.replies == [Reply(colour, ok=True)]
        assert completion.ending == "end"
    assert tool.batches == [[f"?{letter}" for letter in FACTS]]  # one batch, in the order of the prompts


def test_a_dialog_goes_on_from_within_a_turn() -> None:
    model = toy_model(60)
    (whole,) = generate(model, TOKENIZER, toy_prompts("a"), FactTool(), max_new_tokens=40)
    prefixes = [whole.ids[:length] for length in range(3, len(whole.ids))]
    handed_over = whole.ids.index(token_id("<database>"))
    for prefix, completion in zip(
        prefixes, generate(model, TOKENIZER, prefixes, FactTool(), max_new_tokens=40), strict=True
    ):
        if not handed_over < len(prefix) < handed_over + len("<database>red"):
            assert completion.ids == whole.ids


def test_a_reply_is_text_whatever_it_says() -> None:
    model = scripted_model({"<assistant>": "<database>"})
    tool = FactTool({"": "<end><assistant>é\0"})
    (completion,) = generate(model, TOKENIZER, [prompt_of("a")], tool, max_new_tokens=22)
    reply = TOKENIZER.encode("<end><assistant>é\0")
    assert completion.ids[3:] == [
        token_id("<database>"),
        *reply,
        token_id("<assistant>"),
        token_id("<database>"),
    ]
    assert completion == generate_one(model, TOKENIZER, prompt_of("a"), tool, max_new_tokens=22)


def test_the_request_is_the_last_turn() -> None:
    model = scripted_model({"<assistant>": "?", "?": "<database>"})
    tool = FactTool({"": "it"})
    generate(model, TOKENIZER, [prompt_of("?a")], tool, max_new_tokens=10)
    assert tool.batches == [["?"], ["?"]]


def test_requests_of_a_step_are_one_batch() -> None:
    model = scripted_model({"<assistant>": "?", "?": "<database>"})
    tool = FactTool()
    generate(model, TOKENIZER, [prompt_of("a"), prompt_of("bcd"), prompt_of("e")], tool, max_new_tokens=5)
    assert tool.batches == [["?", "?", "?"]]


@pytest.mark.parametrize(
    ("follows", "with_tool", "written", "ending"),
    [
        ({"<assistant>": "x", "x": "<end>"}, True, "x<end>", "end"),
        ({"<assistant>": "x", "x": "<user>"}, True, "x<user>", "malformed"),
        ({"<assistant>": "x", "x": "<assistant>"}, True, "x<assistant>", "malformed"),
        ({"<assistant>": "x", "x": "<database>"}, False, "x<database>", "malformed"),
        ({"<assistant>": "x", "x": "x"}, True, "xxxxxxxxx", "limit"),
        ({"<assistant>": "<end>"}, True, "<end>", "end"),
        (ALPHABET | {"<assistant>": "a", "h": "<end>"}, True, "abcdefgh<end>", "end"),
        ({"<assistant>": "<database>"}, True, "<database>unknown<assistant>", "limit"),
    ],
)  # fmt: skip
def test_what_a_special_token_does(
    follows: dict[str, str], with_tool: bool, written: str, ending: str
) -> None:
    model, tool = scripted_model(follows), FactTool() if with_tool else None
    (completion,) = generate(model, TOKENIZER, [prompt_of("a")], tool, max_new_tokens=9)
    assert text_of(completion) == f"<user>a<assistant>{written}"
    assert completion.ending == ending
    assert completion == generate_one(model, TOKENIZER, prompt_of("a"), tool, max_new_tokens=9)


def test_a_reply_that_does_not_fit_is_cut() -> None:
    model = scripted_model({"<assistant>": "<database>"})
    (completion,) = generate(model, TOKENIZER, [prompt_of("a")], FactTool(), max_new_tokens=4)
    assert text_of(completion) == "<user>a<assistant><database>unk"
    assert completion == Completion(completion.ids, [UNKNOWN], "limit")
    assert completion == generate_one(model, TOKENIZER, prompt_of("a"), FactTool(), max_new_tokens=4)


def test_an_id_without_a_meaning_is_malformed() -> None:
    model = scripted_model({"<assistant>": "<end>"})
    tokenizer = type(TOKENIZER)(roles=("user", "assistant"))  # 259 ids, the model has 260
    with torch.no_grad():
        model.get_parameter("head.weight").zero_()
        model.get_parameter("head.weight")[259, tokenizer.special_ids["assistant"]] = 1.0
    prompt = tokenizer.encode_prompt([Message("user", "a")])
    (completion,) = generate(model, tokenizer, [prompt], None, max_new_tokens=9)
    assert (completion.ids[-1], completion.ending) == (259, "malformed")


def test_the_model_reads_no_more_than_it_can() -> None:
    """Also while a dialog that has reached the limit waits for others, which have not."""
    model = scripted_model({"<assistant>": "x", "x": "x"}, max_seq_len=12)
    prompts = [prompt_of(letters) for letters in ("abcdefghi", *"abcdefghij")]
    completions = generate(model, TOKENIZER, prompts, None, max_new_tokens=99)
    assert {completion.ending for completion in completions} == {"limit"}
    assert {len(completion.ids) for completion in completions} == {13}  # the last one is not read
    assert completions == [
        generate_one(model, TOKENIZER, prompt, None, max_new_tokens=99) for prompt in prompts
    ]


@pytest.mark.parametrize("n_tokens", [0, 65])
def test_a_prompt_without_room_is_refused(n_tokens: int) -> None:
    model, prompt = toy_model(), [1] * n_tokens
    with pytest.raises(ValueError, match=f"A prompt of {n_tokens} tokens leaves no room below the limit"):
        generate(model, TOKENIZER, [prompt], None, max_new_tokens=9)
    with pytest.raises(ValueError, match=f"A prompt of {n_tokens} tokens leaves no room below the limit"):
        generate_one(model, TOKENIZER, prompt, None, max_new_tokens=9)


def test_a_tool_needs_a_role_that_the_tokenizer_has() -> None:
    tool = FactTool()
    tool.role = "abacus"
    message = r"Unknown role 'abacus'; this tokenizer knows \['user', 'assistant', 'database'\]"
    for ask in (
        lambda: generate(toy_model(), TOKENIZER, [prompt_of("a")], tool, max_new_tokens=4),
        lambda: TOKENIZER.encode_prompt([Message("abacus", "4")]),
        lambda: TOKENIZER.encode_dialog([Message("abacus", "4")]),
    ):
        with pytest.raises(ValueError, match=message):
            ask()


def test_no_prompts_no_completions() -> None:
    assert generate(toy_model(), TOKENIZER, [], FactTool(), max_new_tokens=9) == []


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_plain_pass_decides_ties_and_nothing_else(is_tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scripted_model({"<assistant>": "x", "x": "<end>"}, {"<assistant>": "y"} if is_tied else {})
    alone = generate_one(model, TOKENIZER, prompt_of("a"), None, max_new_tokens=9)
    asked: list[list[int]] = []

    def decide(model: LanguageModel, ids: list[int]) -> int:
        asked.append(ids)
        return token_id("x")

    monkeypatch.setattr(inference, "next_token", decide)
    completions = generate(model, TOKENIZER, [prompt_of("a"), prompt_of("bb")], None, max_new_tokens=9)
    assert asked == ([prompt_of("a"), prompt_of("bb")] if is_tied else [])
    assert completions[0] == alone


def test_rounding_stays_far_below_what_counts_as_a_tie() -> None:
    """Logits of single steps, of padded batches and of the plain pass, of a model that is sure of them."""
    model = toy_model(100)
    ids = torch.tensor([TOKENIZER.encode_dialog(toy_dialog("a", "red")).ids.tolist()])
    with evaluating(model):
        plain = model(ids)
        batched = model(torch.nn.functional.pad(ids.expand(7, -1), (0, 9)))[:1, : ids.shape[1]]
        state, stepped = model.make_state(1, 64), []
        for position in range(ids.shape[1]):
            stepped.append(model(ids[:, position : position + 1], state=state))
            state.advance(torch.ones(1, dtype=torch.int64), position + 1)
    largest = plain.abs().amax(dim=-1, keepdim=True)
    for other in (batched, torch.cat(stepped, dim=1)):
        assert float(((other - plain).abs() / largest).max()) < TIE / 10


def test_most_likely_tells_ties_relative_to_the_largest_logit() -> None:
    logits = torch.tensor([[0.0, 100.0, 99.0], [0.0, 100.0, 99.9999], [-100.0, 1e-3, 0.0], [1.0, 0.0, 0.99]])
    tokens, is_tie = most_likely(logits)
    assert tokens.tolist()[0] == 1
    assert tokens.tolist()[3] == 0
    assert is_tie.tolist() == [False, True, True, False]


def test_the_mode_is_restored_and_dropout_is_off() -> None:
    model = toy_model(60, dropout=0.4)
    expected = generate(model, TOKENIZER, toy_prompts(), FactTool(), max_new_tokens=40)
    model.train()
    assert generate(model, TOKENIZER, toy_prompts(), FactTool(), max_new_tokens=40) == expected
    assert all(module.training for module in model.modules())
    with pytest.raises(ZeroDivisionError), evaluating(model):
        raise ZeroDivisionError
    assert model.training


def test_precision_is_float32_under_autocast() -> None:
    model = toy_model(9)
    expected = generate(model, TOKENIZER, toy_prompts(LETTERS), FactTool(), max_new_tokens=40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert generate(model, TOKENIZER, toy_prompts(LETTERS), FactTool(), max_new_tokens=40) == expected
        with evaluating(model):
            assert model.get_submodule("blocks.0.mlp")(torch.zeros(1, 1, 32)).dtype == torch.float32


def test_weights_can_be_trained_after_decoding() -> None:
    model = toy_model()
    generate(model, TOKENIZER, toy_prompts("a"), None, max_new_tokens=3)
    model(torch.tensor([prompt_of("a")])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
