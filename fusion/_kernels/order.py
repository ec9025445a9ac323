"""Mean of the middle order statistics, per coordinate, in lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Columns handled together, measured on (11, 10) batches and on single vectors of a million columns.
LANES = 240
LANES_OF_A_VECTOR = 480
KEPT_MEAN = "p3 i2 n n n o2 b1"


def kept_mean(
    panel: NDArray[Any],
    pairs: NDArray[np.int64],
    low: int,
    high: int,
    lanes: int,
    out: NDArray[Any],
    unclean: NDArray[np.uint8],
) -> None:
    """Average ranks low..high-1 of every coordinate; mark samples that hold a non-finite value."""
    n_samples, n, d = panel.shape
    per_block = max(lanes // d, 1)
    width = min(d, lanes)
    buffer = np.empty((n, per_block * width), panel.dtype)
    total = np.empty(per_block * width, np.float64)
    means = np.empty(per_block * width, panel.dtype)
    fault = np.empty(per_block * width, panel.dtype)
    divisor = float(high - low)
    for first in range(0, n_samples, per_block):
        samples = min(per_block, n_samples - first)
        for column in range(0, d, width):
            columns = min(width, d - column)
            size = samples * columns
            for s in range(samples):
                # Slices, so that indices start at 0: a sum as an index keeps LLVM from using vectors.
                start = s * columns
                for i in range(n):
                    source = panel[first + s, i, column : column + columns]
                    target = buffer[i, start : start + columns]
                    for o in range(columns):
                        target[o] = source[o]
            for k in range(size):
                fault[k] = 0.0
                total[k] = 0.0
            # x - x is 0 for numbers and NaN for NaN and infinities, which comparators would hide.
            for i in range(n):
                for k in range(size):
                    fault[k] += buffer[i, k] - buffer[i, k]
            for pair in range(pairs.shape[0]):
                a = pairs[pair, 0]
                b = pairs[pair, 1]
                for k in range(size):
                    x = buffer[a, k]
                    y = buffer[b, k]
                    buffer[a, k] = x if x < y else y
                    buffer[b, k] = y if x < y else x
            for i in range(low, high):
                for k in range(size):
                    total[k] += buffer[i, k]
            faults = 0
            for k in range(size):
                means[k] = total[k] / divisor
                faults += 1 if fault[k] != 0.0 else 0
            for s in range(samples):
                start = s * columns
                target = out[first + s, column : column + columns]
                source = means[start : start + columns]
                for o in range(columns):
                    target[o] = source[o]
            if faults > 0:
                for k in range(size):
                    if fault[k] != 0.0:
                        unclean[first + k // columns] = 1
