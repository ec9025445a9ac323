"""The result of a bound: the number, what it bounds, and under which assumption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from theory._results import add_warnings

Floats = NDArray[np.float64]
BAYES = "Bayes error of optimal fusion"


@dataclass(frozen=True, eq=False)
class Bound:
    """An upper bound on a probability of error, or the exact probability.

    Attributes
    ----------
    value : float
        The upper bound (the smallest of ``parts`` that applies), or the exact error.
    lower : float
        A lower bound, 0 where none is known; equal to ``value`` for exact errors.
    method : str
        Which bound ``value`` is.
    bounds : str
        What is bounded: the Bayes error of optimal fusion, or the error of a vote.
    assume : str
        What had to be assumed.
    exact : bool
        Whether ``value`` is the error itself.
    parts : mapping of str to float
        Every bound computed, and the numbers behind them.
    coefficient, distance : float or None
        Bhattacharyya (Chernoff) coefficient and minus its logarithm, for two classes.
    pairs : ndarray of shape (class, class) or None
        These coefficients of all pairs of classes.
    se : float or None
        Standard error of ``value`` where it was estimated from samples.
    ci : ndarray of shape (2,) or None
        Interval of the estimated bound.
    n : int or None
        Samples behind the estimate.
    warnings : tuple of str
        What a reader should know before using the bound.
    """

    value: float
    lower: float
    method: str
    bounds: str
    assume: str
    exact: bool
    parts: Mapping[str, float] = field(default_factory=dict)
    coefficient: float | None = None
    distance: float | None = None
    pairs: Floats | None = None
    se: float | None = None
    ci: Floats | None = None
    n: int | None = None
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the bound as text."""
        sign = "=" if self.exact else "<="
        lines = [f"{self.bounds} {sign} {self.value:.4g} ({self.method}; assumes {self.assume})"]
        if not self.exact and self.lower > 0:
            lines.append(f"  and >= {self.lower:.4g}")
        lines += [f"  {key}: {number:.4g}" for key, number in self.parts.items()]
        return add_warnings(lines, self.warnings)
