# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # Take a run to transformers and lm-eval
#
# A minute on two cores. A run is a folder of ours; most tools know folders of Hugging Face. An exported model
# is the same model: the same logits, up to rounding, without any code of ours.

# %%
import contextlib
import importlib.util
import io
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nanollama.api import load_run
from nanollama.cli.command import main as nanollama
from nanollama.studies import use_checkout

ROOT = use_checkout()  # from here on, Python finds its `apps`

from apps.memory.settings import MemoryConfig

CONFIG = str(ROOT / "apps/memory/config/debug.yaml")
RUN, FOLDER = "runs/there", "exported"

# %% [markdown]
# ## Train, and write the folder
#
# A hundred steps are enough for a model that is not drawn at random. In the folder are the weights, as
# safetensors, the tokenizer, and a card that says what was trained on what, by hash.

# %%
assert nanollama(["train", CONFIG, f"run_dir={RUN}", "training.n_steps=100", "recall.n_people=5"]) == 0
assert nanollama(["export", "hf", RUN, FOLDER, "--overwrite"]) == 0
print(*sorted(path.name for path in Path(FOLDER).iterdir()), sep="\n")

# %% [markdown]
# ## Load it there
#
# `local_files_only`: nothing is fetched. The tokenizer knows what a dialog is.

# %%
theirs = AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True)
tokenizer = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
dialog = [{"role": "user", "content": "Where was Bertha Malone born?"}]
text = tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True)
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
print(type(theirs).__name__, repr(text))

ours = load_run(MemoryConfig, Path(RUN)).model
difference = (ours(ids) - theirs(ids).logits).abs().max().item()
print(f"logits differ by at most {difference:.1e}")
assert difference < 1e-4
assert theirs.num_parameters() == ours.n_params()

# %% [markdown]
# ## lm-eval
#
# `nanollama lm-eval` is the command `lm_eval` with one more kind of model (`pip install -e '.[eval]'`):
#
# ```sh
# nanollama lm-eval --model nanollama --model_args run=runs/there --tasks arc_easy
# ```
#
# Without the extra, one sentence says so.

# %%
if importlib.util.find_spec("lm_eval") is None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = nanollama(["lm-eval", "--model", "nanollama", "--model_args", f"run={RUN}", "--tasks", "x"])
    print(said.getvalue())
    assert code != 0
    assert "eval" in said.getvalue()

# %% [markdown]
# ## Exercise 1
#
# Bring the folder back, as a run of the memory study. Is it still the same model?
#
# *Solution.* To the last bit: weights are moved and turned, not computed.

# %%
back = ["import", "hf", FOLDER, "runs/back", f"{FOLDER}/nanollama.yaml", "--overwrite"]
assert nanollama(back) == 0
assert torch.equal(load_run(MemoryConfig, Path("runs/back")).model(ids), ours(ids))

# %% [markdown]
# ## Exercise 2
#
# Which models have no counterpart there? Train a step of a hybrid, of a Mamba and attention in turn, and
# export it.
#
# *Solution.* The message says what is in the way, and nothing is written.

# %%
hybrid = "model.implementation=[mamba2, transformer]"
few = ["training.n_steps=1", "recall.n_people=1", "training.device=cpu"]
assert nanollama(["train", CONFIG, "run_dir=runs/hybrid", hybrid, *few]) == 0
said = io.StringIO()
with contextlib.redirect_stderr(said):
    code = nanollama(["export", "hf", "runs/hybrid", "exported_hybrid"])
print(said.getvalue())
assert code == 2
assert "mamba2, transformer" in said.getvalue()
assert not Path("exported_hybrid").exists()
