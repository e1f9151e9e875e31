"""What a study says of a model that is talked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nanollama.dialogs.generate import Completion
from nanollama.dialogs.tools import Tool
from nanollama.model.protocol import LanguageModel
from nanollama.tokenizer import DialogTokenizer


class Verdict(NamedTuple):
    """What a study knows of a question.

    Args:
        truth: what is true.
        about: who or what is asked about, such as ``never seen``.
        is_right: did the model say it?
    """

    truth: str
    about: str
    is_right: bool


@dataclass(frozen=True)
class Speaker:
    """A trained model, with all that is needed to ask it.

    Args:
        introduction: a sentence on who it is.
        examples: of questions, each with a label, such as ``("learned about", "Where ...?")``.
        model: on its device.
        tokenizer: of its dialogs.
        tool: what it may ask; None: nothing.
        max_new_tokens: after which a dialog is cut off.
        questions_of: what a line asks, one question or several.
        judge: what is known of a question, given the dialog that came of it; None where that is nothing.
    """

    introduction: str
    examples: Sequence[tuple[str, str]]
    model: LanguageModel
    tokenizer: DialogTokenizer
    tool: Tool | None
    max_new_tokens: int
    questions_of: Callable[[str], Sequence[str]]
    judge: Callable[[str, Completion], Verdict | None]
