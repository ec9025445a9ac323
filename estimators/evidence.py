"""What an out-of-fold panel says about its specialists: correlation, effective number, prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from theory import effective_number, error_correlation, error_covariance, price

if TYPE_CHECKING:
    from xarray import DataArray

    from theory import Prices


@dataclass(frozen=True)
class Evidence:
    """Statistics of the errors of a panel of unseen rows.

    Attributes
    ----------
    n_samples : int
        Rows that count: those that at least one specialist answered.
    missing_rate : ndarray of shape (specialist,)
        Share of those rows that a specialist did not answer.
    covariance : DataArray, dims (specialist, specialist_), or None
        Second moment of the errors.
    correlation : DataArray, dims (specialist, specialist_), or None
        Correlation of the errors.
    effective_number : float
        Independent specialists that the panel is worth; NaN if it cannot be told.
    prices : Prices or None
        What each specialist earns under the mean; see :func:`theory.price`.
    """

    n_samples: int
    missing_rate: NDArray[np.float64]
    covariance: DataArray | None
    correlation: DataArray | None
    effective_number: float
    prices: Prices | None


def weigh_evidence(
    errors: NDArray[np.float64],
    *,
    names: list[str],
    v0: float,
    sample_weight: Any = None,
) -> Evidence:
    """Measure how the specialists err together, and price them.

    Parameters
    ----------
    errors : ndarray of shape (sample, specialist, output)
        Answer minus truth; NaN where a specialist was absent.
    names : list of str
        Names of the specialists.
    v0 : float
        Loss of the empty panel.
    sample_weight : array-like of shape (sample,), optional
        Counts of the samples.

    Returns
    -------
    Evidence
        With None and NaN where fewer than two samples are left.
    """
    from xarray import DataArray

    gone = np.isnan(errors).any(axis=2)
    rows = ~gone.all(axis=1)
    if sample_weight is not None:
        rows &= np.asarray(sample_weight) > 0
    errors, gone = errors[rows].copy(), gone[rows]
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)[rows]
    errors[gone] = np.nan
    missing_rate = gone.mean(axis=0) if len(errors) else np.ones(errors.shape[1])
    pairs = (~gone).astype(float).T @ (~gone)
    if len(errors) < 2 or pairs.min() < 2:
        return Evidence(len(errors), missing_rate, None, None, float("nan"), None)
    table = DataArray(errors, dims=("sample", "specialist", "output"), coords={"specialist": names})
    missing: Literal["abstain", "raise"] = "abstain" if gone.any() else "raise"
    moments = error_covariance(table, sample_weight=weight, missing=missing)
    correlation = error_correlation(table, sample_weight=weight, missing=missing)
    number = float("nan")
    if (moments.value.diagonal() > 0).any():
        number = float(effective_number(moments).value)
    if weight is None or bool((weight == weight[0]).all()):
        prices = price(table, v0=v0, missing=missing, cross_fitted=True)
    else:
        prices = price(moments, v0=v0, names=names, cross_fitted=True)
    coords = {"specialist": names, "specialist_": names}
    square = [
        DataArray(m.value, dims=("specialist", "specialist_"), coords=coords) for m in (moments, correlation)
    ]
    return Evidence(len(errors), missing_rate, square[0], square[1], number, prices)
