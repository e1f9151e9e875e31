# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # How far from the exact entropy? A graph, a transformer, a Mamba
#
# A minute on two cores. A graph of hidden variables writes symbols. What can be known of the next symbol,
# given all before it, is known exactly: the *floor*, by inference in the graph. So a loss is not good or bad
# beside another model's; it is so many nats above what can be learned at all.

# %%
import json
from pathlib import Path

import numpy as np

from nanollama.api import load_config
from nanollama.cli.command import main as nanollama
from nanollama.studies import use_checkout

ROOT = use_checkout()  # from here on, Python finds its `apps`

from apps.gssm.entropy import entropy
from apps.gssm.floor import Floor
from apps.gssm.references import ngram_cross_entropy, unigram_entropy
from apps.gssm.settings import GssmConfig
from apps.gssm.source import build_source

CONFIG = str(ROOT / "apps/gssm/config/debug.yaml")

# %% [markdown]
# ## The graph, and what can be known
#
# The source is a pure function of its config, like all data here. A model that looks at nothing loses the
# unigram entropy; the floor is the least that any model can lose on average; between them lies what there is
# to learn.

# %%
config = load_config(GssmConfig, [CONFIG])
source = build_source(config.data)
for node in source.graph.nodes:
    print(f"{node.name}: {node.state_dim} states, parents {list(node.parents)}, observed: {node.observed}")
test = source.draw_test(256).symbols
floor_nats = -Floor(source.kernels).log_likelihood(test).mean()
unigram_nats = unigram_entropy(test)
print(f"unigram {unigram_nats:.3f}, floor {floor_nats:.3f} nats a symbol")
assert floor_nats < unigram_nats - 0.3, "there is something to learn"

# %% [markdown]
# ## Two models
#
# The same data, steps and width; one attends, the other has a state of fixed size. Both are examined on the
# same test sequences, beside the floor *of these sequences*: the gap does not suffer from how hard they
# happen to be.

# %%
last = {}
for name in ("transformer", "mamba2"):
    run = Path(f"runs/entropy_{name}")
    assert nanollama(["train", CONFIG, f"run_dir={run}", f"model.implementation={name}"]) == 0
    last[name] = json.loads((run / "evals.jsonl").read_text().splitlines()[-1])
for name, row in last.items():
    ends = f"[{row['gap_nats_low']:.4f}, {row['gap_nats_high']:.4f}]"
    print(f"{name:>11}: floor {row['floor_nats']:.4f}, gap {row['gap_nats']:.4f} {ends}")
    assert row["gap_nats_high"] > 0, "nobody is below the floor"
    assert row["kl_nats"] > 0, "a divergence is never negative"
    assert row["gap_nats"] < 0.1 * (row["unigram_nats"] - row["floor_nats"]), "nine tenths are learned"

# %% [markdown]
# ## Exercise 1
#
# How much of what can be learned does a table of trigrams tell, that was counted in 8,192 sequences?
#
# *Solution.* Less than either model: what is hidden now was hidden long ago too, and a trigram forgets it.

# %%
counted = source.draw(range(8192))
trigram_nats = ngram_cross_entropy(counted, test, config.model.vocab_size, order=3)
print(f"trigrams {trigram_nats:.3f}, {(unigram_nats - trigram_nats) / (unigram_nats - floor_nats):.0%} of it")
assert floor_nats < trigram_nats < unigram_nats
assert trigram_nats - floor_nats > max(row["gap_nats"] for row in last.values())

# %% [markdown]
# ## Exercise 2
#
# The floor of a test is a mean over its sequences, so it has an error; the entropy of the source has one too.
# Do they agree? What happens to the error with four times as many sequences?
#
# *Solution.* They agree within their errors, and the error halves. The gap, a difference on the same
# sequences, needs far fewer.

# %%
few, many = (entropy(source.kernels, n, config.data.seq_len + 1, seed=5) for n in (256, 1024))
print(f"{few.rate_nats:.3f} +- {few.rate_error:.3f}, {many.rate_nats:.3f} +- {many.rate_error:.3f}")
assert abs(many.rate_nats - floor_nats) < 5 * np.hypot(many.rate_error, few.rate_error)
assert 0.4 < many.rate_error / few.rate_error < 0.6
