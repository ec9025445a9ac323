"""Prices under any rule: all coalitions of a small panel, random orders of a larger one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError
from theory.pricing._semivalues import size_law

Floats = NDArray[np.float64]
Game = Callable[[tuple[int, ...]], Floats]
# 4096 calls of a rule: seconds. exact=True raises this to 65,536.
MOST_ENUMERATED = 12
MOST_EXACT = 16


class Sampled(NamedTuple):
    """Per-sample prices and totals, the error of sampling orders, and what it cost."""

    table: Floats
    totals: Floats
    order_se: Floats | None
    exact: bool
    method: str
    n_evaluations: int


def price_game(
    game: Game,
    m: int,
    v0: Floats,
    *,
    rule: str,
    beta: tuple[float, float] | None,
    quorum: int,
    exact: bool | None,
    n_permutations: int,
    seed: int,
) -> Sampled:
    """Price a game whose coalitions have a loss on every sample, shape (sample,)."""
    law = size_law(m, rule, beta)
    if exact is True and m > MOST_EXACT:
        raise PanelError(
            f"exact=True with {m} specialists means 2^{m} evaluations of the rule; at most {MOST_EXACT} "
            "specialists are enumerated. exact=False estimates with standard errors."
        )

    def loss(members: tuple[int, ...]) -> Floats:
        return v0 if len(members) < quorum else game(members)

    if rule in ("leave_one_out", "solo"):
        return _one_at_a_time(loss, m, rule)
    if m <= 3 or exact is True or (exact is None and m <= MOST_ENUMERATED):
        return _enumerate(loss, m, law, v0)
    return _permute(loss, m, law, n_permutations, seed)


def _enumerate(loss: Game, m: int, law: Floats, v0: Floats) -> Sampled:
    shares = [law[s] / comb(m - 1, s) for s in range(m)]
    table = np.zeros((len(v0), m))
    everyone = v0
    for size in range(m + 1):
        for members in combinations(range(m), size):
            values = loss(members)
            inside = np.zeros(m, dtype=bool)
            inside[list(members)] = True
            if size:
                table[:, inside] -= (shares[size - 1] * values)[:, None]
            if size < m:
                table[:, ~inside] += (shares[size] * values)[:, None]
            everyone = values
    return Sampled(table, v0 - everyone, None, True, "enumeration", 2**m)


def _one_at_a_time(loss: Game, m: int, rule: str) -> Sampled:
    everyone, nobody = loss(tuple(range(m))), loss(())
    if rule == "solo":
        rows = [nobody - loss((i,)) for i in range(m)]
    else:
        rows = [loss(tuple(j for j in range(m) if j != i)) - everyone for i in range(m)]
    return Sampled(np.stack(rows, axis=1), nobody - everyone, None, True, "enumeration", m + 2)


def _permute(loss: Game, m: int, law: Floats, n_permutations: int, seed: int) -> Sampled:
    """Average contributions over random orders and their reverses.

    Joining nobody, joining one other (while those pairs are a small part of the calls) and joining
    everybody else are evaluated exactly: small coalitions hold most of the variance, and one
    outlier among 14 specialists brings intervals that sample them down to 70 %. Contributions in
    between are averaged over the visits of each specialist, and Shapley prices are moved by equal
    amounts to sum to the total.
    """
    if n_permutations < 4:
        raise PanelError(f"n_permutations must be at least 4 for a standard error; got {n_permutations}.")
    rng = np.random.default_rng(seed)
    nobody, everyone = loss(()), loss(tuple(range(m)))
    alone = [loss((i,)) for i in range(m)]
    without = [loss(tuple(j for j in range(m) if j != i)) for i in range(m)]
    table = np.stack(
        [law[0] * (nobody - alone[i]) + law[-1] * (without[i] - everyone) for i in range(m)], axis=1
    )
    first, calls = 1, 2 + 2 * m
    if m - 1 <= n_permutations / 2:
        first, calls = 2, calls + m * (m - 1) // 2
        share = law[1] / (m - 1)
        for i, j in combinations(range(m), 2):
            both = loss((i, j))
            table[:, i] += share * (alone[j] - both)
            table[:, j] += share * (alone[i] - both)
    inner = float(law[first:-1].sum())
    pairs = (n_permutations + 1) // 2
    sums, visits = np.zeros((len(nobody), m)), np.zeros((pairs, m))
    means = np.zeros((pairs, m))
    for k in range(pairs) if inner > 0 else ():
        order = rng.permutation(m)
        for direction in (order, order[::-1]):
            before = loss(tuple(sorted(int(j) for j in direction[:first])))
            calls += first - 1
            for position in range(first, m - 1):
                i = direction[position]
                if position + 2 == m:
                    after = without[direction[m - 1]]
                else:
                    after = loss(tuple(sorted(int(j) for j in direction[: position + 1])))
                    calls += 1
                contribution = (law[position] * (m - 1 - first) / inner) * (before - after)
                sums[:, i] += contribution
                means[k, i] += contribution.mean()
                visits[k, i] += 1.0
                before = after
    counts = np.maximum(visits.sum(axis=0), 1.0)
    middle = sums / counts
    table += inner * middle
    # Influence of a pair of orders on a ratio of sums.
    psi = inner * (means - middle.mean(axis=0) * visits) * pairs / counts
    totals = nobody - everyone
    if np.ptp(law) == 0.0:
        table += ((totals - table.sum(axis=1)) / m)[:, None]
        psi -= psi.mean(axis=1, keepdims=True)
    se = np.sqrt((psi**2).sum(axis=0) / (pairs * (pairs - 1.0)))
    method = f"permutations ({2 * pairs}, antithetic)"
    return Sampled(table, totals, se, False, method, calls)
