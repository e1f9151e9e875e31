"""Greedy decoding of many dialogs side by side, with a tool that answers while they are written.

The assistant's turn ends with a special token. ``<end>`` finishes the dialog. The token of the tool's role
hands over to the tool: the text of the turn is the request, the bytes of the reply and ``<assistant>`` are
given to the model, and it writes on. Any other special token is not the assistant's to write: it finishes the
dialog as malformed. A dialog that reaches its limit of tokens is finished as cut off.

What is written does not depend on how it is computed. The token that follows is that of `next_token`, which
reads a dialog alone and whole. Side by side and step by step, logits differ in their last bits, and so could
the choice between two tokens that are as good as equal: there, `next_token` is asked.

Shapes: B rows (dialogs side by side), T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from nanollama.dialogs.tools.protocol import Reply, Tool
from nanollama.model.protocol import LanguageModel
from nanollama.precision import no_autocast
from nanollama.tokenizer import DialogTokenizer

TIE = 2e-5
"""Logits that differ by less than so much of the largest of their row count as equal.

Rounding in float32 moves them by some 1e-6 of it, however a model is run."""

STATE_BYTES = 2**29
"""States of dialogs written side by side take no more memory: what does not fit is written afterwards."""

N_READ = 64
"""Prompts read in one forward pass: enough to keep a processor busy, few enough for its caches."""

LEAVING = 1 / 32
"""Share of rows that have to be finished before they make room."""

Ending = Literal["end", "malformed", "limit"]


@dataclass
class Completion:
    """A dialog that a model has written to its end.

    Args:
        ids: of the prompt and of all that followed.
        replies: what the tool said, in order.
        ending: the model ended it, wrote a token that was not its to write, or ran into the limit of tokens.
    """

    ids: list[int]
    replies: list[Reply] = field(default_factory=list)
    ending: Ending = "limit"


def generate(
    model: LanguageModel,
    tokenizer: DialogTokenizer,
    prompts: Sequence[Sequence[int]],
    tool: Tool | None = None,
    *,
    max_new_tokens: int,
    batch_size: int = 1024,
) -> list[Completion]:
    """What the model writes after each prompt, taking the most likely token each time.

    Args:
        model: run in float32, in evaluation mode; its mode is restored.
        tokenizer: names the special tokens.
        prompts: ids so far; the assistant holds the pen, at the beginning of its turn or within it.
        tool: answers all requests of a step in one batch; ``None``: handing over is malformed.
        max_new_tokens: longest continuation, replies counted; no more than the model can read.
        batch_size: dialogs side by side; fewer where they take more than `STATE_BYTES`.

    Raises:
        ValueError: a prompt is empty or leaves no room.
    """
    limits = [token_limit(model, prompt, max_new_tokens) for prompt in prompts]
    return continue_dialogs(model, tokenizer, prompts, tool, limits, batch_size=batch_size)


def generate_one(
    model: LanguageModel,
    tokenizer: DialogTokenizer,
    prompt: Sequence[int],
    tool: Tool | None = None,
    *,
    max_new_tokens: int,
) -> Completion:
    """What `generate` writes after one prompt, in the plainest way: without a state, a whole pass a token."""
    turns = _Turns(tokenizer, tool)
    limit = token_limit(model, prompt, max_new_tokens)
    ids = list(prompt)
    replies: list[Reply] = []
    with evaluating(model):
        while len(ids) < limit:
            token = next_token(model, ids)
            ids.append(token)
            if token == turns.end_id:
                return Completion(ids, replies, "end")
            if tool is not None and token == turns.tool_id:
                replies += tool.reply([turns.request(ids)])
                ids += turns.reply_ids(replies[-1])
            elif not turns.tokenizer.is_text(token):
                return Completion(ids, replies, "malformed")
    return Completion(ids[:limit], replies, "limit")


def continue_dialogs(
    model: LanguageModel,
    tokenizer: DialogTokenizer,
    prompts: Sequence[Sequence[int]],
    tool: Tool | None,
    limits: Sequence[int],
    *,
    batch_size: int,
) -> list[Completion]:
    """`generate`, with the number of tokens at which each dialog is cut off."""
    completions: dict[int, Completion] = {}
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    n_rows = min(batch_size, max(1, STATE_BYTES // model.state_bytes(max(limits, default=1))))
    with evaluating(model):
        for start in range(0, len(prompts), n_rows):
            chosen = by_length[start : start + n_rows]
            rows = _Rows(
                model,
                _Turns(tokenizer, tool),
                [Completion(list(prompts[index])) for index in chosen],
                [limits[index] for index in chosen],
            )
            completions.update(zip(chosen, rows.run(), strict=True))
    return [completions[index] for index in range(len(prompts))]


def token_limit(model: LanguageModel, prompt: Sequence[int], max_new_tokens: int) -> int:
    """The number of tokens at which a dialog is cut off.

    Raises:
        ValueError: the prompt is empty or leaves no room.
    """
    limit = min(len(prompt) + max_new_tokens, model.max_seq_len + 1)  # the last token is not read
    if not 0 < len(prompt) < limit:
        raise ValueError(f"A prompt of {len(prompt)} tokens leaves no room below the limit of {limit}.")
    return limit


@contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
    """Inference in float32: no dropout, no gradient, no autocast; the model's mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), no_autocast(model.device):
            yield
    finally:
        model.train(was_training)


def next_token(model: LanguageModel, ids: Sequence[int]) -> int:
    """The token that follows a dialog, read alone and whole: the arg max of its logits."""
    input_ids = torch.tensor([ids], device=model.device)
    last = torch.tensor([[len(ids) - 1]], device=input_ids.device)
    return int(model(input_ids, query_positions=last)[0, 0].argmax())


def most_likely(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The arg max of logits (..., V), shape (...), and whether another token is as good as equal to it."""
    largest, tokens = logits.topk(2, dim=-1)
    slack = TIE * torch.maximum(largest[..., 0], -logits.amin(dim=-1))  # of the largest magnitude
    return tokens[..., 0], largest[..., 0] - largest[..., 1] <= slack


class _Turns:
    """Who may write which token, and what a tool is given and gives."""

    def __init__(self, tokenizer: DialogTokenizer, tool: Tool | None) -> None:
        self.tokenizer = tokenizer
        self.tool = tool
        self.tool_id = None if tool is None else tokenizer.role_id(tool.role)
        self.end_id = tokenizer.end_id

    def request(self, ids: Sequence[int]) -> str:
        """The turn that a dialog's last token, the tool's, has ended."""
        return self.tokenizer.request(ids)

    def reply_ids(self, reply: Reply) -> list[int]:
        """What is given to the model for a reply; no reply can hold a special token."""
        return self.tokenizer.encode_reply(reply.text)


class _Rows:
    """Dialogs written side by side, each at its own position.

    A step reads one token a row, given or just written, and chooses the next one where none is given. Python
    looks at single rows only where something happens: a special token, a limit, a tie.

    Attributes:
        tokens: (B, longest limit + 1) what is known of each dialog.
        n_known: (B,) how many tokens these are.
        alive: (B,) rows that are still written. The state's lengths say how many tokens of a row were read.
    """

    def __init__(
        self, model: LanguageModel, turns: _Turns, completions: list[Completion], limits: Sequence[int]
    ) -> None:
        device = model.device
        n_rows = len(completions)
        self.model = model
        self.turns = turns
        self.completions = completions
        self.origin = list(range(n_rows))  # the completion that each row writes
        self.limits = torch.tensor(limits, device=device)
        self.tokens = torch.zeros(n_rows, max(limits) + 1, dtype=torch.int64, device=device)
        for row, completion in enumerate(completions):
            self.tokens[row, : len(completion.ids)] = torch.tensor(completion.ids)
        self.n_known = torch.tensor([len(completion.ids) for completion in completions], device=device)
        self.alive = torch.ones(n_rows, dtype=torch.bool, device=device)
        self.state = model.make_state(n_rows, max(limits))
        is_text = [turns.tokenizer.is_text(token) for token in range(model.vocab_size)]
        self.is_special = ~torch.tensor(is_text, device=device)

    def run(self) -> list[Completion]:
        """Write all dialogs to their ends."""
        logits = self._read_prompts()
        while True:
            eventful = self._choose(logits)
            if eventful.any():
                self._handle(eventful.nonzero().flatten().tolist())
                if not self.alive.any():
                    return self.completions
                self._compact()
            logits = self._read_next()

    def _read_prompts(self) -> Tensor:
        """Read all prompts, some at a time; logits (B, V) after each."""
        logits = []
        for start in range(0, len(self.tokens), N_READ):
            rows = slice(start, start + N_READ)
            n_known = self.n_known[rows]
            given = self.tokens[rows, : int(n_known.max())]
            last = n_known[:, None] - 1
            part = self.state.part(rows, n_known)  # no more than these count: the rest is padding
            logits.append(self.model(given, query_positions=last, state=part)[:, 0])
        self.state.advance(self.n_known, int(self.n_known.max()))
        return torch.cat(logits)

    def _read_next(self) -> Tensor:
        """Read one token of each row; logits (B, V) after it."""
        position = self.state.lengths[:, None]
        logits = self.model(self.tokens.gather(1, position), state=self.state)
        longest = int((self.state.lengths + self.alive).max())
        self.state.advance(self.alive.long(), longest)
        return logits[:, 0]

    def _choose(self, logits: Tensor) -> Tensor:
        """Write the next token where none is given; returns which rows (B,) something happened to."""
        position = self.state.lengths
        free = self.alive & (position == self.n_known)
        chosen, is_tie = most_likely(logits)
        for row in (free & is_tie).nonzero().flatten().tolist():
            ids = self.tokens[row, : int(self.n_known[row])].tolist()
            chosen[row] = next_token(self.model, ids)
        given = self.tokens.gather(1, position[:, None])
        self.tokens.scatter_(1, position[:, None], torch.where(free, chosen, given[:, 0])[:, None])
        self.n_known = self.n_known + free
        return free & (self.is_special[chosen] | (self.n_known >= self.limits))

    def _handle(self, rows: Sequence[int]) -> None:
        """Finish rows whose dialog is at its end; give the tool's replies to those that asked for them."""
        dialogs = {row: self.tokens[row, : int(self.n_known[row])].tolist() for row in rows}
        turns, tool = self.turns, self.turns.tool
        asking = [row for row in rows if tool is not None and dialogs[row][-1] == turns.tool_id]
        if tool is not None and asking:
            replies = tool.reply([turns.request(dialogs[row]) for row in asking])
            for row, reply in zip(asking, replies, strict=True):
                self.completions[self.origin[row]].replies.append(reply)
                dialogs[row] += turns.reply_ids(reply)
        for row, ids in dialogs.items():
            limit = int(self.limits[row])
            if ids[-1] == turns.end_id:
                self._finish(row, ids, "end")
            elif row not in asking and not turns.tokenizer.is_text(ids[-1]):
                self._finish(row, ids, "malformed")
            elif len(ids) >= limit:
                self._finish(row, ids[:limit], "limit")
            else:
                self.tokens[row, : len(ids)] = torch.tensor(ids)
                self.n_known[row] = len(ids)

    def _finish(self, row: int, ids: list[int], ending: Ending) -> None:
        completion = self.completions[self.origin[row]]
        completion.ids, completion.ending = ids, ending
        self.alive[row] = False
        self.state.lengths[row] = 0  # until it leaves it stays there, out of the way

    def _compact(self) -> None:
        """Let finished rows leave, once that saves more than it costs."""
        n_rows = len(self.alive)
        if n_rows - int(self.alive.sum()) < LEAVING * n_rows:
            return
        kept = self.state.keep(self.alive)
        self.tokens, self.n_known, self.limits = self.tokens[kept], self.n_known[kept], self.limits[kept]
        self.origin = [self.origin[row] for row in kept.tolist()]
        self.alive = self.alive[kept]
