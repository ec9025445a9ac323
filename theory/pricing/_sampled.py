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
    if exact is True or (exact is None and m <= MOST_ENUMERATED):
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
    """Average contributions over random orders and their reverses, weighted to the size law."""
    if n_permutations < 4:
        raise PanelError(f"n_permutations must be at least 4 for a standard error; got {n_permutations}.")
    rng = np.random.default_rng(seed)
    nobody = loss(())
    everyone = loss(tuple(range(m)))
    pairs = (n_permutations + 1) // 2
    table = np.zeros((len(nobody), m))
    means = np.zeros((pairs, m))
    calls = 2
    for k in range(pairs):
        order = rng.permutation(m)
        for direction in (order, order[::-1]):
            before = nobody
            for position, i in enumerate(direction):
                if position + 1 == m:
                    after = everyone
                else:
                    after = loss(tuple(sorted(int(j) for j in direction[: position + 1])))
                    calls += 1
                contribution = (m * law[position]) * (before - after)
                table[:, i] += contribution
                means[k, i] += contribution.mean() / 2.0
                before = after
    se = means.std(axis=0, ddof=1) / np.sqrt(pairs)
    method = f"permutations ({2 * pairs}, antithetic)"
    return Sampled(table / (2 * pairs), nobody - everyone, se, False, method, calls)
