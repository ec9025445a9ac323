"""Attacks with a search, and broken machines: against brute force, hand computation and bit patterns."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest

import fusion
from fusion import NearestNeighborMixing, TrimmedMean
from fusion.attacks import (
    a_little_is_enough,
    bit_flip,
    colluders,
    constant,
    gaussian,
    infinite,
    inner_product,
    label_permutation,
    mimic,
    min_max,
    min_sum,
    optimal,
    pivot,
    sign_flip,
    stale,
)
from theory import BudgetError, PanelError

RNG = np.random.default_rng(0)
HONEST = RNG.normal(size=(4, 7, 3)) + 1.0


def direction_of(rows, direction):
    mu = rows.mean(axis=0)
    return {"unit": -mu / np.linalg.norm(mu), "std": -rows.std(axis=0), "sign": -np.sign(mu)}[direction]


def furthest_lie(rows, push, far):
    """Bisect for the largest step along `push` for which `far`, of squared distances to the rows, is not true."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        square = ((rows.mean(axis=0) + middle * push - rows) ** 2).sum(axis=1)
        low, high = (low, middle) if far(square) else (middle, high)
    return rows.mean(axis=0) + low * push


@pytest.mark.parametrize("direction", ["unit", "std", "sign"])
def test_min_max_and_min_sum_are_as_far_as_allowed(direction):
    found = min_max(HONEST, 2, direction=direction), min_sum(HONEST, 2, direction=direction)
    for rows, highest, summed in zip(HONEST, *found, strict=True):
        push = direction_of(rows, direction)
        pairs = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
        widest, total = pairs.max(), pairs.sum(axis=1).max()
        lie = furthest_lie(rows, push, lambda square, widest=widest: square.max() > widest)
        np.testing.assert_allclose(highest, np.repeat(lie[None], 2, axis=0), rtol=1e-9)
        lie = furthest_lie(rows, push, lambda square, total=total: square.sum() > total)
        np.testing.assert_allclose(summed, np.repeat(lie[None], 2, axis=0), rtol=1e-9)


def test_min_max_by_hand():
    # Mean 2, deviations -1 and 1, widest pair 2: one step of 1 to the left of the mean, at distance 2 of 3.
    np.testing.assert_array_equal(min_max([[1.0], [3.0]], 1), [[1.0]])
    # Mean 3, deviations -2, -1, 3: three to the left.
    np.testing.assert_array_equal(min_sum([[1.0], [2.0], [6.0]], 2), [[0.0], [0.0]])
    # No direction: the mean.
    np.testing.assert_array_equal(min_max([[-1.0, 1.0], [1.0, -1.0]], 1), [[0.0, 0.0]])
    np.testing.assert_array_equal(min_sum([[2.0], [2.0]], 1, direction="std"), [[2.0]])


def naive_optimal(rows, f, fuse, base, push, evals, start, delta, ratio):
    mu = rows.mean(axis=0)

    def damage(x):
        lies = np.repeat((base + x * push)[None], f, axis=0)
        return ((fuse(np.concatenate([rows, lies])) - mu) ** 2).sum()

    x, best, left = start, damage(start), evals - 1
    while left > 0:
        found, left = damage(x + delta), left - 1
        if found <= best:
            break
        x, best, delta = x + delta, found, 2 * delta
    while left > 0:
        delta *= ratio
        found, left = damage(x + delta), left - 1
        if found > best:
            x, best = x + delta, found
    return base + x * push


@pytest.mark.parametrize("family", ["a_little_is_enough", "inner_product", "constant", "unit", "std", "sign"])
@pytest.mark.parametrize("rule", ["trimmed_mean", "krum", "median", "mean", "chain"])
def test_optimal_is_the_published_search(family, rule):
    operator = NearestNeighborMixing(2) >> TrimmedMean(2) if rule == "chain" else fusion.get_operator(rule)
    if rule in ("trimmed_mean", "krum"):
        operator.set_params(n_byzantine=2)
    lies = optimal(HONEST, 2, rule=operator if rule == "chain" else rule, family=family, evals=9, delta=3.0)
    for rows, lie in zip(HONEST, lies, strict=True):
        mu = rows.mean(axis=0)
        base = np.zeros(3) if family in ("inner_product", "constant") else mu
        push = {"a_little_is_enough": rows.std(axis=0), "inner_product": -mu, "constant": np.ones(3)}.get(
            family
        )
        push = direction_of(rows, family) if push is None else push
        expected = naive_optimal(rows, 2, operator, base, push, 9, 0.0, 3.0, 0.8)
        np.testing.assert_allclose(lie[0], expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(lie[0], lie[1])


def test_optimal_beats_the_fixed_size_and_takes_any_callable():
    def damage(lies, fuse):
        return np.square(fuse(np.concatenate([HONEST, lies], axis=1)) - HONEST.mean(axis=1)).sum(axis=1)

    rule = TrimmedMean(2)
    assert (damage(optimal(HONEST, 2, rule=rule), rule) >= damage(a_little_is_enough(HONEST, 2), rule)).all()
    half = optimal(HONEST, 2, rule=lambda panel: panel.mean(axis=-2), evals=2)
    np.testing.assert_allclose(half[:, 0], HONEST.mean(axis=1) + 10 * HONEST.std(axis=1))


def test_stale_says_the_sample_before():
    mu = HONEST.mean(axis=1)
    np.testing.assert_array_equal(stale(HONEST, 2)[1:, 1], mu[:-1])
    np.testing.assert_array_equal(stale(HONEST, 2, lag=3)[:, 0], np.roll(mu, 3, axis=0))
    np.testing.assert_array_equal(stale(HONEST[0], 1)[0], mu[0])


@pytest.mark.parametrize(
    ("dtype", "code", "word"), [(np.float64, "d", "Q"), (np.float32, "f", "I"), (np.float16, "e", "H")]
)
def test_bit_flip_flips_ieee_bits(dtype, code, word):
    rows = HONEST.astype(dtype)
    width = np.dtype(dtype).itemsize * 8
    for bits in ([0], [1], [width - 1], [0, 5, 9]):
        lies = bit_flip(rows, 1, bits=bits, target=2)
        assert lies.dtype == dtype
        for value, said in zip(rows[:, 2].ravel(), lies[:, 0].ravel(), strict=True):
            (number,) = struct.unpack(f"<{word}", struct.pack(f"<{code}", value))
            for bit in bits:
                number ^= 1 << (width - 1 - bit)
            assert said.tobytes() == struct.pack(
                f"={word}", number
            )  # packing a NaN as a float would quiet it
    np.testing.assert_array_equal(
        bit_flip(rows.astype(rows.dtype.newbyteorder(">")), 1, bits=[0])[:, 0], -rows[:, 0]
    )


def test_pivot_puts_one_absurd_row_first():
    lies = pivot(HONEST, 3, value=1e30, z=2.0)
    assert (lies[:, 0] == 1e30).all()
    np.testing.assert_allclose(lies[:, 1:], colluders(HONEST, 2, z=2.0))
    assert np.isnan(pivot(HONEST, 1, value=np.nan)).all()
    assert np.isinf(pivot(HONEST.astype(np.float16), 1, value=1e30)).all()


@pytest.mark.parametrize("value", [1e3, 1e8, 1e30, np.inf, np.nan])
@pytest.mark.parametrize("name", ["krum", "multi_krum", "geometric_median", "median", "trimmed_mean"])
def test_no_rule_measures_from_row_0(name, value):
    """With the absurd row first and a common part of 10, each rule stays within its certificate."""
    rng = np.random.default_rng(3)
    honest = (10 + 1e-3 * rng.normal(size=(20, 8, 50))).astype(np.float32)
    panel = np.concatenate([pivot(honest, 2, value=value), honest], axis=1)
    operator = fusion.get_operator(name)
    if operator.row.takes_budget:
        operator.set_params(n_byzantine=2)
    wide = honest.astype(float)
    centre = wide.mean(axis=1)
    variance = np.square(wide - centre[:, None]).sum(axis=(1, 2)) / 8
    error = np.square(operator(panel) - centre).sum(axis=1)
    assert (error <= operator.row.resilience(10, 2).value * variance * 1.01).all()


@pytest.mark.parametrize(
    ("attack", "params", "says"),
    [
        (sign_flip, {"scale": np.nan}, "scale must be a finite number"),
        (inner_product, {"tau": "1"}, "tau must be a finite number"),
        (a_little_is_enough, {"z": np.inf}, "z must be a finite number"),
        (a_little_is_enough, {"ddof": -1}, "ddof must be a whole number >= 0"),
        (a_little_is_enough, {"ddof": 7}, "ddof=7 needs more than 7 honest"),
        (a_little_is_enough, {"count": "some"}, "count must be one of"),
        (colluders, {"z": None}, "z must be a finite number"),
        (mimic, {"target": 7}, "target=7 is none of the 7"),
        (mimic, {"target": 0.5}, "target=0.5 is none of the 7"),
        (gaussian, {"scale": 0.0}, "scale must be a finite number > 0"),
        (constant, {"value": [1.0, 2.0]}, "one number or 3"),
        (constant, {"value": "many"}, "must hold numbers"),
        (infinite, {"sign": 0}, "sign must not be 0"),
        (label_permutation, {"shift": 0.5}, "shift must be a whole number"),
        (min_max, {"direction": "up"}, "direction must be one of"),
        (min_sum, {"direction": "up"}, "direction must be one of"),
        (optimal, {"family": "best"}, "family must be one of"),
        (optimal, {"evals": 0}, "evals must be a whole number >= 1"),
        (optimal, {"delta": 0}, "delta must be a finite number > 0"),
        (optimal, {"ratio": 1.0}, r"ratio must lie in \(0, 1\)"),
        (optimal, {"start": np.inf}, "start must be a finite number"),
        (optimal, {"rule": 3}, "rule must be a name"),
        (optimal, {"rule": "nearest_neighbor_mixing"}, "fuses nothing by itself"),
        (stale, {"lag": 0}, "lag must be a whole number >= 1"),
        (bit_flip, {"bits": []}, r"places 0\.\.63"),
        (bit_flip, {"bits": [64]}, r"places 0\.\.63"),
        (bit_flip, {"target": 9}, "target=9 is none"),
        (pivot, {"value": "far"}, "value must be a number"),
        (pivot, {"z": np.nan}, "z must be a finite number"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused(attack, params, says):
    with pytest.raises(PanelError, match=says):
        attack(HONEST, 2, rng=np.random.default_rng(0), **params)


def test_what_else_is_refused():
    with pytest.raises(PanelError, match="needs float16, float32 or float64"):
        bit_flip(HONEST.astype(np.longdouble), 1)
    with pytest.raises(BudgetError, match="trimmed_mean with n_byzantine=7 needs at least 15"):
        optimal(HONEST, 7)


def test_min_max_takes_no_table_of_all_pairs():
    honest = np.random.default_rng(0).normal(size=(30, 20_000))
    min_max(honest[:, :2], 1)
    tracemalloc.start()
    try:
        min_max(honest, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * honest.nbytes


def test_min_max_of_one_honest_specialist_is_its_answer():
    np.testing.assert_allclose(min_max([[3.0, 4.0]], 2), [[3.0, 4.0]] * 2)


@pytest.mark.parametrize(("dtype", "evals"), [("float16", 20), ("float32", 200), ("float64", 1100)])
@pytest.mark.parametrize("family", ["constant", "a_little_is_enough"])
def test_optimal_stays_within_the_range_of_numbers(dtype, evals, family):
    honest = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(dtype)
    lies = optimal(honest, 2, rule="mean", family=family, evals=evals)
    assert lies.dtype == dtype
    assert np.isfinite(lies).all()
    assert (np.abs(lies.astype(np.float64)).max(axis=(1, 2)) > 1e4).all()
