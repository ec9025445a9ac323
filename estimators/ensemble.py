"""Robust fusion of specialists behind fit and predict."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.callback import with_callbacks
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from estimators._base import BaseRobustFusion
from estimators._compat import StrOptions, fit_context
from estimators.conformal import sets_at
from estimators.panel import Answers, align
from estimators.specialists import Specialist
from fusion import project_to_simplex
from theory import PanelError, panel_errors

_SUM_TOLERANCE = 1e-3
_BELOW = 1e-9  # a probability may be so far below 0 by rounding


class RobustFusionClassifier(ClassifierMixin, BaseRobustFusion):
    """Fuse the probabilities of many classifiers, robustly, and say what each is worth.

    A drop-in for :class:`sklearn.ensemble.VotingClassifier`: specialists are aligned by class label,
    invalid answers are faults and never enter silently, and one out-of-fold pass yields the
    correlation of the specialists' errors, learned weights and prices.

    Parameters
    ----------
    estimators : list of (str, estimator) tuples
        The team; estimators, :class:`Specialist` objects, or ``"drop"``.
    fusion : str, fusion.Operator, learned fusion or callable
        ``"auto"`` compares the mean, the log pool, covariance weights, the best single specialist and an
        arbiter on the out-of-fold panel and keeps the simplest good one, see :class:`AutoFusion`;
        ``"mean"``, ``"log_pool"``, ``"median"``, ``"trimmed_mean"``, ``"krum"``, ... of
        :func:`fusion.operator_names`; ``"accuracy"``, ``"log_odds"``, ``"nitzan_paroush"``, ``"inverse_mse"``,
        ``"covariance"``, ``"arbiter"``, learned from the out-of-fold panel; or an object.
    cv : int, splitter, iterable, "prefit" or "none"
        How the out-of-fold panel is made. ``"prefit"``: all specialists are frozen and the rows given
        to ``fit`` are fresh. ``"none"``: no panel, hence nothing learned.
    absent_class : {"missing", "zero"}
        What stands for a class that a specialist cannot name: nothing, or probability zero.
    extra_class : {"raise", "drop", "keep"}
        What to do when a specialist names classes that are not in ``y``.
    short : {"raise", "relax", "prior"}
        What to do with samples that have fewer specialists than the operator needs.
    defer : Defer, optional
        When :meth:`predict_or_defer` hands a sample on.
    calibration : {"temperature"}, optional
        Whether the fused probabilities are sharpened or flattened, as out-of-fold ones suggest.
    track_record : TrackRecord, optional
        Kept beside the fusion and fed by :meth:`update`; its halflife is how fast old samples fade there.
    keep_oof : bool
        Whether to keep ``oof_panel_``; :meth:`with_fusion`, :meth:`update` and :meth:`predict_set` need it.
    n_jobs, predict_n_jobs : int, optional
        Parallel jobs of fit and of predict.
    random_state : int, RandomState or None
        Shuffles integer folds if given.
    verbose : bool
        Whether a bar shows the progress of the fits.

    Attributes
    ----------
    classes_ : ndarray of shape (output,)
        Class labels.
    estimators_ : list
        The fitted members, without those dropped.
    named_estimators_ : Bunch
        The same by name.
    methods_, calibrators_, failures_ : dict
        By name: the method that answers; its calibrator or None; why it failed in fit.
    fusion_ : object
        The fusion in use.
    weights_ : ndarray of shape (specialist,), or None
        Learned weights (of an :class:`Arbiter` its coefficients); equal ones where nothing is learned;
        None where the learned fusion has none.
    oof_panel_ : DataArray, dims (sample, specialist, output), or None
        Answers to samples that the specialists were not fitted on.
    oof_coverage_ : float
        Share of samples in it.
    solo_scores_ : dict
        Out-of-fold accuracy of each specialist; where it gave no answer it was not right.
    error_covariance_, error_correlation_ : DataArray, dims (specialist, specialist_), or None
        Second moment and correlation of the errors: probability - onehot(truth).
    effective_number_ : float
        Independent specialists that the panel is worth.
    prices_ : theory.Prices or None
        What each earns under the mean, in Brier score.
    missing_rate_ : ndarray of shape (specialist,)
        Share of out-of-fold rows without a usable answer.
    defer_threshold_ : float or None
        Doubt up to which samples are answered.
    calibrator_ : TemperatureScaling or None
        Of the fused probabilities.
    track_record_ : TrackRecord or None
        The record; the fusion itself where that is one.
    fallback_ : str
        Why there is no out-of-fold panel, or empty.

    Raises
    ------
    PanelError
        If classes do not fit or every specialist failed.
    BudgetError
        If more specialists give invalid answers than the fusion withstands, or too few answer.

    References
    ----------
    .. [1] Bates & Granger, The combination of forecasts, 1969.
    .. [2] Yin et al., Byzantine-robust distributed learning, 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> team = [("line", LogisticRegression(max_iter=1000)), ("tree", DecisionTreeClassifier(random_state=0))]
    >>> clf = RobustFusionClassifier(team, fusion="log_odds").fit(X, y)
    >>> bool(clf.score(X, y) > 0.95), clf.error_correlation_.shape
    (True, (2, 2))
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **BaseRobustFusion._parameter_constraints,
        "calibration": [StrOptions({"temperature"}), None],
        "absent_class": [StrOptions({"missing", "zero"})],
        "extra_class": [StrOptions({"raise", "drop", "keep"})],
    }

    def __init__(
        self,
        estimators: Any,
        *,
        fusion: Any = "auto",
        cv: Any = 5,
        absent_class: str = "missing",
        extra_class: str = "raise",
        short: str = "raise",
        defer: Any = None,
        calibration: str | None = None,
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
        self.absent_class = absent_class
        self.extra_class = extra_class
        self.short = short
        self.defer = defer
        self.calibration = calibration
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
    ) -> RobustFusionClassifier:
        """Fit the specialists, then learn from their out-of-fold panel.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input; each specialist sees its view of it.
        y : array-like of shape (sample,)
            Class labels of any kind.
        sample_weight : array-like of shape (sample,), optional
            Counts of the samples.
        groups : array-like of shape (sample,), optional
            Handed to the splitter.
        **params : object
            Other metadata; refused unless metadata routing is on and someone asks for it.

        Returns
        -------
        self : RobustFusionClassifier

        Raises
        ------
        ValueError
            If ``y`` is missing, not finite or no classes, or a parameter does not fit.
        PanelError
            If a specialist names classes that are not in ``y``, all of them failed, or ``y`` has several
            outputs.
        """
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        if np.asarray(y).dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        shape = np.asarray(y).shape
        if len(shape) == 2 and shape[1] > 1:
            raise PanelError(
                f"y has {shape[1]} outputs; a panel of classes has one label per sample. Use "
                "sklearn.multioutput.MultiOutputClassifier(RobustFusionClassifier(...)), one ensemble per output."
            )
        y = column_or_1d(y, warn=True)
        self.classes_ = np.unique(y)
        self._fit(X, y, sample_weight, groups, params)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Give fused probabilities.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.

        Returns
        -------
        ndarray of shape (sample, output)
            In the order of ``classes_``; rows sum to 1.
        """
        return self._fused(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Give the class of the highest fused probability.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.

        Returns
        -------
        ndarray of shape (sample,)
            Labels of ``classes_``; ties go to the first.
        """
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_set(self, X: Any, alpha: float = 0.1) -> NDArray[np.bool_]:
        """Give for each sample the classes that hold the truth with probability 1 - alpha.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.
        alpha : float
            How often the truth may be outside, on average over samples.

        Returns
        -------
        ndarray of bool, shape (sample, output)
            Never empty; all classes where the out-of-fold panel is too small for alpha.

        Raises
        ------
        PanelError
            If alpha is out of range, or there is no out-of-fold panel.

        Notes
        -----
        Exact for ``cv="prefit"`` on fresh samples; nearly so where specialists are refitted.
        """
        check_is_fitted(self)
        q = self._quantile(alpha)
        return sets_at(self.predict_proba(X), q)

    def _begin(self, y: Any, sample_weight: Any) -> None:
        if self.extra_class == "keep":
            named = [m.classes_ for m in self._members if isinstance(m, Specialist)]
            self.classes_ = np.unique(np.concatenate([self.classes_, *named]))
        self._outputs = self.classes_
        self._n_outputs = len(self.classes_)
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        mass = np.bincount(self._target(y), weights=weight, minlength=self._n_outputs)
        self._prior = mass / mass.sum()
        self._v0 = float(1.0 - (self._prior**2).sum())
        for i, member in enumerate(self._members):
            if isinstance(member, Specialist):  # foreign classes are told at fit, not at the first predict
                nothing = Answers(
                    np.zeros((0, len(member.classes_))), member.classes_, np.zeros(0, dtype=bool)
                )
                self._aligned(i, nothing)

    def _check_rows(self) -> None:
        super()._check_rows()
        for i, member in enumerate(self._members):
            if isinstance(member, Specialist):
                self._check_full_rows(i, member)

    def _check_full_rows(self, i: int, member: Specialist) -> None:
        lacking = sorted(set(self.classes_.tolist()) - set(member.classes_.tolist()), key=str)
        if lacking and self.absent_class == "missing" and self._fuser.needs_full_rows:
            raise PanelError(
                f"{self._fuser.fusion.name} needs every class from every specialist; {self._names[i]!r} cannot name "
                f"{lacking}. Use a coordinate-wise operator or absent_class='zero'."
            )

    def _target(self, y: Any) -> NDArray[Any]:
        return np.searchsorted(self.classes_, y)

    def _aligned(self, i: int, answers: Answers) -> NDArray[np.float64]:
        return align(
            answers,
            self.classes_,
            name=self._names[i],
            absent_class=self.absent_class,
            extra_class=self.extra_class,
        )

    def _finished(self, fused: NDArray[np.float64]) -> NDArray[np.float64]:
        """Make rows that sum to 1; whoever has no answer gets the prior."""
        if self._fuser.convex:
            mass = fused @ np.ones(fused.shape[1])  # along a short axis several times as fast as a sum
            if len(mass) and mass.min() > 0.0 and mass.max() < np.inf:
                return fused / mass[:, None]
        nobody = np.isnan(fused).all(axis=1)
        if not self._fuser.convex:
            fused = np.asarray(project_to_simplex(np.where(np.isnan(fused), 0.0, fused)))
        fused = np.nan_to_num(fused)
        mass = fused.sum(axis=1)
        here = (mass > 0) & ~nobody
        return np.where(here[:, None], fused / np.where(here, mass, 1.0)[:, None], self._prior)

    def _sound(self, panel: NDArray[np.float64]) -> bool:
        sums = panel.reshape(-1, panel.shape[2]) @ np.ones(panel.shape[2])
        near = panel.size and sums.max() <= 1.0 + _SUM_TOLERANCE and sums.min() >= 1.0 - _SUM_TOLERANCE
        return bool(near and panel.min() >= -_BELOW)  # False where anything is NaN

    def _faulty(self, panel: NDArray[np.float64]) -> NDArray[np.bool_]:
        sums = np.nansum(panel, axis=2)
        with np.errstate(invalid="ignore"):
            sound = (np.abs(sums - 1.0) <= _SUM_TOLERANCE) & ~(panel < -_BELOW).any(axis=2)
        return ~sound

    def _errors(self, panel: NDArray[np.float64], target: NDArray[Any]) -> NDArray[np.float64]:
        if np.isnan(panel).any():  # a class that somebody cannot name has probability 0
            panel = np.where(np.isnan(panel).all(axis=2, keepdims=True), np.nan, np.nan_to_num(panel))
        return np.asarray(panel_errors(panel, target, kind="probability"))

    def _solo(self, panel: NDArray[np.float64], target: NDArray[Any], weight: Any) -> NDArray[np.float64]:
        if not len(target):
            return np.full(panel.shape[1], np.nan)
        gone = np.isnan(panel).all(axis=2)
        known = np.nan_to_num(panel, nan=-np.inf) if np.isnan(panel).any() else panel
        chosen = np.where(gone, -1, known.argmax(axis=2))
        return np.average(chosen == target[:, None], axis=0, weights=weight)
