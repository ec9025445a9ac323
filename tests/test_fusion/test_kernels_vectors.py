"""Straight-line vector networks: the bits of the array-driven ones, for any shape, fault and thread."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion._kernels import compiled
from fusion._kernels.networks import comparators
from fusion._threads import in_threads, split
from fusion.late import _ranks
from theory import PanelError

SHAPES = [
    (shape, n)
    for n in (1, 2, 5, 11, 33)
    for shape in ((1, 1), (3, 1), (200, 1), (50, 2), (40, 3), (30, 10), (9, 15), (5, 16), (4, 17), (2, 501))
]


def ways(rows, low, high):
    pairs = comparators(rows.shape[1], low, high)
    yield "sorted", *_ranks._sorted(rows, low, high)
    yield "tiled", *_ranks._tiled(rows, pairs, low, high)
    yield "straight", *_ranks.straight(rows, low, high)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 5, 11, 33])
def test_three_ways_give_the_same_bits(n, dtype):
    rng = np.random.default_rng(n)
    for samples, d in [shape for shape, size in SHAPES if size == n]:
        for rows in (
            rng.normal(size=(samples, n, d)),
            rng.integers(0, 3, size=(samples, n, d)),
            rng.normal(size=(samples, n, d)) + 1e7,
        ):
            rows = np.ascontiguousarray(rows, dtype=dtype)
            for low, high in {((n - 1) // 2, n // 2 + 1), (n // 5, n - n // 5)}:
                (_, expected, _), *others = ways(rows, low, high)
                for name, found, unclean in others:
                    np.testing.assert_array_equal(found, expected, err_msg=f"{name} {rows.shape} {low}")
                    assert found.dtype == dtype
                    assert not unclean.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("samples", "d"), [(200, 1), (50, 3), (30, 10), (6, 37), (1, 300)])
def test_every_way_marks_exactly_the_samples_with_a_fault(samples, d, dtype):
    rng = np.random.default_rng(d)
    for value in (np.nan, np.inf, -np.inf):
        for s in {0, samples // 2, samples - 1}:
            rows = rng.normal(size=(samples, 5, d)).astype(dtype)
            rows[s, rng.integers(5), rng.integers(d)] = value
            for name, _, unclean in ways(rows, 1, 4):
                assert np.flatnonzero(unclean).tolist() == [s], name


def test_sums_that_overflow_are_marked_and_rescued():
    rows = np.full((3, 6, 20), 1.5e308)
    rows[0] = 1.0
    for name, _, unclean in ways(rows, 1, 5):
        assert unclean.tolist() == [False, True, True], name
    np.testing.assert_allclose(fusion.trimmed_mean(rows, n_byzantine=1), rows[:, 0])


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_straight_line_median_of_any_shape(n, samples, d, seed):
    rows = np.random.default_rng(seed).normal(size=(samples, n, d)).astype(np.float32)
    found, _ = _ranks.straight(rows, (n - 1) // 2, n // 2 + 1)
    np.testing.assert_array_equal(found, np.median(rows, axis=1))


def test_nothing_behind_the_result_is_part_of_it():
    rows = np.random.default_rng(2).normal(size=(64, 5, 3)).astype(np.float32)
    before = rows.copy()
    for part in (rows[:7], rows[7:9], rows[9:]):
        found, _ = _ranks.straight(part, 2, 3)
        np.testing.assert_array_equal(found, np.median(part, axis=1))
    np.testing.assert_array_equal(rows, before)


def test_a_shape_is_specialised_once_it_is_worth_it(monkeypatch):
    monkeypatch.setattr(compiled, "_asked", {})
    used = []
    monkeypatch.setattr(_ranks, "straight", lambda *given: used.append("straight") or _ranks._sorted(*given))
    rows = np.zeros((1000, 5, 100), np.float32)
    for _ in range(4):
        _ranks.mean_of_ranks(rows, 1, 4)
    assert used == ["straight", "straight"]
    # One number per sample and many specialists: copying them side by side costs less than idle lanes.
    _ranks.mean_of_ranks(np.zeros((30_000, 100, 1), np.float32), 49, 51)
    assert used == ["straight", "straight"]


@pytest.mark.parametrize("n_jobs", [2, 8])
@pytest.mark.parametrize("shape", [(5, 1_000_003), (40_000, 7, 9)])
def test_threads_change_no_bit(shape, n_jobs):
    panel = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    panel[..., 0, -1] = 1e30
    for name in ("mean", "median", "trimmed_mean", "krum", "multi_krum", "geometric_median"):
        operator = fusion.get_operator(name)
        expected = operator(panel)
        with fusion.threads(n_jobs) as count:
            assert count == n_jobs
            np.testing.assert_array_equal(operator(panel), expected, err_msg=name)


@given(st.integers(0, 500), st.integers(1, 9), st.integers(1, 17))
def test_runs_cover_everything_once(size, parts, multiple):
    runs = split(size, parts, multiple)
    assert [i for begin, end in runs for i in range(begin, end)] == list(range(size))
    assert len(runs) <= max(parts, size and 1)
    if len(runs) > 1:
        assert all(end - begin >= multiple for begin, end in runs)


def test_threads_refuse_nonsense_and_pass_errors_on():
    for wrong in (0, -2, 1.5, True):
        with pytest.raises(PanelError, match="n_jobs must be a whole number"), fusion.threads(wrong):
            pass
    with fusion.threads(None) as count:
        assert count == 1
    with fusion.threads(3), pytest.raises(ZeroDivisionError):
        in_threads(lambda x: 1 // x, [(1,), (0,)])


def test_specialisations_are_cached_on_disk(tmp_path):
    code = (
        "import time, numpy as np\n"
        "from numba import njit\n"
        "from fusion._kernels.vectors import kept_mean_of\n"
        "njit('int64(int64)')(lambda x: x)\n"
        "start = time.perf_counter()\n"
        "kernel = kept_mean_of(np.dtype('f4'), 25, 12, 13)\n"
        "print(time.perf_counter() - start)\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        float(
            subprocess.run(
                [sys.executable, "-c", code], env=environment, check=True, capture_output=True
            ).stdout
        )
        for _ in range(2)
    )
    assert len(list(tmp_path.rglob("*.nbc"))) == 1
    assert second < first / 2
