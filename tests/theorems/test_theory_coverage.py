"""Intervals cover: simulations with a known truth, a short and a long version."""

import numpy as np
import pytest

from theory import (
    correlated_panel,
    difficulty_panel,
    effective_number,
    error_agreement,
    error_correlation,
    price,
)

FAST, LONG = 300, 2000
RUNS = [pytest.param(FAST, id="fast"), pytest.param(LONG, id="long", marks=pytest.mark.slow)]


def check(inside, runs):
    """2000 runs must lie in [.91, .97]; 300 runs get three standard errors of room on top."""
    slack = 0.0 if runs == LONG else 3 * np.sqrt(0.05 * 0.95 / runs)
    assert 0.91 - slack <= np.mean(inside) <= 0.97 + slack, np.mean(inside)


def covers(ci, truth):
    return ci[0] <= truth <= ci[1]


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("law", ["normal", "student"])
def test_correlation_and_effective_number(runs, law):
    m, rho, n = 4, 0.4, 300
    pair, mean, pooled, number = [], [], [], []
    for seed in range(runs):
        errors = correlated_panel(n, m, rho=rho, seed=seed).errors[:, :, 0]
        if law == "student":
            # A common scale makes the t law of all specialists, 5 degrees of freedom.
            errors = errors / np.sqrt(np.random.default_rng([seed, 1]).chisquare(5, (n, 1)) / 5)
        result = error_correlation(errors)
        pair.append(covers(result.ci[:, 0, 1], rho))
        mean.append(covers(result.rho_mean_ci, rho))
        pooled.append(covers(result.rho_pooled_ci, rho))
        number.append(covers(effective_number(errors).ci, m / (1 + (m - 1) * rho)))
    for inside in (pair, mean, pooled, number):
        check(inside, runs)


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("rate", [0.28, 0.05])
def test_errors_of_classifiers_where_fisher_fails(runs, rate):
    n, rho = 300, 0.4
    ours, kappa, fisher = [], [], []
    for seed in range(runs):
        drawn = difficulty_panel(n, 2, accuracy=1 - rate, rho=rho, seed=seed)
        wrong = (~drawn.correct).astype(float)
        if np.ptp(wrong, axis=0).min() == 0:
            continue
        result = error_correlation(wrong)
        ours.append(covers(result.ci[:, 0, 1], rho))
        agreement = error_agreement(drawn.answers, drawn.y, n_options=4)
        kappa.append(covers(agreement.ci["kappa"][:, 0, 1], rho))  # equal error rates: kappa is rho too
        half = 1.96 / np.sqrt(n - 3)
        r = np.arctanh(np.clip(result.value[0, 1], -0.999999, 0.999999))
        fisher.append(np.tanh(r - half) <= rho <= np.tanh(r + half))
    if rate > 0.1 or runs == LONG:
        check(ours, runs)
        check(kappa, runs)
    assert np.mean(fisher) < (0.70 if rate < 0.1 else 0.93)


@pytest.mark.parametrize("runs", RUNS)
def test_prices(runs):
    m, rho, n = 5, 0.3, 200
    scale = np.array([1.0, 1.0, 1.2, 0.8, 2.0])
    truth = correlated_panel(1, m, rho=rho, scale=scale).covariance
    expected = price(truth, v0=2.0).value
    single, votes = [], []
    many = difficulty_panel(200_000, m, seed=10**6)
    worth = price(many.answers, y=many.y, game="plurality", v0=0.75).value.mean()  # exchangeable specialists
    for seed in range(runs):
        errors = correlated_panel(n, m, rho=rho, scale=scale, seed=seed).errors
        result = price(errors, v0=2.0)
        single.append((result.ci[0] <= expected) & (expected <= result.ci[1]))
        drawn = difficulty_panel(n, m, seed=seed)
        votes.append(covers(price(drawn.answers, y=drawn.y, game="plurality", v0=0.75).ci[:, 0], worth))
    for i in range(m):
        check(np.array(single)[:, i], runs)
    check(votes, runs)


@pytest.mark.parametrize("runs", RUNS)
def test_groups_cover_where_samples_repeat(runs):
    """Each sample three times over: intervals that ignore it are too narrow."""
    rho, honest, naive = 0.4, [], []
    for seed in range(runs):
        errors = np.repeat(correlated_panel(100, 3, rho=rho, seed=seed).errors[:, :, 0], 3, axis=0)
        honest.append(covers(error_correlation(errors, groups=np.arange(300) // 3).ci[:, 0, 1], rho))
        naive.append(covers(error_correlation(errors).ci[:, 0, 1], rho))
    check(honest, runs)
    assert np.mean(naive) < 0.85
