"""What examinations from outside ask of a model: how likely a text is after another, and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nanollama.data.text.tokens import end_id
from nanollama.dialogs.generate import evaluating
from nanollama.errors import UserError
from nanollama.exchange.tokenizers import as_tokenizers, end_token
from nanollama.model.protocol import LanguageModel


@dataclass(frozen=True)
class Scorer:
    """A model and what encodes text for it.

    Args:
        model: causal.
        tokenizer: a `tokenizers.Tokenizer`; the names of its special tokens in a text are those tokens.
        end: the token that ends a document or a dialog.
        batch_size: texts that are read at once.
    """

    model: LanguageModel
    tokenizer: Any
    end: int
    batch_size: int

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with nothing added."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def log_likelihoods(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """Of each continuation after its context: log-probability in nats, and is each token the likeliest?

        Of contexts that are too long, the end is read.

        Raises:
            UserError: a continuation is longer than what the model reads.
        """
        found: list[tuple[float, bool]] = []
        with evaluating(self.model):
            for start in range(0, len(pairs), self.batch_size):
                found += self._score(pairs[start : start + self.batch_size])
        return found

    def _score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        longest, device = self.model.max_seq_len, self.model.device
        read, asked = [], []
        for context, continuation in pairs:
            if len(continuation) > longest:
                raise UserError(
                    f"A continuation of {len(continuation)} tokens is longer than the {longest} that the "
                    "model reads: leave the task out."
                )
            ids = [*context, *continuation][-longest - 1 :]
            read.append(torch.tensor(ids[:-1]))
            asked.append(torch.arange(len(ids) - 1 - len(continuation), len(ids) - 1))
        # Behind the end of a text stands padding, which a causal model does not see.
        inputs = torch.nn.utils.rnn.pad_sequence(read, batch_first=True).to(device)
        queries = torch.nn.utils.rnn.pad_sequence(asked, batch_first=True).to(device)
        scores = self.model(inputs, query_positions=queries).log_softmax(-1).cpu()
        found = []
        for row, (_, continuation) in zip(scores, pairs, strict=True):
            targets, row = torch.tensor(continuation, dtype=torch.long), row[: len(continuation)]
            total = row.gather(1, targets[:, None]).double().sum()
            found.append((float(total), bool((row.argmax(-1) == targets).all())))
        return found

    def write(self, text: str, until: Sequence[str], n_tokens: int) -> str:
        """What the model writes after a text, taking the likeliest token each time.

        Where the model reads too few tokens for both, what is written is shortened, to no less than half of
        them; of a text that does not fit beside that, the end is read.

        Args:
            text: what it reads.
            until: texts that end it and are cut off; so does the token that ends a document.
            n_tokens: most tokens to write.
        """
        longest = self.model.max_seq_len
        room = max(1, min(n_tokens, longest // 2))
        new = (self.encode(text) or [self.end])[room - longest :]
        n_tokens = max(1, min(n_tokens, longest - len(new)))
        written: list[int] = []
        with evaluating(self.model):
            state = self.model.make_state(1, len(new) + n_tokens)
            while len(written) < n_tokens:
                logits = self.model(torch.tensor([new], device=self.model.device), state=state)[0, -1]
                state.advance(torch.tensor([len(new)], device=self.model.device), state.longest + len(new))
                new = [int(logits.argmax())]
                if new == [self.end]:
                    break
                written += new
                told = self.tokenizer.decode(written, skip_special_tokens=False)
                stops = [told.find(stop) for stop in until if stop and stop in told]
                if stops:
                    return str(told[: min(stops)])
        return str(self.tokenizer.decode(written, skip_special_tokens=False))


def build_scorer(model: LanguageModel, tokenizer: Any, where: str, batch_size: int) -> Scorer:
    """What asks a model of a run.

    Raises:
        UserError: its tokens are numbers, none of them ends a document, or it is not causal.
    """
    if tokenizer is None:
        raise UserError(f"{where} has no tokenizer, for its tokens are numbers: it cannot be asked in text.")
    if not getattr(getattr(model, "config", None), "causal", True):
        raise UserError(f"{where} is not causal, so it tells nothing of what follows a text.")
    there = as_tokenizers(tokenizer)
    end = end_token(tokenizer)
    return Scorer(model, there, end_id(there) if end is None else there.token_to_id(end), batch_size)
