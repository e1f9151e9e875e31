"""Dialogs as a pretrained model's own chat template lays them out.

The template is asked once, for a question and an answer, and gives three pieces: what comes before a
question, what stands between a question and its answer, and the token that ends an answer. A dialog is::

    <before>What is 12*3?<between>12*3 is 36.<end>

and, when the assistant calls a tool, it hands over by the token of the tool's role, for templates disagree on
tools; what follows the reply is what follows a question::

    <before>What is 12*3?<between>CALC 12*3<calculator>36<between>12*3 is 36.<end>
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nanollama.errors import UserError
from nanollama.pretrained_tokenizer import PretrainedTokenizer
from nanollama.tokenizer import END, EncodedDialog, Message

USER = "user"
QUESTION, ANSWER = "QUESTION", "ANSWER"
CLOCK = "strftime_now"
"""What transformers gives templates to ask for the date, as those of Llama 3.2 do."""
NOON = {
    "%d": "26",
    "%-d": "26",
    "%m": "07",
    "%-m": "7",
    "%b": "Jul",
    "%B": "July",
    "%y": "24",
    "%Y": "2024",
    "%a": "Fri",
    "%A": "Friday",
    "%H": "12",
    "%I": "12",
    "%M": "00",
    "%S": "00",
    "%p": "PM",
}
"""The date that they are told, which theirs take themselves where there is no clock."""


class ChatTokenizer(PretrainedTokenizer):
    """Cuts texts as a pretrained model does, and lays dialogs out as its chat template does.

    Args:
        path: folder of a model, or its name on the hub.
        role_tokens: who may speak; the special tokens of tools are those that hand over to them.

    Raises:
        UserError: there is no template, or none that these dialogs fit.
    """

    def __init__(self, path: str, role_tokens: Mapping[str, str]) -> None:
        super().__init__(path, role_tokens)
        before, between, after = self._pieces(path)
        self.before, self.between = (self._ids(piece) for piece in (before, between))
        ends = self._ids(after)[:1]
        if not ends or self.is_text(ends[0]) or all(map(self.is_text, self.between)):
            raise UserError(
                f"data.format: the chat template of {path} ends questions and answers with no special token, "
                "so texts could end them: expected such as <|im_end|>; take data.format = dialog."
            )
        self.end_id = self.special_ids[END] = ends[0]

    def _pieces(self, path: str) -> tuple[str, str, str]:
        """What the template puts before a question, between it and its answer, and after that."""
        asked = [{"role": USER, "content": QUESTION}]
        told = [*asked, {"role": self.assistant, "content": ANSWER}]
        try:
            template = _without_clock(self.package.get_chat_template())
            prompt, whole = (
                self.package.apply_chat_template(
                    messages, chat_template=template, tokenize=False, add_generation_prompt=messages is asked
                )
                for messages in (asked, told)
            )
        except Exception as error:  # of the template's own, and of what reads it
            said = " ".join(str(error).split())[:160]
            raise UserError(
                f"data.format: the tokenizer of {path} has no chat template for a question and its answer "
                f"({said}): expected one in its tokenizer_config.json; take data.format = dialog."
            ) from error
        before, _, rest = whole.partition(QUESTION)
        between, _, after = rest.partition(ANSWER)
        if prompt != f"{before}{QUESTION}{between}":
            raise UserError(
                f"data.format: the chat template of {path} gives a model another text to answer than whole "
                "dialogs show it, as those of models that think first: take data.format = dialog."
            )
        return before, between, after

    def _ids(self, piece: str) -> list[int]:
        """Ids of a piece of the template, in which special tokens are meant."""
        return list(self.package.encode(piece, add_special_tokens=False))

    def encode_dialog(self, messages: Sequence[Message]) -> EncodedDialog:
        """See `DialogTokenizer.encode_dialog`."""
        ids, mask = [*self.before], [False] * len(self.before)
        followers = [message.role for message in messages[1:]]
        for message, follower in zip(messages, [*followers, END], strict=True):
            self.role_id(message.role)  # which its turns do not show, but has to be known
            content = self.encode(message.content)
            speaks = message.role == self.assistant
            if speaks:
                ids += self.between
                mask += [False] * len(self.between)
                content.append(self.end_id if follower == END else self.role_id(follower))
            ids += content
            mask += [speaks] * len(content)
        if not mask[-1]:
            ids.append(self.end_id)
            mask.append(False)
        return EncodedDialog(np.array(ids, dtype=np.int64), np.array(mask, dtype=bool))

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """See `DialogTokenizer.encode_prompt`."""
        if messages and messages[-1].role == self.assistant:
            raise ValueError("The assistant has the word already: expected a turn of somebody else last.")
        return [*self.encode_dialog(messages).ids[:-1].tolist(), *self.between]

    def encode_reply(self, text: str) -> list[int]:
        """See `DialogTokenizer.encode_reply`."""
        return [*self.encode(text), *self.between]

    def request(self, ids: Sequence[int]) -> str:
        """See `DialogTokenizer.request`."""
        return self.decode_dialog(ids)[-2].content

    def decode_dialog(self, ids: Sequence[int]) -> list[Message]:
        """See `DialogTokenizer.decode_dialog`."""
        ids, n_before, n_between = list(ids), len(self.before), len(self.between)
        if ids[:n_before] == self.before:
            ids = ids[n_before:]
        tools = {self.special_ids[role]: role for role in self.roles if role not in (USER, self.assistant)}
        messages, role, start, at = [], USER, 0, 0
        while at < len(ids):
            follower, n_read = None, 0
            if role != self.assistant and ids[at : at + n_between] == self.between:
                follower, n_read = self.assistant, n_between
            elif role == self.assistant and ids[at] in tools:
                follower, n_read = tools[ids[at]], 1
            if follower is None and ids[at] == self.end_id:
                break
            if follower is None:
                at += 1
                continue
            messages.append(Message(role, self.decode(ids[start:at])))
            role, start, at = follower, at + n_read, at + n_read
        return [*messages, Message(role, self.decode(ids[start:at]))]


def _without_clock(template: str) -> str:
    """The template with one date for all days: a run goes on, and is asked, as it was begun.

    Newer versions of transformers pass no functions on to templates, so the date is a macro.
    """
    if CLOCK not in template:
        return template
    replaced = "".join(f"|replace('{code}', '{value}')" for code, value in NOON.items())
    return f"{{% macro {CLOCK}(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}\n{template}"
