"""Lies in the space of classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion.attacks._honest import Lies, copies, read_honest
from theory._exceptions import PanelError


def label_permutation(
    honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, shift: int = 1
) -> Lies:
    """Answer the honest mean with its outputs renamed.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    shift : int, default 1
        Output k takes the place of output k + shift, around the end.

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
    Needs two outputs to do anything. NaN stays.

    Examples
    --------
    >>> label_permutation([[0.9, 0.1, 0.0]], 1)
    array([[0. , 0.9, 0.1]])
    """
    rows, count = read_honest(honest, n_byzantine)
    if isinstance(shift, bool) or not isinstance(shift, int | np.integer):
        raise PanelError(f"shift must be a whole number; got {shift!r}. Use 1.")
    return copies(np.roll(rows.mean(axis=-2), shift, axis=-1), count, rows)


def runner_up(honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None) -> Lies:
    """Put everything on the output that the honest mean has second.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.

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
    With one output there is no second: the lie is then 1 - mean. Ties: the first output is the winner.

    Examples
    --------
    >>> runner_up([[0.6, 0.3, 0.1]], 1)
    array([[0., 1., 0.]])
    """
    rows, count = read_honest(honest, n_byzantine)
    centre = rows.mean(axis=-2)
    if rows.shape[-1] == 1:
        return copies(1.0 - centre, count, rows)
    second = np.argsort(-centre, axis=-1, kind="stable")[..., 1:2]
    said = np.zeros_like(centre)
    np.put_along_axis(said, second, 1.0, axis=-1)
    return copies(said, count, rows)
