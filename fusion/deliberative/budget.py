"""Hard limits of a deliberation: nothing is asked before its worst case is reserved."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from theory._exceptions import BudgetError, PanelError


@dataclass(frozen=True)
class Budget:
    """Limits of a run; None is no limit.

    Parameters
    ----------
    calls : int, optional
        Attempts at a model, repairs and retries included.
    tokens : int, optional
        Tokens in and out together.
    money : float, optional
        In the unit of the caller's price table.
    seconds : float, optional
        Wall time from the making of the :class:`Ledger`.
    rounds : int, optional
        Rounds of exchange; the sealed round 0 is not counted.

    Raises
    ------
    BudgetError
        If a limit is negative, not finite, or not whole where it counts something.

    Examples
    --------
    >>> Budget(calls=3).spare(calls=2)
    {}
    >>> Budget(calls=3, money=0.1).spare(calls=5, money=0.05)
    {'calls': -2}
    """

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None
    seconds: float | None = None
    rounds: int | None = None

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit is None:
                continue
            whole = name in ("calls", "tokens", "rounds")
            number = isinstance(limit, int | float) and not isinstance(limit, bool) and math.isfinite(limit)
            if not number or limit < 0 or (whole and limit != int(limit)):
                kind = "a whole number" if whole else "a finite number"
                raise BudgetError(f"{name} must be {kind} >= 0, or None for no limit; got {limit!r}.")

    def spare(self, **needed: float) -> dict[str, float]:
        """Say by how much a plan exceeds the limits.

        Parameters
        ----------
        **needed : float
            Worst case by limit: calls, tokens, money, seconds, rounds.

        Returns
        -------
        dict
            Limits that do not suffice, with what is left of them (negative); empty if the plan fits.
        """
        limits = asdict(self)
        return {
            name: limits[name] - need
            for name, need in needed.items()
            if limits[name] is not None and need > limits[name]
        }


@dataclass(frozen=True)
class Totals:
    """What a run has used.

    Attributes
    ----------
    calls : int
        Attempts that were made or are under way.
    tokens_in, tokens_out : int or None
        As the endpoints reported them. None if a finished attempt reported none: never 0.
    known_tokens_in, known_tokens_out : int
        The part that was reported.
    money : float or None
        None if the price of a finished attempt is not known; ``known_money`` beside it.
    known_money : float
        The part that is known.
    seconds : float
        Wall time since the ledger was made.
    charged_tokens, charged_money : float
        What counts against the budget: reported use, and the whole reservation where nothing was reported.
    estimated_calls : int
        Finished attempts whose reservation stays charged.
    overrun_tokens : int
        Tokens that endpoints reported beyond what was reserved.
    cache_hits, replays : int
        Answers that cost nothing.
    rounds : int
        Rounds begun.
    stopped_by : str or None
        The first limit that refused something.
    """

    calls: int
    tokens_in: int | None
    tokens_out: int | None
    known_tokens_in: int
    known_tokens_out: int
    money: float | None
    known_money: float
    seconds: float
    charged_tokens: int
    charged_money: float
    estimated_calls: int
    overrun_tokens: int
    cache_hits: int
    replays: int
    rounds: int
    stopped_by: str | None


@dataclass
class _Sums:
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    charged_tokens: int = 0
    charged_money: float = 0.0
    estimated: int = 0
    no_money: int = 0
    no_tokens: int = 0
    overrun: int = 0
    rounds: int = 0
    free: dict[str, int] = field(default_factory=lambda: {"cache": 0, "replay": 0})


class Ledger:
    """What was reserved and used, under one lock.

    Parameters
    ----------
    budget : Budget, optional
        No limits by default.
    clock : callable, optional
        Seconds; ``time.monotonic`` by default.

    Attributes
    ----------
    budget : Budget
        The limits.
    stopped_by : str or None
        The first limit that refused a reservation or a round, or at which an attempt timed out: calls, tokens,
        money, seconds or rounds.
    lines : list of dict
        One for each finished attempt and each free answer: ticket, label, reason, source, tokens_in,
        tokens_out, money, seconds; null where it is not known.

    Notes
    -----
    Any number of threads may reserve: what is charged never passes a limit, unless an endpoint reports more
    than was reserved; that shows as ``overrun_tokens``. A running attempt is charged its worst case.

    Examples
    --------
    >>> ledger = Ledger(Budget(calls=1, tokens=100))
    >>> ticket = ledger.reserve(tokens=80)
    >>> ledger.reconcile(ticket, tokens_in=10, tokens_out=20)
    >>> ledger.totals().charged_tokens, ledger.reserve(tokens=80), ledger.stopped_by
    (30, None, 'calls')
    """

    def __init__(self, budget: Budget | None = None, *, clock: Callable[[], float] = time.monotonic):
        self.budget = Budget() if budget is None else budget
        self.stopped_by: str | None = None
        self.lines: list[dict[str, Any]] = []
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()
        self._open: dict[int, tuple[int, float, str]] = {}
        self._next = 0
        self._sums = _Sums()

    def time_left(self) -> float | None:
        """Seconds until the limit on time; None without one."""
        limit = self.budget.seconds
        return None if limit is None else max(0.0, limit - (self._clock() - self._start))

    def reserve(self, *, tokens: int = 0, money: float = 0.0, label: str = "") -> int | None:
        """Reserve the worst case of one attempt.

        Parameters
        ----------
        tokens : int
            Prompt and answer together, at most.
        money : float
            Price of the attempt, at most.
        label : str
            Who asks; goes into the line.

        Returns
        -------
        int or None
            Ticket for :meth:`reconcile`. None: a limit does not allow the attempt, and it must not be made.
        """
        budget, sums = self.budget, self._sums
        with self._lock:
            if budget.calls is not None and sums.calls + 1 > budget.calls:
                return self._refuse("calls")
            if budget.tokens is not None and sums.charged_tokens + tokens > budget.tokens:
                return self._refuse("tokens")
            if budget.money is not None and sums.charged_money + money > budget.money:
                return self._refuse("money")
            if budget.seconds is not None and self._clock() - self._start >= budget.seconds:
                return self._refuse("seconds")
            sums.calls += 1
            sums.charged_tokens += tokens
            sums.charged_money += money
            ticket = self._next
            self._next += 1
            self._open[ticket] = (tokens, money, label)
            return ticket

    def reconcile(
        self,
        ticket: int,
        *,
        tokens_in: int | None = None,
        tokens_out: int | None = None,
        money: float | None = None,
        seconds: float | None = None,
        reason: str = "ok",
    ) -> None:
        """Replace a reservation by what was used.

        Parameters
        ----------
        ticket : int
            From :meth:`reserve`; each once.
        tokens_in, tokens_out : int, optional
            As reported. None if not: the reservation then stays charged.
        money : float, optional
            Price of the attempt. None if not known: the reservation then stays charged.
        seconds : float, optional
            Duration of the attempt.
        reason : str
            How it ended.

        Raises
        ------
        PanelError
            If the ticket is not open.
        """
        sums = self._sums
        with self._lock:
            if ticket not in self._open:
                raise PanelError(f"ticket {ticket!r} is not open. Reconcile each reservation once.")
            reserved, reserved_money, label = self._open.pop(ticket)
            limit = self.budget.seconds
            if reason == "timeout" and limit is not None and self._clock() - self._start >= limit:
                self._refuse("seconds")
            if tokens_in is None or tokens_out is None:
                sums.no_tokens += 1
            else:
                used = tokens_in + tokens_out
                sums.charged_tokens += used - reserved
                sums.overrun += max(0, used - reserved)
            sums.tokens_in += tokens_in or 0
            sums.tokens_out += tokens_out or 0
            if money is None:
                sums.no_money += 1
            else:
                sums.charged_money += money - reserved_money
                sums.money += money
            if tokens_in is None or tokens_out is None or (money is None and reserved_money):
                sums.estimated += 1
            self.lines.append(
                {
                    "ticket": ticket,
                    "label": label,
                    "reason": reason,
                    "source": "live",
                    "tokens_in": tokens_in,
                    "tokens_out": tokens_out,
                    "money": money,
                    "seconds": seconds,
                }
            )

    def free(self, *, source: str, label: str = "", reason: str = "ok") -> None:
        """Count an answer from a cache or a recording: it costs nothing.

        Parameters
        ----------
        source : {"cache", "replay"}
            Where it came from.
        label, reason : str
            As in :meth:`reserve` and :meth:`reconcile`.

        Raises
        ------
        PanelError
            If the source is none of these.
        """
        with self._lock:
            if source not in self._sums.free:
                raise PanelError(f"source must be 'cache' or 'replay'; got {source!r}.")
            self._sums.free[source] += 1
            nothing = {"tokens_in": 0, "tokens_out": 0, "money": 0.0, "seconds": 0.0}
            self.lines.append({"ticket": None, "label": label, "reason": reason, "source": source, **nothing})

    def start_round(self) -> bool:
        """Begin a round of exchange; False if the limits on rounds or time do not allow it."""
        with self._lock:
            limit, seconds = self.budget.rounds, self.budget.seconds
            if limit is not None and self._sums.rounds >= limit:
                self._refuse("rounds")
                return False
            if seconds is not None and self._clock() - self._start >= seconds:
                self._refuse("seconds")
                return False
            self._sums.rounds += 1
            return True

    def totals(self) -> Totals:
        """Give what has been used so far."""
        with self._lock:
            sums = self._sums
            return Totals(
                calls=sums.calls,
                tokens_in=None if sums.no_tokens else sums.tokens_in,
                tokens_out=None if sums.no_tokens else sums.tokens_out,
                known_tokens_in=sums.tokens_in,
                known_tokens_out=sums.tokens_out,
                money=None if sums.no_money else sums.money,
                known_money=sums.money,
                seconds=self._clock() - self._start,
                charged_tokens=sums.charged_tokens,
                charged_money=sums.charged_money,
                estimated_calls=sums.estimated,
                overrun_tokens=sums.overrun,
                cache_hits=sums.free["cache"],
                replays=sums.free["replay"],
                rounds=sums.rounds,
                stopped_by=self.stopped_by,
            )

    def _refuse(self, limit: str) -> int | None:
        self.stopped_by = self.stopped_by or limit
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()
