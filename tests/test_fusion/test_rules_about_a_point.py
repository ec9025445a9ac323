"""Long rows about a point, and the searches for subsets: against their slow ways, and at the edges of the range."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import reference

import fusion
from fusion._kernels.spread import least_spread, spread
from fusion.late import _about


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 5, 300), (1, 4, 70_000)])
def test_lengths_are_those_of_the_slow_way(shape, dtype):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=shape).astype(dtype)
    rows[0, 1] = np.nan
    rows[0, 2] *= 1e30
    centre = rng.normal(size=(1, shape[2]))
    rows[0, 3] = centre[0].astype(dtype)
    for about in (None, centre, np.repeat(centre, len(rows), axis=0)):
        expected = _about._exact_lengths(rows, about)
        np.testing.assert_allclose(_about.lengths(rows, about), expected, rtol=1e-12)


def test_lengths_of_any_magnitude():
    rows = np.random.default_rng(1).normal(size=(1, 4, 400))
    for scale in (1e-300, 1e-170, 1e-130, 1e150, 1e307):
        found = _about.lengths(rows * scale, None)
        np.testing.assert_allclose(found, 0.25 * np.linalg.norm(rows, axis=2) * scale, rtol=1e-12)
    assert (_about.lengths(np.zeros((1, 2, 400)), None) == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_medians_of_long_rows_are_not_rounded(monkeypatch, dtype):
    from fusion._kernels import compiled

    monkeypatch.setattr(compiled, "_WORTH_SPECIALISING", 0)
    rows = np.random.default_rng(2).normal(size=(2, 6, 1000)).astype(dtype)
    found = _about.double_median(rows, None)
    np.testing.assert_array_equal(found, np.median(rows.astype(float), axis=1))
    if dtype == np.float64:
        assert np.isfinite(_about.double_median(np.full((1, 6, 1000), 1.7e308), None)).all()


@pytest.mark.parametrize("name", ["centered_clipping", "fltrust", "aksel", "cge"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_rows_agree_with_the_twin(name, dtype):
    rng = np.random.default_rng(3)
    rows = (rng.normal(size=(6, 5000)) + 1).astype(dtype)
    rows[5] = 1e8
    operator = fusion.get_operator(name)
    options = {key: value for key, value in operator.get_params().items() if key != "scope"}
    expected = reference.TWINS[name](rows.astype(float), **options)
    near = 1e-10 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(operator(rows), expected, rtol=near, atol=near)
    with fusion.threads(2):
        long = np.tile(rows, 40)
        two = operator(long)
    np.testing.assert_array_equal(two, operator(long))


@pytest.mark.parametrize("name", ["centered_clipping", "fltrust"])
def test_long_rows_near_the_largest_double(name):
    rows = np.random.default_rng(4).uniform(0.5, 1, size=(5, 3000)) * 1e307
    fused = fusion.get_operator(name)(rows)
    assert np.isfinite(fused).all()
    np.testing.assert_allclose(fused / 1e307, fusion.get_operator(name)(rows / 1e307), rtol=1e-9)


def test_several_steps_of_clipping_on_long_rows():
    rows = np.random.default_rng(5).normal(size=(9, 2000))
    rows[0] = 1e30
    fused = fusion.centered_clipping(rows, radius=2.0, n_iter=20)
    expected = reference.TWINS["centered_clipping"](rows, radius=2.0, n_iter=20)
    np.testing.assert_allclose(fused, expected, atol=1e-9)


def _best(square, mass, f, spectral):
    """Try every subset; the first within 1e-9 of the least."""
    n = len(square)
    values = {}
    for subset in combinations(range(n), n - f):
        kept = np.isin(np.arange(n), subset)
        values[subset] = spread(square, mass, kept, spectral) / mass[kept].sum()
    least = min(values.values())
    return next(subset for subset, value in values.items() if value <= least * (1 + 1e-9))


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("kind", ["random", "tied", "far", "farthest", "isotropic"])
def test_searches_find_what_trying_every_subset_finds(kind, spectral):
    rng = np.random.default_rng(6)
    for _ in range(12):
        n = int(rng.integers(4, 10))
        f = int(rng.integers(1, (n - 1) // 2 + 1))
        rows = rng.normal(size=(n, 3000 if kind == "isotropic" else int(rng.integers(2, 6))))
        if kind == "tied":
            rows = np.round(rows)
        if kind == "far":
            rows[:f] *= 1e6
        if kind == "farthest":
            rows[:f] = 1e30
        square = ((rows[:, None] - rows) ** 2).sum(axis=2)
        for mass in (np.full(n, 1 / n), rng.dirichlet(np.full(n, 3.0))):
            kept = np.zeros(n, dtype=bool)
            rank = max(min(rows.shape[1], n - f - 1), 1)
            least_spread(square, mass, f, rank, spectral, 10**6, kept)
            assert tuple(np.flatnonzero(kept)) == _best(square, mass, f, spectral)


def test_searches_stay_small():
    """Of 53,130 subsets of 20 in 25, and 5e20 of 80 in 100."""
    rng = np.random.default_rng(7)
    for n, f, spectral, nodes in ((25, 5, True, 40_000), (25, 5, False, 1000), (100, 20, False, 100_000)):
        rows = rng.normal(size=(n, 1000))
        square = ((rows[:, None] - rows) ** 2).sum(axis=2)
        kept = np.zeros(n, dtype=bool)
        assert least_spread(square, np.full(n, 1 / n), f, n - f - 1, spectral, 10**6, kept) < nodes
        assert kept.sum() == n - f
