"""Sums over the outputs of long rows about a point, and steps from it: one pass through the panel each.

Every sum runs in float64, whatever the panel's precision: a pass waits for memory, not for arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Outputs of a tile: the point's part of it (float64) then stays in the first-level cache for all rows.
_WIDTH = 2048
GAP_SQUARES = "p3 w2 n n f2"
ROW_PRODUCTS = "p3 n n f2 f2"
CLIPPED_STEPS = "p3 w2 w2 n n f2"


def gap_squares(
    panel: NDArray[Any], point: NDArray[np.float64], begin: int, end: int, square: NDArray[np.float64]
) -> None:
    """Add every row's squared distance from `point` (1 or sample, output) over outputs begin..end-1."""
    n_samples, n, _ = panel.shape
    for s in range(n_samples):
        at = s if point.shape[0] > 1 else 0
        for first in range(begin, end, _WIDTH):
            last = min(first + _WIDTH, end)
            centre = point[at, first:last]
            for i in range(n):
                row = panel[s, i, first:last]
                total = 0.0
                for o in range(last - first):
                    gap = np.float64(row[o]) - centre[o]
                    total += gap * gap
                square[s, i] += total


def row_products(
    panel: NDArray[Any],
    begin: int,
    end: int,
    square: NDArray[np.float64],
    product: NDArray[np.float64],
) -> None:
    """Add every row's squared norm, and its product with row 0, over outputs begin..end-1."""
    n_samples, n, _ = panel.shape
    for s in range(n_samples):
        for first in range(begin, end, _WIDTH):
            last = min(first + _WIDTH, end)
            other = panel[s, 0, first:last]
            for i in range(n):
                row = panel[s, i, first:last]
                own = 0.0
                with_other = 0.0
                for o in range(last - first):
                    value = np.float64(row[o])
                    own += value * value
                    with_other += value * np.float64(other[o])
                square[s, i] += own
                product[s, i] += with_other


def clipped_steps(
    panel: NDArray[Any],
    point: NDArray[np.float64],
    step: NDArray[np.float64],
    begin: int,
    end: int,
    moved: NDArray[np.float64],
) -> None:
    """Write point + sum_i step_i (row_i - point) for outputs begin..end-1; rows of step 0 are not read."""
    n_samples, n, _ = panel.shape
    total = np.empty(_WIDTH, np.float64)
    for s in range(n_samples):
        for first in range(begin, end, _WIDTH):
            size = min(_WIDTH, end - first)
            centre = point[s, first : first + size]
            out = moved[s, first : first + size]
            for o in range(size):
                total[o] = 0.0
            for i in range(n):
                weight = step[s, i]
                if weight == 0.0:
                    continue
                row = panel[s, i, first : first + size]
                for o in range(size):
                    total[o] += weight * (np.float64(row[o]) - centre[o])
            for o in range(size):
                out[o] = centre[o] + total[o]
