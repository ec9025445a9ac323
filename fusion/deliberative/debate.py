"""Rounds of talk over callables: sealed proposals, exchange along a topology, stop rules, a decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.deliberative._reading import Bools, Floats
from fusion.deliberative.critics import proposed_options
from fusion.deliberative.presets import Protocol, confidence_weight, protocol
from fusion.deliberative.topologies import topology
from theory._exceptions import BudgetError, PanelError


@dataclass(frozen=True, eq=False)
class Heard:
    """What one proposer hears in a round.

    Attributes
    ----------
    round : int
        From 1.
    own : ndarray of shape (sample, output)
        Its own last proposal.
    peers : ndarray of shape (sample, specialist, output)
        Last proposals, NaN for those it does not hear; with ``share="summary"`` one row, their mean.
    weights : ndarray of shape (specialist,)
        How far it is to hear each.
    """

    round: int
    own: Floats
    peers: Floats
    weights: Floats


Proposer = Callable[[NDArray[np.intp], Heard | None], Any]
Judge = Callable[[NDArray[np.intp], Floats, Floats], Any]


@dataclass(frozen=True, eq=False)
class Deliberation:
    """The course of a deliberation.

    Attributes
    ----------
    fused : ndarray of shape (sample, output)
        The decision.
    panels : ndarray of shape (round, sample, specialist, output)
        Proposals, round 0 sealed; samples that stopped keep their last ones.
    rounds : ndarray of int, shape (sample,)
        Rounds held after round 0.
    stopped_by : ndarray of str, shape (sample,)
        Which rule ended it.
    calls : int
        Calls of proposers and judge, one per sample each.
    order_effect : float
        Mean absolute difference between the judge's probabilities in both orders; NaN if there was one.
    """

    fused: Floats
    panels: Floats
    rounds: NDArray[np.int64]
    stopped_by: NDArray[np.str_]
    calls: int
    order_effect: float


def deliberate(
    proposers: Sequence[Proposer],
    n_samples: int,
    n_outputs: int,
    *,
    how: Protocol | str = "critique_revise",
    judge: Judge | None = None,
    layers: Sequence[int] | None = None,
    vote_weights: Any = None,
    evidence: Callable[[int, Floats], Any] | None = None,
    gain: Callable[[Floats], Any] | None = None,
    price: float = 0.0,
    max_calls: int | None = None,
    transcript: Any = None,
) -> Deliberation:
    """Run a protocol over proposers that are plain functions.

    Parameters
    ----------
    proposers : sequence of callables
        ``f(samples, heard)`` gives probabilities (sample, output) for the sample numbers asked about; NaN rows
        abstain. In round 0 ``heard`` is None.
    n_samples, n_outputs : int
        Size of the task.
    how : Protocol or str, default "critique_revise"
        The protocol, or its name.
    judge : callable, optional
        ``judge(samples, sealed, last)`` gives probabilities (sample, output); needed where a judge decides. It
        always gets the sealed proposals. With two orders it is asked again with the options reversed.
    layers : sequence of int, optional
        Sizes of the layers of a layered topology.
    vote_weights : array-like of shape (specialist,), optional
        Of votes and quorum, such as max(R^-1 1, 0); equal by default.
    evidence : callable, optional
        For "no_evidence": ``evidence(round, panel)`` gives for each of the samples still active (first axis of
        panel) how many new verified pieces came up.
    gain : callable, optional
        For "price": expected gain of another round, for the panel of the samples still active.
    price : float, default 0.0
        Of a round.
    max_calls : int, optional
        Never exceeded: another round is held for as many samples as it pays.
    transcript : Transcript, optional
        Commits to all proposals of round 0 before any is shared, and records every round.

    Returns
    -------
    Deliberation

    Raises
    ------
    BudgetError
        If round 0 and the judge cannot be paid; nobody was called.
    PanelError
        If a proposer's answer has another shape or is no probability, or a stop rule lacks its callable.

    Notes
    -----
    NaN rows are abstentions, count in no vote, and pass no quorum. Plurality ties are shared evenly.

    References
    ----------
    Khan et al. (2024), Debating with more persuasive LLMs leads to more truthful answers, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> one = lambda samples, heard: np.tile([0.9, 0.1], (len(samples), 1))
    >>> two = lambda samples, heard: np.tile([0.4, 0.6], (len(samples), 1)) if heard is None else heard.peers[:, 0]
    >>> found = deliberate([one, two, two], 3, 2, how="reconcile")
    >>> found.fused[0].round(2).tolist(), found.stopped_by.tolist()
    ([1.0, 0.0], ['unanimity', 'unanimity', 'unanimity'])
    """
    plan = protocol(how) if isinstance(how, str) else how
    members = list(proposers)[: plan.n_proposers] if plan.n_proposers is not None else list(proposers)
    m = len(members)
    judged = plan.aggregate in ("judge", "adjudicator")
    if judged != (judge is not None):
        raise PanelError(
            f"protocol {plan.name!r} ends in {plan.aggregate!r}: {'pass' if judged else 'leave out'} judge="
            f"{'a callable' if judged else 'None'}."
        )
    if plan.aggregate in ("median", "surprisingly_popular"):
        raise PanelError(
            f"protocol {plan.name!r} has a function of its own: fusion.deliberative.{plan.name}."
        )
    for rule, needs in (("no_evidence", evidence), ("price", gain)):
        if rule in plan.stop and needs is None and plan.rounds:
            raise PanelError(
                f"stop rule {rule!r} needs the callable that measures it: pass it, or dataclasses.replace(how, stop=...)."
            )
    reading = plan.orders * judged * n_samples
    least = m * n_samples + reading
    if max_calls is not None and least > max_calls:
        raise BudgetError(
            f"{plan.name!r} needs {least} calls for round 0 and the judge; max_calls is {max_calls}. "
            f"Give {least}, or use 'self_consistency' with fewer proposers."
        )
    every = np.arange(n_samples)
    now = np.full((n_samples, m, n_outputs), np.nan)
    for i, member in enumerate(members):
        now[:, i] = _answer(member(every, None), n_samples, n_outputs, i)
    calls = m * n_samples
    if transcript is not None:
        _seal(transcript, now)
    weights = _weights(vote_weights, m)
    w = topology(plan.topology, m, layers=layers) if m > 1 else np.zeros((m, m))
    panels, rounds = [now], np.zeros(n_samples, dtype=np.int64)
    stopped = np.full(n_samples, "rounds", dtype="<U12")
    active, calm = every.copy(), np.zeros(n_samples, dtype=np.int64)
    for turn in range(1, plan.rounds + 1):
        active = _still(plan, active, now, weights, calm, stopped)
        if "no_evidence" in plan.stop and evidence is not None and turn > 1:
            active = _leave(active, np.asarray(evidence(turn - 1, now[active])) <= 0, stopped, "no_evidence")
        if "price" in plan.stop and gain is not None:
            active = _leave(active, np.asarray(gain(now[active])) < price, stopped, "price")
        speakers = [i for i in range(m) if w[i].any()] if m > 1 else [0]
        if max_calls is not None:
            fits = max(0, (max_calls - calls - reading) // max(len(speakers), 1))
            active = _leave(active, np.arange(len(active)) >= fits, stopped, "budget")
        if not len(active) or not speakers:
            break
        new = now.copy()
        for i in speakers:
            new[active, i] = _answer(
                members[i](active, _heard(plan, turn, now[active], w, i)), len(active), n_outputs, i
            )
        calls += len(active) * len(speakers)
        moved = 0.5 * np.abs(_shares(new, weights) - _shares(now, weights)).sum(axis=1)
        calm = np.where(moved < plan.tolerance, calm + 1, 0)
        now = new
        rounds[active] = turn
        panels.append(now)
        if transcript is not None:
            transcript.record(
                round=turn, agent="panel", role="proposer", action="revise", arrays={"panel": now}
            )
    effect = float("nan")
    if judge is not None:
        fused = _answer(judge(every, panels[0], now), n_samples, n_outputs, m)
        if plan.orders == 2:
            back = judge(every, panels[0][..., ::-1], now[..., ::-1])
            other = _answer(back, n_samples, n_outputs, m)[:, ::-1]
            effect = float(np.abs(fused - other).mean())
            fused = 0.5 * (fused + other)
    elif plan.aggregate == "confidence":
        stated = np.nan_to_num(now.max(axis=2, initial=0.0, where=~np.isnan(now)))
        fused = _shares(now, np.vectorize(confidence_weight, otypes=[float])(np.minimum(stated, 1.0)))
    else:
        fused = _shares(now, weights)
    if transcript is not None:
        transcript.record(
            round=int(rounds.max(initial=0)), agent="judge" if judged else "vote", role="adjudicator",
            action="adjudicate", arrays={"verdict": fused},
        )  # fmt: skip
    return Deliberation(fused, np.stack(panels), rounds, stopped, calls + reading, effect)


def _answer(said: Any, n: int, k: int, i: int) -> Floats:
    values = np.asarray(said, dtype=np.float64)
    if values.shape != (n, k):
        raise PanelError(f"speaker {i} gave shape {values.shape}; needed (sample, output) = {(n, k)}.")
    gone = np.isnan(values).all(axis=1)
    whole = values[~gone]
    if not (np.abs(whole.sum(axis=1) - 1.0) <= 1e-6).all() or not (whole >= 0.0).all():
        raise PanelError(
            f"speaker {i} gave rows that are no probabilities. Normalise them, or abstain with NaN."
        )
    return values


def _seal(transcript: Any, panel: Floats) -> None:
    seals = [
        transcript.commit(round=0, agent=str(i), arrays={"proposal": panel[:, i]})
        for i in range(panel.shape[1])
    ]
    for seal in seals:
        transcript.reveal(seal)


def _weights(given: Any, m: int) -> Floats:
    if given is None:
        return np.full(m, 1.0 / max(m, 1))
    values = np.asarray(given, dtype=np.float64)
    if values.shape != (m,) or not np.isfinite(values).all() or (values < 0.0).any() or not values.any():
        raise PanelError(f"vote_weights must be {m} finite numbers >= 0, not all 0; got {values!r}.")
    return np.asarray(values / values.sum())


def _shares(panel: Floats, weights: Floats) -> Floats:
    words = proposed_options(panel) if panel.shape[1] else np.zeros(panel.shape[:2], dtype=np.int64)
    stands = words[:, :, None] == np.arange(panel.shape[2])
    votes = np.where(stands, np.broadcast_to(weights, words.shape)[:, :, None], 0.0).sum(axis=1)
    total = votes.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0.0, votes / np.where(total > 0.0, total, 1.0), 1.0 / panel.shape[2]))


def _still(
    plan: Protocol, active: NDArray[np.intp], now: Floats, weights: Floats, calm: Any, stopped: Any
) -> NDArray[np.intp]:
    if "unanimity" in plan.stop:
        words = proposed_options(now[active])
        agreed = (words == words[:, :1]).all(axis=1) & (words[:, 0] >= 0)
        active = _leave(active, agreed, stopped, "unanimity")
    if "quorum" in plan.stop:
        words = proposed_options(now[active])
        votes = ((words[:, :, None] == np.arange(now.shape[2])) * weights[:, None]).sum(axis=1)
        active = _leave(active, votes.max(axis=1) >= plan.quorum, stopped, "quorum")
    if "stable" in plan.stop:
        active = _leave(active, calm[active] >= 2, stopped, "stable")
    return active


def _leave(active: NDArray[np.intp], done: Bools, stopped: Any, why: str) -> NDArray[np.intp]:
    stopped[active[done]] = why
    return active[~done]


def _heard(plan: Protocol, turn: int, now: Floats, w: Floats, i: int) -> Heard:
    weights = w[i]
    peers = np.where((weights > 0.0)[None, :, None], now, np.nan)
    if plan.share == "summary":
        known = ~np.isnan(peers).any(axis=2, keepdims=True) & (weights > 0.0)[None, :, None]
        count = np.maximum(known.sum(axis=1, keepdims=True), 1)
        peers = np.where(known, np.nan_to_num(peers), 0.0).sum(axis=1, keepdims=True) / count
    return Heard(turn, now[:, i].copy(), peers, weights.copy())
