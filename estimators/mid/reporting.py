"""How the views do alone, side by side and fused, on the rows held back for validation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import accuracy_score, r2_score

from estimators.mid.reading import ViewInput, read_all


def classification_report(
    model: Any,
    X: Any,
    target: NDArray[Any],
    weight: NDArray[np.float64],
    fitted: NDArray[np.intp],
    held: NDArray[np.intp],
    valid: Any,
) -> dict[str, Any]:
    """Give validation accuracies.

    Parameters
    ----------
    model : MidFusionClassifier
        With a trained ``module_``.
    X : object
        All rows.
    target : ndarray of shape (sample,)
        Class numbers.
    weight : ndarray of shape (sample,)
        Of the samples.
    fitted, held : ndarray of int
        Training and validation rows.
    valid : Batch or None
        The latter as tensors.

    Returns
    -------
    dict
        ``views`` by name (over the rows that have it), ``early_concat``, ``fused``, ``n_validation``; empty without
        a validation part.
    """
    if valid is None:
        return {}
    fused, views, mask = _answers(model, valid)
    truth, mass = target[held], weight[held]
    solo = {}
    for v, name in enumerate(model.view_names_):
        here = mask[:, v]
        if views is not None and here.any():
            solo[name] = float(
                accuracy_score(truth[here], views[here, v].argmax(axis=1), sample_weight=mass[here])
            )
    early = float("nan")
    if len(np.unique(target[fitted])) > 1:
        train, test = _side_by_side(model, X, fitted), _side_by_side(model, X, held)
        line = RidgeClassifier(alpha=1.0).fit(train, target[fitted], sample_weight=weight[fitted])
        early = float(line.score(test, truth, sample_weight=mass))
    return {
        "views": solo,
        "early_concat": early,
        "fused": float(accuracy_score(truth, fused.argmax(axis=1), sample_weight=mass)),
        "n_validation": len(held),
    }


def regression_report(
    model: Any,
    X: Any,
    target: NDArray[Any],
    weight: NDArray[np.float64],
    fitted: NDArray[np.intp],
    held: NDArray[np.intp],
    valid: Any,
) -> dict[str, Any]:
    """Give validation R2; parameters and result as in `classification_report`.

    Parameters
    ----------
    model : MidFusionRegressor
        With a trained ``module_``.
    X : object
        All rows.
    target : ndarray of shape (sample, output)
        Standardised numbers.
    weight : ndarray of shape (sample,)
        Of the samples.
    fitted, held : ndarray of int
        Training and validation rows.
    valid : Batch or None
        The latter as tensors.

    Returns
    -------
    dict
    """
    if valid is None or len(held) < 2:
        return {}
    fused, views, mask = _answers(model, valid)
    truth, mass = target[held], weight[held]
    solo = {}
    for v, name in enumerate(model.view_names_):
        here = mask[:, v]
        if views is not None and here.sum() > 1:
            solo[name] = float(r2_score(truth[here], views[here, v], sample_weight=mass[here]))
    line = Ridge(1.0).fit(_side_by_side(model, X, fitted), target[fitted], sample_weight=weight[fitted])
    return {
        "views": solo,
        "early_concat": float(
            r2_score(
                truth, line.predict(_side_by_side(model, X, held)).reshape(truth.shape), sample_weight=mass
            )
        ),
        "fused": float(r2_score(truth, fused, sample_weight=mass)),
        "n_validation": len(held),
    }


def _answers(model: Any, valid: Any) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[np.bool_]]:
    from estimators.mid.trainer import infer

    outs = [out for _, out in infer(model.module_, valid)]
    fused = np.concatenate([out.scores.double().cpu().numpy() for out in outs])
    views = None
    if outs[0].view_scores is not None:
        views = np.concatenate([out.view_scores.double().cpu().numpy() for out in outs])
    return fused, views, valid.mask.cpu().numpy()


def _side_by_side(model: Any, X: Any, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    from estimators.columns import take_rows

    inputs, mask = read_all(
        take_rows(X, rows), model._readers, empty="prior", missing="abstain", tell_new_gaps=False
    )
    return np.concatenate([*(_flat(part) for part in inputs), mask.astype(float)], axis=1)


def _flat(part: ViewInput) -> NDArray[np.float64]:
    """Average the tokens of a sequence; absent rows are 0 already."""
    if part.padding is None:
        return np.asarray(part.values)
    count = np.maximum((~part.padding).sum(axis=1, keepdims=True), 1)
    return np.where(part.padding[..., None], 0.0, part.values).sum(axis=1) / count
