"""What a panel of unseen rows says about its specialists: correlation, effective number, prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators.training import first_choices
from theory import PanelError, effective_number, error_covariance, panel_errors, price

if TYPE_CHECKING:
    import pandas as pd
    from xarray import DataArray

    from estimators.table import Table
    from theory import Clones, Prices


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
    if not rows.all() or gone.any():
        errors, gone = errors[rows], gone[rows]  # copies
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)[rows]
    errors[gone] = np.nan
    missing_rate = gone.mean(axis=0) if len(errors) else np.ones(errors.shape[1])
    pairs = (~gone).astype(float).T @ (~gone)
    if len(errors) < 2 or pairs.min() < 2:
        return Evidence(len(errors), missing_rate, None, None, float("nan"), None)
    table = DataArray(errors, dims=("sample", "specialist", "output"), coords={"specialist": names})
    missing: Literal["abstain", "raise"] = "abstain" if gone.any() else "raise"
    moments = error_covariance(table, sample_weight=weight, missing=missing)
    # Of the correlations only the values are kept: their intervals take three times the memory.
    centred = error_covariance(table, kind="covariance", sample_weight=weight, missing=missing).value
    number = float("nan")
    if (moments.value.diagonal() > 0).any():
        number = float(effective_number(moments).value)
    if weight is None or bool((weight == weight[0]).all()):
        prices = price(table, v0=v0, missing=missing, cross_fitted=True)
    else:
        prices = price(moments, v0=v0, names=names, cross_fitted=True)
    coords = {"specialist": names, "specialist_": names}
    square = [
        DataArray(value, dims=("specialist", "specialist_"), coords=coords)
        for value in (moments.value, _standardised(centred))
    ]
    return Evidence(len(errors), missing_rate, square[0], square[1], number, prices)


def _standardised(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the correlations of a covariance matrix; NaN for errors that never vary."""
    variance = covariance.diagonal()
    scale = np.sqrt(np.where(variance > 0, variance, np.nan))
    correlation = np.clip(covariance / np.outer(scale, scale), -1.0, 1.0)
    np.fill_diagonal(correlation, np.where(variance > 0, 1.0, np.nan))
    return correlation


def score_specialists(table: Table) -> tuple[NDArray[np.int64] | None, NDArray[np.float64], pd.DataFrame]:
    """Score each specialist alone.

    Parameters
    ----------
    table : Table
        Panel and truth.

    Returns
    -------
    answers : ndarray of int64, shape (sample, specialist), or None
        Options put first; -1 = abstained. None for numbers.
    errors : ndarray of shape (sample, specialist) or (sample, specialist, output)
        1 where a label is wrong or absent; probability - onehot; or answer - truth.
    scores : DataFrame, index specialist
        ``score`` (accuracy, an abstention counting as not right; or R2 where it answered), ``se``,
        ``answered``.
    """
    import pandas as pd

    answers = None
    if table.task == "numbers":
        errors = panel_errors(table.panel, table.y, kind="residual")
        errors = errors[:, :, 0] if errors.shape[2:] == (1,) else errors
        squares = ((table.panel - table.y[:, None, :]) ** 2).sum(axis=2)
        spread = ((table.y - table.y.mean(axis=0)) ** 2).sum(axis=1).mean() or 1.0
        hit = 1.0 - squares / spread
    else:
        answers = first_choices(table.panel)
        hit = (answers == table.y[:, None]).astype(float)
        errors = 1.0 - hit
        if table.task == "probabilities":
            errors = panel_errors(table.panel, table.y, kind="probability")
    known = ~np.isnan(hit)
    owner = np.arange(len(hit)) if table.groups is None else table.groups
    scores = pd.DataFrame(
        {
            "score": np.nanmean(hit, axis=0),
            "se": [standard_error(h[k], owner[k]) for h, k in zip(hit.T, known.T, strict=True)],
            "answered": 1.0 - np.isnan(table.panel).all(axis=2).mean(axis=0),
        },
        index=pd.Index(table.names, name="specialist"),
    )
    return answers, errors, scores


def named_errors(errors: NDArray[np.float64], names: tuple[str, ...]) -> Any:
    """Give errors the names of their specialists, as a DataArray."""
    from xarray import DataArray

    dims = ("sample", "specialist", "output")[: errors.ndim]
    return DataArray(errors, dims=dims, coords={"specialist": list(names)})


def check_variation(errors: NDArray[np.float64]) -> None:
    """Refuse errors whose correlation has no meaning, before something less clear does."""
    if not (np.nanmax(errors, axis=0) > np.nanmin(errors, axis=0)).any():
        raise PanelError(
            "no specialist's error varies: each is right, or wrong alike, on all samples, so there is nothing to "
            "compare. Give samples on which they differ, and check that y is the truth of this panel."
        )
    mean = errors.mean(axis=1)
    if float(np.ptp(mean, axis=0).max()) <= 1e-12 * float(np.nanmax(np.abs(errors))):
        raise PanelError(
            f"the specialists' errors cancel exactly on all {len(errors)} samples, so their correlation cannot be "
            "told. Give more samples."
        )


def price_specialists(
    table: Table, answers: NDArray[np.int64] | None, errors: NDArray[np.float64], clones: Clones
) -> tuple[Prices, Prices | None]:
    """Price the specialists: under the plurality vote for labels, under the mean for the others.

    Parameters
    ----------
    table : Table
        Panel and truth.
    answers, errors : ndarray
        From :func:`score_specialists`.
    clones : theory.Clones
        Who counts as copies of one another.

    Returns
    -------
    prices : Prices
    quotient : Prices or None
        Under the mean, each group of copies counted once; None without copies. For labels the mean
        is of votes, and the loss its Brier score, since copies are joined in the mean game only.
    """
    common: dict[str, Any] = {"names": list(table.names), "groups": table.groups, "cross_fitted": True}
    if table.task == "labels":
        votes = panel_errors(table.panel, table.y, kind="probability") if clones.clusters else None
        v0 = float(np.mean(1.0 - 1.0 / np.asarray(table.option_counts)))
        prices = price(
            answers, y=table.y, game="plurality", n_options=table.option_counts, v0="chance", **common
        )
    else:
        votes = errors
        if table.task == "numbers":
            v0 = float(((table.y - table.y.mean(axis=0)) ** 2).sum(axis=1).mean())
        else:
            prior = np.bincount(table.y, minlength=table.panel.shape[2]) / len(table.y)
            v0 = float(1.0 - (prior**2).sum())
        prices = price(errors, v0=v0, missing=_gaps(errors), **common)
    if votes is None or not clones.clusters:
        return prices, None
    return prices, price(votes, v0=v0, missing=_gaps(votes), clusters=clones, **common)


def _gaps(errors: NDArray[np.float64]) -> Literal["abstain", "raise"]:
    return "abstain" if np.isnan(errors).any() else "raise"


def standard_error(values: NDArray[np.float64], groups: NDArray[Any] | None) -> float:
    """Give the standard error of a mean over samples, or over groups of samples that belong together."""
    n = len(values)
    if n < 2:
        return float("nan")
    if groups is None:
        return float(values.std(ddof=1) / np.sqrt(n))
    _, code = np.unique(groups, return_inverse=True)
    sums = np.bincount(code, weights=values - values.mean())
    return float(np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)) / n)
