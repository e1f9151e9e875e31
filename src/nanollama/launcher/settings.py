"""The sections of a config that say how its runs are started; none of them changes what a run computes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from nanollama.config import Config, ConfigPath

LOCAL, SLURM = "local", "slurm"

Word = Annotated[str, StringConstraints(pattern=r"^[^\s'\"\\]+$")]


class LocalConfig(Config):
    """How the runs of a grid share this machine."""

    n_jobs: int | None = Field(
        default=None,
        ge=1,
        description="Runs at a time; null: one a GPU, or one a core where runs use no GPU.",
    )
    n_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of a run; null shares the cores out among the jobs."
    )
    gpus: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(),
        description="GPUs to use, one a run, counted among the visible ones; none: all, where runs use GPUs.",
    )


class SlurmConfig(Config):
    """What Slurm is asked for, for each run."""

    partition: Word | None = Field(default=None, description="Partition; null: the cluster's default.")
    account: Word | None = Field(default=None, description="Account that pays.")
    qos: Word | None = Field(default=None, description="Quality of service.")
    constraint: Word | None = Field(default=None, description="Features that a node must have.")
    n_nodes: int = Field(default=1, ge=1, description="Machines of a run.")
    n_processes: int = Field(
        default=1, ge=1, description="Processes of a run on each machine; several are started by torchrun."
    )
    n_gpus: int = Field(default=0, ge=0, description="GPUs of a run on each machine.")
    n_cpus: int = Field(default=1, ge=1, description="CPUs of each process.")
    mem_gb: float | None = Field(default=None, gt=0, description="Memory on each machine, in GB.")
    minutes: int = Field(default=60, ge=1, description="Time limit; a run that reaches it is queued again.")
    grace_seconds: int = Field(
        default=120, ge=10, description="Seconds before the time limit at which a run saves and leaves."
    )
    array_parallelism: int = Field(default=256, ge=1, description="Runs of a grid at a time.")
    setup: tuple[str, ...] = Field(
        default=(), description="Shell lines before the run, such as `module load cuda`."
    )
    evaluate: ConfigPath | None = Field(
        default=None,
        description="Config of the study's `eval`, to examine each checkpoint in a job of its own meanwhile; "
        "needs training.checkpoint.keep=null.",
    )

    @model_validator(mode="after")
    def _check(self) -> SlurmConfig:
        if 60 * self.minutes <= self.grace_seconds:
            raise ValueError(
                f"minutes = {self.minutes} leaves no time to run: expected a time limit longer than "
                f"grace_seconds = {self.grace_seconds}, in which a run saves and leaves"
            )
        return self
