"""One course of a deliberation: ask, seal, watch, critique, judge, and ask more where it pays."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from estimators.hearing import Hearing, seal
from estimators.panel import answer_one, take_rows
from fusion.deliberative.budget import Budget
from fusion.deliberative.critics import proposed_options
from fusion.deliberative.odds import from_log_odds, log_odds
from fusion.deliberative.watch import peer_agreement, quarantine
from theory import BudgetError, FaultWarning, PanelError


@dataclass(eq=False)
class Course:
    """What happened to a batch.

    Attributes
    ----------
    panel : ndarray of shape (sample, specialist, output)
        Sealed proposals, in the order of the specialists' list; NaN rows were not asked, or abstained.
    verdict : ndarray of shape (sample, output)
        The judge's.
    asked : ndarray of bool, shape (sample, specialist)
        Who was asked.
    stage : ndarray of int, shape (sample,)
        Last stage that spoke.
    silent, cut_short : ndarray of bool, shape (sample,)
        Nobody answered; a budget kept it from the next stage.
    critiques : ndarray of shape (sample, output, critic)
        Scores of the last hearing's critics.
    ledger : dict
        Calls, seconds, ``stopped_by``.
    quarantined : list of str
        Names.
    """

    panel: NDArray[np.float64]
    verdict: NDArray[np.float64]
    asked: NDArray[np.bool_]
    stage: NDArray[np.int64]
    silent: NDArray[np.bool_]
    cut_short: NDArray[np.bool_]
    critiques: NDArray[np.float64]
    ledger: dict[str, Any]
    critics: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)

    def transcript(self, names: list[str], header: dict[str, Any]) -> tuple[Any, tuple[int, ...]]:
        """Write the records; give the transcript and the ids of what justifies the verdict."""
        from fusion.deliberative.transcript import Transcript

        log = Transcript(header | {"n": len(self.panel)})
        proposals = []
        for i, name in enumerate(names):
            if not self.asked[:, i].any():
                continue
            proposals.append(
                log.record(
                    round=0,
                    agent=name,
                    role="proposer",
                    action="abstain" if name in self.quarantined else "propose",
                    payload={"asked": int(self.asked[:, i].sum()), "quarantined": name in self.quarantined},
                    arrays={"proposal": self.panel[:, i, :]},
                    cost={"calls": int(self.asked[:, i].sum())},
                )
            )
        critiques = [
            log.record(
                round=1, agent=name, role="critic", action="critique", cites=proposals,
                arrays={"scores": self.critiques[:, :, c]},
            )
            for c, name in enumerate(self.critics)
        ]  # fmt: skip
        payload = {"stopped_by": self.ledger["stopped_by"], "escalated": int((self.stage > 0).sum())}
        last = log.record(
            round=2, agent="judge", role="adjudicator", action="adjudicate", payload=payload,
            cites=[*proposals, *critiques], arrays={"verdict": self.verdict},
        )  # fmt: skip
        return log, (*proposals, *critiques, last)

    def dataset(self, names: list[str], classes: Any) -> Any:
        """Give everything as an xarray Dataset."""
        from xarray import Dataset

        return Dataset(
            {
                "proposal": (("sample", "round", "specialist", "output"), self.panel[:, None]),
                "critique": (("sample", "output", "critic"), self.critiques),
                "verdict": (("sample", "output"), self.verdict),
                "asked": (("sample", "specialist"), self.asked),
                "stage": (("sample",), self.stage),
            },
            coords={"round": [0], "specialist": names, "output": classes, "critic": self.critics},
        )

    def report(self, names: list[str]) -> dict[str, Any]:
        """Give what the run cost and how it went."""
        n = max(len(self.panel), 1)
        return {
            "n": len(self.panel),
            "calls_per_sample": self.ledger["calls"] / n,
            "escalation_rate": float((self.stage > 0).mean()) if len(self.panel) else 0.0,
            "quarantined": list(self.quarantined),
            "stopped_by": self.ledger["stopped_by"],
            "nobody_answered": int(self.silent.sum()),
        }


def check_limits(budget: Any) -> None:
    """Refuse limits that nothing here would hold.

    Parameters
    ----------
    budget : object
        None, or a Budget of calls and seconds.

    Raises
    ------
    PanelError
        If it is no Budget.
    BudgetError
        If it limits what numeric specialists do not report.
    """
    if budget is None:
        return
    if not isinstance(budget, Budget):
        raise PanelError(f"budget must be a fusion.deliberative.Budget or None; got {budget!r}.")
    idle = [name for name in ("tokens", "money", "rounds") if getattr(budget, name) is not None]
    if idle:
        raise BudgetError(
            f"specialists report no {' or '.join(idle)}, so this limit would not hold. Limit calls or seconds here; "
            "a ChatSpecialist takes a budget of its own."
        )


def run_course(owner: Any, X: Any, valid: NDArray[np.bool_]) -> Course:
    """Deliberate about a batch.

    Parameters
    ----------
    owner : DeliberativeClassifier
        Fitted.
    X : array-like
        Checked input.
    valid : ndarray of bool, shape (sample, output)
        Which options exist.

    Returns
    -------
    Course

    Raises
    ------
    BudgetError
        If the budget does not pay the first stage; nobody was asked.
    """
    start = time.perf_counter()
    n, k = valid.shape
    order, names = owner._order, owner._names
    m = len(names)
    panel = np.full((n, m, k), np.nan)
    asked = np.zeros((n, m), dtype=bool)
    verdict = np.zeros((n, k))
    critiques = np.zeros((n, k, len(owner.critics) if owner.hearings_[-1] is not None else 0))
    stage, cut = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    budget = owner.budget
    limit = None if budget is None else budget.calls
    first = owner._stages[0]
    if limit is not None and n * len(first) > limit:
        raise BudgetError(
            f"{n} samples x {len(first)} specialists of the first stage need {n * len(first)} calls; the budget is "
            f"{limit}. Give fewer samples, a smaller first stage (Escalation), or {n * len(first)} calls."
        )
    views = [critic.look(X, reset=False) for critic in owner._lookers]
    rows = np.arange(n)
    tripped: tuple[int, ...] = ()
    stopped = None
    for s, members in enumerate(owner._stages):
        new = [i for i in members if s == 0 or i not in owner._stages[s - 1]]
        if s > 0:
            goes = (
                owner._goes_on(s - 1, panel[rows][:, order], verdict[rows])
                if len(rows)
                else np.zeros(0, bool)
            )
            rows = rows[goes & (valid[rows].sum(axis=1) > 1)]
            if limit is not None:
                fits = max(0, (limit - int(asked.sum())) // max(len(new), 1))
                cut[rows[fits:]] = True
                stopped = "calls" if len(rows) > fits else stopped
                rows = rows[:fits]
            late = budget is not None and budget.seconds is not None
            if late and time.perf_counter() - start >= budget.seconds and len(rows):
                cut[rows], stopped, rows = True, "seconds", rows[:0]
            if not len(rows):
                break
        if n and new:
            panel[np.ix_(rows, new)] = _ask(owner, X, rows, new, valid)
            asked[np.ix_(rows, new)] = True
        if s == 0:
            tripped = _watch(owner, panel[:, order], valid)
        panel[:, [order[j] for j in tripped]] = np.nan
        stage[rows] = s
        verdict[rows], critiques[rows] = _judge(
            owner, s, tripped, panel[rows][:, order], valid[rows], _taken(views, rows)
        )
    silent = np.isnan(panel).any(axis=2).all(axis=1)
    prior = np.where(valid, np.maximum(owner._prior, 1e-6), 0.0)
    verdict[silent] = (prior / prior.sum(axis=1, keepdims=True))[silent]
    if silent.any():
        warnings.warn(
            f"nobody answered {int(silent.sum())} of {n} samples (first: sample {int(silent.argmax())}); they get "
            "the prior of the training set.",
            FaultWarning,
            stacklevel=4,
        )
    ledger = {
        "calls": int(asked.sum()),
        "by_specialist": dict(zip(names, asked.sum(axis=0).tolist(), strict=True)),
        "seconds": time.perf_counter() - start,
        "stopped_by": stopped,
    }
    told = [names[order[j]] for j in tripped]
    critics = [name for name, _ in owner.critics] if critiques.shape[2] else []
    return Course(panel, verdict, asked, stage, silent, cut, critiques, ledger, critics, told)


def _ask(owner: Any, X: Any, rows: Any, who: list[int], valid: Any) -> NDArray[np.float64]:
    part = X if len(rows) == X.shape[0] else take_rows(X, rows)
    said = Parallel(n_jobs=owner.predict_n_jobs)(delayed(answer_one)(owner._members[i], part) for i in who)
    panel = np.empty((len(rows), len(who), valid.shape[1]))
    absent = np.empty(panel.shape[:2], dtype=bool)
    for place, (i, answers) in enumerate(zip(who, said, strict=True)):
        calibrator = owner.calibrators_[owner._names[i]]
        panel[:, place] = owner._aligned(i, owner._calibrated(answers, calibrator))
        absent[:, place] = answers.absent
    faults = owner._faulty(panel) & ~absent
    panel[owner._faulty(panel)] = np.nan
    if faults.any():
        counts = {owner._names[who[j]]: int(c) for j, c in enumerate(faults.sum(axis=0)) if c}
        warnings.warn(
            f"invalid answers count as abstentions: {counts} of {len(rows)} samples.",
            FaultWarning,
            stacklevel=5,
        )
    return seal(panel, valid[rows])


def _watch(owner: Any, panel: Any, valid: Any) -> tuple[int, ...]:
    """Say which specialists of stage 0 (in the order of names) no longer agree with the others as in fit."""
    if not owner.quarantine or owner._peers is None or owner.hearings_[0] is None:
        return ()
    place = np.argsort(owner._order)
    members = sorted(int(place[i]) for i in owner._stages[0])
    words = proposed_options(panel[:, members], valid=valid)
    memory = owner._memory
    before = owner._peers[members]
    if len(members) < len(place):
        before = peer_agreement(proposed_options(memory.panel[:, members], valid=memory.valid))
    found = quarantine(words, before, n_outputs=valid.shape[1])
    tripped = tuple(members[j] for j in np.flatnonzero(found.tripped))
    if tripped:
        worst = {
            owner._names[owner._order[members[j]]]: round(float(found.change[j]), 3)
            for j in np.flatnonzero(found.tripped)
        }
        warnings.warn(
            f"quarantined, since agreement with the others fell: {worst}. The judge goes on without them.",
            FaultWarning,
            stacklevel=5,
        )
    return tripped


def _judge(owner: Any, s: int, tripped: tuple[int, ...], panel: Any, valid: Any, views: Any) -> Any:
    """Give the verdict of a stage and the scores of its critics."""
    hearing: Hearing | None = owner.hearings_[s]
    if hearing is None:
        odds = log_odds(panel, valid=valid, missing="abstain").mean(axis=1)
        return from_log_odds(odds[:, None, :], valid=valid)[:, 0], np.zeros((*valid.shape, 0))
    if tripped:
        if (s, tripped) not in owner._refits:
            owner._refits[s, tripped] = owner._hearing(owner._stages[s], tripped)
        hearing = owner._refits[s, tripped]
    extra = None if tripped else owner._extra(hearing, panel, valid, views)
    columns = hearing.critique(panel, valid=valid, views=views)
    return hearing.verdict(panel, valid=valid, critiques=columns, extra=extra), columns


def _taken(views: list[Any], rows: Any) -> list[Any]:
    return [None if view is None else view[rows] for view in views]
