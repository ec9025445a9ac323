"""Many small samples at once, one per lane of a vector register."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from fusion._kernels.pairs import pair_block, tile_size
from fusion._kernels.turning import turn
from fusion._kernels.vectors import kept_sum_step, lanes_of, specialise


def krum_in_lanes(
    panel: NDArray[Any],
    d: int,
    scores: NDArray[np.float64],
    unclean: NDArray[np.uint8],
    n: int,
    rest: int,
    neighbors: int,
    single: int,
    size: int,
    lanes: int,
) -> None:
    """Sum every row's `neighbors` smallest squared distances, as `distance.krum_scores` does.

    Where `single` is 1, the first row of least score gets 1 instead, and the others 0. `rest` is n - 1. The
    number of samples must be a multiple of `lanes`, and n * d at least `lanes`.
    """
    n_samples = scores.shape[0]
    numbers = n * d
    rows = np.zeros(numbers * lanes, np.float64)
    others = np.zeros(n * rest * lanes, np.float64)
    sums = np.zeros(n * lanes, np.float64)
    block = np.zeros(size * size * lanes, np.float64)
    marks = np.zeros(2 * lanes, np.float64)
    least = np.zeros(lanes, np.float64)
    best = np.zeros(lanes, np.int64)
    for first in range(0, n_samples, lanes):
        marks[:] = 0.0
        for k in range((numbers + lanes - 1) // lanes):
            column = min(k * lanes, numbers - lanes)
            turn(panel, first * numbers + column, numbers, rows, column * lanes, lanes, marks, lanes)
        for k in range(lanes):
            peak = marks[lanes + k]
            if marks[k] != 0.0 or peak > 1e140 or 0.0 < peak < 1e-120:
                unclean[first + k] = 1
        for a in range(0, n, size):
            for b in range(a, n, size):
                if a == b:
                    pair_block(rows, d * lanes, d, a, a, n, block, size, lanes, 1)
                else:
                    pair_block(rows, d * lanes, d, a, b, n, block, size, lanes, 0)
                for i in range(a, min(a + size, n)):
                    for j in range(max(b, i + 1), min(b + size, n)):
                        cell = ((i - a) * size + j - b) * lanes
                        one = (i * rest + j - 1) * lanes
                        other = (j * rest + i) * lanes
                        for k in range(lanes):
                            others[one + k] = block[cell + k]
                            others[other + k] = block[cell + k]
        for i in range(n):
            kept_sum_step(others, i * rest * lanes, lanes, sums, i * lanes, rest, 0, neighbors, lanes)
        if single == 1:
            for k in range(lanes):
                least[k] = sums[k]
                best[k] = 0
            for i in range(1, n):
                for k in range(lanes):
                    better = sums[i * lanes + k] < least[k]
                    least[k] = sums[i * lanes + k] if better else least[k]
                    best[k] = i if better else best[k]
            scores[first : first + lanes] = 0.0
            for k in range(lanes):
                scores[first + k, best[k]] = 1.0
        else:
            for k in range(lanes):
                for i in range(n):
                    scores[first + k, i] = sums[i * lanes + k]


@lru_cache(maxsize=256)
def krum_of(dtype: np.dtype[Any], n: int, neighbors: int, single: bool = False) -> Callable[..., None]:
    """Compile `krum_in_lanes` for n rows, or load it from numba's cache; takes its arguments up to `unclean`."""
    scalar = types.float32 if dtype == np.float32 else types.float64
    leading = (
        types.Array(scalar, 1, "C", readonly=True),
        types.int64,
        types.Array(types.float64, 2, "C"),
        types.Array(types.uint8, 1, "C"),
    )
    sizes = (n, n - 1, neighbors, int(single), tile_size(n), lanes_of(np.dtype(np.float64)))
    return specialise(krum_in_lanes, leading, sizes)
