"""One course of a deliberation: ask, seal, watch, critique, judge, and ask more where it pays."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from estimators.panel import answer_one, take_rows
from fusion.deliberative.budget import Budget
from fusion.deliberative.transcript import Transcript
from theory import BudgetError, FaultWarning, PanelError

_BLOCKS = 16


@dataclass(eq=False)
class Course:
    """What happened to a batch.

    Attributes
    ----------
    panel : ndarray of shape (sample, specialist, output)
        Sealed proposals, in the order of the specialists' list; NaN rows were not asked, or abstained.
    verdict : ndarray of shape (sample, output)
        The judge's: probabilities, or a number and its predicted standard deviation.
    asked : ndarray of bool, shape (sample, specialist)
        Who was asked.
    stage : ndarray of int, shape (sample,)
        Last stage that spoke.
    silent, cut_short : ndarray of bool, shape (sample,)
        Nobody answered; a budget kept it from the next stage.
    critiques : ndarray of shape (sample, ..., critic)
        Scores of the last hearing's critics.
    ledger : dict
        Calls, seconds, ``stopped_by``.
    critics, quarantined : list of str
        Names.
    records : tuple of int
        Records of the transcript that justify the verdict.
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
    records: tuple[int, ...] = ()

    def report(self) -> dict[str, Any]:
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


def open_record(owner: Any, n: int, path: Any, nonces: Any) -> Transcript:
    """Begin the transcript of a run.

    Parameters
    ----------
    owner : estimator
        Fitted.
    n : int
        Samples.
    path : path or None
        File that is written record by record.
    nonces : Transcript, sequence of str or None
        Of an earlier run that is replayed.

    Returns
    -------
    Transcript
        Where one stage asks everybody, nothing can be revealed before all have committed.
    """
    header = owner._header() | {"n": n, "stages": len(owner._stages)}
    if len(owner._stages) == 1:
        header["agents"] = [owner._names[i] for i in owner._stages[0]]
    return Transcript(header, path, nonces=nonces)


def check_first_stage(owner: Any, n: int) -> None:
    """Refuse samples whose first stage the budget does not pay.

    Parameters
    ----------
    owner : estimator
        Fitted.
    n : int
        Samples.

    Raises
    ------
    BudgetError
        If it does not.
    """
    need = n * len(owner._stages[0])
    if owner.budget is not None and owner.budget.calls is not None and need > owner.budget.calls:
        raise BudgetError(
            f"{n} samples x {len(owner._stages[0])} specialists of the first stage need {need} calls; the budget is "
            f"{owner.budget.calls}. Give fewer samples, a smaller first stage (Escalation), or {need} calls."
        )


def run_course(owner: Any, X: Any, valid: NDArray[np.bool_], log: Transcript | None = None) -> Course:
    """Deliberate about a batch.

    Parameters
    ----------
    owner : estimator
        Fitted; it gives ``_stages`` and ``_order``, and seals, watches, hears and lets samples go on.
    X : array-like
        Checked input.
    valid : ndarray of bool, shape (sample, output)
        Which options exist.
    log : Transcript, optional
        Written as the run goes: who proposes commits before a critic or the judge sees anything.

    Returns
    -------
    Course

    Raises
    ------
    BudgetError
        If the budget does not pay the first stage; nobody was asked.

    Notes
    -----
    The first stage is asked whatever time it takes. Of a later one the samples are asked in blocks, each only if one
    as long as the slowest so far still fits: seconds are exceeded by the first block of a stage at most.
    """
    start = time.perf_counter()
    n, k = valid.shape
    order, names, budget = owner._order, owner._names, owner.budget
    panel = np.full((n, len(names), k), np.nan)
    asked = np.zeros((n, len(names)), dtype=bool)
    verdict, critiques = owner._blank(n)
    stage, cut = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    limit = None if budget is None else budget.calls
    first = owner._stages[0]
    check_first_stage(owner, n)
    views = owner._views(X)
    rows = np.arange(n)
    tripped: tuple[int, ...] = ()
    stopped = None
    critics = owner._critic_names()
    cites: list[int] = []
    for s, members in enumerate(owner._stages):
        new = [i for i in members if s == 0 or i not in owner._stages[s - 1]]
        if s > 0 and len(rows):
            rows = rows[owner._goes_on(s - 1, panel[rows][:, order], verdict[rows], valid[rows])]
            if limit is not None:
                fits = max(0, (limit - int(asked.sum())) // max(len(new), 1))
                cut[rows[fits:]] = True
                stopped = "calls" if len(rows) > fits else stopped
                rows = rows[:fits]
            late = budget is not None and budget.seconds is not None
            if late and time.perf_counter() - start >= budget.seconds and len(rows):
                cut[rows], stopped, rows = True, "seconds", rows[:0]
        if s > 0 and not len(rows):
            break
        if n and new:
            until = None if s == 0 or budget is None or budget.seconds is None else start + budget.seconds
            said = _ask_until(owner, X, rows, new, valid, until)
            if len(said) < len(rows):
                cut[rows[len(said) :]], stopped, rows = True, "seconds", rows[: len(said)]
            panel[np.ix_(rows, new)] = said
            asked[np.ix_(rows, new)] = True
        seals = {} if log is None else _commit(log, s, names, new, panel, rows)
        if s == 0:
            tripped = owner._watch(panel[:, order], valid)
        out = [order[j] for j in tripped]
        panel[:, out] = np.nan
        if log is not None:
            cites += _reveal(log, s, names, seals, [i for i in new if i in out], len(rows))
        stage[rows] = s
        taken = [None if view is None else view[rows] for view in views]
        verdict[rows], critiques[rows] = owner._hear(s, tripped, panel[rows][:, order], valid[rows], taken)
        if log is not None:
            cites += [
                log.record(
                    round=s, agent=name, role="critic", action="critique", cites=cites,
                    arrays={"scores": critiques[rows][..., c], **_about(s, rows)},
                )
                for c, name in enumerate(critics)
            ]  # fmt: skip
    silent = np.isnan(panel).any(axis=2).all(axis=1) & bool(first)
    verdict[silent] = owner._silence(valid)[silent]
    if silent.any():
        warnings.warn(
            f"nobody answered {int(silent.sum())} of {n} samples (first: sample {int(silent.argmax())}); they get "
            "the prior of the training set.",
            FaultWarning,
            stacklevel=4,
        )
    if log is not None:
        payload = {"stopped_by": stopped, "escalated": int((stage > 0).sum())}
        cites.append(
            log.record(
                round=int(stage.max(initial=0)), agent="judge", role="adjudicator", action="adjudicate",
                payload=payload, cites=cites, arrays={"verdict": verdict},
            )
        )  # fmt: skip
    ledger = {
        "calls": int(asked.sum()),
        "by_specialist": dict(zip(names, asked.sum(axis=0).tolist(), strict=True)),
        "seconds": time.perf_counter() - start,
        "stopped_by": stopped,
    }
    told = [names[order[j]] for j in tripped]
    return Course(panel, verdict, asked, stage, silent, cut, critiques, ledger, critics, told, tuple(cites))


def _ask_until(owner: Any, X: Any, rows: Any, who: list[int], valid: Any, until: float | None) -> Any:
    """Ask about as many samples, from the first, as there is time for."""
    if until is None:
        return _ask(owner, X, rows, who, valid)
    said: list[Any] = []
    slowest = 0.0
    for block in np.array_split(rows, min(_BLOCKS, len(rows))):
        begun = time.perf_counter()
        if said and begun + slowest > until:
            break
        said.append(_ask(owner, X, block, who, valid))
        slowest = max(slowest, time.perf_counter() - begun)
    return np.concatenate(said)


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
    return np.asarray(owner._sealed(panel, valid[rows]))


def _commit(
    log: Transcript, s: int, names: list[str], new: list[int], panel: Any, rows: Any
) -> dict[int, int]:
    """Fix what each says in this stage, before the watch, a critic or the judge has seen it."""
    return {
        i: log.commit(round=s, agent=names[i], arrays={"proposal": panel[rows, i], **_about(s, rows)})
        for i in new
    }


def _about(s: int, rows: Any) -> dict[str, Any]:
    """Say which samples the arrays of a later stage are about."""
    return {} if s == 0 else {"samples": rows}


def _reveal(
    log: Transcript, s: int, names: list[str], seals: dict[int, int], out: list[int], n: int
) -> list[int]:
    shown = {i: log.reveal(seq, cost={"calls": n}) for i, seq in seals.items()}
    for i in out:
        log.record(round=s, agent=names[i], role="watch", action="abstain", cites=[shown[i]])
    return list(shown.values())
