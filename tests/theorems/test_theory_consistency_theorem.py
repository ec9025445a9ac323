"""The consistency theorem on random laws, by enumeration: no independence, no normal law."""

import numpy as np
import pytest

from theory import consistency_bound


def random_law(rng, d, k, near):
    """A law on k^d cells, and another one near it."""
    p = rng.dirichlet(np.full(k**d, 0.5)).reshape((k,) * d)
    q = p ** rng.uniform(0.2, 1.0) * rng.gamma(near, size=p.shape)
    return p, q / q.sum()


def conditional_exponent(p, q, view):
    """Smallest c_k over earlier views of positive probability: -2 ln of the largest conditional affinity."""
    d = p.ndim
    tail = tuple(range(view + 1, d))
    up, uq = p.sum(axis=tail), q.sum(axis=tail)
    before_p, before_q = up.sum(axis=view), uq.sum(axis=view)
    affinity = np.sqrt(up * uq).sum(axis=view) / np.sqrt(before_p * before_q)
    return -2 * np.log(affinity[(before_p > 0) & (before_q > 0)].max())


@pytest.mark.parametrize("seed", range(60))
def test_theorem_on_random_discrete_laws(seed):
    rng = np.random.default_rng(seed)
    d, k = int(rng.integers(2, 6)), int(rng.integers(2, 4))
    p, q = random_law(rng, d, k, near=rng.uniform(0.3, 3))
    pi = rng.dirichlet([2.0, 2.0])
    bayes = np.minimum(pi[0] * q, pi[1] * p).sum()
    c = np.maximum([conditional_exponent(p, q, view) for view in range(1, d)], 0.0)
    first = np.sqrt(p.sum(axis=tuple(range(1, d))) * q.sum(axis=tuple(range(1, d)))).sum()
    each = consistency_bound(c=c, priors=pi, first_affinity=min(first, 1.0))
    worst = consistency_bound(d=d, c=c.min(), priors=pi, first_affinity=min(first, 1.0))
    assert bayes <= each.value + 1e-12 <= worst.value + 2e-12
    assert worst.value <= np.exp(-(d - 1) * c.min() / 2)


def test_the_condition_is_needed_for_almost_all_pasts():
    """The exponent of the best past in place of the worst: the claimed bound then fails for some law."""
    failures = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        p, q = random_law(rng, 3, 2, near=0.3)
        bayes = 0.5 * np.minimum(p, q).sum()
        best = []
        for view in (1, 2):
            tail = tuple(range(view + 1, 3))
            up, uq = p.sum(axis=tail), q.sum(axis=tail)
            affinity = np.sqrt(up * uq).sum(axis=view) / np.sqrt(up.sum(axis=view) * uq.sum(axis=view))
            best.append(-2 * np.log(affinity.min()))
        failures += bayes > consistency_bound(c=np.maximum(best, 0.0)).value
    assert failures > 0


@pytest.mark.parametrize(("d", "error"), [(2, 0.242), (5, 0.059), (10, 0.0086)])
def test_normal_views_err_as_computed_and_below_the_bound(d, error):
    rng = np.random.default_rng(d)
    n, rho = 200_000, 0.9
    matrix = np.full((d, d), rho) + (1 - rho) * np.eye(d)
    root = np.linalg.cholesky(matrix)
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, d))
    x[y == 1] = x[y == 1] @ root.T
    z = np.linalg.solve(root, x.T)
    score = -0.5 * (z**2).sum(axis=0) - np.log(root.diagonal()).sum() + 0.5 * (x**2).sum(axis=1)
    measured = np.mean((score > 0) != y)
    slack = 4 * np.sqrt(error / n)
    assert abs(measured - error) < slack + 5e-4
    bound = consistency_bound(d=d, rho=rho)
    assert bound.lower - slack <= measured <= bound.value + slack


def test_one_view_alone_is_useless():
    """Authentic and fake views have the same margins: no rule on one view beats a coin."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=100_000), rng.integers(0, 2, 100_000)
    for cut in (-1.0, 0.0, 1.0):
        assert abs(np.mean((x > cut) != y) - 0.5) < 0.01
