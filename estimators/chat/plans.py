"""The protocols in text, each from its sealed round to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.chat.hub import justify, summarise, told_summary
from estimators.chat.judging import judge_blind
from estimators.chat.room import Room, Said, material
from estimators.chat.schemas import letters
from estimators.chat.stopping import Stops, plurality, shares
from estimators.chat.turns import argue, critique, inquire, proposed, revise, shared, told_critiques
from fusion.deliberative import confidence_weight, surprisingly_popular


@dataclass(frozen=True)
class Ended:
    """How a protocol ended.

    Attributes
    ----------
    last : dict of str to list of Said
        Last answers, by agent.
    proba : ndarray of float64, shape (item, option)
        Verdicts; NaN rows where there is none.
    reasons : list of str or None
        Why there is none.
    position_bias : ndarray of float64, shape (item,)
        Of the judge; NaN without one.
    cites : sequence of int
        Records that the verdicts rest on.
    """

    last: dict[str, list[Said]]
    proba: NDArray[np.float64]
    reasons: list[str | None]
    position_bias: NDArray[np.float64]
    cites: Sequence[int]


@dataclass
class Plan:
    """One run, after its sealed round; a method for each protocol that differs from another in its turns.

    Attributes
    ----------
    room : Room
        Questions and agents; a judge is called "judge".
    stops : Stops
        Which questions still need a round.
    said : dict of str to list of Said
        Sealed proposals, by agent.
    sealed : list of int
        Records that reveal them.
    rounds : int
        At most.
    word_limit : int
        Words of an argument.
    truth : ndarray of int or None
        Right options, for evaluation.
    rng : numpy.random.Generator
        Of assigned options.
    """

    room: Room
    stops: Stops
    said: dict[str, list[Said]]
    sealed: list[int]
    rounds: int
    word_limit: int
    truth: Any
    rng: np.random.Generator

    def naive(self) -> Ended:
        """Let the judge answer alone, without the source."""
        return self._judged(lambda item, names: "", self.said, [], source=False)

    def expert_judge(self) -> Ended:
        """Let the judge answer alone, with the source."""
        return self._judged(lambda item, names: "", self.said, [])

    def self_consistency(self) -> Ended:
        """Count repeated answers."""
        return self._counted(self.said, plurality(self.room.votes(self.said)), self.sealed)

    def surprisingly_popular(self) -> Ended:
        """Compare the shares of answers with those that were predicted."""
        votes = self.room.votes(self.said)
        predicted = np.full(votes.shape, np.nan)
        for j, answers in enumerate(self.said.values()):
            for i, one in enumerate(answers):
                if one.predicted is not None:
                    predicted[i, j] = 0.0
                    predicted[i, j, : len(one.predicted)] = one.predicted
        valid = np.array([len(item.options) for item in self.room.items])
        found = surprisingly_popular(votes, predicted, valid=valid)
        silent = np.isnan(votes).all(axis=(1, 2))
        return self._counted(self.said, np.where(silent[:, None], np.nan, found), self.sealed)

    def consultancy(self) -> Ended:
        """Let one agent argue for an option that is right with probability 1/2."""
        sides = [
            answer if self.rng.random() < 0.5 else self._other(item, answer)
            for item, answer in enumerate(self.truth.tolist())
        ]
        return self._argued({next(iter(self.said)): sides})

    def interactive_debate(self) -> Ended:
        """Let two agents argue, and the judge ask."""
        return self.debate(interactive=True)

    def debate(self, *, interactive: bool = False) -> Ended:
        """Let two agents argue for two options: their own, or the right one and another."""
        first, second = self.said
        sides: dict[str, list[int]] = {first: [], second: []}
        for item in range(len(self.room.items)):
            if self.truth is not None:
                pair = [int(self.truth[item]), self._other(item, int(self.truth[item]))]
                self.rng.shuffle(pair)
            else:
                there = [self.said[name][item].option for name in (first, second)]
                one = next((option for option in there if option is not None), 0)
                pair = [one, one if there[1] is None else there[1]]
                if pair[0] == pair[1]:  # nobody opposes it: the second is the devil's advocate
                    pair[1] = self._other(item, one)
            sides[first].append(pair[0])
            sides[second].append(pair[1])
        return self._argued(sides, interactive=interactive)

    def reconcile(self) -> Ended:
        """Let a round table answer again until it agrees; votes weigh by stated confidence."""
        said, cites = self._table(self.rounds)
        weights = np.array(
            [
                [confidence_weight(np.nan if one.confidence is None else one.confidence) for one in answers]
                for answers in said.values()
            ]
        ).T
        return self._counted(said, shares(self.room.votes(said), weights), cites)

    def mixture_of_agents(self) -> Ended:
        """Let layers answer in the light of the layer before; the judge reads the last."""
        said, cites = self._table(self.rounds - 1)
        return self._judged(partial(shared, said), said, cites)

    def delphi(self) -> Ended:
        """Show everybody how all answered, and why some stand apart, until the answers rest."""
        said, cites = self.said, self.sealed
        for turn in range(1, self.rounds + 1):
            which = self.stops.another(turn, said, lambda item: 2 * len(self.said), cites)
            if not which:
                break
            summaries, told = summarise(self.room, said, which=which, round=turn, cites=cites)
            reasons, records, quotes = justify(
                self.room, said, summaries, round=turn, word_limit=self.word_limit, cites=told
            )
            for item in which:
                self.stops.learn(item, quotes[item])
            said, cites = self._again(
                said,
                turn,
                which,
                lambda item, names: told_summary(summaries[item], reasons[item], names),  # noqa: B023 (called at once)
                told + records,
            )
        self.stops.finish(self.rounds, cites)
        return self._counted(said, plurality(self.room.votes(said)), cites)

    def critique_revise(self) -> Ended:
        """Let proposers criticise and revise; the judge reads the sealed proposals and the critiques."""
        said, cites, speakers = self.said, list(self.sealed), tuple(self.said)
        critiques: dict[int, list[dict[str, Any]]] = {item: [] for item in range(len(self.room.items))}
        for turn in range(1, self.rounds + 1):
            calls = {item: len(speakers) * (1 + len(proposed(said, item))) for item in critiques}
            which = self.stops.another(turn, said, calls.__getitem__, cites)
            if not which:
                break
            found, records = critique(self.room, said, speakers, which=which, round=turn, cites=cites)
            for item, told in found.items():
                self.stops.learn(item, [one["quote"] for one in told if one["verified"]])
            said, changed = revise(self.room, said, found, round=turn, cites=records)
            critiques |= found
            cites += records + changed
        self.stops.finish(self.rounds, cites)

        def brief(item: int, names: dict[int, str]) -> str:
            return shared(self.said, item, names) + "\n\n" + told_critiques(critiques[item], names)

        return self._judged(brief, said, cites)

    def _argued(self, sides: dict[str, list[int]], *, interactive: bool = False) -> Ended:
        history: list[dict[str, dict[int, str]]] = []
        cites = list(self.sealed)
        questions: dict[int, str] = {}

        def brief(item: int, names: dict[int, str]) -> str:
            by_letter = sorted(sides, key=lambda name: names[sides[name][item]])  # turns with the options
            lines = [
                f"For {names[sides[name][item]]}: {turn[name][item]}"
                for turn in history
                for name in by_letter
                if item in turn[name]
            ]
            return "Arguments:\n" + material("\n".join(lines) or "none")

        limit = self.word_limit
        for turn in range(1, self.rounds + 1):
            which = self.stops.another(turn, self.said, lambda item: len(sides) + interactive, cites)
            if not which:
                break
            records, quotes = argue(
                self.room,
                sides,
                history,
                which=which,
                round=turn,
                word_limit=limit,
                cites=cites,
                questions=questions,
            )
            cites += records
            for item in which:
                self.stops.learn(item, quotes[item])
            if interactive and turn < self.rounds:
                questions, asked = inquire(
                    self.room, "judge", brief, which=which, round=turn, word_limit=limit, cites=cites
                )
                cites += asked
        self.stops.finish(self.rounds, cites)
        return self._judged(brief, self.said, cites, source=False)

    def _table(self, rounds: int) -> tuple[dict[str, list[Said]], list[int]]:
        said, cites = self.said, self.sealed
        for turn in range(1, rounds + 1):
            which = self.stops.another(turn, said, lambda item: len(self.said), cites)
            if not which:
                break
            said, cites = self._again(said, turn, which, partial(shared, said), cites)
        self.stops.finish(rounds, cites)
        return said, cites

    def _again(
        self,
        said: dict[str, list[Said]],
        turn: int,
        which: Sequence[int],
        brief: Callable[[int, dict[int, str]], str],
        cites: Sequence[int],
    ) -> tuple[dict[str, list[Said]], list[int]]:
        more = {}
        for name in said:
            for item in which:
                order = self.room.order(item, name)
                more[item, name] = brief(item, dict(zip(order, letters(len(order)), strict=True)))
        said, records = self.room.again(said, more, round=turn, cites=cites)
        self.stops.hear(said)
        return said, records

    def _other(self, item: int, option: int) -> int:
        others = [k for k in range(len(self.room.items[item].options)) if k != option]
        return int(self.rng.choice(others))

    def _judged(
        self,
        brief: Callable[[int, dict[int, str]], str],
        said: dict[str, list[Said]],
        cites: Sequence[int],
        *,
        source: bool = True,
    ) -> Ended:
        found = judge_blind(self.room, "judge", self.rounds + 1, brief, cites, source=source)
        return Ended(said, found.proba, found.reasons, found.position_bias, [found.record])

    def _counted(
        self, said: dict[str, list[Said]], proba: NDArray[np.float64], cites: Sequence[int]
    ) -> Ended:
        n_items = len(self.room.items)
        return Ended(said, proba, [None] * n_items, np.full(n_items, np.nan), cites)
