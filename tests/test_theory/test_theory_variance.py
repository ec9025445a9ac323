"""The variance argument, effective numbers, ambiguity and weights: identities and limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import (
    PanelError,
    ambiguity,
    correlated_panel,
    effective_number,
    ensemble_variance,
    error_covariance,
    is_weighting_worth_it,
    min_variance_weights,
    newcomer_helps,
    panel_beta,
    variance_curve,
)
from theory._simplex import kkt_residual


def matrix(m, seed=0, n=40):
    errors = np.random.default_rng([seed, m]).normal(size=(n, m)) * np.linspace(0.5, 2, m)
    errors += np.random.default_rng(seed).normal(size=(n, 1))
    return errors.T @ errors / n


@given(st.integers(1, 12), st.integers(0, 10**6))
def test_variance_is_an_identity(m, seed):
    c = matrix(m, seed)
    report = ensemble_variance(c)
    assert report.value == pytest.approx(c.mean(), rel=1e-12)
    assert abs(report.identity_gap) < 1e-12 * report.value
    if m > 1:
        assert report.value == pytest.approx(
            float(variance_curve(report.mean_variance, report.rho_pooled, m)), rel=1e-12
        )
    assert report.ratio == pytest.approx(c.sum() / np.trace(c), rel=1e-12)


def test_mean_correlation_misstates_variance():
    c = np.array([[1.0, 0.0, 0.0], [0.0, 9.0, 8.0], [0.0, 8.0, 9.0]])
    report = ensemble_variance(c)
    assert abs(report.value / variance_curve(report.mean_variance, report.rho_mean, 3) - 1) > 0.05


@given(st.integers(2, 8), st.integers(0, 10**6))
def test_betas(m, seed):
    c = matrix(m, seed)
    w = np.random.default_rng(seed).dirichlet(np.ones(m))
    beta = panel_beta(c, weights=w)
    assert w @ beta == pytest.approx(1.0, rel=1e-12)
    base, step = w @ c @ w, 1e-6
    for i in range(m):
        moved = (1 - step) * w + step * np.eye(m)[i]
        assert (moved @ c @ moved - base) / step == pytest.approx(
            2 * base * (beta[i] - 1), rel=1e-3, abs=1e-4
        )
    best = min_variance_weights(c, constraint="none", shrink=None)
    np.testing.assert_allclose(panel_beta(c, weights=best), 1.0, atol=1e-8)


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_newcomer(m, seed):
    c = matrix(m + 1, seed)
    result = newcomer_helps(c[:m, :m], c[:m, m], c[m, m])
    assert result.after == pytest.approx(c.mean()) and result.before == pytest.approx(c[:m, :m].mean())
    rule = 2 * c[:m, m].sum() + c[m, m] < (2 * m + 1) * result.before
    assert result.helps == rule
    assert result.summary().startswith("the newcomer")


def test_variance_curve_edges():
    np.testing.assert_allclose(variance_curve(2.0, -0.25, 5), 0.0, atol=1e-15)
    with pytest.raises(PanelError, match=r"between -1/\(M-1\) = -0.25 and 1 for M = 5"):
        variance_curve(1.0, -0.3, [2, 5])
    with pytest.raises(PanelError, match="whole numbers >= 1"):
        variance_curve(1.0, 0.1, 0)
    with pytest.raises(PanelError, match="mean_variance must be finite"):
        variance_curve(-1.0, 0.1, 2)


def test_effective_numbers():
    m, rho = 10, 0.3
    c = np.full((m, m), rho) + (1 - rho) * np.eye(m)
    expected = m / (1 + (m - 1) * rho)
    assert effective_number(c).value == pytest.approx(expected)
    assert effective_number(c, kind="exchangeable").value == pytest.approx(expected)
    lam = np.linalg.eigvalsh(c)
    assert effective_number(c, kind="participation").value == pytest.approx(lam.sum() ** 2 / (lam**2).sum())
    share = lam / lam.sum()
    assert effective_number(c, kind="entropy").value == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert effective_number(np.eye(4)).value == pytest.approx(4.0)
    assert effective_number(c).exact and effective_number(c).ci is None
    with pytest.raises(PanelError, match="do not vary"):
        effective_number([[1.0, -1.0], [-1.0, 1.0]])
    with pytest.raises(PanelError, match="need samples"):
        effective_number(c, groups=np.zeros(10))


def test_effective_number_from_errors():
    errors = correlated_panel(400, 6, rho=0.4, seed=0).errors
    result = effective_number(errors)
    c = error_covariance(errors, kind="covariance")
    assert result.value == pytest.approx(effective_number(c).value, rel=1e-12)
    assert result.ci[0] < 6 / (1 + 5 * 0.4) < result.ci[1]
    assert effective_number(errors, ci=None).ci is None
    grouped = effective_number(np.repeat(errors, 2, axis=0), groups=np.repeat(np.arange(400), 2))
    assert grouped.se == pytest.approx(result.se, rel=3e-3)
    gaps = errors[:, :, 0].copy()
    gaps[::7, 2] = np.nan
    assert "no interval" in effective_number(gaps, missing="abstain").warnings[-1]


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 10**6))
def test_ambiguity_is_an_identity(m, outputs, seed):
    rng = np.random.default_rng(seed)
    panel, y = rng.normal(size=(15, m, outputs)), rng.normal(size=(15, outputs))
    w = rng.dirichlet(np.ones(m))
    result = ambiguity(panel, y, weights=w)
    assert result.identity_gap < 1e-12
    fused = np.einsum("nmo,m->no", panel, w)
    assert result.pool_loss == pytest.approx(((fused - y) ** 2).sum(axis=1).mean(), rel=1e-12)
    assert result.pool_loss == pytest.approx(result.mean_loss - result.diversity, abs=1e-12)
    with pytest.raises(PanelError, match="weights must sum to 1"):
        ambiguity(panel, y, weights=w * 2)


def test_ambiguity_refuses_negative_weights():
    with pytest.raises(PanelError, match="weights >= 0"):
        ambiguity([[1.0, 2.0]], [1.0], weights=[1.5, -0.5])


@given(st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([1.0, 0.5, 0.3, 0.1]))
def test_simplex_weights_are_optimal(m, seed, cap):
    c = matrix(m, seed, n=8 if seed % 2 else 60)
    if seed % 3 == 0 and m > 1:
        c[:, 1], c[1, :] = c[:, 0], c[0, :]
        c[1, 1] = c[0, 0]
    cap = max(cap, 1.0 / m)
    result = min_variance_weights(c, cap=cap, shrink=None)
    w = result.value
    assert w.sum() == pytest.approx(1.0, abs=1e-12) and w.min() >= -1e-15 and w.max() <= cap + 1e-12
    if w @ c @ w > 1e-8:
        assert result.kkt_residual < 1e-9
    rng = np.random.default_rng(seed)
    for _ in range(20):
        rival = rng.dirichlet(np.full(m, 0.5))
        if rival.max() <= cap:
            assert rival @ c @ rival >= w @ c @ w - 1e-10


def test_simplex_equals_a_general_solver():
    from scipy.optimize import minimize

    for seed in range(5):
        c = matrix(7, seed)
        peer = minimize(
            lambda w, c=c: w @ c @ w,
            np.full(7, 1 / 7),
            jac=lambda w, c=c: 2 * c @ w,
            bounds=[(0, 0.4)] * 7,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(7)},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(min_variance_weights(c, cap=0.4, shrink=None).value, peer.x, atol=1e-5)


def test_kkt_residual_can_fail():
    c = np.diag([1.0, 2.0, 4.0])
    assert kkt_residual(c, np.full(3, 1 / 3), 1.0) > 0.1


def test_simplex_weights_stay_in_their_range():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        wrong = (rng.random((100, 28)) < rng.random(28)).astype(float)
        found = min_variance_weights(error_covariance(wrong, shrink="constant_correlation"))
        assert (found.value >= 0).all() and found.value.sum() == pytest.approx(1.0, abs=1e-12)


def test_copies_share_their_weight():
    errors = np.random.default_rng(0).normal(size=(300, 3))[:, [0, 1, 2, 0]]
    w = min_variance_weights(errors, shrink=None).value
    assert w[0] == pytest.approx(w[3], abs=1e-9)
    with pytest.raises(PanelError, match=r"singular \(n=300, M=4\)"):
        min_variance_weights(errors, constraint="none")


def test_free_weights_and_shrinkage():
    c = matrix(4)
    inverse = np.linalg.inv(c)
    free = min_variance_weights(c, constraint="none", shrink=None)
    np.testing.assert_allclose(free.value, inverse.sum(axis=1) / inverse.sum(), rtol=1e-9)
    assert free.variance == pytest.approx(1 / inverse.sum())
    n, k = 25, 3
    auto = min_variance_weights(c, constraint="none", n=n)
    s2 = free.variance * n / (n - k)
    cost = s2 * k / (n - k - 1)
    share = cost / (cost + max(c.mean() - s2, 0))
    assert auto.shrinkage == pytest.approx(share)
    np.testing.assert_allclose(auto.value, share / 4 + (1 - share) * free.value)
    assert min_variance_weights(c, constraint="none", n=4).shrinkage == 1.0
    np.testing.assert_allclose(min_variance_weights(c, shrink=1.0).value, 0.25)
    assert min_variance_weights(error_covariance(np.eye(4) + 0.1)).n == 4
    with pytest.raises(PanelError, match="needs n"):
        min_variance_weights(c)
    with pytest.raises(PanelError, match=r"Use at least 0.25"):
        min_variance_weights(c, cap=0.2, shrink=None)
    with pytest.raises(PanelError, match="share between 0 and 1"):
        min_variance_weights(c, shrink=2.0)
    with pytest.raises(PanelError, match="got a correlation"):
        from theory import error_correlation

        min_variance_weights(error_correlation(np.random.default_rng(0).normal(size=(9, 2))))


def test_weights_name_their_specialists():
    from xarray import DataArray

    errors = np.random.default_rng(0).normal(size=(50, 3)) * [1, 2, 3]
    result = min_variance_weights(
        DataArray(errors, dims=("sample", "specialist"), coords={"specialist": list("abc")})
    )
    assert result.names == ("a", "b", "c") and result.value[0] > result.value[2]
    assert result.to_xarray().weight.sel(specialist="a").item() == result.value[0]
    assert "  a  +0." in result.summary()


def test_worth_it():
    c = np.diag([1.0, 1.0, 1.0, 1.0])
    assert not is_weighting_worth_it(c, n=50).worth_it
    unequal = is_weighting_worth_it(np.diag([1.0, 1.0, 1.0, 25.0]), n=50)
    assert unequal.worth_it and unequal.threshold == pytest.approx(49 / 46)
    v_in = 1 / (3 + 1 / 25)
    assert unequal.optimal_variance == pytest.approx(v_in * 50 / 47)
    assert unequal.expected_variance == pytest.approx(v_in * 50 / 47 * 49 / 46)
    with pytest.raises(PanelError, match="second moment singular: n=3, M=4"):
        is_weighting_worth_it(c, n=3)
    with pytest.raises(PanelError, match="give n="):
        is_weighting_worth_it(c)


def test_worth_it_is_right_on_average():
    """In-sample and out-of-sample variance of free weights, n = 40, M = 8, within 4 standard errors."""
    m, n = 8, 40
    truth = matrix(m, 3, n=200)
    root = np.linalg.cholesky(truth)
    best = 1 / np.linalg.inv(truth).sum()
    rng = np.random.default_rng(0)
    inside, outside, guess = [], [], []
    for _ in range(800):
        errors = rng.normal(size=(n, m)) @ root.T
        result = min_variance_weights(errors, constraint="none", shrink=None)
        inside.append(result.variance)
        outside.append(result.value @ truth @ result.value)
        guess.append(is_weighting_worth_it(errors).expected_variance)
    for values, expected in (
        (inside, best * (n - m + 1) / n),
        (outside, best * (n - 1) / (n - m)),
        (guess, best * (n - 1) / (n - m)),
    ):
        assert abs(np.mean(values) - expected) < 4 * np.std(values) / np.sqrt(800)


def test_bad_matrices():
    for call in (ensemble_variance, panel_beta, lambda c: newcomer_helps(c, [0.0, 0.0], 1.0)):
        with pytest.raises(PanelError, match="square"):
            call([[1.0, 0.0]])
        with pytest.raises(PanelError, match="non-finite"):
            call([[1.0, np.nan], [np.nan, 1.0]])
        with pytest.raises(PanelError, match="smallest eigenvalue is -1"):
            call([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(PanelError, match=r"one number per specialist \(2\)"):
        ensemble_variance(np.eye(2), weights=[1.0])
    with pytest.raises(PanelError, match="covariance with the newcomer is indefinite"):
        newcomer_helps(np.eye(2), [1.0, 1.0], 1.0)
