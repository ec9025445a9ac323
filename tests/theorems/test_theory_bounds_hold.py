"""Bounds hold: simulated errors lie between the lower and the upper bound."""

import numpy as np
import pytest

from theory import bhattacharyya, certificate, difficulty_panel, vote_bounds, vote_error


@pytest.mark.parametrize("rho", [-0.2, 0.0, 0.42, 0.9])
@pytest.mark.parametrize("common", [True, False])
def test_bayes_error_of_normal_answers(rho, common):
    """The likelihood-ratio rule is optimal; its simulated error lies within the bounds, 4 standard errors."""
    m, n = 4, 40_000
    rng = np.random.default_rng(0)
    c0 = np.full((m, m), rho) + (1 - rho) * np.eye(m)
    c1 = c0 if common else 2.0 * np.eye(m) + 0.3
    mu = np.array([np.zeros(m), [1.0, 0.5, 0.8, 0.2]])
    prior = np.array([0.4, 0.6])
    bound = bhattacharyya(means=mu, covariance=np.stack([c0, c1]), priors=prior)
    y = (rng.random(n) < prior[1]).astype(int)
    roots = np.linalg.cholesky(np.stack([c0, c1]))
    x = mu[y] + np.einsum("nij,nj->ni", roots[y], rng.normal(size=(n, m)))
    score = []
    for k, c in enumerate((c0, c1)):
        z = np.linalg.solve(np.linalg.cholesky(c), (x - mu[k]).T)
        score.append(np.log(prior[k]) - 0.5 * np.linalg.slogdet(c)[1] - 0.5 * (z**2).sum(axis=0))
    error = np.mean(np.argmax(score, axis=0) != y)
    slack = 4 * np.sqrt(error * (1 - error) / n)
    assert bound.lower - slack <= error <= bound.parts["chernoff"] + slack
    assert bound.parts["chernoff"] <= bound.value + 1e-12


def test_vote_error_is_what_simulation_finds():
    drawn = difficulty_panel(40_000, 11, accuracy=0.72, rho=0.2, seed=0)
    lead = drawn.correct.sum(axis=1)
    error = np.mean(lead < 6)
    exact = vote_error(0.72, n_specialists=11, rho=0.2)
    assert abs(error - exact.value) < 4 * np.sqrt(error * (1 - error) / 40_000)
    bound = vote_bounds(drawn.correct)
    assert bound.value + 4 * bound.se >= error


@pytest.mark.parametrize("runs", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_certificate_fails_as_rarely_as_it_says(runs):
    rng = np.random.default_rng(0)
    limits = [certificate((rng.random(400) < 0.1).astype(int), delta=0.05).value for _ in range(runs)]
    failed = np.mean(np.array(limits) < 0.1)
    assert failed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    assert np.mean(limits) < 0.14


def test_plurality_of_many_options_obeys_the_bounds():
    drawn = difficulty_panel(20_000, 9, accuracy=0.7, rho=0.1, n_options=5, seed=1)
    votes = (drawn.answers[:, :, None] == np.arange(5)).sum(axis=1)
    own = votes[np.arange(20_000), drawn.y]
    error = np.mean(own < np.sort(votes, axis=1)[:, -1])
    assert vote_bounds(drawn.correct).value >= error
