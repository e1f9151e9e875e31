"""Three rows for two processes that should make two micro-batches each: packed documents can be so few rows.

``torchrun --nproc-per-node 2 -m tests.toy_packed FOLDER`` trains a model that is shared out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.toy_training import ToyStream, run_toy, toy_config


def main(folder: Path) -> None:
    config = toy_config(folder, parallel="sharded", batch_size=4, n_accumulation=2, eval_every=4)
    run_toy(config, stream=ToyStream(3))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
