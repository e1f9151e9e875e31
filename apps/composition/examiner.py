"""The evaluator of training runs: what is measured of a model while it learns, as rows of ``evals.jsonl``."""

from __future__ import annotations

from apps.composition.causal import causal_summary
from apps.composition.data import Dataset
from apps.composition.data_config import DataConfig
from apps.composition.measures import build_groups, find_best_circuit, iterations, measure, summarise
from apps.composition.settings import MeasuresConfig
from nanollama.model.protocol import LanguageModel


class Examiner:
    """Measures a model while it is trained; see `nanollama.training.loop.Evaluator`."""

    def __init__(self, config: DataConfig, dataset: Dataset, measures: MeasuresConfig) -> None:
        self.config = config
        self.measures = measures
        self.groups = build_groups(config, dataset, measures)

    def evaluate(self, model: LanguageModel, step: int) -> dict[str, float]:
        """See `nanollama.training.loop.Evaluator`."""
        rows = list(measure(model, self.config, self.groups, self.measures.heads))
        summary = summarise(rows, self.config)
        circuit = find_best_circuit(summary)
        if self.measures.causal and circuit is not None:
            tested = iterations(self.groups, self.measures.splits)
            summary |= causal_summary(model, self.config, tested, circuit)
        return summary
