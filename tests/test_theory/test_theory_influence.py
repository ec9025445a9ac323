"""Standard errors are the derivatives of the estimates by the weights of samples, to five digits.

A jackknife differs from them by a few percent and would hide a wrong term; numerical derivatives of estimates
written out here as loops do not.
"""

import numpy as np
import pytest

from theory import effective_number, error_agreement, error_correlation, error_covariance

CLOSE = {"rtol": 1e-5, "atol": 1e-8}


def by_derivative(estimates, n, weight=None, group=None):
    """Root of the summed squares of weight times derivative, by sample or by group."""
    weight = np.ones(n) if weight is None else weight
    moves = []
    for k in range(n):
        up, down = weight.copy(), weight.copy()
        up[k] += 1e-6
        down[k] -= 1e-6
        moves.append((estimates(up) - estimates(down)) / 2e-6 * weight[k])
    moved = np.array(moves)
    if group is None:
        return np.sqrt((moved**2).sum(axis=0))
    kinds = np.unique(group)
    sums = np.array([moved[group == kind].sum(axis=0) for kind in kinds])
    return np.sqrt((sums**2).sum(axis=0) * len(kinds) / (len(kinds) - 1))


def correlation(errors, weight):
    mean = np.tensordot(weight, errors, axes=1) / weight.sum()
    c = np.einsum("n,nio,njo->ij", weight, errors - mean, errors - mean) / weight.sum()
    sd = np.sqrt(c.diagonal())
    off = ~np.eye(len(c), dtype=bool)
    r = c / sd / sd[:, None]
    pooled = c[off].mean() / c.diagonal().mean()
    return r, c, r[off].mean(), pooled, c.diagonal().mean() / c.mean()


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_correlations(outputs, weighted, grouped):
    rng = np.random.default_rng(8 + outputs)
    n, m = 25, 4
    errors = rng.standard_t(5, size=(n, m, outputs)) * rng.uniform(0.5, 2, (m, 1)) + rng.normal(
        size=(n, 1, outputs)
    )
    weight = rng.uniform(0.2, 2.0, n) if weighted else np.ones(n)
    weight *= n / weight.sum()
    group = rng.integers(0, 6, n) if grouped else None
    result = error_correlation(errors, sample_weight=weight if weighted else None, groups=group)
    off = ~np.eye(m, dtype=bool)
    for place, found in ((0, result.se[off]), (2, result.rho_mean_se), (3, result.rho_pooled_se)):
        expected = by_derivative(lambda w, at=place: correlation(errors, w)[at], n, weight, group)
        np.testing.assert_allclose(found, expected[off] if place == 0 else expected, **CLOSE)
    if not weighted:
        expected = by_derivative(lambda w: correlation(errors, w)[4], n, None, group)
        assert effective_number(errors, groups=group).se == pytest.approx(expected, rel=1e-5)
        if not grouped:
            expected = by_derivative(lambda w: correlation(errors, w)[1], n)
            np.testing.assert_allclose(error_covariance(errors, kind="covariance").se, expected, **CLOSE)


def agreement(answers, truth, options, pairwise, weight):
    """Six statistics of the pair (0, 1), and the pooled share of the same wrong answer."""
    said, right = answers >= 0, answers == truth[:, None]
    both = (said[:, 0] & said[:, 1]) * weight
    w = both if pairwise else weight
    i, j = ~right[:, 0], ~right[:, 1]

    def share(event, of):
        return (of * event).sum() / of.sum()

    a, b, fault = share(i, w), share(j, w), share(i & j, w)
    agree = share(i == j, w)
    chance = a * b + (1 - a) * (1 - b)
    q, r, same = share(~i, both), share(~j, both), share(answers[:, 0] == answers[:, 1], both)
    guessed = q * r + (1 - q) * (1 - r) / (options - 1)
    wrong = said & ~right
    found = total = 0.0
    for first in range(answers.shape[1]):
        for second in range(first + 1, answers.shape[1]):
            joint = weight * (wrong[:, first] & wrong[:, second])
            found += (joint * (answers[:, first] == answers[:, second])).sum()
            total += joint.sum()
    return np.array([
        (fault - a * b) / np.sqrt(a * (1 - a) * b * (1 - b)),
        (agree - chance) / (1 - chance),
        1 - agree,
        fault,
        (same - guessed) / (1 - guessed),
        share(answers[:, 0] == answers[:, 1], both * (i & j)),
        found / total,
    ])  # fmt: skip


@pytest.mark.parametrize("abstain", ["wrong", "pairwise"])
@pytest.mark.parametrize("silent", [0.0, 0.2])
@pytest.mark.parametrize("grouped", [False, True])
def test_agreement(abstain, silent, grouped):
    rng = np.random.default_rng(21)
    n, k = 40, 4
    truth = rng.integers(0, k, n)
    answers = np.where(rng.random((n, 3)) < 0.45, truth[:, None], rng.integers(0, k, (n, 3)))
    answers[rng.random((n, 3)) < silent] = -1
    group = rng.integers(0, 9, n) if grouped else None
    result = error_agreement(answers, truth, n_options=k, groups=group, abstain=abstain)

    def estimates(weight):
        return agreement(answers, truth, k, abstain == "pairwise", weight)

    value, se = estimates(np.ones(n)), by_derivative(estimates, n, None, group)
    names = ("phi", "kappa", "disagreement", "double_fault", "capa", "same_wrong")
    for at, name in enumerate(names):
        assert getattr(result, name)[0, 1] == pytest.approx(value[at], rel=1e-10), name
        assert result.se[name][0, 1] == pytest.approx(se[at], rel=1e-5), name
    assert result.mean["same_wrong_pooled"] == pytest.approx(value[-1], rel=1e-12)
    assert result.se["same_wrong_pooled"] == pytest.approx(se[-1], rel=1e-5)
