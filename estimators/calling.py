"""Many calls of one callable: so many at a time, each with one time budget over its retries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

from estimators.background import (
    in_background,
    is_async,
    refuse_own_loop,
    start_coroutine,
    takes_time_left,
)

_FIRST_PAUSE = 0.05  # seconds before the first retry; doubled for each further one
# A callable that hangs costs a thread a call. So many hung calls for each one allowed at a time, then it is down.
_MOST_HUNG = 8


@dataclass(frozen=True)
class Outcome:
    """What came of one call.

    Attributes
    ----------
    value : object
        What it returned.
    error : BaseException or None
        What it raised in its last attempt, or a TimeoutError.
    """

    value: Any = None
    error: BaseException | None = None


def call_many(
    call: Callable[..., Any],
    items: Sequence[Any],
    *,
    max_concurrency: int = 1,
    timeout: float | None = None,
    retries: int = 0,
) -> list[Outcome]:
    """Call a function, or a coroutine function, once for each item.

    Parameters
    ----------
    call : callable
        Gets an item; and ``time_left`` in seconds if it has a parameter of that name.
    items : sequence
        One for each call.
    max_concurrency : int
        Calls at a time. Functions run in threads where this or a time-out asks for it.
    timeout : float, optional
        Seconds for each item, all attempts and pauses between them together.
    retries : int
        Attempts after the first that raised. A time-out is not tried again: the budget is spent.

    Returns
    -------
    list of Outcome
        In the order of the items.

    Raises
    ------
    PanelError
        From a coroutine on the private loop of the library, where coroutines are to be called.

    Notes
    -----
    A call that hangs is left behind on a daemon thread (a coroutine is cancelled). With ``8 *
    max_concurrency`` of them hanging, the items that are left fail at once.
    """
    run = _attempts(call, timeout=timeout, retries=retries)
    if is_async(call):
        refuse_own_loop()
    elif timeout is None and max_concurrency == 1:
        return [run(item, None) for item in items]
    done: SimpleQueue[tuple[int, Outcome]] = SimpleQueue()
    outcomes: list[Outcome | None] = [None] * len(items)
    pending: dict[int, tuple[float, Any]] = {}
    hung: set[int] = set()
    following = 0
    try:
        while following < len(items) or pending:
            while following < len(items) and len(pending) < max_concurrency:
                if len(hung) >= _MOST_HUNG * max_concurrency:
                    outcomes[following:] = [
                        Outcome(error=TimeoutError(f"{len(hung)} earlier calls hang; not called any more."))
                    ] * (len(items) - following)
                    following = len(items)
                    break
                end = None if timeout is None else time.monotonic() + timeout
                handle = _start(call, run, items[following], end, done, following)
                pending[following] = (float("inf") if end is None else end, handle)
                following += 1
            if not pending:
                break
            first = min(end for end, _ in pending.values())
            try:
                place, outcome = done.get(
                    timeout=None if first == float("inf") else max(first - time.monotonic(), 0.0)
                )
            except Empty:
                now = time.monotonic()
                for place in [i for i, (end, _) in pending.items() if end <= now]:
                    handle = pending.pop(place)[1]
                    if handle is not None:
                        handle.cancel()
                    hung.add(place)
                    outcomes[place] = Outcome(error=TimeoutError(f"no answer within {timeout:g} s."))
                continue
            hung.discard(place)
            if pending.pop(place, None) is not None:
                outcomes[place] = outcome
    finally:  # an interrupt leaves some under way
        for _, handle in pending.values():
            if handle is not None:
                handle.cancel()
    return [outcome for outcome in outcomes if outcome is not None]


def _start(call: Any, run: Any, item: Any, end: float | None, done: Any, place: int) -> Any:
    if is_async(call):

        async def task() -> None:
            try:
                outcome = await run(item, end)
            except BaseException as error:
                outcome = Outcome(error=error)
            done.put((place, outcome))

        return start_coroutine(task())

    def work() -> None:
        try:
            outcome = run(item, end)
        except BaseException as error:
            outcome = Outcome(error=error)
        done.put((place, outcome))

    in_background(work)
    return None


def _attempts(call: Any, *, timeout: float | None, retries: int) -> Callable[[Any, float | None], Any]:
    """Wrap a callable so that it tries again within its time and never raises."""
    wants_time = takes_time_left(call)

    def more(end: float | None) -> dict[str, Any]:
        if not wants_time:
            return {}
        return {"time_left": timeout if end is None else max(end - time.monotonic(), 0.0)}

    def pause(attempt: int, end: float | None) -> float | None:
        wait = _FIRST_PAUSE * 2.0**attempt
        too_late = end is not None and time.monotonic() + wait >= end
        return None if attempt >= retries or too_late else wait

    def run(item: Any, end: float | None) -> Outcome:
        for attempt in count():
            try:
                return Outcome(call(item, **more(end)))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                wait = pause(attempt, end)
                if wait is None:
                    return Outcome(error=error)
                time.sleep(wait)

    async def run_async(item: Any, end: float | None) -> Outcome:
        for attempt in count():
            try:
                return Outcome(await call(item, **more(end)))
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                wait = pause(attempt, end)
                if wait is None:
                    return Outcome(error=error)
                await asyncio.sleep(wait)

    return run_async if is_async(call) else run
