"""From what a model wrote to one JSON object: strict, without guessing."""

from __future__ import annotations

import json
import re
from typing import Any

from theory import PanelError

# Why a question ended without an answer. An HTTP status that ends it is "http_404" and so on.
ABSTENTIONS = (
    "unparsable",  # no JSON object, after one repair
    "schema",  # an object of another form, after one repair
    "truncated",  # cut off at the limit of tokens, after one repair
    "refused",
    "filtered",
    "timeout",
    "connection",
    "malformed",  # the reply itself is not in the wire format
    "budget",
)
_THINK = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)


class ReadingError(PanelError):
    """Text that holds no usable object; ``status`` is "unparsable" or "schema"."""

    def __init__(self, status: str, text: str):
        super().__init__(text)
        self.status = status


def read_object(text: str) -> dict[str, Any]:
    """Read the first balanced JSON object of a text.

    Parameters
    ----------
    text : str
        What a model wrote; blocks of thought and code fences around the object are dropped.

    Returns
    -------
    dict

    Raises
    ------
    ReadingError
        If there is no object, or it has a key twice, or NaN or infinity.

    Examples
    --------
    >>> read_object('<think>{"a": 0}</think> Sure: {"a": "}"}')
    {'a': '}'}
    """
    start = _object_start(text)
    end = _balanced_end(text, start)
    if end is None:
        raise ReadingError("unparsable", "the JSON object does not end.")
    try:
        found = json.loads(
            text[start:end], object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError:
        raise ReadingError("unparsable", "the JSON object is nested too deeply.") from None
    except ReadingError:
        raise
    except ValueError as error:
        raise ReadingError("unparsable", f"the JSON object is broken ({error}).") from None
    return dict(found)


def clean_text(text: str) -> str:
    """Replace what is no Unicode (lone surrogates), so that it can be written and hashed."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _object_start(text: str) -> int:
    """Find the first brace outside of thoughts; a tag within the object is text and hides nothing."""
    place = 0
    while True:
        start, thought = text.find("{", place), _THINK.search(text, place)
        if thought is None or 0 <= start < thought.start():
            break
        end = _THOUGHT.search(text, thought.end())
        if end is None:
            raise ReadingError("unparsable", "a block of thought does not end.")
        place = end.end()
    if start < 0:
        raise ReadingError("unparsable", "there is no JSON object.")
    return start


def _balanced_end(text: str, start: int) -> int | None:
    depth, inside, escaped = 0, False, False
    for place in range(start, len(text)):
        char = text[place]
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
        elif char == '"':
            inside = True
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return place + 1
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ReadingError("unparsable", f"the key {twice!r} is there twice.")
    return found


def _no_constant(name: str) -> Any:
    raise ReadingError("unparsable", f"{name} is no number.")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ReadingError("unparsable", f"{text} is too large.")
    return number
