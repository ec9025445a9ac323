"""A regressor that deliberates: critics predict each specialist's error, a judge reads what follows."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import get_tags

from estimators._compat import Interval, fit_context
from estimators.conformal import conformal_quantile
from estimators.court import Court, paired_gain
from estimators.critic import Critic
from estimators.deliberating import Deliberating
from estimators.deliberation_escalation import Escalation, NumberDoor, cascade_report
from estimators.deliberation_report import DeliberatedNumbers, number_dataset
from estimators.deliberation_run import Course
from estimators.ensemble_regressor import RobustFusionRegressor
from estimators.learning import StoredPanel
from estimators.panel import make_splits
from estimators.withheld import withhold
from fusion.deliberative.decision import Decision, decide_number
from theory import PanelError


@withhold(
    fuse="deliberate(X)", predict_or_defer="decide(X)", update="fit", partial_fit="fit",
    with_fusion="another judge", from_predictions="PrecomputedSpecialist members",
)  # fmt: skip
class DeliberativeRegressor(Deliberating, RobustFusionRegressor):
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
    escalation : Escalation, optional
        Who is asked first, and when the others are asked; each stage has critics and a judge of its own.
    budget : fusion.deliberative.Budget, optional
        Limits of calls (answers of one specialist to one sample) and seconds for each prediction; calls are never
        exceeded, seconds by one block of samples of a later stage at most. Other limits are refused.
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
        paired standard errors; of a cascade also what it costs and gains.
    courts_ : list of Court
        Critics and judge, per stage; None where too few rows were seen.
    oof_panel_, solo_scores_, error_correlation_, effective_number_, prices_, missing_rate_, failures_ : object
        As in :class:`RobustFusionRegressor`.

    Raises
    ------
    PanelError
        If every specialist failed, or stages name unknown specialists.

    Notes
    -----
    Where somebody does not answer, the others are pooled by their mean squared errors, unless the judge was better on
    the training rows of that kind, 30 at least. The critics' standard deviations are scaled so that their squares
    are, on average, the judge's squared error on unseen rows; `decide` weighs them against costs. Intervals are
    calibrated on the whole cascade: each training row counts with the judge of the stage that it reached; `report_`
    is about the last stage, but for ``"escalation"``, which has squared errors. Nobody is quarantined, and there is
    no certificate: who breaks or lies after training is weighed as before, unless that looks to the critics like an
    error they were trained on.

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
        "escalation": [Escalation, None],
        "budget": "no_validation",  # told in the library's words by fit
        "critic_cv": [Interval(Integral, 2, None, closed="left")],
    }

    def __init__(
        self,
        specialists: Any,
        *,
        critic: Any = None,
        view: Any = None,
        judge: Any = None,
        clip: bool = False,
        escalation: Escalation | None = None,
        budget: Any = None,
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
        self.escalation = escalation
        self.budget = budget
        self.plausible = plausible
        self.cv = cv
        self.critic_cv = critic_cv
        self.keep_oof = keep_oof
        self.n_jobs = n_jobs
        self.predict_n_jobs = predict_n_jobs
        self.random_state = random_state
        self.verbose = verbose

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
        self._check_limits()
        self._input = X  # for critics, who look at samples; gone after the fit
        try:
            super().fit(X, y, sample_weight=sample_weight, groups=groups)
        finally:
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
        return self._course(X).verdict[:, 0]

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
        _check_coverage(coverage)
        return self._interval(self._course(X), coverage)

    def deliberate(
        self,
        X: Any,
        *,
        coverage: float = 0.9,
        error: float = 1.0,
        defer: float = np.inf,
        path: Any = None,
        nonces: Any = None,
    ) -> DeliberatedNumbers:
        """Predict with a record.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.
        coverage : float
            As in `predict_interval`.
        error, defer : float
            As in `decide`.
        path : path, optional
            New file that the transcript is written to as the run goes.
        nonces : Transcript or sequence of str, optional
            Of an earlier run, whose replay then has the same hashes.

        Returns
        -------
        DeliberatedNumbers
            Numbers, intervals, decision, transcript, ledger, dataset and report.

        Raises
        ------
        PanelError
            If the coverage lies outside (0, 1), or the file exists.
        BudgetError
            If the budget does not pay the first stage; nobody was asked.
        """
        _check_coverage(coverage)
        course, transcript = self._recorded(X, path, nonces)
        interval = self._interval(course, coverage)
        return DeliberatedNumbers(
            value=course.verdict[:, 0],
            sd=course.verdict[:, 1],
            interval=interval,
            decision=self._decision(course, error, defer),
            transcript=transcript,
            ledger=course.ledger,
            dataset=number_dataset(course, self._names, self._names_sorted, interval),
            report=course.report() | {"fit": self.report_},
        )

    def _interval(self, course: Course, coverage: float) -> NDArray[np.float64]:
        value, sd = course.verdict.T
        scores, weight = self._scores
        width = conformal_quantile(scores, 1.0 - coverage, sample_weight=weight)
        return np.column_stack([value - width * sd, value + width * sd])

    def _cheapest(self, course: Course, error: float, defer: float) -> Decision:
        return decide_number(course.verdict[:, 0], course.verdict[:, 1] ** 2, error=error, defer=defer)

    def _learn(self, stored: StoredPanel, X: Any = None, *, record: Any = None) -> None:
        super()._learn(stored, X, record=record)
        X = self._check_input(self._input, reset=False)
        self._convene()
        rows = np.flatnonzero(stored.fold >= 0)
        if stored.weight is not None:
            rows = rows[stored.weight[rows] > 0]
        y = stored.target[rows, 0]
        self._looker = Critic(view=slice(None) if self.view is None else self.view)
        x = self._looker.look(X, reset=True)[rows]
        weight = None if stored.weight is None else np.asarray(stored.weight, dtype=np.float64)[rows]
        self.courts_: list[Court | None] = [None] * len(self._stages)
        self._doors: list[NumberDoor] = []
        self._scores = (np.zeros(0), None)
        self.report_ = {"n": len(rows), "reason": self.fallback_ or "too few rows"}
        splits: list[Any] = []
        if len(rows) >= 4:
            splits, reason = make_splits(
                self.critic_cv, np.zeros((len(rows), 1)), y, classifier=False,
                groups=None if stored.groups is None else stored.groups[rows], random_state=self._seed,
            )  # fmt: skip
            self.report_["reason"] = reason
        if splits:
            self._sit(self._known(stored.panel[rows])[:, self._order], y, x, splits, weight)

    def _sit(self, said: Any, y: Any, x: Any, splits: Any, weight: Any) -> None:
        courts = [
            Court(self.critic, self.judge, clip=self.clip, prior=float(self._prior[0]), seed=self._seed).fit(
                said[:, self._places(stage)], y, x, splits, weight
            )
            for stage in self._stages
        ]
        self.courts_ = list(courts)
        found = [court.cross_fitted_ for court in courts]
        reached = np.zeros(len(y), dtype=np.int64)
        for s in range(len(courts) - 1):
            verdicts = [np.column_stack([f.value, f.sd]) for f in found[s : s + 2]]
            panel = said[:, self._places(self._stages[s]), None]
            door = NumberDoor(self.escalation, s, seed=self._seed)
            door.fit(panel, *verdicts, y, splits=splits, came=reached == s, sample_weight=weight)
            self._doors.append(door)
            reached += door.passed_
        every = np.arange(len(y))
        value = np.stack([f.value for f in found])[reached, every]
        sd = np.stack([f.sd for f in found])[reached, every]
        self._scores = (np.abs(y - value) / sd, weight)
        last, share = courts[-1], np.ones(len(y)) if weight is None else weight
        judged = found[-1].value
        rules = {"judge": judged, **last.rivals_}
        self.report_ = {
            "n": len(y),
            "rmse": {k: float(np.sqrt(np.average((y - v) ** 2, weights=share))) for k, v in rules.items()},
            "gain_over_stack": paired_gain(y, judged, last.rivals_["stack"], share),
            "gain_over_best_single": paired_gain(y, judged, last.rivals_["best_single"], share),
            "predicted_variance_ratio": last.pool_ratio_,
            "best_single": self._names_sorted[last.best_],
            "effective_number": self.effective_number_,
        }
        if len(courts) > 1:
            losses = [(y - f.value) ** 2 for f in found]
            self.report_["escalation"] = cascade_report(
                losses, reached, [len(s) for s in self._stages], weight
            )

    def _blank(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.zeros((n, 2)), np.full((n, len(self._names)), np.nan)

    def _views(self, X: Any) -> list[Any]:
        return [self._looker.look(X, reset=False)]

    def _critic_names(self) -> list[str]:
        return [f"critic of {name}" for name in self._names_sorted]

    def _valid(self, X: Any, n: int) -> NDArray[np.bool_]:
        return np.ones((n, 1), dtype=bool)

    def _sealed(self, panel: Any, valid: Any) -> Any:
        return panel

    def _watch(self, panel: Any, valid: Any) -> tuple[int, ...]:
        return ()

    def _goes_on(self, s: int, panel: Any, verdict: Any, valid: Any) -> NDArray[np.bool_]:
        own = panel[:, self._places(self._stages[s])]
        if self.courts_[s] is None:
            return np.ones(len(own), dtype=bool)  # nothing was learned: everybody is asked
        return self._doors[s].goes_on(own, verdict)

    def _hear(self, s: int, out: Any, panel: Any, valid: Any, views: Any) -> tuple[Any, Any]:
        columns = self._places(self._stages[s])
        said, court = panel[:, columns, 0], self.courts_[s]
        errors = np.full(panel.shape[:2], np.nan)
        if court is None or not len(panel):
            here = ~np.isnan(said)
            mean = np.where(here, said, 0.0).sum(axis=1) / np.maximum(here.sum(axis=1), 1)
            return np.column_stack([mean, np.full(len(said), np.sqrt(self._v0))]), errors
        found = court.hear(said, views[0])
        errors[:, columns] = found.errors
        return np.column_stack([found.value, found.sd]), errors

    def _silence(self, valid: Any) -> NDArray[np.float64]:
        return np.tile([self._prior[0], np.sqrt(self._v0)], (len(valid), 1))

    def _header(self) -> dict[str, Any]:
        return {"protocol": "critique", "specialists": list(self._names), "seed": self._seed}

    def _known(self, panel: Any) -> Any:
        return np.where(self._faulty(panel), np.nan, panel[:, :, 0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = False
        try:
            tags.input_tags.allow_nan = all(get_tags(m).input_tags.allow_nan for _, m in self._listed())
        except Exception:  # estimators may be anything before fit validates them
            return tags
        return tags


def _check_coverage(coverage: float) -> None:
    if not 0.0 < coverage < 1.0:
        raise PanelError(f"coverage lies between 0 and 1; got {coverage!r}.")
