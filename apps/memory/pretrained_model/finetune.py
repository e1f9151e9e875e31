"""Train a pretrained model: ``python -m apps.memory.pretrained_model.finetune CONFIG [key=value ...]``.

It is `apps.memory.train` for a model that starts from ``model.path``, a folder or a name on the hub. Dialogs
are read by its own tokenizer, which is given a token for each role and is kept in the run's folder
``tokenizer``; where there is a section ``text``, each evaluation also tells what was forgotten.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence

import torch

from apps.memory import train
from apps.memory.settings import MemoryConfig
from nanollama.entrypoint import run_main
from nanollama.errors import UserError
from nanollama.monitor.checkpoint import OPTIMIZER, find_checkpoint, read_manifest
from nanollama.monitor.successor import TRAINER

MIB = 2**20


def run(config: MemoryConfig) -> None:
    """Train as the config says, and print what memory that took.

    Raises:
        UserError: the config names no pretrained model, or it cannot be used.
    """
    if config.pretrained is None:
        raise UserError(
            "model.path: finetuning starts from a pretrained model: expected implementation: hugging_face "
            "with the path of a folder or a name on the hub; apps.memory.train trains a new model."
        )
    train.run(config)
    if os.environ.get("RANK", "0") == "0":
        print(memory_used(config))


def memory_used(config: MemoryConfig) -> str:
    """Peak memory of this process, and what the newest checkpoint holds of the optimizer."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peaks = [f"{used * (1 if sys.platform == 'darwin' else 1024) / MIB:,.0f} MiB"]
    if torch.cuda.is_available():
        peaks.append(f"{torch.cuda.max_memory_allocated() / MIB:,.0f} MiB on the GPU")
    checkpoint = find_checkpoint(config.folder)
    if config.engine == "trainer":
        step = read_manifest(checkpoint)["step"]
        checkpoint = config.folder / TRAINER / f"checkpoint-{step}"
    # FSDP and DeepSpeed have files of their own for each process.
    optimizer = sum(file.stat().st_size for file in checkpoint.glob(OPTIMIZER))
    return f"peak memory {' and '.join(peaks)}, optimizer {optimizer / MIB:,.1f} MiB"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(MemoryConfig, run, argv, "Train a pretrained model to answer questions about people.")


if __name__ == "__main__":
    sys.exit(main())
