"""Robust fusion of regressors behind fit and predict."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.callback import with_callbacks
from sklearn.utils import column_or_1d, get_tags
from sklearn.utils.validation import check_array, check_is_fitted

from estimators._base import BaseRobustFusion
from estimators._compat import Interval, fit_context
from estimators.panel import Answers
from theory import PanelError


class RobustFusionRegressor(RegressorMixin, BaseRobustFusion):
    """Fuse the numbers of many regressors, robustly, and say what each is worth.

    A drop-in for :class:`sklearn.ensemble.VotingRegressor` with the fusions, checks, out-of-fold
    panel, weights and prices of :class:`RobustFusionClassifier`.

    Parameters
    ----------
    estimators : list of (str, estimator) tuples
        The team; estimators, :class:`Specialist` objects, or ``"drop"``.
    fusion : str, fusion.Operator, learned fusion or callable
        ``"auto"`` compares the mean, covariance weights and the best single specialist on the out-of-fold
        panel and keeps the simplest good one, see :class:`AutoFusion`;
        ``"mean"``, ``"median"``, ``"trimmed_mean"``, ``"krum"``, ``"geometric_median"``, ...;
        ``"inverse_mse"``, ``"covariance"``, ``"arbiter"``, learned from the out-of-fold panel; or an object.
    cv : int, splitter, iterable, "prefit" or "none"
        How the out-of-fold panel is made.
    plausible : float or None
        An answer farther from the middle of the training targets than this many times their range
        (or largest magnitude) is a fault, not a number to average. None accepts every finite number.
    short : {"raise", "relax", "prior"}
        What to do with samples that have fewer specialists than the operator needs.
    defer : Defer, optional
        When :meth:`predict_or_defer` hands a sample on: ``Defer(by="vote", coverage=...)``.
    track_record : TrackRecord, optional
        Kept beside the fusion and fed by :meth:`update`.
    keep_oof : bool
        Whether to keep ``oof_panel_``; intervals, :meth:`with_fusion` and :meth:`update` need it.
    n_jobs, predict_n_jobs : int, optional
        Parallel jobs of fit and of predict.
    random_state : int, RandomState or None
        Shuffles integer folds if given.
    verbose : bool
        Whether a bar shows the progress of the fits.

    Attributes
    ----------
    estimators_, named_estimators_, methods_, failures_, fusion_, weights_, oof_coverage_, fallback_ : object
        As in :class:`RobustFusionClassifier`.
    oof_panel_ : DataArray, dims (sample, specialist, output), or None
        Answers to samples that the specialists were not fitted on.
    scale_ : ResidualScale or None
        How the size of the error follows the disagreement, a + b D, and the scores of intervals.
    defer_threshold_, track_record_ : object
        As in :class:`RobustFusionClassifier`.
    solo_scores_ : dict
        Out-of-fold R2 of each specialist, over the samples that it answered.
    error_covariance_, error_correlation_, effective_number_, prices_, missing_rate_ : object
        Of the residuals answer - truth; prices in squared error.

    Raises
    ------
    PanelError
        If every specialist failed, or outputs do not fit.
    BudgetError
        If more specialists give invalid answers than the fusion withstands, or too few answer.

    References
    ----------
    .. [1] Bates & Granger, The combination of forecasts, 1969.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = RobustFusionRegressor([("line", Ridge(0.1)), ("near", KNeighborsRegressor(9))], fusion="covariance")
    >>> bool(reg.fit(X, y).weights_[0] > 0.5)
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **BaseRobustFusion._parameter_constraints,
        "plausible": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        estimators: Any,
        *,
        fusion: Any = "auto",
        cv: Any = 5,
        plausible: float | None = 100.0,
        short: str = "raise",
        defer: Any = None,
        track_record: Any = None,
        keep_oof: bool = True,
        n_jobs: int | None = None,
        predict_n_jobs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.estimators = estimators
        self.fusion = fusion
        self.cv = cv
        self.plausible = plausible
        self.short = short
        self.defer = defer
        self.track_record = track_record
        self.keep_oof = keep_oof
        self.n_jobs = n_jobs
        self.predict_n_jobs = predict_n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    @with_callbacks
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None, **params: Any
    ) -> RobustFusionRegressor:
        """Fit the specialists, then learn from their out-of-fold panel.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input; each specialist sees its view of it.
        y : array-like of shape (sample,) or (sample, output)
            Numbers.
        sample_weight : array-like of shape (sample,), optional
            Counts of the samples.
        groups : array-like of shape (sample,), optional
            Handed to the splitter.
        **params : object
            Other metadata; refused unless metadata routing is on and someone asks for it.

        Returns
        -------
        self : RobustFusionRegressor

        Raises
        ------
        ValueError
            If ``y`` is missing or not finite, or a parameter does not fit.
        PanelError
            If a specialist's outputs do not fit ``y``, or all of them failed.
        """
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y")
        if y.ndim == 2 and not get_tags(self).target_tags.multi_output:
            y = column_or_1d(y, warn=True)
        self._fit(X, y, sample_weight, groups, params)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Give fused numbers.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.
        return_std : bool
            Whether to give the predicted size of the error too, as scikit-learn's regressors do.

        Returns
        -------
        ndarray of shape (sample,) or (sample, output), or a tuple of two
            As ``y`` was; and the root of the predicted squared error a + b D.

        Raises
        ------
        PanelError
            With ``return_std``, if there is no out-of-fold panel.
        """
        if not return_std:
            fused = self._fused(X)
            return fused[:, 0] if self._flat else fused
        fused, std = self._with_std(X)
        return (fused[:, 0], std[:, 0]) if self._flat else (fused, std)

    def predict_interval(self, X: Any, alpha: float = 0.1) -> NDArray[np.float64]:
        """Give intervals that hold the truth with probability 1 - alpha.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.
        alpha : float
            How often the truth may be outside, for each output, on average over samples.

        Returns
        -------
        ndarray of shape (sample, 2) or (sample, output, 2)
            Lower and upper ends, fused -+ q s; infinite where the out-of-fold panel is too small.

        Raises
        ------
        PanelError
            If alpha is out of range, or there is no out-of-fold panel.
        """
        fused, std = self._with_std(X)
        q = self.scale_.q(alpha)
        with np.errstate(invalid="ignore"):
            reach = np.where(np.isinf(q), np.inf, q * std)
        ends = np.stack([fused - reach, fused + reach], axis=-1)
        return ends[:, 0] if self._flat else ends

    def _with_std(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        check_is_fitted(self)
        if self.scale_ is None:
            raise PanelError(
                "the size of the error is learned from the out-of-fold panel"
                f"{', and there is none: ' + self.fallback_ if self.fallback_ else ''}. Fit with keep_oof=True and folds."
            )
        X = self._check_input(X, reset=False)
        panel, status, _, whole = self._asked(X)
        fused = self._fused_panel(panel, status, X, whole=whole)
        return fused, np.sqrt(self.scale_.variance(self._spread(panel, fused)))

    def _begin(self, y: Any, sample_weight: Any) -> None:
        target = self._target(y)
        self._flat = np.ndim(y) == 1
        self._outputs = np.arange(target.shape[1])
        self._n_outputs = target.shape[1]
        self._prior = np.average(target, axis=0, weights=sample_weight)
        self._v0 = float(np.average(((target - self._prior) ** 2).sum(axis=1), weights=sample_weight))
        low, high = target.min(axis=0), target.max(axis=0)
        self._middle = (low + high) / 2.0
        self._reach = np.maximum(high - low, np.maximum(np.abs(low), np.abs(high)))

    def _target(self, y: Any) -> NDArray[Any]:
        return np.asarray(y, dtype=np.float64).reshape(len(y), -1)

    def _aligned(self, i: int, answers: Answers) -> NDArray[np.float64]:
        if answers.failure and answers.values.shape[1] == 1:
            return np.full((len(answers.values), self._n_outputs), np.nan)
        if answers.values.shape[1] != self._n_outputs:
            raise PanelError(
                f"specialist {self._names[i]!r} gave {answers.values.shape[1]} outputs, y has {self._n_outputs}."
            )
        return answers.values

    def _finished(self, fused: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the mean of the training set where there is no answer."""
        nobody = np.isnan(fused).all(axis=1)
        return np.where(nobody[:, None], self._prior, fused) if nobody.any() else fused

    def _sound(self, panel: NDArray[np.float64]) -> bool:
        # comparisons with NaN are False, and so is the answer
        if self.plausible is not None and (self._reach > 0).all():
            reach = self.plausible * self._reach
            return bool((np.abs(panel - self._middle) <= reach).all())
        return bool(np.isfinite(panel).all())

    def _faulty(self, panel: NDArray[np.float64]) -> NDArray[np.bool_]:
        sound = np.isfinite(panel)
        if self.plausible is not None and (self._reach > 0).all():
            with np.errstate(invalid="ignore"):
                sound &= np.abs(panel - self._middle) <= self.plausible * self._reach
        return ~sound.all(axis=2)

    def _errors(self, panel: NDArray[np.float64], target: NDArray[Any]) -> NDArray[np.float64]:
        return panel - target[:, None, :]

    def _solo(self, panel: NDArray[np.float64], target: NDArray[Any], weight: Any) -> NDArray[np.float64]:
        error = np.nan_to_num((panel - target[:, None, :]) ** 2)
        here = np.isfinite(panel).all(axis=2, keepdims=True)
        weight = np.ones(len(target)) if weight is None else weight
        loss = (error * here * weight[:, None, None]).sum(axis=(0, 2))
        base = ((target - self._prior) ** 2)[:, None, :] * here * weight[:, None, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(1.0 - loss / base.sum(axis=(0, 2)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        try:
            tags.target_tags.multi_output = all(
                get_tags(m).target_tags.multi_output for _, m in self._listed()
            )
        except Exception:  # estimators may be anything before fit validates them
            tags.target_tags.multi_output = False
        return tags
