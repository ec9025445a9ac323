"""Fusions that learn one weight per specialist from a panel of unseen rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from estimators.training import answer_errors, first_choices, read_training
from fusion import linear_pool, plurality_vote, vote_weights
from theory import PanelError, error_covariance, min_variance_weights

_TINY = 1e-12
_LEAST = 1e-9
_VOTES = ("log_odds", "nitzan_paroush")


class SkillWeights(BaseEstimator):
    """Weigh each specialist by its own record, whatever the others do.

    Parameters
    ----------
    kind : {"log_odds", "nitzan_paroush", "accuracy", "inverse_mse"}
        ``"log_odds"``: a vote weighted by ln((C-1) p / (1-p)), the best weights if specialists err
        independently. ``"nitzan_paroush"``: the same with C = 2, the best if all who err give the same
        wrong answer; who is wrong more often than right has no vote. ``"accuracy"``: a linear pool
        weighted by accuracy. ``"inverse_mse"``: a linear pool weighted by one over the mean squared
        error, of probabilities or of numbers.

    Attributes
    ----------
    weights_ : ndarray of shape (specialist,)
        Non-negative; sums to 1.

    References
    ----------
    .. [1] Berend & Kontorovich, A finite sample analysis of the naive Bayes classifier, 2015.
    .. [2] Nitzan & Paroush, Optimal decision rules in uncertain dichotomous choice situations, 1982.

    Examples
    --------
    >>> import numpy as np
    >>> votes = np.eye(2)[[[0, 1], [1, 1], [0, 1], [1, 0]]]
    >>> SkillWeights("accuracy").fit(votes, [0, 1, 0, 1]).weights_.round(2).tolist()
    [0.8, 0.2]
    """

    def __init__(self, kind: str = "log_odds"):
        self.kind = kind

    def fit(
        self, panel: Any, y: Any, *, task: str = "classification", sample_weight: Any = None
    ) -> SkillWeights:
        """Learn the weights.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            Answers to samples that the specialists were not fitted on; NaN where one was absent.
        y : array-like
            Codes of the right outputs, or numbers.
        task : {"classification", "regression"}
            What ``y`` is.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : SkillWeights

        Raises
        ------
        PanelError
            If the kind is unknown or asks for classes where there are numbers, or the panel and its
            truth do not fit.
        """
        values, target, weights = read_training(panel, y, task, sample_weight)
        if self.kind not in (*_VOTES, "accuracy", "inverse_mse"):
            raise PanelError(
                f"kind must be 'log_odds', 'nitzan_paroush', 'accuracy' or 'inverse_mse'; got {self.kind!r}."
            )
        if self.kind != "inverse_mse" and task == "regression":
            raise PanelError(f"kind={self.kind!r} counts right labels; use 'inverse_mse' for numbers.")
        weight = np.ones(len(values)) if weights is None else weights
        errors = answer_errors(values, target, task)
        here = ~np.isnan(errors).any(axis=2)
        mass = weight @ here
        known = mass > 0
        if self.kind == "inverse_mse":
            loss = weight @ np.where(here, (errors**2).sum(axis=2), 0.0) / np.where(known, mass, 1.0)
            # relative to the panel's own scale: an exact specialist gets nearly all, in any unit
            score = 1.0 / np.maximum(loss, _TINY * max(float(loss.max()), _TINY))
        else:
            right = weight @ (first_choices(values) == np.asarray(y)[:, None])
            if self.kind == "accuracy":
                score = right / np.where(known, mass, 1.0)
            else:
                n_outputs = values.shape[2] if self.kind == "log_odds" else 2
                accuracy = (right + 1.0) / (mass + n_outputs)
                score = np.maximum(np.asarray(vote_weights(accuracy, n_outputs=n_outputs)), 0.0)
        self.weights_ = _never_zero(np.where(known, score, 0.0))
        return self

    def fuse(self, panel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fuse a panel with the learned weights.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            NaN where a specialist is absent; its weight goes to the others.

        Returns
        -------
        ndarray of shape (sample, output)
            Vote shares for ``"log_odds"`` and ``"nitzan_paroush"``, else the weighted mean.
        """
        check_is_fitted(self)
        if self.kind in _VOTES:
            votes = panel
            if gap_policy(panel) == "abstain":  # an option that a specialist cannot name never gets its vote
                gaps = np.isnan(panel)
                votes = np.where(gaps & ~gaps.all(axis=2, keepdims=True), -1.0, panel)
            return np.asarray(plurality_vote(votes, weights=self.weights_, missing=gap_policy(panel)))
        return np.asarray(linear_pool(panel, weights=self.weights_, missing=gap_policy(panel)))


class CovarianceWeights(BaseEstimator):
    """Weigh specialists by how they err together: the weights of least squared error.

    Parameters
    ----------
    constraint : {"simplex", "none"}
        Non-negative weights, or any that sum to one.
    cap : float
        Largest weight on the simplex.
    shrink : {"auto"}, float or None
        How far the weights go back to equal ones; ``"auto"`` by how well so many weights can be
        learned from so many samples.
    shrink_covariance : {"constant_correlation", "identity", "oas"} or None
        Target that the error matrix is shrunk to.

    Attributes
    ----------
    weights_ : ndarray of shape (specialist,)
        Sums to 1.
    second_moment_ : ndarray of shape (specialist, specialist)
        Of the errors, shrunk.

    Notes
    -----
    Where specialists are absent, weights on the simplex are divided among those present. Free weights
    divided by their sum can be far off, so they are solved again, once per pattern of presence. From a
    panel with gaps the matrix is estimated pair by pair, is not shrunk, and negative eigenvalues, which
    no real moments have, become zero. A class that a specialist cannot name counts as probability 0.

    References
    ----------
    .. [1] Bates & Granger, The combination of forecasts, 1969.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=500)
    >>> panel = y[:, None] + rng.normal(size=(500, 2)) * [1.0, 2.0]
    >>> weights = CovarianceWeights().fit(panel[:, :, None], y, task="regression").weights_
    >>> bool(weights[0] > 0.7)
    True
    """

    def __init__(
        self,
        constraint: str = "simplex",
        *,
        cap: float = 1.0,
        shrink: Any = "auto",
        shrink_covariance: str | None = "constant_correlation",
    ):
        self.constraint = constraint
        self.cap = cap
        self.shrink = shrink
        self.shrink_covariance = shrink_covariance

    def fit(
        self, panel: Any, y: Any, *, task: str = "classification", sample_weight: Any = None
    ) -> CovarianceWeights:
        """Learn the weights.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            Answers to samples that the specialists were not fitted on; NaN where one was absent.
        y : array-like
            Codes of the right outputs, or numbers.
        task : {"classification", "regression"}
            What ``y`` is.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : CovarianceWeights

        Raises
        ------
        PanelError
            If the panel and its truth do not fit, or two specialists never answered the same sample.
        """
        values, target, weight = read_training(panel, y, task, sample_weight)
        self._learn(answer_errors(values, target, task), weight)
        self.weights_ = self._solve(np.ones(values.shape[1], dtype=bool))
        return self

    def _learn(self, errors: NDArray[np.float64], weight: NDArray[np.float64] | None) -> None:
        """Estimate how the specialists err together."""
        gaps = np.isnan(errors)
        moments = error_covariance(
            errors,
            shrink=None if gaps.any() else self.shrink_covariance,  # type: ignore[arg-type]
            sample_weight=weight,
            missing="abstain" if gaps.any() else "raise",
        )
        self.second_moment_ = moments.value
        if gaps.any():
            spectrum, vectors = np.linalg.eigh(moments.value)
            self.second_moment_ = (vectors * np.maximum(spectrum, 0.0)) @ vectors.T
        # a weight counts samples, as everywhere in scikit-learn
        self.n_samples_ = int(moments.n) if weight is None else max(round(float(weight.sum())), 2)

    def _solve(self, present: NDArray[np.bool_]) -> NDArray[np.float64]:
        chosen = np.flatnonzero(present)
        weights = np.zeros(len(present))
        if len(chosen) == 0:
            return weights
        solved = min_variance_weights(
            self.second_moment_[np.ix_(chosen, chosen)],
            constraint=self.constraint,  # type: ignore[arg-type]
            cap=max(self.cap, 1.0 / len(chosen)),
            shrink=self.shrink,
            n=self.n_samples_,
            given="matrix",
        )
        weights[chosen] = solved.value
        if self.constraint == "simplex":
            weights[chosen] = _never_zero(weights[chosen])
        return weights / weights.sum()

    def fuse(self, panel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fuse a panel with the weights of those present.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            NaN where a specialist is absent.

        Returns
        -------
        ndarray of shape (sample, output)
            NaN where nobody is present.
        """
        check_is_fitted(self)
        if np.isfinite(panel).all():  # of one row, a third of what the checks of a pool take
            return np.asarray(np.matmul(self.weights_, panel), dtype=np.float64)
        present = np.isfinite(panel).any(axis=2)
        if self.constraint == "simplex" or present.all():
            return np.asarray(linear_pool(panel, weights=self.weights_, missing="abstain"))
        patterns, which = np.unique(present, axis=0, return_inverse=True)
        rows = np.stack([self._solve(pattern) for pattern in patterns])[which.reshape(-1)]
        return np.asarray(linear_pool(panel, weights=rows, missing="abstain"))


class TopSpecialists(BaseEstimator):
    """Keep only the best few by their own record and pool them equally; k = 1 is the best single one.

    Parameters
    ----------
    k : int
        How many to keep.

    Attributes
    ----------
    chosen_ : ndarray of int
        Positions of those kept, best first; ties go to the first listed.
    weights_ : ndarray of shape (specialist,)
        1/k for them, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> votes = np.eye(2)[[[0, 1], [1, 1], [0, 1], [1, 0]]]
    >>> TopSpecialists(1).fit(votes, [0, 1, 0, 1]).weights_.tolist()
    [1.0, 0.0]
    """

    def __init__(self, k: int = 1):
        self.k = k

    def fit(
        self, panel: Any, y: Any, *, task: str = "classification", sample_weight: Any = None
    ) -> TopSpecialists:
        """Find the best.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            Answers to samples that the specialists were not fitted on; NaN where one was absent,
            which counts as not right, or as the largest squared error of the panel.
        y : array-like
            Codes of the right outputs, or numbers.
        task : {"classification", "regression"}
            What ``y`` is; numbers are ranked by mean squared error, labels by accuracy.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : TopSpecialists

        Raises
        ------
        PanelError
            If k is below 1 or above the number of specialists, or the panel and its truth do not fit.
        """
        values, target, weight = read_training(panel, y, task, sample_weight)
        whole = isinstance(self.k, int | np.integer) and not isinstance(self.k, bool)
        if not whole or not 1 <= self.k <= values.shape[1]:
            raise PanelError(
                f"k must be a whole number between 1 and the {values.shape[1]} specialists; got {self.k!r}."
            )
        if task == "regression":
            loss = (answer_errors(values, target, task) ** 2).sum(axis=2)
            if np.isnan(loss).all():
                raise PanelError("no specialist answered any sample; there is nobody to choose.")
            score = -np.average(np.where(np.isnan(loss), np.nanmax(loss), loss), axis=0, weights=weight)
        else:
            score = np.average(first_choices(values) == np.asarray(y)[:, None], axis=0, weights=weight)
        self.task_ = task
        self.chosen_ = np.argsort(-score, kind="stable")[: self.k]
        self.weights_ = np.zeros(values.shape[1])
        self.weights_[self.chosen_] = 1.0 / self.k
        return self

    def fuse(self, panel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pool the chosen ones.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            NaN where a specialist is absent.

        Returns
        -------
        ndarray of shape (sample, output)
            Their mean; NaN where none of them is present, 0 for a class that none of them can name.
        """
        check_is_fitted(self)
        kept = np.asarray(panel, dtype=np.float64)[:, self.chosen_]
        here = ~np.isnan(kept)
        counts = here.sum(axis=1)
        total = np.where(here, kept, 0.0).sum(axis=1)
        pooled = total / np.maximum(counts, 1)
        silent = counts == 0
        if self.task_ == "classification":
            silent = silent.all(axis=1, keepdims=True)
        return np.where(silent, np.nan, pooled)


def gap_policy(panel: Any) -> str:
    """Give the ``missing`` of a fusion: without gaps it need not look for them, which takes ten times as long."""
    return "raise" if np.isfinite(np.sum(panel)) else "abstain"


def _never_zero(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide by the sum; whoever earned nothing still speaks where nobody else does."""
    total = score.sum()
    weights = score / total if total > 0 else np.full(len(score), 1.0 / len(score))
    weights = np.maximum(weights, _LEAST)
    return np.asarray(weights / weights.sum())
