"""Median and trimmed mean beyond the contract: bits, boundaries, weights, ties."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusion import Median, TrimmedMean, cap_weights, median, trimmed_mean
from theory import BudgetError, PanelError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(3, 7, 5), (500, 11, 10), (500, 10, 3), (3000, 2, 1), (2, 129, 4), (4, 128, 40)]
)
def test_median_has_numpys_bits(dtype, shape):
    panel = np.random.default_rng(0).normal(size=shape).astype(dtype)
    np.testing.assert_array_equal(median(panel), np.median(panel, axis=-2))
    single = np.random.default_rng(1).normal(size=(10, 5001)).astype(dtype)
    np.testing.assert_array_equal(median(single), np.median(single, axis=0))


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 13), st.integers(1, 4)),
        elements=st.floats(-1e300, 1e300),
    ),
    st.integers(0, 6),
)
def test_trimmed_mean_equals_its_twin(panel, f):
    n = panel.shape[1]
    if 2 * f >= n:
        with pytest.raises(BudgetError, match=f"needs at least {2 * f + 1} specialists; got {n}"):
            trimmed_mean(panel, n_byzantine=f)
        return
    fused = trimmed_mean(panel, n_byzantine=f)
    for s in range(len(panel)):
        ordered = np.sort(panel[s], axis=0)[f : n - f]
        np.testing.assert_allclose(
            fused[s], (ordered / len(ordered)).sum(axis=0), rtol=1e-12, atol=1e-12 * np.abs(ordered).max()
        )
    assert (fused >= panel.min(axis=1)).all() or np.isclose(fused, panel.min(axis=1)).all() or n
    assert (np.sort(panel, axis=1)[:, f] <= fused + 1e-9 * np.abs(fused)).all()


def test_sums_that_overflow():
    top = np.finfo(np.float64).max
    rows = np.array([[top], [top], [top], [-1.0]])
    assert median(rows)[0] == top
    assert trimmed_mean(rows, n_byzantine=1)[0] == top
    many = np.repeat(rows[None], 3000, axis=0)
    assert (median(many) == top).all()


def test_large_and_small_panels_take_the_same_bits():
    rng = np.random.default_rng(2)
    for dtype in (np.float32, np.float64):
        panel = rng.normal(size=(2000, 9, 4)).astype(dtype)
        for f in range(5):
            whole = trimmed_mean(panel, n_byzantine=f)
            np.testing.assert_array_equal(whole[:3], trimmed_mean(panel[:3], n_byzantine=f))


def test_signed_zeros_and_infinities_count_as_what_they_are():
    rows = np.array([[0.0], [-0.0], [0.0]])
    assert median(rows)[0] == 0.0
    with pytest.raises(BudgetError, match="withstands 1"):
        median(np.array([[np.inf], [-np.inf], [1.0]]))


@pytest.mark.parametrize("d", [1, 3])
def test_weighted_forms_equal_their_definitions(d):
    rng = np.random.default_rng(3)
    for _ in range(50):
        n = int(rng.integers(3, 9))
        rows = rng.integers(0, 4, size=(n, d)).astype(float)
        weights = rng.integers(1, 4, size=n).astype(float)
        np.testing.assert_allclose(median(rows, weights=weights), reference.median(rows, weights), rtol=1e-12)
        capped = cap_weights(weights, n_byzantine=1)
        np.testing.assert_allclose(
            trimmed_mean(rows, n_byzantine=1, weights=capped),
            reference.trimmed_mean(rows, 1, capped),
            rtol=1e-9,
        )


def test_too_heavy_weights_point_to_the_cap():
    rows = np.arange(5.0)[:, None]
    with pytest.raises(
        BudgetError, match=r"the 1 heaviest specialists hold 0\.60 of the weight.*Use cap_weights"
    ):
        trimmed_mean(rows, n_byzantine=1, weights=[6, 1, 1, 1, 1])
    capped = cap_weights([6, 1, 1, 1, 1], n_byzantine=1)
    np.testing.assert_allclose(capped, [1 / 3] + [1 / 6] * 4)
    trimmed_mean(rows, n_byzantine=1, weights=capped)


@given(hnp.arrays(np.float64, st.integers(3, 9), elements=st.floats(1e-6, 1e6)), st.integers(0, 4))
def test_capped_weights(weights, f):
    if 2 * f + 1 > len(weights):
        with pytest.raises(BudgetError, match="cap_weights with n_byzantine"):
            cap_weights(weights, n_byzantine=f)
        return
    capped = cap_weights(weights, n_byzantine=f)
    assert capped.sum() == pytest.approx(1.0)
    assert capped.max() <= 1 / (2 * f + 1) + 1e-12
    # Whoever is below the cap keeps its proportions, and order is kept.
    free = capped < 1 / (2 * f + 1) - 1e-12
    share = capped[free] / weights[free]
    np.testing.assert_allclose(share, share[:1].repeat(free.sum()), rtol=1e-9)
    assert (np.diff(capped[np.argsort(weights)]) >= -1e-12).all()


def test_support_shares_ties():
    rows = np.array([[0.0], [0.0], [1.0], [1.0], [1.0], [9.0]])
    # Kept places 2..5 of the sorted values hold one 0 and three 1s.
    np.testing.assert_allclose(TrimmedMean(1).support(rows), [1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 4, 0])
    np.testing.assert_allclose(Median().support(rows), [0, 0, 1 / 3, 1 / 3, 1 / 3, 0])
    np.testing.assert_allclose(
        Median().support(rows, weights=[3, 1, 2, 1, 1, 0]), [0.375, 0.125, 0.25, 0.125, 0.125, 0]
    )


def test_shares_of_specialists_as_a_budget():
    panel = np.random.default_rng(4).normal(size=(4, 10, 2))
    np.testing.assert_array_equal(trimmed_mean(panel, n_byzantine=0.3), trimmed_mean(panel, n_byzantine=3))
    np.testing.assert_array_equal(
        trimmed_mean(panel, n_byzantine=np.int8(3)), trimmed_mean(panel, n_byzantine=3)
    )
    with pytest.raises(PanelError, match="depends on the panel"):
        TrimmedMean(0.3).minimum()
    assert TrimmedMean(0.3).minimum(3) == 7


def test_partly_missing_rows_with_an_infinite_liar():
    rows = np.arange(7.0)[:, None] * np.ones(2)
    rows[0, 0], rows[6] = np.nan, [np.inf, 1.0]
    fused = trimmed_mean(rows, n_byzantine=2, missing="abstain")
    # The infinite row used up one of the two; output 0 is left with five rows, output 1 with six.
    np.testing.assert_allclose(fused, [np.mean([2, 3, 4]), np.mean([1, 2, 3, 4])])
