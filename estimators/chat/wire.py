"""Requests and replies of an OpenAI-compatible chat endpoint, as JSON."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from estimators.chat.reading import clean_text

_AGAIN = frozenset({408, 425, 429})
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_MOST_TOKENS = 10**12  # more than that in a report is no count


@dataclass(frozen=True)
class ChatReply:
    """What came of a request, retries included.

    Attributes
    ----------
    text : str or None
        What the model wrote.
    reason : str or None
        Why there is no text: timeout, connection, malformed, budget, refused, filtered or ``http_404`` and so
        on. None: there is text, which may be cut off.
    truncated : bool
        Whether the model ran into the limit of tokens.
    model : str or None
        Name that the endpoint gave.
    tokens_in, tokens_out : int or None
        Of all attempts together; None where an attempt reported none.
    money : float or None
        Their price, if it is known.
    seconds : float
        From the first attempt to the end, pauses included; 0 for a replay.
    attempts : int
        Requests sent.
    source : str
        "live", "cache" or "replay".
    """

    text: str | None
    reason: str | None
    truncated: bool = False
    model: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    money: float | None = None
    seconds: float = 0.0
    attempts: int = 0
    source: str = "live"

    def recorded(self) -> dict[str, Any]:
        """Give what a cassette keeps."""
        return {name: value for name, value in asdict(self).items() if name not in ("source", "seconds")}


@dataclass(frozen=True)
class Price:
    """What tokens cost at an endpoint, from the caller's own table.

    Attributes
    ----------
    million_in, million_out : float
        Price of a million tokens of prompt and of answer.
    date : str
        When the table was right.
    """

    million_in: float
    million_out: float
    date: str = ""

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """Give the price of a number of tokens.

        Parameters
        ----------
        tokens_in, tokens_out : float
            Of prompt and answer.

        Returns
        -------
        float
        """
        return (tokens_in * self.million_in + tokens_out * self.million_out) / 1e6


def most_tokens(body: Mapping[str, Any]) -> int:
    """Bound the tokens of a prompt: its bytes as JSON.

    Parameters
    ----------
    body : mapping
        The request.

    Returns
    -------
    int
        A token of a byte-level vocabulary is a byte or more, and the JSON around a message (28 bytes) is more
        than the marks that chat templates put around one. An endpoint that adds a prompt of its own can pass
        it: the ledger then shows an overrun.
    """
    return len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))


def read_reply(content: bytes) -> dict[str, Any]:
    """Read the body of a reply.

    Parameters
    ----------
    content : bytes
        JSON with choices and, perhaps, usage.

    Returns
    -------
    dict
        text, reason, truncated, model, tokens_in, tokens_out of :class:`ChatReply`.
    """
    nothing = {"text": None, "truncated": False, "model": None, "tokens_in": None, "tokens_out": None}
    try:
        found = json.loads(content)
        choice = found["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        finish = choice.get("finish_reason")
        usage = found.get("usage") or {}
        counts = {name: _count(usage.get(f"{kind}_tokens")) for name, kind in _USAGE}
        named = found.get("model")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return {**nothing, "reason": "malformed"}
    model = clean_text(named)[:200] if isinstance(named, str) else None
    read = {**nothing, **counts, "model": model}
    if refusal:
        return {**read, "reason": "refused"}
    if finish == "content_filter":
        return {**read, "reason": "filtered"}
    if text is not None and not isinstance(text, str):
        return {**read, "reason": "malformed"}
    return {**read, "text": clean_text(text or ""), "truncated": finish == "length", "reason": None}


_USAGE = (("tokens_in", "prompt"), ("tokens_out", "completion"))


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if whole else None


def next_pause(
    reason: str | None, attempt: int, asked: float | None, jitter: Callable[[], float]
) -> float | None:
    """Say how long to wait before a request is sent again.

    Parameters
    ----------
    reason : str or None
        Of the :class:`ChatReply`.
    attempt : int
        Attempts before this one.
    asked : float or None
        Seconds of a Retry-After.
    jitter : callable
        Draws from [0, 1).

    Returns
    -------
    float or None
        Seconds; None: it is not sent again.

    Examples
    --------
    >>> next_pause("http_503", 1, None, lambda: 1.0), next_pause("http_404", 0, 2.0, lambda: 1.0)
    (1.0, None)
    """
    status = int(reason[5:]) if reason is not None and reason.startswith("http_") else 0
    if reason not in ("timeout", "connection") and status not in _AGAIN and status < 500:
        return None
    if asked is not None:
        return min(asked, _LONGEST_PAUSE)
    return jitter() * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**attempt)


def retry_after(value: str | None) -> float | None:
    """Read a Retry-After header.

    Parameters
    ----------
    value : str or None
        Seconds, or an HTTP date.

    Returns
    -------
    float or None
        Seconds from now; None if there is no such header or it cannot be read.

    Examples
    --------
    >>> retry_after("2"), retry_after("soon")
    (2.0, None)
    """
    if value is None:
        return None
    try:
        return max(0.0, float(int(value)))
    except OverflowError:
        return _LONGEST_PAUSE
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def response_format(structured: str, schema: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """Give the part of a request that asks for JSON.

    Parameters
    ----------
    structured : {"json_schema", "json_object", "prompt"}
        How the endpoint is told.
    schema : mapping or None
        Form of the answer.
    name : str
        Name of the form.

    Returns
    -------
    dict
        Empty for "prompt", and without a form.
    """
    if schema is None or structured == "prompt":
        return {}
    if structured == "json_object":
        return {"response_format": {"type": "json_object"}}
    form = {"name": name, "schema": dict(schema), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def worst_case(body: Mapping[str, Any], max_tokens: int, price: Price | None) -> tuple[int, float]:
    """Bound what one attempt uses.

    Parameters
    ----------
    body : mapping
        The request.
    max_tokens : int
        Limit on the answer.
    price : Price or None
        Without a price, money is not reserved.

    Returns
    -------
    tokens : int
        Prompt and answer.
    money : float
        Their price.
    """
    prompt = most_tokens(body)
    return prompt + max_tokens, 0.0 if price is None else price.of(prompt, max_tokens)


Messages = Sequence[Mapping[str, str]]
