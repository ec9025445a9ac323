"""One item's deliberation for people: as text, or as HTML that needs nothing else."""

from __future__ import annotations

import html
import os
from typing import Any

import numpy as np

from fusion.deliberative._wording import worded, written
from fusion.deliberative.transcript import Transcript
from fusion.deliberative.verification import read_transcript, verify_transcript
from theory._exceptions import PanelError

PROVES = (
    "It proves the order of the records, that none was changed since the head below was kept elsewhere, and that "
    "sealed proposals were fixed before any of them was shared within this log.",
    "It does not prove that the named model answered, that nobody talked outside the log, when anything happened, "
    "or anything against an owner who rewrites the whole log or cuts its end, unless the head, or a key, is kept "
    "elsewhere.",
)
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "section{border-left:3px solid #89a;padding:.2rem .8rem;margin:.8rem 0}"
    "h2{font-size:.95rem;margin:.2rem 0}h2 small{color:#678;font-weight:400}"
    "pre{white-space:pre-wrap;word-break:break-word;margin:.2rem 0;font:.85rem/1.45 ui-monospace,monospace}"
    ".round{color:#567;font-weight:600;margin-top:1.4rem}.broken{color:#a00}footer{color:#555;font-size:.85rem}"
)


def render_text(
    transcript: Transcript | str | os.PathLike[str], item: int, *, head: str | None = None
) -> str:
    """Write what was said about one item as plain text.

    Parameters
    ----------
    transcript : Transcript or path
        Record of a deliberation. A file must hold; one in memory is read even where it is broken, and says so.
    item : int
        Number of the sample.
    head : str, optional
        Hash of the last record, kept elsewhere.

    Returns
    -------
    str
        Records in their order, with the lines of the item cut out of batches; what the questions to models about
        it cost; then what this proves.

    Raises
    ------
    PanelError
        If no record speaks of the item.
    NotVerifiedError
        If a file is broken.

    Examples
    --------
    >>> log = Transcript({"seed": 0})
    >>> log.record(round=0, agent="a", role="proposer", action="propose", payload=[{"answer": "B"}])
    0
    >>> print(render_text(log, 0).splitlines()[1])
    record 0, round 0, a (proposer), propose:
    """
    log, verdict = _opened(transcript, head)
    lines = [f"Deliberation about item {item}"]
    for record, body in _of_item(log, item):
        lines.append(f"{_title(record)}:")
        lines += [f"    {line}" for line in written(body).splitlines()]
    lines += ["", *_cost(log, item), verdict, *PROVES, f"Head: {log.head}"]
    return "\n".join(_printable(line) for line in lines) + "\n"


def render_html(
    transcript: Transcript | str | os.PathLike[str], item: int, *, head: str | None = None
) -> str:
    """Write what was said about one item as a page of HTML.

    Parameters
    ----------
    transcript, item, head : object
        As in :func:`render_text`.

    Returns
    -------
    str
        Without scripts, links or pictures; all that was said is escaped.

    Raises
    ------
    PanelError
        If no record speaks of the item.
    NotVerifiedError
        If a file is broken.

    Examples
    --------
    >>> log = Transcript({"seed": 0})
    >>> log.record(round=0, agent="<b>", role="proposer", action="propose", payload=[{"answer": "B"}])
    0
    >>> "<b>" in render_html(log, 0)
    False
    """
    log, verdict = _opened(transcript, head)
    parts, now = [], None
    for record, body in _of_item(log, item):
        if record["round"] != now:
            now = record["round"]
            parts.append(f'<p class="round">Round {now}</p>')
        parts.append(
            f"<section><h2>{_escaped(_who(record))}<small>{_escaped(_place(record))}</small></h2>"
            f"<pre>{_escaped(written(body))}</pre></section>"
        )
    kind = "" if verdict.startswith("The chain holds") else ' class="broken"'
    cost = "".join(f"<p>{_escaped(line)}</p>" for line in _cost(log, item))
    proves = "".join(f"<p>{_escaped(line)}</p>" for line in PROVES)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Item {int(item)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>Deliberation about item {int(item)}</h1>{''.join(parts)}"
        f"<footer>{cost}<p{kind}>{_escaped(verdict)}</p>{proves}<p>Head: {_escaped(log.head)}</p></footer></body></html>\n"
    )


def _opened(transcript: Any, head: str | None) -> tuple[Transcript, str]:
    if not isinstance(transcript, Transcript):
        transcript = read_transcript(transcript, head=head)
    # A log in memory may be sealed with its own key, which only it has.
    found = verify_transcript(transcript, head=head, key=transcript._key)
    if not found:
        return transcript, f"BROKEN at record {found.break_at}: {found.reason}"
    against = "against the head that was kept elsewhere" if head is not None else "in itself"
    return transcript, f"The chain holds {against}: {found.n_verified} records."


def _of_item(log: Transcript, item: int) -> list[tuple[dict[str, Any], Any]]:
    """Cut an item out of the records: from arrays by row, from batches by place or by their field "item"."""
    found = []
    options = None
    for record in log.records:
        if record["action"] == "call":
            continue
        payload = record["payload"]
        if record["action"] == "reveal" and isinstance(payload, dict):
            payload = payload.get("proposal")
        said: Any = None
        if isinstance(payload, list):
            named = [one for one in payload if isinstance(one, dict) and "item" in one]
            if named:
                said = [one for one in named if one["item"] == item]
            elif 0 <= item < len(payload):
                said = payload[item]
        elif isinstance(payload, dict) and payload.get("sample", payload.get("item")) == item:
            said = payload
        if record["action"] == "ask" and said:
            options = _options(said)
        rows = _rows(log, record, item)
        if said or rows:
            found.append((record, worded(said, rows, options)))
    if not found:
        raise PanelError(f"no record of this transcript speaks of item {item}.")
    return found


def _rows(log: Transcript, record: dict[str, Any], item: int) -> dict[str, Any]:
    """Give an item's rows of the arrays; those of a later stage are about the items that "samples" names."""
    kept = {one["name"]: log.arrays[one["sha256"]] for one in record["arrays"] if one["sha256"] in log.arrays}
    place = item
    if any(one["name"] == "samples" for one in record["arrays"]):
        found = np.flatnonzero(kept.pop("samples", np.zeros(0)) == item)
        place = int(found[0]) if len(found) else -1
    return {name: array[place] for name, array in kept.items() if array.ndim and 0 <= place < len(array)}


def _options(said: Any) -> list[str] | None:
    """Read the options of an item; a record of another kind that has this name has none."""
    first = said[0] if isinstance(said, list) else said
    found = first.get("options") if isinstance(first, dict) else None
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None


def _cost(log: Transcript, item: int) -> list[str]:
    """Sum what the questions about an item cost; parts that an endpoint did not report are no zeros."""
    calls = [one for one in log.records if one["action"] == "call" and _about(one["payload"], item)]
    if not calls:
        return []
    told = [f"{sum(one['cost'].get('calls', 0) for one in calls)} calls in {len(calls)} questions to models"]
    for name, unit in (("tokens_in", "tokens read"), ("tokens_out", "tokens written"), ("money", "money")):
        parts = [one["cost"].get(name) for one in calls]
        known = sum(part for part in parts if part is not None)
        missing = parts.count(None)
        if missing < len(parts):
            told.append(f"{known:.6g} {unit}" + (f" (and {missing} not reported)" if missing else ""))
    failed = sorted({one["payload"]["reason"] for one in calls if one["payload"].get("reason")})
    if failed:
        told.append(f"without an answer: {', '.join(failed)}")
    return [f"This item took {', '.join(told)}."]


def _about(payload: Any, item: int) -> bool:
    return isinstance(payload, dict) and payload.get("item") == item


def _title(record: dict[str, Any]) -> str:
    return f"record {record['seq']}, round {record['round']}, {_who(record)}{_place(record, seq=False)}"


def _who(record: dict[str, Any]) -> str:
    return f"{record['agent']} ({record['role']}), {record['action']}"


def _place(record: dict[str, Any], *, seq: bool = True) -> str:
    own = f", record {record['seq']}" if seq else ""
    model = f", model {record['model']}" if record["model"] else ""
    cited = f", after {', '.join(map(str, record['cites']))}" if record["cites"] else ""
    return f"{own}{model}{cited}"


def _printable(line: str) -> str:
    """Replace what shows a text as another: escape sequences of terminals, marks that turn the direction."""
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in line)


def _escaped(text: str) -> str:
    return html.escape("\n".join(_printable(line) for line in text.split("\n")), quote=True)
