"""Reading the arguments that all rules share: the budget, the weights, the options."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import BudgetError, PanelError

Floats = NDArray[np.float64]


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse an option that is not one of the allowed ones."""
    if value not in allowed:
        raise PanelError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")


def read_budget(n_byzantine: Any, n: int | None) -> int:
    """Turn `n_byzantine` into a number of specialists.

    Parameters
    ----------
    n_byzantine : int or float
        A number of specialists, or a share of them in [0, 1/2).
    n : int or None
        How many specialists there are; None where a share cannot be resolved.

    Returns
    -------
    int
        floor(share * n + 1e-9) for a share.

    Raises
    ------
    PanelError
        If it is a bool, negative, no number, or a share of one half or more.
    """
    if isinstance(n_byzantine, bool | np.bool_) or not isinstance(n_byzantine, int | float | np.number):
        raise PanelError(
            f"n_byzantine must be a whole number or a share in [0, 0.5); got {n_byzantine!r}. "
            "Say how many specialists may be wrong in any way."
        )
    if isinstance(n_byzantine, int | np.integer):
        if n_byzantine < 0:
            raise PanelError(f"n_byzantine must not be negative; got {n_byzantine}. Use 0 to trust everyone.")
        return int(n_byzantine)
    share = float(n_byzantine)
    if not 0.0 <= share < 0.5:
        raise PanelError(
            f"n_byzantine as a share must lie in [0, 0.5); got {share!r}. Pass an int to give a number."
        )
    if n is None:
        raise PanelError(
            f"n_byzantine={share!r} is a share; its number depends on the panel. Pass an int here."
        )
    return int(np.floor(share * n + 1e-9))


def read_weights(
    weights: Any, batch: tuple[int, ...], names: tuple[str, ...], *, signed: bool = False
) -> Floats | None:
    """Read weights over specialists and make them sum to 1.

    Parameters
    ----------
    weights : array-like of shape (specialist,) or (..., specialist), or None
        None and equal weights mean the same.
    batch : tuple of int
        Batch shape of the panel.
    names : tuple of str
        Names of the specialists.
    signed : bool, default False
        Whether negative weights are allowed.

    Returns
    -------
    ndarray of float64, shape (1, specialist) or (n_samples, specialist), or None

    Raises
    ------
    PanelError
        If the shape does not fit, a weight is not finite or negative, or they do not have a positive sum.
    """
    if weights is None:
        return None
    n = len(names)
    values = np.asarray(_plain(weights, names))
    if values.dtype.kind not in "iubf":
        raise PanelError(
            f"weights must be numbers; got dtype {values.dtype}. Give one weight per specialist, {n} in all."
        )
    values = values.astype(np.float64)
    if values.shape != (n,) and values.shape != (*batch, n):
        also = f" or {(*batch, n)}" if batch else ""
        raise PanelError(
            f"weights must have shape {(n,)}{also}, one weight per specialist; got {values.shape}."
        )
    values = values.reshape(-1, n)
    wrong = ~np.isfinite(values) if signed else ~(np.isfinite(values) & (values >= 0.0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise PanelError(
            f"the weight of specialist {names[column]!r} is {float(values[row, column])!r}; it must be a finite number"
            + ("." if signed else " >= 0. Only mean and pools take negative weights.")
        )
    with np.errstate(over="ignore"):
        total = values.sum(axis=1, keepdims=True)
    if np.isinf(total).any():
        raise PanelError("the sum of the weights of a sample overflows. Divide all weights by the largest.")
    if (total <= 0.0).any():
        raise PanelError(
            "the weights of a sample must have a positive sum; got "
            f"{float(total.min()):.6g}. Give at least one specialist a positive weight."
        )
    if (values == values[:, :1]).all():
        return None
    normal: Floats = values / total
    return normal


def _plain(weights: Any, names: tuple[str, ...]) -> Any:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(weights, torch.Tensor):
        if weights.requires_grad:
            raise PanelError(
                "the weights carry gradients, which this rule would drop. Pass weights.detach()."
            )
        return weights.cpu().numpy()
    if hasattr(weights, "dims") and "specialist" in weights.dims:
        weights = weights.transpose(..., "specialist")
        if "specialist" in weights.coords:
            theirs = tuple(str(name) for name in weights.coords["specialist"].values.tolist())
            ours = names != tuple(map(str, range(len(names))))
            if ours and theirs != names:
                raise PanelError(
                    f"the weights are for specialists {theirs}, the panel holds {names}. "
                    "Use weights.sel(specialist=panel.specialist)."
                )
        return weights.values
    if hasattr(weights, "value") and hasattr(weights, "names"):
        counted = tuple(map(str, range(len(names))))
        theirs = tuple(weights.names)
        if counted not in (names, theirs) and theirs != names:
            raise PanelError(
                f"the weights are for specialists {theirs}, the panel holds {names}. Put them into one order."
            )
        return weights.value
    return weights


def heaviest(alpha: Floats, n_byzantine: int) -> Floats:
    """Sum the `n_byzantine` largest weights of every row; refuse one half or more.

    Parameters
    ----------
    alpha : ndarray of float64, shape (sample, specialist)
        Weights that sum to 1.
    n_byzantine : int
        How many specialists may be wrong.

    Returns
    -------
    ndarray of float64, shape (sample,)

    Raises
    ------
    BudgetError
        If they hold half of the weight or more.
    """
    n = alpha.shape[-1]
    trim: Floats = np.sort(alpha, axis=-1)[..., n - n_byzantine :].sum(axis=-1)
    if (trim >= 0.5 - 1e-12).any():
        raise BudgetError(
            f"the {n_byzantine} heaviest specialists hold {float(trim.max()):.2f} of the weight; "
            "a robust rule needs less than 0.5. Use cap_weights."
        )
    return trim


def cap_weights(weights: Any, *, n_byzantine: int | float) -> Floats:
    """Cap the largest weights so that a robust rule may use them.

    The largest weights are set to one common value and the others scaled up (water filling), so that no
    weight exceeds 1 / (2 n_byzantine + 1); any n_byzantine specialists then hold less than half.

    Parameters
    ----------
    weights : array-like of shape (specialist,) or (..., specialist)
        Non-negative weights.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them.

    Returns
    -------
    ndarray of float64, shape of `weights`
        Sums to 1 over the last axis. Equal to the normalised weights where these respect the cap.

    Raises
    ------
    PanelError
        If a weight is negative or not finite, or none is positive.
    BudgetError
        If fewer than 2 n_byzantine + 1 specialists have a positive weight.

    Notes
    -----
    NaN is refused. Ties share the cap.

    Examples
    --------
    >>> cap_weights([6.0, 1.0, 1.0], n_byzantine=0).round(3).tolist()
    [0.75, 0.125, 0.125]
    >>> cap_weights([6.0, 2.0, 1.0, 1.0], n_byzantine=1).round(3).tolist()
    [0.333, 0.333, 0.167, 0.167]
    """
    raw = np.asarray(weights, dtype=np.float64)
    if raw.ndim == 0 or raw.shape[-1] == 0:
        raise PanelError(f"weights need a specialist axis; got shape {raw.shape}. Give one per specialist.")
    n = raw.shape[-1]
    f = read_budget(n_byzantine, n)
    normal = read_weights(raw, raw.shape[:-1], tuple(map(str, range(n))))
    alpha = np.full(raw.shape, 1.0 / n) if normal is None else normal
    alpha = np.broadcast_to(alpha.reshape(-1, n), (max(raw.size // n, 1), n)).copy()
    positive = (alpha > 0.0).sum(axis=1)
    if (positive < 2 * f + 1).any():
        raise BudgetError(
            f"cap_weights with n_byzantine={f} needs at least {2 * f + 1} specialists of positive weight; got "
            f"{int(positive.min())}. Lower n_byzantine, or give more specialists a weight."
        )
    cap = 1.0 / (2 * f + 1)
    capped = np.zeros(alpha.shape, dtype=bool)
    # Each pass caps at least one more weight, so n passes are enough.
    for _ in range(n):
        over = (alpha > cap * (1.0 + 1e-15)) & ~capped
        if not over.any():
            break
        capped |= over
        free = np.where(capped, 0.0, alpha).sum(axis=1, keepdims=True)
        left = 1.0 - cap * capped.sum(axis=1, keepdims=True)
        scale = np.divide(left, free, out=np.zeros_like(free), where=free > 0.0)
        alpha = np.where(capped, cap, alpha * scale)
    return alpha.reshape(raw.shape)
