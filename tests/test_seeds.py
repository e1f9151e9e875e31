import numpy as np
import torch

from nanollama.seeds import named_seed


def test_values_never_change() -> None:
    assert named_seed(0, "init") == 1519069808562059438
    assert named_seed(7, "data/epoch/3") == 8784819801753184270


def test_names_and_seeds_tell_streams_apart() -> None:
    seeds = {named_seed(seed, name) for seed in range(-50, 50) for name in ("init", "data", "data/1", "eval")}
    assert len(seeds) == 400


def test_seed_and_name_do_not_run_together() -> None:
    assert named_seed(1, "2/data") != named_seed(12, "data")


def test_torch_and_numpy_accept_it() -> None:
    for seed in range(200):
        value = named_seed(seed, "init")
        assert 0 <= value < 2**63
        torch.Generator().manual_seed(value)
        np.random.default_rng(value)
