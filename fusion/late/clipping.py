"""Centred clipping: steps towards every specialist, none longer than a radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats
from fusion._faults import Rule, Unclean
from fusion._operator import Operator
from fusion._run import ordered_sum, run
from fusion.late._about import clipped_step, double_median, lengths
from fusion.late._choices import not_finite, read_centre
from fusion.late.order import _median_share
from theory._exceptions import PanelError


def centered_clipping(
    panel: Any,
    *,
    radius: float | None = None,
    center: Any = "median",
    n_iter: int = 1,
    weights: Any = None,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Move from a centre by the average of the steps to the specialists, each clipped to a radius.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    radius : float, optional
        Longest step (papers write tau); the median of the first distances from the centre unless given, the
        lower one of two.
    center : "median", float or array-like of shape (output,), default "median"
        Where to start: the median of each output, a number, or one per output such as the last answer.
    n_iter : int, default 1
        How often to move.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: weighs its step, and the medians.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault (up to (n-1)//2 of them are removed), NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        If more than (n-1)//2 rows of a sample are not finite.
    PanelError
        If the panel, the weights, the radius or the centre cannot be read.

    Notes
    -----
    NaN is never averaged. One step moves v to v + sum_i alpha_i (x_i - v) min(1, radius / |x_i - v|), so that a
    specialist of weight alpha moves the answer by alpha * radius at most. There is no certificate: the error
    also depends on how good the centre is. `CenteredClipping().weights` gives what each specialist weighed;
    the rest of 1 is the centre's.

    References
    ----------
    Karimireddy, He, Jaggi (2021), Learning from history for Byzantine robust optimization, algorithm 2.

    Examples
    --------
    >>> centered_clipping([[0.0], [1.0], [2.0], [3.0], [1000.0]])
    array([2.])
    >>> centered_clipping([[1.0, 0.0], [30.0, 40.0]], center=0.0, radius=5.0)
    array([2., 2.])
    """
    rule = _clipping_rule(radius, center, n_iter)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class CenteredClipping(Operator):
    """Centred clipping; see `centered_clipping`.

    Parameters
    ----------
    radius : float, optional
        Longest step; the median of the first distances unless given.
    center : "median", float or array-like of shape (output,), default "median"
        Where to start.
    n_iter : int, default 1
        How often to move.

    Examples
    --------
    >>> CenteredClipping(radius=5.0, center=0.0).weights([[1.0, 0.0], [30.0, 40.0]])
    array([0.5 , 0.05])
    """

    name: ClassVar[str] = "centered_clipping"
    radius: float | None = None
    center: Any = "median"
    n_iter: int = 1

    def _rule(self) -> Rule:
        return _clipping_rule(self.radius, self.center, self.n_iter)


def _clipping_rule(radius: float | None, center: Any, n_iter: int) -> Rule:
    if radius is not None and not (radius > 0.0 and np.isfinite(radius)):
        raise PanelError(
            f"radius must be a positive number; got {radius!r}. Use None for the median distance."
        )
    if isinstance(n_iter, bool) or not isinstance(n_iter, int | np.integer) or n_iter < 1:
        raise PanelError(f"n_iter must be a whole number >= 1; got {n_iter!r}. Use 1.")
    around_median = isinstance(center, str) and center == "median"

    def walk(
        rows: NDArray[Any], alpha: Floats | None, *, moving: bool
    ) -> tuple[NDArray[Any], Floats, Floats, NDArray[np.bool_]]:
        """Give the last point (where it is wanted), the weights, the centre's weight, and what is not finite."""
        n_samples, n, d = rows.shape
        mass = np.full((1, n), 1.0 / n) if alpha is None else alpha
        if around_median:
            point = double_median(rows, alpha)
        else:
            point = np.zeros((n_samples, d), dtype=np.result_type(rows.dtype, np.float64))
            if (start := read_centre(center, d)) is not None:
                point += start
        weights, own = np.zeros((n_samples, n)), np.ones(n_samples)
        longest: Any = None if radius is None else np.full((n_samples, 1), 0.25 * float(radius))
        unclean = np.zeros(n_samples, dtype=bool)
        for turn in range(int(n_iter)):
            apart = lengths(rows, point)
            unclean |= not_finite(apart)
            if longest is None:
                longest = _lower_median(apart, mass)
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                step = mass * np.where(apart <= longest, 1.0, longest / apart)
            if moving or turn + 1 < n_iter:
                point = clipped_step(rows, point, step)
            rest = 1.0 - ordered_sum(step, 1)
            weights = weights * rest[:, None] + step
            own = own * rest
        return point, weights, own, unclean

    def fuse(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        point, _, _, unclean = walk(rows, alpha, moving=True)
        return point.astype(rows.dtype, copy=False), unclean

    def weigh(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        _, weights, _, unclean = walk(rows, alpha, moving=False)
        return weights, unclean

    def share(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        _, weights, own, unclean = walk(rows, alpha, moving=False)
        shares: Floats = np.broadcast_to(weights[:, :, None], rows.shape).copy()
        if around_median:
            # What the centre weighs is the weight of those whose median it is.
            shares += own[:, None, None] * _median_share(rows, 0, alpha)[0]
        return shares, unclean

    return Rule(
        name="centered_clipping",
        withstands=lambda n: max(n - 1, 0) // 2,
        fuse=fuse,
        weigh=weigh,
        share=share,
        gradient="twin",
        twin=(
            "centered_clipping",
            {"start": None if around_median else center, "radius": radius, "n_iter": int(n_iter)},
        ),
    )


def _lower_median(apart: Floats, mass: Floats) -> Floats:
    """Smallest distance within which half of the mass lies."""
    order = np.argsort(apart, axis=1, kind="stable")
    reached = np.cumsum(np.take_along_axis(np.broadcast_to(mass, apart.shape), order, axis=1), axis=1)
    place = np.argmax(reached >= 0.5 - 1e-12, axis=1)[:, None]
    return np.take_along_axis(apart, np.take_along_axis(order, place, axis=1), axis=1)
