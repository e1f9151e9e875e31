"""What a run has come to, beside weights and optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from nanollama.training.learner import StepSums


@dataclass
class TrainState:
    """What the loop knows beside weights and optimizer; saved with every checkpoint.

    Args:
        step: optimizer steps done.
        loss_nats: summed over the loss tokens since the last row of metrics.
        n_loss_tokens: how many these were.
        n_tokens_seen: input tokens trained on, padding not counted.
        n_examples_seen: examples trained on.
        n_skipped_steps: steps without an update because a float16 gradient overflowed.
    """

    step: int = 0
    loss_nats: float = 0.0
    n_loss_tokens: int = 0
    n_tokens_seen: int = 0
    n_examples_seen: int = 0
    n_skipped_steps: int = 0

    def add(self, sums: StepSums, skipped: bool) -> None:
        """Count one more step."""
        self.step += 1
        self.loss_nats += sums.loss_nats
        self.n_loss_tokens += sums.n_loss_tokens
        self.n_tokens_seen += sums.n_tokens
        self.n_examples_seen += sums.n_examples
        self.n_skipped_steps += skipped
