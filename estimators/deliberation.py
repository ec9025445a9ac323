"""A classifier that deliberates: sealed proposals, critics with their own view, a judge that never proposed."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from estimators._compat import Interval, fit_context
from estimators.critic import Adjudicator, Critic
from estimators.deliberating import Deliberating
from estimators.deliberation_escalation import Door, Escalation, cascade_report
from estimators.deliberation_memory import Memory
from estimators.deliberation_options import OptionRun
from estimators.deliberation_protocol import Bench, check_topology, stopping_rules
from estimators.deliberation_report import Deliberated, judge_report, option_dataset
from estimators.deliberation_run import Course
from estimators.ensemble import RobustFusionClassifier
from estimators.hearing import seal
from estimators.learning import StoredPanel
from estimators.revising import earn_revision
from estimators.withheld import withhold
from fusion.deliberative.critics import proposed_options
from fusion.deliberative.decision import Decision, decide_action
from fusion.deliberative.watch import peer_agreement
from theory import PanelError


@withhold(
    fuse="deliberate(X)", predict_or_defer="decide(X)", predict_set="predict_proba(X)", update="fit", partial_fit="fit",
    with_fusion="another adjudicator", from_predictions="PrecomputedSpecialist members",
)  # fmt: skip
class DeliberativeClassifier(OptionRun, Deliberating, RobustFusionClassifier):
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
    protocol : str or fusion.deliberative.Protocol, default "critique_revise"
        How the proposals become a verdict: a name of :func:`fusion.deliberative.protocol_names`, what
        :func:`fusion.deliberative.regime` gives, or one of these changed by ``dataclasses.replace``. See Notes.
    revision : fusion.deliberative.Revision, optional
        Of "critique_revise" only. Lets specialists revise; switched off again unless it improves the log loss by
        two standard errors.
    topology : str or array-like of shape (specialist, specialist_)
        Who hears whom in a revision: ``"broadcast"`` weighs peers by skill and error correlation; others are
        those of :func:`fusion.deliberative.topology`.
    escalation : Escalation, optional
        Who is asked first, and when the others are asked.
    budget : fusion.deliberative.Budget, optional
        Limits of calls (answers of one specialist to one sample) and seconds for each prediction; calls are never
        exceeded, seconds by one block of samples of a later stage at most. Other limits, which are not counted
        here, are refused.
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
        specialist on unseen rows, the gains with standard errors, what became of the revision, what a cascade
        costs, the share of samples that each stop rule ended, and more. With stages the verdict is that of the last,
        had all samples reached it; ``"escalation"`` tells the share of wrong answers of the cascade.
    critic_error_correlation_ : DataArray, dims (critic, specialist), or None
        Correlation of the errors of critics with those of specialists.
    hearings_ : list of Hearing or Meeting
        Critics and judge, or what the protocol has in their place, per stage.
    judge_weights_ : ndarray of shape (specialist,), or None
        Of a linear judge.
    oof_panel_, solo_scores_, error_correlation_, effective_number_, prices_, missing_rate_, failures_ : object
        As in :class:`RobustFusionClassifier`.

    Raises
    ------
    PanelError
        If a critic repeats a specialist, stages name unknown specialists, parameters do not go with the protocol,
        or all specialists failed.

    Notes
    -----
    Specialists who do not talk speak once; what protocols mean for them is

    - "naive": the judge's own view alone (the critics' views, or all of X); nobody is asked. The floor.
    - "expert_judge": stacking with that view as one more specialist and critics who see it. The ceiling.
    - "consultancy": the specialist that is best on training rows, its critics and the judge; only it is asked.
    - "debate": the two options that stacking holds most probable share their mass by an antisymmetric critic,
      sigma((g(a, b) - g(b, a))/2), read in both orders: exchanging the options gives the complement.
    - "interactive_debate": g begins with the votes and buys one critic's view a round, kept where it lowers the log
      loss by two paired standard errors.
    - "self_consistency": plurality; ties are even.
    - "mixture_of_agents": layers of stacking and boosted aggregators on out-of-fold outputs, ``rounds`` deep.
    - "reconcile": votes weighted by log-odds of fitted confidences; ``Protocol(confidence="stated")`` has the
      published steps.
    - "delphi": opinions move toward their median unless a critic holds their owner more probably right than wrong;
      the verdict is their mean.
    - "surprisingly_popular": named more often than predicted from how specialists agree; the answer uses no labels.
    - "critique_revise": critics, the judge and an optional revision.

    All are cross-fitted and temperature-scaled, over every option that exists, and report their gains. Votes do
    not read critics; debates, layers and a judge alone take the critics' views and the first one's estimator. Talk
    in words is :func:`estimators.chat.deliberate_text`.

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
        "protocol": "no_validation",
        "critic_cv": [Interval(Integral, 2, None, closed="left")],
        "n_options": [str, callable, None],
    }
    calibration = None

    def __init__(
        self,
        specialists: Any,
        *,
        critics: Any = (),
        adjudicator: Adjudicator | None = None,
        protocol: Any = "critique_revise",
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
        self.protocol = protocol
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
        self._check_limits()
        self._check_critics()
        self._input = X  # for critics, who look at samples; gone after the fit
        try:
            super().fit(X, y, sample_weight=sample_weight, groups=groups)
        finally:
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

    def deliberate(
        self, X: Any, *, error: float = 1.0, defer: float = np.inf, path: Any = None, nonces: Any = None
    ) -> Deliberated:
        """Predict with a record.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.
        error, defer : float
            As in `decide`.
        path : path, optional
            New file that the transcript is written to as the run goes: what a killed run leaves can be verified.
        nonces : Transcript or sequence of str, optional
            Of an earlier run, whose replay then has the same hashes.

        Returns
        -------
        Deliberated
            Verdict, decision, transcript, ledger, dataset and report.

        Raises
        ------
        PanelError
            If the file exists.
        BudgetError
            If the budget does not pay the first stage; nobody was asked.
        """
        course, transcript = self._recorded(X, path, nonces)
        return Deliberated(
            proba=course.verdict,
            decision=self._decision(course, error, defer),
            transcript=transcript,
            ledger=course.ledger,
            dataset=option_dataset(course, self._names, self.classes_),
            report=course.report() | {"fit": self.report_},
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
            1.0 with critics that read the votes, with stages (who lies chooses the judge), or with a judge that is not
            linear or has negative weights.

        Notes
        -----
        Of samples for which somebody honest answers, in batches in which nobody is quarantined.
        """
        check_is_fitted(self)
        hearing = self.hearings_[-1]
        if hearing is None or self.report_["revision"]["used"] or (n_byzantine and len(self._stages) > 1):
            return 1.0
        return float(hearing.influence_bound(n_byzantine))

    def _cheapest(self, course: Course, error: float, defer: float) -> Decision:
        return decide_action(course.verdict, error=error, defer=defer)

    def _check_critics(self) -> None:
        names = [name for name, _ in self.critics]
        if len(set(names)) < len(names) or not all(isinstance(critic, Critic) for _, critic in self.critics):
            raise PanelError("critics are a list of (name, Critic) with names that differ.")
        for name, critic in self.critics:
            critic.check(name, self._listed())
        if self.adjudicator is not None:
            self.adjudicator.check()
        check_topology(self.topology, len(self._listed()))
        self._bench = Bench(self)

    def _learn(self, stored: StoredPanel, X: Any = None, *, record: Any = None) -> None:
        super()._learn(stored, X, record=record)
        X = self._check_input(self._input, reset=False)
        self._convene()
        bench = self._bench
        self._stages = bench.heard(self._stages)
        self._lookers = [clone(critic) for _, critic in bench.critics]
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
        self.hearings_ = [self._hearing(stage) for stage in self._stages]
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
                "protocol": self._bench.plan.name,
                "revision": {"used": False},
            }
            return
        if last.weights_ is not None:
            self.judge_weights_ = last.weights_[np.argsort(self._order)]
        told = {"used": False, "reason": "not asked for"}
        if self.revision is not None:
            last, told = earn_revision(self, memory, last)
            self.hearings_[-1] = last
            self._revised = told["used"] and told
        self._stages = self._bench.asked(self._stages, last, self._order)
        reached, cascade = self._fit_stages()
        self.report_, self.critic_error_correlation_ = judge_report(
            memory,
            last,
            self._names_sorted,
            self._bench.critics,
            self.adjudicator or Adjudicator(),
            self._seed,
        )
        self.report_ |= cascade | {
            "protocol": self._bench.plan.name,
            "stopped_by": stopping_rules(self, last, reached),
            "revision": {k: v for k, v in told.items() if k not in ("weights", "kappa")},
            "effective_number": self.effective_number_,
        }

    def _hearing(self, stage: list[int], without: tuple[int, ...] = ()) -> Any:
        memory = self._memory
        if not memory.splits or len(self.classes_) < 2:
            return None
        active = np.zeros(len(self._names), dtype=bool)
        active[self._places(stage)] = True
        active[list(without)] = False
        panel = np.where(active[None, :, None], memory.panel, np.nan)
        hearing = self._bench.hearing(self._seed).fit(
            panel,
            memory.y,
            valid=memory.valid,
            views=memory.views,
            splits=memory.splits,
            sample_weight=memory.weight,
        )
        silent = np.isnan(panel).any(axis=2).all(axis=1) & bool(stage)
        hearing.verdict_[silent] = self._silence(memory.valid)[silent]  # as in a run
        return hearing

    def _fit_stages(self) -> tuple[NDArray[np.int64], dict[str, Any]]:
        memory = self._memory
        reached = np.zeros(len(memory.y), dtype=np.int64)
        if len(self._stages) == 1:
            return reached, {}
        verdicts = [hearing.verdict_ for hearing in self.hearings_]
        for s, stage in enumerate(self._stages[:-1]):
            panel = memory.panel[:, self._places(stage)]
            door = Door(self.escalation, s, seed=self._seed)
            came = (reached == s) & (memory.valid.sum(axis=1) > 1)
            door.fit(
                panel, *verdicts[s : s + 2], memory.y,
                splits=memory.splits, came=came, sample_weight=memory.weight,
            )  # fmt: skip
            self._doors.append(door)
            reached += door.passed_
        wrong = [(verdict.argmax(axis=1) != memory.y).astype(np.float64) for verdict in verdicts]
        sizes = [len(stage) for stage in self._stages]
        return reached, {"escalation": cascade_report(wrong, reached, sizes, memory.weight)}
