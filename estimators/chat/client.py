"""A client of one OpenAI-compatible chat endpoint: retries, budgets, recordings."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from estimators.background import daemons
from estimators.chat.cassette import Cassette, request_key
from estimators.chat.connections import Connections, wait_for
from estimators.chat.reading import clean_text
from estimators.chat.schemas import need_extra
from estimators.chat.wire import (
    ChatReply,
    Messages,
    Price,
    next_pause,
    read_reply,
    response_format,
    retry_after,
    worst_case,
)
from fusion.deliberative import Ledger
from theory import PanelError

_STRUCTURED = ("json_schema", "json_object", "prompt")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHORTEST_KEY = 8  # replacing shorter ones would change texts that only look like it


class ChatClient:
    """Asks one model at one endpoint; from coroutines, or from any thread.

    Parameters
    ----------
    base_url : str
        Up to and without ``/chat/completions``, such as ``https://host/v1``.
    model : str
        Name of the model.
    api_key : str or callable, optional
        Name of the environment variable that holds the key, or a function that gives it, called in a thread of
        its own. The key itself is read for each request and stays nowhere.
    temperature : float, optional
        Sent as it is, and left out if None, as some models want it; 0 is not determinism.
    max_tokens : int
        Limit on an answer.
    token_field : {"max_tokens", "max_completion_tokens"}
        What the endpoint calls it.
    seed : int, optional
        Sent, if given; it says nothing about recordings.
    structured : {"json_schema", "json_object", "prompt"}
        How the endpoint is told about the form of an answer. It is never changed silently.
    timeout : float
        Seconds for one attempt, from connecting to the last byte.
    retries : int
        Further attempts, 0 to 3: after connection errors, time-outs, 408, 425, 429 and 5xx.
    price : Price, optional
        Of the model, from the caller's own table.
    cassette : Cassette, optional
        Recordings.
    name : str, optional
        Name of the endpoint in recordings; ``base_url`` by default.
    max_bytes : int
        Longest reply that is read. Compressed ones are neither asked for nor read: they have no such bound.
    max_concurrency : int
        Requests at a time on one event loop; the others wait, and reserve nothing yet.
    sleep, jitter : callable, optional
        The coroutine function that waits, and what draws from [0, 1).

    Raises
    ------
    PanelError
        If a parameter is out of range.

    Notes
    -----
    Pauses: full jitter, uniform up to 0.5 s doubled for each retry, at most 30 s; a Retry-After is obeyed up to
    these 30 s. Proxy settings of the environment are ignored and redirects are not followed.

    :meth:`complete` runs :meth:`complete_async` on a private event loop, so both obey the same ledger and the
    same recordings. A cancelled attempt stays charged its reservation and is not recorded. Connections belong to
    the loop that opened them: in a loop of your own use ``async with client:`` or await :meth:`close_async`.

    Examples
    --------
    >>> ChatClient("http://127.0.0.1:1/v1", "some-model", retries=0)
    ChatClient('http://127.0.0.1:1/v1', 'some-model')
    >>> async def ask_twice():
    ...     async with ChatClient("http://127.0.0.1:1/v1", "some-model", retries=0) as client:
    ...         talk = [{"role": "user", "content": "2 + 2?"}]
    ...         return await asyncio.gather(*[client.complete_async(talk) for _ in range(2)])
    >>> [reply.reason for reply in asyncio.run(ask_twice())]
    ['connection', 'connection']
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | Callable[[], str] | None = None,
        temperature: float | None = 0.0,
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
        max_concurrency: int = 64,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] | None = None,
    ):
        check_url(base_url)
        if isinstance(api_key, str) and not _VARIABLE.fullmatch(api_key):
            raise PanelError(
                "api_key is no name of an environment variable. Give the name of the variable, never the key."
            )
        if structured not in _STRUCTURED:
            raise PanelError(f"structured must be one of {_STRUCTURED}; got {structured!r}.")
        if token_field not in ("max_tokens", "max_completion_tokens"):
            raise PanelError(
                f"token_field must be 'max_tokens' or 'max_completion_tokens'; got {token_field!r}."
            )
        if not (isinstance(retries, int) and 0 <= retries <= 3):
            raise PanelError(f"retries must be 0 to 3; got {retries!r}.")
        if temperature is not None and not 0.0 <= temperature < float("inf"):
            raise PanelError(f"temperature must be a finite number >= 0, or None; got {temperature!r}.")
        if not (timeout > 0 and max_tokens > 0 and max_bytes > 0 and max_concurrency > 0):
            raise PanelError("timeout, max_tokens, max_bytes and max_concurrency must be positive.")
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
        self.max_concurrency = max_concurrency
        self.sleep = sleep
        # Pauses decide nothing that is recorded; a generator of its own leaves the global one alone.
        self.jitter = random.Random().random if jitter is None else jitter
        self._connections = Connections(max_concurrency)

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
        return wait_for(
            self.complete_async(
                messages,
                schema=schema,
                schema_name=schema_name,
                ledger=ledger,
                sample_id=sample_id,
                label=label,
            )
        )

    async def complete_async(
        self,
        messages: Messages,
        *,
        schema: Mapping[str, Any] | None = None,
        schema_name: str = "answer",
        ledger: Ledger | None = None,
        sample_id: str = "",
        label: str = "",
    ) -> ChatReply:
        """Do what :meth:`complete` does, as a coroutine.

        Parameters
        ----------
        messages, schema, schema_name, ledger, sample_id, label : object
            As in :meth:`complete`.

        Returns
        -------
        ChatReply

        Raises
        ------
        PanelError
            As in :meth:`complete`.
        """
        body = self._body(messages, schema, schema_name)
        ledger = Ledger() if ledger is None else ledger
        tape = self.cassette
        if tape is None or tape.mode == "off":
            return await self._live(body, ledger, label)
        key = request_key(body, self.name, schema=schema, sample_id=sample_id)
        async with tape.turn(key):
            found = tape.find(key, body)
            if found is not None:
                source = "replay" if tape.mode == "replay" else "cache"
                reply = ChatReply(**found, source=source)
                ledger.free(source=source, label=label, reason=reply.reason or "ok")
                return reply
            reply = await self._live(body, ledger, label)
            tape.keep(key, body, reply.recorded(), sample_id)
        return reply

    def close(self) -> None:
        """Close the connections, of all event loops that still run; requests under way end as "connection"."""
        self._connections.close()

    async def close_async(self) -> None:
        """Close the connections of the running event loop."""
        await self._connections.close_async()

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()

    def _body(self, messages: Messages, schema: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            self.token_field: self.max_tokens,
        }
        if any(clean_text(text) != text for message in body["messages"] for text in message.values()):
            raise PanelError("a message holds lone surrogates, which cannot be sent. Replace them first.")
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.seed is not None:
            body["seed"] = self.seed
        return {**body, **response_format(self.structured, schema, name)}

    async def _live(self, body: dict[str, Any], ledger: Ledger, label: str) -> ChatReply:
        begun = time.monotonic()
        tokens, money = worst_case(body, self.max_tokens, self.price)
        reply = ChatReply(None, "budget")
        spent: list[dict[str, Any]] = []
        for attempt in range(self.retries + 1):
            async with self._connections.line().slot() as http:
                ticket = ledger.reserve(tokens=tokens, money=money, label=label)
                if ticket is None:
                    reply = replace(reply, reason="budget")
                    break
                start = time.monotonic()
                used: dict[str, Any] = {}
                status = "failed"
                try:
                    reply, asked = await self._attempt(http, body, ledger.time_left())
                    used = {"tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out}
                    status = reply.reason or "ok"
                    if self.price is not None and None not in used.values():
                        used["money"] = self.price.of(reply.tokens_in or 0, reply.tokens_out or 0)
                except asyncio.CancelledError:
                    status = "cancelled"
                    raise
                except PanelError:  # of the key or the address: nothing was sent
                    used = {"tokens_in": 0, "tokens_out": 0, "money": 0.0}
                    raise
                finally:  # whatever happens, the ticket is closed
                    ledger.reconcile(ticket, **used, seconds=time.monotonic() - start, reason=status)
            spent.append(used)
            wait = None if attempt == self.retries else next_pause(reply.reason, attempt, asked, self.jitter)
            left = ledger.time_left()
            if wait is None or (left is not None and wait >= left):
                break
            await self.sleep(wait)
        return replace(
            reply,
            tokens_in=_sum(spent, "tokens_in"),
            tokens_out=_sum(spent, "tokens_out"),
            money=_sum(spent, "money"),
            seconds=time.monotonic() - begun,
            attempts=len(spent),
        )

    async def _attempt(
        self, http: Any, body: dict[str, Any], time_left: float | None
    ) -> tuple[ChatReply, float | None]:
        """Send once; beside the reply what a Retry-After asks for."""
        httpx = need_extra("httpx")
        limit = self.timeout if time_left is None else max(min(self.timeout, time_left), 1e-3)
        url = f"{self.base_url}/chat/completions"
        content = bytearray()
        try:
            async with asyncio.timeout(limit):
                key = await self._key()
                headers = {"Accept-Encoding": "identity"} | (
                    {"Authorization": f"Bearer {key}"} if key else {}
                )
                async with http.stream("POST", url, json=body, headers=headers) as response:
                    status = response.status_code
                    if status != 200:
                        asked = retry_after(response.headers.get("retry-after"))
                        return ChatReply(None, f"http_{status}"), asked
                    encoding = response.headers.get("content-encoding", "identity")
                    if "json" not in response.headers.get("content-type", "") or encoding != "identity":
                        return ChatReply(None, "malformed"), None
                    async for part in response.aiter_raw():
                        content += part
                        if len(content) > self.max_bytes:
                            return ChatReply(None, "malformed"), None
        except TimeoutError:
            return ChatReply(None, "timeout"), None
        except httpx.ConnectError:  # nothing was sent
            return ChatReply(None, "connection", tokens_in=0, tokens_out=0), None
        except httpx.TransportError:
            return ChatReply(None, "connection"), None
        except httpx.InvalidURL as error:
            raise PanelError(f"base_url cannot be sent to: {error}") from None
        read = read_reply(bytes(content))
        # An endpoint that echoes its request must not bring the key into records, whatever its escapes.
        masked = {name: _masked(read[name], key) for name in ("text", "model")}
        return ChatReply(**{**read, **masked}), None

    async def _key(self) -> str:
        if self.api_key is None:
            return ""
        if isinstance(self.api_key, str):
            key = os.environ.get(self.api_key)
        else:
            # Threads of the loop's own executor are waited for at exit: a key that hangs would hold it up.
            key = await asyncio.get_running_loop().run_in_executor(daemons, self.api_key)
        if not key:
            raise PanelError(
                "the API key is not there: api_key names an environment variable that is not set, or its function "
                "gave nothing. Give the name of the variable, never the key."
            )
        if not (isinstance(key, str) and key.isascii() and key.isprintable() and key == key.strip()):
            # the error of a header would quote it
            raise PanelError(
                "the API key holds a line end, a space around it or another character that no header takes. Strip it."
            )
        return key

    def __repr__(self) -> str:
        return f"ChatClient({self.base_url!r}, {self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_connections", "jitter")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._connections = Connections(self.max_concurrency)
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
        If it is no http address, holds a user name, password, query or fragment, or ends in ``/chat/completions``.
    """
    try:
        parts = urllib.parse.urlsplit(base_url)
        _ = parts.port
    except ValueError as error:
        raise PanelError(f"base_url is no address: {error}.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PanelError(f"base_url must be an http or https address; got {parts.scheme}://{parts.hostname}.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise PanelError(
            "base_url holds a user name, password, query or fragment; it is recorded. Give api_key=."
        )
    tail = "/chat/completions"
    if base_url.rstrip("/").endswith(tail):
        raise PanelError(f"base_url ends in {tail!r}, which is added to it. Cut that off.")


def _masked(text: str | None, key: str) -> str | None:
    if text is None or len(key) < _SHORTEST_KEY:
        return text
    return text.replace(key, "[API key]").replace(json.dumps(key)[1:-1], "[API key]")


def _sum(spent: list[dict[str, Any]], name: str) -> Any:
    values = [used.get(name) for used in spent]
    return None if not values or None in values else sum(values)
