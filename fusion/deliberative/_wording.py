"""Wording what was recorded about one item, for people: options by their text, quotes with what became of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

_OPTION = ("option", "side", "from", "to")
_SHARES = ("heads", "predicted", "probs", "decision")
_REPEATED = ("proposal", "revision", "decision")


def worded(said: Any, rows: dict[str, Any], options: Sequence[str] | None) -> Any:
    """Word the part of a record that is about an item.

    Parameters
    ----------
    said : object
        From its payload.
    rows : dict of str to ndarray
        The item's rows of its arrays.
    options : sequence of str or None
        The item's options, if they are recorded.

    Returns
    -------
    object
        Without the number of the item, and without arrays that repeat the answer.
    """
    parts = [said] if isinstance(said, dict) else said
    if isinstance(parts, list) and all(isinstance(part, dict) for part in parts):
        if any("option" in part or "decision" in part for part in parts):
            rows = {name: row for name, row in rows.items() if name not in _REPEATED}
        told = [_part(part, options) for part in parts]
        said = told[0] if len(told) == 1 else told
    if not rows:
        return said
    shown = {name: _row(row, options) for name, row in rows.items()}
    if said is None or said == []:
        return shown
    return {**said, **shown} if isinstance(said, dict) else {"said": said, **shown}


def _part(part: dict[str, Any], options: Sequence[str] | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    order = part.get("order")
    for name, value in part.items():
        if name == "item":
            continue
        if name == "quote" and "verified" in part:
            told[name] = f'{_checked(part)} "{value}"'
        elif name in ("verified", "similarity") and "quote" in part:
            continue
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            told[name] = [_part(one, options) for one in value]
        elif options is None:
            told[name] = value
        elif name in _OPTION:
            told[name] = _name(value, options)
        elif name == "order" and isinstance(value, list):
            told["shown as"] = ", ".join(f"{_letter(k)} {_name(one, options)}" for k, one in enumerate(value))
        elif name in _SHARES and isinstance(value, list):
            places = order if name == "probs" and isinstance(order, list) else range(len(value))
            told[name] = _shares(value, [_name(one, options) for one in places])
        else:
            told[name] = value
    return told


def _name(value: Any, options: Sequence[str]) -> Any:
    """Name an option; who wrote the record may have been wrong about its number."""
    return options[value] if isinstance(value, int) and 0 <= value < len(options) else value


def _row(row: Any, options: Sequence[str] | None) -> Any:
    values = np.asarray(row)
    if options is None or values.ndim != 1 or len(values) < len(options):
        return row
    if np.isnan(values).any():
        return "none"
    return _shares(values[: len(options)].tolist(), options)


def _shares(values: Sequence[float], options: Sequence[str]) -> str:
    told = [f"{value:.3g}" if isinstance(value, int | float) else str(value) for value in values]
    return ", ".join(f"{option}: {value}" for option, value in zip(options, told, strict=False))


def _checked(part: dict[str, Any]) -> str:
    """Say it before the quote, which could end in the same words."""
    return "[stands in the source]" if part["verified"] is True else "[NOT in the source]"


def _letter(place: int) -> str:
    return chr(65 + place) if place < 26 else f"#{place + 1}"


def written(body: Any, depth: int = 0) -> str:
    """Write what was worded as lines of text, indented by depth; further lines of a text are marked as such."""
    pad = "  " * depth
    if isinstance(body, dict):
        lines = []
        for name, value in body.items():
            if value is None or (isinstance(value, str | list) and not value):
                continue
            nested = isinstance(value, dict) or (isinstance(value, list) and _has_dicts(value))
            name = _one_line(name)
            lines.append(
                f"{pad}{name}:\n{written(value, depth + 1)}"
                if nested
                else f"{pad}{name}: {written(value, depth)}"
            )
        return "\n".join(lines) or f"{pad}nothing"
    if isinstance(body, list) and _has_dicts(body):
        return f"\n{pad}-\n".join(written(value, depth) for value in body)
    if isinstance(body, np.ndarray | np.generic):
        return np.array2string(np.asarray(body), precision=4, separator=", ", threshold=50)
    if isinstance(body, str):
        return f"\n{pad}  | ".join(body.splitlines())
    return _one_line(json.dumps(body, ensure_ascii=False))


def _one_line(text: str) -> str:
    """Mark line ends that JSON leaves as they are."""
    return "\ufffd".join(text.splitlines())


def _has_dicts(values: list[Any]) -> bool:
    return any(isinstance(value, dict) for value in values)
