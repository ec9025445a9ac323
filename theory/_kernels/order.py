"""Prices of rules that sort, sample by sample."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Samples side by side: LLVM turns the innermost loops into vector instructions.
_LANES = 32


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _pair(
    c: NDArray[np.float64], p: int, q: int, e: NDArray[np.float64], rows: NDArray[np.float64], inner: bool
) -> None:
    """Add the coalitions whose lowest and highest kept ranks are p < q, for all lanes.

    rows holds, one after the other: sums for ranks below p (m), above q (m), at p or q (m), then what opens and
    closes between them: level, slope (m + 1 each), and the two running sums.
    """
    m = len(e)
    at = 5 * m + 2
    c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    c8, c9, c10, c11 = c[8], c[9], c[10], c[11]
    for lane in range(_LANES):
        x = e[q, lane]
        u, s, ss = e[p, lane] + x, rows[at, lane], rows[at + 1, lane]
        uu, us = u * u, 2.0 * u * s
        xx = s * s - ss
        rows[p, lane] += c0 * uu + c1 * us + c2 * ss + c3 * xx
        rows[m + q, lane] += c4 * uu + c5 * us + c6 * ss + c7 * xx
        end = c8 * uu + c9 * us + c10 * ss + c11 * xx
        rows[2 * m + p, lane] += end
        rows[2 * m + q, lane] += end
    if inner:
        c12, c13, c14, c15, c16, c17 = c[12], c[13], c[14], c[15], c[16], c[17]
        for lane in range(_LANES):
            u, s, ss = e[p, lane] + e[q, lane], rows[at, lane], rows[at + 1, lane]
            f = c12 * u * u + c13 * 2.0 * u * s + c14 * ss + c15 * (s * s - ss)
            rows[3 * m + p + 1, lane] += f
            rows[3 * m + q, lane] -= f
            f = c16 * u + c17 * s
            rows[4 * m + 1 + p + 1, lane] += f
            rows[4 * m + 1 + q, lane] -= f
    for lane in range(_LANES):
        x = e[q, lane]
        rows[at, lane] += x
        rows[at + 1, lane] += x * x


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def order_prices(
    ranked: NDArray[np.float64],
    order: NDArray[np.int64],
    tables: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Add to out[sample, specialist] the loss that a sorting rule attributes to each specialist.

    ranked[sample] holds the errors in ascending order, order[sample] whose they are, tables[P, Q] the
    coefficients of ``theory.pricing._order_games.order_tables``. The twin is ``order_prices_numpy`` there.
    """
    n, m = ranked.shape
    e = np.zeros((m, _LANES))
    rows = np.zeros((5 * m + 4, _LANES))
    at = 5 * m + 2
    curve = np.zeros(m + 1)
    for p in range(m):
        for q in range(p + 2, m):
            curve[p + 1] += tables[p, q, 18]
            curve[q] -= tables[p, q, 18]
    for i in range(m):
        curve[i + 1] += curve[i]
    for start in range(0, n, _LANES):
        width = min(_LANES, n - start)
        for lane in range(width):
            for i in range(m):
                e[i, lane] = ranked[start + lane, i]
        rows[:] = 0.0
        for p in range(m):
            for lane in range(_LANES):
                square = e[p, lane] * e[p, lane]
                rows[p, lane] += tables[p, p, 0] * square
                rows[m + p, lane] += tables[p, p, 4] * square
                rows[2 * m + p, lane] += tables[p, p, 8] * square
                rows[at, lane] = 0.0
                rows[at + 1, lane] = 0.0
            for q in range(p + 1, m):
                _pair(tables[p, q], p, q, e, rows, q > p + 1)
        # Those above add to every rank below them, and the other way round.
        for i in range(1, m):
            for lane in range(_LANES):
                rows[m + i, lane] += rows[m + i - 1, lane]
                rows[3 * m + i, lane] += rows[3 * m + i - 1, lane]
                rows[4 * m + 1 + i, lane] += rows[4 * m + i, lane]
        for i in range(m - 2, -1, -1):
            for lane in range(_LANES):
                rows[i, lane] += rows[i + 1, lane]
        for lane in range(width):
            for i in range(m):
                x = e[i, lane]
                loss = (
                    rows[2 * m + i, lane]
                    + rows[3 * m + i, lane]
                    + x * (rows[4 * m + 1 + i, lane] + x * curve[i])
                )
                if i > 0:
                    loss += rows[m + i - 1, lane]
                if i + 1 < m:
                    loss += rows[i + 1, lane]
                out[start + lane, order[start + lane, i]] += loss
