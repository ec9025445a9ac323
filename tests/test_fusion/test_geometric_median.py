"""The geometric median beyond the contract: hard panels, its residual, exact answers."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusion import GeometricMedian, geometric_median
from theory import FaultWarning, PanelError


def residual(rows, point, alpha=None):
    """Length of the pull at a point, less the weight of the rows that lie there."""
    alpha = reference.normalised(alpha, len(rows))
    gap = rows - point
    apart = np.linalg.norm(gap, axis=1)
    # A row within rounding of the point lies there.
    here = apart <= 1e-13 * np.abs(rows - np.median(rows, axis=0)).max()
    pull = (alpha[~here, None] * gap[~here] / apart[~here, None]).sum(axis=0)
    return max(0.0, float(np.linalg.norm(pull)) - float(alpha[here].sum()))


def hard_panels():
    rng = np.random.default_rng(0)
    for n, d in ((3, 2), (4, 2), (5, 3), (8, 2), (11, 10), (20, 2), (6, 300), (70, 3)):
        samples = 60 if n * d < 300 else 3
        line = rng.normal(size=(samples, n, 1)) * rng.normal(size=(samples, 1, d))
        yield "normal", rng.normal(size=(samples, n, d))
        yield "heavy", rng.standard_cauchy(size=(samples, n, d)) ** 3
        yield "nearly a line", line + 1e-8 * rng.normal(size=(samples, n, d))
        yield (
            "clusters",
            3.0 * rng.integers(0, 2, size=(samples, n, 1)) + 1e-6 * rng.normal(size=(samples, n, d)),
        )
        far = rng.normal(size=(samples, n, d))
        far[:, : (n - 1) // 2] = 1e30 * rng.normal(size=(samples, 1, d))
        yield "far liars", far


@pytest.mark.parametrize(("kind", "panel"), list(hard_panels()))
def test_hard_panels_reach_their_residual(kind, panel):
    fused = geometric_median(panel)
    assert np.isfinite(fused).all()
    for rows, point in zip(panel, fused, strict=True):
        if kind in ("normal", "nearly a line"):
            assert residual(rows, point) <= 1e-6
        centred = rows - point
        others = np.concatenate([rows, [np.median(rows, axis=0)]])
        best = min(np.linalg.norm(rows - other, axis=1).sum() for other in others)
        # A residual of 1e-10 leaves that much of the summed distance open.
        assert np.linalg.norm(centred, axis=1).sum() <= best * (1 + 1e-10)
    np.testing.assert_array_equal(fused, np.stack([geometric_median(rows) for rows in panel]))


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(3, 8), st.integers(2, 4)), elements=st.integers(-5, 5).map(float)
    )
)
def test_no_point_is_better(rows):
    """Grid points give duplicates, lines and minimisers on data points."""
    point = geometric_median(rows)
    mine = np.linalg.norm(rows - point, axis=1).sum()
    expected = reference.geometric_median(rows)
    assert mine <= np.linalg.norm(rows - expected, axis=1).sum() * (1 + 1e-9)


def test_data_points_are_returned_exactly():
    obtuse = np.array([[0.1, 0.2], [-3.3, 0.4], [2.7, 0.9]])
    np.testing.assert_array_equal(geometric_median(obtuse), obtuse[0])
    doubled = np.array([[0.3, 0.7], [5.0, 1.0], [0.3, 0.7], [1.0, 9.0]])
    np.testing.assert_array_equal(geometric_median(doubled), doubled[0])
    np.testing.assert_allclose(GeometricMedian().weights(doubled), [0.5, 0, 0.5, 0])


def test_equilateral_triangle_and_one_output():
    angle = 2 * np.pi * np.arange(3) / 3
    triangle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(geometric_median(triangle), [0, 0], atol=1e-12)
    column = np.array([[1.0], [5.0], [2.0], [9.0]])
    np.testing.assert_array_equal(geometric_median(column), [3.5])


def test_float32_is_settled_to_its_tolerance():
    panel = np.random.default_rng(1).normal(size=(3000, 11, 4)).astype(np.float32)
    fused = geometric_median(panel)
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, geometric_median(panel.astype(float)), atol=1e-5)


def test_a_lane_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(2)
    panel = rng.normal(size=(500, 5, 2))
    panel[::7] = rng.standard_cauchy(size=(72, 5, 2)) ** 3
    whole = geometric_median(panel)
    np.testing.assert_array_equal(geometric_median(panel[3:91]), whole[3:91])
    np.testing.assert_array_equal(geometric_median(panel[::-1])[::-1], whole)


def test_unreached_tolerance_is_said():
    line = np.random.default_rng(3).normal(size=(2000, 4, 1)) * np.array([1.0, 2.0, 3.0])
    line += 1e-6 * np.random.default_rng(4).normal(size=line.shape)
    with pytest.warns(FaultWarning, match=r"stopped after max_iter=1 with a residual of .* > tol=1e-14"):
        geometric_median(line, max_iter=1, tol=1e-14)


def test_options_are_checked():
    with pytest.raises(PanelError, match="tol must lie"):
        geometric_median(np.zeros((3, 2)), tol=0.0)
    with pytest.raises(PanelError, match="max_iter must be"):
        geometric_median(np.zeros((3, 2)), max_iter=0)
