"""A chat endpoint on 127.0.0.1 that misbehaves on script; it opens no other address."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = {"answer": "A", "confidence": 0.8, "reasons": []}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5}


def completion(
    text: str | None, *, usage: Any = USAGE, finish: str = "stop", **message: Any
) -> dict[str, Any]:
    found = {
        "choices": [{"message": {"content": text, **message}, "finish_reason": finish}],
        "model": "fake-1",
    }
    return found if usage is None else {**found, "usage": usage}


class Server(ThreadingHTTPServer):
    """`script(body, headers, number)` gives an action: a dict to answer with, or (name, argument)."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, script: Callable[[dict, Any, int], Any]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.bodies: list[dict] = []
        self.headers: list[Any] = []
        self.lock = threading.Lock()
        self.done = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the script."""


class Handler(BaseHTTPRequestHandler):
    """Plays one action of the script."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        """Say nothing."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.headers.append(self.headers)
        action = self.server.script(body, self.headers, number)
        name, argument = ("json", action) if isinstance(action, dict) else action
        getattr(self, name)(argument)

    def json(self, content, status=200, **headers):
        self.raw(json.dumps(content).encode(), status, "application/json", headers)

    def raw(self, content, status=200, kind="application/json", headers=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def said(self, text):
        self.json(completion(text))

    def status(self, argument):
        code, headers = argument if isinstance(argument, tuple) else (argument, {})
        self.json({"error": "no"}, code, **headers)

    def page(self, text):
        self.raw(text.encode(), 200, "text/html")

    def packed(self, content):
        self.raw(content, headers={"Content-Encoding": "gzip"})

    def slow(self, seconds):
        self.server.done.wait(seconds)
        self.said(json.dumps(GOOD))

    def drip(self, seconds):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "100000")
        self.end_headers()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.server.done.wait(0.01):
            self.wfile.write(b" ")
            self.wfile.flush()
        self.close_connection = True

    def hang_up(self, _):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices": [')
        self.wfile.flush()
        self.close_connection = True


@contextmanager
def serving(script: Callable[[dict, Any, int], Any]) -> Iterator[Server]:
    server = Server(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.done.set()
        server.shutdown()
        server.server_close()
        thread.join()


def question(body) -> str:
    return body["messages"][1]["content"].split("\n")[0]


KINDS = ("good", "good", "good", "good", "slow", "broken", "schema", "404", "429", "500")


def hostile(body, *_):
    """By the content of a question, so that nothing depends on threads."""
    digest = hashlib.sha256(question(body).encode()).digest()
    kind = KINDS[digest[0] % len(KINDS)]
    if kind == "slow" and digest[2] >= 16:  # a time-out takes its time: a few of them are enough
        kind = "broken"
    wrong = {
        "good": completion(json.dumps({**GOOD, "answer": "ABC"[digest[1] % 3]})),
        "slow": ("slow", 20),
        "broken": completion('{"answer": "A", '),
        "schema": completion('{"answer": "Z"}'),
    }
    return wrong[kind] if kind in wrong else ("status", int(kind))
