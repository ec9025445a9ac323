"""Price intervals under sorting rules, weighted votes and optimal weights cover the price of the law."""

import numpy as np
import pytest

from theory import correlated_panel, difficulty_panel, price

FAST, LONG = 300, 2000
RUNS = [pytest.param(FAST, id="fast"), pytest.param(LONG, id="long", marks=pytest.mark.slow)]
SCALE = np.array([1.0, 1.0, 1.2, 0.8, 2.0])


def check(inside, runs):
    """2000 runs must lie in [.91, .97]; fewer get three standard errors of room on top."""
    slack = 0.0 if runs == LONG else 3 * np.sqrt(0.05 * 0.95 / runs)
    share = np.mean(inside, axis=0)
    assert (share >= 0.91 - slack).all() and (share <= 0.97 + slack).all(), share


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(
    "terms",
    [{"game": "median"}, {"game": "trimmed", "n_byzantine": 1, "quorum": 3}],
    ids=["median", "trimmed"],
)
def test_sorting_rules(runs, terms):
    many = correlated_panel(400_000, 5, rho=0.3, scale=SCALE, seed=10**6).errors
    truth = price(many, v0=2.0, **terms).value
    inside = []
    for seed in range(runs):
        found = price(correlated_panel(200, 5, rho=0.3, scale=SCALE, seed=seed).errors, v0=2.0, **terms)
        inside.append((found.ci[0] <= truth) & (truth <= found.ci[1]))
    check(inside, runs)


@pytest.mark.parametrize("runs", RUNS)
def test_weighted_majority(runs):
    weights = [3, 2, 2, 1, 1]
    many = difficulty_panel(400_000, 5, seed=10**6)
    truth = price(many.correct, game="weighted_majority", weights=weights, v0=0.5).value
    inside = []
    for seed in range(runs):
        drawn = difficulty_panel(200, 5, seed=seed).correct
        found = price(drawn, game="weighted_majority", weights=weights, v0=0.5)
        inside.append((found.ci[0] <= truth) & (truth <= found.ci[1]))
    check(inside, runs)


@pytest.mark.slow
def test_optimal_weights():
    """The bootstrap of a plug-in price; its optimism, of order M / n, is a small part of the interval at n = 400."""
    runs, inside = 500, []
    truth = price(correlated_panel(1, 4, rho=0.3, scale=SCALE[:4]).covariance, game="gls", v0=2.0).value
    for seed in range(runs):
        errors = correlated_panel(400, 4, rho=0.3, scale=SCALE[:4], seed=seed).errors
        found = price(errors, game="gls", v0=2.0, seed=seed)
        inside.append((found.ci[0] <= truth) & (truth <= found.ci[1]))
    check(inside, runs)
