"""Distances without cancellation, exact picks in float32, lanes against plain loops, and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion._kernels import compiled
from fusion._kernels.pairs import tile_size
from fusion._run import combine, ordered_sum
from fusion.late import _distances
from theory import BudgetError


def exact_distances(rows):
    """Give squared distances of dyadic rationals without any rounding until the end."""
    whole = [[Fraction(float(x)) for x in row] for row in rows]
    n = len(rows)
    return np.array(
        [
            [float(sum((a - b) ** 2 for a, b in zip(whole[i], whole[j], strict=True))) for j in range(n)]
            for i in range(n)
        ]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lie", [10.0, 1e3, 1e6, 1e15, 1e30])
@pytest.mark.parametrize("n", [7, 11, 70])
def test_distances_keep_their_digits_beside_lies_and_a_common_part(n, lie, dtype):
    """The design's bar: relative error at most 4e-7 for lies from 10 to 1e30, spread 1e-3 on a common 10."""
    rng = np.random.default_rng(n)
    rows = (10.0 + 1e-3 * rng.normal(size=(1, n, 300))).astype(dtype)
    rows[0, [0, n // 2]] = lie
    found = _distances.square_distances(rows)
    wide = rows[0].astype(np.float64)
    gap = wide[:, None] - wide[None]
    expected = (gap * gap).sum(axis=2)
    off = ~np.eye(n, dtype=bool)
    two_lies = expected == 0.0
    np.testing.assert_array_equal(found[0][two_lies & off], 0.0)
    check = off & ~two_lies
    error = np.abs(found[0][check] / expected[check] - 1.0).max()
    assert error < (4e-7 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-20, 1e18, 3e37])
def test_float32_rows_whose_squares_are_out_of_range(scale):
    rng = np.random.default_rng(5)
    rows = (scale * rng.normal(size=(1, 6, 300))).astype(np.float32)
    rows[0, 4] = rows[0, 1]
    found = _distances.square_distances(rows)[0]
    expected = exact_distances(rows[0])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[1, 4] == 0.0
    gram = _distances.centred_gram(rows, np.array([2]), found[None])[0]
    centred = rows[0].astype(np.float64) - rows[0, 2].astype(np.float64)
    size = np.sqrt(np.outer(np.diag(centred @ centred.T), np.diag(centred @ centred.T)))
    assert np.abs(gram - centred @ centred.T).max() <= 1e-6 * size.max()


def test_rows_that_differ_below_the_least_square_are_not_taken_for_copies():
    rows = np.ones((1, 5, 300), np.float32) * np.float32(1e-30)
    rows[0, 3] *= 1.5
    found = _distances.square_distances(rows)[0]
    assert found[0, 1] == 0.0
    assert found[0, 3] == pytest.approx(300 * 0.25e-60, rel=1e-5)


@pytest.mark.parametrize("n", [10, 30])
def test_krum_picks_what_exact_arithmetic_picks(n):
    """Common part N(0, 10), spread 1e-4, float32: products of uncentred rows pick another row nearly always."""
    f = n // 5
    hits = naive_hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rows = (rng.normal(0.0, 10.0, size=1000) + 1e-4 * rng.normal(size=(n, 1000))).astype(np.float32)
        wide = rows.astype(np.longdouble)
        square = np.array([[((a - b) ** 2).sum() for b in wide] for a in wide])
        scores = np.sort(square, axis=1)[:, 1 : n - f].sum(axis=1)
        best = int(np.argmin(scores))
        chosen = int(np.argmax(fusion.Krum(f).weights(rows)))
        hits += chosen == best
        own = (rows * rows).sum(axis=1)
        product = own[:, None] + own - 2.0 * rows @ rows.T
        naive_hits += int(np.argmin(np.sort(product, axis=1)[:, 1 : n - f].sum(axis=1))) == best
    assert hits == 100
    assert naive_hits < 60


@given(st.integers(1, 9), st.integers(257, 1400), st.booleans(), st.integers(0, 1000))
def test_pair_sums_of_any_shape(n, d, double, seed):
    rows = np.random.default_rng(seed).normal(size=(2, n, d)).astype(np.float64 if double else np.float32)
    found = _distances.square_distances(rows)
    wide = rows.astype(np.float64)
    gap = wide[:, :, None] - wide[:, None]
    np.testing.assert_allclose(found, (gap * gap).sum(axis=3), rtol=1e-12 if double else 4e-7)
    pivots = np.array([0, n - 1])
    centred = wide - wide[[0, 1], pivots][:, None]
    gram = _distances.centred_gram(rows, pivots, found)
    np.testing.assert_allclose(
        gram, centred @ centred.transpose(0, 2, 1), atol=(1e-12 if double else 1e-6) * d
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("samples", "n", "d"), [(64, 11, 10), (1, 5, 3), (13, 9, 1), (21, 25, 4), (9, 2, 5)])
def test_krum_scores_in_lanes_are_those_of_the_plain_loop(samples, n, d, dtype):
    rng = np.random.default_rng(samples)
    panel = rng.normal(size=(samples, n, d)).astype(dtype)
    panel[samples // 2, 0, 0] = np.nan
    for neighbors in {max(n - 2, 1), max(n - 3, 1)}:
        scores, unclean = _distances._scores_in_lanes(panel, neighbors)
        expected = _distances._scores(_distances.square_distances(panel), neighbors)
        clean = np.arange(samples) != samples // 2
        np.testing.assert_array_equal(scores[clean], expected[clean])
        np.testing.assert_array_equal(unclean, ~clean)


def test_lanes_mark_samples_that_cannot_be_squared():
    panel = np.random.default_rng(1).normal(size=(16, 5, 3))
    panel[3] *= 1e150
    panel[9] *= 1e-130
    panel[12] = 0.0
    _, unclean = _distances._scores_in_lanes(panel, 3)
    assert np.flatnonzero(unclean).tolist() == [3, 9]


def test_batches_large_enough_for_lanes_equal_single_samples():
    panel = np.random.default_rng(4).normal(size=(20_000, 7, 9)).astype(np.float32)
    panel[17, 2] = 1e30
    panel[18, 3, 1] = np.inf
    for operator in (
        fusion.Krum(2),
        fusion.MultiKrum(2),
        fusion.TrimmedMean(2),
        fusion.Median(),
        fusion.GeometricMedian(),
    ):
        whole = operator(panel)
        for s in (0, 17, 18, 19_999):
            np.testing.assert_array_equal(whole[s], operator(panel[s]), err_msg=operator.name)


@given(st.integers(1, 6), st.integers(1, 30), st.integers(1, 40), st.integers(0, 1000))
def test_weighted_rows_in_registers_have_the_bits_of_numpy(n, samples, d, seed):
    rng = np.random.default_rng(seed)
    # As many samples as it takes to leave the small path.
    table = rng.normal(size=(samples + 4096 // (n * d), n, d)).astype(np.float32)
    weights = rng.uniform(0.1, 1.0, size=(len(table), n))
    weights[:, 0] = np.where(rng.uniform(size=len(table)) < 0.3, 0.0, weights[:, 0])
    weights[:, -1] += 1.0
    table[weights[:, 0] == 0.0, 0] = np.nan
    if n == 1:
        table, weights = np.nan_to_num(table), weights + 0.0
    found = combine(table, weights)
    for s in range(0, len(table), 7):
        np.testing.assert_array_equal(found[s], combine(table[s : s + 1], weights[s : s + 1])[0])


@given(st.integers(0, 4), st.integers(1, 40), st.integers(1, 5), st.integers(0, 2))
def test_ordered_sums_do_not_depend_on_the_shape(a, b, c, axis):
    values = np.random.default_rng(a + b).normal(size=(a, b, c)).astype(np.float32)
    total = np.zeros(np.delete(values.shape, axis), np.float32)
    for part in np.moveaxis(values, axis, 0):
        total = total + part
    np.testing.assert_array_equal(ordered_sum(values, axis), total)


def test_tiles_waste_little():
    for n in (5, 10, 15, 20, 25, 50, 100):
        assert n % tile_size(n) == 0 or tile_size(n) < 4


def test_warm_up_compiles_and_refuses(monkeypatch):
    monkeypatch.setattr(compiled, "_COMPILED", {})
    assert fusion.warm_up([(5, 1)], dtypes=("float32",)) > 0.0
    assert len(compiled._COMPILED) >= 3
    with pytest.raises(BudgetError, match="warm_up for 4 specialists needs n_byzantine below 2; got 2"):
        fusion.warm_up([(4, 2)])


@pytest.mark.parametrize("shape", [(10, 400_000), (40_000, 11, 10)])
def test_rules_hold_no_more_than_one_and_a_half_inputs(shape):
    """Peak resident memory of one call, in a process of its own: NumPy, numba and LLVM alike."""
    code = (
        "import sys, numpy as np, fusion\n"
        f"shape = {shape}\n"
        "def peak():\n"
        "    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) * 1024\n"
        "less = (600, 11, 10) if len(shape) == 3 else (shape[0], 70_000)\n"
        "small = np.random.default_rng(0).normal(size=less).astype('f4')\n"
        "names = ('mean', 'median', 'trimmed_mean', 'krum', 'multi_krum', 'geometric_median')\n"
        "budget = lambda name: {'n_byzantine': 2} if name in ('trimmed_mean', 'krum', 'multi_krum') else {}\n"
        "from fusion._kernels import compiled\n"
        "compiled._WORTH_SPECIALISING = 0\n"
        "for name in names:\n"
        "    fusion.get_operator(name, **budget(name))(small)\n"
        "panel = np.random.default_rng(0).normal(size=shape).astype('f4') if len(shape) == 2 else "
        "np.random.default_rng(0).standard_normal(shape, dtype='f4')\n"
        "calls = {name: fusion.get_operator(name, **budget(name)) for name in names}\n"
        "calls['three copies'] = lambda panel: np.concatenate([panel] * 3)[:1].copy()\n"
        "for name, call in calls.items():\n"
        "    open('/proc/self/clear_refs', 'w').write('5')\n"
        "    before = peak()\n"
        "    fused = call(panel)\n"
        "    used = peak() - before - fused.nbytes\n"
        "    print(name, used / panel.nbytes, sep=':')\n"
        "    del fused\n"
    )
    if sys.platform != "linux":
        pytest.skip("reads the peak from /proc")
    # Freed arrays go back to the system at once, or the next call would reuse them unseen.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    shares = {name: float(share) for name, share in (line.split(":") for line in done.stdout.splitlines())}
    assert shares.pop("three copies") == pytest.approx(3.0, abs=0.3)
    assert len(shares) == 6
    print(shares)
    assert all(share <= 1.5 for share in shares.values()), shares
