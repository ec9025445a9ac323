"""The mean with the weights of least variance for a given covariance of the specialists' errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats
from fusion._faults import Rule
from fusion._operator import Operator
from fusion._run import is_differentiable, run
from fusion.late.pools import _mean_rule
from theory._exceptions import PanelError
from theory.panel import as_panel


def inverse_covariance_mean(
    panel: Any,
    *,
    covariance: Any,
    nonnegative: bool = False,
    max_weight: float = 1.0,
    weights: Any = None,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average the specialists with the weights of least variance.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    covariance : array-like of shape (specialist, specialist), or None
        Covariance of their errors, positive definite, such as
        ``theory.error_covariance(errors, shrink="constant_correlation")``. None for equal errors that are
        not correlated: the plain mean.
    nonnegative : bool, default False
        Whether weights must lie in [0, max_weight]; they may be of any sign otherwise.
    max_weight : float, default 1.0
        Largest weight, with ``nonnegative=True``.
    weights : None
        The weights come from the covariance; others are refused.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is more than the mean withstands, an abstention (NaN), or an error. Where
        specialists abstain, the weights are those of least variance for the others.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        If an answer is not finite.
    PanelError
        If the panel, the covariance or an option cannot be read, the covariance is singular, or a row is
        partly NaN.

    Notes
    -----
    NaN is never averaged silently. The weights are C^-1 1 / (1' C^-1 1); their support is negative where they
    are. There is no certificate: the breakdown point is 0.

    References
    ----------
    Bates and Granger (1969), The combination of forecasts, section 2.

    Examples
    --------
    >>> inverse_covariance_mean([[1.0], [5.0]], covariance=[[1.0, 0.0], [0.0, 3.0]])
    array([2.])
    """
    operator = InverseCovarianceMean(covariance, nonnegative, max_weight)
    return operator(panel, weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class InverseCovarianceMean(Operator):
    """Mean of least variance; see `inverse_covariance_mean`.

    Parameters
    ----------
    covariance : array-like of shape (specialist, specialist), optional
        Covariance of the errors; equal and uncorrelated errors unless given, and so the plain mean.
    nonnegative : bool, default False
        Whether weights must lie in [0, max_weight].
    max_weight : float, default 1.0
        Largest weight, with ``nonnegative=True``.

    Examples
    --------
    >>> InverseCovarianceMean([[1.0, 0.0], [0.0, 3.0]]).weights([[1.0], [5.0]])
    array([0.75, 0.25])
    """

    name: ClassVar[str] = "inverse_covariance_mean"
    covariance: Any = None
    nonnegative: bool = False
    max_weight: float = 1.0

    def _rule(self) -> Rule:
        return replace(_mean_rule(self.name), coordinatewise=False)

    def _run(self, panel: Any, what: Any, weights: Any, missing: str, excess: str) -> Any:
        if weights is not None:
            raise PanelError(
                "inverse_covariance_mean has no weighted form: its weights come from the covariance. Use mean "
                "with weights=theory.min_variance_weights(...)."
            )
        values, _ = as_panel(panel.detach() if is_differentiable(panel) else panel)
        n = values.shape[-2]
        shares = self._shares(n, np.ones(n, dtype=bool))
        if missing == "abstain" and self.covariance is not None:
            present = np.asarray(~np.isnan(values).all(axis=-1))
            if not present.all():
                shares = self._shares_by_pattern(present, shares)
        return run(panel, self._rule(), what, weights=shares, missing=missing, excess=excess)

    def _shares_by_pattern(self, present: NDArray[np.bool_], shares: Floats) -> Floats:
        """Weights of every sample, worked out once for each set of specialists that answered."""
        n = present.shape[-1]
        patterns, which = np.unique(present.reshape(-1, n), axis=0, return_inverse=True)
        table = np.stack([self._shares(n, pattern) if pattern.any() else shares for pattern in patterns])
        result: Floats = table[which.reshape(-1)].reshape(present.shape)
        return result

    def _shares(self, n: int, present: NDArray[np.bool_]) -> Floats:
        from theory.weights import min_variance_weights

        if not 0.0 < self.max_weight <= 1.0:
            raise PanelError(f"max_weight must lie in (0, 1]; got {self.max_weight!r}. Use 1.0.")
        if self.max_weight < 1.0 and not self.nonnegative:
            raise PanelError(f"max_weight={self.max_weight!r} needs nonnegative=True. Set it, or use 1.0.")
        if self.covariance is None:
            return np.full(n, 1.0 / n)
        matrix = np.asarray(getattr(self.covariance, "value", self.covariance), dtype=np.float64)
        if matrix.shape != (n, n):
            raise PanelError(
                f"covariance must have shape {(n, n)}, one row per specialist; got {matrix.shape}."
            )
        found = min_variance_weights(
            matrix[np.ix_(present, present)],
            constraint="simplex" if self.nonnegative else "none",
            # Fewer specialists may not be able to respect the cap; equal weights then come nearest.
            cap=max(self.max_weight, 1.0 / int(present.sum())),
            shrink=None,
            given="matrix",
        )
        shares = np.zeros(n)
        shares[present] = found.value
        return shares
