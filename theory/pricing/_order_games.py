"""Games of rules that sort: a coalition's loss is the squared error of its trimmed mean, winsorized mean or median.

A coalition T of size t drops (or pulls in) its b lowest and b highest errors. Sort the errors of all M
specialists, and let P < Q be the ranks of the lowest and highest error that T keeps. Given them, b members of T
lie below P, b above Q, and the other r = t - 2b - 2 are a uniform subset of the L = Q - P - 1 ranks between. So
the loss of T has a mean over all T with the same (t, P, Q) that needs only u = e_P + e_Q and the sums S1, S2 of
errors and of squares strictly between. Every specialist lies below P, at P or Q, between, or above Q; how many
of these T hold it, and how many do not, are products of binomials. Summed over t first, what remains are tables
over (P, Q) that no sample enters, and one pass over all (P, Q) for every sample.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory._checks import read_errors
from theory._exceptions import BudgetError, PanelError
from theory.pricing._semivalues import size_law
from theory.pricing._terms import Terms, assemble, mean_and_deviation, read_v0
from theory.pricing.result import Prices

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Binomials of more specialists than this overflow a double.
_MOST = 1000
# Samples x specialists^2 x outputs above which compiling (0.1 s from the cache) is the smaller cost.
_COMPILE_ABOVE = 500_000
_BLOCK = 4096


class OrderRule(NamedTuple):
    """A rule that sorts: its name and how much it cuts at each end."""

    game: str
    n_byzantine: int
    proportion: float | None

    def cut(self, size: int) -> int:
        """Return how many errors each end of a coalition of this size loses."""
        if self.game == "median":
            return (size - 1) // 2
        if self.proportion is not None:
            return min(int(self.proportion * size), (size - 1) // 2)
        return min(self.n_byzantine, (size - 1) // 2)


def read_order_rule(game: str, n_byzantine: Any, proportion: Any) -> OrderRule:
    """Read how much a rule cuts at each end."""
    if game == "median":
        return OrderRule(game, 0, None)
    if (n_byzantine is None) == (proportion is None):
        raise PanelError(
            f"game={game!r} needs n_byzantine=, how many errors to cut at each end, or proportiontocut=, which "
            "share of them; give one of the two."
        )
    if proportion is not None:
        share = float(proportion)
        if not 0.0 <= share < 0.5:
            raise PanelError(f"proportiontocut is cut at each end and lies in [0, 0.5); got {proportion!r}.")
        return OrderRule(game, 0, share)
    if not isinstance(n_byzantine, int | np.integer) or isinstance(n_byzantine, bool) or n_byzantine < 0:
        raise PanelError(f"n_byzantine is a whole number of liars, at least 0; got {n_byzantine!r}.")
    return OrderRule(game, int(n_byzantine), None)


def binomials(most: int) -> Floats:
    """Pascal's triangle in double precision; entries [n, k] with k > n are 0."""
    table = np.zeros((most + 1, most + 1))
    table[:, 0] = 1.0
    for n in range(1, most + 1):
        table[n, 1:] = table[n - 1, 1:] + table[n - 1, :-1]
    return table


@lru_cache(maxsize=128)
def order_tables(
    m: int, rule: OrderRule, semivalue: str, beta: tuple[float, float] | None, quorum: int
) -> Floats:
    """Coefficients over the lowest and highest kept rank.

    Parameters
    ----------
    m : int
        Specialists.
    rule : OrderRule
        The rule.
    semivalue, beta
        As in `size_law`.
    quorum : int
        Least size at which the panel speaks.

    Returns
    -------
    ndarray of shape (m, m, 19)
        For ranks P <= Q, the coefficients of u^2, 2 u S1, S2 and S1^2 - S2 in the loss attributed to a
        specialist below P (0-3), above Q (4-7), at P or Q (8-11) and between (12-15), where errors e_i between
        add e_i (u [16] + S1 [17]) + e_i^2 [18]. On P = Q, u is e_P.
    """
    law = size_law(m, semivalue, beta)
    table = binomials(m)
    ranks = np.arange(1, m + 1)
    low, high = ranks[:, None], ranks[None, :]
    between = high - low - 1

    def choose(x: Ints, k: int) -> Floats:
        """Binomial, 0 out of range."""
        if k < 0 or k > m:
            return np.zeros(x.shape)
        return np.where(x >= 0, table[np.maximum(x, 0), k], 0.0)

    def share(top: int, bottom: Ints) -> Floats:
        return np.where(bottom > 0, top / np.maximum(bottom, 1), 0.0)

    out = np.zeros((m, m, 19))
    for t in range(quorum, m + 1):
        b = rule.cut(t)
        kept = t - 2 * b
        inside = law[t - 1] / table[m - 1, t - 1]
        outside = law[t] / table[m - 1, t] if t < m else 0.0
        under, over = choose(low - 1, b), choose(m - high, b)
        # The specialist takes one of the places below P if it is in T; if not, one rank less is free.
        below = (inside * choose(low - 2, b - 1) - outside * choose(low - 2, b)) * over
        above = (inside * choose(m - high - 1, b - 1) - outside * choose(m - high - 1, b)) * under
        at = inside * under * over
        if kept == 1:
            diagonal = np.arange(m)
            for column, count in ((0, below), (4, above), (8, at)):
                out[diagonal, diagonal, column] += count[diagonal, diagonal]
            continue
        r = kept - 2
        winsorized = rule.game == "winsorized"
        scale, f = (1.0 / t**2, b + 1.0) if winsorized else (1.0 / kept**2, 1.0)
        inner = choose(between, r) * (between >= 0)
        one, two = share(r, between), share(r * (r - 1), between * (between - 1))
        for column, count in ((0, below), (4, above), (8, at)):
            count = scale * count * inner
            out[:, :, column] += f * f * count
            out[:, :, column + 1] += f * one * count
            out[:, :, column + 2] += one * count
            out[:, :, column + 3] += two * count
        member = scale * inside * under * over * choose(between - 1, r - 1)
        absent = scale * outside * under * over * choose(between - 1, r)
        rest = between - 1
        m1, m3 = share(r - 1, rest), share((r - 1) * (r - 2), rest * (rest - 1))
        a1, a3 = share(r, rest), share(r * (r - 1), rest * (rest - 1))
        first = member * m1 - absent * a1
        out[:, :, 12] += f * f * (member - absent)
        out[:, :, 13] += f * first
        out[:, :, 14] += first
        out[:, :, 15] += member * m3 - absent * a3
        out[:, :, 16] += f * (member * (2.0 - 2.0 * m1) + absent * 2.0 * a1)
        out[:, :, 17] += member * (2.0 * m1 - 2.0 * m3) + absent * 2.0 * a3
        out[:, :, 18] += member * (1.0 - 3.0 * m1 + 2.0 * m3) - absent * (2.0 * a3 - a1)
    out.setflags(write=False)
    return out


def order_prices_numpy(ranked: Floats, order: Ints, tables: Floats, out: Floats) -> None:
    """NumPy twin of the compiled core: all samples at once, one pair of ranks after the other."""
    n, m = ranked.shape
    e = ranked.T
    below, above, own = np.zeros((m, n)), np.zeros((m, n)), np.zeros((m, n))
    level, slope, curve = np.zeros((m + 1, n)), np.zeros((m + 1, n)), np.zeros(m + 1)
    for p in range(m):
        c = tables[p, p]
        for target, column in ((below, 0), (above, 4), (own, 8)):
            target[p] += c[column] * e[p] ** 2
        s1, s2 = np.zeros(n), np.zeros(n)
        for q in range(p + 1, m):
            c = tables[p, q]
            u = e[p] + e[q]
            terms = np.stack([u * u, 2.0 * u * s1, s2, s1 * s1 - s2])
            below[p] += c[0:4] @ terms
            above[q] += c[4:8] @ terms
            end = c[8:12] @ terms
            own[p] += end
            own[q] += end
            middle = c[12:16] @ terms
            level[p + 1] += middle
            level[q] -= middle
            tilt = c[16] * u + c[17] * s1
            slope[p + 1] += tilt
            slope[q] -= tilt
            curve[p + 1] += c[18]
            curve[q] -= c[18]
            s1, s2 = s1 + e[q], s2 + e[q] ** 2
    own += np.cumsum(level, axis=0)[:m] + e * np.cumsum(slope, axis=0)[:m]
    own += e * e * np.cumsum(curve)[:m, None]
    own[1:] += np.cumsum(above, axis=0)[:-1]
    own[:-1] += np.cumsum(below[::-1], axis=0)[::-1][1:]
    np.put_along_axis(out, order, np.take_along_axis(out, order, axis=1) + own.T, axis=1)


def fused_errors(ranked: Floats, rule: OrderRule) -> Floats:
    """Error of the rule on the full panel, from errors in ascending order, shape (sample,)."""
    size = ranked.shape[1]
    b = rule.cut(size)
    kept = ranked[:, b : size - b]
    if rule.game == "winsorized":
        total = kept.sum(axis=1) + b * (kept[:, 0] + kept[:, -1])
        return np.asarray(total / size)
    return np.asarray(kept.mean(axis=1))


def price_order(
    source: Any,
    v0: Any,
    game: str,
    n_byzantine: Any,
    proportion: Any,
    terms: Terms,
    *,
    groups: Any,
    missing: str,
) -> Prices:
    """Prices under the trimmed mean, the winsorized mean or the median, from errors by sample."""
    rule = read_order_rule(game, n_byzantine, proportion)
    table = read_errors(source, missing=missing, least=1)
    n, m = table.n, table.values.shape[1]
    loss0 = read_v0(v0, n)
    terms.check_quorum(m)
    if m > _MOST:
        raise PanelError(
            f"sorting rules are priced for at most {_MOST} specialists; got {m}. Price groups of specialists, or "
            "use fuse= with permutations."
        )
    if 2 * rule.n_byzantine >= m:
        raise BudgetError(
            f"{game} with n_byzantine={rule.n_byzantine} needs at least {2 * rule.n_byzantine + 1} specialists; "
            f"got {m}. Lower n_byzantine to {(m - 1) // 2}, or add a specialist."
        )
    detail, totals = _table(table.values, table.answered, loss0, rule, terms)
    value, deviation = mean_and_deviation(detail, groups, terms)
    return assemble(
        terms, terms.named(table.names), game, value, float(totals.mean()), float(loss0.mean()),
        deviation=deviation, n=n, exact=True, method="closed form",
        per_sample=detail if terms.per_sample else None, warnings=terms.reminder(),
    )  # fmt: skip


def _table(
    values: Floats, answered: NDArray[np.bool_] | None, loss0: Floats, rule: OrderRule, terms: Terms
) -> tuple[Floats, Floats]:
    """Prices (sample, specialist) and totals (sample,); who did not answer is no player of that sample."""
    n, m, outputs = values.shape
    compiled = n * m * m * outputs > _COMPILE_ABOVE
    detail = np.zeros((n, m))
    totals = np.zeros(n)
    if answered is None:
        sizes, index = np.array([m]), np.zeros(n, dtype=np.int64)
    else:
        sizes, index = np.unique(answered.sum(axis=1), return_inverse=True)
    for k, size in enumerate(sizes.tolist()):
        if size < terms.quorum:
            continue  # nobody is ever heard: the loss stays v0
        coefficients = order_tables(size, rule, terms.rule, terms.beta, terms.quorum)
        reference = float(size_law(size, terms.rule, terms.beta)[terms.quorum - 1])
        rows = np.flatnonzero(index == k) if answered is not None else None
        for start in range(0, n if rows is None else len(rows), _BLOCK):
            pick: Any = slice(start, start + _BLOCK) if rows is None else rows[start : start + _BLOCK]
            present = None if answered is None or size == m else answered[pick]
            loss, attributed = _block(values[pick], present, size, rule, coefficients, compiled)
            gains = reference * loss0[pick][:, None] - attributed
            detail[pick] = gains if present is None else np.where(present, gains, 0.0)
            totals[pick] = loss0[pick] - loss
    return detail, totals


def _block(
    values: Floats,
    present: NDArray[np.bool_] | None,
    size: int,
    rule: OrderRule,
    coefficients: Floats,
    compiled: bool,
) -> tuple[Floats, Floats]:
    attributed = np.zeros(values.shape[:2])
    loss = np.zeros(len(values))
    for output in range(values.shape[2]):
        errors = values[:, :, output]
        if present is not None:
            errors = np.where(present, errors, np.inf)  # absent specialists sort last
        order = np.argsort(errors, axis=1)[:, :size]
        ranked = np.take_along_axis(errors, order, axis=1)
        if compiled:
            from theory._kernels import order_prices

            order_prices(ranked, order, coefficients, attributed)
        else:
            order_prices_numpy(ranked, order, coefficients, attributed)
        loss += fused_errors(ranked, rule) ** 2
    return loss, attributed
