"""Weighted votes, counted over all subsets of voters."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def weighted_vote_prices(
    leads: NDArray[np.int64], share: NDArray[np.float64], quorum: int, out: NDArray[np.float64]
) -> None:
    """Fill out[row, i] with the win that voter i adds; the twin is ``weighted_vote_prices_numpy``.

    leads[row, i] is the weight of voter i, negative where it is wrong; share[s] weighs one coalition of size s
    of the others. Counting all voters but one for every one takes log2(m) additions of a voter each: a level
    holds the coalitions of all voters outside a span, which is halved from level to level.
    """
    n, m = leads.shape
    reach = 0
    for row in range(n):
        total = 0
        for i in range(m):
            total += abs(leads[row, i])
        reach = max(reach, total)
    depth = 0
    while (1 << depth) < m:
        depth += 1
    ways = np.zeros((depth + 1, m + 1, 2 * reach + 1))
    ways[0, 0, reach] = 1.0
    for row in range(n):
        for i in range(m):
            for level in range(1, depth + 1):
                span = 1 << (depth - level)
                if i % span != 0:
                    continue
                ways[level] = ways[level - 1]
                sibling = (i // span * span) ^ span
                for j in range(sibling, min(sibling + span, m)):
                    w = leads[row, j]
                    for s in range(m - 1, -1, -1):
                        for x in range(max(0, -w), 2 * reach + 1 - max(0, w)):
                            ways[level, s + 1, x + w] += ways[level, s, x]
            w = leads[row, i]
            gain = 0.0
            for s in range(m):
                before, after = 0.0, 0.0
                for x in range(max(0, -w), 2 * reach + 1 - max(0, w)):
                    count = ways[depth, s, x]
                    lead = x - reach
                    before += count * (1.0 if lead > 0 else 0.5 if lead == 0 else 0.0)
                    lead += w
                    after += count * (1.0 if lead > 0 else 0.5 if lead == 0 else 0.0)
                if s < quorum:
                    before = 0.0
                if s + 1 < quorum:
                    after = 0.0
                gain += share[s] * (after - before)
            out[row, i] = gain
