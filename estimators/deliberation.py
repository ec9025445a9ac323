"""A classifier that deliberates: sealed proposals, critics with their own view, a judge that never proposed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from estimators._compat import fit_context
from estimators.critic import Adjudicator, Critic
from estimators.deliberation_escalation import Door, Escalation
from estimators.deliberation_memory import Memory, read_options
from estimators.deliberation_report import Deliberated, judge_report
from estimators.deliberation_run import Course, check_limits, run_course
from estimators.ensemble import RobustFusionClassifier
from estimators.hearing import Hearing, seal
from estimators.learning import StoredPanel
from estimators.panel import make_splits
from estimators.revising import earn_revision, revised_columns
from estimators.withheld import withhold
from fusion.deliberative.adjudication import influence_bound
from fusion.deliberative.critics import proposed_options
from fusion.deliberative.decision import Decision, decide_action
from fusion.deliberative.watch import peer_agreement
from theory import FaultWarning, PanelError


@withhold(
    fuse="deliberate(X)", predict_or_defer="decide(X)", predict_set="predict_proba(X)", update="fit", partial_fit="fit",
    with_fusion="another adjudicator", from_predictions="PrecomputedSpecialist members",
)  # fmt: skip
class DeliberativeClassifier(RobustFusionClassifier):
    """Let specialists propose, critics object, and a judge decide.

    Proposals are made out of fold and sealed; critics that see more than the votes are cross-fitted on
    them; the judge reads sealed proposals and critics, covers every option that exists, and is calibrated on
    rows it was not fitted on. What that gained over stacking the proposals and over the best single specialist
    is told in ``report_``.

    Parameters
    ----------
    specialists : list of (str, estimator) tuples
        The team, as in :class:`RobustFusionClassifier`.
    critics : list of (str, Critic) tuples
        May be empty: the judge is then a stack of the proposals.
    adjudicator : Adjudicator, optional
        The judge.
    revision : fusion.deliberative.Revision, optional
        Lets specialists revise; switched off again unless it improves the log loss by two standard errors.
    topology : str or array-like of shape (specialist, specialist_)
        Who hears whom in a revision: ``"broadcast"`` weighs peers by skill and error correlation; others are
        those of :func:`fusion.deliberative.topology`.
    escalation : Escalation, optional
        Who is asked first, and when the others are asked.
    budget : fusion.deliberative.Budget, optional
        Limits of calls (answers of one specialist to one sample) and seconds for each prediction; tokens, money
        and rounds, which are not counted here, are refused.
    n_options : str or callable, optional
        Column of X with the number of options of a sample, or a callable that gives a mask
        (sample, output) from X; every class is an option by default.
    quarantine : bool
        Whether, in batches of 200 or more, specialists whose agreement with the others collapsed abstain.
    cv : int, splitter, iterable, "prefit"
        How proposals to unseen samples are made; critics and judge are cross-fitted in their own folds.
    critic_cv : int
        Folds of critics and judge.
    absent_class, extra_class : str
        As in :class:`RobustFusionClassifier`.
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
    classes_ : ndarray of shape (output,)
        Class labels.
    report_ : dict
        Accuracy, log loss and calibration of the verdict, of stacking, of plurality and of the best single
        specialist on unseen rows, the gains with standard errors, what became of the revision, and more.
    critic_error_correlation_ : DataArray, dims (critic, specialist), or None
        Correlation of the errors of critics with those of specialists.
    hearings_ : list of Hearing
        Critics and judge, per stage.
    judge_weights_ : ndarray of shape (specialist,), or None
        Of a linear judge.
    oof_panel_, solo_scores_, error_correlation_, effective_number_, prices_, missing_rate_, failures_ : object
        As in :class:`RobustFusionClassifier`.

    Raises
    ------
    PanelError
        If a critic repeats a specialist, stages name unknown specialists, or all specialists failed.

    Notes
    -----
    This runs "critique_revise" and, with ``escalation``, the cascade of ``regime("coordination")``. The other presets
    of :func:`fusion.deliberative.protocol` run on panels in :class:`fusion.deliberative.Deliberation` and, where
    they need language, in :func:`estimators.chat.deliberate_text`.

    References
    ----------
    .. [1] Wolpert, Stacked generalization, 1992.
    .. [2] Guo et al., On calibration of modern neural networks, 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> import warnings
    >>> X, y = load_iris(return_X_y=True)
    >>> team = [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier(max_depth=3, random_state=0))]
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # 150 samples calibrate a judge poorly, and it says so
    ...     clf = DeliberativeClassifier(team, random_state=0).fit(X, y)
    >>> bool(clf.score(X, y) > 0.9), round(clf.report_["gain_over_stack"]["value"], 3)
    (True, 0.0)
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **{
            k: v
            for k, v in RobustFusionClassifier._parameter_constraints.items()
            if k not in ("estimators", "fusion", "short", "defer", "calibration", "track_record")
        },
        "specialists": [list],
        "critics": [list, tuple],
        "adjudicator": [Adjudicator, None],
        "topology": [str, "array-like"],
        "escalation": [Escalation, None],
        "revision": "no_validation",  # told in the library's words by fit
        "budget": "no_validation",
        "quarantine": ["boolean"],
        "critic_cv": [int],
        "n_options": [str, callable, None],
    }
    fusion = "mean"  # what carries the evidence of the base class; the judge decides
    short = "raise"
    defer = track_record = calibration = None

    def __init__(
        self,
        specialists: Any,
        *,
        critics: Any = (),
        adjudicator: Adjudicator | None = None,
        revision: Any = None,
        topology: Any = "broadcast",
        escalation: Escalation | None = None,
        budget: Any = None,
        n_options: Any = None,
        quarantine: bool = True,
        cv: Any = 5,
        critic_cv: int = 3,
        absent_class: str = "missing",
        extra_class: str = "raise",
        keep_oof: bool = True,
        n_jobs: int | None = None,
        predict_n_jobs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.specialists = specialists
        self.critics = critics
        self.adjudicator = adjudicator
        self.revision = revision
        self.topology = topology
        self.escalation = escalation
        self.budget = budget
        self.n_options = n_options
        self.quarantine = quarantine
        self.cv = cv
        self.critic_cv = critic_cv
        self.absent_class = absent_class
        self.extra_class = extra_class
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
            Whether to include the parameters of specialists, judge, revision and escalation.

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
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> DeliberativeClassifier:
        """Fit specialists, then critics and judge on their sealed proposals to unseen samples.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input; specialists and critics see their views of it.
        y : array-like of shape (sample,)
            Class labels of any kind.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.
        groups : array-like of shape (sample,), optional
            Handed to the splitter; critics and judge keep groups together too.

        Returns
        -------
        self : DeliberativeClassifier

        Raises
        ------
        ValueError
            If ``y`` is missing or no classes, or a parameter does not fit.
        PanelError
            As the class says.
        """
        self._input = X  # for critics, who look at samples; gone after the fit
        self._check_critics()
        super().fit(X, y, sample_weight=sample_weight, groups=groups)
        del self._input
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Give the judge's verdict.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.

        Returns
        -------
        ndarray of shape (sample, output)
            In the order of ``classes_``; rows sum to 1; the prior of the training set where all abstain.
        """
        return self._course(X).verdict

    def decide(self, X: Any, *, error: float = 1.0, defer: float = np.inf) -> Decision:
        """Accept, escalate or defer each sample: the least expected cost.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.
        error, defer : float
            Cost of a wrong answer, and of handing a sample over.

        Returns
        -------
        fusion.deliberative.Decision
            Samples in which everybody abstained are deferred, whatever it costs. "escalate" is what a budget
            left undone.
        """
        course = self._course(X)
        return self._decision(course, error, defer, ())

    def deliberate(self, X: Any, *, error: float = 1.0, defer: float = np.inf) -> Deliberated:
        """Predict with a record.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.
        error, defer : float
            As in `decide`.

        Returns
        -------
        Deliberated
            Verdict, decision, transcript, ledger, dataset and report.
        """
        course = self._course(X)
        transcript, records = course.transcript(self._names, self._header())
        return Deliberated(
            proba=course.verdict,
            decision=self._decision(course, error, defer, records),
            transcript=transcript,
            ledger=course.ledger,
            dataset=course.dataset(self._names, self.classes_),
            report=course.report(self._names) | {"fit": self.report_},
        )

    def influence_bound(self, n_byzantine: int = 1) -> float:
        """Bound the total variation by which lying specialists can move a verdict; 1 where there is no bound.

        Parameters
        ----------
        n_byzantine : int
            How many specialists may say anything (papers write f).

        Returns
        -------
        float
            1.0 with critics that read the votes, or with a judge that is not linear or has negative weights.
        """
        check_is_fitted(self)
        hearing = self.hearings_[-1]
        if hearing is None or self.report_["revision"]["used"]:
            return influence_bound(None, n_byzantine=n_byzantine)
        return hearing.influence_bound(n_byzantine)

    def _decision(self, course: Course, error: float, defer: float, records: tuple[int, ...]) -> Decision:
        check_is_fitted(self)
        made = decide_action(course.verdict, error=error, defer=defer)
        action, cost = made.action.astype("<U8"), made.cost.copy()
        action[course.cut_short] = "escalate"
        action[course.silent] = "defer"
        cost[course.silent] = defer
        stage = course.stage + (action == "escalate")
        return Decision(action, made.proba, cost, stage, records)

    def _check_critics(self) -> None:
        names = [name for name, _ in self.critics]
        if len(set(names)) < len(names) or not all(isinstance(critic, Critic) for _, critic in self.critics):
            raise PanelError("critics are a list of (name, Critic) with names that differ.")
        for name, critic in self.critics:
            critic.check(name, self._listed())
        if self.adjudicator is not None:
            self.adjudicator.check()
        check_limits(self.budget)

    def _learn(self, stored: StoredPanel, X: Any = None, *, record: Any = None) -> None:
        super()._learn(stored, X, record=record)
        X = self._check_input(self._input, reset=False)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        # Columns in the order of names: the order of the list of specialists changes nothing.
        self._order = np.argsort(np.array(self._names, dtype=object))
        stages = [sorted(range(len(self._names)))]
        if self.escalation is not None:
            stages = self.escalation.check(self._names)
            self.escalation.prices()
        self._stages = stages
        critics = [(name, clone(critic)) for name, critic in self.critics]
        self._lookers = [critic for _, critic in critics]
        views = [critic.look(X, reset=True) for critic in self._lookers]
        rows = np.flatnonzero(stored.fold >= 0)
        target, groups = stored.target, stored.groups
        valid = self._valid(X, len(target))
        rows = rows[valid[rows, target[rows]]]
        if stored.weight is not None:
            rows = rows[stored.weight[rows] > 0]
        weight = None if stored.weight is None else stored.weight[rows]
        self._memory = Memory(
            seal(stored.panel[rows][:, self._order], valid[rows]),
            target[rows],
            valid[rows],
            [None if view is None else view[rows] for view in views],
            self._splits(len(rows), target[rows], None if groups is None else groups[rows]),
            weight,
        )
        self._refits: dict[Any, Any] = {}
        self._names_sorted = [self._names[i] for i in self._order]
        self.hearings_ = [self._hearing(stage) for stage in stages]
        self._doors: list[Door] = []
        self._finish()

    def _finish(self) -> None:
        memory, last = self._memory, self.hearings_[-1]
        self.judge_weights_ = None
        self.critic_error_correlation_ = None
        self._peers = (
            peer_agreement(proposed_options(memory.panel, valid=memory.valid)) if len(memory.y) else None
        )
        self._revised = None
        if last is None:
            self.report_ = {
                "n": len(memory.y),
                "reason": self.fallback_ or "too few rows",
                "revision": {"used": False},
            }
            return
        if last.judge_.weights_ is not None:
            self.judge_weights_ = last.judge_.weights_[np.argsort(self._order)]
        last, told = earn_revision(self, memory, last)
        self.hearings_[-1] = last
        self._revised = told["used"] and told
        if self.escalation is not None:
            self._fit_stages()
        self.report_, self.critic_error_correlation_ = judge_report(
            memory, last, self._names_sorted, self.critics, self.adjudicator or Adjudicator(), self._seed
        )
        self.report_["revision"] = {k: v for k, v in told.items() if k not in ("weights", "kappa")}
        self.report_["effective_number"] = self.effective_number_

    def _hearing(self, stage: list[int], without: tuple[int, ...] = ()) -> Hearing | None:
        memory = self._memory
        if not memory.splits or len(self.classes_) < 2:
            return None
        place = np.argsort(self._order)
        active = np.zeros(len(self._names), dtype=bool)
        active[[place[i] for i in stage]] = True
        active[list(without)] = False
        panel = np.where(active[None, :, None], memory.panel, np.nan)
        hearing = Hearing(self.critics, self.adjudicator or Adjudicator(), seed=self._seed)
        return hearing.fit(
            panel,
            memory.y,
            valid=memory.valid,
            views=memory.views,
            splits=memory.splits,
            sample_weight=memory.weight,
        )

    def _fit_stages(self) -> None:
        place = np.argsort(self._order)
        for s, stage in enumerate(self._stages[:-1]):
            panel = self._memory.panel[:, [place[i] for i in stage]]
            verdicts = self.hearings_[s].verdict_, self.hearings_[s + 1].verdict_
            self._doors.append(
                Door(self.escalation, s, seed=self._seed).fit(
                    panel, *verdicts, self._memory.y, self._memory.weight
                )
            )

    def _goes_on(self, s: int, panel: Any, verdict: Any) -> NDArray[np.bool_]:
        own = panel[:, [np.argsort(self._order)[i] for i in self._stages[s]]]
        return self._doors[s].goes_on(own, verdict)

    def _course(self, X: Any) -> Course:
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        return run_course(self, X, self._valid(X, X.shape[0]))

    def _extra(self, hearing: Hearing, panel: Any, valid: Any, views: Any) -> Any:
        if not self._revised or hearing is not self.hearings_[-1]:
            return None
        return revised_columns(self.revision, self._revised, hearing, panel, valid, views)

    def _valid(self, X: Any, n: int) -> NDArray[np.bool_]:
        return read_options(self.n_options, X, n, len(self.classes_))

    def _splits(self, n: int, y: Any, groups: Any) -> list[Any]:
        if n < 4 or len(np.unique(y)) < 2:
            return []
        splits, reason = make_splits(
            self.critic_cv, np.zeros((n, 1)), y, classifier=True, groups=groups, random_state=self._seed
        )
        if not splits:
            warnings.warn(
                f"critics and judge cannot be cross-fitted ({reason}): verdicts are log pools of the proposals.",
                FaultWarning,
                stacklevel=7,
            )
        return splits

    def _header(self) -> dict[str, Any]:
        return {"protocol": "critique_revise", "specialists": list(self._names), "seed": self._seed}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "report_")
