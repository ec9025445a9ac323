"""Work that never holds up the exit: daemon threads that are kept for later, and one private event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from types import FunctionType
from typing import Any

from theory import PanelError

# An idle thread costs 8 kB of memory and a start costs 60 us; more than this many are let go.
_MOST_IDLE = 64
# A loop that has not run a callback for so long is blocked by a coroutine that never awaits.
_STUCK = 0.25
# Each blocked loop keeps its thread; after so many, coroutines are left to wait for one that blocks.
_MOST_BLOCKED = 8

_idle: list[SimpleQueue[Callable[[], None]]] = []


def in_background(work: Callable[[], None]) -> None:
    """Run a function on a daemon thread, one that is idle if there is one.

    Parameters
    ----------
    work : callable
        Reports for itself: what it returns or raises is dropped.

    Notes
    -----
    ``concurrent.futures`` joins its threads at exit, so that one hung call holds up the process; daemon
    threads are left behind.
    """
    try:
        inbox = _idle.pop()
    except IndexError:
        inbox = SimpleQueue()
        threading.Thread(target=_serve, args=(inbox,), name="consilience", daemon=True).start()
    inbox.put(work)


def _serve(inbox: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        work = inbox.get()
        with contextlib.suppress(BaseException):  # SystemExit of a specialist is its own failure
            work()
        del work
        if len(_idle) >= _MOST_IDLE:
            return
        _idle.append(inbox)


class _Daemons(ThreadPoolExecutor):
    """Threads for an event loop, which takes no executor of another class; none of them holds up the exit."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        run = partial(contextvars.copy_context().run, call, *args, **kwargs)

        def work() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(run())
            except Exception as error:
                done.set_exception(error)
            except BaseException as error:  # SystemExit would end the loop that awaits it
                done.set_exception(RuntimeError(f"a function ended with {type(error).__name__}."))

        in_background(work)
        return done


daemons = _Daemons()


class _Loop:
    """The loop of the process, and when it last showed that it runs."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.asked = 0.0
        self.beat = threading.Event()
        self.abandoned: list[threading.Thread] = []
        self.thread: threading.Thread | None = None


_own = _Loop()


def private_loop() -> asyncio.AbstractEventLoop:
    """Give the event loop of this library's daemon thread; a new one if the old one is blocked.

    Returns
    -------
    asyncio.AbstractEventLoop
        Running. Use ``asyncio.run_coroutine_threadsafe``.
    """
    with _own.lock:
        now = time.monotonic()
        blocked = not _own.beat.is_set() and now - _own.asked > _STUCK
        if blocked and _own.thread is not None:
            _own.abandoned = [thread for thread in (*_own.abandoned, _own.thread) if thread.is_alive()]
            blocked = len(_own.abandoned) <= _MOST_BLOCKED
        if _own.loop is None or _own.loop.is_closed() or blocked:
            _own.loop = asyncio.new_event_loop()
            _own.loop.set_default_executor(daemons)  # looking up the name of a host can hang
            _own.beat.set()
            _own.thread = threading.Thread(target=_own.loop.run_forever, name="consilience loop", daemon=True)
            _own.thread.start()
        _listen(_own.loop)
        return _own.loop


def refuse_own_loop() -> None:
    """Refuse to wait, on the private loop, for what is to run on it: that would never end.

    Raises
    ------
    PanelError
        From a coroutine that runs on the private loop.
    """
    with contextlib.suppress(RuntimeError):  # no loop runs in this thread
        if asyncio.get_running_loop() is private_loop():
            raise PanelError(
                "this coroutine would wait for its own loop. Await the method that ends in _async, or "
                "asyncio.to_thread of the function."
            )


def probe_loop() -> None:
    """Find out whether the private loop still runs, for the next one who asks for it."""
    with _own.lock:
        if _own.loop is not None:
            _listen(_own.loop)


def _listen(loop: asyncio.AbstractEventLoop) -> None:
    if _own.beat.is_set():
        _own.beat = threading.Event()
        _own.asked = time.monotonic()
        loop.call_soon_threadsafe(_own.beat.set)


def start_coroutine(coroutine: Coroutine[Any, Any, Any], loop: Any = None) -> Future[Any]:
    """Start a coroutine on the private loop, or on another running one.

    Parameters
    ----------
    coroutine : coroutine
        Should report for itself; SystemExit must not leave it, as that would end the loop.
    loop : asyncio.AbstractEventLoop, optional
        Running in another thread.

    Returns
    -------
    concurrent.futures.Future
        ``cancel()`` asks the coroutine to stop.
    """
    return asyncio.run_coroutine_threadsafe(coroutine, loop or private_loop())


def is_async(call: Any) -> bool:
    """Say whether calling gives a coroutine."""
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


def takes_time_left(call: Any) -> bool:
    """Say whether a callable has a parameter ``time_left``."""
    if type(call) is FunctionType and not hasattr(call, "__wrapped__"):
        code = call.__code__  # a signature takes ten times as long, and one-shot panels ask for each
        return "time_left" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    try:
        return "time_left" in inspect.signature(call).parameters
    except (TypeError, ValueError):
        return False


def _after_fork() -> None:
    global _own
    _idle.clear()
    _own = _Loop()


# Threads do not survive a fork: a child that used them would wait for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
