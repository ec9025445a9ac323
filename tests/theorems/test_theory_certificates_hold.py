"""Certificates hold for weights chosen on the same samples, where the fixed-rule certificate does not."""

import numpy as np
import pytest

from theory import certificate, correlated_panel, error_covariance, is_weighting_worth_it


@pytest.mark.parametrize("runs", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_weights_chosen_on_the_samples(runs):
    """Forty specialists of error 0.3; the best one of 60 samples is taken, then certified on them."""
    m, n, error, delta = 40, 60, 0.3, 0.05
    fixed, chosen = [], []
    for seed in range(runs):
        wrong = (np.random.default_rng(seed).random((n, m)) < error).astype(int)
        best = int(wrong.sum(axis=0).argmin())
        fixed.append(certificate(wrong[:, best], delta=delta).value < error)
        weights = np.eye(m)[best]
        values = [certificate(wrong, weights=weights, form=form, delta=delta) for form in
                  ("first_order", "second_order", "cantelli")]  # fmt: skip
        # The certified mean error is the claim; the vote of one specialist errs as often as it does.
        chosen.append(min(values[0].parts["mean_error"], *(one.value for one in values)) < error)
    assert np.mean(fixed) > 0.5
    assert np.mean(chosen) <= delta + 3 * np.sqrt(delta * (1 - delta) / runs)


def test_certified_moments_are_rarely_too_small():
    """Correlated specialists, weights by their own accuracy on the samples: R and T of the law are bounded."""
    runs, n, m = 300, 300, 8
    failed = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        p = np.linspace(0.6, 0.8, m)
        common = rng.random((n, 1)) < 0.3
        right = np.where(common, rng.random((n, 1)) < p, rng.random((n, m)) < p)
        wrong = (~right).astype(int)
        weights = right.mean(axis=0) ** 8
        weights /= weights.sum()
        parts = certificate(wrong, weights=weights, delta=0.1).parts
        q = 1 - p
        tandem = 0.3 * np.minimum.outer(q, q) + 0.7 * np.outer(q, q)
        np.fill_diagonal(tandem, q)
        risk, second = weights @ q, weights @ tandem @ weights
        failed.append(
            not (parts["mean_error_least"] <= risk <= parts["mean_error"] and second <= parts["tandem"])
        )
    assert np.mean(failed) <= 0.1 + 3 * np.sqrt(0.09 / runs)


@pytest.mark.parametrize(("m", "n"), [(5, 20), (20, 60)])
def test_what_estimating_weights_costs(m, n):
    """In-sample V* (n - M + 1) / n and out-of-sample V* (n - 1) / (n - M), within four standard errors."""
    c = 0.4 + np.diag(np.linspace(0.3, 2.0, m))
    best = 1 / np.linalg.inv(c).sum()
    root = np.linalg.cholesky(c)
    inside, outside = [], []
    for seed in range(1500):
        e = np.random.default_rng([seed, m]).normal(size=(n, m)) @ root.T
        s = e.T @ e / n
        w = np.linalg.solve(s, np.ones(m))
        w /= w.sum()
        inside.append(w @ s @ w)
        outside.append(w @ c @ w)
    for found, factor in ((inside, (n - m + 1) / n), (outside, (n - 1) / (n - m))):
        assert abs(np.mean(found) - best * factor) < 4 * np.std(found) / np.sqrt(1500)


def test_the_verdict_agrees_with_what_happens():
    """Whether estimated weights beat equal ones out of sample: the verdict is right more often than not."""
    right = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        m, n = int(rng.integers(3, 10)), int(rng.integers(30, 200))
        scale = 1 + rng.uniform(0, 1.5) * rng.random(m)
        drawn = correlated_panel(n, m, rho=float(rng.uniform(0, 0.6)), scale=scale, seed=seed)
        e = drawn.errors[:, :, 0]
        w = np.linalg.solve(error_covariance(e).value, np.ones(m))
        w /= w.sum()
        pays = w @ drawn.covariance @ w < drawn.covariance.mean()
        right.append(is_weighting_worth_it(e).worth_it == pays)
    assert np.mean(right) > 0.75
