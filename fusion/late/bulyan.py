"""Bulyan: picks by Krum, then a mean around the median of the picks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, check_choice
from fusion._faults import Rule, Unclean, cached_rule, rescale
from fusion._operator import Operator
from fusion._run import ordered_sum, run
from fusion.late._choices import clean_distances
from fusion.late._coordinates import blocks, nearest_shares, widened
from fusion.late._windows import inner_mean
from fusion.late.order import _median_core
from theory._exceptions import PanelError

_VARIANTS = ("krum", "multi_krum")


def bulyan(
    panel: Any,
    *,
    n_byzantine: int | float,
    variant: str = "krum",
    weights: Any = None,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Pick specialists by Krum, and average each output's values nearest to the median of the picks.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/4).
    variant : {"krum", "multi_krum"}, default "krum"
        ``"krum"``: n - 2f picks, one after the other, each the best of the r that are left by the sum of
        its max(1, r-f-2) smallest squared distances, as in the paper. ``"multi_krum"``: the n - 2f - 2 best
        scores of all, as in some libraries.
    weights : None
        There is no weighted form; 0 leaves a specialist out, other weights must be equal.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault and uses up the budget, NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        If there are fewer than 4 n_byzantine + 3 specialists, or more faults than n_byzantine.
    PanelError
        If the panel, the weights or an option cannot be read.

    Notes
    -----
    NaN is never averaged; a row whose squared norm overflows float64 is picked last. Ties: the first
    specialist among the picks; values equally far from the median share a place. Two specialists who are each
    other's nearest tie wherever one neighbour counts, so that the answer can depend on the order of the
    specialists. There is no certificate here.

    References
    ----------
    El Mhamdi, Guerraoui, Rouault (2018), The hidden vulnerability of distributed learning in Byzantium,
    section 4.

    Examples
    --------
    >>> bulyan([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [1e6]], n_byzantine=1)
    array([2.])
    """
    rule = _bulyan_rule(n_byzantine, variant)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class Bulyan(Operator):
    """Bulyan; see `bulyan`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    variant : {"krum", "multi_krum"}, default "krum"
        How the specialists are picked.

    Examples
    --------
    >>> Bulyan(1).support([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [1e6]]).round(3)
    array([0.   , 0.333, 0.333, 0.333, 0.   , 0.   , 0.   ])
    """

    name: ClassVar[str] = "bulyan"
    n_byzantine: int | float = 1
    variant: str = "krum"

    def _rule(self) -> Rule:
        return _bulyan_rule(self.n_byzantine, self.variant)


@cached_rule
def _bulyan_rule(n_byzantine: Any, variant: str) -> Rule:
    check_choice("variant", variant, _VARIANTS)

    def picks(rows: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[np.intp]:
        if alpha is not None:
            raise PanelError("bulyan has no weighted form. Drop the weights, or use trimmed_mean.")
        n_samples, n, _ = rows.shape
        count = n - 2 * f if variant == "krum" else n - 2 * f - 2
        chosen = np.empty((n_samples, count), dtype=np.intp)
        step = max(1, 200_000 // (n * n))
        for start in range(0, n_samples, step):
            part = slice(start, start + step)
            chosen[part] = _picks(_distances(rows[part]), f, count, variant)
        return chosen

    def fuse(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        chosen = picks(rows, f, alpha)
        out = np.empty((rows.shape[0], rows.shape[2]), dtype=rows.dtype)
        for part in _slices(rows.shape):
            own = chosen[part]
            # Rows that are not finite are picked last, but may have to be.
            picked = (
                np.take_along_axis(rows[part], own[:, :, None], axis=1)
                if len(own) > 1
                else rows[part, own[0]]
            )
            out[part], _ = inner_mean(
                np.ascontiguousarray(picked),
                2 * f,
                "around_median",
                lambda values: _nearest_shares(values, f),
            )
        return out, _not_finite(rows)

    def share(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        chosen = picks(rows, f, alpha)
        result = np.zeros(rows.shape)
        for part, columns in blocks(rows.shape):
            shares = _shares(rows[part, :, columns], chosen[part], f)
            into = result[part, :, columns]
            np.put_along_axis(into, chosen[part][:, :, None], shares, axis=1)
            result[part, :, columns] = into
        return result, _not_finite(rows)

    return Rule(
        name="bulyan",
        minimum=lambda f: 4 * f + 3,
        n_byzantine=n_byzantine,
        fuse=fuse,
        share=share,
    )


def _distances(rows: NDArray[Any]) -> Floats:
    """Give squared distances of panels of any magnitude; rows that are not finite are infinitely far."""
    square, bad = clean_distances(rows)
    where = np.flatnonzero(bad)
    if where.size:
        finite = np.isfinite(rows[where]).all(axis=2)
        values, overflowing = rescale(rows[where], finite)
        away = overflowing | ~finite
        again, _ = clean_distances(np.where(away[:, :, None], 0.0, values))
        square[where] = np.where(away[:, :, None] | away[:, None, :], np.inf, again)
        square[:, np.arange(rows.shape[1]), np.arange(rows.shape[1])] = 0.0
    return square


def _picks(square: Floats, f: int, count: int, variant: str) -> NDArray[np.intp]:
    n_samples, n, _ = square.shape
    samples, places = np.arange(n_samples), np.arange(n)
    square = square.copy()
    # A row is no neighbour of its own, nor are those that have been picked.
    square[:, places, places] = np.inf
    if variant == "multi_krum":
        scores = ordered_sum(np.sort(square, axis=2)[:, :, : max(1, n - f - 2)], 2)
        return np.argsort(scores, axis=1, kind="stable")[:, :count]
    chosen = np.empty((n_samples, count), dtype=np.intp)
    left = np.ones((n_samples, n), dtype=bool)
    for pick in range(count):
        remaining = n - pick
        neighbors = min(max(1, remaining - f - 2), remaining - 1)
        scores = ordered_sum(np.sort(square, axis=2)[:, :, :neighbors], 2)
        # Infinite scores of rows that are left still come before those of rows that are gone.
        best = np.lexsort((np.broadcast_to(places, left.shape), scores, ~left), axis=1)[:, 0]
        chosen[:, pick] = best
        left[samples, best] = False
        square[samples, best] = np.inf
        square[samples, :, best] = np.inf
    return chosen


def _slices(shape: tuple[int, ...]) -> list[slice]:
    """Cut the samples into slices whose picks are copied together."""
    step = max(1, 4_000_000 // (shape[1] * shape[2]))
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def _not_finite(rows: NDArray[Any]) -> NDArray[np.bool_]:
    # A sum that is finite says so for all; one that overflows says nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        doubtful = ~np.isfinite(rows.reshape(len(rows), -1).sum(axis=1))
    for s in np.flatnonzero(doubtful):
        doubtful[s] = not np.isfinite(rows[s]).all()
    return np.asarray(doubtful)


def _shares(rows: NDArray[Any], chosen: NDArray[np.intp], f: int) -> NDArray[Any]:
    """Shares of the picks in every output."""
    return _nearest_shares(np.take_along_axis(rows, chosen[:, :, None], axis=1), f)


def _nearest_shares(values: NDArray[Any], f: int) -> NDArray[Any]:
    block = np.ascontiguousarray(widened(values))
    with np.errstate(over="ignore", invalid="ignore"):
        centre = 4.0 * _median_core(0.25 * block, 0, None)[0]
        return nearest_shares(block, centre, None, values.shape[1] - 2 * f)
