"""Payment rules as functions of a second moment of errors, for comparison under attack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.pricing._clusters import cluster_shares, split_weights
from theory.pricing.baseline import Baseline
from theory.pricing.clones import _connected
from theory.pricing.price import price

Floats = NDArray[np.float64]
Payment = Callable[[Floats, float], ArrayLike]


def look_alikes(matrix: Floats, threshold: float) -> NDArray[np.int64]:
    """Join specialists whose errors correlate above a threshold, by single linkage."""
    scale = np.sqrt(matrix.diagonal())
    # The least noise that escapes puts copies at the threshold itself, up to rounding.
    return _connected(matrix / scale[:, None] / scale[None, :] > threshold * (1.0 + 1e-9))


def standard_payments(threshold: float) -> dict[str, Payment]:
    """Return the rules that `replication_test` compares when it is given none."""

    def of(**terms: Any) -> Payment:
        return lambda matrix, v0: price(matrix, v0=v0, **terms).value

    def with_baseline(matrix: Floats, v0: float) -> Floats:
        silent = Baseline(1.0, cross=np.zeros(len(matrix)), second_moment=v0)
        return price(matrix, baseline=silent).value

    def with_prior(matrix: Floats, v0: float) -> Floats:
        return price(matrix, game="gls", prior_variance=v0).value

    def in_order(matrix: Floats, v0: float) -> Floats:
        """Pay each what it takes off the loss of those that committed before it."""
        root = np.linalg.cholesky(matrix)
        precision = np.cumsum(np.linalg.solve(root, np.ones(len(matrix))) ** 2)
        return np.asarray(-np.diff(np.concatenate([[v0], 1.0 / precision])))

    def discounted(matrix: Floats, v0: float) -> Floats:
        codes = look_alikes(matrix, threshold)
        alike = np.bincount(codes)[codes] - 1
        return np.asarray(price(matrix, v0=v0, game="gls").value * 0.5**alike)

    def quotient(matrix: Floats, v0: float) -> Floats:
        return price(matrix, v0=v0, clusters=look_alikes(matrix, threshold), split="first").value

    def quotient_optimal(matrix: Floats, v0: float) -> Floats:
        codes = look_alikes(matrix, threshold)
        shares = cluster_shares(codes)
        outer = price(shares @ matrix @ shares.T, v0=v0, game="gls").value
        return np.asarray(outer @ split_weights(codes, "first"))

    return {
        "shapley, mean": of(),
        "shapley, mean, baseline": with_baseline,
        "shapley, optimal weights": of(game="gls"),
        "shapley, optimal, baseline": with_prior,
        "banzhaf, optimal weights": of(game="gls", rule="banzhaf"),
        "leave one out, optimal weights": of(game="gls", rule="leave_one_out"),
        "euler, mean": of(game="fixed_weights"),
        "commitment order, optimal weights": in_order,
        "halved per look-alike, optimal weights": discounted,
        "quotient shapley, mean": quotient,
        "quotient shapley, optimal weights": quotient_optimal,
    }
