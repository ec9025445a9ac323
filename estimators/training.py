"""What learned fusions learn from: a panel of unseen rows, its truth, and the errors between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory import PanelError

_FEW = 16  # outputs


def read_training(
    panel: Any, y: Any, task: str, sample_weight: Any = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """Check what a fusion learns from, and put the truth in the panel's output space.

    Parameters
    ----------
    panel : array-like of shape (sample, specialist, output)
        Answers; NaN where a specialist was absent.
    y : array-like
        Codes of the right outputs, shape (sample,); or numbers, (sample,) or (sample, output).
    task : {"classification", "regression"}
        Which of the two.
    sample_weight : array-like of shape (sample,), optional
        Weights of the samples.

    Returns
    -------
    panel : ndarray of float64, shape (sample, specialist, output)
    target : ndarray of float64, shape (sample, output)
        One-hot rows, or the numbers.
    sample_weight : ndarray of float64, shape (sample,), or None

    Raises
    ------
    PanelError
        If shapes do not fit, the panel is empty, an answer is infinite, a truth is missing or outside the outputs, or
        the weights are negative, not finite or all zero.
    """
    values = np.asarray(panel, dtype=np.float64)
    truth = np.asarray(y)
    if values.ndim == 3 and truth.ndim and len(truth) == len(values) and 0 in values.shape:
        what = ("sample", "specialist", "output")[values.shape.index(0)]
        raise PanelError(
            f"there is no {what} to learn from; got a panel of shape {values.shape}. Give at least one."
        )
    if values.ndim != 3 or truth.ndim == 0 or len(truth) != len(values):
        raise PanelError(
            f"panel must be (sample, specialist, output); got shape {values.shape} for truths of shape "
            f"{truth.shape}. Transpose it or pass a DataArray."
        )
    if np.isinf(values).any():
        raise PanelError("the panel holds infinite answers; only NaN can stand for an abstention.")
    weight = None
    if sample_weight is not None:
        weight = np.asarray(sample_weight, dtype=np.float64)
        if weight.shape != (len(values),) or not (weight >= 0).all() or not 0 < weight.sum() < np.inf:
            raise PanelError(
                f"sample_weight must be {len(values)} finite numbers >= 0, not all of them 0; got shape {weight.shape}."
            )
    return values, panel_target(values, truth, task), weight


def read_answers(panel: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Check that a panel to fuse has the specialists and outputs that a fusion was fitted on.

    Parameters
    ----------
    panel : array-like of shape (sample, specialist, output)
        NaN where a specialist is absent.
    shape : tuple of int
        Number of specialists and of outputs.

    Returns
    -------
    ndarray of float64, shape (sample, specialist, output)

    Raises
    ------
    PanelError
        If the panel has others, or an answer is infinite.
    """
    values = np.asarray(panel, dtype=np.float64)
    if values.ndim != 3 or values.shape[1:] != shape:
        raise PanelError(
            f"panel needs {tuple(map(int, shape))} (specialist, output) as in fit; got shape {values.shape}."
        )
    if np.isinf(values).any():
        raise PanelError("the panel holds infinite answers; only NaN can stand for an abstention.")
    return values


def panel_target(panel: NDArray[np.float64], y: Any, task: str) -> NDArray[np.float64]:
    """Put the truth in the panel's output space.

    Parameters
    ----------
    panel : ndarray of shape (sample, specialist, output)
        Answers.
    y : array-like
        As in :func:`read_training`.
    task : {"classification", "regression"}
        What ``y`` is.

    Returns
    -------
    ndarray of shape (sample, output)
        One-hot rows, or the numbers.

    Raises
    ------
    PanelError
        If the truth does not fit the outputs, or some of it is missing.
    """
    truth, n_outputs = np.asarray(y), panel.shape[2]
    if task == "regression":
        numbers = truth.reshape(len(truth), -1).astype(np.float64)
        if numbers.shape[1] != n_outputs:
            raise PanelError(f"panel has {n_outputs} outputs, y has shape {truth.shape}.")
        if not np.isfinite(numbers).all():
            raise PanelError(
                f"y holds {int((~np.isfinite(numbers)).sum())} non-finite values. Drop those samples."
            )
        return numbers
    if task != "classification":
        raise PanelError(f"task must be 'classification' or 'regression'; got {task!r}.")
    if truth.ndim != 1 or truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= n_outputs:
        raise PanelError(f"y must hold one code 0 .. {n_outputs - 1} of the panel's outputs per sample.")
    target = np.zeros((len(truth), n_outputs))
    target[np.arange(len(truth)), truth] = 1.0
    return target


def answer_errors(values: NDArray[np.float64], target: NDArray[np.float64], task: str) -> NDArray[np.float64]:
    """Compute answer minus truth; NaN rows where a specialist was absent.

    Parameters
    ----------
    values : ndarray of shape (sample, specialist, output)
        Answers.
    target : ndarray of shape (sample, output)
        From :func:`panel_target`.
    task : {"classification", "regression"}
        A class that a specialist cannot name counts as probability 0; numbers need every output.

    Returns
    -------
    ndarray of shape (sample, specialist, output)
    """
    gaps = np.isnan(values)
    if not gaps.any():
        return values - target[:, None, :]
    gone = gaps.all(axis=2) if task == "classification" else gaps.any(axis=2)
    errors = np.where(gaps, 0.0, values) - target[:, None, :]
    errors[gone] = np.nan
    return errors


def first_choices(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find the output that each specialist puts first (ties: the lowest); -1 where it is absent."""
    if values.shape[2] <= _FEW and np.isfinite(values.sum()):
        # over a short last axis argmax takes ten times as long as comparing columns
        # and the columns are copied out of it: arithmetic over strides, or a masked write, takes twice as long
        columns = values.reshape(-1, values.shape[2])
        best, found = columns[:, 0].copy(), np.zeros(len(columns), dtype=np.int8)
        for c in range(1, values.shape[2]):
            column = columns[:, c].copy()
            np.maximum(found, (column > best).view(np.int8) * np.int8(c), out=found)
            np.maximum(best, column, out=best)
        return found.reshape(values.shape[:2]).astype(np.int64)
    here = ~np.isnan(values).all(axis=2)
    return np.where(here, np.where(np.isnan(values), -np.inf, values).argmax(axis=2), -1)
