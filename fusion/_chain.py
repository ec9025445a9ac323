"""Rules behind pre-aggregators: one set of cores that see the specialists and answer for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, read_budget
from fusion._faults import Rule, Unclean
from fusion._mixing import Mixing, apply_mixing, in_range, mix_rows
from fusion._run import combine
from theory._exceptions import PanelError

# Distances and mixed rows of this many numbers are held beside the panel.
_BLOCK = 200_000


def join_budgets(name: str, budgets: list[Any]) -> tuple[Any, list[int]]:
    """Give the budget of a chain, and by how much each of its parts' exceeds it."""
    if not budgets:
        return None, []
    for budget in budgets:
        if isinstance(budget, int | np.integer):
            read_budget(budget, None)
    if all(budget == budgets[0] and not isinstance(budget, bool) for budget in budgets):
        return budgets[0], [0] * len(budgets)
    if not all(isinstance(budget, int | np.integer) and not isinstance(budget, bool) for budget in budgets):
        raise PanelError(
            f"the parts of {name} have n_byzantine {', '.join(map(repr, budgets))}. Give all the same share, "
            "or numbers: set_params(n_byzantine=...) sets them at once."
        )
    least = min(int(budget) for budget in budgets)
    return least, [int(budget) - least for budget in budgets]


def joint_scope(name: str, stages: tuple[Mixing, ...], rule: Rule | None) -> str:
    """Give the scope that all parts which choose by distances or lengths have in common."""
    scopes = {stage.scope for stage in stages if stage.scope is not None}
    if rule is not None and not rule.coordinatewise:
        scopes.add(rule.scope)
    if len(scopes) > 1:
        raise PanelError(
            f"the parts of {name} differ in scope. Set scope='batch' or 'sample' in all of them."
        )
    return scopes.pop() if scopes else "sample"


def joint_center(name: str, stages: tuple[Mixing, ...]) -> Floats | None:
    """Give the centre that all clipping parts have in common."""
    centers = [stage.center for stage in stages if stage.center is not None]
    if any(not np.array_equal(center, centers[0]) for center in centers):
        raise PanelError(f"the clipping parts of {name} have different centers. Give all the same.")
    return centers[0] if centers else None


def spread_center(center: Floats | None, d: int) -> Floats | None:
    """Repeat the centre over the outputs, and over the samples where these stand side by side."""
    if center is None:
        return None
    if d % max(center.size, 1):
        raise PanelError(
            f"center has {center.size} numbers; the panel has {d} outputs. Give one for each, or one."
        )
    return np.full(d, center.item()) if center.size == 1 else np.tile(center, d // center.size)


def chain_rule(name: str, stages: tuple[Mixing, ...], rule: Rule) -> Rule:
    """Put the mixing of several stages in front of a rule's cores.

    Parameters
    ----------
    name : str
        Of the chain.
    stages : tuple of Mixing
        The first one is applied first.
    rule : Rule
        The rule behind them.

    Returns
    -------
    Rule
        Its cores see the specialists, and answer for the specialists.
    """
    budgets = [stage.n_byzantine for stage in stages if stage.n_byzantine is not None]
    budgets += [rule.n_byzantine] if rule.takes_budget else []
    budget, extra = join_budgets(name, budgets)
    if rule.pivot is not None and any(stage.needs == "nothing" for stage in stages):
        raise PanelError(
            f"{rule.name} trusts one specialist, which {name} mixes away. Leave the buckets out."
        )
    center = joint_center(name, stages)
    rest = iter(extra)
    ahead = [next(rest) if stage.n_byzantine is not None else 0 for stage in stages]
    last = next(rest) if rule.takes_budget else 0

    def minimum(f: int) -> int:
        needed = rule.minimum(f + last if rule.takes_budget else f)
        for stage, more in zip(reversed(stages), reversed(ahead), strict=True):
            needed = stage.minimum(f + more, needed)
        return needed

    def withstands(n: int) -> int:
        for stage in stages:
            n = stage.count(n)
        return rule.withstands(n)

    def mixed(
        rows: NDArray[Any], f: int, alpha: Floats | None
    ) -> tuple[Floats, Floats | None, Callable[[], NDArray[Any]]]:
        middle = spread_center(center, rows.shape[2])
        return mix_rows(rows, stages, tuple(f + more for more in ahead), alpha, middle)

    def weigh_block(rows: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
        matrix, beta, seen = mixed(rows, f, alpha)
        assert rule.weigh is not None
        ours = np.ascontiguousarray(seen())
        weights, marks = rule.weigh(ours, f + last, beta)
        bad = np.flatnonzero(np.zeros(0) if marks is None or not rule.euclidean else marks)
        if bad.size:
            # What a rule on distances cannot square, it is given at another scale.
            part = beta if beta is None or len(beta) == 1 else beta[bad]
            weights[bad] = rule.weigh(in_range(ours[bad]), f + last, part)[0]
        found: NDArray[Any] = np.matmul(weights[:, None], matrix)[:, 0]
        return found

    def columns(d: int, n_samples: int, n: int) -> range:
        # Outputs that are fused one by one need no more of the mixed panel at once.
        return range(0, d, max(1, _BLOCK // (n_samples * n)) if rule.coordinatewise else d)

    def fuse_block(rows: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
        matrix, beta, _ = mixed(rows, f, alpha)
        assert rule.fuse is not None
        middle = spread_center(center, rows.shape[2])
        steps = columns(rows.shape[2], *rows.shape[:2])
        parts = []
        for start in steps:
            some = slice(start, start + steps.step)
            about = None if middle is None else middle[some]
            ours = apply_mixing(matrix, rows[:, :, some], about, rows.shape[2])
            parts.append(rule.fuse(ours, f + last, beta)[0])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def share_block(rows: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
        matrix, beta, _ = mixed(rows, f, alpha)
        assert rule.share is not None
        ours = apply_mixing(matrix, rows, spread_center(center, rows.shape[2]))
        shares, _ = rule.share(ours, f + last, beta)
        found: NDArray[Any] = np.matmul(matrix.transpose(0, 2, 1), shares)
        return found

    def combine_block(rows: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
        weights = weigh_block(rows, f, alpha)
        total = weights.sum(axis=1)
        fused = np.where(
            total[:, None] == 0.0, 0.0, combine(rows, np.where(total[:, None] == 0.0, 1.0, weights))
        )
        wide = fused * total[:, None]
        middle = spread_center(center, rows.shape[2])
        assert middle is not None
        result: NDArray[Any] = (wide + (1.0 - total[:, None]) * middle).astype(rows.dtype)
        return result

    fuse = fuse_block if rule.fuse is not None else combine_block if center is not None else None
    return replace(
        rule,
        name=name,
        minimum=minimum,
        n_byzantine=budget,
        withstands=withstands,
        fuse=None if fuse is None else _in_blocks(fuse),
        weigh=None if rule.weigh is None else _in_blocks(weigh_block),
        share=None if rule.share is None else _in_blocks(share_block),
        coordinatewise=False,
        euclidean=False,
        signed=False,
        scope=joint_scope(name, stages, rule),
        gradient="linear" if center is None and rule.gradient == "linear" else "none",
    )


def _in_blocks(block: Any) -> Any:
    def core(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        n_samples, n, d = rows.shape
        step = max(1, _BLOCK // (n * max(n, d)))
        parts, marks = [], []
        for start in range(0, n_samples, step):
            some = slice(start, start + step)
            shared = alpha is None or alpha.shape[0] == 1
            marks.append(~np.isfinite(rows[some]).all(axis=(1, 2)))
            with np.errstate(invalid="ignore", over="ignore"):
                parts.append(block(rows[some], f, alpha if shared or alpha is None else alpha[some]))
        return np.concatenate(parts), np.concatenate(marks)

    return core
