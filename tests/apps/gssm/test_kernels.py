"""Kernels: Dirichlet rows in logarithms, modes, and what a seed decides."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma, polygamma
from small_graphs import make_graph

from apps.gssm.kernels import draw_kernels, groups, log_dirichlet, swap_largest

X = {"name": "X", "state_dim": 4, "alpha": 0.5, "observed": True}
N = 40_000


@pytest.mark.parametrize("alpha", [0.004, 0.02, 0.3, 1.0, 20.0])
def test_rows_have_the_moments_of_a_dirichlet(alpha: float) -> None:
    """Of probabilities and of their logarithms, which at small alpha are far below the least float64."""
    d = 5
    rows = log_dirichlet(np.random.default_rng(0), alpha, (N, d))
    assert np.allclose(np.exp(rows).sum(axis=1), 1.0)
    variance = stats.dirichlet.var([alpha] * d)[0]
    assert abs(np.exp(rows).mean(axis=0) - 1 / d).max() < 4 * np.sqrt(variance / N)
    assert np.exp(rows).var(axis=0) == pytest.approx(variance, rel=0.05)
    log_mean = digamma(alpha) - digamma(d * alpha)
    log_variance = polygamma(1, alpha) - polygamma(1, d * alpha)
    assert abs(rows.mean(axis=0) - log_mean).max() < 4 * np.sqrt(log_variance / N)
    assert rows.var(axis=0) == pytest.approx(log_variance, rel=0.1)
    assert np.isfinite(rows).all()
    if alpha == 0.004:
        assert rows.min() < -700


@pytest.mark.parametrize("alpha", [0.02, 1.5])
def test_one_entry_of_a_row_follows_a_beta_distribution(alpha: float) -> None:
    rows = np.exp(log_dirichlet(np.random.default_rng(1), alpha, (N, 3)))
    inner = rows[(rows[:, 0] > 1e-6) & (rows[:, 0] < 1 - 1e-6), 0]  # at the ends rounding would be compared
    low, high = stats.beta(alpha, 2 * alpha).cdf([1e-6, 1 - 1e-6])
    assert len(inner) / N == pytest.approx(high - low, abs=4 * np.sqrt(0.25 / N))
    conditional = (stats.beta(alpha, 2 * alpha).cdf(inner) - low) / (high - low)
    assert stats.kstest(conditional, "uniform").pvalue > 1e-3


def test_draws_of_near_alphas_are_near() -> None:
    """Common random numbers: no entry's rejection shifts the numbers of another."""
    near, far = (log_dirichlet(np.random.default_rng(3), alpha, (500, 8)) for alpha in (0.3, 0.3003))
    assert np.quantile(abs(near - far), 0.98) < 0.05


def test_largest_entries_are_swapped() -> None:
    rows = np.array([[[1.0, 3, 2], [5, 4, 6], [9, 8, 7]]])
    swap_largest(rows, np.arange(3))
    assert rows.tolist() == [[[3.0, 1, 2], [5, 6, 4], [7, 8, 9]]]
    swap_largest(rows, np.zeros(3, dtype=np.int64))
    assert rows.tolist() == [[[3.0, 1, 2], [6, 5, 4], [9, 8, 7]]]


@pytest.mark.parametrize("kernel_type", ["product", "fullrank"])
def test_modes_put_the_largest_entry_where_they_say(kernel_type: str) -> None:
    graph = make_graph(
        {"name": "S", "state_dim": 6, "alpha": 0.5, "mode": "slow", "kernel_type": kernel_type},
        {
            "name": "D",
            "state_dim": 5,
            "alpha": 0.5,
            "mode": "dead",
            "parents": ("S",),
            "kernel_type": kernel_type,
        },
        {"name": "N", "state_dim": 5, "alpha": 0.5, "parents": ("S",), "kernel_type": kernel_type},
        {**X, "parents": ("D",)},
    )
    kernels = draw_kernels(graph, 0)
    slow, dead, default = (kernels.log_table(graph.node(name)).argmax(axis=-1) for name in "SDN")
    assert slow.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert not dead.any()
    assert dead.shape == (1, 5, 6)
    assert default.any()


def test_a_product_multiplies_one_row_an_input() -> None:
    graph = make_graph(
        {"name": "A", "state_dim": 2, "alpha": 0.5},
        {"name": "B", "state_dim": 3, "alpha": 0.5, "parents": ("A",)},
        {**X, "parents": ("B", "A")},
    )
    kernels = draw_kernels(graph, 0)
    assert groups(graph, graph.node("B")) == (("B",), ("A",))
    own, parent = (np.exp(matrix[0]) for matrix in kernels.log_matrices["B"])
    table = np.exp(kernels.log_table(graph.node("B"))[0])
    product = own[2] * parent[1]
    assert np.allclose(table[2, 1], product / product.sum())
    assert np.exp(kernels.log_table(graph.observed)).shape == (1, 3, 2, 4)


def test_a_full_rank_table_has_a_row_for_all_inputs_together() -> None:
    graph = make_graph(
        {"name": "A", "state_dim": 2, "alpha": 0.5},
        {"name": "B", "state_dim": 3, "alpha": 0.5, "parents": ("A",), "kernel_type": "fullrank"},
        {**X, "parents": ("B",)},
    )
    kernels = draw_kernels(graph, 0)
    assert groups(graph, graph.node("B")) == (("B", "A"),)
    (table,) = kernels.log_matrices["B"]
    assert table.shape == (1, 6, 3)
    assert np.array_equal(kernels.log_table(graph.node("B"))[0, 2, 1], table[0, 2 * 2 + 1])


def test_a_node_keeps_its_kernels_when_others_come() -> None:
    latent = {"name": "A", "state_dim": 2, "alpha": 0.5}
    few = draw_kernels(make_graph(X, latent), 5)
    more = draw_kernels(make_graph({"name": "B", "state_dim": 3, "alpha": 1.0}, latent, X), 5)
    other = draw_kernels(make_graph(X, latent), 6)
    assert all(np.array_equal(few.log_matrices[name][0], more.log_matrices[name][0]) for name in "AX")
    assert not np.array_equal(few.log_matrices["A"][0], other.log_matrices["A"][0])
    twins = draw_kernels(make_graph(X, latent, {**latent, "name": "B"}), 5)
    assert not np.array_equal(twins.log_matrices["A"][0], twins.log_matrices["B"][0])


def test_a_library_has_a_kernel_a_context_and_fresh_contexts_have_none_yet() -> None:
    context = {"name": "A", "state_dim": 2, "alpha": 0.5, "mode": "context"}
    library = draw_kernels(make_graph(X, context, n_contexts=3), 0)
    (matrix,) = library.log_matrices["A"]
    assert matrix.shape == (3, 2, 2)
    assert not np.array_equal(matrix[0], matrix[1])
    assert library.log_matrices["X"][0].shape == (1, 1, 4)
    assert "A" not in draw_kernels(make_graph(X, context), 0).log_matrices


def test_rows_change_continuously_with_alpha() -> None:
    """So an entropy can be sought by bisection: no draw is rejected at one alpha and kept at the next."""
    alphas = np.linspace(0.5, 1.5, 201)
    rows = np.exp([log_dirichlet(np.random.default_rng(0), alpha, (20, 8)) for alpha in alphas])
    assert np.abs(np.diff(rows, axis=0)).max() < 0.02
