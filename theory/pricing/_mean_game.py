"""The mean game: a coalition's loss is the mean squared error of the mean of its answers.

With d = diag C, R_i = sum_{j != i} C_ij, D_i = tr C - d_i, O_i = 1'C1 - tr C - 2 R_i, the loss that any
semivalue attributes to specialist i is A d_i + 2 B R_i + G D_i + U O_i - p_{q-1} v0. *Proof*: joining a
coalition S of size s changes the loss by h_{s+1} (T_S + 2 r_iS + d_i) - h_s T_S, with T_S the sum of C over
S; a uniform S has mean r_iS = s R_i / (M-1) and T_S = s D_i / (M-1) + s (s-1) O_i / ((M-1)(M-2)). Every
term is linear in C, so one sample (C = ee') has a price too, and prices are means over samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.pricing._semivalues import MeanGameLaw, mean_game_law

Floats = NDArray[np.float64]
# Samples per block: a block of 50 specialists stays in the second-level cache.
_BLOCK = 2048


def price_matrix(
    matrix: Floats,
    v0: float,
    law: MeanGameLaw,
    baseline: tuple[float, Floats, float] | None,
) -> tuple[Floats, float, dict[str, Floats]]:
    """Prices, their total and their parts from a (specialist, specialist) matrix."""
    m = len(matrix)
    own = matrix.diagonal()
    row = matrix.sum(axis=1) - own
    trace, everything = float(own.sum()), float(matrix.sum())
    parts = {
        "own": -law.own * own,
        "with_others": -2.0 * law.with_others * row,
        "crowd": -law.crowd_own * (trace - own) - law.crowd_pairs * (everything - trace - 2.0 * row),
        "reference": np.full(m, law.reference * v0),
    }
    loss = law.h_all * everything if law.h_all > 0.0 else v0
    if baseline is not None:
        c, cross, square = baseline
        others = float(cross.sum()) - cross
        parts["with_others"] = parts["with_others"] - 2.0 * c * law.own * cross
        parts["crowd"] = parts["crowd"] - 2.0 * c * law.crowd_own * others
        parts["reference"] = np.full(m, -c * c * square * law.opening)
        loss += law.h_all * (2.0 * c * float(cross.sum()) + c * c * square)
    value = parts["own"] + parts["with_others"] + parts["crowd"] + parts["reference"]
    return value, v0 - loss, parts


@dataclass(frozen=True, eq=False)
class MeanGame:
    """Prices from errors, sample by sample, without a matrix: O(M) memory.

    Attributes
    ----------
    errors : ndarray of shape (sample, specialist, output)
        Zero where a specialist did not answer.
    answered : ndarray of bool or None
        Who answered.
    v0 : ndarray of shape (sample,)
        Loss of the empty panel on every sample.
    rule, beta, quorum
        The semivalue and the least size at which the panel speaks.
    weight : float or None
        Weight of the baseline.
    reference : ndarray of shape (sample, output) or None
        Errors of the baseline.
    """

    errors: Floats
    answered: NDArray[np.bool_] | None
    v0: Floats
    rule: str
    beta: tuple[float, float] | None
    quorum: int
    weight: float | None
    reference: Floats | None

    def law(self, m: int) -> MeanGameLaw:
        """Coefficients for a sample that m specialists answered."""
        return mean_game_law(m, self.rule, self.beta, self.quorum, self.weight)

    def block(self, rows: slice) -> tuple[Floats, Floats]:
        """Prices (sample, specialist) and totals (sample,) of a block of samples."""
        e = self.errors[rows]
        m = e.shape[1]
        scalar = e.shape[2] == 1
        e2 = e[:, :, 0] if scalar else e
        t = e2.sum(axis=1)
        square = e2 * e2 if scalar else np.einsum("nio,nio->ni", e, e)
        cross = e2 * t[:, None] if scalar else np.einsum("nio,no->ni", e, t)
        q = square.sum(axis=1)
        tt = t * t if scalar else np.einsum("no,no->n", t, t)
        if self.answered is None:
            law: Any = self.law(m)
        else:
            counts = self.answered[rows].sum(axis=1)
            # Nobody answered: all prices are 0, and the loss is that of the baseline or of the empty panel.
            alone = 0.0 if self.weight is None else 1.0 / self.weight**2
            laws = [
                self.law(k) if k else MeanGameLaw(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, alone)
                for k in range(m + 1)
            ]
            law = MeanGameLaw(*np.array(laws)[counts].T)
        a, b, g, u = law.own, law.with_others, law.crowd_own, law.crowd_pairs
        # The four terms above, collected by e_i^2, e_i t, and what all specialists share.
        shared = (g - u) * q + u * tt - law.reference * self.v0[rows]
        loss = law.h_all * tt
        table = _column(a - g - 2.0 * b + 2.0 * u) * square + _column(2.0 * (b - u)) * cross
        if self.reference is not None and self.weight is not None:
            c, e0 = self.weight, self.reference[rows]
            with_own, with_all, r2 = _baseline_products(e, t, e0)
            table += _column(2.0 * c * (a - g)) * with_own
            shared = shared + 2.0 * c * g * with_all + c * c * law.opening * r2
            loss = loss + law.h_all * (2.0 * c * with_all + c * c * r2)
        else:
            loss = np.where(law.h_all > 0.0, loss, self.v0[rows])
        table += shared[:, None]
        if self.answered is not None:
            table[~self.answered[rows]] = 0.0
        return -table, self.v0[rows] - loss

    def run(self, keep: bool) -> tuple[Floats, float, Floats | None, Floats]:
        """Return mean prices, the total, the per-sample table if kept, and the sum of squared deviations."""
        n, m, _ = self.errors.shape
        table = np.empty((n, m)) if keep else None
        sums, total = np.zeros(m), 0.0
        first, _ = self.block(slice(0, min(n, _BLOCK)))
        # Deviations from a provisional mean, so that the second sum does not cancel.
        shift = first.mean(axis=0)
        squares = np.zeros(m)
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(n, start + _BLOCK))
            prices, totals = self.block(rows)
            total += float(totals.sum())
            if table is not None:
                table[rows] = prices
            prices = prices - shift
            sums += prices.sum(axis=0)
            squares += np.einsum("ni,ni->i", prices, prices)
        deviation = np.maximum(squares - sums**2 / n, 0.0)
        return shift + sums / n, total / n, table, deviation


def _column(values: Any) -> Any:
    return values[:, None] if np.ndim(values) else values


def _baseline_products(e: Floats, t: Floats, e0: Floats) -> tuple[Floats, Floats, Floats]:
    total = t if t.ndim == 2 else t[:, None]
    return (
        np.einsum("nio,no->ni", e, e0),
        np.einsum("no,no->n", total, e0),
        np.einsum("no,no->n", e0, e0),
    )
