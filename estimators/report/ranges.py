"""Bars, dots and intervals as positions in per cent, drawn by the style sheet inside table cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """A linear axis from ``low`` to ``high``, drawn over the width of a table cell.

    Attributes
    ----------
    low, high : float
        Its ends.
    ticks : tuple of (str, str)
        Position in per cent, and label.
    """

    low: float
    high: float
    ticks: tuple[tuple[str, str], ...]

    def at(self, value: float) -> str:
        """Give the position of a value, cut off at the ends, as CSS per cent."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100.0 * min(max(share, 0.0), 1.0):.2f}%"

    def span(self, one: float, other: float) -> str:
        """Give left end and width of a stretch as a CSS declaration."""
        low, high = (min(max(v, self.low), self.high) for v in sorted((one, other)))
        return f"left:{self.at(low)};width:{100.0 * (high - low) / (self.high - self.low):.2f}%"


def make_scale(values: Sequence[float], *, least: float | None = None) -> Scale:
    """Choose an axis for some values, with two to six round ticks.

    Parameters
    ----------
    values : sequence of float
        What must be on it; values that are not finite are passed over.
    least : float, optional
        Nothing below is shown.

    Returns
    -------
    Scale

    Examples
    --------
    >>> make_scale([0.58, 0.72]).ticks
    (('16.31%', '0.60'), ('50.00%', '0.65'), ('83.69%', '0.70'))
    """
    known = np.asarray([v for v in values if np.isfinite(v)], dtype=np.float64)
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if least is not None:
        low = max(low, least)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        low, high = low - 0.5, low + 0.5
    margin = 0.03 * (high - low)
    low, high = low - margin, high + margin
    unit = 10.0 ** np.floor(np.log10((high - low) / 5.5))
    step = min(s * unit for s in (1.0, 2.0, 5.0, 10.0) if s * unit >= (high - low) / 5.5)
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    scale = Scale(low, high, ())
    first = int(np.ceil(low / step - 1e-9))
    marks = [k * step for k in range(first, int(np.floor(high / step + 1e-9)) + 1)]
    return Scale(low, high, tuple((scale.at(mark), f"{mark + 0.0:.{digits}f}") for mark in marks))
