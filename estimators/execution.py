"""Ask a panel within a deadline: threads, processes or coroutines, none of which can hold up the answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np

from estimators.answers import label_codes
from estimators.background import in_background
from estimators.breaker import CircuitBreaker
from estimators.panel_answer import Close, PanelAnswer
from estimators.panel_calls import Calls, Inbox
from estimators.panel_clock import Board, Deadline, Rules, wait_for_replies
from estimators.replies import BUSY, CHARGED, OK, QUARANTINED, UNASKED, Form, Reply
from estimators.shortfall import check_shortfall
from theory import PanelError

_MODES = ("auto", "thread", "process", "async", "sync")


@dataclass
class PanelExecutor:
    """Ask the same specialists again and again, each time within a deadline.

    Parameters
    ----------
    specialists : mapping of str to callable or fitted estimator
        Functions, coroutine functions, or estimators that answer. A callable with a parameter ``time_left``
        is told the seconds until ``hard_deadline``.
    n_byzantine : int
        How many may be wrong in any way (papers write f).
    minimum : int or callable, optional
        Fewest answers, or a function of the budget that gives them. The default is 2 f + 1.
    deadline, hard_deadline : float
        Seconds: with a quorum the answer is given at the first, without one by the second (the first
        by default).
    quorum : int, optional
        Answers that are enough at the deadline; the minimum by default.
    mode : {"auto", "thread", "process", "async", "sync"}
        How functions run: ``"auto"`` puts coroutine functions on an event loop and the others on threads.
        ``"process"`` kills what hangs and survives crashes. ``"sync"`` checks the time between calls only.
    spend : {"cautious", "declared"}
        See :func:`theory.settle_budget`.
    on_shortfall : {"raise", "degrade"}
        Whether too few answers, or too many faults, are an error or a warning with less than the promise.
    admit : {"specialist", "sample"}
        Whether one bad row of a batch spoils the specialist's whole answer, or only that sample.
    classes : sequence, optional
        Labels: then answers are probabilities, labels or {label: log-probability}.
    shape : tuple of int, optional
        Shape of every answer; that of most answers by default.
    eager : bool
        Whether to answer as soon as there is a quorum. It favours the fastest.
    isolate : bool, optional
        Whether each specialist gets a copy of the request. By default arrays are copied up to 1 MB, and
        frozen beyond; other objects are handed on as they are.
    max_in_flight : int
        Calls of one specialist that may run at a time; with so many running it is ``busy``.
    breaker : CircuitBreaker, optional
        Leaves out who keeps failing.
    max_bytes : int
        Longest answer of a worker process.

    Raises
    ------
    ValueError
        If a parameter does not fit.
    TypeError
        If a specialist cannot be called, or cannot be sent to a process.

    Notes
    -----
    The clock runs in the calling thread. What hangs is left behind: a daemon thread, a cancelled
    coroutine or a killed process, none of which holds up the exit. A specialist that hangs costs at most
    ``max_in_flight`` threads. For requests at some rate, ``max_in_flight`` should be rate x latency + 3
    square roots of it.

    Examples
    --------
    >>> import numpy as np
    >>> team = {"a": lambda x: x + 1, "b": lambda x: x + 2, "c": lambda x: x * np.nan}
    >>> with PanelExecutor(team, n_byzantine=1, minimum=1, deadline=5.0) as executor:
    ...     answer = executor.ask(np.array([1.0]))
    >>> answer.panel.ravel().tolist(), answer.status.tolist()
    ([2.0, 3.0, nan], ['ok', 'ok', 'nonfinite'])
    """

    specialists: Mapping[str, Any]
    n_byzantine: int = 0
    minimum: int | Callable[[int], int] | None = None
    deadline: float = 1.0
    hard_deadline: float | None = None
    quorum: int | None = None
    mode: str = "auto"
    spend: str = "cautious"
    on_shortfall: str = "raise"
    admit: str = "specialist"
    classes: Sequence[Any] | None = None
    shape: tuple[int, ...] | None = None
    eager: bool = False
    isolate: bool | None = None
    max_in_flight: int = 8
    breaker: CircuitBreaker | None = None
    max_bytes: int = 1 << 26

    def __post_init__(self) -> None:
        self._check()
        codes = None if self.classes is None else label_codes(self.classes)
        form = Form(codes, codes is not None, self.shape, self.admit == "sample")
        self._calls = Calls(
            self.specialists, mode=self.mode, form=form, isolate=self.isolate, max_bytes=self.max_bytes
        )
        self._names = self._calls.names
        self._lock = threading.Lock()
        self._n_asked = 0
        self._closed = False

    def ask(
        self,
        x: Any,
        *,
        only: Sequence[str] | None = None,
        deadline: float | Deadline | None = None,
        hard_deadline: float | Deadline | None = None,
        loop: Any = None,
    ) -> PanelAnswer:
        """Ask everybody and wait, by the rules of the panel.

        Parameters
        ----------
        x : object
            The request.
        only : sequence of str, optional
            Whom to ask; the others are ``unasked``, which is no fault.
        deadline, hard_deadline : float or Deadline, optional
            Of this request; a :class:`Deadline` is a moment, so that several rounds share one time.
        loop : asyncio.AbstractEventLoop, optional
            Running in another thread, for clients that are bound to theirs.

        Returns
        -------
        PanelAnswer

        Raises
        ------
        QuorumError
            If too few answered in time.
        BudgetError
            If more than ``n_byzantine`` failed.
        ValueError
            If a parameter does not fit, or the executor is closed.
        """
        if self._closed:
            raise PanelError("the executor is closed. Make another one.")
        start = time.monotonic()
        soft = self._moment(start, self.deadline if deadline is None else deadline)
        own_hard = self.hard_deadline if hard_deadline is None and deadline is None else hard_deadline
        hard = soft if own_hard is None else self._moment(start, own_hard)
        if hard < soft:
            raise PanelError(f"hard_deadline={hard - start:g} is before deadline={soft - start:g}.")
        needed = self._minimum(self.n_byzantine)
        preset, proved = self._left_out(only, start, needed)
        asked = sorted(set(range(len(self._names))) - preset.keys())
        board = Board(len(self._names), set(asked))
        board.charged_before = len(proved)
        rules = Rules(
            self.n_byzantine,
            self._minimum,
            needed if self.quorum is None else self.quorum,
            start,
            soft,
            hard,
            self.eager,
            self.on_shortfall == "degrade",
        )
        inbox: Inbox = Inbox()
        take, cancel = self._calls.send(x, asked, inbox, hard, loop)
        try:
            wait_for_replies(board, rules, take, time.monotonic)
        finally:  # whoever interrupts the wait leaves nobody running
            if board.pending:
                cancel(sorted(board.pending))
        elapsed = time.monotonic() - start
        close = Close(
            self._names,
            () if self.classes is None else tuple(self.classes),
            self.n_byzantine,
            self._minimum,
            self.spend,
            self.shape,
            frozenset(proved),
            preset,
        )
        with self._lock:
            self._n_asked += 1
            request = f"{id(self):x}-{self._n_asked}"
        answer = close.answer(board, elapsed=elapsed, request=request)
        self._tell_breaker(answer)
        check_shortfall(answer, self._minimum, on_shortfall=self.on_shortfall)
        return answer

    async def ask_async(self, x: Any, *, loop: str = "private", **more: Any) -> PanelAnswer:
        """Ask from a coroutine; the clock runs on a thread, so that a blocked loop cannot stop it.

        Parameters
        ----------
        x : object
            The request.
        loop : {"private", "caller"}
            Where coroutine functions run: on the library's own loop, or on this one, for clients bound to it.
        **more : object
            As in :meth:`ask`.

        Returns
        -------
        PanelAnswer

        Raises
        ------
        ValueError
            If ``loop`` is neither, and as :meth:`ask` does; a cancelled wait leaves the request to its deadline.
        """
        if loop not in ("private", "caller"):
            raise PanelError(f"loop must be 'private' or 'caller'; got {loop!r}.")
        own = asyncio.get_running_loop()
        done: asyncio.Future[PanelAnswer] = own.create_future()

        def finish(answer: PanelAnswer | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(answer)  # type: ignore[arg-type]

        def work() -> None:
            try:
                answer = self.ask(x, loop=own if loop == "caller" else None, **more)
            except BaseException as error:
                own.call_soon_threadsafe(finish, None, error)
                return
            own.call_soon_threadsafe(finish, answer, None)

        in_background(work)
        return await done

    def close(self) -> None:
        """End the worker processes; threads that hang are left behind."""
        self._closed = True
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _left_out(
        self, only: Sequence[str] | None, now: float, needed: int
    ) -> tuple[dict[int, Reply], set[int]]:
        """Say who is not asked, and which of them count as faults."""
        preset: dict[int, Reply] = {}
        if isinstance(only, str):
            raise PanelError(f"only takes a list of names; got {only!r}. Use [{only!r}].")
        if only is not None:
            stray = sorted(set(only) - set(self._names))
            if stray:
                raise PanelError(
                    f"only names {stray}, who are no specialists; there are {list(self._names)}."
                )
            preset = {i: Reply(UNASKED) for i, name in enumerate(self._names) if name not in set(only)}
        wanted = [i for i in range(len(self._names)) if i not in preset]
        for i, count in self._calls.reserve(wanted, self.max_in_flight).items():
            preset[i] = Reply(BUSY, text=f"{count} earlier calls are still running")
        proved: set[int] = set()
        if self.breaker is not None:
            names = [self._names[i] for i in wanted if i not in preset]
            chosen = set(self.breaker.choose(names, now, minimum=needed))
            held = [i for i in wanted if i not in preset and self._names[i] not in chosen]
            self._calls.release(held)
            preset |= dict.fromkeys(held, Reply(QUARANTINED, text="it kept failing"))
            proved = {i for i in held if self.breaker.is_proved(self._names[i])}
        return preset, proved

    def _tell_breaker(self, answer: PanelAnswer) -> None:
        if self.breaker is None:
            return
        now = time.monotonic()
        status = answer.status.reshape(-1, len(self._names))
        for i, name in enumerate(self._names):
            own = sorted(status[:, i].tolist(), key=lambda word: (word != OK, word not in CHARGED))
            self.breaker.observe(name, own[0], now)

    def _minimum(self, n_byzantine: int) -> int:
        if callable(self.minimum):
            return int(self.minimum(n_byzantine))
        return 2 * n_byzantine + 1 if self.minimum is None else int(self.minimum)

    def _moment(self, start: float, time_given: float | Deadline) -> float:
        if isinstance(time_given, Deadline):
            return time_given.at
        seconds: Any = time_given
        number = isinstance(seconds, Real) and not isinstance(seconds, bool)
        if not number or not 0 < seconds < float("inf"):
            raise PanelError(f"a deadline is a positive number of seconds; got {seconds!r}.")
        return start + seconds

    def _check(self) -> None:
        if not isinstance(self.specialists, Mapping) or not self.specialists:
            raise PanelError("there is nobody to ask. Give specialists as {name: callable}.")
        if not isinstance(self.breaker, CircuitBreaker | None):
            raise PanelError(f"breaker must be a CircuitBreaker or None; got {type(self.breaker).__name__}.")
        for key, allowed in (
            ("mode", _MODES),
            ("spend", ("cautious", "declared")),
            ("on_shortfall", ("raise", "degrade")),
            ("admit", ("specialist", "sample")),
        ):
            if getattr(self, key) not in allowed:
                raise PanelError(f"{key} must be one of {allowed}; got {getattr(self, key)!r}.")
        n = len(self.specialists)
        limits = {
            "n_byzantine": (0, n - 1),
            "quorum": (1, n),
            "minimum": (1, None),
            "max_in_flight": (1, None),
        }
        for key, (least, most) in limits.items():
            value = getattr(self, key)
            if (value is None and key in ("quorum", "minimum")) or (key == "minimum" and callable(value)):
                continue
            if not _is_whole(value) or value < least or (most is not None and value > most):
                upper = "up" if most is None else f"to {most}"
                raise PanelError(f"{key} must be a whole number from {least} {upper}; got {value!r}.")
        shape = self.shape
        if shape is not None and not (
            isinstance(shape, tuple) and len(shape) in (1, 2) and all(_is_whole(k) and k > 0 for k in shape)
        ):
            raise PanelError(f"shape must be (output,) or (sample, output); got {shape!r}.")
        if self._minimum(self.n_byzantine) > n:
            raise PanelError(
                f"n_byzantine={self.n_byzantine} needs at least {self._minimum(self.n_byzantine)} specialists; got {n}. "
                "Lower it, or add specialists."
            )
        soft = self._moment(0.0, self.deadline)
        if self.hard_deadline is not None and self._moment(0.0, self.hard_deadline) < soft:
            raise PanelError(f"hard_deadline={self.hard_deadline:g} is before deadline={self.deadline:g}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def ask_panel(
    specialists: Mapping[str, Any], x: Any, *, n_byzantine: int = 0, deadline: float = 1.0, **params: Any
) -> PanelAnswer:
    """Ask a panel once, within a deadline.

    Parameters
    ----------
    specialists : mapping of str to callable or fitted estimator
        Whom to ask.
    x : object
        The request.
    n_byzantine : int, default 0
        How many may be wrong in any way (papers write f).
    deadline : float, default 1.0
        Seconds.
    **params : object
        Further ones of :class:`PanelExecutor`, which asks again and again.

    Returns
    -------
    PanelAnswer

    Raises
    ------
    QuorumError
        If too few answered in time.
    BudgetError
        If more than ``n_byzantine`` failed.
    ValueError
        If a parameter does not fit.

    Examples
    --------
    >>> answer = ask_panel({"a": lambda x: [x], "b": lambda x: [2 * x]}, 3.0, deadline=5.0)
    >>> answer.panel.tolist()
    [[3.0], [6.0]]
    """
    with PanelExecutor(specialists, n_byzantine=n_byzantine, deadline=deadline, **params) as executor:
        return executor.ask(x)
