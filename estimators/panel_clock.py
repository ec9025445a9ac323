"""Who has answered so far, what that is worth, and how long to wait for the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.replies import CHARGED, OK, Reply


@dataclass(frozen=True)
class Deadline:
    """A moment, so that rounds, retries and fallbacks get what is left and not the whole time each.

    Attributes
    ----------
    at : float
        Of ``time.monotonic``.
    """

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Give the moment so many seconds from now.

        Parameters
        ----------
        seconds : float
            From now.

        Returns
        -------
        Deadline
        """
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Give the seconds that are left, at least 0."""
        return max(self.at - time.monotonic(), 0.0)


class Board:
    """The replies of one request, and their tally.

    Parameters
    ----------
    n : int
        Specialists.
    pending : set of int
        Those who were asked.
    """

    def __init__(self, n: int, pending: set[int]):
        self.replies: list[Reply | None] = [None] * n
        self.latency = np.full(n, np.nan)
        self.pending = pending
        self.shapes: Counter[tuple[int, ...]] = Counter()
        self.charged_before = 0

    def post(self, place: int, reply: Reply, latency: float) -> None:
        """Take a reply.

        Parameters
        ----------
        place : int
            Whose.
        reply : Reply
            What.
        latency : float
            Seconds since the request.
        """
        if place not in self.pending:
            return
        self.pending.discard(place)
        self.replies[place] = reply
        self.latency[place] = latency
        if reply.values is not None:
            self.shapes[reply.values.shape] += 1

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of most answers, the first of them in a tie; the others have the wrong one."""
        return max(self.shapes, key=self.shapes.__getitem__) if self.shapes else None

    def tally(self) -> tuple[int, int]:
        """Count admitted and charged specialists, in the worst sample."""
        shape = self.shape
        admitted = self.shapes[shape] if shape is not None else 0
        others = sum(self.shapes.values()) - admitted
        # Which shape is the wrong one is known once those who are still to come cannot change it.
        charged = self.charged_before + (others if admitted > others + len(self.pending) else 0)
        charged += sum(1 for reply in self.replies if reply is not None and reply.status in CHARGED)
        mixed = [
            reply.rows
            for reply in self.replies
            if reply is not None
            and reply.rows is not None
            and reply.values is not None
            and reply.values.shape == shape
        ]
        if mixed:
            rows = np.stack(mixed)
            admitted += int((rows == OK).sum(axis=0).min()) - len(mixed)
            charged += int(_is_charged(rows).sum(axis=0).max())
        return admitted, charged


def _is_charged(rows: NDArray[np.str_]) -> NDArray[np.bool_]:
    return np.isin(rows, list(CHARGED))


@dataclass(frozen=True)
class Rules:
    """When enough have answered.

    Attributes
    ----------
    n_byzantine : int
        How many may be wrong in any way.
    minimum : callable
        Fewest answers for a budget.
    quorum : int
        Answers after which only the deadline is waited for.
    start, deadline, hard_deadline : float
        Moments of the clock.
    eager : bool
        Whether to stop at the quorum.
    degrade : bool
        Whether a shortfall is a warning, so that nothing is given up before its time.
    """

    n_byzantine: int
    minimum: Callable[[int], int]
    quorum: int
    start: float
    deadline: float
    hard_deadline: float
    eager: bool = False
    degrade: bool = False


def wait_for_replies(
    board: Board,
    rules: Rules,
    take: Callable[[float], tuple[int, Reply, float] | None],
    now: Callable[[], float],
) -> None:
    """Take replies until everybody has answered, enough have by the deadline, or too few can.

    Parameters
    ----------
    board : Board
        Filled.
    rules : Rules
        When to stop.
    take : callable
        Gets seconds to wait; gives (place, reply, moment), or None.
    now : callable
        The clock.
    """
    while board.pending:
        admitted, charged = board.tally()
        possible = admitted + len(board.pending) >= rules.minimum(max(0, rules.n_byzantine - charged))
        if not rules.degrade and (charged > rules.n_byzantine or not possible):
            return
        enough = admitted >= rules.quorum
        if rules.eager and enough:
            return
        limit = rules.deadline if enough or (not possible and admitted) else rules.hard_deadline
        left = limit - now()
        if left <= 0:
            break
        told = take(left)
        while told is not None:  # one tally for all that came at once
            board.post(told[0], told[1], told[2] - rules.start)
            told = take(0.0) if board.pending else None
    # What lies in the queue came in time; only this thread woke late.
    while board.pending and (told := take(0.0)) is not None:
        board.post(told[0], told[1], told[2] - rules.start)
