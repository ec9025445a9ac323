"""A process for each specialist: killed when it hangs, started again, and answering in raw bytes."""

from __future__ import annotations

import atexit
import json
import pickle
import signal
import struct
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from estimators.background import in_background
from estimators.replies import BUSY, DIED, LATE, Form, Reply, raised, reply_of

_READY = b"ready"
_START = 60.0  # seconds in which a new interpreter must have imported the specialist

_alive: weakref.WeakSet[Worker] = weakref.WeakSet()


class Request:
    """Who asks; ``given_up`` once nobody waits for the answer."""

    __slots__ = ("given_up",)

    def __init__(self) -> None:
        self.given_up = False


class Worker:
    """One specialist in a process of its own.

    Parameters
    ----------
    name : str
        The specialist's.
    call : callable
        Found by name in the worker: defined in a module, not in a function.
    form : Form
        What an answer must look like; it is judged in the worker.
    max_bytes : int
        Longest answer that is read.

    Raises
    ------
    TypeError
        If the callable cannot be sent.
    """

    def __init__(self, name: str, call: Callable[..., Any], form: Form, *, wants_time: bool, max_bytes: int):
        self.name, self.max_bytes = name, max_bytes
        try:
            self.payload = pickle.dumps((call, form, wants_time))
        except Exception as error:
            what = "a lambda" if getattr(call, "__name__", "") == "<lambda>" else str(error)
            raise TypeError(
                f"specialist {name!r} cannot be sent to a worker process ({what}). Define it in a module or use "
                "mode='thread'."
            ) from error
        self.lock = threading.Lock()  # of the pipe: one request at a time
        self.swap = threading.Lock()  # of the process: nobody kills one that is not started yet
        self.ready = threading.Event()
        self.closed = self.killed = False
        self.failure = ""
        self.request: Request | None = None
        self.process: Any = None
        self.pipe: Connection | None = None
        _alive.add(self)
        self._start()

    def _start(self) -> None:
        """Start a process; it is ready once it has imported the specialist."""
        self.ready.clear()
        context = get_context("spawn")
        with self.swap:
            if self.closed:
                return
            self.pipe, far = context.Pipe()
            self.process = context.Process(target=serve, args=(far, self.payload), daemon=True)
            self.process.start()
        far.close()
        in_background(self._await_ready)

    def _await_ready(self) -> None:
        pipe = self.pipe
        if pipe is None:
            return
        try:
            said = pipe.recv_bytes(1 << 16) if pipe.poll(_START) else b"it did not start in time"
        except (EOFError, OSError):
            said = b"it ended while it started"
        self.failure = "" if said == _READY else said.decode(errors="replace")
        self.ready.set()

    def ask(self, x: bytes, end: float, request: Request) -> Reply:
        """Send a request and wait for the answer, or for the end of the process.

        Parameters
        ----------
        x : bytes
            The pickled request.
        end : float
            Monotonic time by which it should have answered.
        request : Request
            Who asks, so that :meth:`kill` cannot hit the request of another.

        Returns
        -------
        Reply
        """
        if not self.ready.is_set():
            return Reply(BUSY, text="its worker process is starting")
        with self.lock:
            if not self.ready.is_set():
                return Reply(BUSY, text="its worker process is starting")
            if self.failure:
                return Reply(DIED, text=f"its worker process cannot start: {self.failure}"[:500])
            if time.monotonic() >= end:
                return Reply(LATE)
            with self.swap:
                if request.given_up:  # given up while another call ran; nobody would end this one
                    return Reply(LATE)
                self.request = request
            reply, text = None, ""
            try:
                # Seconds, and not the moment: a monotonic clock may differ between processes.
                self.pipe.send_bytes(struct.pack("<d", end - time.monotonic()) + x)
                reply = decode(self.pipe.recv_bytes(self.max_bytes))
            except (EOFError, OSError, ValueError) as error:
                text = f"its worker process ended ({type(error).__name__}: {error})"
            with self.swap:
                self.request = None
                killed, self.killed = self.killed, False
            if self.closed:
                return reply or Reply(LATE)
            if killed or reply is None:  # killed also just after it had answered: nobody else restarts it
                self._end()
                self._start()
            return reply or (Reply(LATE) if killed else Reply(DIED, text=text))

    def kill(self, request: Request) -> None:
        """End a process that hangs; the thread that waits for it starts another.

        Parameters
        ----------
        request : Request
            Whose call hangs; it is given up, so that a call which has not begun never does. A call of another
            request goes on.
        """
        with self.swap:
            request.given_up = True
            if self.request is not request:
                return
            self.killed = True
            self.ready.clear()  # whoever asks before the next process is there finds it busy
            self.process.kill()

    def _end(self) -> None:
        self.process.kill()
        self.process.join(1.0)
        self.pipe.close()

    def close(self) -> None:
        """End the process for good."""
        with self.swap:
            self.closed = True
            self.process.kill()


# Before multiprocessing's own exit handler, which asks politely and then waits.
@atexit.register
def _close_all() -> None:
    for worker in list(_alive):
        worker.close()


def serve(pipe: Connection, payload: bytes) -> None:
    """Answer requests until the pipe closes; runs in the worker.

    Parameters
    ----------
    pipe : Connection
        To the process that asks.
    payload : bytes
        The pickled specialist.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # an interrupt is for the one who asks, who ends this process
    try:
        call, form, wants_time = pickle.loads(payload)
    except BaseException as error:
        pipe.send_bytes(raised(error).text.encode())
        return
    pipe.send_bytes(_READY)
    while True:
        try:
            told = pipe.recv_bytes()
        except EOFError:
            return
        end = time.monotonic() + struct.unpack_from("<d", told)[0]
        try:
            x = pickle.loads(told[8:])
        except Exception as error:  # made of a class that this process cannot import
            pipe.send_bytes(encode(raised(error)))
            continue
        pipe.send_bytes(encode(reply_of(call, x, form, end if wants_time else None)))


def encode(reply: Reply) -> bytes:
    """Write a reply as a line of JSON and raw numbers: what comes back is never unpickled."""
    head = {
        "status": reply.status,
        "text": reply.text,
        "shape": None if reply.values is None else reply.values.shape,
        "rows": None if reply.rows is None else reply.rows.tolist(),
    }
    body = b"" if reply.values is None else np.ascontiguousarray(reply.values, dtype="<f8").tobytes()
    return json.dumps(head).encode() + b"\n" + body


def decode(data: bytes) -> Reply:
    """Read what :func:`encode` wrote."""
    line, _, body = data.partition(b"\n")
    head = json.loads(line)
    values = None
    if head["shape"] is not None:
        values = np.frombuffer(body, dtype="<f8").reshape(head["shape"]).astype(np.float64)
    rows = None if head["rows"] is None else np.array(head["rows"])
    return Reply(str(head["status"]), values, str(head["text"]), rows)
