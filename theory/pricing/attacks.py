"""How payment rules fare when specialists exaggerate, copy themselves, copy others, or hide their copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import read_matrix
from theory._exceptions import PanelError
from theory._results import add_warnings
from theory.pricing._payment_rules import Payment, look_alikes, standard_payments
from theory.pricing._semivalues import check_rule, mean_game_law
from theory.pricing._terms import read_v0_needed

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]
# Variance added to exact copies, relative: enough for optimal weights, and too little for the third decimal.
_JITTER = 1e-8
_NOISE_GRID = 60


def exaggeration_factor(
    n_specialists: int,
    *,
    rule: str = "shapley",
    beta: tuple[float, float] | None = None,
    quorum: int = 1,
    baseline_weight: float | None = None,
) -> float:
    """Compute by how much it pays to lean away from the others under mean-game prices.

    A specialist that expects the others to err by a mean of mu gains most by shifting its answer by minus this
    factor times mu.

    Parameters
    ----------
    n_specialists : int
        M, at least 1.
    rule : {"shapley", "banzhaf", "leave_one_out", "solo", "beta"}
        The semivalue.
    beta : tuple of two floats, optional
        Parameters of ``rule="beta"``.
    quorum : int
        Least size at which the panel speaks.
    baseline_weight : float, optional
        Weight of a baseline that is always present; a quorum does not go with it.

    Returns
    -------
    float
        0 is truthful (``rule="solo"``); leave-one-out has M - 1. NaN where the specialist is never heard.

    Raises
    ------
    PanelError
        If a parameter is out of range.

    Notes
    -----
    kappa = sum_s p_s s h_{s+1} / sum_s p_s h_{s+1}, with p_s the size law and h_k = 1/k^2: on squared error the
    price of a shift d is a parabola whose peak lies there. No rule that pays for what a specialist adds to
    others is truthful on squared error.

    Examples
    --------
    >>> round(exaggeration_factor(10), 2), exaggeration_factor(10, rule="leave_one_out")
    (0.89, 9.0)
    """
    if not isinstance(n_specialists, int | np.integer) or n_specialists < 1:
        raise PanelError(f"n_specialists is a whole number of at least 1; got {n_specialists!r}.")
    beta = check_rule(rule, beta)
    if not isinstance(quorum, int | np.integer) or not 1 <= quorum <= n_specialists:
        raise PanelError(f"quorum lies between 1 and {n_specialists} specialists; got {quorum!r}.")
    if baseline_weight is not None and not (0.0 < baseline_weight < np.inf and quorum == 1):
        raise PanelError(
            f"baseline_weight is a positive number and goes without a quorum; got {baseline_weight!r} and "
            f"quorum={quorum}."
        )
    weight = None if baseline_weight is None else float(baseline_weight)
    return mean_game_law(int(n_specialists), rule, beta, int(quorum), weight).exaggeration


@dataclass(frozen=True, eq=False)
class AttackTable:
    """What an attacker is paid in total under several rules.

    Attributes
    ----------
    value : ndarray of shape (n_rules, n_attacks)
        Total pay of the attacker's identities, in units of the loss.
    rules, attacks : tuple of str
        Names of rows and columns.
    loss : ndarray of shape (n_attacks,)
        Squared error of the mean of the attacked panel.
    v0 : float
        Loss of the empty panel.
    warnings : tuple of str
        What a reader should know before using the numbers.
    """

    value: Floats
    rules: tuple[str, ...]
    attacks: tuple[str, ...]
    loss: Floats
    v0: float
    warnings: tuple[str, ...] = ()

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset with the dims rule and attack."""
        import xarray

        return xarray.Dataset(
            {"pay": (("rule", "attack"), self.value), "loss": (("attack",), self.loss)},
            coords={"rule": list(self.rules), "attack": list(self.attacks)},
            attrs={"v0": self.v0},
        )

    def summary(self) -> str:
        """Return the table as text."""
        width = max(len(rule) for rule in (*self.rules, "loss of the mean"))
        wide = [max(len(attack), 7) for attack in self.attacks]
        head = " ".join(f"{a:>{w}}" for a, w in zip(self.attacks, wide, strict=True))
        lines = [f"{'':<{width}}  {head}"]
        for name, row in [*zip(self.rules, self.value, strict=True), ("loss of the mean", self.loss)]:
            cells = " ".join(f"{x:>{w}.3f}" for x, w in zip(row, wide, strict=True))
            lines.append(f"{name:<{width}}  {cells}")
        return add_warnings(lines, self.warnings)


def replication_test(
    matrix: Any,
    *,
    v0: float,
    pay: Mapping[str, Payment] | Payment | None = None,
    attacker: int = -1,
    victim: int = 0,
    copies: Sequence[int] = (0, 1, 3),
    noise: float = 0.3,
    bias: float = 1.0,
    threshold: float = 0.98,
) -> AttackTable:
    """Attack payment rules with copies of oneself, noisy copies, copies of somebody else, and collusion.

    Parameters
    ----------
    matrix : array-like, DataArray or ErrorMatrix
        Second moment of the honest specialists' errors, (specialist, specialist).
    v0 : float
        Loss of the empty panel.
    pay : callable or mapping of str to callable, optional
        The rules: functions of a second moment and v0 that give one price per specialist. Specialists come in
        the order of their commitment. By default the rules of the library's comparison.
    attacker : int
        Who copies itself.
    victim : int
        Whom an outsider copies, and with whom the attacker colludes.
    copies : sequence of int
        Numbers of extra copies to try.
    noise : float
        Standard deviation of the noise that the noisy copies add, in units of the attacker's root mean square
        error; as many as the most copies.
    bias : float
        Error that attacker and victim add in agreement, in the same unit.
    threshold : float
        Error correlation above which the default quotient rules join two specialists.

    Returns
    -------
    AttackTable
        Rows are rules. Columns: ``"k copies"``; ``"k noisy"``; ``"copier"`` and ``"its victim"``, where an
        outsider commits an exact copy of the victim's answers last; ``"colluders"``, both together, and
        ``"before"``, both together when honest.

    Raises
    ------
    PanelError
        If the matrix is singular or indefinite, an index or a number is out of range, or a rule does not give
        one price per specialist.

    Notes
    -----
    Exact copies get 1e-8 of the variance as noise of their own, so that optimal weights exist. Rules that
    recognise copies make only recognised copies worthless: see `escape_curve`. Rewards that are fair over
    identities and immune to false names are reported impossible (arXiv 2605.07663).

    References
    ----------
    Agarwal, Dahleh and Sarkar, *A marketplace for data*, 2019 (replication); Han et al., *Replication-robust
    payoff-allocation*, 2020.

    Examples
    --------
    Five specialists with unit variance and correlation .3:

    >>> import numpy as np
    >>> from theory import price
    >>> matrix = np.full((5, 5), 0.3) + 0.7 * np.eye(5)
    >>> table = replication_test(matrix, v0=1.5, pay=lambda C, v0: price(C, v0=v0).value)
    >>> table.value[0, :3].round(3)
    array([0.212, 0.272, 0.274])
    """
    honest, _ = read_matrix(matrix, what="second moment")
    start = read_v0_needed(v0)
    m = len(honest)
    if not all(isinstance(i, int | np.integer) and -m <= i < m for i in (attacker, victim)):
        raise PanelError(
            f"attacker and victim are indices of {m} specialists; got {attacker!r} and {victim!r}."
        )
    who, other = int(attacker) % m, int(victim) % m
    if who == other:
        raise PanelError("attacker and victim must be two specialists.")
    if not len(copies) or not all(isinstance(k, int | np.integer) and k >= 0 for k in copies):
        raise PanelError(f"copies are whole numbers >= 0; got {list(copies)!r}.")
    if not (0.0 <= noise < np.inf and np.isfinite(bias)):
        raise PanelError(f"noise is a number >= 0 and bias a number; got {noise!r} and {bias!r}.")
    rules = _read_rules(pay, threshold)
    most = max(copies)
    scale = float(np.sqrt(honest[who, who]))
    panels = [
        (_count(int(k), "copies"), _copied(honest, who, int(k)), [who, *range(m, m + int(k))]) for k in copies
    ]
    noisy = _copied(honest, who, int(most), noise * scale)
    panels.append((_count(int(most), "noisy"), noisy, [who, *range(m, m + int(most))]))
    theft = _copied(honest, other, 1)
    panels += [("copier", theft, [m]), ("its victim", theft, [other])]
    shared = np.zeros(m)
    shared[[who, other]] = bias * scale
    panels += [
        ("before", honest, [who, other]),
        ("colluders", honest + np.outer(shared, shared), [who, other]),
    ]
    value = np.array(
        [
            [_paid(rule, panel, start, name)[own].sum() for _, panel, own in panels]
            for name, rule in rules.items()
        ]
    )
    loss = np.array([float(panel.mean()) for _, panel, _ in panels])
    return AttackTable(value, tuple(rules), tuple(name for name, _, _ in panels), loss, start)


def _count(k: int, what: str) -> str:
    return f"{k} {what}" if k != 1 or what == "noisy" else "1 copy"


def _read_rules(pay: Any, threshold: float) -> Mapping[str, Payment]:
    if not 0.0 < threshold < 1.0:
        raise PanelError(f"threshold is a correlation between 0 and 1; got {threshold!r}.")
    if pay is None:
        return standard_payments(threshold)
    rules: Mapping[str, Payment] = {getattr(pay, "__name__", "rule"): pay} if callable(pay) else dict(pay)
    if not rules or not all(callable(rule) for rule in rules.values()):
        raise PanelError(
            "pay= is a function of a second moment and v0, or a mapping of names to such functions."
        )
    return rules


def _paid(rule: Payment, matrix: Floats, v0: float, name: str) -> Floats:
    prices = np.asarray(rule(matrix.copy(), v0), dtype=np.float64)
    if prices.shape != (len(matrix),) or not np.isfinite(prices).all():
        raise PanelError(
            f"rule {name!r} must give {len(matrix)} finite prices, one per specialist; got shape {prices.shape}."
        )
    return prices


def _copied(matrix: Floats, who: int, k: int, noise: float = 0.0) -> Floats:
    """Append k copies of one specialist, each with independent noise of its own.

    Parameters
    ----------
    matrix : ndarray of shape (specialist, specialist)
        Second moment of errors.
    who : int
        The specialist that is copied.
    k : int
        Copies.
    noise : float
        Standard deviation of the noise; 1e-8 of the variance is always added.

    Returns
    -------
    ndarray of shape (specialist + k, specialist + k)

    Examples
    --------
    >>> import numpy as np
    >>> _copied(np.eye(2), 0, 1, noise=0.5).round(3)
    array([[1.  , 0.  , 1.  ],
           [0.  , 1.  , 0.  ],
           [1.  , 0.  , 1.25]])
    """
    m = len(matrix)
    index = np.concatenate([np.arange(m), np.full(k, who)])
    out = np.asarray(matrix[np.ix_(index, index)])
    out[np.arange(m, m + k), np.arange(m, m + k)] += max(noise**2, _JITTER * float(matrix[who, who]))
    return out


@dataclass(frozen=True, eq=False)
class EscapeCurve:
    """What copies that hide below a threshold earn, and whom the threshold wrongs.

    Attributes
    ----------
    threshold : ndarray of shape (n_thresholds,)
        Error correlations above which specialists are joined.
    value : ndarray of shape (n_thresholds,)
        Most that the attacker's identities are paid in total.
    noise : ndarray of shape (n_thresholds,)
        Standard deviation of the noise that gets it, 0 where copying does not pay.
    honest : float
        Pay of the attacker without copies.
    merged : ndarray of int, shape (n_thresholds,)
        Honest specialists that are joined with another.
    n_copies : int
        Copies used.
    """

    threshold: Floats
    value: Floats
    noise: Floats
    honest: float
    merged: NDArray[np.int64]
    n_copies: int

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset with the dim threshold."""
        import xarray

        columns = {"pay": self.value, "noise": self.noise, "merged": self.merged}
        return xarray.Dataset(
            {name: (("threshold",), column) for name, column in columns.items()},
            coords={"threshold": self.threshold},
            attrs={"honest": self.honest, "n_copies": self.n_copies},
        )

    def summary(self) -> str:
        """Return the curve as text."""
        lines = [
            f"{self.n_copies} noisy copies against joining by error correlation; honest pay {self.honest:.3f}"
        ]
        lines += [
            f"  above {t:.2f}: {v:.3f} at noise {s:.3f}; {k} honest specialists joined"
            for t, v, s, k in zip(self.threshold, self.value, self.noise, self.merged, strict=True)
        ]
        return "\n".join(lines)


def escape_curve(
    matrix: Any,
    *,
    v0: float,
    thresholds: ArrayLike = (0.98, 0.95, 0.9, 0.8, 0.6),
    pay: Callable[[Floats, float, float], ArrayLike] | str = "mean",
    n_copies: int = 3,
    attacker: int = -1,
) -> EscapeCurve:
    """Find the noise with which copies earn most under quotient prices, for several thresholds.

    Parameters
    ----------
    matrix : array-like, DataArray or ErrorMatrix
        Second moment of the honest specialists' errors.
    v0 : float
        Loss of the empty panel.
    thresholds : array-like
        Error correlations above which specialists are joined, in (0, 1).
    pay : {"mean", "optimal"} or callable
        The quotient prices: of the mean of cluster means, or of their best weighting; or a function of a second
        moment, v0 and a threshold.
    n_copies : int
        Extra identities.
    attacker : int
        Who copies itself.

    Returns
    -------
    EscapeCurve
        Best pay and noise by threshold.

    Raises
    ------
    PanelError
        If a threshold, the number of copies or the attacker is out of range, or the matrix cannot be used.

    Notes
    -----
    The noise is searched on a grid, with the least noise that escapes added to it. A low threshold stops noisy
    copies, and joins honest look-alikes: neither error can be removed, only traded.

    Examples
    --------
    >>> import numpy as np
    >>> matrix = np.full((5, 5), 0.3) + 0.7 * np.eye(5)
    >>> escape_curve(matrix, v0=1.5, thresholds=[0.98, 0.8]).value.round(3)
    array([0.26 , 0.212])
    """
    honest, _ = read_matrix(matrix, what="second moment")
    start = read_v0_needed(v0)
    levels = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    m = len(honest)
    if levels.ndim != 1 or not ((levels > 0.0) & (levels < 1.0)).all():
        raise PanelError(f"thresholds are correlations between 0 and 1; got {levels.tolist()}.")
    if not isinstance(n_copies, int | np.integer) or n_copies < 1:
        raise PanelError(f"n_copies is a whole number of at least 1; got {n_copies!r}.")
    if not isinstance(attacker, int | np.integer) or not -m <= attacker < m:
        raise PanelError(f"attacker is an index of {m} specialists; got {attacker!r}.")
    who = int(attacker) % m
    scale = float(np.sqrt(honest[who, who]))
    own = [who, *range(m, m + int(n_copies))]

    def rule(panel: Floats, level: float) -> Floats:
        if callable(pay):
            return _paid(lambda c, v: pay(c, v, level), panel, start, "pay")
        name = f"quotient shapley, {'mean' if pay == 'mean' else 'optimal weights'}"
        return _paid(standard_payments(level)[name], panel, start, name)

    if not callable(pay) and pay not in ("mean", "optimal"):
        raise PanelError(f"pay must be 'mean', 'optimal' or a function; got {pay!r}.")
    value, noise = np.zeros(len(levels)), np.zeros(len(levels))
    merged = np.zeros(len(levels), dtype=np.int64)
    for k, level in enumerate(levels.tolist()):
        codes = look_alikes(honest, level)
        merged[k] = int((np.bincount(codes)[codes] > 1).sum())
        value[k] = rule(honest, level)[who]
        least = scale * np.sqrt(1.0 / level**2 - 1.0)
        for s in (least, *(scale * np.geomspace(0.01, 3.0, _NOISE_GRID))):
            paid = float(rule(_copied(honest, who, int(n_copies), s), level)[own].sum())
            if paid > value[k] + 1e-12:
                value[k], noise[k] = paid, s
    alone = float(rule(honest, float(levels.max()))[who])
    return EscapeCurve(levels, value, noise, alone, merged, int(n_copies))
