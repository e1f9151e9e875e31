"""What the config of the demo may say."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from apps.memory.dataset.people import N_PEOPLE
from apps.memory.settings import MemoryConfig, RecallConfig, RunName
from nanollama.config import Config, ConfigPath, load_config
from nanollama.errors import UserError


class ArmConfig(Config):
    """One of the two models that are compared."""

    config: ConfigPath = Field(description="Config file of its training run.")
    keys: tuple[str, ...] = Field(
        default=(), description="What to change in it, such as `training.n_steps=100`."
    )


class Expected(Config):
    """What the demo has to show to be called a success: shares of right answers."""

    in_tool_trained: float = Field(default=0.99, ge=0, le=1, description="At least.")
    in_tool_unseen: float = Field(default=0.95, ge=0, le=1, description="At least.")
    in_weight_trained: float = Field(default=0.90, ge=0, le=1, description="At least.")
    in_weight_unseen: float = Field(default=0.05, ge=0, le=1, description="At most.")


class DemoConfig(Config):
    """The demo: data, two models, one comparison."""

    study: str = Field(
        default="memory", pattern="^memory$", description="Which study this config belongs to."
    )
    name: RunName = Field(default="demo", description="Name of the demo.")
    run_dir: ConfigPath | None = Field(default=None, description="Its folder; default runs/<name>.")
    data_root: ConfigPath = Field(default=Path("data"), description="Folder of people, dialogs and database.")
    n_people: int = Field(
        default=N_PEOPLE, ge=1, le=N_PEOPLE, description="People to write dialogs and database for."
    )
    in_tool: ArmConfig = Field(description="The model that asks the database.")
    in_weight: ArmConfig = Field(description="The model that memorises.")
    recall: RecallConfig = Field(default=RecallConfig(n_people=1000), description="The final examination.")
    expected: Expected = Field(default=Expected(), description="What has to come out.")

    @model_validator(mode="after")
    def _check(self) -> DemoConfig:
        if set(self.recall.sets) != {"trained", "unseen", "new_names"}:
            raise ValueError("recall.sets: the demo compares all three sets; leave this key out")
        return self

    @property
    def folder(self) -> Path:
        """Folder of everything the demo writes, data apart."""
        return self.run_dir or Path("runs") / self.name

    def arm(self, arm: ArmConfig, folder_name: str) -> MemoryConfig:
        """The training run of an arm, in a folder of its own.

        Raises:
            ConfigError: the arm's file or one of its keys is wrong.
            UserError: it needs more people than the demo writes data for.
        """
        config = load_config(MemoryConfig, [str(arm.config), *arm.keys])
        n_needed = config.data.n_people + self.recall.n_people
        if n_needed > self.n_people:
            raise UserError(
                f"{arm.config}: data.n_people = {config.data.n_people} and the demo's recall.n_people = "
                f"{self.recall.n_people} never trained on make {n_needed} people, but the demo's n_people is "
                f"{self.n_people}; raise it or lower the others."
            )
        placed = {"run_dir": self.folder / folder_name, "data_root": self.data_root, "name": folder_name}
        return config.model_copy(update=placed)
