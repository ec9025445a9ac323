"""Recorded answers of chat endpoints: replayed without a socket, apart from any seed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
import weakref
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

from theory import PanelError

_VERSION = 1
_BEGINNING = b'{"cassette": '  # of each line, as its fields are sorted
_alive: weakref.WeakSet[Cassette] = weakref.WeakSet()
MODES = ("off", "read", "record", "replay")


class Cassette:
    """A file of requests and what came of them, a JSON line each; headers and keys are never in it.

    Parameters
    ----------
    path : path
        Made by the first recording.
    mode : {"off", "read", "record", "replay"}
        ``"read"`` takes answers that are there and asks for the rest; ``"record"`` also writes what it asked;
        ``"replay"`` opens no socket, and what is missing is an error; ``"off"`` does nothing.

    Raises
    ------
    PanelError
        If the mode is unknown, the file is no cassette, or it is not there for a replay.

    Notes
    -----
    The key is the SHA-256 of request body, endpoint name, schema and ``sample_id``. ``sample_id`` separates
    repeats of one question and is not sent; the seed is sent and, like all of the body, belongs to the key.
    Failures are recorded too: a replay repeats them, ``"read"`` and ``"record"`` ask again. A last line that was
    cut off is dropped.

    Examples
    --------
    >>> Cassette("answers.jsonl", mode="off").find(request_key({"model": "m"}, "here"), {"model": "m"})
    """

    def __init__(self, path: str | os.PathLike[str], mode: str = "record"):
        if mode not in MODES:
            raise PanelError(f"cache must be one of {MODES}; got {mode!r}.")
        self.path = os.fspath(path)
        self.mode = mode
        self._entries: dict[str, dict[str, Any]] = {}
        self._fresh: set[str] = set()
        self._forget_turns()
        _alive.add(self)
        if mode == "off":
            return
        if os.path.exists(self.path):
            self._read()
        elif mode == "replay":
            raise PanelError(f"{self.path} is not there. Run once with cache='record'.")

    def find(self, key: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Look a request up.

        Parameters
        ----------
        key : str
            From :func:`request_key`.
        body : mapping
            The request, to say what differs.

        Returns
        -------
        dict or None
            What came of it; None: ask.

        Raises
        ------
        PanelError
            In a replay, if it was not recorded; it names what differs from the nearest recording.
        """
        if self.mode == "off":
            return None
        entry = self._entries.get(key)
        if entry is None:
            if self.mode == "replay":
                raise PanelError(
                    f"{self.path} does not hold this request; {self._nearest(body)} Record it with "
                    "cache='record', or ask as in the recording."
                )
            return None
        reply = dict(entry["reply"])
        fresh = self.mode == "replay" or key in self._fresh or reply["reason"] is None
        return reply if fresh else None

    def keep(self, key: str, body: Mapping[str, Any], reply: Mapping[str, Any], sample_id: str) -> None:
        """Record what came of a request, in mode ``"record"`` only.

        Parameters
        ----------
        key, body : object
            As in :meth:`find`.
        reply : mapping
            What came.
        sample_id : str
            Which repeat.
        """
        if self.mode != "record":
            return
        entry = {
            "cassette": _VERSION,
            "key": key,
            "request": dict(body),
            "reply": dict(reply),
            "sample_id": sample_id,
        }
        line = json.dumps(entry, sort_keys=True, allow_nan=False) + "\n"
        with self._lock:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line)
            self._entries[key] = entry
            self._fresh.add(key)

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Let one at a time ask a question, so that the same question is asked once.

        Parameters
        ----------
        key : str
            As in :meth:`find`.

        Yields
        ------
        None
            Held while the question is looked up and asked, against coroutines of this and of other loops.
        """
        mine: Future[None] = Future()
        while True:
            with self._lock:
                other = self._asking.setdefault(key, mine)
            if other is mine:
                break
            # A future between loops; shielded, since who gives up waiting must not end the turn of others.
            await asyncio.shield(asyncio.wrap_future(other))
        try:
            yield
        finally:
            with self._lock:
                del self._asking[key]
            mine.set_result(None)

    def _forget_turns(self) -> None:
        self._lock = threading.Lock()
        self._asking: dict[str, Future[None]] = {}

    def _read(self) -> None:
        with open(self.path, "rb") as file:
            lines = file.read().split(b"\n")
        cut = lines.pop()
        try:
            for line in lines:
                entry = json.loads(line)
                if entry["cassette"] != _VERSION:
                    raise ValueError(f"a line is of version {entry['cassette']}")
                entry["reply"]["reason"], entry["request"]["model"]
                self._entries[entry["key"]] = entry
            if not (cut.startswith(_BEGINNING) or _BEGINNING.startswith(cut)):
                raise ValueError("its last line is none of a cassette")
            if cut and self.mode == "record":
                os.truncate(self.path, os.path.getsize(self.path) - len(cut))
        except (ValueError, KeyError, TypeError) as error:
            raise PanelError(
                f"{self.path} is no cassette of version {_VERSION} ({error}). Give another path."
            ) from None

    def _nearest(self, body: Mapping[str, Any]) -> str:
        best, fewest = None, None
        for entry in self._entries.values():
            request = entry["request"]
            differ = sorted(
                name for name in {*request, *body} if request.get(name, ...) != body.get(name, ...)
            )
            if fewest is None or len(differ) < len(fewest):
                best, fewest = request, differ
        if best is None or fewest is None:
            return "it is empty."
        if not fewest:
            return "only the endpoint name, the schema or sample_id differ from the nearest recording."
        told = ", ".join(
            f"{name} ({str(best.get(name))[:60]!r} recorded, {str(body.get(name))[:60]!r} asked)"
            for name in fewest
        )
        return f"the nearest recording differs in {told}."

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "mode": self.mode}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["mode"])  # type: ignore[misc]


def _after_fork() -> None:
    for tape in list(_alive):
        tape._forget_turns()


# Who asks in the parent process never ends a turn in its child, which would wait for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def request_key(
    body: Mapping[str, Any], endpoint: str, *, schema: Mapping[str, Any] | None = None, sample_id: str = ""
) -> str:
    """Give the key of a request.

    Parameters
    ----------
    body : mapping
        What is sent.
    endpoint : str
        Name of the endpoint.
    schema : mapping, optional
        Form of the answer.
    sample_id : str
        Which repeat.

    Returns
    -------
    str
        Hexadecimal SHA-256.
    """
    parts = [body, endpoint, schema, sample_id]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
