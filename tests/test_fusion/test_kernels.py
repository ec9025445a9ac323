"""Compiled cores: networks sort, the interpreter and the compiler agree, one specialisation per dtype."""

from __future__ import annotations

import inspect
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from fusion._kernels import compiled, distance, geometric, order
from fusion._kernels.networks import comparators


@pytest.mark.parametrize("n", range(1, 10))
def test_networks_place_their_ranks(n):
    """The 0-1 principle: a network that sorts all zeros and ones sorts everything."""
    for low in range(n):
        for high in range(low + 1, n + 1):
            values = np.array(list(product((0, 1), repeat=n)))
            expected = np.sort(values, axis=1)[:, low:high]
            for i, j in comparators(n, low, high):
                assert i < j
                values[:, [i, j]] = np.sort(values[:, [i, j]], axis=1)
            np.testing.assert_array_equal(values[:, low:high], expected)


@pytest.mark.parametrize(("n", "full", "pruned"), [(5, 9, 8), (11, 37, 31), (25, 138, 113), (100, 1077, 889)])
def test_network_sizes(n, full, pruned):
    assert len(comparators(n, 0, n)) == full
    assert len(comparators(n, (n - 1) // 2, n // 2 + 1)) == pruned


def run(function, signature, dtype, arguments, *, compiled_one):
    if compiled_one:
        kernel = compiled.core(function, signature, np.dtype(dtype), work=10**9)
    else:
        kernel = compiled._interpret(function)
    kernel(*arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_interpreted_and_compiled_give_the_same_bits(dtype):
    rng = np.random.default_rng(0)
    panel = rng.normal(size=(5, 6, 3)).astype(dtype)
    panel[2, 1, 0] = np.nan
    panel[3, 2] = 1e30
    results = []
    for how in (False, True):
        out, marks = np.zeros((5, 3), dtype), np.zeros(5, np.uint8)
        run(
            order.kept_mean,
            order.KEPT_MEAN,
            dtype,
            (panel, comparators(6, 1, 5), 1, 5, 8, out, marks),
            compiled_one=how,
        )
        scores, unclean = np.zeros((5, 6)), np.zeros(5, np.uint8)
        run(
            distance.krum_scores,
            distance.KRUM_SCORES,
            dtype,
            (panel, comparators(5, 0, 3), 3, scores, unclean),
            compiled_one=how,
        )
        found, residual, bad = np.zeros((5, 6)), np.zeros(5), np.zeros(5, np.uint8)
        alpha = np.full((1, 6), 1 / 6)
        run(
            geometric.geometric_weights,
            geometric.GEOMETRIC_WEIGHTS,
            dtype,
            (panel, alpha, comparators(6, 2, 4), 1e-10, 32, found, residual, bad),
            compiled_one=how,
        )
        results.append((out, marks, scores, unclean, found, residual, bad))
    for one, other in zip(*results, strict=True):
        clean = np.arange(5) != 2
        np.testing.assert_array_equal(
            one[clean] if len(one) == 5 else one, other[clean] if len(other) == 5 else other
        )
    assert results[1][1].tolist() == [0, 0, 1, 0, 0]
    assert results[1][3].tolist() == [0, 0, 1, 0, 0]
    assert results[1][6].tolist() == [0, 0, 1, 0, 0]


def test_read_only_panels_need_no_second_compilation():
    panel = np.random.default_rng(1).normal(size=(600, 5, 3))
    kernel = compiled.core(order.kept_mean, order.KEPT_MEAN, panel.dtype, work=10**9)
    frozen = panel.copy()
    frozen.flags.writeable = False
    for given in (panel, frozen):
        out, marks = np.zeros((600, 3)), np.zeros(600, np.uint8)
        kernel(given, comparators(5, 1, 4), 1, 4, 240, out, marks)
        np.testing.assert_allclose(out, np.sort(panel, axis=1)[:, 1:4].mean(axis=1))
    assert len(kernel.signatures) == 1


@pytest.mark.parametrize(
    "function",
    [
        order.kept_mean,
        distance.krum_scores,
        distance.least_scores,
        distance.square_distances,
        distance.centred_gram,
        geometric.geometric_weights,
    ],
)
def test_signatures_match_their_functions(function):
    letters = getattr(inspect.getmodule(function), function.__name__.upper()).split()
    assert len(letters) == len(inspect.signature(function).parameters)


def test_tiny_panels_do_not_load_numba():
    code = (
        "import sys, numpy as np, fusion\n"
        "x = np.random.default_rng(0).normal(size=(15, 5))\n"
        "for name in ('mean', 'median', 'trimmed_mean', 'krum', 'multi_krum', 'plurality_vote'):\n"
        "    fusion.get_operator(name)(x)\n"
        "assert 'numba' not in sys.modules and 'scipy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
