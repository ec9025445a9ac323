"""Fusions that learn one weight per specialist from a panel of unseen rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fusion import linear_pool, plurality_vote, vote_weights
from theory import PanelError, error_covariance, min_variance_weights

_TINY = 1e-12


def panel_target(panel: NDArray[np.float64], y: Any, task: str) -> NDArray[np.float64]:
    """Put the truth in the panel's output space.

    Parameters
    ----------
    panel : ndarray of shape (sample, specialist, output)
        Answers.
    y : array-like
        Codes of the right outputs, shape (sample,); or numbers, (sample,) or (sample, output).
    task : {"classification", "regression"}
        Which of the two.

    Returns
    -------
    ndarray of shape (sample, output)
        One-hot rows, or the numbers.

    Raises
    ------
    PanelError
        If shapes do not fit, or a code lies outside the outputs.
    """
    truth = np.asarray(y)
    if panel.ndim != 3 or len(truth) != len(panel):
        raise PanelError(
            f"panel must be (sample, specialist, output); got shape {panel.shape} for {len(truth)} targets. "
            "Transpose it or pass a DataArray."
        )
    if task == "regression":
        return truth.reshape(len(truth), -1).astype(np.float64)
    if task != "classification":
        raise PanelError(f"task must be 'classification' or 'regression'; got {task!r}.")
    if truth.dtype.kind not in "iu" or truth.min(initial=0) < 0 or truth.max(initial=0) >= panel.shape[2]:
        raise PanelError(f"y must hold codes 0 .. {panel.shape[2] - 1} of the panel's outputs.")
    target = np.zeros((len(truth), panel.shape[2]))
    target[np.arange(len(truth)), truth] = 1.0
    return target


class SkillWeights(BaseEstimator):
    """Weigh each specialist by its own record, whatever the others do.

    Parameters
    ----------
    kind : {"log_odds", "accuracy", "inverse_mse"}
        ``"log_odds"``: a vote weighted by ln((C-1) p / (1-p)), the best weights if specialists err
        independently. ``"accuracy"``: a linear pool weighted by accuracy. ``"inverse_mse"``: a
        linear pool weighted by one over the mean squared error, of probabilities or of numbers.

    Attributes
    ----------
    weights_ : ndarray of shape (specialist,)
        Non-negative; sums to 1.

    Raises
    ------
    PanelError
        In ``fit``, if the kind is unknown or asks for classes where there are numbers.

    References
    ----------
    .. [1] Berend & Kontorovich, A finite sample analysis of the naive Bayes classifier, 2015.

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
        """
        values = np.asarray(panel, dtype=np.float64)
        target = panel_target(values, y, task)
        weight = (
            np.ones(len(values)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        )
        here = np.isfinite(values).any(axis=2)
        mass = np.maximum((here * weight[:, None]).sum(axis=0), _TINY)
        if self.kind == "inverse_mse":
            error = np.nansum((values - target[:, None, :]) ** 2, axis=2)
            score = 1.0 / np.maximum((np.where(here, error, 0.0) * weight[:, None]).sum(axis=0) / mass, _TINY)
        elif self.kind not in ("log_odds", "accuracy"):
            raise PanelError(f"kind must be 'log_odds', 'accuracy' or 'inverse_mse'; got {self.kind!r}.")
        elif task == "regression":
            raise PanelError(f"kind={self.kind!r} counts right labels; use 'inverse_mse' for numbers.")
        else:
            chosen = np.where(here, np.nan_to_num(values, nan=-np.inf).argmax(axis=2), -1)
            right = ((chosen == np.asarray(y)[:, None]) * weight[:, None]).sum(axis=0)
            n_outputs = values.shape[2]
            if self.kind == "accuracy":
                score = right / mass
            else:
                accuracy = (right + 1.0) / (mass + n_outputs)
                # not quite zero: whoever is no better than chance still speaks where nobody else does
                score = np.maximum(np.asarray(vote_weights(accuracy, n_outputs=n_outputs)), 1e-9)
        total = score.sum()
        self.weights_ = score / total if total > 0 else np.full(len(score), 1.0 / len(score))
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
            Vote shares for ``"log_odds"``, else the weighted mean.
        """
        check_is_fitted(self)
        rule = plurality_vote if self.kind == "log_odds" else linear_pool
        return np.asarray(rule(panel, weights=self.weights_, missing="abstain"))


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
    divided by their sum can be far off, so they are solved again, once per pattern of presence.

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
        """
        values = np.asarray(panel, dtype=np.float64)
        errors = values - panel_target(values, y, task)[:, None, :]
        gaps = np.isnan(errors)
        errors[gaps.any(axis=2)] = np.nan
        moments = error_covariance(
            errors,
            shrink=None if gaps.any() else self.shrink_covariance,  # type: ignore[arg-type]
            sample_weight=sample_weight,
            missing="abstain" if gaps.any() else "raise",
        )
        self.second_moment_ = moments.value
        self.n_samples_ = int(moments.n)
        self.weights_ = self._solve(np.ones(values.shape[1], dtype=bool))
        return self

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
        if (
            self.constraint == "simplex"
        ):  # not quite zero: whoever is unused still speaks where nobody else does
            weights[chosen] = np.maximum(weights[chosen], 1e-9)
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

    Raises
    ------
    PanelError
        In ``fit``, if k is below 1 or above the number of specialists.

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
            which counts as not right.
        y : array-like
            Codes of the right outputs, or numbers.
        task : {"classification", "regression"}
            What ``y`` is; numbers are ranked by mean squared error, labels by accuracy.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : TopSpecialists
        """
        values = np.asarray(panel, dtype=np.float64)
        target = panel_target(values, y, task)
        if not 1 <= self.k <= values.shape[1]:
            raise PanelError(f"k must lie between 1 and the {values.shape[1]} specialists; got {self.k!r}.")
        if task == "regression":
            error = ((values - target[:, None, :]) ** 2).sum(axis=2)
            score = -np.average(
                np.where(np.isnan(error), np.nanmax(error), error), axis=0, weights=sample_weight
            )
        else:
            here = np.isfinite(values).any(axis=2)
            chosen = np.where(here, np.nan_to_num(values, nan=-np.inf).argmax(axis=2), -1)
            score = np.average(chosen == np.asarray(y)[:, None], axis=0, weights=sample_weight)
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
            Their mean; NaN where none of them is present.
        """
        check_is_fitted(self)
        kept = np.asarray(panel, dtype=np.float64)[:, self.chosen_]
        here = ~np.isnan(kept)
        counts = here.sum(axis=1)
        total = np.where(here, kept, 0.0).sum(axis=1)
        return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
