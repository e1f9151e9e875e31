"""What a grid needs before its runs can start: runs of another kind, each made once.

The section ``grid`` of a config names them, such as the pretraining that all its runs finetune::

    grid:
      needs:
        - {config: base.yaml, script: apps.memory.pretrained_model.pretrain}

Each is a whole run with a folder of its own, beside that of the grid: grids share it, and once it has
finished it is not run again. How the runs of the grid start from it is said by their own keys, such as
``model.path: runs/base/model``.
"""

from __future__ import annotations

import os

from pydantic import Field

from nanollama.config import Config, ConfigPath
from nanollama.config.source import Node

NEEDS = "needs"


class NeedConfig(Config):
    """A run that all runs of a grid come after."""

    config: ConfigPath = Field(description="Config of a single run, relative to the file that says this.")
    script: str | None = Field(
        default=None, description="What runs it, apps.<study>.<verb>; null: the `train` of its study."
    )
    keys: tuple[str, ...] = Field(
        default=(), description="What is other than in that config, `key=value` each, such as scale=gpu."
    )

    def arguments(self, node: Node) -> list[str]:
        """What `nanollama.launcher.plan.read_plan` is called with for it.

        Args:
            node: what says it, which knows in which file.
        """
        named_in = os.path.dirname(node.value["config"].place.file)
        path = os.path.normpath(os.path.join(named_in, self.config))
        return [f"config={path}", *([f"script={self.script}"] if self.script else []), *self.keys]
