"""The calls of a panel: started on threads, processes or an event loop, counted, and stopped."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from estimators.background import in_background, is_async, private_loop, probe_loop, takes_time_left
from estimators.replies import BUSY, Form, Reply, as_call, raised, reply_of
from estimators.workers import Request, Worker
from theory import PanelError

Inbox = SimpleQueue[tuple[int, Reply, float]]

# Copying costs less than finding out who changed a shared request; above this it is frozen instead.
_COPIED = 1 << 20


class Calls:
    """The specialists of an executor, how each is called, and how many of its calls still run.

    Parameters
    ----------
    specialists : mapping of str to callable or fitted estimator
        Whom to call.
    mode : {"auto", "thread", "process", "async", "sync"}
        How functions run.
    form : Form
        What an answer must look like.
    isolate : bool or None
        Whether each gets a copy of the request.
    max_bytes : int
        Longest answer of a worker process.

    Raises
    ------
    PanelError
        If a callable does not fit the mode.
    TypeError
        If something cannot be called, or cannot be sent to a process.
    """

    def __init__(
        self, specialists: Mapping[str, Any], *, mode: str, form: Form, isolate: bool | None, max_bytes: int
    ):
        self.form, self.isolate = form, isolate
        self.names = tuple(specialists)
        self.calls = [as_call(member, form.codes) for member in specialists.values()]
        self.kinds = [_kind(name, call, mode) for name, call in zip(self.names, self.calls, strict=True)]
        self.wants_time = [takes_time_left(call) for call in self.calls]
        self.running = [0] * len(self.calls)
        self.lock = threading.Lock()
        self.workers: list[Worker | None] = [None] * len(self.calls)
        for i, kind in enumerate(self.kinds):
            if kind == "process":
                self.workers[i] = Worker(
                    self.names[i], self.calls[i], form, wants_time=self.wants_time[i], max_bytes=max_bytes
                )
        for worker in self.workers:  # started all at once, then awaited
            if worker is not None:
                worker.ready.wait()

    def reserve(self, places: Iterable[int], most: int) -> dict[int, int]:
        """Count a call of each specialist that has room for one more.

        Parameters
        ----------
        places : iterable of int
            Whom to call.
        most : int
            Calls of one specialist that may run at a time.

        Returns
        -------
        dict of int to int
            Those without room, and how many of their calls run; they are not counted.
        """
        with self.lock:  # looked at and counted at once: requests may come from several threads
            full = {i: self.running[i] for i in places if self.running[i] >= most}
            for i in places:
                if i not in full:
                    self.running[i] += 1
        return full

    def release(self, places: Iterable[int]) -> None:
        """Take back calls that were counted and are not made."""
        with self.lock:
            for i in places:
                self.running[i] -= 1

    def close(self) -> None:
        """End the worker processes."""
        for worker in self.workers:
            if worker is not None:
                worker.close()

    def send(
        self, x: Any, places: list[int], inbox: Any, hard: float, loop: Any
    ) -> tuple[Callable[[float], tuple[int, Reply, float] | None], Callable[[list[int]], None]]:
        """Start the calls, or in the mode "sync" get ready to make them one after the other.

        Parameters
        ----------
        x : object
            The request.
        places : list of int
            Whom to call; each is counted by :meth:`reserve`.
        inbox : Inbox
            Gets (place, reply, moment).
        hard : float
            Moment by which they should have answered.
        loop : asyncio.AbstractEventLoop or None
            For the coroutines.

        Returns
        -------
        take : callable
            Gets seconds to wait; gives the next (place, reply, moment), or None.
        cancel : callable
            Gets the places of those still running, and stops them as far as can be.

        Raises
        ------
        PanelError
            If the request cannot be copied, or sent to a process, or the loop is closed. Nobody is called then.
        """
        try:
            items = self._items(x, places)
        except BaseException:
            self.release(places)
            raise
        if places and self.kinds[places[0]] == "sync":
            return self._in_turn(items, inbox, hard)
        later = [i for i in places if self.kinds[i] == "async"]
        tasks: dict[int, asyncio.Task[None]] = {}
        own_loop = (loop or private_loop()) if later else None
        waiting, request = set(later), Request()

        def release(i: int) -> None:
            with self.lock:
                if i in waiting:
                    waiting.discard(i)
                    self.running[i] -= 1

        if own_loop is not None:

            def start() -> None:
                for i in later:
                    tasks[i] = own_loop.create_task(self._await(i, items[i], inbox, hard, release))

            try:
                own_loop.call_soon_threadsafe(start)
            except RuntimeError as error:
                self.release(places)
                raise PanelError(
                    f"the loop given cannot be used ({error}). Give one that is running."
                ) from error
        for i in places:
            if self.kinds[i] != "async":
                try:
                    in_background(partial(self._work, i, items[i], inbox, hard, request))
                except RuntimeError as error:  # no thread is left: nobody's fault, and the others are asked
                    self.release([i])
                    inbox.put((i, Reply(BUSY, text=f"it could not be called ({error})"), time.monotonic()))

        def cancel(pending: list[int]) -> None:
            for i in pending:
                worker = self.workers[i]
                if worker is not None:
                    worker.kill(request)
                release(i)  # a coroutine that was told to stop costs no thread
            if own_loop is not None:
                gone = set(pending)
                probe_loop()
                own_loop.call_soon_threadsafe(
                    lambda: [task.cancel() for i, task in tasks.items() if i in gone]
                )

        return partial(take, inbox), cancel

    def _in_turn(
        self, items: dict[int, Any], inbox: Any, hard: float
    ) -> tuple[Callable[[float], tuple[int, Reply, float] | None], Callable[[list[int]], None]]:
        """Call one after the other in this thread, one each time that the clock asks for a reply."""
        left = dict(items)

        def call_next(seconds: float) -> tuple[int, Reply, float] | None:
            if seconds <= 0:
                return None
            i = next(iter(left))
            self._work(i, left.pop(i), inbox, hard, Request())
            return take(inbox, 0.0)

        return call_next, lambda _: self.release(left)

    def _work(self, i: int, item: Any, inbox: Any, hard: float, request: Request) -> None:
        worker, end = self.workers[i], hard if self.wants_time[i] else None
        try:
            own = self.calls[i]
            reply = worker.ask(item, hard, request) if worker else reply_of(own, item, self.form, end)
        except BaseException as error:
            reply = raised(error)
        finally:
            with self.lock:
                self.running[i] -= 1
        inbox.put((i, reply, time.monotonic()))

    async def _await(
        self, i: int, item: Any, inbox: Any, hard: float, release: Callable[[int], None]
    ) -> None:
        try:
            more = {"time_left": hard - time.monotonic()} if self.wants_time[i] else {}
            reply = self.form.read(await self.calls[i](item, **more))
        except BaseException as error:
            reply = raised(error)
        finally:
            release(i)
        inbox.put((i, reply, time.monotonic()))

    def _items(self, x: Any, places: list[int]) -> dict[int, Any]:
        """Give each of those called its own request."""
        if type(x) is np.ndarray and not x.dtype.hasobject and self.isolate is None and x.nbytes > _COPIED:
            # A view can be made writable again, and torch writes through one; bytes cannot be written to, so
            # one copy serves all.
            x = np.frombuffer(x.tobytes(), dtype=x.dtype).reshape(x.shape)
        if not any(self.kinds[i] == "process" for i in places):
            return {i: self._own_copy(x) for i in places}
        try:
            packed = pickle.dumps(x)  # once for all of them
        except Exception as error:
            raise PanelError(
                f"the request ({type(x).__name__}) cannot be sent to worker processes ({error}). Send plain data, or use "
                "mode='thread'."
            ) from error
        return {i: packed if self.kinds[i] == "process" else self._own_copy(x) for i in places}

    def _own_copy(self, x: Any) -> Any:
        if type(x) is np.ndarray and not x.dtype.hasobject and self.isolate is not False:
            return x.copy() if self.isolate or x.nbytes <= _COPIED else x.view()
        if not self.isolate:
            return x
        try:
            return copy.deepcopy(x)
        except Exception as error:
            raise PanelError(
                f"the request ({type(x).__name__}) cannot be copied ({error}). Send plain data, or set isolate=False."
            ) from error


def take(inbox: Inbox, seconds: float) -> tuple[int, Reply, float] | None:
    """Take a reply, waiting at most so long; None if there is none."""
    try:
        return inbox.get(timeout=seconds) if seconds > 0 else inbox.get_nowait()
    except Empty:
        return None


def _kind(name: str, call: Any, mode: str) -> str:
    later = is_async(call)
    if mode == "async" and not later:
        raise PanelError(f"mode='async' needs coroutine functions; {name!r} is not one. Use mode='auto'.")
    if later and mode not in ("async", "auto"):
        raise PanelError(f"mode={mode!r} needs functions; {name!r} is a coroutine function. Use mode='auto'.")
    if later:
        return "async"
    return "thread" if mode == "auto" else mode
