"""Protocols in text: language models propose, argue, criticise, revise and are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.chat.judging import judge_blind
from estimators.chat.room import Room, Said, TextItem, material, spent
from estimators.chat.schemas import letters
from estimators.chat.turns import argue, critique, inquire, proposed, revise, shared, told_critiques
from fusion.deliberative import Budget, Ledger, Protocol, Transcript, confidence_weight
from fusion.deliberative import protocol as preset
from theory import BudgetError, PanelError

ROUNDS = {
    "self_consistency": 0,
    "consultancy": 3,
    "debate": 3,
    "interactive_debate": 3,
    "reconcile": 3,
    "mixture_of_agents": 3,
    "critique_revise": 1,
}
_JUDGED = ("consultancy", "debate", "interactive_debate", "mixture_of_agents", "critique_revise")
_AGENTS = {
    "self_consistency": (1, 1),
    "consultancy": (1, 1),
    "debate": (2, 2),
    "interactive_debate": (2, 2),
    "reconcile": (3, None),
}


@dataclass(frozen=True)
class TextRun:
    """What came of a deliberation in text.

    Attributes
    ----------
    proba : ndarray of float64, shape (item, option)
        Verdicts; 0 at options that a question does not have, NaN rows where nobody answered.
    reasons : list of str or None
        Why the protocol's own end abstained, by item; ``proba`` is then the plurality of what was said.
    proposals : ndarray of float64, shape (item, specialist, option)
        Sealed proposals; NaN rows for abstentions.
    last : ndarray of float64, shape (item, specialist, option)
        The same after the last round.
    abstentions : list of list of (str or None)
        Reasons by item and agent of round 0.
    confidence : ndarray of float64, shape (item, specialist)
        As stated, of the sealed proposals: a feature for critics.
    position_bias : ndarray of float64, shape (item,)
        Of the judge, as in :func:`estimators.chat.judging.average_orders`; NaN without one.
    ledger : Ledger
        What was used; ``ledger.stopped_by`` says which limit ended it, if one did.
    transcript : Transcript
        Record of all that was said.
    """

    proba: NDArray[np.float64]
    reasons: list[str | None]
    proposals: NDArray[np.float64]
    last: NDArray[np.float64]
    abstentions: list[list[str | None]]
    confidence: NDArray[np.float64]
    position_bias: NDArray[np.float64]
    ledger: Ledger
    transcript: Transcript

    def gains(self, truth: Any) -> dict[str, float | None]:
        """Compare the verdict with what the sealed proposals give without any exchange.

        Parameters
        ----------
        truth : array-like of int, shape (item,)
            Right options.

        Returns
        -------
        dict
            accuracy, plurality and best_single of the sealed proposals (chosen with the truth: a high bar),
            the gain over both, coverage, position_bias, and calls per right answer. An abstention is not right.

        Raises
        ------
        PanelError
            If truth is not one option number for each item.
        """
        right = np.asarray(truth)
        if right.shape != (len(self.proba),) or right.dtype.kind not in "iu":
            raise PanelError(f"truth must be {len(self.proba)} option numbers; got shape {right.shape}.")
        rows = np.arange(len(right))
        accuracy = float(_share_of_top(self.proba)[rows, right].mean())
        plurality = float(_share_of_top(_plurality(self.proposals))[rows, right].mean())
        single = float(np.nan_to_num(self.proposals[rows, :, right]).mean(axis=0).max())
        bias = self.position_bias[~np.isnan(self.position_bias)]
        calls = self.ledger.totals().calls
        return {
            "accuracy": accuracy,
            "plurality": plurality,
            "best_single": single,
            "gain_over_plurality": accuracy - plurality,
            "gain_over_best_single": accuracy - single,
            "coverage": float(1.0 - np.isnan(self.proba[:, 0]).mean()),
            "position_bias": float(bias.mean()) if len(bias) else None,
            "calls_per_right": calls / (accuracy * len(right)) if accuracy else None,
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
        Who speaks. The same client under several names is one model sampled several times.
    protocol : str or fusion.deliberative.Protocol
        Of a Protocol its name and rounds are used, and one that changes anything else of the preset is refused; of
        stop rules text knows those of its presets and the budget.
        ``"self_consistency"``: one agent ``n_samples`` times, plurality; the baseline at equal calls.
        ``"consultancy"``: one agent argues for an option that is right with probability 1/2; needs ``truth``.
        ``"debate"``: two agents argue at once for two options; in ``"interactive_debate"`` the judge asks between
        the rounds. ``"reconcile"``: a round table of three or more
        that see grouped answers until they agree. ``"mixture_of_agents"``: layers; the judge aggregates.
        ``"critique_revise"``: sealed proposals, critiques, revisions that need a verified critique, a judge.
    judge : ChatSpecialist or ChatClient, optional
        Who judges or aggregates, in all cyclic orders of the options; it never proposes.
    rounds : int, optional
        Rounds of exchange, 0 to 8; by protocol 0, 3, 3, 3, 3, 3, 1.
    budget : Budget or Ledger, optional
        Hard limits.
    transcript : Transcript, optional
        Where to record; made in memory by default. For a replay give one with ``nonces`` of the first run.
    truth : array-like of int, optional
        Right options, for evaluation: consultancy assigns them or others, debate sets them against others.
    n_samples : int
        Of self-consistency.
    word_limit : int
        Words of an argument.
    max_concurrency : int
        Questions at a time, 2 or more.
    random_state : int
        Orders of options, assigned options.

    Returns
    -------
    TextRun

    Raises
    ------
    PanelError
        If the protocol is unknown, agents or judge do not fit it, or truth is missing.
    BudgetError
        If the limit on calls does not allow round 0.

    Notes
    -----
    Each reader sees options under blind letters in an order of its own. What others wrote reaches a decision
    through validated fields only: answers, verdicts, probabilities, and quotes that stand in the source. What
    cannot be had within the budget or from the endpoints is an abstention with a reason; where the judge
    abstains, the verdict is the plurality of what was said, and ``reasons`` says why.

    Examples
    --------
    >>> from estimators.chat import ChatClient, TextItem, deliberate_text
    >>> agents = {"a": ChatClient("http://127.0.0.1:1/v1", "m", retries=0)}
    >>> run = deliberate_text([TextItem("2 + 2?", ("3", "4"))], agents, protocol="self_consistency", n_samples=2)
    >>> run.reasons, run.abstentions
    (['connection'], [['connection', 'connection']])
    """
    clients = {name: _client(agent) for name, agent in agents.items()}
    if isinstance(protocol, Protocol):
        rounds = protocol.rounds if rounds is None else rounds
        protocol = _named(protocol)
    n_rounds = _check(items, agents, protocol, judge, rounds, truth)
    ledger = budget if isinstance(budget, Ledger) else Ledger(budget)
    least = len(items) * (n_samples if protocol == "self_consistency" else len(clients))
    lacking = ledger.budget.spare(calls=least)
    if lacking:
        samples = (ledger.budget.calls or 0) // len(items)
        fits = f", or protocol='self_consistency' with n_samples={samples}" if samples else ""
        raise BudgetError(
            f"round 0 of {protocol} needs {least} calls; the budget has {ledger.budget.calls}. "
            f"Ask fewer questions{fits}."
        )
    if protocol == "self_consistency":
        clients = {f"{name}#{k}": client for name, client in clients.items() for k in range(n_samples)}
    speakers = tuple(clients)
    if judge is not None:
        clients["judge"] = _client(judge)
    log = transcript
    if log is None:
        log = Transcript({"protocol": protocol, "rounds": n_rounds, "seed": random_state})
    room = Room(items, clients, ledger=ledger, log=log, max_concurrency=max_concurrency, seed=random_state)
    said, costs = room.propose(speakers, "round 0")
    sealed = room.seal(said, costs)
    plan = _Plan(
        room, speakers, said, sealed, n_rounds, word_limit, truth, np.random.default_rng(random_state)
    )
    last, proba, reasons, bias = getattr(plan, protocol)()
    gone = np.isnan(proba[:, 0])
    proba = np.where(gone[:, None], _plurality(room.votes(last)), proba)
    first = list(said.values())
    told = [[one[i].reason for one in first] for i in range(len(items))]
    for i in np.flatnonzero(gone):
        reasons[i] = reasons[i] or next((reason for reason in told[i] if reason is not None), None)
    stated = [[one[i].confidence for one in first] for i in range(len(items))]
    return TextRun(
        proba,
        reasons,
        room.votes(said),
        room.votes(last),
        told,
        np.array(stated, dtype=np.float64),
        bias,
        ledger,
        log,
    )


@dataclass
class _Plan:
    """One run of one protocol, after its sealed round."""

    room: Room
    speakers: tuple[str, ...]
    said: dict[str, list[Said]]
    sealed: list[int]
    rounds: int
    word_limit: int
    truth: Any
    rng: np.random.Generator

    def self_consistency(self) -> Any:
        return self._ended(self.said, _plurality(self.room.votes(self.said)))

    def consultancy(self) -> Any:
        right = np.asarray(self.truth)
        sides = [
            int(answer) if self.rng.random() < 0.5 else self._other(item, int(answer))
            for item, answer in enumerate(right.tolist())
        ]
        return self._argued({self.speakers[0]: sides})

    def interactive_debate(self) -> Any:
        return self.debate(interactive=True)

    def debate(self, *, interactive: bool = False) -> Any:
        first, second = self.speakers
        sides: dict[str, list[int]] = {first: [], second: []}
        for item in range(len(self.room.items)):
            if self.truth is not None:
                one = int(np.asarray(self.truth)[item])
                pair = [one, self._other(item, one)]
                self.rng.shuffle(pair)
            else:
                there = [self.said[name][item].option for name in self.speakers]
                one = next((option for option in there if option is not None), 0)
                pair = [one, one if there[1] is None else there[1]]
                if pair[0] == pair[1]:  # nobody opposes it: the second is the devil's advocate
                    pair[1] = self._other(item, one)
            sides[first].append(pair[0])
            sides[second].append(pair[1])
        return self._argued(sides, interactive=interactive)

    def reconcile(self) -> Any:
        said, cites = self.said, self.sealed
        for turn in range(1, self.rounds + 1):
            open_ = [item for item in range(len(self.room.items)) if len(proposed(said, item)) > 1]
            if not open_ or not self.room.ledger.start_round():
                break
            said, cites = self._again(self.speakers, said, turn, open_, cites)
        weights = np.array(
            [
                [confidence_weight(np.nan if one.confidence is None else one.confidence) for one in answers]
                for answers in said.values()
            ]
        ).T
        return self._ended(said, _shares(self.room.votes(said), weights))

    def mixture_of_agents(self) -> Any:
        said, cites = self.said, self.sealed
        everything = list(range(len(self.room.items)))
        for turn in range(1, self.rounds):
            if not self.room.ledger.start_round():
                break
            said, cites = self._again(self.speakers, said, turn, everything, cites)
        final, _ = self._again(("judge",), said, self.rounds, everything, cites, role="aggregator")
        proba = _plurality(self.room.votes(final))
        return said, proba, [one.reason for one in final["judge"]], np.full(len(proba), np.nan)

    def critique_revise(self) -> Any:
        said, cites = self.said, list(self.sealed)
        critiques: list[list[dict[str, Any]]] = [[] for _ in self.room.items]
        for turn in range(1, self.rounds + 1):
            if not self.room.ledger.start_round():
                break
            critiques, records = critique(self.room, said, self.speakers, round=turn, cites=cites)
            said, changed = revise(self.room, said, critiques, round=turn, cites=records)
            cites += records + changed

        def brief(item: int, names: dict[int, str]) -> str:  # the judge reads the sealed proposals
            return shared(self.said, item, names) + "\n\n" + told_critiques(critiques[item], names)

        found = judge_blind(self.room, "judge", self.rounds + 1, brief, cites)
        return said, found.proba, found.reasons, found.position_bias

    def _argued(self, sides: dict[str, list[int]], *, interactive: bool = False) -> Any:
        history: list[dict[str, list[str]]] = []
        cites = list(self.sealed)
        questions: list[str] | None = None

        def brief(item: int, names: dict[int, str]) -> str:
            by_letter = sorted(sides, key=lambda name: names[sides[name][item]])  # turns with the options
            lines = [
                f"For {names[sides[name][item]]}: {said[name][item]}"
                for said in history
                for name in by_letter
            ]
            return "Arguments:\n" + material("\n".join(lines) or "none")

        for turn in range(1, self.rounds + 1):
            if not self.room.ledger.start_round():
                break
            limit = self.word_limit
            cites += argue(
                self.room, sides, history, round=turn, word_limit=limit, cites=cites, questions=questions
            )
            if interactive and turn < self.rounds:
                questions, asked = inquire(
                    self.room, "judge", brief, round=turn, word_limit=limit, cites=cites
                )
                cites += asked
        found = judge_blind(self.room, "judge", self.rounds + 1, brief, cites)
        return self.said, found.proba, found.reasons, found.position_bias

    def _again(
        self,
        names: Sequence[str],
        said: dict[str, list[Said]],
        turn: int,
        which: Sequence[int],
        cites: Sequence[int],
        role: str = "proposer",
    ) -> tuple[dict[str, list[Said]], list[int]]:
        more = {}
        for name in names:
            for item in which:
                order = self.room.order(item, name)
                more[item, name] = shared(said, item, dict(zip(order, letters(len(order)), strict=True)))
        new, costs = self.room.propose(names, f"round {turn}", more)
        records = []
        for name, answers in new.items():
            if name in said:  # who does not answer again stays with what it said
                new[name] = [
                    now if now.option is not None else old
                    for now, old in zip(answers, said[name], strict=True)
                ]
            records.append(
                self.room.log.record(
                    round=turn,
                    agent=name,
                    role=role,
                    action="revise" if role == "proposer" else "aggregate",
                    payload=[one.payload() for one in answers],
                    arrays={"revision": self.room.votes({name: new[name]})[:, 0]},
                    cites=cites,
                    **spent(costs[name]),
                )
            )
        return new, records

    def _other(self, item: int, option: int) -> int:
        others = [k for k in range(len(self.room.items[item].options)) if k != option]
        return int(self.rng.choice(others))

    def _ended(self, said: dict[str, list[Said]], proba: NDArray[np.float64]) -> Any:
        n_items = len(self.room.items)
        return said, proba, [None] * n_items, np.full(n_items, np.nan)


def _client(agent: Any) -> Any:
    return agent.client() if hasattr(agent, "client") else agent


def _named(plan: Protocol) -> str:
    if plan.name in ROUNDS:
        usual = asdict(preset(plan.name)) | {"rounds": plan.rounds}
        changed = sorted(key for key, value in asdict(plan).items() if key != "stop" and value != usual[key])
        if changed:
            raise PanelError(
                f"in text {plan.name!r} runs as its preset: of a Protocol only rounds can be changed; this one changes "
                f"{changed}. Give the name, rounds= and budget=."
            )
    return plan.name


def _check(items: Any, agents: Any, protocol: str, judge: Any, rounds: int | None, truth: Any) -> int:
    if protocol not in ROUNDS:
        raise PanelError(f"protocol must be one of {tuple(ROUNDS)}; got {protocol!r}.")
    if not items:
        raise PanelError("there is nothing to deliberate about: items is empty.")
    least, most = _AGENTS.get(protocol, (2, None))
    if len(agents) < least or (most is not None and len(agents) > most):
        wanted = f"{least}" if most == least else f"{least} or more"
        raise PanelError(f"{protocol} needs {wanted} agents; got {len(agents)}.")
    if (judge is not None) != (protocol in _JUDGED):
        raise PanelError(
            f"{protocol} needs judge=." if judge is None else f"{protocol} has no judge; leave judge= out."
        )
    if "judge" in agents or (judge is not None and any(agent is judge for agent in agents.values())):
        raise PanelError("a judge never proposes: give another client as judge=, and no agent that name.")
    if truth is not None or protocol == "consultancy":
        right = np.asarray(-1 if truth is None else truth)
        if right.shape != (len(items),) or right.dtype.kind not in "iu":
            raise PanelError(f"{protocol} needs truth, {len(items)} option numbers; got shape {right.shape}.")
    n_rounds = ROUNDS[protocol] if rounds is None else rounds
    if not (isinstance(n_rounds, int) and 0 <= n_rounds <= 8):
        raise PanelError(f"rounds must be 0 to 8; got {rounds!r}.")
    return n_rounds


def _plurality(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    return _shares(votes, np.ones(votes.shape[:2]))


def _shares(votes: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    mass = (np.nan_to_num(votes) * weights[:, :, None]).sum(axis=1)
    total = mass.sum(axis=1, keepdims=True)
    return np.where(total > 0, mass / np.where(total > 0, total, 1.0), np.nan)


def _share_of_top(proba: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share ties evenly; a row of NaN has no top."""
    top = np.nan_to_num(proba) >= np.nanmax(np.nan_to_num(proba, nan=-1.0), axis=1, keepdims=True) - 1e-12
    top &= ~np.isnan(proba)
    return top / np.maximum(top.sum(axis=1, keepdims=True), 1)
