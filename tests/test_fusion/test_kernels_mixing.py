"""Sums of subsets from tables: the sums themselves, whatever the shape, the threads and the magnitude."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion import _mixing
from fusion._mixed_panel import mixing_matrices
from fusion._mixing import apply_mixing


@pytest.fixture
def called(monkeypatch):
    calls = []
    inner = _mixing._add_rows
    monkeypatch.setattr(_mixing, "_add_rows", lambda *given: calls.append(1) or inner(*given))
    return calls


def naive(chosen, share, rows):
    return np.array(
        [[share * sum(rows[i, o] for i in np.flatnonzero(c)) for o in range(rows.shape[1])] for c in chosen]
    )


@given(
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 13),
    st.integers(1, 9),
    st.integers(1, 300),
    st.integers(0, 10**6),
)
def test_sums_of_any_shape(dtype, n, sums, d, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)).astype(dtype)
    chosen = rng.random((sums, n)) < 0.6
    out = np.full((sums, d), np.nan, dtype)
    _mixing._add_rows(chosen, 0.25, rows, out)
    np.testing.assert_allclose(out, naive(chosen, 0.25, rows.astype(float)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mixing_of_long_rows_is_the_matrix_product(called, dtype):
    panel = np.random.default_rng(0).normal(size=(21, 10_007)).astype(dtype)
    panel[3] = 1e30
    mixed = fusion.nearest_neighbor_mixing(panel, n_byzantine=4)
    assert called
    stages = tuple(fusion.NearestNeighborMixing(4)._mixings())
    matrix = mixing_matrices(panel, stages, weights=None, missing="fault", excess="raise")
    expected = matrix @ panel.astype(float)
    np.testing.assert_allclose(mixed, expected, rtol=1e-12 if dtype == np.float64 else 1e-6, atol=1e-6)
    np.testing.assert_array_equal(matrix[:, 3] == 0.0, np.arange(21) != 3)
    for n_jobs in (2, 3):
        with fusion.threads(n_jobs):
            np.testing.assert_array_equal(fusion.nearest_neighbor_mixing(panel, n_byzantine=4), mixed)
    batch = fusion.nearest_neighbor_mixing(np.stack([panel[::-1], panel]), n_byzantine=4)
    np.testing.assert_array_equal(batch[1], mixed)


def test_unequal_shares_and_a_centre_take_the_matrix_product(called):
    rows = np.random.default_rng(1).normal(size=(1, 4, 60_000))
    matrix = np.array([[[0.5, 0.5, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]]])
    np.testing.assert_allclose(apply_mixing(matrix, rows, None), matrix @ rows, rtol=1e-12, atol=1e-15)
    half = np.array([[[0.25, 0.25, 0.0, 0.0]]])
    found = apply_mixing(half, rows, np.full(60_000, 6.0))
    np.testing.assert_allclose(found, half @ rows + 3.0, rtol=1e-12)
    assert not called


def test_sums_that_overflow_are_taken_as_means(called):
    rows = np.full((1, 5, 50_000), 1.5e308)
    matrix = np.full((1, 2, 5), 0.2)
    np.testing.assert_allclose(apply_mixing(matrix, rows, None), 1.5e308)
    assert called
