"""Questions to a model, one at a time, and what its page may ask about the dialogs that came of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from nanollama.chat.reading import (
    QUESTION,
    REQUEST,
    Likelihood,
    Part,
    likelihood,
    looked_at,
    parts_of,
    tokens_json,
)
from nanollama.chat.speaker import Speaker
from nanollama.dialogs.generate import Completion, Ending, generate
from nanollama.errors import UserError
from nanollama.model.probe import attention_heads, mixer_names
from nanollama.tokenizer import Message

MAX_CHARS = 2_000
"""Of a question."""
MAX_KEPT = 200
"""Dialogs that can be looked into."""
SECONDS_TO_WAIT = 5.0
"""For the model, to look into a dialog."""
NOTES: dict[Ending, str] = {
    "limit": "cut off: the model did not come to an end",
    "malformed": "broken off: the model gave the word to somebody who cannot take it",
}
UNASKED = "not asked: the model ended the dialog in the middle of its request"


def note_of(ending: Ending, last: str) -> str:
    """What is to be said of a dialog that ended so, its last part being one of this kind; often nothing."""
    return NOTES.get(ending, UNASKED if last == REQUEST else "")


class Busy(Exception):
    """The model is at work on something else."""


class Conversation:
    """Asks a model. One question is answered at a time; others are refused meanwhile, not queued.

    Args:
        speaker: who is asked.
    """

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self._asking, self._model = Lock(), Lock()
        self._kept: OrderedDict[int, list[int]] = OrderedDict()
        self._n_dialogs = 0

    def about(self) -> dict[str, Any]:
        """What the page says before anything is asked."""
        heads = [layer for layer, _ in attention_heads(self.speaker.model)]
        return {
            "introduction": self.speaker.introduction,
            "examples": self.speaker.examples,
            "max_chars": MAX_CHARS,
            "layers": [
                {"mixer": name, "n_heads": heads.count(layer)}
                for layer, name in enumerate(mixer_names(self.speaker.model))
            ],
        }

    def ask(self, line: str) -> list[dict[str, Any]]:
        """The dialogs that come of a line, each question in one of its own.

        Raises:
            Busy: another question is being answered.
        """
        with _held(self._asking, 0), _held(self._model, SECONDS_TO_WAIT):
            speaker = self.speaker
            questions = list(speaker.questions_of(line))
            prompts = [speaker.tokenizer.encode_prompt([Message("user", text)]) for text in questions]
            longest = speaker.model.max_seq_len
            fits = [len(prompt) <= longest for prompt in prompts]
            written = iter(
                generate(
                    speaker.model,
                    speaker.tokenizer,
                    [prompt for prompt, is_short in zip(prompts, fits, strict=True) if is_short],
                    speaker.tool,
                    max_new_tokens=speaker.max_new_tokens,
                )
            )
            return [
                self._dialog(question, len(prompt), next(written))
                if is_short
                else _too_long(question, longest)
                for question, prompt, is_short in zip(questions, prompts, fits, strict=True)
            ]

    def look(self, dialog: int, place: int, layer: int) -> dict[str, Any]:
        """What the model looked at while it chose a token: a weight for each token before it, by head.

        Returns:
            ``heads`` (H, place), or ``why`` there is nothing to show, in a sentence.

        Raises:
            Busy: the model is at work.
            KeyError: there is no such dialog any more, or no such token in it.
        """
        ids = self._kept[dialog]
        if not 0 < place < len(ids):
            raise KeyError(place)
        try:
            with _held(self._model, SECONDS_TO_WAIT):
                weights = looked_at(self.speaker.model, ids[:place], layer)
        except UserError as error:
            return {"why": str(error)}
        return {"heads": [[round(weight, 6) for weight in head] for head in weights.tolist()]}

    def _dialog(self, question: str, n_prompt: int, completion: Completion) -> dict[str, Any]:
        speaker = self.speaker
        likely = likelihood(speaker.model, completion.ids)
        number, self._n_dialogs = self._n_dialogs, self._n_dialogs + 1
        self._kept[number] = completion.ids
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        verdict = speaker.judge(question, completion)
        parts = parts_of(completion, n_prompt, speaker.tokenizer, speaker.tool)
        return {
            "number": number,
            "question": question,
            "parts": self._parts(completion, parts, likely),
            "note": note_of(completion.ending, parts[-1].who),
            "verdict": None if verdict is None else verdict._asdict(),
        }

    def _parts(
        self, completion: Completion, parts: Sequence[Part], likely: Likelihood
    ) -> list[dict[str, Any]]:
        tokenizer = self.speaker.tokenizer
        return [
            {
                "who": part.who,
                "is_written": part.is_written,
                "tokens": tokens_json(completion.ids, part, likely, tokenizer),
            }
            for part in parts
        ]


def _too_long(question: str, longest: int) -> dict[str, Any]:
    part = {"who": QUESTION, "is_written": False, "tokens": [{"text": question, "at": 0}]}
    note = f"too long: the model reads {longest} tokens at most"
    return {"number": None, "question": question, "parts": [part], "note": note, "verdict": None}


@contextmanager
def _held(lock: Lock, seconds: float) -> Iterator[None]:
    if not lock.acquire(timeout=seconds):
        raise Busy
    try:
        yield
    finally:
        lock.release()
