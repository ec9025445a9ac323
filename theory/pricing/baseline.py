"""A baseline that is always part of the panel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from theory._exceptions import PanelError


@dataclass(frozen=True, eq=False)
class Baseline:
    """A baseline that is always part of the panel, so that no coalition is empty.

    Attributes
    ----------
    weight : float
        Its weight c > 0 against 1 for every specialist.
    errors : array-like of shape (sample,) or (sample, output), optional
        Its errors, when specialists are priced from errors.
    cross : array-like of shape (specialist,), optional
        E[e0 e_i], when specialists are priced from a matrix.
    second_moment : float, optional
        E[e0^2], when specialists are priced from a matrix.

    Examples
    --------
    >>> Baseline(weight=1.0, cross=[0.0, 0.0], second_moment=1.0).weight
    1.0
    """

    weight: float = 1.0
    errors: ArrayLike | None = None
    cross: ArrayLike | None = None
    second_moment: float | None = None

    def check(self) -> float:
        """Return the weight.

        Raises
        ------
        PanelError
            If it is not positive.
        """
        if not (np.isfinite(self.weight) and self.weight > 0):
            raise PanelError(f"a baseline needs a weight > 0; got {self.weight!r}.")
        return float(self.weight)
