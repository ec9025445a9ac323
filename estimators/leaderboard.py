"""Fusion rules compared on samples that none of them learned from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold

from estimators.evidence import standard_error
from estimators.fusions import PanelFuser, fusion_name
from estimators.table import Table
from estimators.weights import TopSpecialists
from fusion import GeometricMedian, Krum, LogPool, Mean, Median, PluralityVote, TrimmedMean
from theory import FaultWarning, PanelError

if TYPE_CHECKING:
    import pandas as pd

_FLOOR = 1e-12


def default_fusions(task: str, n_specialists: int, budgets: Sequence[int] = (1, 2)) -> dict[str, Any]:
    """List the fusions that suit a task and a number of specialists.

    Parameters
    ----------
    task : {"labels", "probabilities", "numbers"}
        What the answers are.
    n_specialists : int
        Size of the panel.
    budgets : sequence of int
        Numbers of liars for which robust rules are listed.

    Returns
    -------
    dict of str to fusion
        ``"best_single"`` is chosen anew on each training fold.
    """
    top = [TopSpecialists(k) for k in (3, 5, 9) if k < n_specialists]
    served = [f for f in budgets if n_specialists > 2 * f]
    robust: list[Any] = [GeometricMedian(), *(Krum(n_byzantine=f) for f in served)]
    trimmed = [TrimmedMean(n_byzantine=f) for f in served]
    if task == "labels":
        fusions = [TopSpecialists(1), PluralityVote(), "log_odds", *top, *robust, "covariance", "arbiter"]
    elif task == "probabilities":
        pools = [Mean(), LogPool(), PluralityVote(), Median(), *trimmed]
        fusions = [TopSpecialists(1), *pools, *robust, *top, "log_odds", "covariance", "arbiter"]
    else:
        fusions = [
            TopSpecialists(1),
            Mean(),
            Median(),
            *trimmed,
            *robust,
            *top,
            "inverse_mse",
            "covariance",
            "arbiter",
        ]
    return {fusion_name(fusion): fusion for fusion in fusions}


def cross_fused(
    table: Table,
    fusions: dict[str, Any],
    *,
    cv: int,
    random_state: Any,
    tick: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
    """Fuse every sample by every rule, learned on the other folds.

    Parameters
    ----------
    table : Table
        Panel and truth.
    fusions : dict of str to fusion
        Rules by name.
    cv : int
        Number of folds.
    random_state : int, RandomState or None
        Of the shuffled folds.
    tick : callable
        Called with the rule's name after each.

    Returns
    -------
    fused : dict of str to ndarray (sample, output)
    refused : dict of str to str
        Rules that this panel cannot serve, with their reason.
    """
    folds = max(2, min(cv, len(table.y)))
    if table.groups is None:
        splits = list(KFold(folds, shuffle=True, random_state=random_state).split(table.panel))
    else:
        folds = min(folds, len(np.unique(table.groups)))
        if folds < 2:
            raise PanelError("groups holds one group; cross-fitting needs at least two.")
        splits = list(GroupKFold(folds).split(table.panel, groups=table.groups))
    fused: dict[str, NDArray[np.float64]] = {}
    refused: dict[str, str] = {}
    for name, fusion in fusions.items():
        result = np.full((len(table.y), table.panel.shape[2]), np.nan)
        try:
            for train, test in splits:
                result[test] = fuse_with(fit_on(table.rows(train), fusion), table.rows(test))
            fused[name] = result
        except ValueError as error:
            refused[name] = str(error)
        tick(name)
    return fused, refused


def fit_on(table: Table, fusion: Any, *, short: str = "prior") -> PanelFuser:
    """Fit a fusion on a table.

    Parameters
    ----------
    table : Table
        Samples to learn from.
    fusion : object
        Any fusion.
    short : {"prior", "relax", "raise"}
        What to do with samples that too few specialists answered.

    Returns
    -------
    PanelFuser
    """
    fuser = PanelFuser(fusion, task=table.kind, short=short)
    fuser.fit(table.panel, table.y, n_options=table.n_options)
    return fuser


def fuse_with(fuser: PanelFuser, table: Table) -> NDArray[np.float64]:
    """Fuse a table; samples that too few specialists answered stay NaN.

    Parameters
    ----------
    fuser : PanelFuser
        Fitted.
    table : Table
        Samples.

    Returns
    -------
    ndarray of shape (sample, output)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FaultWarning)  # unanswered samples are scored as such
        return fuser.fuse(table.panel, names=table.names, n_options=table.n_options)


def losses(table: Table, fused: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Compute per-sample losses of a fused answer.

    Parameters
    ----------
    table : Table
        Truth.
    fused : ndarray of shape (sample, output)
        NaN rows: no answer, which is not right; of numbers, as good as the mean of the truth.

    Returns
    -------
    dict of str to ndarray (sample,)
        ``error`` (0/1, a tie among k options counting 1 - 1/k if the truth is one of them),
        ``log_loss`` and ``brier`` for classes; ``squared_error`` for numbers.
    """
    if table.task == "numbers":
        answered = np.isfinite(fused).all(axis=1)
        centre = np.asarray(table.y, dtype=float).mean(axis=0)
        known = np.where(answered[:, None], fused, centre)
        return {"squared_error": ((known - table.y) ** 2).sum(axis=1)}
    answered = np.isfinite(fused).any(axis=1)
    shares = np.where(np.isfinite(fused), np.maximum(fused, 0.0), 0.0)
    options = np.full(len(shares), shares.shape[1]) if table.n_options is None else table.n_options
    flat = (np.arange(shares.shape[1]) < options[:, None]) / options[:, None]
    mass = shares.sum(axis=1, keepdims=True)
    proba = np.where(mass > 0, shares / np.where(mass > 0, mass, 1.0), flat)
    index = np.arange(len(proba))
    right = proba[index, table.y]
    # a tie is scored by chance: breaking it by option number would favour whoever codes the options
    first = proba >= proba.max(axis=1, keepdims=True) - 1e-12
    wrong = np.where(answered & first[index, table.y], 1.0 - 1.0 / first.sum(axis=1), 1.0)
    brier = (proba**2).sum(axis=1) - 2.0 * right + 1.0
    return {"error": wrong, "log_loss": -np.log(np.maximum(right, _FLOOR)), "brier": brier}


def rank_rules(
    table: Table, fused: dict[str, NDArray[np.float64]], *, references: tuple[str, ...], level: float = 0.95
) -> pd.DataFrame:
    """Rank rules by their cross-fitted loss, with paired differences to the references.

    Parameters
    ----------
    table : Table
        Panel and truth.
    fused : dict of str to ndarray
        From :func:`cross_fused`.
    references : tuple of str
        Rules to compare with, such as the best single specialist.
    level : float
        Of the paired intervals.

    Returns
    -------
    DataFrame
        Index ``rule``, best first: ``score`` (accuracy, or R2), its ``se``, the mean losses, and for
        each reference ``gain_NAME``, ``gain_NAME_low``, ``gain_NAME_high`` (positive: better), in the
        score's unit.

    Notes
    -----
    Differences are paired by sample (summed within groups where there are groups); the interval is
    normal. Learned rules share training samples across folds, so intervals are a little too short.
    """
    import pandas as pd
    from scipy.stats import norm

    main = "squared_error" if table.task == "numbers" else "error"
    scale = 1.0
    if table.task == "numbers":
        scale = float(((table.y - table.y.mean(axis=0)) ** 2).sum(axis=1).mean()) or 1.0
    every = {name: losses(table, answer) for name, answer in fused.items()}
    z = float(norm.ppf(0.5 + level / 2.0))
    rows = []
    for name, loss in every.items():
        row: dict[str, Any] = {"rule": name, "score": 1.0 - float(loss[main].mean()) / scale}
        row["se"] = standard_error(loss[main], table.groups) / scale
        row |= {key: float(values.mean()) for key, values in loss.items()}
        for reference in references:
            if reference in every:
                gain = (every[reference][main] - loss[main]) / scale
                se = standard_error(gain, table.groups)
                row |= {
                    f"gain_{reference}": float(gain.mean()),
                    f"gain_{reference}_low": float(gain.mean()) - z * se,
                    f"gain_{reference}_high": float(gain.mean()) + z * se,
                }
        rows.append(row)
    frame = pd.DataFrame(rows).set_index("rule")
    return frame.sort_values("score", ascending=False, kind="stable")


def paired_gain(
    table: Table, fused: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[float, float]:
    """Give the mean paired gain of one rule over another, and its standard error.

    Parameters
    ----------
    table : Table
        Truth.
    fused, reference : ndarray of shape (sample, output)
        Cross-fitted answers of the two rules.

    Returns
    -------
    gain, se : float
        In 0/1 error, or squared error; positive where ``fused`` is better.
    """
    main = "squared_error" if table.task == "numbers" else "error"
    gain = losses(table, reference)[main] - losses(table, fused)[main]
    return float(gain.mean()), standard_error(gain, table.groups)
