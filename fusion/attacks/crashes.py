"""Answers that are stuck, missing or infinite."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion._arguments import check_choice
from fusion.attacks._honest import Lies, copies, need_number, read_honest
from theory._exceptions import PanelError


def constant(
    honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, value: Any = 1e6
) -> Lies:
    """Say the same thing always.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    value : float or array-like of shape (output,), default 1e6
        What is said.

    Returns
    -------
    ndarray of shape (..., n_byzantine, output)
        The lies, float64 or the floating dtype of `honest`.

    Raises
    ------
    PanelError
        If the honest panel or a parameter cannot be read.

    Notes
    -----
    NaN may be said; see `nan_fault`.

    References
    ----------
    Li, Xu, Karimireddy, Chen, Ling (2019), RSA: the same-value attack.

    Examples
    --------
    >>> constant([[1.0], [3.0]], 1, value=7.0)
    array([[7.]])
    """
    rows, count = read_honest(honest, n_byzantine)
    given = np.asarray(value)
    if given.dtype.kind not in "iubf":
        raise PanelError(f"value must hold numbers; got {value!r}.")
    with np.errstate(over="ignore"):
        said = given.astype(rows.dtype)
    if said.shape not in ((), rows.shape[-1:]):
        raise PanelError(
            f"value must be one number or {rows.shape[-1]}, one per output; got shape {said.shape}."
        )
    return copies(np.broadcast_to(said, (*rows.shape[:-2], rows.shape[-1])), count, rows)


def nan_fault(
    honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, cells: str = "row"
) -> Lies:
    """Crash: answer NaN.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    cells : {"row", "one"}, default "row"
        The whole row, or its first output only (the rest is the honest mean).

    Returns
    -------
    ndarray of shape (..., n_byzantine, output)
        The lies, float64 or the floating dtype of `honest`.

    Raises
    ------
    PanelError
        If the honest panel or a parameter cannot be read.

    Notes
    -----
    This is the attack that medians in other libraries pass on.

    Examples
    --------
    >>> nan_fault([[1.0, 2.0], [3.0, 4.0]], 1, cells="one")
    array([[nan,  3.]])
    """
    check_choice("cells", cells, ("row", "one"))
    rows, count = read_honest(honest, n_byzantine)
    said = rows.mean(axis=-2)
    said[..., slice(None) if cells == "row" else slice(1)] = np.nan
    return copies(said, count, rows)


def infinite(
    honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, sign: float = 1.0
) -> Lies:
    """Answer infinity.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    sign : float, default 1.0
        Of the infinity.

    Returns
    -------
    ndarray of shape (..., n_byzantine, output)
        The lies, float64 or the floating dtype of `honest`.

    Raises
    ------
    PanelError
        If the honest panel or a parameter cannot be read.

    Notes
    -----
    Infinity minus infinity is NaN: distances to these rows are not numbers.

    Examples
    --------
    >>> infinite([[1.0], [3.0]], 1, sign=-1.0)
    array([[-inf]])
    """
    rows, count = read_honest(honest, n_byzantine)
    if not need_number("sign", sign):
        raise PanelError("sign must not be 0: 0 times infinity is no number. Use 1.0 or -1.0.")
    return copies(np.full((*rows.shape[:-2], rows.shape[-1]), sign * np.inf), count, rows)
