"""HTTP connections of each event loop, and the bridge from functions that are no coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import weakref
from collections.abc import AsyncIterator, Coroutine
from functools import lru_cache
from typing import Any

from estimators.background import refuse_own_loop, start_coroutine
from estimators.chat.schemas import need_extra
from theory import PanelError


class Line:
    """What one event loop uses of an endpoint: a client of one connection for each request that runs.

    Parameters
    ----------
    max_concurrency : int
        Requests that may run at a time.

    Attributes
    ----------
    opened : list of httpx.AsyncClient
        To be closed.
    process : int
        Where they were opened; a fork of it leaves them alone.

    Notes
    -----
    A pool of httpcore looks through all its connections, for each of them, at every request: a request took 7.2 ms
    of a core with 64 in one pool, and takes 0.9 ms with pools of one.
    """

    def __init__(self, max_concurrency: int):
        self.opened: list[Any] = []
        self.process = os.getpid()
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
                if not http.is_closed:
                    self._free.append(http)

    async def close(self) -> None:
        """Close all connections; requests that wait for a place open new ones."""
        self._free.clear()
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
        # Each loop adds its own and no other, so there is no lock that a fork could leave held.
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}
        weakref.finalize(self, _hang_up, self._lines).atexit = False

    def line(self) -> Line:
        """Give the connections of the running loop."""
        loop = asyncio.get_running_loop()
        for other, line in list(self._lines.items()):
            if other.is_closed() or line.process != os.getpid():  # a fork must not share a socket
                self._lines.pop(other, None)
        return self._lines.get(loop) or self._lines.setdefault(loop, Line(self.max_concurrency))

    async def close_async(self) -> None:
        """Close the connections of the running loop."""
        line = self._lines.get(asyncio.get_running_loop())
        if line is not None:
            await line.close()

    def close(self) -> None:
        """Close the connections of all loops that run; those of other threads are closed on return."""
        own = running_loop()
        for loop, done in _hang_up(self._lines):
            if loop is not own:
                done.result(timeout=10.0)


def _hang_up(lines: dict[asyncio.AbstractEventLoop, Line]) -> list[tuple[Any, Any]]:
    closing = []
    for loop, line in list(lines.items()):
        if loop.is_running() and line.process == os.getpid():
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
    try:
        refuse_own_loop()
    except PanelError:
        coroutine.close()
        raise
    future = start_coroutine(_contained(coroutine))
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
