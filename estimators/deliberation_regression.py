"""A regressor that deliberates: critics predict each specialist's error, a judge reads what follows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted

from estimators._compat import fit_context
from estimators.critic import Critic, fit_weighted
from estimators.ensemble_regressor import RobustFusionRegressor
from estimators.learning import StoredPanel
from estimators.panel import make_splits
from estimators.withheld import withhold
from theory import FaultWarning, PanelError

_SHRINK = 0.1
_FLOOR = 1e-3
_ABSENT = 1e6  # variance of an answer that was not given, relative to that of y


@withhold(
    fuse="predict(X)", predict_or_defer="predict_interval(X)", update="fit", partial_fit="fit",
    with_fusion="another judge", from_predictions="PrecomputedSpecialist members",
)  # fmt: skip
class DeliberativeRegressor(RobustFusionRegressor):
    """Let regressors propose, critics predict how far each is off for this sample, and a judge combine.

    Parameters
    ----------
    specialists : list of (str, estimator) tuples
        The team, as in :class:`RobustFusionRegressor`.
    critic : regressor, optional
        Learns the logarithm of each specialist's squared error. Default: gradient boosting.
    view : None, str, list, slice, tuple or callable
        What the critic sees beside the proposals; everything by default.
    judge : regressor, optional
        Reads proposals, weighted proposals and their pool. Default: ridge regression with its strength chosen
        by leave-one-out.
    clip : bool
        Whether weights are clipped at 0.
    plausible : float or None
        As in :class:`RobustFusionRegressor`.
    cv : int, splitter, iterable, "prefit"
        How proposals to unseen samples are made.
    critic_cv : int
        Folds of critics and judge.
    keep_oof : bool
        Whether to keep ``oof_panel_``.
    n_jobs, predict_n_jobs : int, optional
        Parallel jobs of fit and of predict.
    random_state : int, RandomState or None
        Seeds folds, critics and judge.
    verbose : bool
        Whether joblib reports the progress of the fits.

    Attributes
    ----------
    report_ : dict
        Root mean squared errors on unseen rows of the judge, of ridge stacking of the sealed proposals, of the
        critics' pool, of the mean and of the best single specialist; the judge's gains in squared error with
        paired standard errors.
    oof_panel_, solo_scores_, error_correlation_, effective_number_, prices_, missing_rate_, failures_ : object
        As in :class:`RobustFusionRegressor`.

    Raises
    ------
    PanelError
        If every specialist failed.

    References
    ----------
    .. [1] Bates & Granger, The combination of forecasts, 1969.
    .. [2] Lei et al., Distribution-free predictive inference for regression, 2018, section 5.2.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> team = [("line", Ridge(0.1)), ("near", KNeighborsRegressor(9))]
    >>> reg = DeliberativeRegressor(team, random_state=0).fit(X, y)
    >>> low, high = reg.predict_interval(X[:5], coverage=0.9).T
    >>> bool((low < high).all()), sorted(reg.report_["rmse"])
    (True, ['best_single', 'judge', 'mean', 'pool', 'stack'])
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **{
            name: allowed
            for name, allowed in RobustFusionRegressor._parameter_constraints.items()
            if name not in ("estimators", "fusion", "short", "defer", "track_record")
        },
        "specialists": [list],
        "critic": "no_validation",
        "view": "no_validation",
        "judge": "no_validation",
        "clip": ["boolean"],
        "critic_cv": [int],
    }
    fusion = "mean"  # what carries the evidence of the base class; the judge decides
    short = "raise"
    defer = track_record = None

    def __init__(
        self,
        specialists: Any,
        *,
        critic: Any = None,
        view: Any = None,
        judge: Any = None,
        clip: bool = False,
        plausible: float | None = 100.0,
        cv: Any = 5,
        critic_cv: int = 3,
        keep_oof: bool = True,
        n_jobs: int | None = None,
        predict_n_jobs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.specialists = specialists
        self.critic = critic
        self.view = view
        self.judge = judge
        self.clip = clip
        self.plausible = plausible
        self.cv = cv
        self.critic_cv = critic_cv
        self.keep_oof = keep_oof
        self.n_jobs = n_jobs
        self.predict_n_jobs = predict_n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @property
    def estimators(self) -> Any:
        """The team under the name that the base class uses."""
        return self.specialists

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get parameters, those of the specialists included.

        Parameters
        ----------
        deep : bool
            Whether to include the parameters of specialists, critic and judge.

        Returns
        -------
        dict
            Parameter names to values.
        """
        return self._get_params("specialists", deep=deep)

    def set_params(self, **params: Any) -> Any:
        """Set parameters: own ones, ``name__param`` of a specialist, or ``name="drop"``.

        Parameters
        ----------
        **params : object
            New values.

        Returns
        -------
        self : object
        """
        self._set_params("specialists", **params)
        return self

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> DeliberativeRegressor:
        """Fit specialists, then critics and judge on their sealed proposals to unseen samples.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input; specialists and critics see their views of it.
        y : array-like of shape (sample,)
            Numbers.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.
        groups : array-like of shape (sample,), optional
            Handed to the splitter; critics and judge keep groups together too.

        Returns
        -------
        self : DeliberativeRegressor

        Raises
        ------
        ValueError
            If ``y`` is missing, not finite or has several columns, or a parameter does not fit.
        PanelError
            If all specialists failed.
        """
        self._input = X  # for critics, who look at samples; gone after the fit
        super().fit(X, y, sample_weight=sample_weight, groups=groups)
        del self._input
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Give the judge's numbers.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.

        Returns
        -------
        ndarray of shape (sample,)
        """
        return self._verdict(X)[0]

    def predict_interval(self, X: Any, *, coverage: float = 0.9) -> NDArray[np.float64]:
        """Give conformal intervals that are wider where critics expect larger errors.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.
        coverage : float
            Share of intervals that are to hold the truth.

        Returns
        -------
        ndarray of shape (sample, 2)
            Lower and upper ends; infinite where too few rows were seen for such a coverage.

        Raises
        ------
        PanelError
            If the coverage lies outside (0, 1).
        """
        if not 0.0 < coverage < 1.0:
            raise PanelError(f"coverage lies between 0 and 1; got {coverage!r}.")
        value, sd = self._verdict(X)
        order = int(np.ceil((len(self._scores) + 1) * coverage))
        width = self._scores[order - 1] if order <= len(self._scores) else np.inf
        return np.column_stack([value - width * sd, value + width * sd])

    def _learn(self, stored: StoredPanel, X: Any = None, *, record: Any = None) -> None:
        super()._learn(stored, X, record=record)
        X = self._check_input(self._input, reset=False)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rows = np.flatnonzero(stored.fold >= 0)
        panel, target, sample_weight = stored.panel, stored.target[:, 0], stored.weight
        table = self._look(X, reset=True)
        self._ready = False
        self._scores = np.zeros(0)
        self.report_ = {"n": len(rows), "reason": self.fallback_}
        groups = None if stored.groups is None else stored.groups[rows]
        splits = (
            make_splits(
                self.critic_cv, np.zeros((len(rows), 1)), target[rows], classifier=False, groups=groups,
                random_state=self._seed,
            )[0]
            if len(rows) >= 4
            else []
        )  # fmt: skip
        if not splits:
            return
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)[rows]
        self._fit_court(self._known(panel[rows]), target[rows], table[rows], splits, weight)

    def _fit_court(self, said: Any, y: Any, x: Any, splits: Any, weight: Any) -> None:
        n, m = said.shape
        here = ~np.isnan(said)
        share = np.ones(n) if weight is None else weight
        self._scale = max(float(np.average((y - np.average(y, weights=share)) ** 2, weights=share)), 1e-300)
        mass = np.maximum((here * share[:, None]).sum(axis=0), 1e-300)
        self._bias = (np.where(here, said - y[:, None], 0.0) * share[:, None]).sum(axis=0) / mass
        filled = self._filled(said)
        residual = np.where(here, filled - y[:, None], 0.0)
        variance = np.empty((n, m))
        self._critics = []
        default = HistGradientBoostingRegressor(
            max_iter=120, learning_rate=0.07, max_leaf_nodes=15, early_stopping=False
        )
        target = np.log(np.maximum(residual**2, _FLOOR * self._scale))
        for i in range(m):
            rows_i = _situation(filled, x, i)
            for train, test in splits:
                known = train[here[train, i]]
                variance[test, i] = (
                    self._one(default, rows_i, target[:, i], known, weight).predict(rows_i[test])
                    if len(known)
                    else np.log(self._scale)
                )
            known = np.flatnonzero(here[:, i])
            self._critics.append(
                self._one(default, rows_i, target[:, i], known, weight) if len(known) else None
            )
        variance = np.exp(variance)
        self._stretch = (np.where(here, residual**2 / variance, 0.0) * share[:, None]).sum(axis=0) / mass
        self._stretch = np.maximum(self._stretch, 1e-12)
        variance *= self._stretch
        standard = np.where(here, residual / np.sqrt(variance), 0.0)
        moment = (standard * share[:, None]).T @ standard
        scale = np.sqrt(np.maximum(moment.diagonal(), 1e-300))
        r = moment / scale[:, None] / scale[None, :]
        self._correlation = (1.0 - _SHRINK) * r + _SHRINK * np.eye(m)
        weights, sd = self._weights(np.where(here, variance, _ABSENT * self._scale))
        features = _brief(filled, weights)
        ridge = RidgeCV(alphas=np.logspace(-3, 3, 13) * max(float(features.var()), 1e-12))
        judged, stacked, best = np.empty(n), np.empty(n), np.empty(n)
        loss = np.where(here, residual**2, self._scale) * share[:, None]
        for train, test in splits:
            part = None if weight is None else weight[train]
            judge = fit_weighted(self.judge, ridge, features[train], y[train], part, self._seed)
            judged[test] = judge.predict(features[test])
            stack = fit_weighted(None, ridge, filled[train], y[train], part, self._seed)
            stacked[test] = stack.predict(filled[test])
            best[test] = filled[test, int(loss[train].sum(axis=0).argmin())]
        self._judge = fit_weighted(self.judge, ridge, features, y, weight, self._seed)
        self._scores = np.sort(np.abs(y - judged) / sd)
        self._ready = True
        pooled = (weights * filled).sum(axis=1)
        rules = {
            "judge": judged,
            "stack": stacked,
            "pool": pooled,
            "mean": filled.mean(axis=1),
            "best_single": best,
        }
        self.report_ = {
            "n": n,
            "rmse": {k: float(np.sqrt(np.average((y - v) ** 2, weights=share))) for k, v in rules.items()},
            "gain_over_stack": _gain(y, judged, stacked, share),
            "gain_over_best_single": _gain(y, judged, best, share),
            "predicted_variance_ratio": float(np.average((y - pooled) ** 2 / sd**2, weights=share)),
            "best_single": self._names[int(loss.sum(axis=0).argmin())],
            "effective_number": self.effective_number_,
        }

    def _one(self, default: Any, table: Any, target: Any, rows: Any, weight: Any) -> Any:
        part = None if weight is None else weight[rows]
        return fit_weighted(
            None if self.critic is None else clone(self.critic),
            default,
            table[rows],
            target[rows],
            part,
            self._seed,
        )

    def _weights(self, variance: Any) -> tuple[Any, Any]:
        """Weights D^-1 R^-1 D^-1 1, made to sum to 1, and the sd of the pool that they predict."""
        inverse = 1.0 / np.sqrt(variance)
        weights = inverse * np.linalg.solve(self._correlation, inverse.T).T
        if self.clip:
            weights = np.maximum(weights, 0.0)
        total = weights.sum(axis=1, keepdims=True)
        small = total <= 1e-12 * np.abs(weights).sum(axis=1, keepdims=True)
        weights = np.where(small, 1.0 / weights.shape[1], weights / np.where(small, 1.0, total))
        scaled = weights * np.sqrt(variance)
        return weights, np.sqrt(np.maximum((scaled @ self._correlation * scaled).sum(axis=1), 1e-300))

    def _verdict(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        panel, absent, _ = self._heard(X)
        faults = self._faulty(panel) & ~absent
        if faults.any():
            counts = {n: int(c) for n, c in zip(self._names, faults.sum(axis=0), strict=True) if c}
            warnings.warn(
                f"invalid answers count as abstentions: {counts} of {len(panel)} samples.",
                FaultWarning,
                stacklevel=3,
            )
        said = self._known(panel)
        here = ~np.isnan(said)
        filled = self._filled(said) if self._ready else np.where(here, said, 0.0)
        if not self._ready:
            count = here.sum(axis=1)
            value = np.where(count > 0, filled.sum(axis=1) / np.maximum(count, 1), self._prior[0])
            return value, np.full(len(value), np.sqrt(self._v0))
        x = self._look(X, reset=False)
        variance = np.empty(filled.shape)
        for i, critic in enumerate(self._critics):
            told = np.log(self._scale) if critic is None else critic.predict(_situation(filled, x, i))
            variance[:, i] = np.exp(told) * self._stretch[i]
        weights, sd = self._weights(np.where(here, variance, _ABSENT * self._scale))
        value = np.asarray(self._judge.predict(_brief(filled, weights)), dtype=np.float64)
        nobody = ~here.any(axis=1)
        return np.where(nobody, self._prior[0], value), np.where(nobody, np.sqrt(self._scale), sd)

    def _known(self, panel: Any) -> Any:
        return np.where(self._faulty(panel), np.nan, panel[:, :, 0])

    def _filled(self, said: Any) -> Any:
        """Take biases away; who is absent gets the mean of the others, with next to no weight."""
        here = ~np.isnan(said)
        plain = np.where(here, said - self._bias, 0.0)
        count = here.sum(axis=1, keepdims=True)
        mean = np.where(count > 0, plain.sum(axis=1, keepdims=True) / np.maximum(count, 1), self._prior[0])
        return np.where(here, plain, mean)

    def _look(self, X: Any, *, reset: bool) -> Any:
        if reset:
            self._looker = Critic(view=slice(None) if self.view is None else self.view)
        return self._looker.look(X, reset=reset)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "report_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = False
        try:
            tags.input_tags.allow_nan = all(get_tags(m).input_tags.allow_nan for _, m in self._listed())
        except Exception:  # estimators may be anything before fit validates them
            return tags
        return tags


def _situation(said: Any, x: Any, i: int) -> Any:
    return np.column_stack([x, said[:, i], said.mean(axis=1), said.std(axis=1)])


def _brief(said: Any, weights: Any) -> Any:
    weighted = weights * said
    return np.column_stack([said, weighted, weighted.sum(axis=1)])


def _gain(y: Any, judged: Any, other: Any, share: Any) -> dict[str, float]:
    saved = (y - other) ** 2 - (y - judged) ** 2
    mean = float(np.average(saved, weights=share))
    w = share / share.sum()
    return {"value": mean, "standard_error": float(np.sqrt((w**2 * (saved - mean) ** 2).sum()))}
