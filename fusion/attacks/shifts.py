"""Lies about the honest rows' mean and spread, or copies of one of them."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from fusion._arguments import check_choice
from fusion.attacks._honest import Lies, copies, need_count, need_generator, need_number, read_honest
from theory._exceptions import PanelError


def sign_flip(
    honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, scale: float = 1.0
) -> Lies:
    """Say the opposite of the honest mean.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    scale : float, default 1.0
        How much of it.

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
    NaN in the honest rows stays NaN in the lies.

    References
    ----------
    Li, Xu, Karimireddy, Chen, Ling (2019), RSA.

    Examples
    --------
    >>> sign_flip([[1.0], [3.0]], 1)
    array([[-2.]])
    """
    rows, count = read_honest(honest, n_byzantine)
    need_number("scale", scale)
    return copies(-scale * rows.mean(axis=-2), count, rows)


def inner_product(
    honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, tau: float = 1.0
) -> Lies:
    """Push the mean of all rows against the honest mean.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    tau : float, default 1.0
        Length of the lie in honest means; above N/f the mean of all rows points backwards.

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
    The direction is that of `sign_flip`; NaN in the honest rows stays.

    References
    ----------
    Xie, Koyejo, Gupta (2019), Fall of empires.

    Examples
    --------
    >>> inner_product([[1.0], [3.0]], 1, tau=0.5)
    array([[-1.]])
    """
    rows, count = read_honest(honest, n_byzantine)
    need_number("tau", tau)
    return copies(-tau * rows.mean(axis=-2), count, rows)


def a_little_is_enough(
    honest: Any,
    n_byzantine: int,
    *,
    rng: np.random.Generator | None = None,
    z: float | None = None,
    sign: float = 1.0,
    ddof: int = 0,
    count: str = "baruch",
) -> Lies:
    """Hide within the honest spread: mean + sign z sd, in every output.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    z : float, optional
        Standard deviations; by default the most that s honest specialists exceed too:
        max(0, the normal quantile at (N - s)/N), with s = n//2 + 1 - f.
    sign : float, default 1.0
        Direction of the shift.
    ddof : int, default 0
        Of the standard deviation.
    count : {"baruch", "all"}, default "baruch"
        Quantile (N - s)/N as published, or (n - s)/n as some libraries take it.

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
    NaN in the honest rows stays.

    References
    ----------
    Baruch, Baruch, Goldberg (2019), A little is enough, algorithm 3.

    Examples
    --------
    >>> a_little_is_enough([[1.0], [3.0]], 1, z=2.0)
    array([[4.]])
    """
    check_choice("count", count, ("baruch", "all"))
    rows, f = read_honest(honest, n_byzantine)
    if z is None:
        honest_count = rows.shape[-2]
        n = honest_count + f
        supporters = n // 2 + 1 - f
        base = honest_count if count == "baruch" else n
        share = (base - supporters) / base
        z = max(0.0, NormalDist().inv_cdf(share)) if 0.0 < share < 1.0 else 0.0
    need_number("z", z)
    need_number("sign", sign)
    if need_count("ddof", ddof, least=0) >= rows.shape[-2]:
        raise PanelError(f"ddof={ddof} needs more than {ddof} honest specialists; got {rows.shape[-2]}.")
    return copies(rows.mean(axis=-2) + sign * z * rows.std(axis=-2, ddof=ddof), f, rows)


def colluders(
    honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, z: float = 1.5
) -> Lies:
    """Agree exactly on one wrong answer: mean + z sd.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    z : float, default 1.5
        Standard deviations from the honest mean, in every output.

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
    Equal rows are at distance 0 from each other, which draws rules on distances. NaN stays.

    References
    ----------
    El Mhamdi, Guerraoui, Rouault (2018), The hidden vulnerability of distributed learning.

    Examples
    --------
    >>> colluders([[1.0], [3.0]], 2, z=3.0)
    array([[5.],
           [5.]])
    """
    rows, count = read_honest(honest, n_byzantine)
    need_number("z", z)
    return copies(rows.mean(axis=-2) + z * rows.std(axis=-2), count, rows)


def mimic(honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, target: int = 0) -> Lies:
    """Repeat one honest specialist, so that its view weighs more.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    target : int, default 0
        Which one.

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
    NaN of the target is repeated.

    References
    ----------
    Karimireddy, He, Jaggi (2022), Byzantine-robust learning on heterogeneous data, section 3.

    Examples
    --------
    >>> mimic([[1.0], [3.0]], 1, target=1)
    array([[3.]])
    """
    rows, count = read_honest(honest, n_byzantine)
    whole = isinstance(target, int | np.integer) and not isinstance(target, bool)
    if not whole or not -rows.shape[-2] <= target < rows.shape[-2]:
        raise PanelError(
            f"target={target!r} is none of the {rows.shape[-2]} honest specialists. Count from 0."
        )
    return copies(rows[..., target, :], count, rows)


def gaussian(
    honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, scale: float = 10.0
) -> Lies:
    """Say noise about the honest mean.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Source of randomness; required.
    scale : float, default 10.0
        Standard deviation, in those of the honest rows.

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
    Where the honest rows agree exactly, the noise has standard deviation `scale` itself. NaN stays.

    References
    ----------
    Blanchard, El Mhamdi, Guerraoui, Stainer (2017), section 5: Gaussian Byzantine workers.

    Examples
    --------
    >>> gaussian([[1.0], [3.0]], 1, rng=np.random.default_rng(0)).shape
    (1, 1)
    """
    rows, count = read_honest(honest, n_byzantine)
    generator = need_generator(rng, "gaussian")
    need_number("scale", scale, positive=True)
    spread = rows.std(axis=-2, keepdims=True)
    noise = generator.standard_normal((*rows.shape[:-2], count, rows.shape[-1]))
    lies = rows.mean(axis=-2, keepdims=True) + scale * np.where(spread > 0.0, spread, 1.0) * noise
    said: Lies = lies.astype(rows.dtype, copy=False)
    return said
