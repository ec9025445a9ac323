"""Means of each output's inner values: winsorised, around the median, around the trimmed mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, heaviest
from fusion._faults import Rule, Unclean, cached_rule
from fusion._operator import Operator
from fusion._run import ordered_sum, run
from fusion.late._coordinates import Shares, coordinate_rule, nearest_shares
from fusion.late._ranks import mean_of_ranks
from fusion.late._windows import Kind, inner_mean
from fusion.late.order import _median_core, _trimmed_core


def winsorized_mean(
    panel: Any,
    *,
    n_byzantine: int | float,
    weights: Any = None,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average each output after its `n_byzantine` lowest and highest values are moved to the next one inside.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: values are moved to the quantiles just inside the weight of the
        `n_byzantine` heaviest on each side.
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
        If the panel, the weights or `n_byzantine` cannot be read.

    Notes
    -----
    NaN is never averaged. In the support the specialists at a limit share what was moved to it. The squared
    error against the mean of any N = n - f honest specialists is at most kappa times their variance; kappa
    is attained and a little above the trimmed mean's f/(n-2f): see ``operator_row("winsorized_mean")``.

    References
    ----------
    Huber and Ronchetti (2009), Robust statistics, section 3.3.

    Examples
    --------
    >>> winsorized_mean([[1.0], [2.0], [3.0], [5.0], [1e6]], n_byzantine=1)
    array([3.4])
    """
    return run(panel, _winsorized(n_byzantine), "fused", weights=weights, missing=missing, excess=excess)


def mean_around_median(
    panel: Any,
    *,
    n_byzantine: int | float,
    weights: Any = None,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average the values nearest to the median, output by output (MeaMed).

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
        The n - f nearest values are averaged.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: the nearest weight 1 - b about the weighted median is averaged, where
        b is the weight of the `n_byzantine` heaviest.
    missing : {"fault", "abstain", "raise"}, default "fault"
        As in `winsorized_mean`.
    excess : {"raise", "nan"}, default "raise"
        As in `winsorized_mean`.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        As in `winsorized_mean`.
    PanelError
        As in `winsorized_mean`.

    Notes
    -----
    NaN is never averaged. Ties: values equally far from the median as the last one needed share its place
    equally, so that a reflected panel gives the reflected answer. With m = (n-1)//2 and N = n - f the squared
    error against the mean of any N honest specialists is at most 4f/(N-m) times their variance.

    References
    ----------
    Xie, Koyejo, Gupta (2018), Generalized Byzantine-tolerant SGD, Definition 8.

    Examples
    --------
    >>> mean_around_median([[1.5], [2.0], [3.0], [5.0], [1e6]], n_byzantine=2).round(3)
    array([2.167])
    >>> mean_around_median([[2.0], [5.0], [8.0]], n_byzantine=1)
    array([5.])
    """
    return run(panel, _around_median(n_byzantine), "fused", weights=weights, missing=missing, excess=excess)


def phocas(
    panel: Any,
    *,
    n_byzantine: int | float,
    weights: Any = None,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average the values nearest to the trimmed mean, output by output.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
        The trimmed mean leaves f values out on each side; the n - f values nearest to it are averaged.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist, as in `mean_around_median`.
    missing : {"fault", "abstain", "raise"}, default "fault"
        As in `winsorized_mean`.
    excess : {"raise", "nan"}, default "raise"
        As in `winsorized_mean`.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        As in `winsorized_mean`.
    PanelError
        As in `winsorized_mean`.

    Notes
    -----
    NaN is never averaged. Ties as in `mean_around_median`. With N = n - f the squared error against the mean
    of any N honest specialists is at most 4f/(n-2f) times their variance.

    References
    ----------
    Xie, Koyejo, Gupta (2018), Phocas: dimensional Byzantine-resilient stochastic gradient descent, Definition 7.

    Examples
    --------
    >>> phocas([[1.0], [2.0], [3.0], [5.0], [1e6]], n_byzantine=1)
    array([2.75])
    """
    return run(panel, _phocas(n_byzantine), "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class WinsorizedMean(Operator):
    """Winsorised mean; see `winsorized_mean`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.

    Examples
    --------
    >>> WinsorizedMean(1)([[1.0], [2.0], [3.0], [5.0], [1e6]])
    array([3.4])
    """

    name: ClassVar[str] = "winsorized_mean"
    n_byzantine: int | float = 1

    def _rule(self) -> Rule:
        return _winsorized(self.n_byzantine)


@dataclass(eq=False)
class MeanAroundMedian(Operator):
    """Mean around the median; see `mean_around_median`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.

    Examples
    --------
    >>> MeanAroundMedian(2)([[1.5], [2.0], [3.0], [5.0], [1e6]]).round(3)
    array([2.167])
    """

    name: ClassVar[str] = "mean_around_median"
    n_byzantine: int | float = 1

    def _rule(self) -> Rule:
        return _around_median(self.n_byzantine)


@dataclass(eq=False)
class Phocas(Operator):
    """Mean around the trimmed mean; see `phocas`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.

    Examples
    --------
    >>> Phocas(1)([[1.0], [2.0], [3.0], [5.0], [1e6]])
    array([2.75])
    """

    name: ClassVar[str] = "phocas"
    n_byzantine: int | float = 1

    def _rule(self) -> Rule:
        return _phocas(self.n_byzantine)


@cached_rule
def _winsorized(n_byzantine: Any) -> Rule:
    return coordinate_rule(
        "winsorized_mean",
        n_byzantine,
        _winsorized_shares,
        lambda rows, f: inner_mean(rows, f, "winsorized", None),
    )


@cached_rule
def _around_median(n_byzantine: Any) -> Rule:
    def shares(values: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
        kept = values.shape[1] - f if alpha is None else 1.0 - heaviest(alpha, f)
        centre = 4.0 * _median_core(0.25 * values, f, alpha)[0]
        return nearest_shares(values, centre, alpha, kept)

    return _nearest_rule("mean_around_median", n_byzantine, "around_median", shares)


@cached_rule
def _phocas(n_byzantine: Any) -> Rule:
    def shares(values: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
        kept = values.shape[1] - f if alpha is None else 1.0 - heaviest(alpha, f)
        # A sum of finite values must not overflow where their mean does not.
        scale = 2.0 ** -(values.shape[1].bit_length() + 1)
        centre = _trimmed_core(scale * values, f, alpha)[0] / scale
        return nearest_shares(values, centre, alpha, kept)

    return _nearest_rule("phocas", n_byzantine, "around_trimmed", shares)


def _nearest_rule(name: str, n_byzantine: Any, kind: Kind, shares: Shares) -> Rule:
    def direct(rows: NDArray[Any], f: int) -> tuple[NDArray[Any], Unclean]:
        return inner_mean(rows, f, kind, lambda values: shares(values, f, None))

    return coordinate_rule(name, n_byzantine, shares, direct)


def _winsorized_shares(values: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
    n = values.shape[1]
    mass: NDArray[Any]
    if alpha is None:
        mass = np.full((1, 1, 1), 1.0 / n)
        low, high = mean_of_ranks(values, f, f + 1)[0], mean_of_ranks(values, n - 1 - f, n - f)[0]
    else:
        mass = alpha[:, :, None]
        trim = heaviest(alpha, f)[:, None, None]
        order = np.argsort(values, axis=1, kind="stable")
        ranked = np.take_along_axis(values, order, axis=1)
        part = np.take_along_axis(np.broadcast_to(mass, values.shape), order, axis=1)
        reached = np.cumsum(part, axis=1)
        first = np.argmax(reached > trim + 1e-12, axis=1)
        last = n - 1 - np.argmax((reached - part < 1.0 - trim - 1e-12)[:, ::-1], axis=1)
        low = np.take_along_axis(ranked, first[:, None], axis=1)[:, 0]
        high = np.take_along_axis(ranked, last[:, None], axis=1)[:, 0]
    low, high = low[:, None], high[:, None]
    shares = np.where((values > low) & (values < high), mass, 0.0)
    point = low == high
    at_low, at_high = mass * (values == low), mass * (values == high)
    moved = ordered_sum(mass * ((values <= low) | point), 1)
    shares += at_low * (moved / ordered_sum(at_low, 1))[:, None]
    moved = ordered_sum(mass * ((values >= high) & ~point), 1)
    shares += at_high * (moved / ordered_sum(at_high, 1))[:, None]
    return shares
