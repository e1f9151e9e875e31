"""Runs as models of lm-eval: ``nanollama lm-eval --model nanollama --model_args run=RUN --tasks TASK``.

lm-eval has no plug-ins, so its own command does not know of us; the command above is its command, with all
its arguments. In Python, `register` makes the name known.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanollama.errors import EXIT_OK, MissingExtraError, UserError
from nanollama.exchange.runs import open_trained
from nanollama.exchange.scoring import Scorer, build_scorer
from nanollama.tokenizer import ByteTokenizer, Message

NAME = "nanollama"
N_TOKENS = 256
"""To write at most, where a task does not say."""


def main(argv: Sequence[str]) -> int:
    """The command of lm-eval, which knows runs; its exit code.

    Raises:
        MissingExtraError: lm-eval is not installed.
    """
    register()
    command = importlib.import_module("lm_eval.__main__").cli_evaluate
    before = sys.argv
    sys.argv = ["lm_eval", *argv]
    try:
        command()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else EXIT_OK if error.code is None else 1
    finally:
        sys.argv = before
    return EXIT_OK


def register() -> type:
    """Make runs known to lm-eval under the name ``nanollama``; the class of such models.

    Raises:
        MissingExtraError: lm-eval is not installed.
    """
    try:
        registry = importlib.import_module("lm_eval.api.registry")
        importlib.import_module("lm_eval.models")
    except ImportError as error:
        raise MissingExtraError("lm_eval", "eval") from error
    if NAME not in registry.MODEL_REGISTRY:
        template = importlib.import_module("lm_eval.api.model").TemplateLM
        registry.register_model(NAME)(type("RunModel", (_RunModel, template), {}))
    found: type = registry.get_model(NAME)
    return found


class _RunModel:
    """A run, as a model of lm-eval; derived, where that is imported, from its class as well.

    Args:
        run: its folder, or that of one of its checkpoints.
        batch_size: texts that are read at once; what is no number, such as ``auto``, is 16.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        max_batch_size: not asked for; lm-eval gives it to all models.
    """

    cache_hook: Any
    # Abstract there, and known when a run is read.
    eot_token_id, prefix_token_id, max_length, tokenizer_name = 0, 0, 0, ""

    def __init__(
        self, run: str, batch_size: int | str = 1, device: str | None = None, max_batch_size: Any = None
    ) -> None:
        super().__init__()
        size = int(batch_size) if str(batch_size).isdecimal() else 16
        trained, self._turns = open_trained(Path(str(run)), device or "auto")
        self.scorer = build_scorer(trained.model, self._turns, str(run), max(1, size))
        self._device = trained.model.device
        self.tokenizer_name = f"{run}@{trained.step}"
        self.eot_token_id = self.prefix_token_id = self.scorer.end
        self.max_length = trained.model.max_seq_len

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self.scorer.encode(string)

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
        found = self.scorer.log_likelihoods([(context, rest) for _, context, rest in requests])
        for (key, _, _), one in zip(requests, found, strict=True):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, one)
        return found

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        return [_rolling(self.scorer, request.args[0]) for request in requests]

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        return [_generated(self.scorer, *request.args) for request in requests]

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        return _laid_out(self._turns, chat_history, add_generation_prompt)


def _rolling(scorer: Scorer, text: str) -> float:
    """Log-probability of a whole text, each token after as much as the model reads."""
    utils: Any = importlib.import_module("lm_eval.utils")
    ids, longest = scorer.encode(text), scorer.model.max_seq_len
    windows = utils.get_rolling_token_windows(ids, scorer.end, max_seq_len=longest, context_len=1)
    return sum(one for one, _ in scorer.log_likelihoods([*map(utils.make_disjoint_window, windows)]))


def _generated(scorer: Scorer, text: str, options: dict[str, Any]) -> str:
    if options.get("do_sample") or float(options.get("temperature") or 0.0) > 0:
        raise UserError("Runs write the likeliest token each time: leave do_sample and temperature out.")
    until = options.get("until") or []
    n_tokens = options.get("max_gen_toks") or options.get("max_new_tokens") or N_TOKENS
    return scorer.write(text, [until] if isinstance(until, str) else until, int(n_tokens))


def _laid_out(turns: Any, history: Sequence[dict[str, str]], asks: bool) -> str:
    """Turns as the run learned them, as text."""
    if not isinstance(turns, ByteTokenizer):
        raise UserError("The run has learned no dialogs: leave --apply_chat_template out.")
    messages = [Message(turn["role"], turn["content"]) for turn in history]
    for message in messages:
        if message.role not in turns.roles:
            raise UserError(f"The run knows no role '{message.role}', only {', '.join(turns.roles)}.")
    told = "".join(f"<{role}>{content}" for role, content in messages)
    return f"{told}<{turns.assistant}>" if asks else told
