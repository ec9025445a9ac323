"""Means around a centre as vector code: the bits of the sorted way, ties shared, faults marked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion._kernels import compiled
from fusion.late import _windows
from tests import reference_rules

RULES = {
    "winsorized_mean": "winsorized",
    "mean_around_median": "around_median",
    "phocas": "around_trimmed",
}
SHAPES = [(1, 1), (200, 1), (40, 3), (30, 10), (5, 16), (4, 17), (2, 501)]


def both_ways(rows, trim, kind):
    return _windows._sorted(rows, trim, kind), _windows._straight(rows, trim, kind)


@pytest.fixture
def always_straight(monkeypatch):
    monkeypatch.setattr(compiled, "_WORTH_SPECIALISING", 0)
    monkeypatch.setattr(_windows, "_TINY", 0)


@pytest.mark.parametrize("kind", RULES.values())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 12, 33])
def test_two_ways_give_the_same_bits(n, dtype, kind):
    rng = np.random.default_rng(n)
    for shape in SHAPES:
        lied = rng.normal(size=(shape[0], n, shape[1]))
        lied[:, 0] = 1e30
        for rows in (
            lied,
            lied + 1e7,
            rng.normal(size=lied.shape),
            rng.integers(0, 3, size=lied.shape),
            np.zeros(lied.shape) - 0.0,
        ):
            rows = np.ascontiguousarray(rows, dtype=dtype)
            for trim in {n // 5, (n - 1) // 2}:
                (expected, _), (found, unclean) = both_ways(rows, trim, kind)
                np.testing.assert_array_equal(found, expected, err_msg=f"{rows.shape} {trim}")
                assert not unclean.any()


@pytest.mark.parametrize("kind", RULES.values())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("samples", "d"), [(200, 1), (30, 10), (6, 37), (1, 300)])
def test_both_ways_mark_exactly_the_samples_with_a_fault(samples, d, dtype, kind):
    rng = np.random.default_rng(d)
    for value in (np.nan, np.inf, -np.inf):
        for s in {0, samples - 1}:
            rows = rng.normal(size=(samples, 5, d)).astype(dtype)
            rows[s, rng.integers(5), rng.integers(d)] = value
            for _, unclean in both_ways(rows, 1, kind):
                assert np.flatnonzero(unclean).tolist() == [s]


@given(
    st.sampled_from(sorted(RULES)),
    st.sampled_from([(3, 1), (6, 2), (9, 1), (9, 4)]),
    st.integers(1, 20),
    st.integers(0, 10**6),
)
def test_integers_tie_and_share(always_straight_rule, name, size, d, seed):
    n, f = size
    rows = np.random.default_rng(seed).integers(-3, 4, size=(n, d)) / 4.0
    expected = getattr(reference_rules, name)(rows, f)
    found = always_straight_rule(name, rows, f)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(always_straight_rule(name, -rows, f), -expected, rtol=1e-12, atol=1e-14)


@pytest.fixture(scope="module")
def always_straight_rule():
    def fused(name, rows, f):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "_WORTH_SPECIALISING", 0)
            patch.setattr(_windows, "_TINY", 0)
            return getattr(fusion, name)(rows, n_byzantine=f)

    return fused


def test_only_two_sided_ties_are_looked_at_again():
    no_ties = [[0, 1, 5], [1, 1, 9], [3, 4, 4], [7, 7, 7]]
    two_sided = [[0, 1, 2], [-5, 1, 7]]
    rows = np.array(no_ties + two_sided, dtype=float).T[None].copy()
    marked, _ = _windows._vectors(rows, 1, "around_median", ties=False)
    assert np.isnan(marked[0]).tolist() == [False] * 4 + [True] * 2
    for found, unclean in both_ways(rows, 1, "around_median"):
        assert found[0, 4:].tolist() == [1.0, 1.0]
        assert not unclean.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "trim"), [(7, 2), (9, 4), (9, 6), (15, 10)])
def test_ties_are_shared_with_the_same_bits_by_any_way(monkeypatch, n, trim, dtype):
    """Also where more is left out than kept, as by Bulyan."""
    rng = np.random.default_rng(n)
    even = np.full(n, 1 / n)
    for shape in ((3, n, 37), (1, n, 900), (200, n, 1)):
        rows = rng.normal(size=shape)
        rows[..., ::11] = rng.integers(0, 4, size=rows[..., ::11].shape)
        rows = rows.astype(dtype)
        for values in (rows, rng.integers(0, 4, size=shape).astype(dtype)):
            expected, _ = _windows._sorted(values, trim, "around_median")
            few, _ = _windows._straight(values, trim, "around_median")
            with monkeypatch.context() as patch:
                patch.setattr(compiled, "_WORTH_SPECIALISING", 0)
                many, _ = _windows._straight(values, trim, "around_median")
            np.testing.assert_array_equal(few, expected)
            np.testing.assert_array_equal(many, expected)
            for s, o in ((0, 0), (shape[0] - 1, shape[2] - 1)):
                column = values[s, :, o].astype(float)
                centre = reference_rules.middle(column, even)
                twin = reference_rules.nearest_values(column, centre, even, (n - trim) / n)
                np.testing.assert_allclose(expected[s, o], twin, rtol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.usefixtures("always_straight")
@pytest.mark.parametrize("name", RULES)
def test_the_largest_numbers_are_averaged(name):
    top = np.finfo(float).max
    panel = np.array([[top] * 9, [top] * 9, [top] * 9, [-top] * 9, [top / 2] * 9])
    fused = getattr(fusion, name)(panel, n_byzantine=1)
    assert np.isfinite(fused).all()
    assert (fused > top / 2).all()


@pytest.mark.usefixtures("always_straight")
@pytest.mark.parametrize("name", RULES)
def test_threads_and_batches_change_no_bit(name):
    panel = np.random.default_rng(3).integers(0, 40, size=(3000, 7, 19)).astype(np.float32)
    rule = getattr(fusion, name)
    expected = rule(panel, n_byzantine=2)
    loop = np.stack([rule(rows, n_byzantine=2) for rows in panel[:50]])
    np.testing.assert_array_equal(loop, expected[:50])
    long = np.ascontiguousarray(panel[:40].transpose(1, 0, 2)).reshape(7, -1)
    np.testing.assert_array_equal(rule(long, n_byzantine=2), expected[:40].reshape(-1))
    for n_jobs in (2, 8):
        with fusion.threads(n_jobs):
            np.testing.assert_array_equal(rule(panel, n_byzantine=2), expected)
