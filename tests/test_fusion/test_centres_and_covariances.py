"""Centred clipping, the mean of least variance, the robust log pool, and ties of the order rules."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion import (
    CenteredClipping,
    InverseCovarianceMean,
    LogPool,
    TrimmedMean,
    centered_clipping,
    inverse_covariance_mean,
    log_pool,
)
from theory import BudgetError, PanelError, min_variance_weights


def exact_mean_around(values, f, centre):
    """In rational numbers: nearer values fully, all values at the last distance in equal parts."""
    apart = [abs(x - centre) for x in values]
    kept = len(values) - f
    reach = sorted(apart)[kept - 1]
    near = [x for x, r in zip(values, apart, strict=True) if r < reach]
    tied = [x for x, r in zip(values, apart, strict=True) if r == reach]
    return (sum(near) + (kept - len(near)) * sum(tied) / Fraction(len(tied))) / kept


@given(st.lists(st.integers(-4, 4), min_size=3, max_size=11), st.integers(1, 5))
def test_ties_of_the_order_rules_are_shared(numbers, f):
    f = min(f, (len(numbers) - 1) // 2)
    values = sorted(Fraction(x) for x in numbers)
    n = len(values)
    median = (values[(n - 1) // 2] + values[n // 2]) / 2
    inner = values[f : n - f]
    # A third keeps the numbers from being exact in binary.
    panel = np.array(numbers, dtype=float)[:, None] / 3
    for rule, centre in (
        (fusion.mean_around_median, median),
        (fusion.phocas, sum(inner) / Fraction(len(inner))),
    ):
        expected = float(exact_mean_around(values, f, centre)) / 3
        np.testing.assert_allclose(rule(panel, n_byzantine=f), [expected], atol=1e-13)
        np.testing.assert_allclose(rule(-panel, n_byzantine=f), [-expected], atol=1e-13)


def test_order_rules_on_the_largest_numbers():
    top = np.finfo(float).max
    panel = np.array([[top], [top], [top], [-top], [top / 2]])
    for rule in (fusion.winsorized_mean, fusion.mean_around_median, fusion.phocas):
        fused = rule(panel, n_byzantine=1)
        assert np.isfinite(fused).all()
        assert fused > top / 2


def test_clipping_from_a_fixed_centre():
    panel = np.random.default_rng(0).normal(size=(6, 7, 3)) + 5
    last = np.full(3, 4.0)
    operator = CenteredClipping(center=last, radius=0.5, n_iter=3)
    fused, weights = operator(panel), operator.weights(panel)
    assert (weights.sum(axis=1) < 1).all()
    rest = 1 - weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.einsum("sn,snd->sd", weights, panel) + rest * last, fused, rtol=1e-12)
    np.testing.assert_allclose(operator.support(panel), weights, rtol=1e-14)
    assert (np.linalg.norm(fused - last, axis=1) <= 3 * 0.5 + 1e-12).all()
    moved = CenteredClipping(center=last + 10, radius=0.5, n_iter=3)(panel + 10)
    np.testing.assert_allclose(moved, fused + 10, rtol=1e-12)
    # About 0 the answer is the weighted sum itself.
    zero = CenteredClipping(center=0.0, radius=2.0)
    np.testing.assert_allclose(np.einsum("sn,snd->sd", zero.weights(panel), panel), zero(panel), rtol=1e-12)


def test_one_specialist_moves_the_answer_by_a_step():
    rows = np.random.default_rng(1).normal(size=(9, 4))
    for lie in (1e3, 1e30, 1e307, 1e308):
        broken = rows.copy()
        broken[0] = lie
        moved = centered_clipping(broken, center=0.0, radius=1.0) - centered_clipping(
            rows[1:], center=0.0, radius=1.0
        ) * (8 / 9)
        assert np.linalg.norm(moved) <= 1 / 9 + 1e-12


def test_clipping_options():
    panel = np.zeros((2, 5, 3))
    np.testing.assert_array_equal(centered_clipping(panel), 0.0)  # the radius is 0
    with pytest.raises(PanelError, match="radius must be a positive number"):
        centered_clipping(panel, radius=0.0)
    with pytest.raises(PanelError, match="n_iter must be a whole number"):
        centered_clipping(panel, n_iter=0)
    for center in ("mean", [1.0, 2.0], np.nan, [np.inf, 0, 0]):
        with pytest.raises(PanelError, match="center must be a finite number, or one per output"):
            centered_clipping(panel, center=center)
        with pytest.raises(PanelError, match="center must be a finite number, or one per output"):
            fusion.cge(panel, n_byzantine=1, center=center)


def covariance(n, seed=2):
    root = np.random.default_rng(seed).normal(size=(n, 2 * n))
    return root @ root.T / n


def test_weights_of_least_variance():
    matrix, panel = covariance(6), np.random.default_rng(3).normal(size=(4, 6, 2))
    free = InverseCovarianceMean(matrix)
    expected = np.linalg.solve(matrix, np.ones(6))
    np.testing.assert_allclose(free.weights(panel)[2], expected / expected.sum(), rtol=1e-10)
    held = InverseCovarianceMean(matrix, nonnegative=True, max_weight=0.3)
    np.testing.assert_allclose(
        held.weights(panel)[1], min_variance_weights(matrix, cap=0.3, shrink=None).value, atol=1e-10
    )
    for operator in (free, held):
        w = operator.weights(panel)
        np.testing.assert_allclose(np.einsum("sn,snd->sd", w, panel), operator(panel), rtol=1e-10)
    np.testing.assert_allclose(
        inverse_covariance_mean(panel, covariance=None), panel.mean(axis=1), rtol=1e-12
    )


def test_absent_specialists_change_the_weights():
    """The best weights for those who are left are not the old ones made to sum to 1."""
    matrix, panel = covariance(6), np.random.default_rng(4).normal(size=(4, 6, 2))
    panel[1, [0, 3]] = panel[3, 5] = np.nan
    fused = inverse_covariance_mean(panel, covariance=matrix, missing="abstain")
    for s, kept in ((0, range(6)), (1, [1, 2, 4, 5]), (3, range(5))):
        kept = list(kept)
        w = np.linalg.solve(matrix[np.ix_(kept, kept)], np.ones(len(kept)))
        np.testing.assert_allclose(fused[s], w @ panel[s, kept] / w.sum(), rtol=1e-9)
    with pytest.raises(BudgetError, match="inverse_covariance_mean withstands 0"):
        inverse_covariance_mean(panel, covariance=matrix)
    panel[2] = np.nan
    with pytest.raises(BudgetError, match="no specialist answered in sample 2"):
        inverse_covariance_mean(panel, covariance=matrix, missing="abstain")


def test_covariances_are_checked():
    panel = np.zeros((4, 3, 2))
    with pytest.raises(PanelError, match=r"covariance must have shape \(3, 3\)"):
        inverse_covariance_mean(panel, covariance=np.eye(4))
    with pytest.raises(PanelError, match="singular"):
        inverse_covariance_mean(panel, covariance=np.ones((3, 3)))
    with pytest.raises(PanelError, match="needs nonnegative=True"):
        inverse_covariance_mean(panel, covariance=np.eye(3), max_weight=0.5)
    with pytest.raises(PanelError, match="max_weight must lie"):
        inverse_covariance_mean(panel, covariance=np.eye(3), max_weight=0.0)
    with pytest.raises(PanelError, match="has no weighted form"):
        inverse_covariance_mean(panel, covariance=np.eye(3), weights=[1, 2, 3])


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("rule", ["median", TrimmedMean(2), "krum", "geometric_median", "smea"])
@pytest.mark.parametrize("from_logits", [False, True])
def test_robust_log_pool(rule, from_logits):
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(20, 9, 4))
    panel = logits if from_logits else softmax(logits)
    logs = logits if from_logits else np.log((1 - 4e-6) * panel + 1e-6)
    ratios = logs - logs.mean(axis=-1, keepdims=True)
    expected = softmax(fusion.get_operator(rule)(ratios))
    options = {"rule": rule, "from_logits": from_logits}
    np.testing.assert_allclose(log_pool(panel, **options), expected, rtol=1e-10)
    np.testing.assert_allclose(
        LogPool(**options).support(panel), fusion.get_operator(rule).support(ratios), atol=1e-9
    )
    if not from_logits:
        broken = panel.copy()
        broken[:, 3] = [1.0, 0.0, 0.0, 0.0]
        moved = np.abs(log_pool(broken, **options) - expected).max()
        assert moved < np.abs(log_pool(broken) - log_pool(panel)).max()
    broken = panel.copy()
    broken[2, 1] = np.nan
    assert np.isfinite(log_pool(broken, **options)).all()


def test_robust_log_pool_keeps_kinds_and_gradients():
    torch = pytest.importorskip("torch")
    xr = pytest.importorskip("xarray")
    panel = softmax(np.random.default_rng(6).normal(size=(3, 7, 4)))
    pool = LogPool(rule=TrimmedMean(2))
    array = xr.DataArray(panel, dims=("sample", "specialist", "output"))
    assert pool(array).dims == ("sample", "output")
    assert pool.support(array).dims == ("sample", "specialist")
    logits = torch.as_tensor(np.log(panel)).requires_grad_()
    assert torch.autograd.gradcheck(LogPool(rule=TrimmedMean(2), from_logits=True), (logits,), atol=1e-5)
    np.testing.assert_allclose(pool(torch.as_tensor(panel)).numpy(), pool(panel), rtol=1e-12)
    partly = panel.copy()
    partly[1, 2, 0] = np.nan
    with pytest.raises(PanelError, match="answered only some outputs in sample 1"):
        pool(partly, missing="abstain")
    for rule in ("log_pool", "plurality_vote", "fltrust"):
        with pytest.raises(PanelError, match="cannot use rule="):
            log_pool(panel, rule=rule)
