"""Rules that average the specialists nearest to a point: a trusted one, the median, a centre; and the medoid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, check_choice
from fusion._faults import Rule, Unclean, cached_rule
from fusion._operator import Operator
from fusion._run import ordered_sum, run
from fusion.late._about import double_median, lengths
from fusion.late._choices import (
    alpha_of,
    by_distances,
    clean_distances,
    nearest_weights,
    not_finite,
    read_centre,
)
from fusion.late._distances import centred_gram
from theory._exceptions import PanelError


def monna(
    panel: Any,
    *,
    n_byzantine: int | float,
    pivot: int | str = 0,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average the n - f specialists nearest to a trusted one, itself included (MoNNA).

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    pivot : int or str, default 0
        The trusted specialist: its place, or its name.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: the nearest weight 1 - b is averaged, the last one in part, where b is
        the weight of the `n_byzantine` heaviest.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all samples by distances summed over them.
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
        If there are fewer than n_byzantine + 1 specialists, more faults than n_byzantine, or the trusted
        one is faulty.
    PanelError
        If the panel, the weights, the pivot or an option cannot be read.

    Notes
    -----
    NaN is never averaged. Ties: the first specialist. If the trusted specialist is honest, the squared error
    against the mean of any n - f honest specialists that it belongs to is at most 4f times their variance;
    if it lies, nothing is promised.

    References
    ----------
    Farhadkhani, Guerraoui, Gupta, Hoang, Pinot, Stephan (2023), Robust collaborative learning with linear
    gradient overhead, algorithm 1.

    Examples
    --------
    >>> monna([[1.0, 2.0], [2.0, 2.0], [90.0, -90.0]], n_byzantine=1)
    array([1.5, 2. ])
    """
    rule = _monna_rule(n_byzantine, pivot, scope)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


def aksel(
    panel: Any,
    *,
    n_byzantine: int | float,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average the n - f specialists nearest to the median of all, taken output by output (Aksel).

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: the weighted median, and the nearest weight as in `monna`.
    scope : {"sample", "batch"}, default "sample"
        As in `monna`.
    missing : {"fault", "abstain", "raise"}, default "fault"
        As in `monna`.
    excess : {"raise", "nan"}, default "raise"
        As in `monna`.

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
    NaN is never averaged. Ties: the first specialist. With m = (n-1)//2 and N = n - f the squared error against
    the mean of any N honest specialists is at most 4f/(N-m) times their variance.

    References
    ----------
    Boussetta, El Mhamdi, Guerraoui, Maurer, Rouault (2021), AKSEL: fast Byzantine SGD, algorithm 1.

    Examples
    --------
    >>> aksel([[1.0, 2.0], [2.0, 2.0], [4.0, 2.0], [90.0, -90.0]], n_byzantine=1).round(3)
    array([2.333, 2.   ])
    """
    rule = _aksel_rule(n_byzantine, scope)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


def cge(
    panel: Any,
    *,
    n_byzantine: int | float,
    center: Any = 0.0,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average the n - f specialists nearest to a fixed centre: those of least norm (CGE).

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    center : float or array-like of shape (output,), default 0.0
        Where norms are measured from.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: the nearest weight as in `monna`.
    scope : {"sample", "batch"}, default "sample"
        As in `monna`.
    missing : {"fault", "abstain", "raise"}, default "fault"
        As in `monna`.
    excess : {"raise", "nan"}, default "raise"
        As in `monna`.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        As in `aksel`.
    PanelError
        If the panel, the weights, the centre or an option cannot be read.

    Notes
    -----
    NaN is never averaged. Ties: the first specialist. There is no certificate: a lie no longer than the honest
    answers is averaged, however wrong.

    References
    ----------
    Gupta, Liu, Vaidya (2021), Byzantine fault-tolerant distributed machine learning using norm-based
    comparative gradient elimination, section 3.

    Examples
    --------
    >>> cge([[1.0, 2.0], [2.0, 2.0], [90.0, -90.0]], n_byzantine=1)
    array([1.5, 2. ])
    """
    rule = _cge_rule(n_byzantine, center, scope)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


def medoid(
    panel: Any, *, weights: Any = None, scope: str = "sample", missing: str = "fault", excess: str = "raise"
) -> Any:
    """Pick the specialist of least summed distance to the others.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist; multiplies the distances to it.
    scope : {"sample", "batch"}, default "sample"
        As in `monna`.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault (up to (n-1)//2 of them are removed), NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        As in `monna`.

    Returns
    -------
    array of shape (..., output)
        One specialist's answer, exactly. In the panel's kind and dtype.

    Raises
    ------
    BudgetError
        If more than (n-1)//2 rows of a sample are not finite.
    PanelError
        If the panel, the weights or an option cannot be read.

    Notes
    -----
    NaN is never picked. Ties, within 1e-12 of the distances: the first specialist. The squared error against
    the mean of any N = n - f honest specialists is at most 2 (N/(n-2f))^2 times their variance, for every
    f < n/2.

    References
    ----------
    Kaufman and Rousseeuw (1987), Clustering by means of medoids.

    Examples
    --------
    >>> medoid([[1.0, 2.0], [2.0, 2.0], [4.0, 2.0], [90.0, -90.0]])
    array([2., 2.])
    """
    return run(panel, _medoid_rule(scope), "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class Monna(Operator):
    """Mean of the nearest to a trusted specialist; see `monna`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    pivot : int or str, default 0
        The trusted specialist: its place, or its name.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all.

    Examples
    --------
    >>> Monna(1, pivot=1).weights([[90.0], [2.0], [1.0]])
    array([0. , 0.5, 0.5])
    """

    name: ClassVar[str] = "monna"
    n_byzantine: int | float = 1
    pivot: int | str = 0
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _monna_rule(self.n_byzantine, self.pivot, self.scope)


@dataclass(eq=False)
class Aksel(Operator):
    """Mean of the nearest to the median; see `aksel`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all.

    Examples
    --------
    >>> Aksel(1).weights([[90.0], [2.0], [1.0]])
    array([0. , 0.5, 0.5])
    """

    name: ClassVar[str] = "aksel"
    n_byzantine: int | float = 1
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _aksel_rule(self.n_byzantine, self.scope)


@dataclass(eq=False)
class Cge(Operator):
    """Mean of the specialists of least norm; see `cge`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    center : float or array-like of shape (output,), default 0.0
        Where norms are measured from.
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all.

    Examples
    --------
    >>> Cge(1).weights([[90.0], [2.0], [1.0]])
    array([0. , 0.5, 0.5])
    """

    name: ClassVar[str] = "cge"
    n_byzantine: int | float = 1
    center: Any = 0.0
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _cge_rule(self.n_byzantine, self.center, self.scope)


@dataclass(eq=False)
class Medoid(Operator):
    """The specialist of least summed distance; see `medoid`.

    Parameters
    ----------
    scope : {"sample", "batch"}, default "sample"
        One choice per sample, or one for all.

    Examples
    --------
    >>> Medoid().weights([[90.0], [2.0], [1.0]])
    array([0., 1., 0.])
    """

    name: ClassVar[str] = "medoid"
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _medoid_rule(self.scope)


@cached_rule
def _monna_rule(n_byzantine: Any, pivot: Any, scope: str) -> Rule:
    check_choice("scope", scope, ("sample", "batch"))
    if isinstance(pivot, bool) or not isinstance(pivot, int | np.integer | str):
        raise PanelError(f"pivot must be the place or the name of a specialist; got {pivot!r}. Use 0.")

    def weigh(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        return by_distances(rows, alpha, lambda square, mass: nearest_weights(square[:, 0], mass, f))

    return Rule(
        name="monna",
        minimum=lambda f: f + 1,
        n_byzantine=n_byzantine,
        weigh=weigh,
        euclidean=True,
        scope=scope,
        pivot=pivot if isinstance(pivot, str) else int(pivot),
    )


@cached_rule
def _aksel_rule(n_byzantine: Any, scope: str) -> Rule:
    check_choice("scope", scope, ("sample", "batch"))

    def weigh(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        # In double precision: halves of an even median decide who is nearer.
        apart = lengths(rows, double_median(rows, alpha))
        return nearest_weights(apart, alpha, f), not_finite(apart)

    return Rule(name="aksel", minimum=lambda f: 2 * f + 1, n_byzantine=n_byzantine, weigh=weigh, scope=scope)


@cached_rule
def _cge_rule(n_byzantine: Any, center: Any, scope: str) -> Rule:
    check_choice("scope", scope, ("sample", "batch"))

    def weigh(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        apart = lengths(rows, read_centre(center, rows.shape[2]))
        return nearest_weights(apart, alpha, f), not_finite(apart)

    return Rule(name="cge", minimum=lambda f: 2 * f + 1, n_byzantine=n_byzantine, weigh=weigh, scope=scope)


@cached_rule
def _medoid_rule(scope: str) -> Rule:
    check_choice("scope", scope, ("sample", "batch"))

    def weigh(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        n_samples, n, d = rows.shape
        weights = np.empty((n_samples, n))
        unclean = np.zeros(n_samples, dtype=bool)
        step = max(1, 200_000 // (n * n + n * min(d, 256)))
        for start in range(0, n_samples, step):
            part = slice(start, start + step)
            square, unclean[part] = clean_distances(rows[part])
            block = (
                np.where(unclean[part, None, None], 0.0, rows[part]) if unclean[part].any() else rows[part]
            )
            weights[part] = _medoids(block, square, alpha_of(alpha, part))
        return weights, unclean

    return Rule(
        name="medoid",
        withstands=lambda n: max(n - 1, 0) // 2,
        weigh=weigh,
        euclidean=True,
        scope=scope,
    )


def _medoids(rows: NDArray[Any], square: Floats, alpha: Floats | None) -> Floats:
    n = rows.shape[1]
    mass = np.full((1, 1, n), 1.0 / n) if alpha is None else alpha[:, None, :]
    length = np.sqrt(square)
    first = np.argmin(ordered_sum(length * mass, 2), axis=1)
    # One far liar hides the differences between the sums of all others; distances compared with those to one
    # row that is no liar show them: |x_i - x_j| - |x_j - c| = (|x_i - c|^2 - 2 (x_i - c)(x_j - c)) / (sum of both).
    gram = centred_gram(rows, first, square)
    own = np.einsum("sii->si", gram)
    reach = length + np.sqrt(own)[:, None, :]
    gain = (own[:, :, None] - 2.0 * gram) / np.where(reach > 0.0, reach, 1.0)
    scores = ordered_sum(gain * mass, 2)
    # The gains of a row are at most its distance from that row; a tie is one within their rounding.
    slack = 1e-12 * np.sqrt(own)
    best = scores.min(axis=1, keepdims=True)
    chosen = np.argmax(scores <= best + slack, axis=1)
    weights = np.zeros(scores.shape)
    weights[np.arange(len(rows)), chosen] = 1.0
    return weights
