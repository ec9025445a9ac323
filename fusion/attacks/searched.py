"""Lies as far out as they may be: just within the honest rows' spread, or as far as one rule lets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import check_choice
from fusion._operator import Operator
from fusion.attacks._honest import Lies, copies, need_count, need_number, read_honest
from theory._exceptions import PanelError

_DIRECTIONS = ("unit", "std", "sign")
_FAMILIES = ("a_little_is_enough", "inner_product", "constant", *_DIRECTIONS)


def min_max(
    honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, direction: str = "unit"
) -> Lies:
    """Go as far from the honest mean as no further from any honest row than two honest rows are apart.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    direction : {"unit", "std", "sign"}, default "unit"
        Which way: minus the honest mean at length 1, minus the standard deviations, or minus the signs of
        the mean.

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
    The largest step has a closed form; the paper searches for it. Where the direction is 0, the lie is the
    mean. NaN in the honest rows stays NaN in the lies.

    References
    ----------
    Shejwalkar, Houmansadr (2021), Manipulating the Byzantine, equation 5.

    Examples
    --------
    >>> min_max([[1.0], [3.0]], 1)
    array([[1.]])
    """
    rows, count = read_honest(honest, n_byzantine)
    centre, push, size = _aim(rows, direction)
    gap = rows.astype(np.float64) - centre[..., None, :]
    reach = np.zeros((*gap.shape[:-2], 1))
    # One row against those behind it: all pairs at once would take N panels of memory.
    for i in range(gap.shape[-2] - 1):
        apart = np.square(gap[..., i + 1 :, :] - gap[..., i : i + 1, :]).sum(axis=-1)
        reach = np.maximum(reach, apart.max(axis=-1, keepdims=True))
    along = (gap * push[..., None, :]).sum(axis=-1)
    square = np.square(size)[..., None]
    room = np.maximum(np.square(along) + square * (reach - np.square(gap).sum(axis=-1)), 0.0)
    step = _divided(along + np.sqrt(room), square).min(axis=-1, keepdims=True)
    return copies(centre + step * push, count, rows)


def min_sum(
    honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, direction: str = "unit"
) -> Lies:
    """Go as far from the honest mean as the sum of squared distances of some honest row allows.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    direction : {"unit", "std", "sign"}, default "unit"
        As in `min_max`.

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
    Deviations from a mean sum to 0, so the step is the largest deviation over the length of the
    direction. NaN in the honest rows stays.

    References
    ----------
    Shejwalkar, Houmansadr (2021), Manipulating the Byzantine, equation 6.

    Examples
    --------
    >>> min_sum([[1.0], [2.0], [6.0]], 1)
    array([[0.]])
    """
    rows, count = read_honest(honest, n_byzantine)
    centre, push, size = _aim(rows, direction)
    gap = rows.astype(np.float64) - centre[..., None, :]
    furthest = np.sqrt(np.square(gap).sum(axis=-1)).max(axis=-1)
    return copies(centre + _divided(furthest, size)[..., None] * push, count, rows)


def optimal(
    honest: Any,
    n_byzantine: int,
    *,
    rng: np.random.Generator | None = None,
    rule: str | Operator | Callable[[Any], Any] = "trimmed_mean",
    family: str = "a_little_is_enough",
    evals: int = 20,
    start: float = 0.0,
    delta: float = 10.0,
    ratio: float = 0.8,
) -> Lies:
    """Search the size of a lie that moves one rule's answer furthest from the honest mean.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    rule : str, Operator or callable, default "trimmed_mean"
        What is attacked, chains included. A name stands for the rule with `n_byzantine` as its budget; a
        callable maps (..., specialist, output) to (..., output).
    family : {"a_little_is_enough", "inner_product", "constant", "unit", "std", "sign"}
        The lie of size x: mean + x sd, -x mean, x in every output, or mean + x times a direction of `min_max`.
        "a_little_is_enough" by default.
    evals : int, default 20
        How often the rule is asked (for all samples at once).
    start : float, default 0.0
        Size to start from.
    delta : float, default 10.0
        First step; doubled while the damage grows, then multiplied by `ratio` after every further step.
    ratio : float, default 0.8
        In (0, 1).

    Returns
    -------
    ndarray of shape (..., n_byzantine, output)
        The lies, float64 or the floating dtype of `honest`; every sample has a size of its own.

    Raises
    ------
    PanelError
        If the honest panel or a parameter cannot be read.
    BudgetError
        If the rule cannot be asked with so many liars.

    Notes
    -----
    All liars say the same. The damage is never less than at `start`. NaN in the honest rows stays. Sizes at
    which a lie overflows the dtype of `honest` are passed over.

    References
    ----------
    Shejwalkar, Houmansadr (2021), Manipulating the Byzantine, algorithm 1.

    Examples
    --------
    >>> optimal([[1.0], [2.0], [3.0]], 1, rule="mean", family="constant", evals=3)
    array([[30.]])
    """
    check_choice("family", family, _FAMILIES)
    need_count("evals", evals)
    need_number("start", start)
    need_number("delta", delta, positive=True)
    if not 0.0 < need_number("ratio", ratio, positive=True) < 1.0:
        raise PanelError(f"ratio must lie in (0, 1); got {ratio!r}. Use 0.8.")
    rows, count = read_honest(honest, n_byzantine)
    fuse = _asked(rule, count)
    base, push = _line(rows, family)
    centre = rows.mean(axis=-2, dtype=np.float64)
    size = np.full(rows.shape[:-2], float(start))
    if count == 0:
        return copies(base, 0, rows)

    def damage(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        # A size whose lies or damage leave the range of numbers is no better than none: a rule whose answer
        # is free to move would otherwise be asked about infinite answers, which it refuses.
        with np.errstate(over="ignore", invalid="ignore"):
            lies = copies(base + sizes[..., None] * push, count, rows)
            beyond = np.asarray(np.isinf(lies).any(axis=(-2, -1)))
            lies = np.where(beyond[..., None, None], rows[..., :1, :], lies)
            moved = np.asarray(fuse(np.concatenate([rows, lies], axis=-2)), dtype=np.float64) - centre
            found: NDArray[np.float64] = np.square(moved).sum(axis=-1)
        return np.where(beyond | ~np.isfinite(found), -np.inf, found)

    best = damage(size)
    step = np.full(size.shape, float(delta))
    growing = np.ones(size.shape, dtype=bool)
    for _ in range(int(evals) - 1):
        found = damage(size + step)
        better = found > best
        size = np.where(better, size + step, size)
        best = np.where(better, found, best)
        growing &= better
        step = step * np.where(growing, 2.0, float(ratio))
    return copies(base + size[..., None] * push, count, rows)


def _aim(rows: Lies, direction: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Give the mean, the direction and its length."""
    check_choice("direction", direction, _DIRECTIONS)
    centre = rows.mean(axis=-2, dtype=np.float64)
    if direction == "sign":
        push = -np.sign(centre)
    elif direction == "std":
        push = -rows.std(axis=-2, dtype=np.float64)
    else:
        length = np.sqrt(np.square(centre).sum(axis=-1, keepdims=True))
        push = -_divided(centre, length)
    return centre, push, np.sqrt(np.square(push).sum(axis=-1))


def _divided(above: NDArray[Any], below: NDArray[Any]) -> NDArray[Any]:
    """Divide; 0 where there is nothing to divide by."""
    return np.where(below == 0.0, 0.0, above / np.where(below == 0.0, 1.0, below))


def _line(rows: Lies, family: str) -> tuple[NDArray[Any], NDArray[Any]]:
    centre = rows.mean(axis=-2, dtype=np.float64)
    if family == "inner_product":
        return np.zeros_like(centre), -centre
    if family == "constant":
        return np.zeros_like(centre), np.ones_like(centre)
    if family == "a_little_is_enough":
        return centre, rows.std(axis=-2, dtype=np.float64)
    return centre, _aim(rows, family)[1]


def _asked(rule: Any, count: int) -> Callable[[Any], Any]:
    from fusion._registry import get_operator

    if isinstance(rule, str):
        operator = get_operator(rule)
        return operator.set_params(n_byzantine=count) if operator.row.takes_budget else operator
    if not callable(rule):
        raise PanelError(f"rule must be a name, an operator or a callable; got {rule!r}.")
    asked: Callable[[Any], Any] = rule
    return asked
