"""HTTP connections of each event loop, and the bridge from functions that are no coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine
from functools import lru_cache
from typing import Any

from estimators.background import private_loop, start_coroutine
from estimators.chat.schemas import need_extra
from theory import PanelError


class Line:
    """What one event loop uses of an endpoint: a client of one connection for each request that runs.

    Parameters
    ----------
    max_concurrency : int
        Requests that may run at a time.

    Notes
    -----
    A pool of httpcore looks through all its connections, for each of them, at every request: a request took 7.2 ms
    of a core with 64 in one pool, and takes 0.9 ms with pools of one.
    """

    def __init__(self, max_concurrency: int):
        self.opened: list[Any] = []
        self._free: list[Any] = []
        self._slots = asyncio.Semaphore(max_concurrency)

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[Any]:
        """Wait for a place among the requests that run.

        Yields
        ------
        httpx.AsyncClient
            For one request at a time.
        """
        async with self._slots:
            http = self._free.pop() if self._free else self._open()
            try:
                yield http
            finally:
                self._free.append(http)

    async def close(self) -> None:
        """Close all connections."""
        while self.opened:
            await self.opened.pop().aclose()

    def _open(self) -> Any:
        httpx = need_extra("httpx")
        http = httpx.AsyncClient(
            verify=_certificates(), trust_env=False, follow_redirects=False, timeout=None
        )
        self.opened.append(http)
        return http


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    # Reading the authorities takes 10 ms and is the same for each connection.
    return need_extra("httpx").create_ssl_context(trust_env=False)


class Connections:
    """Connections to an endpoint, a set for each event loop that asks.

    Parameters
    ----------
    max_concurrency : int
        Requests at a time on one loop.

    Notes
    -----
    Proxy settings of the environment are ignored and redirects are not followed. When it is garbage, loops that
    run close their connections; a loop that has ended without :meth:`close_async` leaves its sockets to the
    garbage collector.
    """

    def __init__(self, max_concurrency: int):
        self.max_concurrency = max_concurrency
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _hang_up, self._lines).atexit = False

    def line(self) -> Line:
        """Give the connections of the running loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for ended in [other for other in self._lines if other.is_closed()]:
                del self._lines[ended]
            if loop not in self._lines:
                self._lines[loop] = Line(self.max_concurrency)
            return self._lines[loop]

    async def close_async(self) -> None:
        """Close the connections of the running loop."""
        with self._lock:
            line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.close()

    def close(self) -> None:
        """Close the connections of all loops that run; those of other threads are closed on return."""
        with self._lock:
            closing = _hang_up(self._lines)
        own = running_loop()
        for loop, done in closing:
            if loop is not own:
                done.result(timeout=10.0)


def _hang_up(lines: dict[asyncio.AbstractEventLoop, Line]) -> list[tuple[Any, Any]]:
    closing = []
    while lines:
        loop, line = lines.popitem()
        if loop.is_running():
            coroutine = line.close()
            try:
                closing.append((loop, start_coroutine(coroutine, loop)))
            except RuntimeError:  # it ended meanwhile
                coroutine.close()
    return closing


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Give the event loop that runs in this thread, if one does."""
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


def wait_for(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the private loop of the library and wait, inside of a running loop too.

    Parameters
    ----------
    coroutine : coroutine
        An interrupt while waiting cancels it.

    Returns
    -------
    object
        What it returned.

    Raises
    ------
    PanelError
        From a coroutine that runs on the private loop itself: it would wait for itself.

    Notes
    -----
    A loop that runs in this thread stands still meanwhile; there, ``await`` the coroutine instead.
    """
    loop = private_loop()
    if running_loop() is loop:
        coroutine.close()
        raise PanelError("this coroutine would wait for its own loop. Await the method that ends in _async.")
    future = start_coroutine(_contained(coroutine), loop)
    try:
        value, error = future.result()
    except BaseException:
        future.cancel()
        raise
    if error is not None:
        raise error
    return value


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    try:
        return await coroutine, None
    except (SystemExit, KeyboardInterrupt) as error:  # would end the loop of everybody
        return None, error
