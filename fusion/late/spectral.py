"""Rules that look for the direction in which specialists differ most: CAF and divide-and-conquer."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, check_choice, heaviest
from fusion._faults import Rule, Unclean, cached_rule
from fusion._operator import Operator
from fusion._run import ordered_sum, run
from fusion.late._choices import by_distances
from theory._exceptions import BudgetError, PanelError


def caf(
    panel: Any,
    *,
    n_byzantine: int | float,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Take weight off the specialists that stick out along the worst direction, again and again (CAF).

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: the weights to start with; those of share 1 - 2b stay, where b is the
        weight of the `n_byzantine` heaviest.
    scope : {"sample", "batch"}, default "sample"
        One set of weights per sample, or one for all samples by distances summed over them.
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
        If there are fewer than 2 n_byzantine + 1 specialists, more faults than n_byzantine, or the
        heaviest n_byzantine weights hold one half or more.
    PanelError
        If the panel, the weights or an option cannot be read.

    Notes
    -----
    NaN is never averaged. While more than weight n - 2f is left, the top eigenvector of the weighted covariance
    is taken and every weight multiplied by 1 - tau_i / max tau, tau_i the squared distance from the mean along
    it; the mean of least top eigenvalue is the answer. Every step puts one more specialist to 0, so there are
    at most n, for rows of any size. No constant is certified here; the paper proves one.

    References
    ----------
    Allouah, Guerraoui, Stephan (2025), Towards trustworthy federated learning with untrusted participants,
    algorithm 2.

    Examples
    --------
    >>> caf([[1.0, 2.0], [1.5, 2.0], [2.0, 2.0], [90.0, -90.0]], n_byzantine=1).round(3)
    array([1.501, 2.   ])
    """
    rule = _caf_rule(n_byzantine, scope)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


def dnc(
    panel: Any,
    *,
    n_byzantine: int | float,
    filter_factor: float = 1.0,
    n_iter: int = 1,
    n_coordinates: int = 10_000,
    seed: int = 0,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Drop the specialists that stick out along the top singular vector of random outputs (DnC).

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    filter_factor : float, default 1.0
        How many are dropped, over n_byzantine (papers write c), rounded up.
    n_iter : int, default 1
        How many sets of outputs are drawn; those that every set keeps are averaged.
    n_coordinates : int, default 10_000
        How many outputs are drawn (papers write b); all of them where there are no more.
    seed : int, default 0
        For the drawing; the same outputs for every sample.
    weights : None
        There is no weighted form; 0 leaves a specialist out, other weights must be equal.
    scope : {"sample", "batch"}, default "sample"
        As in `caf`.
    missing : {"fault", "abstain", "raise"}, default "fault"
        As in `caf`.
    excess : {"raise", "nan"}, default "raise"
        As in `caf`.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        If as many would be dropped as there are, more are faulty than n_byzantine, or no specialist is kept
        by every set of outputs.
    PanelError
        If the panel, the weights or an option cannot be read.

    Notes
    -----
    NaN is never averaged. Ties, within 1e-9 of the largest projection: the first specialist. There is no
    certificate.

    References
    ----------
    Shejwalkar, Houmansadr (2021), Manipulating the Byzantine: optimizing model poisoning attacks and defenses
    for federated learning, algorithm 2.

    Examples
    --------
    >>> dnc([[1.0, 2.0], [1.5, 2.0], [2.0, 2.0], [90.0, -90.0]], n_byzantine=1)
    array([1.5, 2. ])
    """
    rule = _dnc_rule(n_byzantine, filter_factor, n_iter, n_coordinates, seed, scope)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class Caf(Operator):
    """Covariance-bound agnostic filter; see `caf`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    scope : {"sample", "batch"}, default "sample"
        One set of weights per sample, or one for all.

    Examples
    --------
    >>> Caf(1).weights([[1.0, 2.0], [2.0, 2.0], [90.0, -90.0]]).round(3)
    array([0.497, 0.503, 0.   ])
    """

    name: ClassVar[str] = "caf"
    n_byzantine: int | float = 1
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _caf_rule(self.n_byzantine, self.scope)


@dataclass(eq=False)
class Dnc(Operator):
    """Divide and conquer; see `dnc`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    filter_factor : float, default 1.0
        How many are dropped, over n_byzantine.
    n_iter : int, default 1
        How many sets of outputs are drawn.
    n_coordinates : int, default 10_000
        How many outputs are drawn.
    seed : int, default 0
        For the drawing.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all.

    Examples
    --------
    >>> Dnc(1).weights([[1.0, 2.0], [2.0, 2.0], [90.0, -90.0]])
    array([0.5, 0.5, 0. ])
    """

    name: ClassVar[str] = "dnc"
    n_byzantine: int | float = 1
    filter_factor: float = 1.0
    n_iter: int = 1
    n_coordinates: int = 10_000
    seed: int = 0
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _dnc_rule(
            self.n_byzantine, self.filter_factor, self.n_iter, self.n_coordinates, self.seed, self.scope
        )


@cached_rule
def _caf_rule(n_byzantine: Any, scope: str) -> Rule:
    check_choice("scope", scope, ("sample", "batch"))

    def weigh(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        n = rows.shape[1]

        def choose(square: Floats, mass: Floats | None) -> Floats:
            if mass is None:
                return _caf_weights(square, np.ones(square.shape[:2]), np.full(len(square), float(n - 2 * f)))
            stop = np.broadcast_to(n * (1.0 - 2.0 * heaviest(mass, f)), len(square))
            return _caf_weights(square, np.broadcast_to(n * mass, square.shape[:2]), stop)

        return by_distances(rows, alpha, choose)

    return Rule(
        name="caf",
        minimum=lambda f: 2 * f + 1,
        n_byzantine=n_byzantine,
        weigh=weigh,
        euclidean=True,
        scope=scope,
        gradient="twin",
        twin=("caf", {}),
    )


def _caf_weights(square: Floats, start: Floats, stop: Floats) -> Floats:
    """Weights of the remembered mean, from squared distances, first weights and the mass to stop at."""
    n = square.shape[1]
    left = start.copy()
    found: Floats = start / ordered_sum(start, 1)[:, None]
    least = np.full(len(square), np.inf)
    active = np.flatnonzero(ordered_sum(left, 1) > stop * (1.0 + 1e-12))
    for _ in range(n):
        if not active.size:
            break
        total = ordered_sum(left[active], 1)
        share = left[active] / total[:, None]
        gram = _about_mean(square[active], share)
        root = np.sqrt(share)
        value, vector = np.linalg.eigh(root[:, :, None] * gram * root[:, None, :])
        top, along = value[:, -1], vector[:, :, -1]
        better = top < least[active]
        found[active[better]] = share[better]
        least[active[better]] = top[better]
        # Divided by the largest before it is squared: no size of a row can overflow.
        reach = np.abs(ordered_sum(gram * (root * along)[:, None, :], 2))
        reach = np.where(left[active] > 0.0, reach, 0.0)
        longest = reach.max(axis=1)
        moves = (top > 0.0) & (longest > 0.0)
        active, reach, longest = active[moves], reach[moves], longest[moves]
        left[active] *= 1.0 - (reach / longest[:, None]) ** 2
        active = active[ordered_sum(left[active], 1) > stop[active] * (1.0 + 1e-12)]
    return found


def _about_mean(square: Floats, share: Floats) -> Floats:
    """Inner products of the rows about their weighted mean."""
    mean = ordered_sum(square * share[:, None, :], 2)
    grand = ordered_sum(mean * share, 1)
    gram: Floats = -0.5 * (square - mean[:, :, None] - mean[:, None, :] + grand[:, None, None])
    return gram


@cached_rule
def _dnc_rule(
    n_byzantine: Any, filter_factor: float, n_iter: int, n_coordinates: int, seed: int, scope: str
) -> Rule:
    check_choice("scope", scope, ("sample", "batch"))
    for what, value in (("n_iter", n_iter), ("n_coordinates", n_coordinates)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise PanelError(f"{what} must be a whole number >= 1; got {value!r}.")
    if not (filter_factor > 0.0 and np.isfinite(filter_factor)):
        raise PanelError(f"filter_factor must be a positive number; got {filter_factor!r}. Use 1.0.")

    def dropped(f: int) -> int:
        return ceil(filter_factor * f - 1e-9)

    def weigh(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        if alpha is not None:
            raise PanelError("dnc has no weighted form. Drop the weights, or use caf.")
        n_samples, n, d = rows.shape
        rng = np.random.default_rng(seed)
        kept, unclean = np.ones((n_samples, n), dtype=bool), np.zeros(n_samples, dtype=bool)
        for _ in range(int(n_iter) if n_coordinates < d else 1):
            part = rows
            if n_coordinates < d:
                columns = np.sort(rng.choice(d, size=int(n_coordinates), replace=False))
                part = np.ascontiguousarray(rows[:, :, columns])
            chosen, bad = by_distances(part, None, lambda square, _: _least_projected(square, n - dropped(f)))
            kept &= chosen > 0.0
            unclean |= bad if n_coordinates >= d else bad | ~np.isfinite(rows).all(axis=(1, 2))
        count = kept.sum(axis=1)
        if (count[~unclean] == 0).any():
            raise BudgetError(
                f"dnc with n_iter={n_iter} keeps no specialist in some samples: the sets that {n_iter} "
                "drawings keep have none in common. Lower n_iter or filter_factor."
            )
        return kept / np.maximum(count, 1)[:, None], unclean

    return Rule(
        name="dnc",
        minimum=lambda f: dropped(f) + 1,
        n_byzantine=n_byzantine,
        weigh=weigh,
        euclidean=True,
        scope=scope,
    )


def _least_projected(square: Floats, count: int) -> Floats:
    n = square.shape[1]
    gram = _about_mean(square, np.full((1, n), 1.0 / n))
    # Rows about their mean times the top right singular vector are the top left one times its singular value.
    along = np.linalg.eigh(gram)[1][:, :, -1] ** 2
    along = np.round(along / np.maximum(along.max(axis=1, keepdims=True), 1e-300), 9)
    order = np.argsort(along, axis=1, kind="stable")[:, :count]
    weights = np.zeros(along.shape)
    np.put_along_axis(weights, order, 1.0 / count, axis=1)
    return weights
