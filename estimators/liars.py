"""What a few lying specialists can do to each fusion rule, tried on a real panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators.leaderboard import fit_on, fuse_with, losses
from estimators.table import Table

if TYPE_CHECKING:
    import pandas as pd

_LABEL_LIES = ("runner_up", "constant", "shuffle", "silent")
_NUMBER_LIES = ("shift", "mirror", "constant", "shuffle", "silent")


def lie_names(task: str) -> tuple[str, ...]:
    """Name the lies that are tried for a task.

    Parameters
    ----------
    task : {"labels", "probabilities", "numbers"}
        What the answers are.

    Returns
    -------
    tuple of str
        ``runner_up``: all liars back the wrong option that the honest ones like most. ``constant``:
        always the same answer. ``shuffle``: their own answers, to other samples. ``silent``: none.
        ``shift``: the honest mean plus 10 standard deviations. ``mirror``: the truth's mirror image.
    """
    return _NUMBER_LIES if task == "numbers" else _LABEL_LIES


def tell_lies(table: Table, liars: Sequence[int], lie: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Give the panel in which some specialists lie, knowing the truth and each other.

    Parameters
    ----------
    table : Table
        The honest panel; it is not changed.
    liars : sequence of int
        Positions of the liars.
    lie : str
        One of :func:`lie_names`.
    rng : numpy.random.Generator
        For ``shuffle``.

    Returns
    -------
    ndarray of shape (sample, specialist, output)
    """
    panel = table.panel.copy()
    who = list(liars)
    honest = np.delete(table.panel, who, axis=1)
    if lie == "silent":
        panel[:, who] = np.nan
    elif lie == "shuffle":
        panel[:, who] = table.panel[rng.permutation(len(panel))][:, who]
    elif table.task == "numbers":
        spread = np.nanstd(honest, axis=(0, 1))
        centre = np.nanmean(np.where(np.isnan(honest), np.nanmean(table.panel, axis=(0, 1)), honest), axis=1)
        lies = {
            "shift": centre + 10.0 * spread,
            "mirror": 2.0 * np.asarray(table.y).mean(axis=0) - table.y,
            "constant": np.broadcast_to(np.nanmax(table.panel, axis=(0, 1)), centre.shape),
        }
        panel[:, who] = lies[lie][:, None, :]
    else:
        answer = np.zeros((len(panel), panel.shape[2]))
        if lie == "constant":
            chosen = np.zeros(len(panel), dtype=int)
        else:
            support = np.nansum(honest, axis=1)
            support[np.arange(len(panel)), table.y] = -1.0
            if table.n_options is not None:
                support[np.arange(panel.shape[2]) >= table.n_options[:, None]] = -1.0
            chosen = support.argmax(axis=1)
        answer[np.arange(len(panel)), chosen] = 1.0
        panel[:, who] = answer[:, None, :]
    return panel


def attack_rules(
    table: Table,
    fusions: dict[str, Any],
    *,
    n_byzantine: Sequence[int],
    n_subsets: int,
    n_samples: int,
    random_state: Any,
    tick: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """Score every rule while some specialists lie.

    Rules learn on one half with everybody honest; on the other half every set of liars (or a
    sample of sets, with the strongest specialists always among them) tells every lie.

    Parameters
    ----------
    table : Table
        Panel and truth.
    fusions : dict of str to fusion
        Rules by name, each with the budget it has.
    n_byzantine : sequence of int
        Numbers of liars.
    n_subsets : int
        Most sets of liars to try for each number.
    n_samples : int
        Most samples of the second half to attack.
    random_state : int, RandomState or None
        Of the halves, the sets and the shuffles.
    tick : callable
        Called with the rule's name after each.

    Returns
    -------
    DataFrame
        Columns rule, n_byzantine, lie, worst, mean (scores over the sets), liars (names in the worst
        set); row ``n_byzantine = 0`` is the honest score on the same samples.
    """
    import pandas as pd

    rng = np.random.default_rng(random_state)
    order = rng.permutation(len(table.y))
    half = len(order) // 2
    train, test = table.rows(order[:half]), table.rows(order[half : half + n_samples])
    solo = [score(test, test.panel[:, i]) for i in range(len(table.names))]
    ranked = np.argsort(-np.asarray(solo), kind="stable")
    sets = {f: _liar_sets(len(table.names), f, n_subsets, ranked, rng) for f in n_byzantine}
    plans = [(f, lie, liars) for f in n_byzantine for lie in lie_names(table.task) for liars in sets[f]]
    lied = [tell_lies(test, liars, lie, rng) for _, lie, liars in plans]
    rows: list[dict[str, Any]] = []
    for name, fusion in fusions.items():
        scores: dict[tuple[int, str], list[tuple[float, str]]] = {}
        try:
            fitted = fit_on(train, fusion, short="relax")  # silent liars leave fewer rows, but cannot lie
            honest = score(test, fuse_with(fitted, test))
        except ValueError:  # the leaderboard lists it as refused, with the reason
            tick(name)
            continue
        for (f, lie, liars), panel in zip(plans, lied, strict=True):
            attacked = Table(panel, test.y, test.task, test.n_options, test.names)
            reached = score(test, fuse_with(fitted, attacked))
            scores.setdefault((f, lie), []).append((reached, ", ".join(table.names[i] for i in liars)))
        rows.append(
            {"rule": name, "n_byzantine": 0, "lie": "none", "worst": honest, "mean": honest, "liars": ""}
        )
        for (f, lie), reached_all in scores.items():
            worst, who = min(reached_all)
            mean = float(np.mean([value for value, _ in reached_all]))
            rows.append(
                {"rule": name, "n_byzantine": f, "lie": lie, "worst": worst, "mean": mean, "liars": who}
            )
        tick(name)
    return pd.DataFrame(rows, columns=["rule", "n_byzantine", "lie", "worst", "mean", "liars"])


def score(table: Table, fused: NDArray[np.float64]) -> float:
    """Give the accuracy, or R2, of a fused answer."""
    loss = losses(table, fused)
    if table.task != "numbers":
        return 1.0 - float(loss["error"].mean())
    variance = float(((table.y - table.y.mean(axis=0)) ** 2).sum(axis=1).mean())
    return 1.0 - float(loss["squared_error"].mean()) / (variance or 1.0)


def _liar_sets(
    n_specialists: int, f: int, n_subsets: int, ranked: NDArray[Any], rng: np.random.Generator
) -> list[tuple[int, ...]]:
    if f >= n_specialists:
        return []
    if comb(n_specialists, f) <= n_subsets:
        return list(combinations(range(n_specialists), f))
    sets = {tuple(sorted(int(i) for i in ranked[:f]))}
    while len(sets) < n_subsets:
        sets.add(tuple(sorted(int(i) for i in rng.choice(n_specialists, f, replace=False))))
    return sorted(sets)
