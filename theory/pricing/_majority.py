"""The two-way majority from a full table of right and wrong, by how many were right.

Every voter of a sample with c right votes earns one of two amounts, so that all that prices and their standard
errors need is how often each specialist was right among the samples with c right votes: O(M^2) memory, and no
table by sample.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory._backends import from_array, kind_of
from theory.pricing._terms import Terms
from theory.pricing._vote_games import vote_prices

Floats = NDArray[np.float64]
_BLOCK = 2048


class Majority(NamedTuple):
    """Prices, their sums of squared deviations, the total and the number of compositions."""

    value: Floats
    deviation: Floats
    total: float
    compositions: int


def plain_table(source: Any) -> NDArray[Any] | None:
    """Return a (sample, specialist) array that holds 0 and 1 only, None for anything else."""
    if kind_of(source) in ("xarray", "pandas", "torch"):
        return None
    values = from_array(source)
    if values.ndim != 2 or values.dtype.kind not in "biuf" or 0 in values.shape:
        return None
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        if not ((block == 0) | (block == 1)).all():
            return None
    return values


def majority_by_count(values: NDArray[Any], v0: float, terms: Terms) -> Majority:
    """Prices of the majority from a table of 0 and 1, and one loss of the empty panel."""
    n, m = values.shape
    hits, samples = right_by_count(values)
    right = np.arange(m + 1)
    gains, totals, found = vote_prices(
        np.column_stack([right, m - right]), np.column_stack([right, right - m]), np.full(m + 1, v0),
        rule=terms.rule, beta=terms.beta, quorum=terms.quorum, compiled=m > 16,
    )  # fmt: skip
    misses = samples[:, None] - hits
    value = (gains[:, 0] @ hits + gains[:, 1] @ misses) / n
    deviation = np.einsum("ci,ci->i", hits, (gains[:, :1] - value) ** 2)
    deviation += np.einsum("ci,ci->i", misses, (gains[:, 1:] - value) ** 2)
    return Majority(value, deviation, float(totals @ samples) / n, found)


def right_by_count(values: NDArray[Any]) -> tuple[Floats, Floats]:
    """Count, by number of right votes, how often each specialist was right, and how many samples there are."""
    n, m = values.shape
    hits, samples = np.zeros((m + 1, m)), np.zeros(m + 1)
    for start in range(0, n, _BLOCK):
        block = values[start : start + _BLOCK].astype(np.float64, copy=False)
        count = (block @ np.ones(m)).astype(np.int64)
        order = np.argsort(count, kind="stable")
        number = np.bincount(count, minlength=m + 1)
        here = np.flatnonzero(number)
        first = np.concatenate([[0], np.cumsum(number[here])[:-1]])
        hits[here] += np.add.reduceat(block[order], first, axis=0)
        samples += number
    return hits, samples
