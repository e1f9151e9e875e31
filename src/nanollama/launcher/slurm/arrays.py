"""How the runs of a submission become Slurm's arrays, also those that start from runs of another array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from nanollama.errors import UserError
from nanollama.launcher.grid.arms import ARM
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.plan import Plan
from nanollama.wording import count


@dataclass
class Array:
    """Runs that are submitted together.

    Args:
        after: the array whose tasks these start from, task by task: its index within the submission, or
            Slurm's number of one that it already has; None for runs that may start at once.
        runs: by the number of their task.
        parallelism: how many at a time.
    """

    after: int | str | None = None
    runs: dict[int, GridRun] = field(default_factory=dict)
    parallelism: int = 1

    @property
    def tasks(self) -> str:
        """Its tasks, and how many at a time, in sbatch's words: ``0-5,8%2``."""
        ranges = []
        for _, group in groupby(enumerate(sorted(self.runs)), lambda pair: pair[1] - pair[0]):
            numbers = [task for _, task in group]
            ranges.append(f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}")
        return f"{','.join(ranges)}%{min(len(self.runs), self.parallelism)}"

    def dependency(self, jobs: Sequence[str], needed: Sequence[str] = ()) -> str | None:
        """What sbatch is told to wait for: that other jobs have ended well, of another array the same task.

        Args:
            jobs: Slurm's numbers of the arrays of this submission, as far as it has taken them.
            needed: Slurm's numbers of the jobs that the whole grid comes after.
        """
        waits = [f"afterok:{job}" for job in needed]
        if self.after is not None:
            waits.append(f"aftercorr:{jobs[self.after] if isinstance(self.after, int) else self.after}")
        return ",".join(waits) or None


def share_out(plan: Plan, runs: Sequence[GridRun], held: Mapping[str, str], largest: int) -> list[Array]:
    """The arrays of a submission, of equal rights; each comes after the one that it starts from.

    Runs that may start at once fill as few arrays as Slurm's largest allows. A run that starts from another
    has the number of that one's task, in an array for each arm and array that is started from.

    Args:
        plan: what is submitted.
        runs: of it, those to be submitted, in their order.
        held: Slurm's numbers of the jobs of runs that it already has, by name.
        largest: number of tasks that Slurm takes in one array.

    Raises:
        UserError: together they would have more runs at a time than wanted.
    """
    places: dict[str, tuple[int | str, int]] = {}
    for name, job in held.items():
        number, _, own = job.partition("_")
        places[name] = number, int(own or 0)
    arrays: list[Array] = []
    index_of: dict[tuple[int | str, str], int] = {}
    n_first = 0
    for run in runs:
        parent = next((name for name in run.after if name in places), None)
        after: int | str | None = None
        key: tuple[int | str, str]
        if parent is None:
            key, task = (n_first // largest, ""), n_first % largest
            n_first += 1
        else:
            after, task = places[parent]
            key = (after, run.values[ARM])
        index = index_of.setdefault(key, len(arrays))
        if index == len(arrays):
            arrays.append(Array(after))
        arrays[index].runs[task] = run
        places[run.name] = index, task
    wanted = plan.slurm.array_parallelism
    if wanted < len(arrays):
        raise UserError(
            f"slurm.array_parallelism: expected at least {len(arrays)}, got {wanted}: these "
            f"{count(len(runs), 'run')} are {len(arrays)} arrays, which share it out, as this Slurm takes at "
            f"most {largest:,} runs an array, and an arm that starts from another is an array of its own."
        )
    for index, array in enumerate(arrays):
        array.parallelism = (wanted + index) // len(arrays)
    return arrays
