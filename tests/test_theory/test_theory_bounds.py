"""Bounds: against enumeration, quadrature and each other."""

import numpy as np
import pytest
from enumeration import beta_binomial_error, vote_error_enumerated
from hypothesis import given
from hypothesis import strategies as st

from theory import PanelError, bhattacharyya, certificate, vote_bounds, vote_error

ACCURACIES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=9)


@given(ACCURACIES)
def test_poisson_binomial(p):
    assert vote_error(p).value == pytest.approx(vote_error_enumerated(p), abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6)), min_size=1, max_size=8))
def test_weighted_vote(pairs):
    p, w = zip(*pairs, strict=True)
    if any(w):
        assert vote_error(p, weights=w).value == pytest.approx(vote_error_enumerated(p, w), abs=1e-12)


@pytest.mark.parametrize("m", [1, 2, 11, 30])
@pytest.mark.parametrize("rho", [0.05, 0.419, 0.9])
def test_exchangeable_vote(m, rho):
    result = vote_error(0.72, n_specialists=m, rho=rho)
    assert result.value == pytest.approx(beta_binomial_error(m, 0.72, rho), abs=1e-12)


def test_published_numbers():
    assert vote_error(0.72, n_specialists=11, rho=0.419).value == pytest.approx(0.244, abs=5e-4)
    assert vote_error(0.72, n_specialists=1001, rho=0.419).value == pytest.approx(0.2365, abs=5e-5)
    assert vote_error(0.72, n_specialists=71, rho=0.419).value == pytest.approx(0.238, abs=5e-4)
    endless = vote_error(0.72, n_specialists=20_001, rho=0.419)
    assert endless.value == pytest.approx(endless.parts["limit"], abs=1e-4)
    assert vote_error(0.72, n_specialists=5, rho=0.0).value == pytest.approx(vote_error([0.72] * 5).value)


def exchangeable_table(p, rho, m, n=40_000, seed=0):
    rng = np.random.default_rng(seed)
    size = (1 - rho) / rho
    easy = rng.beta(p * size, (1 - p) * size, n)
    return (rng.random((n, m)) < easy[:, None]).astype(int)


def test_bounds_on_correlated_votes():
    table = exchangeable_table(0.72, 0.419, 71)
    result = vote_bounds(table)
    assert result.parts["cantelli"] == pytest.approx(0.640, abs=0.02)
    assert result.parts["tandem"] == pytest.approx(0.658, abs=0.02)
    assert result.parts["first_order"] == pytest.approx(0.56, abs=0.01)
    assert result.method == "first_order" and result.value >= 0.238


@given(st.integers(1, 9), st.integers(0, 10**6))
def test_bounds_hold_on_every_table(m, seed):
    """The moments are those of the table, so the bounds hold for its own votes without any slack."""
    rng = np.random.default_rng(seed)
    hard = rng.random((40, 1)) * rng.random()
    table = (rng.random((40, m)) > hard).astype(int)
    w = rng.dirichlet(np.ones(m))
    result = vote_bounds(table, weights=w)
    wrong = (1 - table) @ w
    error = np.mean(wrong >= 0.5 - 1e-12)
    for name in ("cantelli", "tandem", "first_order"):
        assert result.parts[name] >= error - 1e-12
    assert result.value == min(result.parts.values())
    r, t = wrong.mean(), np.mean(wrong**2)
    if r < 0.5:
        d = 2 * (r - t)
        assert result.parts["cantelli"] == pytest.approx(1 - (1 - 2 * r) ** 2 / (1 - 2 * d), abs=1e-10)
        assert result.parts["cantelli"] <= result.parts["tandem"] + 1e-12
        shifts = np.linspace(-5, 0.499, 4000)
        shifted = (t - 2 * shifts * r + shifts**2) / (0.5 - shifts) ** 2
        assert result.parts["cantelli"] <= shifted.min() + 1e-12


def test_standard_error_of_bounds():
    values = {"cantelli": [], "first_order": []}
    quoted = {"cantelli": [], "first_order": []}
    for seed in range(150):
        for method, p, rho in (("cantelli", 0.85, 0.05), ("first_order", 0.8, 0.6)):
            result = vote_bounds(exchangeable_table(p, rho, 9, n=300, seed=seed))
            assert result.method == method
            values[method].append(result.value)
            quoted[method].append(result.se)
    for method in values:
        assert np.mean(quoted[method]) == pytest.approx(np.std(values[method]), rel=0.2)


@given(st.lists(st.floats(0.55, 0.99), min_size=1, max_size=9))
def test_independent_bounds(p):
    result = vote_bounds(p, assume="independent")
    exact = vote_error_enumerated(p)
    assert result.value >= exact - 1e-12
    assert result.parts["hoeffding"] >= exact - 1e-12
    best = 0.5 * sum(
        min(np.prod(np.where(bits, p, 1 - np.array(p))), np.prod(np.where(bits, 1 - np.array(p), p)))
        for bits in np.ndindex(*(2,) * len(p))
    )
    assert result.parts["optimal_lower"] <= best + 1e-12
    assert best <= result.parts["optimal_product"] + 1e-12
    assert best <= result.parts["optimal_upper"] + 1e-12
    assert "shared" in result.warnings[0] or "share hard samples" in result.warnings[0]


def test_clopper_pearson():
    from scipy.stats import binom

    for k, n in ((0, 20), (3, 20), (20, 20), (500, 5000)):
        wrong = np.zeros(n)
        wrong[:k] = 1
        result = certificate(wrong, delta=0.05)
        assert result.parts["observed"] == k / n
        if k < n:
            assert binom.cdf(k, n, result.value) == pytest.approx(0.05, rel=1e-9)
        else:
            assert result.value == 1.0
        if k:
            assert binom.sf(k - 1, n, result.lower) == pytest.approx(0.05, rel=1e-9)
    assert "fixed" in result.summary()


# ---- overlap of classes


def test_normal_distance_by_quadrature():
    from scipy.integrate import dblquad
    from scipy.stats import multivariate_normal

    mu = np.array([[0.0, 0.0], [1.0, -0.5]])
    s = np.array([[[1.0, 0.3], [0.3, 2.0]], [[0.5, -0.2], [-0.2, 1.0]]])
    p, q = (multivariate_normal(m, c).pdf for m, c in zip(mu, s, strict=True))
    overlap = dblquad(lambda y, x: np.sqrt(p([x, y]) * q([x, y])), -8, 8, -9, 9, epsabs=1e-9)[0]
    result = bhattacharyya(means=mu, covariance=s, priors=[0.3, 0.7])
    assert result.coefficient == pytest.approx(overlap, abs=1e-7)
    assert result.distance == pytest.approx(-np.log(overlap), abs=1e-7)
    assert result.parts["bhattacharyya"] == pytest.approx(np.sqrt(0.21) * overlap, abs=1e-7)
    assert result.value == pytest.approx(0.3)  # guessing the likelier class is better than the bound says
    t = result.parts["chernoff_t"]
    at_t = dblquad(lambda y, x: p([x, y]) ** (1 - t) * q([x, y]) ** t, -8, 8, -9, 9, epsabs=1e-9)[0]
    assert result.parts["chernoff"] == pytest.approx(min(0.3 ** (1 - t) * 0.7**t * at_t, 0.3), abs=1e-7)
    assert result.parts["chernoff"] <= result.value + 1e-12
    error = dblquad(lambda y, x: min(0.3 * p([x, y]), 0.7 * q([x, y])), -8, 8, -9, 9, epsabs=1e-6)[0]
    assert result.lower <= error <= result.parts["chernoff"]


@pytest.mark.parametrize("m", [5, 1000])
def test_correlated_specialists_saturate(m):
    c = np.full((m, m), 0.42) + 0.58 * np.eye(m)
    result = bhattacharyya(means=np.stack([np.zeros(m), np.ones(m)]), covariance=c)
    effective = m / (1 + (m - 1) * 0.42)
    assert result.distance == pytest.approx(effective / 8, rel=1e-9)
    assert result.value == pytest.approx({5: 0.396, 1000: 0.371}[m], abs=5e-4)
    assert result.parts["joint_over_independent"] == pytest.approx(effective / m, rel=1e-9)


@pytest.mark.parametrize(("rho", "distance"), [(0.0, 0.25), (0.5, 0.5), (0.9, 2.5)])
def test_correlation_can_help(rho, distance):
    c = [[1.0, rho], [rho, 1.0]]
    means = [[0.0, 0.0], [1.0, -1.0]]
    assert bhattacharyya(means=means, covariance=c).distance == pytest.approx(distance)
    assert bhattacharyya(means=means, covariance=c, assume="independent").distance == pytest.approx(0.25)


def test_confusion_adds_over_independent_specialists():
    rng = np.random.default_rng(0)
    theta = rng.dirichlet(np.ones(3), (2, 3))
    counts = np.round(theta * 1e6)
    both = bhattacharyya(
        confusion=counts, assume="independent", smoothing=0, priors=[1 / 3] * 3, n_bootstrap=0
    )
    alone = [bhattacharyya(confusion=c, smoothing=0, priors=[1 / 3] * 3, n_bootstrap=0).pairs for c in counts]
    np.testing.assert_allclose(both.pairs, alone[0] * alone[1], rtol=1e-12)
    joint = np.einsum("al,am->alm", counts[0], counts[1]).reshape(3, 9)
    np.testing.assert_allclose(
        bhattacharyya(confusion=joint, smoothing=0, priors=[1 / 3] * 3, n_bootstrap=0).pairs,
        both.pairs,
        rtol=1e-4,
    )
    assert "optimistic" in both.warnings[0]


@given(st.integers(2, 5), st.integers(2, 4), st.integers(0, 10**6))
def test_bayes_error_lies_between(k, answers, seed):
    rng = np.random.default_rng(seed)
    theta, prior = rng.dirichlet(np.full(answers, 0.5), k), rng.dirichlet(np.ones(k) * 2)
    counts = np.round(theta * 1e9) + 1
    theta = counts / counts.sum(axis=1, keepdims=True)
    error = 1 - (prior[:, None] * theta).max(axis=0).sum()
    result = bhattacharyya(confusion=counts, priors=prior, smoothing=0, n_bootstrap=0)
    assert result.lower - 1e-9 <= error <= result.value + 1e-9
    assert result.value <= 1 - prior.max() + 1e-12
    if k == 2:
        assert error <= result.parts["chernoff"] + 1e-9


def test_jeffreys_is_less_optimistic_and_the_interval_covers():
    # Two specialists of four answers; the truth is known, the tables hold 30 samples per class.
    rng = np.random.default_rng(0)
    theta = rng.dirichlet(np.ones(8), (3, 2))
    truth = np.prod(np.sqrt(theta[:, 0] * theta[:, 1]).sum(axis=1)) / 2
    plain, smooth, covered = [], [], []
    for seed in range(60):
        draws = np.random.default_rng(seed)
        counts = np.array([[draws.multinomial(30, row) for row in table] for table in theta])
        terms = {"confusion": counts, "assume": "independent", "priors": [0.5, 0.5]}
        plain.append(bhattacharyya(**terms, smoothing=0, n_bootstrap=0).value)
        result = bhattacharyya(**terms, n_bootstrap=100)
        smooth.append(result.value)
        covered.append(result.ci[1] >= truth)
    assert np.mean(plain) < truth and abs(np.mean(smooth) - truth) < abs(np.mean(plain) - truth)
    assert np.mean(covered) >= 0.9


def test_posterior_route():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40_000)
    x = rng.normal(size=40_000) + 2.0 * y
    eta = 1 / (1 + np.exp(-(2 * x - 2)))
    posterior = np.stack([1 - eta, eta], axis=1)
    result = bhattacharyya(posterior=posterior, y=y)
    normal = bhattacharyya(means=[[0.0], [2.0]], covariance=[[1.0]])
    assert result.value == pytest.approx(normal.value, abs=4 * result.se)
    assert result.ci[0] < normal.value < result.ci[1]
    assert result.distance == pytest.approx(0.5, abs=0.02)
    assert result.parts["chernoff"] == pytest.approx(normal.parts["chernoff"], abs=0.01)
    assert result.parts["bayes_error"] == pytest.approx(0.1587, abs=0.01)
    assert result.lower <= result.parts["bayes_error"] <= result.value
    assert result.parts["calibration_error"] < 0.01
    shouting = posterior**3 / (posterior**3).sum(axis=1, keepdims=True)
    assert bhattacharyya(posterior=shouting, y=y).parts["calibration_error"] > 0.05
    assert "was not measured" in bhattacharyya(posterior=posterior).warnings[0]


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        ({}, "exactly one of"),
        ({"means": [[0.0], [1.0]]}, "belong together"),
        ({"means": [[0.0], [1.0]], "covariance": [[1.0]], "posterior": [[0.5, 0.5]] * 2}, "exactly one of"),
        ({"means": [[0.0], [1.0]], "covariance": np.eye(2)}, "covariance must have shape"),
        ({"means": [[0.0], [1.0]], "covariance": [[1.0]], "priors": [1.0, 0.0]}, "positive numbers"),
        ({"means": [[0.0], [1.0]], "covariance": [[1.0]], "y": [0, 1]}, "belongs to posterior"),
        ({"means": [[0.0, 0.0], [1.0, 1.0]], "covariance": np.ones((2, 2))}, "singular"),
        ({"means": [[0.0, 0.0]], "covariance": np.eye(2)}, "2 or more classes"),
        ({"confusion": np.ones((2, 2, 2))}, "assume='independent'"),
        ({"confusion": [[1, 2], [0, 0]]}, "class 1 has no samples"),
        ({"confusion": [[1, -2], [1, 1]]}, ">= 0"),
        ({"confusion": [[1, 2], [1, 1]], "smoothing": -1}, "smoothing"),
        ({"posterior": [[0.5, 0.6]] * 3}, "sum 1"),
        ({"posterior": [[0.5, 0.5]] * 3, "priors": [0.5, 0.5]}, "leave priors out"),
        ({"posterior": [[0.5, 0.5]] * 3, "y": [0, 1, 2]}, "holds code 2"),
    ],
)
def test_bad_overlaps(terms, text):
    with pytest.raises(PanelError, match=text):
        bhattacharyya(**terms)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: vote_error([0.5, 1.5]), r"in \[0, 1\]"),
        (lambda: vote_error([0.5, 0.6], n_specialists=3), "one accuracy and a size"),
        (lambda: vote_error([0.5, 0.6], rho=0.2), "give one accuracy for all"),
        (lambda: vote_error(0.5, n_specialists=3, rho=1.0), r"lies in \[0, 1\)"),
        (lambda: vote_error(0.5, n_specialists=3, rho=0.1, weights=[1, 1, 1]), "leave weights out"),
        (lambda: vote_error([0.5, 0.6], weights=[0.5, 0.5]), "Multiply and round"),
        (lambda: vote_bounds([[1, 2]]), "0 and 1 only"),
        (lambda: vote_bounds([[1, np.nan]]), "0 and 1 only"),
        (lambda: vote_bounds([0.7, 0.8]), "assume='independent'"),
        (lambda: vote_bounds([[1, 0]], weights=[2.0, -1.0]), "weights >= 0"),
        (lambda: vote_bounds([[1, 0]], weights=[0.5, 0.6]), "sum to 1"),
        (lambda: certificate([0, 2]), "0 and 1 only"),
        (lambda: certificate([[0, 1]]), "8 or more"),
        (lambda: certificate([[[0, 1]]]), "one 0 or 1 per sample"),
        (lambda: certificate([0, 1], delta=0.0), "between 0 and 1"),
    ],
)
def test_bad_votes(call, text):
    with pytest.raises(PanelError, match=text):
        call()
