# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # Untie midway, and test "no difference"
#
# A minute on two cores. A model with tied embeddings uses one matrix to read tokens and to write them. What
# changes when it is given two, in the middle of training? To say "nothing" is a claim of its own: that a test
# has found no difference is not one. We train pairs that share everything but the untying, and test
# *equivalence*.

# %%
import numpy as np
import torch

from nanollama.api import (
    Batch,
    Interval,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
    TrainingRunConfig,
    build_model,
    collate,
    equivalence_test,
    load_run,
    next_token_loss,
    open_run,
    sign_flip_test,
    train,
)
from nanollama.statistics import mean_interval
from nanollama.training.intervention_config import UntieConfig
from nanollama.training.interventions import build_interventions

N_STEPS, N_SEEDS = 120, 5
torch.manual_seed(0)

# %% [markdown]
# ## Something to learn
#
# Six letters, a mark, the same letters backwards. A batch is a function of its step (and, here, of the seed),
# so both runs of a pair see the same batches in the same order.


# %%
class Reversals:
    """Rows of 13 tokens; a loss on what follows the mark."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """See `nanollama.api.Stream`."""
        letters = np.random.default_rng([self.seed, step]).integers(8, size=(64, 6))
        rows = np.column_stack([letters, np.full(64, 8), letters[:, ::-1]])[rank::world_size]
        return collate(list(rows), [np.arange(13) > 6] * len(rows))


# %% [markdown]
# ## Pairs
#
# What is done to a model at a step is part of its config: an *intervention*. `untie` gives the output a
# matrix of its own, equal to that of the input, so at that step the loss stays as it is to the last bit.


# %%
def config_of(seed: int, untie: bool) -> TrainingRunConfig:
    """A run of a pair."""
    arm = "untied" if untie else "tied"
    return TrainingRunConfig(
        study="lesson",
        name=f"untie_{arm}_{seed}",
        model=ModelConfig(
            implementation="transformer",
            vocab_size=9,
            d_model=32,
            n_layers=2,
            n_heads=2,
            tied_embeddings=True,
        ),
        training=TrainingConfig(
            n_steps=N_STEPS,
            seed=seed,
            log_every=N_STEPS,
            optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=20),
        ),
        interventions=(UntieConfig(implementation="untie", at_step=N_STEPS // 2),) if untie else (),
    )


def loss_of(config: TrainingRunConfig) -> float:
    """Train, or take what has been trained; the loss, in nats a token, on rows hardly any of which it met."""
    seed = config.training.seed
    weights = torch.Generator().manual_seed(seed)
    with open_run(config, config.folder) as run:
        train(
            run,
            config.training,
            model=build_model(config.model, weights),
            stream=Reversals(seed),
            loss_fn=next_token_loss,
            interventions=build_interventions(config.interventions, seed),
        )
    asked = Reversals(10**6).batch(0)
    with torch.no_grad():
        model = load_run(TrainingRunConfig, config.folder).model
        logits = model(asked.input_ids, query_positions=asked.query_positions)
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), asked.targets.flatten()))


tied = [loss_of(config_of(seed, untie=False)) for seed in range(N_SEEDS)]
untied = [loss_of(config_of(seed, untie=True)) for seed in range(N_SEEDS)]
differences = [after - before for before, after in zip(tied, untied, strict=True)]
for seed, pair in enumerate(zip(tied, untied, strict=True)):
    print(f"seed {seed}: tied {pair[0]:.4f}, untied midway {pair[1]:.4f} nats a token")
assert max(tied + untied) < 1.0, "both have learned: a loss of ln 8 = 2.08 is to guess"

# %% [markdown]
# ## Test
#
# Before looking: differences below `MARGIN` shall not matter. Then two questions, and they are not each
# other's opposite.
#
# - *Is there a difference?* A sign-flip test of the pairs. A large p says that we do not know.
# - *Is there none that matters?* Two one-sided tests. A small p says that the mean lies within the margin.

# %%
MARGIN = 0.05
interval: Interval = mean_interval(differences)
print(f"mean difference {interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] nats a token")
one_way, other_way = sign_flip_test(differences), sign_flip_test([-value for value in differences])
print(
    f"a difference? p = {min(1.0, 2 * min(one_way, other_way)):.3f} (five pairs: never below 2 / 2^5 = .0625)"
)
print(f"none beyond {MARGIN}? p = {equivalence_test(differences, MARGIN):.2g}")
assert equivalence_test(differences, MARGIN) < 0.05, "no difference that matters"

# %% [markdown]
# ## Exercise 1
#
# Look at the signs of the five differences. May a difference be there, and none that matters? What does the
# equivalence test say with a margin of a tenth of the mean absolute difference?
#
# *Solution.* It may: untying has helped all five a little, and a difference can be sure and small. How small
# is small enough is not for the test to say, and has to be said before: with a margin that is narrow enough,
# it never finds equivalence. With this one it could not have: whatever five differences are, p is above .42.

# %%
narrow = float(np.mean(np.abs(differences))) / 10
print(f"signs {np.sign(differences)}; p = {equivalence_test(differences, narrow):.2f} within {narrow:.4f}")
assert max(differences) < 0, "sure, as far as five pairs can tell"

# %% [markdown]
# ## Exercise 2
#
# Show that untying happened at all: count parameters, and how far the two matrices have moved apart.
#
# *Solution.* The untied model owns one matrix more, and both have learned since.

# %%
models = [load_run(TrainingRunConfig, config_of(0, untie).folder).model for untie in (False, True)]
added = models[1].n_params() - models[0].n_params()
apart = (models[1].get_parameter("head.weight") - models[1].get_parameter("embedding.weight")).abs().max()
print(f"{added} parameters more, apart by up to {apart:.3f}")
assert added == 9 * 32
assert apart > 1e-3
