"""Protocols in text: language models propose, argue, criticise, revise and are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.chat.client import ChatClient
from estimators.chat.plans import Plan
from estimators.chat.room import Room, TextItem
from estimators.chat.specialist import ChatSpecialist
from estimators.chat.stopping import Stops, check_stops, plurality
from estimators.chat.text_run import TextRun, read_truth
from fusion.deliberative import Budget, Ledger, Protocol, Transcript, protocol_names
from fusion.deliberative import protocol as preset
from theory import BudgetError, PanelError

# Agents that a protocol needs: at least, and at most. Two or more where it is not named.
_AGENTS: dict[str, tuple[int, int | None]] = {
    "naive": (0, 0),
    "expert_judge": (0, 0),
    "self_consistency": (1, 1),
    "consultancy": (1, 1),
    "debate": (2, 2),
    "interactive_debate": (2, 2),
    "reconcile": (3, None),
    "delphi": (3, None),
    "surprisingly_popular": (3, None),
}


def deliberate_text(
    items: Sequence[TextItem],
    agents: Mapping[str, Any],
    *,
    protocol: str | Protocol = "critique_revise",
    judge: Any = None,
    rounds: int | None = None,
    budget: Budget | Ledger | None = None,
    transcript: Transcript | None = None,
    truth: Any = None,
    gain: Callable[[NDArray[np.float64]], Any] | None = None,
    price: float = 0.0,
    vote_weights: Mapping[str, float] | None = None,
    n_samples: int = 5,
    word_limit: int = 150,
    max_concurrency: int = 8,
    random_state: int = 0,
) -> TextRun:
    """Let language models deliberate about questions.

    Parameters
    ----------
    items : sequence of TextItem
        Questions with options.
    agents : mapping of str to ChatSpecialist or ChatClient
        Who speaks. The same client under several names is one model sampled several times. A budget of a
        specialist's own is refused unless it is that of the run.
    protocol : str or fusion.deliberative.Protocol
        Any of :func:`fusion.deliberative.protocol_names`. Of a Protocol rounds, stop, tolerance and quorum can be
        changed; one that changes anything else of the preset is refused.
        ``"naive"`` and ``"expert_judge"``: the judge alone, without and with the source: floor and ceiling.
        ``"self_consistency"``: one agent ``n_samples`` times, plurality; the baseline at equal calls.
        ``"surprisingly_popular"``: sealed answers with predictions of the answers of others.
        ``"consultancy"``: one agent argues for an option that is right with probability 1/2; needs ``truth``.
        ``"debate"``: two agents argue at once for two options; in ``"interactive_debate"`` the judge asks between
        the rounds. Their judge does not see the source, only what is quoted of it.
        ``"reconcile"``: a round table of three or more that see grouped answers and reasons until they agree.
        ``"delphi"``: they see how all answered, without names, and why some stand apart, until the answers rest;
        plurality, since options have no median. ``"mixture_of_agents"``: layers; the judge aggregates.
        ``"critique_revise"``: sealed proposals, critiques, revisions that need a verified critique, a judge.
    judge : ChatSpecialist or ChatClient, optional
        Who judges or aggregates, in all cyclic orders of the options; it never proposes.
    rounds : int, optional
        Rounds of exchange, 0 to 8; those of the preset by default.
    budget : Budget or Ledger, optional
        Hard limits.
    transcript : Transcript, optional
        Where to record; made in memory by default. For a replay give one with ``nonces`` of the first run.
    truth : array-like of int, optional
        Right options, for evaluation: consultancy assigns them or others, debate sets them against others, and
        :meth:`TextRun.gains` compares with them.
    gain : callable, optional
        For the stop rule "price": gets answers (item, specialist, option) of the items still active and gives
        the gain that is expected of another round, by item.
    price : float
        Of a round, in the unit of ``gain``.
    vote_weights : mapping of str to float, optional
        Of the agents' votes for the stop rule "quorum", such as max(R^-1 1, 0) for an error correlation R: clones
        are then no quorum. Equal by default.
    n_samples : int
        Of self-consistency.
    word_limit : int
        Words of an argument.
    max_concurrency : int
        Questions at a time.
    random_state : int
        Orders of options, assigned options.

    Returns
    -------
    TextRun

    Raises
    ------
    PanelError
        If the protocol is unknown, agents, judge, stop rules or transcript do not fit it, or truth is missing.
    BudgetError
        If the limit on calls does not allow round 0.

    Notes
    -----
    Each reader sees options under blind letters in an order of its own. Decisions are made of validated fields
    only: answers, verdicts, probabilities, quotes that stand in the source. Claims and arguments of others are
    shown to readers, cut, on one line and fenced as material: they can persuade one, and set no number. What
    cannot be had within the budget or from the endpoints is an abstention with a reason; where the judge
    abstains, the verdict is the plurality of what was said, and ``reasons`` says why.

    All proposals are committed before one is revealed or shared. Every question to a model leaves a record once
    it and those before it are answered, so a run that is killed leaves a prefix that verifies, and a cassette in
    mode "record" answers what had been asked. A replay gives the same bits under the same limits on calls and
    rounds; what a limit on time cut off depends on the time.

    It may be called where an event loop runs, which stands still meanwhile; there,
    ``await asyncio.to_thread(deliberate_text, ...)`` lets it go on.

    Examples
    --------
    >>> from estimators.chat import ChatClient, TextItem, deliberate_text
    >>> agents = {"a": ChatClient("http://127.0.0.1:1/v1", "m", retries=0)}
    >>> run = deliberate_text([TextItem("2 + 2?", ("3", "4"))], agents, protocol="self_consistency", n_samples=2)
    >>> run.reasons, run.abstentions
    (['connection'], [['connection', 'connection']])
    """
    plan = _read_protocol(protocol, rounds)
    for name, number in (
        ("n_samples", n_samples),
        ("word_limit", word_limit),
        ("max_concurrency", max_concurrency),
    ):
        if not (isinstance(number, int) and number >= 1):
            raise PanelError(f"{name} must be a whole number >= 1; got {number!r}.")
    check_stops(plan, gain, vote_weights, agents)
    right = _check(items, agents, plan, judge, truth)
    clients = {name: _client(name, agent, budget) for name, agent in agents.items()}
    if plan.name == "self_consistency":
        clients = {f"{name}#{k}": client for name, client in clients.items() for k in range(n_samples)}
    speakers = tuple(clients)
    reading = sum(len(item.options) for item in items) if judge is not None else 0
    ledger = budget if isinstance(budget, Ledger) else Ledger(budget)
    _check_budget(ledger, plan, len(items), len(speakers), reading)
    _check_log(transcript, speakers)
    if judge is not None:
        clients["judge"] = _client("judge", judge, budget)
    log = transcript
    if log is None:
        header = {"protocol": plan.name, "rounds": plan.rounds, "stop": list(plan.stop), "seed": random_state}
        log = Transcript({**header, "agents": list(speakers)})
    room = Room(items, clients, ledger=ledger, log=log, max_concurrency=max_concurrency, seed=random_state)
    stops = Stops(room, plan, reading=reading, gain=gain, price=price, weights=vote_weights)
    said, sealed = room.seal(speakers, predict=plan.name == "surprisingly_popular")
    stops.hear(said)
    rng = np.random.default_rng(random_state)
    ended = getattr(Plan(room, stops, said, sealed, plan.rounds, word_limit, right, rng), plan.name)()
    gone = np.isnan(ended.proba[:, 0])
    reasons = list(ended.reasons)
    told = [[answers[i].reason for answers in said.values()] for i in range(len(items))]
    for i in np.flatnonzero(gone):
        reasons[i] = reasons[i] or next((reason for reason in told[i] if reason is not None), None)
    proba = np.where(gone[:, None], plurality(room.votes(ended.last)), ended.proba)
    log.record(
        round=plan.rounds + 1,
        agent="protocol",
        role="facilitator",
        action="decide",
        payload=[
            {
                "item": i,
                "decision": None if np.isnan(row[0]) else row[: len(items[i].options)].tolist(),
                "reason": reasons[i],
                "stopped by": stops.stopped_by[i],
            }
            for i, row in enumerate(proba)
        ],
        arrays={"decision": proba},
        cites=ended.cites,
    )
    stated = [[answers[i].confidence for answers in said.values()] for i in range(len(items))]
    return TextRun(
        proba=proba,
        reasons=reasons,
        agents=speakers,
        proposals=room.votes(said),
        last=room.votes(ended.last),
        abstentions=told,
        confidence=np.array(stated, dtype=np.float64),
        position_bias=ended.position_bias,
        rounds=np.array(stops.rounds),
        stopped_by=stops.stopped_by,
        n_options=np.array([len(item.options) for item in items]),
        truth=right,
        ledger=ledger,
        transcript=log,
    )


def _client(name: str, agent: Any, budget: Budget | Ledger | None) -> ChatClient:
    own = getattr(agent, "budget", None)
    if own is not None and own is not budget:
        raise PanelError(
            f"agent {name!r} has a budget of its own, which a run does not keep. Give it as budget= of the run, "
            "or set budget=None there."
        )
    client = agent.client() if isinstance(agent, ChatSpecialist) else agent
    if not isinstance(client, ChatClient):
        raise PanelError(
            f"agent {name!r} must be a ChatSpecialist or ChatClient; got {type(agent).__name__}."
        )
    return client


def _read_protocol(given: str | Protocol, rounds: int | None) -> Protocol:
    name = given if isinstance(given, str) else given.name
    if name not in protocol_names():
        way = " Escalation without talk: DeliberativeClassifier(escalation=)." if name == "escalation" else ""
        raise PanelError(f"protocol must be one of {protocol_names()}; got {name!r}.{way}")
    plan, usual = given if isinstance(given, Protocol) else preset(name), asdict(preset(name))
    free = {"rounds", "stop", "tolerance", "quorum"}
    changed = sorted(key for key, value in asdict(plan).items() if key not in free and value != usual[key])
    if changed:
        raise PanelError(
            f"in text {name!r} runs as its preset: of a Protocol only {sorted(free)} can be changed; this one changes "
            f"{changed}."
        )
    if rounds is None:
        return plan
    if not (isinstance(rounds, int) and 0 <= rounds <= 8) or (rounds and plan.share == "nothing"):
        raise PanelError(
            f"rounds must be 0 to 8, and 0 where nothing is shared; got {rounds!r} for {name!r}."
        )
    return replace(plan, rounds=rounds)


def _check(items: Any, agents: Any, plan: Protocol, judge: Any, truth: Any) -> NDArray[np.int64] | None:
    name = plan.name
    if not items:
        raise PanelError("there is nothing to deliberate about: items is empty.")
    for item in items:
        if not isinstance(item, TextItem):
            raise PanelError(f"items must be TextItem(question, options); got {type(item).__name__}.")
    least, most = _AGENTS.get(name, (2, None))
    if len(agents) < least or (most is not None and len(agents) > most):
        wanted = f"{least}" if most == least else f"{least} or more"
        raise PanelError(f"{name} needs {wanted} agents; got {len(agents)}.")
    if (judge is not None) != (plan.aggregate in ("judge", "adjudicator")):
        raise PanelError(
            f"{name} needs judge=." if judge is None else f"{name} has no judge; leave judge= out."
        )
    if "protocol" in agents:
        raise PanelError("no agent may be called 'protocol': records of the protocol itself have that name.")
    if "judge" in agents or (judge is not None and any(agent is judge for agent in agents.values())):
        raise PanelError("a judge never proposes: give another client as judge=, and no agent that name.")
    if truth is None and name != "consultancy":
        return None
    return read_truth(name, truth, [len(item.options) for item in items])


def _check_log(log: Transcript | None, speakers: Sequence[str]) -> None:
    """Refuse a transcript that round 0 could not be sealed in, before anything is asked."""
    if log is None:
        return
    if any(record["round"] == 0 and record["action"] in ("commit", "reveal") for record in log.records):
        raise PanelError("the transcript holds a sealed round already. Give a new one for each run.")
    absent = sorted({*log.header.get("agents", ())} - {*speakers})
    if absent:
        raise PanelError(
            f"the transcript's header names agents {absent} that propose nothing here; those that do are "
            f"{list(speakers)}."
        )


def _check_budget(ledger: Ledger, plan: Protocol, n_items: int, n_speakers: int, reading: int) -> None:
    """Refuse a limit on calls that does not pay round 0."""
    least, limit = n_items * n_speakers or reading, ledger.budget.calls
    if limit is None:
        return
    left = limit - ledger.totals().calls
    if least <= left:
        return
    samples = left // n_items
    fits = f", or protocol='self_consistency' with n_samples={samples}" if samples else ""
    raise BudgetError(
        f"round 0 of {plan.name} needs {least} calls; the budget has {left}. Ask fewer questions{fits}."
    )
