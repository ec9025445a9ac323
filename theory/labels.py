"""Labels: codes of options, with -1 for an abstention, and words turned into codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from theory._backends import SPECIALIST, column_names, from_array, kind_of, ordered_dataarray, pandas_values
from theory._exceptions import PanelError
from theory.panel import Wrap


def as_labels(labels: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Read a table of label codes; -1 (or NaN) means that the specialist abstained.

    Parameters
    ----------
    labels : array-like, DataFrame, DataArray or tensor
        Integer codes of shape (..., specialist). Floats are taken when they are whole numbers or NaN.

    Returns
    -------
    codes : ndarray of int64, shape (..., specialist)
    names : tuple of str
        Names of the specialists.

    Raises
    ------
    PanelError
        If values are no whole numbers or lie below -1. ``encode_labels`` turns words into codes.

    Examples
    --------
    >>> as_labels([[0, 2], [1, -1]])[0]
    array([[ 0,  2],
           [ 1, -1]])
    """
    kind = kind_of(labels)
    names: tuple[str, ...] = ()
    if kind == "xarray":
        table, dims = ordered_dataarray(labels, SPECIALIST, None)
        values = np.asarray(table)
        if SPECIALIST in labels.coords:
            names = Wrap("xarray", labels, (*dims, ""), 0).names
    elif kind == "pandas":
        values, names = pandas_values(labels), tuple(str(name) for name in column_names(labels))
    else:
        values = labels.detach().cpu().numpy() if kind == "torch" else from_array(labels)
    if values.ndim < 1 or values.shape[-1] == 0:
        raise PanelError(f"labels need the axes (..., specialist); got shape {values.shape}.")
    if values.dtype.kind == "f":
        whole = np.where(np.isnan(values), -1.0, values)
        # Above 2^53 a double no longer holds every whole number.
        if not np.array_equal(whole, np.floor(whole)) or (np.abs(whole) > 2.0**53).any():
            raise PanelError(
                "labels must be finite whole numbers (codes of options), or NaN for an abstention. "
                "encode_labels(labels, y) makes codes of anything else."
            )
        values = whole
    if values.dtype.kind not in "iubf":
        raise PanelError(
            f"labels must be integer codes; got dtype {values.dtype}. "
            "encode_labels(labels, y) turns words into codes."
        )
    codes = values.astype(np.int64)
    if codes.size and codes.min() < -1:
        raise PanelError(f"labels must be >= 0, or -1 for an abstention; got {codes.min()}.")
    return codes, names or tuple(str(i) for i in range(codes.shape[-1]))


def encode_labels(
    labels: Any, y: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any], tuple[str, ...]]:
    """Turn labels of any kind into codes shared by the specialists and the truth.

    Parameters
    ----------
    labels : array-like, DataFrame or DataArray of shape (sample, specialist)
        What each specialist said: words, numbers or bools. None, NaN and ``""`` are abstentions.
    y : array-like of shape (sample,)
        The truth; no value may be missing.

    Returns
    -------
    codes : ndarray of int64, shape (sample, specialist)
        -1 where the specialist abstained.
    truth : ndarray of int64, shape (sample,)
    classes : ndarray
        ``classes[code]`` is the label; sorted, truth and answers together.
    names : tuple of str
        Names of the specialists.

    Raises
    ------
    PanelError
        On wrong shapes, missing truths, or labels of kinds that cannot be compared.

    Examples
    --------
    >>> codes, truth, classes, _ = encode_labels([["cat", "dog"], ["", "cat"]], ["cat", "cat"])
    >>> codes.tolist(), truth.tolist(), classes.tolist()
    ([[0, 1], [-1, 0]], [0, 0], ['cat', 'dog'])
    """
    kind = kind_of(labels)
    names: tuple[str, ...] = ()
    if kind == "xarray":
        table, dims = ordered_dataarray(labels, SPECIALIST, None)
        said = np.asarray(table)
        if SPECIALIST in labels.coords:
            names = Wrap("xarray", labels, (*dims, ""), 0).names
    elif kind == "pandas":
        names = tuple(str(name) for name in column_names(labels))
        said = labels.to_numpy(dtype=object)
    else:
        said = _objects(labels)
    truth = _objects(y)
    if said.ndim != 2 or truth.ndim != 1 or len(said) != len(truth):
        raise PanelError(
            f"labels must be (sample, specialist) and y (sample,); got shapes {said.shape} and {truth.shape}."
        )
    gone_y = _is_missing(truth)
    if gone_y.any():
        raise PanelError(
            f"y holds {int(gone_y.sum())} missing values (first: sample {int(gone_y.argmax())}). "
            "Drop those samples."
        )
    gone = _is_missing(said)
    everything = np.concatenate([np.asarray(said[~gone]).ravel().astype(object), truth.astype(object)])
    try:
        classes, codes_all = np.unique(everything, return_inverse=True)
    except TypeError as error:
        raise PanelError(
            f"labels of different kinds cannot be put in one order ({error}). Turn all of them into text."
        ) from error
    kinds = {type(value) for value in classes.tolist()}
    if len(kinds) == 1:
        classes = np.array(classes.tolist())
    codes = np.full(said.shape, -1, dtype=np.int64)
    codes[~gone] = codes_all[: len(codes_all) - len(truth)]
    names = names or tuple(str(i) for i in range(said.shape[1]))
    return codes, codes_all[len(codes_all) - len(truth) :].astype(np.int64), classes, names


def _objects(values: Any) -> NDArray[Any]:
    """Read nested lists without turning NaN beside words into the word "nan"."""
    return np.asarray(values, dtype=object) if isinstance(values, list | tuple) else np.asarray(values)


def _is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        return cast("NDArray[np.bool_]", np.isnan(values))
    if values.dtype.kind in "US":
        return cast("NDArray[np.bool_]", values == values.dtype.type(""))
    if values.dtype.kind == "O":
        test: Callable[[Any], bool] = lambda v: v is None or v != v or (isinstance(v, str) and v == "")  # noqa: E731
        return np.array([_truthy(test, v) for v in values.ravel()], dtype=bool).reshape(values.shape)
    return np.zeros(values.shape, dtype=bool)


def _truthy(test: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(test(value))
    except (TypeError, ValueError):  # pandas.NA has no truth value
        return True
