"""Decompositions: identities at 1e-12, loops, and what cannot be decomposed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import (
    PanelError,
    ambiguity,
    bias_variance_covariance,
    diversification_ratio,
    diversity_decomposition,
    ensemble_variance,
    vote_gain,
)

SEED = st.integers(0, 10**6)


def drawn(seed, n=12, m=4, k=3, trials=None):
    rng = np.random.default_rng(seed)
    shape = (n, m) if trials is None else (trials, n, m)
    return rng.dirichlet(np.full(k, 0.7), size=shape), rng.integers(0, k, n), rng.dirichlet(np.ones(m))


@given(SEED, st.integers(1, 6), st.integers(2, 5))
def test_geometric_pool_is_exact(seed, m, k):
    q, y, w = drawn(seed, m=m, k=k)
    found = diversity_decomposition(q, y, weights=w)
    assert found.identity_gap < 1e-12 * max(1.0, found.mean_loss)
    assert found.diversity >= 0.0 and found.remainder == 0.0
    for t in range(len(y)):
        mean = np.exp(sum(w[i] * np.log(q[t, i]) for i in range(m)))
        pool = -np.log(mean[y[t]] / mean.sum())
        loss = sum(-w[i] * np.log(q[t, i, y[t]]) for i in range(m))
        np.testing.assert_allclose(found.per_sample[t], [pool, loss, -np.log(mean.sum()), 0.0], atol=1e-12)


@given(SEED)
def test_diversity_needs_no_labels_and_is_an_affinity(seed):
    q, y, _ = drawn(seed, m=2)
    first, second = (diversity_decomposition(q, labels).diversity for labels in (y, (y + 1) % 3))
    assert first == second
    assert first == pytest.approx(-np.log(np.sqrt(q[:, 0] * q[:, 1]).sum(axis=1)).mean(), abs=1e-12)
    same = np.repeat(q[:, :1], 3, axis=1)
    assert diversity_decomposition(same, y).diversity == pytest.approx(0.0, abs=1e-12)


@given(SEED)
def test_linear_pool_leaves_a_remainder(seed):
    q, y, w = drawn(seed)
    found = diversity_decomposition(q, y, weights=w, pool="linear")
    pool = -np.log(np.einsum("nik,i->nk", q, w)[np.arange(len(y)), y])
    np.testing.assert_allclose(found.per_sample[:, 0], pool, atol=1e-12)
    assert found.pool_loss == pytest.approx(found.mean_loss - found.diversity + found.remainder, abs=1e-12)
    other = diversity_decomposition(q, (y + 1) % 3, weights=w, pool="linear")
    assert other.diversity == found.diversity and other.remainder != pytest.approx(found.remainder, abs=1e-6)


@given(SEED, st.integers(2, 5))
def test_trials_split_the_mean_loss(seed, trials):
    q, y, w = drawn(seed, trials=trials)
    found = diversity_decomposition(q, y, weights=w)
    assert found.mean_bias + found.mean_variance == pytest.approx(found.mean_loss, rel=1e-12)
    assert found.pool_loss == pytest.approx(
        found.mean_bias + found.mean_variance - found.diversity, rel=1e-11
    )
    bias = variance = 0.0
    for i in range(q.shape[2]):
        for t in range(len(y)):
            centre = np.exp(np.log(q[:, t, i]).mean(axis=0))
            centre /= centre.sum()
            bias -= w[i] * np.log(centre[y[t]]) / len(y)
            variance += w[i] * np.mean([(centre * np.log(centre / one)).sum() for one in q[:, t, i]]) / len(y)
    assert found.mean_bias == pytest.approx(bias, abs=1e-11)
    assert found.mean_variance == pytest.approx(variance, abs=1e-11)
    assert "bias" in found.summary()


def test_zeros_are_raised_and_said():
    found = diversity_decomposition([[[1.0, 0.0], [0.5, 0.5]]] * 2, [1, 0])
    assert np.isfinite(found.pool_loss) and found.identity_gap < 1e-12
    assert "2 probabilities below" in found.warnings[0] and "below" in found.summary()


def test_dims_are_read_by_name():
    import xarray as xr

    q, y, _ = drawn(0, trials=3)
    array = xr.DataArray(q, dims=["trial", "sample", "specialist", "output"])
    moved = array.transpose("specialist", "output", "sample", "trial")
    assert diversity_decomposition(moved, y).pool_loss == diversity_decomposition(q, y).pool_loss
    numbers = xr.DataArray(q[..., 0], dims=["trial", "sample", "specialist"]).transpose(
        "sample", "specialist", "trial"
    )
    ours, plain = bias_variance_covariance(numbers, y), bias_variance_covariance(q[..., 0], y)
    assert ours.loss == plain.loss and ours.covariance == plain.covariance


@given(SEED, st.integers(2, 5), st.integers(1, 5), st.integers(1, 2))
def test_bias_variance_covariance_is_an_identity(seed, trials, m, outputs):
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(trials, 7, m, outputs)) + rng.normal(size=(trials, 7, 1, 1))
    y = rng.normal(size=(7, outputs))
    for unbiased in (False, True):
        found = bias_variance_covariance(f, y, unbiased=unbiased)
        assert abs(found.identity_gap) < 1e-12 * max(1.0, found.loss) * 10
        assert found.loss == pytest.approx(((f.mean(axis=2) - y) ** 2).sum(axis=2).mean(), rel=1e-12)
    d = f - f.mean(axis=0)
    variance = np.mean([(d[:, :, i] ** 2).sum(axis=2).mean() for i in range(m)]) * trials / (trials - 1)
    assert found.variance == pytest.approx(variance, rel=1e-12)
    pairs = [(d[:, :, i] * d[:, :, j]).sum(axis=2).mean() for i in range(m) for j in range(m) if i != j]
    expected = np.mean(pairs) * trials / (trials - 1) if pairs else 0.0
    assert found.covariance == pytest.approx(expected, abs=1e-12)


def test_unbiased_terms_are_right_on_average():
    """Known law over training sets: bias 0.3, variance 1, covariance 0.5; five trials only."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        shared = rng.normal(size=(5, 20, 1)) * np.sqrt(0.5)
        f = 0.3 + shared + rng.normal(size=(5, 20, 3)) * np.sqrt(0.5)
        result = bias_variance_covariance(f, np.zeros(20))
        plain = bias_variance_covariance(f, np.zeros(20), unbiased=False)
        found.append([result.bias, result.variance, result.covariance, plain.bias])
    mean, se = np.mean(found, axis=0), np.std(found, axis=0) / 20
    assert (np.abs(mean[:3] - [0.09, 1.0, 0.5]) < 4 * se[:3]).all()
    assert mean[3] - 0.09 > 10 * se[3]


def vote_loop(answers, y, weights):
    wrong = []
    for row, truth in zip(answers, y, strict=True):
        tally = {}
        for code, weight in zip(row, weights, strict=True):
            if code >= 0:
                tally[code] = tally.get(code, 0.0) + weight
        best = max(tally.values(), default=0.0)
        winners = [code for code, votes in tally.items() if votes >= best - 1e-12]
        wrong.append(1.0 - (truth in winners) / max(len(winners), 1))
    return np.array(wrong)


@given(SEED, st.integers(1, 6), st.booleans())
def test_vote_gain_equals_the_loop(seed, m, weighted):
    rng = np.random.default_rng(seed)
    answers, y = rng.integers(-1, 4, (30, m)), rng.integers(0, 5, 30)
    weights = rng.dirichlet(np.ones(m)) if weighted else np.full(m, 1 / m)
    found = vote_gain(answers, y, weights=weights)
    wrong = vote_loop(answers, y, weights)
    mean = (answers != y[:, None]) @ weights
    assert found.vote_error == pytest.approx(wrong.mean(), abs=1e-12)
    assert found.value == pytest.approx((mean - wrong).mean(), abs=1e-12)
    assert found.se == pytest.approx((mean - wrong).std() / np.sqrt(30), abs=1e-12)
    assert found.over_best == pytest.approx(
        (answers != y[:, None]).mean(axis=0).min() - wrong.mean(), abs=1e-12
    )


def test_disagreement_can_harm_a_vote():
    """The truth is found by two of five, the others agree on one mistake: the vote loses."""
    answers = np.array([[0, 0, 1, 1, 1]] * 50)
    found = vote_gain(answers, np.zeros(50, int))
    assert found.value == pytest.approx(0.6 - 1.0) and "gain -0.4" in found.summary()
    grouped = vote_gain(
        np.tile([[0, 0, 1], [1, 1, 0], [0, 1, 0]], (10, 1)), np.zeros(30, int), groups=np.arange(30) // 3
    )
    assert grouped.se < 1e-12  # every group alike


def test_diversification_ratio():
    c = np.array([[4.0, 1.0], [1.0, 1.0]])
    assert diversification_ratio(c) == pytest.approx(1.5 / np.sqrt(c.mean()))
    assert diversification_ratio(np.ones((3, 3))) == pytest.approx(1.0)
    w = np.array([0.25, 0.75])
    assert diversification_ratio(c, weights=w) == pytest.approx(
        (w @ [2, 1]) / np.sqrt(ensemble_variance(c, weights=w).value)
    )
    assert np.isnan(diversification_ratio(np.zeros((2, 2))))


def test_both_ambiguities_agree_where_both_hold():
    """Brier-like: the squared decomposition of the same table, as a check of sign and order."""
    q, y, _ = drawn(5)
    squared = ambiguity(q, np.eye(3)[y])
    assert squared.pool_loss == pytest.approx(squared.mean_loss - squared.diversity, abs=1e-12)
    assert squared.diversity > 0 and diversity_decomposition(q, y).diversity > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diversity_decomposition([[[0.5, 0.6]]], [0]), "probabilities"),
        (lambda: diversity_decomposition([[[0.5, 0.5]]], [2]), "code 2"),
        (lambda: diversity_decomposition([[0.5, 0.5]], [0]), "need the axes"),
        (lambda: diversity_decomposition([[[0.5, 0.5]]], [0], pool="vote"), "pool must be"),
        (lambda: diversity_decomposition([[[0.5, 0.5]] * 2], [0], weights=[2.0, -1.0]), "weights >= 0"),
        (lambda: bias_variance_covariance([[[1.0]]], [0.0]), "two or more trials"),
        (lambda: bias_variance_covariance([[[1.0]], [[2.0]]], [0.0, 1.0]), "y must have shape"),
        (lambda: bias_variance_covariance([[[1.0]], [[np.nan]]], [0.0]), "finite"),
        (lambda: vote_gain([[0, 1]], [0]), "2 or more samples"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(PanelError, match=message):
        call()
