"""The library from Python: the names that stay, in one place, for scripts and notebooks without any YAML.

What is listed here keeps its name and its arguments from one version to the next, or the change log says what
has become of it; everything else may move.
"""

from __future__ import annotations

from nanollama.config import Config, RunConfig, config_hash, dump_config, load_config
from nanollama.data.batch import Batch, collate
from nanollama.data.stream import DocumentStream, EpochOrder, Source, Stream
from nanollama.errors import Preempted, UserError
from nanollama.model import HuggingFaceConfig, ModelConfig, build_model
from nanollama.model.probe import (
    ablated_heads,
    ablated_mlps,
    edited_maps,
    linear_probe_accuracy,
    recorded_maps,
    recorded_outputs,
)
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.run_folder import Run, TrainResult, open_run
from nanollama.seeds import named_seed
from nanollama.statistics import (
    Interval,
    bootstrap_interval,
    equivalence_test,
    holm,
    seeds_interval,
    share_interval,
    sign_flip_test,
)
from nanollama.tokenizer import ByteTokenizer, Message
from nanollama.training.config import CheckpointConfig, TrainingConfig
from nanollama.training.loop import Evaluator, train
from nanollama.training.loss import next_token_loss
from nanollama.training.optim import OptimizerConfig
from nanollama.training.run import Parts, train_run
from nanollama.training.run_config import TrainingRunConfig
from nanollama.training.trained import Trained, load_run

__all__ = [
    "Batch",
    "ByteTokenizer",
    "CheckpointConfig",
    "Config",
    "DocumentStream",
    "EpochOrder",
    "Evaluator",
    "HuggingFaceConfig",
    "Interval",
    "LanguageModel",
    "Message",
    "ModelConfig",
    "OptimizerConfig",
    "Parts",
    "Preempted",
    "Run",
    "RunConfig",
    "Source",
    "Stream",
    "TrainResult",
    "Trained",
    "TrainingConfig",
    "TrainingRunConfig",
    "UserError",
    "ablated_heads",
    "ablated_mlps",
    "bootstrap_interval",
    "build_model",
    "collate",
    "config_hash",
    "dump_config",
    "edited_maps",
    "equivalence_test",
    "holm",
    "linear_probe_accuracy",
    "load_config",
    "load_run",
    "named_seed",
    "next_token_loss",
    "open_run",
    "recorded_maps",
    "recorded_outputs",
    "seeds_interval",
    "share_interval",
    "sign_flip_test",
    "train",
    "train_run",
]
