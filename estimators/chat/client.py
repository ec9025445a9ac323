"""A client of one OpenAI-compatible chat endpoint: retries, budgets, recordings."""

from __future__ import annotations

import os
import random
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from estimators.chat.cassette import Cassette, request_key
from estimators.chat.schemas import need_extra
from estimators.chat.wire import (
    ChatReply,
    Messages,
    Price,
    read_reply,
    response_format,
    retry_after,
    worst_case,
    worth_again,
)
from fusion.deliberative import Ledger
from theory import PanelError

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_STRUCTURED = ("json_schema", "json_object", "prompt")


class ChatClient:
    """Asks one model at one endpoint.

    Parameters
    ----------
    base_url : str
        Up to and without ``/chat/completions``, such as ``https://host/v1``.
    model : str
        Name of the model.
    api_key : str or callable, optional
        Name of the environment variable that holds the key, or a function that gives it. The key itself is
        read for each request and stays nowhere.
    temperature : float
        Sent as it is; 0 is not determinism.
    max_tokens : int
        Limit on an answer.
    token_field : {"max_tokens", "max_completion_tokens"}
        What the endpoint calls it.
    seed : int, optional
        Sent, if given; it says nothing about recordings.
    structured : {"json_schema", "json_object", "prompt"}
        How the endpoint is told about the form of an answer. It is never changed silently.
    timeout : float
        Seconds for one attempt, to the last byte; up to twice that where connecting itself is slow.
    retries : int
        Further attempts, 0 to 3: after connection errors, time-outs, 408, 425, 429 and 5xx.
    price : Price, optional
        Of the model, from the caller's own table.
    cassette : Cassette, optional
        Recordings.
    name : str, optional
        Name of the endpoint in recordings; ``base_url`` by default.
    max_bytes : int
        Longest reply that is read.
    sleep, jitter : callable, optional
        What waits, and what draws from [0, 1).

    Raises
    ------
    PanelError
        If a parameter is out of range.

    Notes
    -----
    Pauses: full jitter, uniform up to 0.5 s doubled for each retry, at most 30 s; a Retry-After is obeyed up to
    these 30 s. Proxy settings of the environment are ignored and redirects are not followed.

    Examples
    --------
    >>> ChatClient("http://127.0.0.1:1/v1", "some-model", retries=0)
    ChatClient('http://127.0.0.1:1/v1', 'some-model')
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | Callable[[], str] | None = None,
        temperature: float = 0.0,
        max_tokens: int = 512,
        token_field: str = "max_tokens",
        seed: int | None = None,
        structured: str = "json_schema",
        timeout: float = 60.0,
        retries: int = 3,
        price: Price | None = None,
        cassette: Cassette | None = None,
        name: str | None = None,
        max_bytes: int = 1_000_000,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] | None = None,
    ):
        check_url(base_url)
        if structured not in _STRUCTURED:
            raise PanelError(f"structured must be one of {_STRUCTURED}; got {structured!r}.")
        if token_field not in ("max_tokens", "max_completion_tokens"):
            raise PanelError(
                f"token_field must be 'max_tokens' or 'max_completion_tokens'; got {token_field!r}."
            )
        if not (isinstance(retries, int) and 0 <= retries <= 3):
            raise PanelError(f"retries must be 0 to 3; got {retries!r}.")
        if not (timeout > 0 and max_tokens > 0 and max_bytes > 0):
            raise PanelError("timeout, max_tokens and max_bytes must be positive.")
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.api_key = api_key
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.token_field = token_field
        self.seed = seed
        self.structured = structured
        self.timeout = timeout
        self.retries = retries
        self.price = price
        self.cassette = cassette
        self.name = base_url if name is None else name
        self.max_bytes = max_bytes
        self.sleep = sleep
        # Pauses decide nothing that is recorded; a generator of its own leaves the global one alone.
        self.jitter = random.Random().random if jitter is None else jitter
        self._http: Any = None
        self._lock = threading.Lock()

    def complete(
        self,
        messages: Messages,
        *,
        schema: Mapping[str, Any] | None = None,
        schema_name: str = "answer",
        ledger: Ledger | None = None,
        sample_id: str = "",
        label: str = "",
    ) -> ChatReply:
        """Send a conversation and read what the model writes next.

        Parameters
        ----------
        messages : sequence of mapping
            role and content.
        schema : mapping, optional
            JSON schema of the answer.
        schema_name : str
            Its name.
        ledger : fusion.deliberative.Ledger, optional
            Each attempt reserves its worst case there first; without a reservation it is not made.
        sample_id : str
            Separates repeats of one question in recordings.
        label : str
            Who asks, for the ledger.

        Returns
        -------
        ChatReply
            Faults of the endpoint are reasons in it, not exceptions.

        Raises
        ------
        PanelError
            In a replay, if the request was not recorded; or if the key is not there.
        """
        body = self._body(messages, schema, schema_name)
        ledger = Ledger() if ledger is None else ledger
        tape = self.cassette
        if tape is None or tape.mode == "off":
            return self._live(body, ledger, label)
        key = request_key(body, self.name, schema=schema, sample_id=sample_id)
        with tape.turn(key):
            found = tape.find(key, body)
            if found is not None:
                source = "replay" if tape.mode == "replay" else "cache"
                reply = ChatReply(**found, source=source)
                ledger.free(source=source, label=label, reason=reply.reason or "ok")
                return reply
            reply = self._live(body, ledger, label)
            tape.keep(key, body, reply.recorded(), sample_id)
        return reply

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._http is not None:
                self._http.close()
                self._http = None

    def _body(self, messages: Messages, schema: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": self.temperature,
            self.token_field: self.max_tokens,
        }
        if self.seed is not None:
            body["seed"] = self.seed
        return {**body, **response_format(self.structured, schema, name)}

    def _live(self, body: dict[str, Any], ledger: Ledger, label: str) -> ChatReply:
        begun = time.monotonic()
        tokens, money = worst_case(body, self.max_tokens, self.price)
        reply = ChatReply(None, "budget")
        spent: list[dict[str, Any]] = []
        for attempt in range(self.retries + 1):
            ticket = ledger.reserve(tokens=tokens, money=money, label=label)
            if ticket is None:
                reply = replace(reply, reason="budget")
                break
            start = time.monotonic()
            used: dict[str, Any] = {}
            status = "failed"
            try:
                reply, wait = self._attempt(body, ledger.time_left())
                used = {"tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out}
                status = reply.reason or "ok"
                known = None not in used.values()
                if self.price is not None and known:
                    used["money"] = self.price.of(reply.tokens_in or 0, reply.tokens_out or 0)
            finally:  # whatever happens, the ticket is closed
                ledger.reconcile(ticket, **used, seconds=time.monotonic() - start, reason=status)
            spent.append(used)
            if wait is None or attempt == self.retries:
                break
            if wait < 0:
                wait = self.jitter() * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**attempt)
            left = ledger.time_left()
            if left is not None and wait >= left:
                break
            self.sleep(min(wait, _LONGEST_PAUSE))
        return replace(
            reply,
            tokens_in=_sum(spent, "tokens_in"),
            tokens_out=_sum(spent, "tokens_out"),
            money=_sum(spent, "money"),
            seconds=time.monotonic() - begun,
            attempts=len(spent),
        )

    def _attempt(self, body: dict[str, Any], time_left: float | None) -> tuple[ChatReply, float | None]:
        """Send once; beside the reply seconds to wait for the next attempt, -1 for jitter, None for no other."""
        httpx = need_extra("httpx")
        limit = self.timeout if time_left is None else max(min(self.timeout, time_left), 1e-3)
        end = time.monotonic() + limit
        content = bytearray()
        try:
            with self._connections(httpx).stream(
                "POST",
                f"{self.base_url}/chat/completions",
                json=body,
                headers=self._headers(),
                timeout=httpx.Timeout(limit),
            ) as response:
                status = response.status_code
                if status != 200:
                    again = worth_again(status)
                    asked = retry_after(response.headers.get("retry-after"))
                    wait = (-1.0 if asked is None else min(asked, _LONGEST_PAUSE)) if again else None
                    return ChatReply(None, f"http_{status}"), wait
                if "json" not in response.headers.get("content-type", ""):
                    return ChatReply(None, "malformed"), None
                # httpx limits the wait for each piece; a reply that drips is stopped here.
                for part in response.iter_bytes():
                    content += part
                    if len(content) > self.max_bytes:
                        return ChatReply(None, "malformed"), None
                    if time.monotonic() > end:
                        return ChatReply(None, "timeout"), -1.0
        except httpx.TimeoutException:
            return ChatReply(None, "timeout"), -1.0
        except httpx.ConnectError:  # nothing was sent
            return ChatReply(None, "connection", tokens_in=0, tokens_out=0), -1.0
        except httpx.TransportError:
            return ChatReply(None, "connection"), -1.0
        except httpx.DecodingError:
            return ChatReply(None, "malformed"), None
        return ChatReply(**read_reply(bytes(content))), None

    def _connections(self, httpx: Any) -> Any:
        with self._lock:
            if self._http is None:
                limits = httpx.Limits(max_connections=None)
                self._http = httpx.Client(trust_env=False, follow_redirects=False, limits=limits)
                weakref.finalize(self, self._http.close)  # sockets do not wait for the garbage collector
            return self._http

    def _headers(self) -> dict[str, str]:
        if self.api_key is None:
            return {}
        key = os.environ.get(self.api_key) if isinstance(self.api_key, str) else self.api_key()
        if not key:
            raise PanelError(
                "the API key is not there: api_key names an environment variable that is not set, or its function "
                "gave nothing. Give the name of the variable, never the key."
            )
        return {"Authorization": f"Bearer {key}"}

    def __repr__(self) -> str:
        return f"ChatClient({self.base_url!r}, {self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_http", "jitter")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._http = None
        self._lock = threading.Lock()
        self.jitter = random.Random().random


def check_url(base_url: str) -> None:
    """Refuse an address that cannot be right.

    Parameters
    ----------
    base_url : str
        Of an endpoint.

    Raises
    ------
    PanelError
        If it is no http address, holds a user name or password, or ends in ``/chat/completions``.
    """
    parts = urllib.parse.urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PanelError(f"base_url must be an http or https address; got {parts.scheme}://{parts.hostname}.")
    if parts.username is not None or parts.password is not None or parts.query:
        raise PanelError("base_url holds a user name, password or query; it is recorded. Give api_key=.")
    tail = "/chat/completions"
    if base_url.rstrip("/").endswith(tail):
        raise PanelError(f"base_url ends in {tail!r}, which is added to it. Cut that off.")


def _sum(spent: list[dict[str, Any]], name: str) -> Any:
    values = [used.get(name) for used in spent]
    return None if not values or None in values else sum(values)
