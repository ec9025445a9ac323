"""Fixed weights: specialists that are absent leave their share of the sum, and of the loss, empty.

v(S) = (1 - sum of w over S) v0 + w_S' C w_S. The marginal of i is w_i^2 C_ii + 2 w_i sum_{j in S} C_ij w_j - w_i v0,
so that any semivalue needs the mean size of S only, and Shapley and Banzhaf agree: w_i (C w)_i - w_i v0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import read_errors, read_matrix, read_weights
from theory._exceptions import PanelError
from theory.pricing._semivalues import size_law
from theory.pricing._terms import Terms, assemble, mean_and_deviation, read_v0, read_v0_needed
from theory.pricing.result import Prices

Floats = NDArray[np.float64]


def price_fixed_weights(
    source: Any, v0: Any, weights: ArrayLike | None, terms: Terms, *, from_matrix: bool, groups: Any
) -> Prices:
    """Prices of a weighted sum whose weights do not depend on who is present."""
    if terms.quorum != 1:
        raise PanelError("game='fixed_weights' has no quorum: absent specialists leave their share empty.")
    if from_matrix:
        matrix, found = read_matrix(source, what="second moment")
        w, share = read_weights(weights, len(matrix)), _mean_share(len(matrix), terms)
        loss0 = read_v0_needed(v0)
        own, row = w**2 * matrix.diagonal(), w * (matrix @ w)
        value = w * loss0 - own - 2.0 * share * (row - own)
        return assemble(
            terms, terms.named(found), "fixed_weights", value, loss0 - float(row.sum()), loss0,
            exact=True, method="closed form",
        )  # fmt: skip
    table = read_errors(source, missing="raise", least=1)
    values, n = table.values, table.n
    w, share = read_weights(weights, values.shape[1]), _mean_share(values.shape[1], terms)
    by_sample = read_v0(v0, n)
    weighted = values * w[:, None]
    fused = weighted.sum(axis=1)
    own = np.einsum("nio,nio->ni", weighted, weighted)
    row = np.einsum("nio,no->ni", weighted, fused)
    detail = w * by_sample[:, None] - own - 2.0 * share * (row - own)
    totals = by_sample - np.einsum("no,no->n", fused, fused)
    value, deviation = mean_and_deviation(detail, groups, terms)
    return assemble(
        terms, terms.named(table.names), "fixed_weights", value, float(totals.mean()), float(by_sample.mean()),
        deviation=deviation, n=n, exact=True, method="closed form",
        per_sample=detail if terms.per_sample else None, warnings=terms.reminder(),
    )  # fmt: skip


def _mean_share(m: int, terms: Terms) -> float:
    """Mean share of the others that a specialist joins: one half for Shapley and Banzhaf."""
    law = size_law(m, terms.rule, terms.beta)
    return float(law @ np.arange(m)) / max(m - 1, 1)
