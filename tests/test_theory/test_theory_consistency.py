"""Chernoff and consistency: against quadrature, eigenvalues and each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from theory import PanelError, bhattacharyya, chernoff, consistency_bound


def normal(x, mu, sd):
    return np.exp(-(((x - mu) / sd) ** 2) / 2) / sd / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_chernoff_of_two_normal_laws_is_the_integral(t):
    ours = chernoff(means=[[0.0], [1.0]], covariance=[[[1.0]], [[4.0]]], priors=[0.3, 0.7], t=t)
    integral = quad(lambda x: normal(x, 0, 1) ** (1 - t) * normal(x, 1, 2) ** t, -40, 40, epsabs=1e-13)[0]
    assert ours.parts["chernoff"] == pytest.approx(0.3 ** (1 - t) * 0.7**t * integral, rel=1e-9)
    assert ours.coefficient == pytest.approx(integral, rel=1e-9)


def test_best_t_is_the_minimum_over_a_grid():
    source = {"means": [[0.0, 0.0], [2.0, 0.3]], "covariance": [np.eye(2), [[3.0, 0.5], [0.5, 0.4]]]}
    best = chernoff(**source, priors=[0.45, 0.55])
    grid = [
        chernoff(**source, priors=[0.45, 0.55], t=t).parts["chernoff"] for t in np.linspace(0.01, 0.99, 99)
    ]
    assert best.parts["chernoff"] <= min(grid) + 1e-12
    assert best.parts["chernoff"] == pytest.approx(min(grid), rel=1e-4)
    half = bhattacharyya(**source, priors=[0.45, 0.55])
    assert best.value <= half.value and best.lower == half.lower
    assert half.parts["chernoff"] == pytest.approx(best.value)
    rate = max(chernoff(**source, t=t).distance for t in np.linspace(0.01, 0.99, 99))
    assert best.parts["information"] == pytest.approx(rate, rel=1e-4)


def test_exponents_of_independent_tables_add_at_a_common_t():
    tables = np.array([[[80, 20], [40, 60]], [[30, 70], [5, 95]]])
    each = [chernoff(confusion=one, t=0.3, n_bootstrap=0).distance for one in tables]
    both = chernoff(confusion=tables, assume="independent", t=0.3, n_bootstrap=0)
    assert both.distance == pytest.approx(sum(each), rel=1e-12)
    own = [chernoff(confusion=one, n_bootstrap=0).parts["information"] for one in tables]
    joint = chernoff(confusion=tables, assume="independent", n_bootstrap=0).parts["information"]
    assert joint < sum(own) - 1e-4


def test_chernoff_of_tables_bounds_the_bayes_error_by_enumeration():
    rng = np.random.default_rng(0)
    for _ in range(40):
        theta = rng.dirichlet(np.ones(3), size=(3, 2)) * 1e6
        prior = rng.dirichlet([2.0, 2.0])
        bound = chernoff(confusion=theta, assume="independent", priors=prior, smoothing=0, n_bootstrap=0)
        p = theta / theta.sum(axis=2, keepdims=True)
        joint = np.einsum("ka,kb,kc->kabc", p[0], p[1], p[2]) * prior[:, None, None, None]
        bayes = joint.min(axis=0).sum()
        assert bound.lower - 1e-12 <= bayes <= bound.value + 1e-12


def test_chernoff_of_three_classes_and_of_posteriors():
    rng = np.random.default_rng(1)
    eta = rng.dirichlet(np.ones(3), size=4000)
    bound = chernoff(posterior=eta, y=[int(rng.choice(3, p=row)) for row in eta])
    assert bound.parts["bayes_error"] <= bound.value <= bhattacharyya(posterior=eta).value + 1e-12
    assert bound.ci[0] < bound.value <= bound.ci[1] and bound.parts["calibration_error"] < 0.05
    two = eta[:, :2] / eta[:, :2].sum(axis=1, keepdims=True)
    fixed = chernoff(posterior=two, t=0.25)
    assert fixed.parts["chernoff"] == pytest.approx(np.mean(two[:, 0] ** 0.75 * two[:, 1] ** 0.25))
    apart = chernoff(means=np.eye(3) * 9, covariance=np.eye(3))
    assert apart.value < 1e-4 and "information" not in apart.parts


def test_chernoff_of_classes_that_never_overlap():
    bound = chernoff(confusion=[[10, 0], [0, 10]], smoothing=0, n_bootstrap=0)
    assert bound.value == 0.0 and bound.distance is None and "information" not in bound.parts
    with pytest.raises(PanelError, match="t lies strictly"):
        chernoff(confusion=[[10, 0], [0, 10]], t=1.0)


def test_bootstrap_of_tables():
    bound = chernoff(confusion=[[80, 20], [40, 60]])
    assert bound.ci[0] < bound.value < bound.ci[1] and bound.se > 0


@given(st.integers(2, 12), st.floats(-0.99, 0.99))
def test_agreement_by_eigenvalues_equals_the_closed_form(d, rho):
    if rho <= -0.99 / (d - 1):
        return
    matrix = np.full((d, d), rho) + (1 - rho) * np.eye(d)
    c = np.log((1 - rho / 2) / np.sqrt(1 - rho))
    closed = 0.5 * ((d - 1) * c + np.log((1 + (d - 1) * rho / 2) / np.sqrt(1 + (d - 1) * rho)))
    lam = np.linalg.eigvalsh(matrix)
    eigen = 0.5 * np.log((1 + lam) / (2 * np.sqrt(lam))).sum()
    by_rho, by_matrix = consistency_bound(d=d, rho=rho), consistency_bound(matrix=matrix)
    for distance in (closed, eigen, by_matrix.distance):
        assert by_rho.distance == pytest.approx(distance, rel=1e-9, abs=1e-12)
    assert by_rho.rate == pytest.approx(c, abs=1e-12)
    # sharper than the theorem with the worst-case conditional exponent
    assert by_rho.value <= consistency_bound(d=d, c=max(c, 0.0)).value + 1e-12
    np.testing.assert_allclose(by_rho.curve, by_matrix.curve, rtol=1e-9, atol=1e-12)


def test_published_numbers():
    c = np.log(0.55 / np.sqrt(0.1))
    worst = [consistency_bound(d=d, c=c).value for d in (2, 5, 10, 20)]
    np.testing.assert_allclose(worst, [0.379, 0.165, 0.041, 0.0026], atol=5e-4)
    assert consistency_bound(d=5, rho=0.42, shift=1.0).value == pytest.approx(0.396, abs=5e-4)
    endless = consistency_bound(d=1000, rho=0.42, shift=1.0)
    assert endless.value == pytest.approx(0.371, abs=5e-4)
    assert endless.limit == pytest.approx(0.5 * np.exp(-1 / (8 * 0.42)))
    assert endless.saturates and "saturates at 0.37" in endless.summary()
    falling = consistency_bound(d=20, rho=0.9)
    assert not falling.saturates and "falls on" in falling.summary()


def test_independent_shift_does_not_saturate():
    result = consistency_bound(d=40, rho=0.0, shift=1.0)
    assert not result.saturates and result.distance == pytest.approx(40 / 8)
    one = np.ones(3)
    c = np.array([[1.0, 0.2, 0.1], [0.2, 2.0, 0.3], [0.1, 0.3, 1.5]])
    other = consistency_bound(matrix=c, shift=0.7)
    assert other.distance == pytest.approx(0.49 * one @ np.linalg.solve(c, one) / 8, rel=1e-12)
    joint = bhattacharyya(means=[[0.0] * 3, [0.7] * 3], covariance=c)
    assert other.value == pytest.approx(joint.value) and other.lower == pytest.approx(joint.lower)


def test_theorem_takes_many_exponents_and_a_first_view():
    result = consistency_bound(c=[0.2, 0.4], priors=[0.2, 0.8], first_affinity=0.9)
    assert result.value == pytest.approx(0.4 * 0.9 * np.exp(-0.3) if 0.4 * 0.9 * np.exp(-0.3) < 0.2 else 0.2)
    assert result.n_views == 3 and result.lower == 0.0
    np.testing.assert_allclose(result.exponents, [0.2, 0.4])


def simulated_posteriors(n, d, rho, seed):
    """Exact posteriors of authentic after 1 .. d views: correlated if authentic, else independent."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, d))
    matrix = np.full((d, d), rho) + (1 - rho) * np.eye(d)
    x[y == 1] = x[y == 1] @ np.linalg.cholesky(matrix).T
    columns = []
    for k in range(1, d + 1):
        root = np.linalg.cholesky(matrix[:k, :k])
        z = np.linalg.solve(root, x[:, :k].T)
        logs = -0.5 * (z**2).sum(axis=0) - np.log(root.diagonal()).sum() + 0.5 * (x[:, :k] ** 2).sum(axis=1)
        columns.append(1 / (1 + np.exp(-logs)))
    return np.stack(columns, axis=1), y


def test_estimated_exponents_find_the_true_ones():
    eta, y = simulated_posteriors(40_000, 6, 0.7, 0)
    found = consistency_bound(posteriors=eta, y=y)
    true = consistency_bound(d=6, rho=0.7)
    assert (np.abs(found.exponents - true.exponents) < 4 * found.exponents_se).all()
    assert abs(found.value - true.value) < 4 * found.se
    assert found.calibration_error.max() < 0.02 and not found.saturates
    error = np.mean((eta[:, -1] > 0.5) != y)
    assert found.lower - 4 * found.se <= error <= found.value
    assert "not measured" in consistency_bound(posteriors=eta).warnings[0]


def test_saturation_is_said_from_samples():
    eta, y = simulated_posteriors(20_000, 3, 0.9, 1)
    stuck = np.concatenate([eta, eta[:, -1:], eta[:, -1:]], axis=1)
    found = consistency_bound(posteriors=stuck, y=y)
    assert found.saturates and "running out of news" in found.summary()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of"),
        ({"rho": 0.5, "c": 1.0, "d": 3}, "exactly one of"),
        ({"rho": 0.5}, "d is the number"),
        ({"rho": 1.0, "d": 3}, "copies"),
        ({"rho": -0.6, "d": 3}, "rho must lie"),
        ({"matrix": np.eye(2), "d": 2}, "leave d out"),
        ({"matrix": 2 * np.eye(2)}, "must be a correlation"),
        ({"matrix": np.ones((2, 2))}, "singular"),
        ({"matrix": np.eye(1)}, "two or more views"),
        ({"c": -1.0, "d": 3}, "c must hold"),
        ({"c": [1.0, 2.0], "d": 2}, "one per view"),
        ({"c": 1.0, "d": 2, "shift": 1.0}, "shift= is"),
        ({"c": 1.0, "d": 2, "y": [1]}, "y= belongs"),
        ({"rho": 0.1, "d": 2, "first_affinity": 0.5}, "belongs to c="),
        ({"posteriors": [[0.5, 0.5], [0.5, 2.0]]}, "probabilities of authentic"),
        ({"posteriors": [[0.5, 1.0], [0.5, 0.0]]}, "0 or 1 on every sample"),
        ({"posteriors": [[0.5, 0.5]]}, "two or more of each"),
        ({"posteriors": [[0.5, 0.4], [0.5, 0.6]], "d": 2}, "leave d and priors out"),
        ({"posteriors": [[0.5, 0.4], [0.5, 0.6]], "y": [1, 2]}, "0 for fake"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(PanelError, match=message):
        consistency_bound(**arguments)
