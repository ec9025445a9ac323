"""Rules that choose specialists by their distances: Krum and Multi-Krum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, check_choice, heaviest
from fusion._faults import Rule, Unclean, cached_rule
from fusion._operator import Operator
from fusion._run import ordered_sum, run
from fusion.late._distances import krum_picks, krum_scores, out_of_range, square_distances
from theory._exceptions import PanelError

_NEIGHBORS = ("n-f-1", "n-f-2")


def krum(
    panel: Any,
    *,
    n_byzantine: int | float,
    neighbors: str = "n-f-1",
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Pick the specialist that is nearest to its nearest colleagues.

    The score of a specialist is the sum of its k smallest squared distances to the others; the least
    score wins, the first one on ties.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    neighbors : {"n-f-1", "n-f-2"}, default "n-f-1"
        The number k of neighbours. Blanchard's n-f-2 needs 2f+3 specialists, and has no certificate below.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: the score is then taken over the nearest weight 1 - b, where b is the
        weight of the `n_byzantine` heaviest. Only with "n-f-1".
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all samples by distances summed over them.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault and uses up the budget, NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., output)
        One specialist's answer, exactly. In the panel's kind and dtype.

    Raises
    ------
    BudgetError
        If there are too few specialists for `n_byzantine`, or more faults than it allows.
    PanelError
        If the panel, the weights or an option cannot be read.

    Notes
    -----
    NaN is never picked; a row whose squared norm overflows float64 counts as non-finite. Distances are
    differences summed in float64, so a large common part does no harm. With t = n - 2f and N = n - f
    the squared error against the mean of any N honest specialists is at most
    (sqrt(2N) + sqrt(f))^2 / t times their variance.

    References
    ----------
    Blanchard, El Mhamdi, Guerraoui, Stainer (2017), Machine learning with adversaries, section 4.

    Examples
    --------
    >>> krum([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], n_byzantine=1)
    array([1., 2., 3.])
    """
    rule = _krum_rule("krum", n_byzantine, 1, neighbors, scope)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


def multi_krum(
    panel: Any,
    *,
    n_byzantine: int | float,
    m: int | None = None,
    neighbors: str = "n-f-1",
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average the `m` specialists with the best Krum scores.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    m : int, optional
        How many are averaged; n - n_byzantine unless given. If faults leave fewer, all that are left.
    neighbors : {"n-f-1", "n-f-2"}, default "n-f-1"
        As in `krum`.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: the best scores are averaged until weight 1 - b is reached, the last
        one in part. Only without `m` and with "n-f-1".
    scope : {"sample", "batch"}, default "sample"
        As in `krum`.
    missing : {"fault", "abstain", "raise"}, default "fault"
        As in `krum`.
    excess : {"raise", "nan"}, default "raise"
        As in `krum`.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype.

    Raises
    ------
    BudgetError
        If there are too few specialists for `n_byzantine` or `m`, or more faults than it allows.
    PanelError
        If the panel, the weights or an option cannot be read.

    Notes
    -----
    NaN is never averaged. Ties: the first specialist. With t = n - 2f, N = n - f and m = N the squared
    error against the mean of any N honest specialists is at most
    f/N^2 (sqrt(t) + (sqrt(nN) + f)/sqrt(t))^2 times their variance.

    References
    ----------
    Blanchard, El Mhamdi, Guerraoui, Stainer (2017), Machine learning with adversaries, section 6.

    Examples
    --------
    >>> multi_krum([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], n_byzantine=1)
    array([2.5, 3.5, 4.5])
    """
    rule = _krum_rule("multi_krum", n_byzantine, m, neighbors, scope)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class Krum(Operator):
    """Krum; see `krum`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    neighbors : {"n-f-1", "n-f-2"}, default "n-f-1"
        The number of neighbours in a score.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all.

    Examples
    --------
    >>> Krum(1).weights([[1.0, 2.0], [1.0, 3.0], [7.0, 8.0]])
    array([1., 0., 0.])
    """

    name: ClassVar[str] = "krum"
    n_byzantine: int | float = 1
    neighbors: str = "n-f-1"
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _krum_rule(self.name, self.n_byzantine, 1, self.neighbors, self.scope)


@dataclass(eq=False)
class MultiKrum(Operator):
    """Multi-Krum; see `multi_krum`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    m : int, optional
        How many are averaged; n - n_byzantine unless given.
    neighbors : {"n-f-1", "n-f-2"}, default "n-f-1"
        The number of neighbours in a score.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all.

    Examples
    --------
    >>> MultiKrum(1).weights([[1.0, 2.0], [1.0, 3.0], [7.0, 8.0]])
    array([0.5, 0.5, 0. ])
    """

    name: ClassVar[str] = "multi_krum"
    n_byzantine: int | float = 1
    m: int | None = None
    neighbors: str = "n-f-1"
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _krum_rule(self.name, self.n_byzantine, self.m, self.neighbors, self.scope)


@cached_rule
def _krum_rule(name: str, n_byzantine: Any, m: Any, neighbors: str, scope: str) -> Rule:
    check_choice("neighbors", neighbors, _NEIGHBORS)
    check_choice("scope", scope, ("sample", "batch"))
    if m is not None and (isinstance(m, bool) or not isinstance(m, int | np.integer) or m < 1):
        raise PanelError(f"m must be a whole number >= 1, or None for n - n_byzantine; got {m!r}.")
    less = _NEIGHBORS.index(neighbors)
    single = name == "krum"

    def weigh(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        n = rows.shape[1]
        if alpha is None:
            count = n - f if m is None else min(int(m), n)
            if count == 1:
                picks, unclean = krum_picks(rows, n - f - 1 - less)
                if picks is not None:
                    return picks, unclean
            scores, unclean = krum_scores(rows, n - f - 1 - less)
            return _best(scores, count), unclean
        if less or (m is not None and not single):
            option = "neighbors='n-f-2'" if less else f"m={m}"
            raise PanelError(f"{name} with {option} has no weighted form. Use neighbors='n-f-1' and m=None.")
        scores, unclean = _weighted_scores(rows, alpha, f)
        if single:
            return _best(scores, 1), unclean
        return _best_mass(scores, alpha, 1.0 - heaviest(alpha, f)[:, None]), unclean

    return Rule(
        name=name,
        minimum=lambda f: 2 * f + 1 + 2 * less,
        most=None if m is None else int(m),
        n_byzantine=n_byzantine,
        weigh=weigh,
        euclidean=True,
        scope=scope,
        twin=("krum", {"less": less, "m": None if m is None else int(m)}),
    )


def _best(scores: Floats, m: int) -> Floats:
    weights = np.zeros(scores.shape)
    if scores.size > 4096 and scores.shape[1] <= 64:
        from fusion._kernels.compiled import core
        from fusion._kernels.distance import LEAST_SCORES, least_scores

        work = scores.size * scores.shape[1]
        core(least_scores, LEAST_SCORES, scores.dtype, work=work)(np.ascontiguousarray(scores), m, weights)
    elif m == 1:
        weights[np.arange(len(scores)), np.argmin(scores, axis=1)] = 1.0
    else:
        chosen = np.argsort(scores, axis=1, kind="stable")[:, :m]
        np.put_along_axis(weights, chosen, 1.0 / m, axis=1)
    return weights


def _best_mass(scores: Floats, alpha: Floats, mass: Floats) -> Floats:
    order = np.argsort(scores, axis=1, kind="stable")
    weights = np.zeros(scores.shape)
    np.put_along_axis(weights, order, _nearest(np.take_along_axis(alpha, order, axis=1), mass) / mass, axis=1)
    return weights


def _nearest(alpha: Floats, mass: Floats) -> Floats:
    """Take weights from the front until `mass` is reached, the last one in part."""
    reached = np.cumsum(alpha, axis=-1)
    taken: Floats = np.clip(np.minimum(reached, mass) - (reached - alpha), 0.0, None)
    return taken


def _weighted_scores(rows: NDArray[Any], alpha: Floats, f: int) -> tuple[Floats, NDArray[np.bool_]]:
    trim = np.broadcast_to(heaviest(alpha, f), (len(rows),))
    n_samples, n, _ = rows.shape
    alpha = np.broadcast_to(alpha, (n_samples, n))
    scores = np.empty((n_samples, n))
    step = max(1, 1_000_000 // (n * n))
    for start in range(0, n_samples, step):
        part = slice(start, start + step)
        square = square_distances(rows[part])
        square[:, np.arange(n), np.arange(n)] = 0.0
        order = np.argsort(square, axis=2, kind="stable")
        mass = np.take_along_axis(np.broadcast_to(alpha[part, None, :], square.shape), order, axis=2)
        taken = _nearest(mass, 1.0 - trim[part, None, None])
        near = np.take_along_axis(square, order, axis=2)
        with np.errstate(invalid="ignore"):
            scores[part] = ordered_sum(np.where(taken > 0.0, taken * near, 0.0), 2)
    return scores, out_of_range(rows)
