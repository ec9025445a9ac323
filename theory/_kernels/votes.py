"""Counting votes over all subsets of a panel."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def plurality_sums(
    counts: NDArray[np.int64], binomial: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """Fill out[u, s] with the sum, over all s-subsets of a vote, of the share of the truth in its win.

    counts[u] holds the votes for the truth, then those for every wrong answer, largest first;
    binomial[n, k] = 0 for k > n. The twin is ``theory.pricing._vote_games.plurality_sums_numpy``.
    """
    n_rows, n_groups = counts.shape
    width = out.shape[1]
    old = np.zeros((n_groups, width))
    new = np.zeros((n_groups, width))
    for u in range(n_rows):
        true = counts[u, 0]
        for s in range(width):
            out[u, s] = 0.0
        for a in range(1, true + 1):
            # old[k, x]: ways to draw x wrong votes, no answer above a, k of them level with a.
            for k in range(n_groups):
                for x in range(width):
                    old[k, x] = 0.0
            old[0, 0] = 1.0
            level, drawn = 0, 0
            for j in range(1, n_groups):
                w = counts[u, j]
                if w == 0:
                    break
                ties = 1 if w >= a else 0
                below = min(w, a - 1)
                for k in range(level + ties + 1):
                    for x in range(drawn + min(w, a) + 1):
                        new[k, x] = 0.0
                for k in range(level + 1):
                    for x in range(drawn + 1):
                        ways = old[k, x]
                        if ways != 0.0:
                            for y in range(below + 1):
                                new[k, x + y] += ways * binomial[w, y]
                            if ties:
                                new[k + 1, x + a] += ways * binomial[w, a]
                level += ties
                drawn += min(w, a)
                for k in range(level + 1):
                    for x in range(drawn + 1):
                        old[k, x] = new[k, x]
            for k in range(level + 1):
                for x in range(drawn + 1):
                    out[u, x + a] += binomial[true, a] * old[k, x] / (1.0 + k)
