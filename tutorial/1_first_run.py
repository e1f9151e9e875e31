# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # A first model, and what its run leaves
#
# A minute on two cores. A very small transformer learns four facts about each of 32 people by heart; then we
# read its run folder, file by file. A run is a folder, and nothing about a run is anywhere else.

# %%
import contextlib
import hashlib
import io
import json
import shutil
from pathlib import Path

from nanollama.api import UserError, load_config, load_run
from nanollama.cli.command import main as nanollama
from nanollama.studies import use_checkout

ROOT = use_checkout()  # from here on, Python finds its `apps`

from apps.memory.settings import MemoryConfig

CONFIG = str(ROOT / "apps/memory/config/debug.yaml")
RUN = Path("runs/first")

# %% [markdown]
# ## Train
#
# What one types in a terminal, `nanollama train apps/memory/config/debug.yaml run_dir=runs/first`, is a
# function here. Data that is missing is made. The last lines say what came out, with its 95 % interval.

# %%
code = nanollama(["train", CONFIG, f"run_dir={RUN}"])
assert code == 0

# %% [markdown]
# ## Read
#
# `config.yaml` says everything about the run: run again, it gives the same one. `metrics.jsonl` has a row a
# logged step, `evals.jsonl` a row an evaluation, `result.json` what came out. Units are in the names.

# %%
print(*sorted(path.name for path in RUN.iterdir()), sep="\n")
metrics = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
evals = [json.loads(line) for line in (RUN / "evals.jsonl").read_text().splitlines()]
result = json.loads((RUN / "result.json").read_text())
print(f"loss: {metrics[0]['loss']:.2f} nats a token at first, {metrics[-1]['loss']:.3f} in the end")
for name in ("recall_trained", "recall_unseen"):
    print(f"{name}: {evals[-1][name]:.3f} [{evals[-1][name + '_low']:.3f}, {evals[-1][name + '_high']:.3f}]")

assert result["status"] == "finished"
assert metrics[-1]["loss"] < metrics[0]["loss"] / 5
assert evals[-1]["recall_trained"] > 0.8, "it knows whom it has met"
assert evals[-1]["recall_unseen"] < 0.2, "and nobody else: nothing here generalises"

# %% [markdown]
# ## Run it again
#
# The same command does nothing to a finished run, and goes on with one that was stopped. A folder that
# belongs to another config is refused, and the message says by which key. Exit code 2 means: the input is
# wrong, nothing has happened.

# %%
assert nanollama(["train", CONFIG, f"run_dir={RUN}"]) == 0
said = io.StringIO()
with contextlib.redirect_stderr(said):
    code = nanollama(["train", CONFIG, f"run_dir={RUN}", "model.d_model=16"])
print(said.getvalue())
assert code == 2
assert "d_model" in said.getvalue()

# %% [markdown]
# ## Load it
#
# A run is loaded by its folder: the newest intact checkpoint, in evaluation mode.

# %%
trained = load_run(MemoryConfig, RUN)
print(trained.step, f"{trained.model.n_params():,} parameters")
assert trained.config.data == load_config(MemoryConfig, [CONFIG]).data

# %% [markdown]
# ## Exercise 1
#
# How many times has the model read each question? There are four questions for each of the 32 people, and a
# row of metrics counts examples.
#
# *Solution.*

# %%
n_times = metrics[-1]["n_examples_seen"] / (4 * 32)
print(f"{n_times:.0f} times")
assert n_times == 300 * 64 / 128

# %% [markdown]
# ## Exercise 2
#
# A manifest in each checkpoint holds the hashes of its files. Check one by hand; then change one byte of a
# copy of the run and load it. What happens, and why is that better than a model that is slightly wrong?
#
# *Solution.* No checkpoint that is damaged is loaded; with an intact older one, that one is. A model that is
# slightly wrong would give slightly wrong figures, and nobody would know.

# %%
checkpoint = max((RUN / "checkpoints").iterdir())
manifest = json.loads((checkpoint / "manifest.json").read_text())
weights = (checkpoint / "model.safetensors").read_bytes()
assert hashlib.sha256(weights).hexdigest() == manifest["files"]["model.safetensors"]["sha256"]

copy = Path("runs/first_damaged")
shutil.rmtree(copy, ignore_errors=True)
shutil.copytree(RUN, copy)
for damaged in (copy / "checkpoints").iterdir():
    (damaged / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
try:
    load_run(MemoryConfig, copy)
    raise AssertionError("a damaged checkpoint was loaded")
except UserError as error:
    print(error)
