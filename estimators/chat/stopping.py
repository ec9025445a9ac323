"""When a deliberation in text ends, question by question, and the record of why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.chat.quotes import fold_text
from estimators.chat.room import Room, Said
from fusion.deliberative import Protocol
from theory import PanelError

# What somebody argues for was assigned to him, so the answers say nothing about where an argument stands.
_OF_ANSWERS = ("unanimity", "quorum", "stable")


class Stops:
    """Which questions still need a round, by the rules of a protocol.

    Parameters
    ----------
    room : Room
        Questions, ledger and transcript.
    plan : fusion.deliberative.Protocol
        Its ``stop``, ``tolerance`` and ``quorum``.
    reading : int
        Calls that the judge will need; the rule "budget" keeps them back.
    gain : callable, optional
        For the rule "price": expected gain of another round for answers (item, agent, option).
    price : float
        Of a round.
    weights : mapping of str to float, optional
        Of the agents' votes, for the rule "quorum"; equal by default.

    Attributes
    ----------
    stopped_by : list of str
        By question: a rule, "rounds" at the last round, or "silence" where nobody has answered.
    rounds : list of int
        Rounds held, by question.

    Notes
    -----
    unanimity: all who answered agree. quorum: an option has this share of all votes. stable: the shares moved by
    less than the tolerance, in total variation, twice. no_evidence: the last round brought no verified quote that
    was new. price: the expected gain lies below it. budget: the limits on rounds, seconds, or calls do not allow
    a round; a round is held for as many questions as the calls pay, the judge's readings kept back.
    """

    def __init__(
        self,
        room: Room,
        plan: Protocol,
        *,
        reading: int = 0,
        gain: Callable[[NDArray[np.float64]], Any] | None = None,
        price: float = 0.0,
        weights: Mapping[str, float] | None = None,
    ):
        n = len(room.items)
        self.room, self.plan, self.reading = room, plan, reading
        self.gain, self.price, self.weights = gain, price, weights
        self.active = list(range(n))
        self.stopped_by = ["rounds"] * n
        self.rounds = [0] * n
        self._calm = [0] * n
        self._shares: NDArray[np.float64] | None = None
        self._seen: list[set[str]] = [set() for _ in range(n)]
        self._fresh = [0] * n

    def learn(self, item: int, quotes: Sequence[str]) -> None:
        """Note verified quotes about a question; those that were not there before are evidence."""
        new = {fold_text(quote) for quote in quotes} - self._seen[item]
        self._seen[item] |= new
        self._fresh[item] += len(new)

    def hear(self, said: dict[str, list[Said]]) -> None:
        """Note the verified quotes of answers."""
        for answers in said.values():
            for item, one in enumerate(answers):
                self.learn(item, [reason["quote"] for reason in one.reasons if reason["verified"]])

    def another(
        self, turn: int, said: dict[str, list[Said]], calls: Callable[[int], int], cites: Sequence[int]
    ) -> list[int]:
        """Begin a round.

        Parameters
        ----------
        turn : int
            Its number, from 1.
        said : dict of str to list of Said
            The last answers.
        calls : callable
            Calls that a round needs for a question, at most and without retries.
        cites : sequence of int
            Records of the answers.

        Returns
        -------
        list of int
            Questions that it is held for; empty: there is none.
        """
        shares = plurality(self.room.votes(said))
        before, rules = dict.fromkeys(self.active), self.plan.stop
        if self._shares is not None:
            moved = 0.5 * np.abs(np.nan_to_num(shares) - np.nan_to_num(self._shares)).sum(axis=1)
            for item in self.active:
                self._calm[item] = self._calm[item] + 1 if moved[item] < self.plan.tolerance else 0
        self._shares = shares
        heads = {item: [answers[item].option for answers in said.values()] for item in self.active}
        if not self.plan.opposed:
            self._leave("silence", lambda item: {*heads[item]} == {None})
        if "unanimity" in rules:
            self._leave("unanimity", lambda item: len({*heads[item]} - {None}) == 1)
        if "quorum" in rules:
            lead = self._leads(said)
            self._leave("quorum", lambda item: bool(lead[item] >= self.plan.quorum - 1e-12))
        if "stable" in rules:
            self._leave("stable", lambda item: self._calm[item] >= 2)
        if "no_evidence" in rules and turn > 1:
            self._leave("no_evidence", lambda item: self._fresh[item] == 0)
        if "price" in rules and self.gain is not None and self.active:
            expected = np.asarray(self.gain(self.room.votes(said)[self.active]), dtype=np.float64)
            if expected.shape != (len(self.active),) or not np.isfinite(expected).all():
                raise PanelError(
                    f"gain must give {len(self.active)} finite numbers; got shape {expected.shape}."
                )
            cheap = dict(zip(self.active, expected < self.price, strict=True))
            self._leave("price", lambda item: bool(cheap[item]))
        limit = self.room.ledger.budget.calls
        if "budget" in rules and limit is not None:
            left = limit - self.room.spent - self.room.calls - self.reading
            paid = dict(
                zip(self.active, np.cumsum([calls(item) for item in self.active]) <= left, strict=True)
            )
            self._leave("budget", lambda item: not paid[item])
        if self.active and not self.room.ledger.start_round():
            self._leave("budget", lambda item: True)
        self._record(turn, [item for item in before if item not in self.active], cites)
        self._fresh = [0] * len(self._fresh)
        for item in self.active:
            self.rounds[item] = turn
        return list(self.active)

    def finish(self, turn: int, cites: Sequence[int]) -> None:
        """Record who was still at it when the rounds were over."""
        if turn > 0:
            self._record(turn, self.active, cites)

    def _leads(self, said: dict[str, list[Said]]) -> NDArray[np.float64]:
        """Give the largest share of an option in all votes, those of abstentions included."""
        own = np.array([1.0 if self.weights is None else self.weights[name] for name in said])
        heads = np.einsum("ijk,j->ik", np.nan_to_num(self.room.votes(said)), own / own.sum())
        return np.asarray(heads.max(axis=1))

    def _leave(self, rule: str, done: Callable[[int], bool]) -> None:
        gone = [item for item in self.active if done(item)]
        for item in gone:
            self.stopped_by[item] = rule
        self.active = [item for item in self.active if item not in {*gone}]

    def _record(self, turn: int, gone: Sequence[int], cites: Sequence[int]) -> None:
        if gone:
            self.room.log.record(
                round=turn,
                agent="protocol",
                role="facilitator",
                action="stop",
                payload=[{"item": item, "rule": self.stopped_by[item]} for item in gone],
                cites=cites,
            )


def check_stops(plan: Protocol, gain: Any, weights: Any, agents: Any) -> None:
    """Refuse stop rules that have no meaning in a protocol, or lack what measures them.

    Parameters
    ----------
    plan : fusion.deliberative.Protocol
        With its rules.
    gain : callable or None
        For the rule "price".
    weights : mapping or None
        For the rule "quorum".
    agents : mapping
        Whose weights these are.

    Raises
    ------
    PanelError
        What to change.
    """
    if plan.opposed and set(plan.stop) & {*_OF_ANSWERS}:
        raise PanelError(
            f"in {plan.name!r} answers are assigned; of the stop rules {plan.stop} it knows 'no_evidence', "
            "'price' and 'budget'."
        )
    if ("price" in plan.stop) != (gain is not None):
        raise PanelError("the stop rule 'price' and gain= belong together: give both or neither.")
    if weights is None:
        return
    values = np.array(list(weights.values()), dtype=np.float64)
    if "quorum" not in plan.stop or {*weights} != {*agents}:
        raise PanelError(
            f"vote_weights are for the stop rule 'quorum', one for each of {sorted(agents)}; got {sorted(weights)} "
            f"with the rules {plan.stop}."
        )
    if not (np.isfinite(values).all() and (values >= 0.0).all() and values.any()):
        raise PanelError(f"vote_weights must be finite numbers >= 0, not all 0; got {values.tolist()}.")


def plurality(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the shares of answers (item, agent, option); NaN rows where nobody answered."""
    return shares(votes, np.ones(votes.shape[:2]))


def shares(votes: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give weighted shares of answers (item, agent, option), with weights (item, agent)."""
    mass = (np.nan_to_num(votes) * weights[:, :, None]).sum(axis=1)
    total = mass.sum(axis=1, keepdims=True)
    return np.where(total > 0, mass / np.where(total > 0, total, 1.0), np.nan)
