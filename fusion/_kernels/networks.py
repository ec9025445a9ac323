"""Comparator networks as arrays: one compiled loop serves every number of specialists."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=512)
def comparators(n: int, low: int, high: int) -> NDArray[np.int64]:
    """List the comparators that put ranks low..high-1 of n values into their places.

    Parameters
    ----------
    n : int
        Number of values.
    low, high : int
        The wanted ranks, counted from 0: low <= rank < high.

    Returns
    -------
    ndarray of int64, shape (comparator, 2), read-only
        Pairs i < j; the smaller value goes to i.

    References
    ----------
    Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M (odd-even merge).
    """
    full: list[tuple[int, int]] = []
    top = 1 << max(n - 1, 1).bit_length() - 1
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            full += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    # Backwards: a comparator matters only if one of its two places is still asked for.
    wanted = set(range(low, high))
    kept = []
    for i, j in reversed(full):
        if i in wanted or j in wanted:
            wanted |= {i, j}
            kept.append((i, j))
    pairs = np.array(kept[::-1], dtype=np.int64).reshape(-1, 2)
    pairs.flags.writeable = False
    return pairs
