"""What a deliberation in text gained over its sealed proposals: over stacking, plurality and the best single."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from estimators.chat.stopping import plurality
from estimators.critic import Adjudicator
from estimators.hearing import Sealed

Floats = NDArray[np.float64]
_FOLDS = 5
_FEWEST = 20


def text_gains(
    proba: Floats, proposals: Floats, right: NDArray[Any], n_options: NDArray[Any], *, seed: int = 0
) -> dict[str, Any]:
    """Compare a verdict with what its sealed proposals give without any exchange.

    Parameters
    ----------
    proba : ndarray of float64, shape (item, option)
        Verdicts; NaN rows are not right.
    proposals : ndarray of float64, shape (item, agent, option)
        Sealed votes; NaN rows for abstentions.
    right : ndarray of int, shape (item,)
        Right options.
    n_options : ndarray of int, shape (item,)
        Options of each question.
    seed : int
        Of the folds of the stack.

    Returns
    -------
    dict
        accuracy, and of each rival (stacking, plurality, best_single) its own accuracy, gain_over_ it, and the
        paired gain_over_..._standard_error; None where there is no such rival, and then the reason in
        stacking_reason, or that nobody proposed. Ties are shared evenly.

    Notes
    -----
    The stack is the linear judge of :class:`estimators.DeliberativeClassifier` without critics (logistic
    regression on a row per question and option), cross-fitted in five folds, and the accuracies that soften the
    votes are those of the training folds. The best single agent is chosen with the truth: a high bar.
    """
    rows = np.arange(len(right))
    hits = share_of_top(proba)[rows, right]
    rivals: dict[str, Floats | None] = dict.fromkeys(("stacking", "plurality", "best_single"))
    told: dict[str, Any] = {
        "accuracy": float(hits.mean()),
        "stacking_reason": None,
        "best_single_agent": None,
    }
    m = proposals.shape[1]
    if m:
        rivals["plurality"] = share_of_top(plurality(proposals))[rows, right]
        own = np.nan_to_num(proposals[rows, :, right])
        told["best_single_agent"] = int(own.mean(axis=0).argmax())
        rivals["best_single"] = own[:, told["best_single_agent"]]
    need = max(_FEWEST, 2 * m)
    if not m:
        told["stacking_reason"] = "nobody proposed"
    elif len(right) < need:
        told["stacking_reason"] = (
            f"a stack of {m} needs {need} questions with a truth; there are {len(right)}"
        )
    else:
        scores = cross_stack(proposals, right, n_options, seed=seed)
        scores[np.isnan(proposals).all(axis=(1, 2))] = np.nan  # a guess where nobody proposed is no answer
        rivals["stacking"] = share_of_top(scores)[rows, right]
    for name, other in rivals.items():
        paired = None if other is None else hits - other
        told[name] = None if other is None else float(other.mean())
        told[f"gain_over_{name}"] = None if paired is None else float(paired.mean())
        several = paired is not None and len(paired) > 1
        told[f"gain_over_{name}_standard_error"] = (
            float(np.std(paired, ddof=1) / np.sqrt(len(paired))) if several and paired is not None else None
        )
    return told


def cross_stack(proposals: Floats, right: NDArray[Any], n_options: NDArray[Any], *, seed: int) -> Floats:
    """Score options by a linear stack of sealed votes, each question by a stack that was not fitted on it.

    Parameters
    ----------
    proposals : ndarray of float64, shape (item, agent, option)
        Sealed votes; NaN rows for abstentions.
    right : ndarray of int, shape (item,)
        Right options.
    n_options : ndarray of int, shape (item,)
        Options of each question.
    seed : int
        Of the folds.

    Returns
    -------
    ndarray of float64, shape (item, option)
        Scores; minus infinity at options that a question does not have.
    """
    valid = np.arange(proposals.shape[2]) < n_options[:, None]
    none = np.zeros((len(right), proposals.shape[2], 0))  # no critics
    scores = np.full(valid.shape, -np.inf)
    for train, test in KFold(_FOLDS, shuffle=True, random_state=seed).split(proposals):
        sealed = Sealed(proposals[train], valid[train], right[train], None)
        judge = Adjudicator().fit(
            sealed.odds(proposals[train], valid[train]), none[train], right[train], valid=valid[train]
        )
        odds = sealed.odds(proposals[test], valid[test])
        scores[test] = np.where(valid[test], judge.scores(odds, none[test], valid=valid[test]), -np.inf)
    return scores


def share_of_top(scores: Floats) -> Floats:
    """Give the largest score of each row, shared evenly among ties; nothing in a row of NaN."""
    known = np.where(np.isnan(scores), -np.inf, scores)
    top = (known >= known.max(axis=1, keepdims=True) - 1e-12) & ~np.isnan(scores)
    return np.asarray(top / np.maximum(top.sum(axis=1, keepdims=True), 1))
