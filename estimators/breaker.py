"""Leave out, for a while, specialists that keep failing."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real

from estimators.replies import ABSTAINED, CHARGED, LATE, OK
from theory import PanelError

# One for all breakers: it is held for microseconds, and a lock of its own could be neither copied nor saved.
_lock = threading.Lock()


@dataclass
class _Circuit:
    streak: int = 0
    failed: float = 0.0
    total: float = 0.0
    wait: float = 0.0
    opened: float | None = None
    until: float = 0.0
    probing: bool = False
    by_lateness: bool = False


@dataclass
class CircuitBreaker:
    """Stop asking specialists that fail again and again, and probe whether they are back.

    Parameters
    ----------
    streak : int
        Failures running that open it.
    rate : float
        Decayed share of failures that opens it, too.
    least : float
        Decayed number of requests below which the share means nothing.
    decay : float
        What a request weighs after the next one.
    cooldown, longest : float
        Seconds until the first probe; doubled after each that fails, up to the longest.
    late_counts : bool
        Whether being late is a failure.

    Notes
    -----
    Failures are exceptions, deaths and refused answers; never disagreement with the fused answer, as
    colluders would vote honest specialists out. It never leaves fewer than the fusion needs: then those
    quarantined longest are asked again. It is plain data, with no clock of its own; executors on several
    threads may share one, if specialists of one name are the same.

    References
    ----------
    .. [1] Nygard, Release It!, 2007, chapter 5.

    Examples
    --------
    >>> breaker = CircuitBreaker(streak=2)
    >>> for second in (0.0, 1.0):
    ...     breaker.observe("ocr", "raised", second)
    >>> breaker.choose(["ocr", "llm"], 2.0, minimum=1), breaker.choose(["ocr", "llm"], 7.0, minimum=1)
    (['llm'], ['ocr', 'llm'])
    """

    streak: int = 3
    rate: float = 0.5
    least: float = 5.0
    decay: float = 0.9
    cooldown: float = 5.0
    longest: float = 320.0
    late_counts: bool = False
    _circuits: dict[str, _Circuit] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        given = {
            key: getattr(self, key) for key in ("streak", "rate", "least", "decay", "cooldown", "longest")
        }
        numbers = all(isinstance(value, Real) for value in given.values())
        if not (
            numbers
            and self.streak >= 1
            and 0 < self.rate <= 1
            and self.least >= 0
            and 0 < self.decay < 1
            and self.cooldown > 0
            and self.longest > 0
        ):
            raise PanelError(
                "a breaker needs streak >= 1, 0 < rate <= 1, least >= 0, 0 < decay < 1, cooldown > 0 and longest > 0; got "
                f"{', '.join(f'{key}={value!r}' for key, value in given.items())}."
            )

    def choose(self, names: Sequence[str], now: float, *, minimum: int) -> list[str]:
        """Say whom to ask.

        Parameters
        ----------
        names : sequence of str
            Everybody.
        now : float
            Time in seconds, of any clock that does not go back.
        minimum : int
            Fewest that must be asked.

        Returns
        -------
        list of str
            In the order of ``names``. Those whose cool-down is over are among them, as probes.
        """
        with _lock:
            held = [
                name
                for name in names
                if (own := self._circuits.get(name)) is not None
                and own.opened is not None
                and now < own.until
            ]
            held.sort(key=lambda name: -(self._circuits[name].opened or 0.0))
            kept = set(held[: max(len(names) - minimum, 0)])
            chosen = [name for name in names if name not in kept]
            for name in chosen:
                own = self._circuits.get(name)
                if own is not None and own.opened is not None:
                    # one probe at a time, yet none whose outcome is never told holds it for ever
                    own.probing, own.until = True, max(own.until, now + own.wait)
        return chosen

    def observe(self, name: str, status: str, now: float) -> None:
        """Take note of what became of asking a specialist.

        Parameters
        ----------
        name : str
            Who was asked.
        status : str
            As in :class:`PanelAnswer`; those of specialists that were not asked change nothing.
        now : float
            Time in seconds.
        """
        with _lock:
            self._observe(name, status, now)

    def _observe(self, name: str, status: str, now: float) -> None:
        own = self._circuits.setdefault(name, _Circuit())
        late = status == LATE
        if status in (OK, ABSTAINED):
            if own.opened is not None:
                self._circuits[name] = _Circuit()
                return
            own.streak = 0
        elif status in CHARGED or (late and (self.late_counts or own.probing)):
            own.streak += 1
            own.failed += 1.0 - (1.0 - self.decay) * own.failed
        else:
            return
        if status in (OK, ABSTAINED):
            own.failed *= self.decay
        own.total = self.decay * own.total + 1.0
        if own.probing:
            own.probing = False
            own.wait = max(min(2.0 * own.wait, self.longest), own.wait)
            own.until = now + own.wait
        elif own.opened is None and (
            own.streak >= self.streak or (own.total >= self.least and own.failed / own.total >= self.rate)
        ):
            own.opened, own.wait, own.by_lateness = now, self.cooldown, late
            own.until = now + own.wait

    def is_open(self, name: str) -> bool:
        """Say whether a specialist is quarantined.

        Parameters
        ----------
        name : str
            Who.

        Returns
        -------
        bool
        """
        own = self._circuits.get(name)
        return own is not None and own.opened is not None

    def is_proved(self, name: str) -> bool:
        """Say whether faults opened it, so that the quarantined specialist is charged to the budget.

        Parameters
        ----------
        name : str
            Who.

        Returns
        -------
        bool
            False if lateness opened it.
        """
        own = self._circuits.get(name)  # once: another thread may close it in between
        return own is not None and own.opened is not None and not own.by_lateness


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


# A child forked while another thread holds the lock would wait for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
