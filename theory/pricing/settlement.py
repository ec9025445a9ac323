"""From prices to payments: deductions, debts, whole units, and wagers. Arithmetic only; nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._exceptions import PanelError
from theory._results import add_warnings, labelled
from theory.pricing.result import Prices

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Settlement:
    """What every specialist is paid, and how its price became that.

    Attributes
    ----------
    value : ndarray of int64, shape (n_specialists,)
        Units paid; they sum to the budget, or to 0 where nobody earned.
    due : ndarray of shape (n_specialists,)
        Price after the deduction for uncertainty and after old debt, in units of the loss; may be negative.
    debt : ndarray of shape (n_specialists,)
        Carried to the next settlement, in units of the loss.
    exhausted : ndarray of bool, shape (n_specialists,)
        Whose debt is more than its deposit.
    rate : float
        Units paid per unit of loss; NaN where nobody earned.
    residual : mapping of str to float
        What each step added to the sum: ``uncertainty`` (deducted), ``old_debt`` (deducted), ``debt`` (carried
        forward, so added to payments), all in units of the loss; ``unpaid``, and ``rounding``, the sum of absolute
        differences to the exact shares, in units paid.
    names : tuple of str
        Names of the specialists.
    warnings : tuple of str
        What a reader should know before paying.
    """

    value: NDArray[np.int64]
    due: Floats
    debt: Floats
    exhausted: NDArray[np.bool_]
    rate: float
    residual: Mapping[str, float]
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset over specialist."""
        columns = {"value": self.value, "due": self.due, "debt": self.debt, "exhausted": self.exhausted}
        return labelled(columns, self.names, {"rate": self.rate, **self.residual})

    def summary(self) -> str:
        """Return the payments as text, largest first."""
        width = max(len(name) for name in self.names)
        lines = [f"{int(self.value.sum())} units paid at {self.rate:.6g} per unit of loss"]
        for i in np.argsort(-self.value, kind="stable"):
            line = f"  {self.names[i]:<{width}}  {self.value[i]:>12d}"
            if self.debt[i] > 0:
                line += f"  owes {self.debt[i]:.5f}" + (
                    ", more than its deposit" if self.exhausted[i] else ""
                )
            lines.append(line)
        return add_warnings(lines, self.warnings)


def settle(
    prices: Prices | ArrayLike,
    *,
    budget: int,
    se: ArrayLike | None = None,
    z: float = 0.0,
    debt: ArrayLike | None = None,
    deposit: ArrayLike | None = None,
    committed: ArrayLike | None = None,
) -> Settlement:
    """Turn prices into whole units that sum to a budget exactly.

    The steps: price; minus z standard errors; minus debt of earlier rounds; what is negative is carried as debt,
    never dropped; the rest is scaled to the budget; and rounded to whole units by largest remainder.

    Parameters
    ----------
    prices : Prices or array-like of shape (specialist,)
        In units of the loss; positive earns.
    budget : int
        Units to hand out (cents, say).
    se : array-like of shape (specialist,), optional
        Standard errors, when ``prices`` is an array.
    z : float
        Standard errors to deduct: 0 pays expected worth, 1.645 pays what is proven at 95 %.
    debt : array-like of shape (specialist,), optional
        Debt carried from the last settlement, in units of the loss, >= 0.
    deposit : array-like of shape (specialist,), optional
        What each has at stake, in units of the loss, >= 0; debts above it are marked. None is no deposit.
    committed : array-like of bool, shape (sample,) or (sample, specialist), optional
        Which answers were committed before their label was known. All others are paid nothing: prices are
        averaged over all samples with those left at 0. Needs `Prices` with ``per_sample=True``.

    Returns
    -------
    Settlement
        Whole units and every step's residual.

    Raises
    ------
    PanelError
        If numbers are not finite, negative where they may not be, or shapes do not fit; or if z > 0 and
        ``committed`` meet prices whose standard errors hold groups, which prices do not keep.

    Notes
    -----
    Ties among remainders go to the specialist that comes first. Deducting standard errors pays the same
    specialist less for being split into many identities, whose errors are as large as its own.

    Examples
    --------
    >>> paid = settle([0.5, 0.25, -0.1, 0.25], budget=100)
    >>> paid.value, paid.debt
    (array([50, 25,  0, 25]), array([0. , 0. , 0.1, 0. ]))
    >>> settle([1.0, 1.0, 1.0], budget=100).value
    array([34, 33, 33])
    """
    value, errors, names = _read_prices(prices, se, committed, z)
    m = len(value)
    if not isinstance(budget, int | np.integer) or isinstance(budget, bool) or budget < 0:
        raise PanelError(
            f"budget is a whole number of units, at least 0; got {budget!r}. Settle in cents, say."
        )
    if not (np.isfinite(z) and z >= 0.0):
        raise PanelError(f"z is a number of standard errors, at least 0; got {z!r}.")
    if z > 0.0 and errors is None:
        raise PanelError("z > 0 deducts standard errors, and there are none: give se=, or z=0.")
    old = _read_amounts("debt", debt, m)
    stake = _read_amounts("deposit", deposit, m)
    deducted = np.zeros(m) if errors is None or z == 0.0 else z * errors
    due = value - deducted - old
    carried = np.maximum(-due, 0.0)
    earned = np.maximum(due, 0.0)
    total = float(earned.sum())
    notes: tuple[str, ...] = ()
    units: NDArray[np.int64] = np.zeros(m, dtype=np.int64)
    rate, rounding = float("nan"), 0.0
    if total > 0.0:
        units, rounding = _largest_remainder(earned, int(budget))
        rate = float(budget) / total
    else:
        notes = ("nobody earned anything: the budget stays unpaid",)
    residual = {
        "uncertainty": -float(deducted.sum()),
        "old_debt": -float(old.sum()),
        "debt": float(carried.sum()),
        "rounding": rounding,
        "unpaid": float(budget) - float(units.sum()),
    }
    return Settlement(units, due, carried, carried > stake, rate, residual, names, notes)


def _read_prices(
    prices: Any, se: Any, committed: Any, z: float
) -> tuple[Floats, Floats | None, tuple[str, ...]]:
    if isinstance(prices, Prices):
        if se is not None:
            raise PanelError("these Prices bring their own standard errors: leave se= out.")
        value, errors, names = prices.value, prices.se, prices.names
        if committed is not None:
            if prices.per_sample is None:
                raise PanelError("committed= needs prices by sample: price(..., per_sample=True).")
            table = prices.per_sample
            mask = np.asarray(committed)
            if mask.dtype != bool or mask.shape not in ((len(table),), table.shape):
                raise PanelError(
                    f"committed must be bool, of shape ({len(table)},) or {table.shape}; got dtype {mask.dtype}, "
                    f"shape {mask.shape}."
                )
            kept = np.where(mask if mask.ndim == 2 else mask[:, None], table, 0.0)
            value = kept.mean(axis=0)
            if errors is not None:
                plain, errors = _plain_se(table), _plain_se(kept)
                # Groups are not kept with prices; a deduction that forgot them would be too small.
                if z > 0.0 and not np.allclose(
                    np.asarray(prices.se), plain, rtol=1e-6, atol=1e-12 * float(plain.max())
                ):
                    raise PanelError(
                        "these standard errors are not those of independent samples (groups, or sampled orders), and "
                        "cannot be had again for the committed ones. Give z=0, or the prices and se= as arrays."
                    )
        return np.array(value), errors, names
    if committed is not None:
        raise PanelError("committed= needs prices by sample: price(..., per_sample=True).")
    values = np.array(prices, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise PanelError(f"prices must be one finite number per specialist; got shape {values.shape}.")
    given = None if se is None else _read_amounts("se", se, len(values))
    return values, given, tuple(map(str, range(len(values))))


def _plain_se(table: Floats) -> Floats:
    return np.asarray(table.std(axis=0, ddof=1) / np.sqrt(len(table)))


def _read_amounts(name: str, amounts: Any, m: int) -> Floats:
    if amounts is None:
        return np.zeros(m)
    values = np.asarray(amounts, dtype=np.float64)
    if values.shape != (m,) or not np.isfinite(values).all() or (values < 0.0).any():
        raise PanelError(
            f"{name} must be one number >= 0 per specialist ({m}); got {np.array2string(values, threshold=6)}."
        )
    return values


def _largest_remainder(earned: Floats, budget: int) -> tuple[NDArray[np.int64], float]:
    """Split the budget in proportion; also the sum of what rounding moved.

    Rational arithmetic: in doubles the shares of a large budget miss it by several units, and what is left over
    would reach specialists that earned nothing.
    """
    if budget > np.iinfo(np.int64).max:
        raise PanelError(f"a budget of {budget} units does not fit 64 bits. Settle in larger units.")
    parts = [Fraction(x) for x in earned.tolist()]
    whole = sum(parts, Fraction(0))
    exact = [part * budget / whole for part in parts]
    units = [int(x) for x in exact]
    rest = [x - u for x, u in zip(exact, units, strict=True)]
    order = sorted(range(len(rest)), key=lambda i: -rest[i])
    for i in order[: budget - sum(units)]:
        units[i] += 1
    moved = sum((abs(x - u) for x, u in zip(exact, units, strict=True)), Fraction(0))
    return np.array(units, dtype=np.int64), float(moved)


def deposit_needed(gain: ArrayLike, *, detection: float) -> Floats:
    """Compute the deposit that makes a fraud worthless.

    Parameters
    ----------
    gain : array-like
        What the fraud earns when it is not found out.
    detection : float
        Probability q, in (0, 1], that it is found out and the deposit lost.

    Returns
    -------
    ndarray
        gain (1 - q) / q: 19 times the gain at 5 %, 4 times at 20 %.

    Raises
    ------
    PanelError
        If the probability is out of range, or a gain negative.

    Examples
    --------
    >>> deposit_needed([1.0, 2.0], detection=0.2)
    array([4., 8.])
    """
    values = np.asarray(gain, dtype=np.float64)
    if not np.isfinite(values).all() or (values < 0.0).any():
        raise PanelError("a gain is a finite number >= 0.")
    if not 0.0 < detection <= 1.0:
        raise PanelError(
            f"detection is a probability in (0, 1]; got {detection!r}. Without any, no deposit deters."
        )
    return np.asarray(values * (1.0 - detection) / detection)


def wager(scores: ArrayLike, stakes: ArrayLike) -> Floats:
    """Share the stakes out again by how good each answer was.

    Parameters
    ----------
    scores : array-like of shape (..., specialist)
        In [0, 1], larger is better; a proper score of a report makes honesty best (1 - Brier / 2, say).
    stakes : array-like of shape (specialist,) or (..., specialist)
        What each puts in, >= 0.

    Returns
    -------
    ndarray of shape (..., specialist)
        Pay m_i (1 + s_i - sum_j m_j s_j / sum_j m_j): never negative, and sums to the stakes.

    Raises
    ------
    PanelError
        If a score lies outside [0, 1], or a stake is negative.

    Notes
    -----
    Balanced; nobody gains by splitting into identities; blind to correlation: a copy is paid like the original.
    Where nothing is staked nothing is paid.

    References
    ----------
    Lambert et al., *Self-financed wagering mechanisms for forecasting*, 2008.

    Examples
    --------
    >>> wager([0.9, 0.5], [1.0, 1.0])
    array([1.2, 0.8])
    """
    s = np.asarray(scores, dtype=np.float64)
    m = np.asarray(stakes, dtype=np.float64)
    if s.ndim < 1 or not ((s >= 0.0) & (s <= 1.0)).all():
        raise PanelError(
            "scores of a wager lie in [0, 1]. Rescale them; the stakes are the scale of the pay."
        )
    if m.ndim < 1 or m.shape[-1] != s.shape[-1] or not ((m >= 0.0) & (m < np.inf)).all():
        raise PanelError(
            f"stakes must be one finite number >= 0 per specialist ({s.shape[-1]}); got shape {m.shape}."
        )
    pool = m.sum(axis=-1, keepdims=True)
    mean = (m * s).sum(axis=-1, keepdims=True) / np.where(pool > 0.0, pool, 1.0)
    return np.asarray(m * (1.0 + s - mean))
