# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # Find the iteration head, ablate it, build it by hand
#
# A minute on two cores. A transformer of two layers reads numbers `x1 .. xL` and writes the states of `s[k+1]
# = s[k] x[k+1] + 1` modulo 11, one after the other. How does it know which input is next? By a head of layer
# 1 that attends to it: the *iteration head* of arXiv 2406.02128. Layers count from 0.

# %%
from pathlib import Path

import torch

from nanollama.api import ablated_heads, edited_maps, load_run, recorded_maps
from nanollama.cli.command import main as nanollama
from nanollama.studies import use_checkout

ROOT = use_checkout()  # from here on, Python finds its `apps`

from apps.composition.circuit import build_handmade
from apps.composition.data import build_dataset
from apps.composition.figures import plot_maps, role_labels
from apps.composition.heads import pattern_index, score_heads
from apps.composition.measures import accuracy, build_groups, predict
from apps.composition.settings import CompositionConfig, MeasuresConfig

CONFIG = str(ROOT / "apps/composition/config/head.yaml")
RUN = Path("runs/iteration")

# %% [markdown]
# ## Train
#
# Some 1,000 steps: until 99 % of long test sequences are right from the first state to the last, and the head
# is as sharp. Other seeds may take longer.

# %%
assert nanollama(["train", CONFIG, f"run_dir={RUN}"]) == 0
torch.set_grad_enabled(False)  # from here on, nothing learns
trained = load_run(CompositionConfig, RUN)
model, data = trained.model, trained.config.data
groups = build_groups(data, build_dataset(data), MeasuresConfig(n_sequences=256, splits=("test",)))
longest = groups[-1]  # sequences of eight inputs, never learned from
exact = accuracy(predict(model, longest), longest)
print(f"{len(longest.tokens)} sequences of {longest.length} inputs, exact: {exact:.3f}")
assert exact > 0.9

# %% [markdown]
# ## Find it
#
# The query that writes `s[k+1]` stands at position `L + 1 + k` and should attend to `x[k+1]` at position `1 +
# k`. A head is scored by the share of these entries above one half, its *peakiness*.

# %%
with recorded_maps(model) as maps:
    predict(model, longest)
peakiness = {
    layer: score_heads(found, "iteration", longest.length).peakiness[0].item()
    for layer, found in maps.items()
}
print(peakiness)
assert peakiness[1] > 0.8, "layer 1 fetches the next input"
assert peakiness[0] < 0.5, "layer 0 does something else: it finds where the input ends"
labels = role_labels(longest.length, longest.length)
plot_maps([[(f"layer {layer}", found[:, 0].mean(dim=0).numpy()) for layer, found in maps.items()]], labels)

# %% [markdown]
# ## Ablate it
#
# A picture is no proof. Without what the head writes, accuracy must go; with *our* map in place of its own,
# one that attends to the next input and nothing else, it must stay.

# %%
with ablated_heads(model, [(1, 0)]):
    without = accuracy(predict(model, longest), longest)


def fetch_next_input(maps: torch.Tensor) -> torch.Tensor:
    """Maps (B, H, T, T) in which each query attends to the input it needs."""
    queries, keys = pattern_index("iteration", longest.length)
    maps = maps.clone()
    maps[:, :, queries] = 0.0
    maps[:, :, queries, keys] = 1.0
    return maps


with edited_maps(model, {1: fetch_next_input}):
    ideal = accuracy(predict(model, longest), longest)
print(f"as it is {exact:.3f}, without the head {without:.3f}, with the ideal map {ideal:.3f}")
assert without < 0.1
assert ideal > exact - 0.05

# %% [markdown]
# ## Build it
#
# If that is the algorithm, we can write its weights down: no training. Layer 0 copies the position of the end
# of input, its MLP subtracts positions, layer 1 fetches, its MLP applies the polynomial.

# %%
task = data.tasks[0]
handmade = build_handmade(task, data.tokens, data.max_length, trained.config.model.vocab_size)
for group in groups:
    assert accuracy(predict(handmade, group), group) == 1.0, "exact on every sequence of every length"
print(f"{handmade.n_params():,} parameters by hand, {model.n_params():,} learned")

# %% [markdown]
# ## Exercise 1
#
# Which is worse for the trained model: that layer 1 attends to everything alike, or that it attends, peaked
# as ever, to the input *before* the right one?
#
# *Solution.* Both destroy it: what counts is which input is fetched, not how sharp the map is.


# %%
def fetch_last_input(maps: torch.Tensor) -> torch.Tensor:
    """As above, one input too early; the first state reads the problem token."""
    queries, keys = pattern_index("iteration", longest.length)
    maps = maps.clone()
    maps[:, :, queries] = 0.0
    maps[:, :, queries, keys - 1] = 1.0
    return maps


def uniform(maps: torch.Tensor) -> torch.Tensor:
    """Every query attends alike to all it sees."""
    seen = torch.ones_like(maps).tril()
    return seen / seen.sum(dim=-1, keepdim=True)


for name, edit in (("one too early", fetch_last_input), ("uniform", uniform)):
    with edited_maps(model, {1: edit}):
        wrong = accuracy(predict(model, longest), longest)
    print(f"{name}: {wrong:.3f}")
    assert wrong < 0.1

# %% [markdown]
# ## Exercise 2
#
# When does the head appear? Load the checkpoints of the run, one by one, and print peakiness beside accuracy.
# Does one come without the other?
#
# *Solution.* They rise together, within two checkpoints: it is not exact before it looks at the right input,
# nor long wrong when it does. `nanollama report attention RUN` shows the same by a slider.

# %%
seen = []
for checkpoint in sorted((RUN / "checkpoints").iterdir()):
    earlier = load_run(CompositionConfig, checkpoint).model
    with recorded_maps(earlier) as maps:
        right = accuracy(predict(earlier, longest), longest)
    seen.append((right, score_heads(maps[1], "iteration", longest.length).peakiness[0].item()))
    print(f"{checkpoint.name}: exact {seen[-1][0]:.2f}, peakiness {seen[-1][1]:.2f}")
assert seen[0][0] < 0.2 and seen[0][1] < 0.5, "neither is there at first"
exact, peaked = (next(n for n, pair in enumerate(seen) if pair[kind] > 0.5) for kind in (0, 1))
assert abs(exact - peaked) <= 2, "neither comes long before the other"
