"""Whether the views of a sample belong together: what is lost when one is shuffled."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics import get_scorer
from sklearn.model_selection import check_cv

from estimators.columns import take_rows
from estimators.views import Views
from theory import PanelError


def alignment_score(
    estimator: Any, X: Views, y: Any, *, cv: Any = 3, scoring: str | None = None, random_state: Any = 0
) -> dict[str, float]:
    """Measure what is lost when one view's rows are shuffled: near 0, the view tells nothing or is not aligned.

    Parameters
    ----------
    estimator : estimator
        Cloned and refitted for each view and fold, as ``EarlyFusionClassifier()``.
    X : Views of shape (sample, feature)
        Input.
    y : array-like of shape (sample,)
        Targets.
    cv : int, splitter or iterable, default 3
        Folds.
    scoring : str, optional
        Of scikit-learn; the estimator's own score unless given.
    random_state : int or Generator, default 0
        Of the shuffling.

    Returns
    -------
    dict of str to float
        View name to mean score of the aligned views minus that with this view shuffled, in fit and test alike.

    Raises
    ------
    PanelError
        If X is no Views.

    Examples
    --------
    >>> import numpy as np
    >>> from estimators import EarlyFusionClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 300)
    >>> X = Views(good=y[:, None] + 0.5 * rng.normal(size=(300, 2)), lost=rng.permutation(y)[:, None] + 0.0)
    >>> lost = alignment_score(EarlyFusionClassifier(), X, y)
    >>> bool(lost["good"] > 0.2), bool(abs(lost["lost"]) < 0.05)
    (True, True)
    """
    if not isinstance(X, Views):
        raise PanelError(f"alignment_score shuffles views; X is a {type(X).__name__}. Pass Views(...).")
    y = np.asarray(y)
    rng = np.random.default_rng(random_state)
    score = (lambda m, a, b: m.score(a, b)) if scoring is None else get_scorer(scoring)
    folds = list(check_cv(cv, y, classifier=is_classifier(estimator)).split(np.zeros(len(y)), y))

    def mean_score(views: Views) -> float:
        return float(
            np.mean([score(clone(estimator).fit(views.take(a), y[a]), views.take(b), y[b]) for a, b in folds])
        )

    aligned = mean_score(X)
    lost = {}
    for name in X:
        order = rng.permutation(len(X))
        parts = {other: take_rows(X[other], order) if other == name else X[other] for other in X}
        masks = {other: X.mask[other][order] if other == name else X.mask[other] for other in X}
        lost[name] = aligned - mean_score(Views(parts, mask=masks))
    return lost
