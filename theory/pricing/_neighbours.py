"""The nearest-neighbour game: a coalition is right as often as its nearest members are."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._exceptions import PanelError
from theory.pricing._order_games import binomials
from theory.pricing._semivalues import size_law
from theory.pricing._terms import Terms, assemble, mean_and_deviation, read_v0
from theory.pricing._weighted_votes import read_right
from theory.pricing.result import Prices

Floats = NDArray[np.float64]


@lru_cache(maxsize=256)
def neighbour_steps(m: int, k: int, rule: str, beta: tuple[float, float] | None) -> Floats:
    """Coefficients of the recursion from the farthest specialist to the nearest.

    Entry r < m - 1 (0 = nearest) weighs right_r - right_{r+1} in the difference of their values, the last one
    the value of the farthest. Two neighbours in rank differ where fewer than k of the r nearer ones take part,
    whoever of the farther ones does. For Shapley this is min(k, r + 1) / (k (r + 1)) of Jia et al.
    """
    law = size_law(m, rule, beta)
    out = np.zeros(m)
    if rule == "shapley":
        rank = np.arange(1, m)
        out[:-1] = np.minimum(k, rank) / (k * rank)
        out[-1] = min(k, m) / (k * m)
        return out
    table = binomials(m)
    share = law / table[m - 1, :m]
    pair = share[:-1] + share[1:]  # by the number of others in the coalition
    for r in range(m - 1):
        nearer = table[r, : min(k, r + 1)]
        farther = table[m - 2 - r, : m - 1 - r]
        sizes = np.arange(len(nearer))[:, None] + np.arange(len(farther))[None, :]
        out[r] = float((nearer[:, None] * farther[None, :] * pair[sizes]).sum()) / k
    out[-1] = float(law[:k].sum()) / k
    return out


def price_neighbours(
    source: Any, y: ArrayLike | None, v0: Any, distance: Any, n_neighbors: Any, terms: Terms, *, groups: Any
) -> Prices:
    """Prices where the nearest specialists of each sample answer, and each counts 1 / n_neighbors."""
    right, present, names = read_right(source, y, "knn")
    n, m = right.shape
    far = None if distance is None else np.asarray(distance, dtype=np.float64)
    if far is None or far.shape != (n, m) or not np.isfinite(far[present]).all():
        raise PanelError(
            f"game='knn' needs distance=, a finite number for every sample and specialist ({n}, {m}); got "
            f"{'none' if far is None else f'shape {far.shape}'}."
        )
    if not isinstance(n_neighbors, int | np.integer) or n_neighbors < 1:
        raise PanelError(f"game='knn' needs n_neighbors=, a whole number of at least 1; got {n_neighbors!r}.")
    if terms.quorum != 1:
        raise PanelError("game='knn' has no quorum: leave quorum= out.")
    k = int(n_neighbors)
    loss0 = read_v0(1.0 if v0 is None else v0, n)
    # The game's own empty panel is never right; another v0 moves the coalition of one only.
    order = np.argsort(np.where(present, far, np.inf), axis=1, kind="stable")
    hits = np.take_along_axis(np.where(present, right, 0.0), order, axis=1)
    detail = np.zeros((n, m))
    totals = np.zeros(n)
    sizes = present.sum(axis=1)
    for size in np.unique(sizes[sizes > 0]).tolist():
        rows = sizes == size
        steps = neighbour_steps(size, k, terms.rule, terms.beta)
        h = hits[rows, :size]
        gaps = np.column_stack([h[:, :-1] - h[:, 1:], h[:, -1]]) * steps
        worth = np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1]
        start = float(size_law(size, terms.rule, terms.beta)[0])
        worth = worth + start * (loss0[rows] - 1.0)[:, None]
        padded = np.zeros((len(worth), m))
        padded[:, :size] = worth
        out = np.zeros((len(worth), m))
        np.put_along_axis(out, order[rows], padded, axis=1)
        detail[rows] = out
        totals[rows] = loss0[rows] - 1.0 + h[:, :k].sum(axis=1) / k
    value, deviation = mean_and_deviation(detail, groups, terms)
    return assemble(
        terms, terms.named(names), "knn", value, float(totals.mean()), float(loss0.mean()),
        deviation=deviation, n=n, exact=True, method="recursion",
        per_sample=detail if terms.per_sample else None, warnings=terms.reminder(),
    )  # fmt: skip
