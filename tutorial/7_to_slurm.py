# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # From a laptop to Slurm
#
# Two minutes on two cores. One run is an anecdote. A *grid* is a config that describes many runs, with what
# has to come out of them, written before any of them runs. The same file runs on a laptop and on a cluster.

# %%
import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

from nanollama.cli.command import main as nanollama
from nanollama.studies import find_root

GRID = "learning_rates.yaml"

# %% [markdown]
# ## Write it
#
# It builds on a config of the study on graphs: four runs, two learning rates by two seeds, and one claim.
# Sections `local` and `slurm` say what a run may take here and there.

# %%
Path(GRID).write_text(
    f"""\
base: {find_root() / "apps/gssm/config/debug.yaml"}
name: learning_rates
training: {{n_steps: 40, eval_every: 20, checkpoint: {{every: 40, keep: 1}}}}
measures: {{n_sequences: 32}}
grid:
  product:
    training.optimizer.learning_rate: [3e-3, 1e-4]
  seeds: 2
expect:
  - claim: in 40 steps, the higher rate comes nearer to the floor
    runs: {{training.optimizer.learning_rate: 3e-3}}
    minus: {{training.optimizer.learning_rate: 1e-4}}
    measure: gap_nats
    at_most: 0
local: {{n_threads: 1}}
slurm: {{n_gpus: 1, n_cpus: 2, minutes: 30}}
"""
)

# %% [markdown]
# ## Look before it runs
#
# `--dry-run` lists runs and what they cost. A wrong value in any of them is told here, not on the third
# night.

# %%
assert nanollama(["grid", "run", GRID, "--dry-run"]) == 0

# %% [markdown]
# ## Run it here
#
# As many at a time as there are cores. Ctrl-C saves; the same command runs what is missing, and only that.
# Exit code 0: all runs are finished and all claims hold.

# %%
assert nanollama(["grid", "run", GRID]) == 0
assert nanollama(["grid", "status", GRID]) == 0
folder = Path("runs/learning_rates")
print((folder / "table.md").read_text())
results = [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]
assert len(results) >= 4
assert {result["status"] for result in results} == {"finished"}

# %% [markdown]
# ## Take it to a cluster
#
# The same file, another command: `nanollama launch learning_rates.yaml`. Each run becomes a task of one
# array, with what `slurm` asks for; jobs run a copy of the code as it was when they were submitted, and what
# is preempted is queued again and ends with the same bits. Where there is no Slurm, it says so and what to do
# instead.

# %%
if shutil.which("sbatch") is None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = nanollama(["launch", GRID])
    print(said.getvalue())
    assert code == 2
    assert "no Slurm on this machine" in said.getvalue()
assert nanollama(["launch", GRID, "--dry-run"]) == 0

# %% [markdown]
# ## Exercise 1
#
# One more seed, with as little work as can be. What is run, and what becomes of the verdict?
#
# *Solution.* `grid.seeds=3`: two runs are missing, four are there. The verdict is judged anew, on three
# pairs.

# %%
assert nanollama(["grid", "run", GRID, "grid.seeds=3"]) == 0
assert len(list(folder.glob("*/result.json"))) == 6

# %% [markdown]
# ## Exercise 2
#
# Collect all results in one table of your own, and compute from it by how much the higher rate is nearer, a
# number a seed.
#
# *Solution.* `grid results` writes a row a run, with every key that varies.

# %%
assert nanollama(["grid", "results", GRID, "grid.seeds=3", "--out", "results.csv"]) == 0
with open("results.csv", newline="") as file:
    rows = list(csv.DictReader(file))
rate, seed = "training.optimizer.learning_rate", "training.seed"
gaps = {(float(row[rate]), row[seed]): float(row["gap_nats"]) for row in rows}
differences = [gaps[3e-3, number] - gaps[1e-4, number] for number in sorted({row[seed] for row in rows})]
print([round(difference, 3) for difference in differences])
assert len(differences) == 3
assert max(differences) < 0
