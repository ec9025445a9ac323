"""What a few lying specialists can do to each fusion rule, tried on a real panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from estimators.fusions import PanelFuser
from estimators.leaderboard import fit_on, fuse_with, losses
from estimators.selection import DecorrelatedSelection, GreedySelection
from estimators.stacking import Arbiter
from estimators.table import Table
from estimators.weights import CovarianceWeights, SkillWeights, TopSpecialists

if TYPE_CHECKING:
    import pandas as pd

Plan = tuple[int, str, tuple[int, ...]]  # number of liars, lie, positions of the liars

_CELLS = 4_000_000  # attacked panels held at once
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
        ``shift``: the honest mean plus 10 standard deviations. ``mirror``: the truth's mirror image
        about its mean.
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
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Score every rule while some specialists lie.

    Rules learn on one half with everybody honest; on the other half every set of liars (or a
    sample of sets, with the strongest specialists always among them) tells every lie.

    Parameters
    ----------
    table : Table
        Panel and truth; groups are not cut.
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
        Called once per rule, as the work proceeds.

    Returns
    -------
    attacked : DataFrame
        Columns rule, n_byzantine, lie, worst, mean (scores over the sets), liars (names in the worst
        set); row ``n_byzantine = 0`` is the honest score on the same samples.
    refused : dict of str to str
        Rules that could not serve half the samples, or an attacked panel, and why.
    """
    import pandas as pd

    rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
    train, test = _halves(table, n_samples, rng)
    solo = [score(test, test.panel[:, i]) for i in range(len(table.names))]
    ranked = np.argsort(-np.asarray(solo), kind="stable")
    sets = {f: _liar_sets(len(table.names), f, n_subsets, ranked, rng) for f in n_byzantine}
    plans: list[Plan] = [
        (f, lie, liars) for f in n_byzantine for lie in lie_names(table.task) for liars in sets[f]
    ]
    fitted, scores = {}, {}
    refused: dict[str, str] = {}
    for name, fusion in fusions.items():
        try:
            fitted[name] = fit_on(
                train, fusion, short="relax"
            )  # silent liars leave fewer rows, but cannot lie
            scores[name] = [score(test, fuse_with(fitted[name], test))]
        except ValueError as error:
            refused[name] = str(error)
    step = max(1, _CELLS // test.panel.size)
    done = 0
    for start in range(0, len(plans), step):
        lied = [tell_lies(test, liars, lie, rng) for _, lie, liars in plans[start : start + step]]
        for name in [name for name in scores if name not in refused]:
            try:
                scores[name].extend(_scores_of(fitted[name], test, lied))
            except ValueError as error:
                refused[name] = str(error)
        while done < len(fusions) * min(start + step, len(plans)) // len(plans):
            tick("liars")
            done += 1
    rows = [
        row
        for name in scores
        if name not in refused
        for row in _attack_rows(name, scores[name], plans, table.names)
    ]
    columns = ["rule", "n_byzantine", "lie", "worst", "mean", "liars"]
    return pd.DataFrame(rows, columns=columns), refused


def _halves(table: Table, n_samples: int, rng: np.random.Generator) -> tuple[Table, Table]:
    owner = np.arange(len(table.y))
    if table.groups is not None:
        _, owner = np.unique(table.groups, return_inverse=True)
    order = rng.permutation(int(owner.max()) + 1)
    learns = np.isin(owner, order[: len(order) // 2])
    shuffled = rng.permutation(len(table.y))
    test = shuffled[~learns[shuffled]][:n_samples]
    return table.rows(shuffled[learns[shuffled]]), table.rows(test)


def _scores_of(fuser: PanelFuser, test: Table, lied: list[NDArray[np.float64]]) -> list[float]:
    """Score one rule on several attacked panels, in one pass where its answers depend on one row only."""
    weighers = SkillWeights | CovarianceWeights | TopSpecialists | GreedySelection | DecorrelatedSelection
    known = isinstance(fuser.fusion, weighers | Arbiter)
    if not (known or (fuser.is_operator and fuser.fusion.scope == "sample")):
        return [score(test, fuse_with(fuser, replace(test, panel=panel))) for panel in lied]
    counts = None if test.n_options is None else np.tile(test.n_options, len(lied))
    stacked = replace(
        test,
        panel=np.concatenate(lied),
        y=np.concatenate([test.y] * len(lied)),
        n_options=counts,
        groups=None,
    )
    main = "squared_error" if test.task == "numbers" else "error"
    loss = losses(stacked, fuse_with(fuser, stacked))[main].reshape(len(lied), -1).mean(axis=1)
    return [_as_score(test, float(value)) for value in loss]


def _attack_rows(
    name: str, scores: list[float], plans: list[Plan], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    reached: dict[tuple[int, str], list[tuple[float, str]]] = {}
    for (f, lie, liars), value in zip(plans, scores[1:], strict=True):
        reached.setdefault((f, lie), []).append((value, ", ".join(names[i] for i in liars)))
    honest = {
        "rule": name,
        "n_byzantine": 0,
        "lie": "none",
        "worst": scores[0],
        "mean": scores[0],
        "liars": "",
    }
    rows = [honest]
    for (f, lie), values in reached.items():
        worst, who = min(values)
        mean = float(np.mean([value for value, _ in values]))
        rows.append({"rule": name, "n_byzantine": f, "lie": lie, "worst": worst, "mean": mean, "liars": who})
    return rows


def score(table: Table, fused: NDArray[np.float64]) -> float:
    """Give the accuracy, or R2, of a fused answer."""
    loss = losses(table, fused)
    return _as_score(table, float(loss["squared_error" if table.task == "numbers" else "error"].mean()))


def _as_score(table: Table, loss: float) -> float:
    if table.task != "numbers":
        return 1.0 - loss
    variance = float(((table.y - table.y.mean(axis=0)) ** 2).sum(axis=1).mean())
    return 1.0 - loss / (variance or 1.0)


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
