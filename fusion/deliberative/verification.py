"""Checking a transcript: the first break of the chain, or none."""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.deliberative._records import (
    OUTSIDE,
    VERSION,
    canonical,
    chained,
    commitment,
    describe_array,
    header_line,
    outside,
    record_line,
    seal,
)
from fusion.deliberative.transcript import Transcript
from theory._exceptions import NotVerifiedError, PanelError


@dataclass(frozen=True)
class Verification:
    """What a check of a transcript found; true if nothing is broken.

    Attributes
    ----------
    ok : bool
        Whether everything that was asked for holds.
    n_verified : int
        Records that hold, from the start.
    head : str or None
        Hash of the last record that holds; None if not even the header does.
    break_at : int or None
        Number of the first record that does not hold; -1 for the header.
    reason : str
        What is wrong with it, or "".
    """

    ok: bool
    n_verified: int
    head: str | None
    break_at: int | None
    reason: str

    def __bool__(self) -> bool:
        return self.ok


def verify_transcript(
    transcript: Transcript | str | os.PathLike[str],
    head: str | None = None,
    key: bytes | None = None,
    arrays: Mapping[str, Any] | str | os.PathLike[str] | None = None,
) -> Verification:
    """Check a transcript and say where it breaks first.

    Parameters
    ----------
    transcript : Transcript or path
        A file is checked byte by byte.
    head : str, optional
        The hash of the last record, kept elsewhere.
    key : bytes, optional
        Of the seals. None: seals made with a key are an error, since they cannot be checked.
    arrays : mapping or path, optional
        From ``save_arrays``, or a mapping of digest to array; each recorded array must be there and match.

    Returns
    -------
    Verification
        A run that was killed while writing has a last line that is cut off: the break is there, and
        ``n_verified`` and ``head`` describe the prefix that holds.

    Raises
    ------
    PanelError
        If the file of arrays is no npz.
    OSError
        If a file cannot be read.

    Notes
    -----
    Without ``head`` a tail that was cut at a line's end is not seen, and a chain rewritten as a whole holds;
    with ``key`` nobody without the key can rewrite it. See :class:`Transcript` for what this proves.

    Examples
    --------
    >>> log = Transcript({"seed": 0})
    >>> log.record(round=0, agent="a", role="proposer", action="propose", payload={"answer": "B"})
    0
    >>> bool(verify_transcript(log, head=log.head))
    True
    >>> log.records[0]["payload"]["answer"] = "C"
    >>> verify_transcript(log).break_at
    0
    """
    table = _read_arrays(arrays)
    n_verified, last = 0, None
    checker = _Checker(key, table)
    try:
        for line in _lines(transcript):
            if last is None:
                last = checker.header(line)
                continue
            last = checker.record(line)
            n_verified += 1
        if last is None:
            raise _BreakError("there is no header.")
    except _BreakError as broken:
        return Verification(False, n_verified, last, n_verified if last is not None else -1, str(broken))
    if head is not None and not hmac.compare_digest(head, last):
        reason = f"the chain ends in {last}, but the head kept elsewhere is {head}: cut off or rewritten."
        return Verification(False, n_verified, last, n_verified, reason)
    return Verification(True, n_verified, last, None, "")


def read_transcript(
    path: str | os.PathLike[str],
    *,
    head: str | None = None,
    key: bytes | None = None,
    arrays: str | os.PathLike[str] | None = None,
) -> Transcript:
    """Read a transcript that holds, for reading and for replay; it is not continued.

    Parameters
    ----------
    path : path
        JSON lines of a :class:`Transcript`.
    head, key, arrays : object
        As in :func:`verify_transcript`.

    Returns
    -------
    Transcript
        In memory.

    Raises
    ------
    NotVerifiedError
        If it is broken; the message says where.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "log.jsonl")
    ...     with Transcript({"seed": 0}, path) as log:
    ...         n = log.record(round=0, agent="a", role="proposer", action="propose", payload="B")
    ...     read_transcript(path, head=log.head).records[0]["payload"]
    'B'
    """
    found = verify_transcript(path, head=head, key=key, arrays=arrays)
    if not found:
        raise NotVerifiedError(
            f"{os.fspath(path)} breaks at record {found.break_at}: {found.reason} The {found.n_verified} records "
            "before it hold."
        )
    with open(path, "rb") as file:
        lines = file.read().splitlines()
    log = Transcript(json.loads(lines[0])["header"])
    log.records = [json.loads(line) for line in lines[1:]]
    log.head = str(found.head)
    log.arrays = {digest: np.asarray(array) for digest, array in (_read_arrays(arrays) or {}).items()}
    return log


class _BreakError(Exception):
    """The first thing that does not hold."""


class _Checker:
    """State of a check: the head so far, and who has committed and revealed."""

    def __init__(self, key: bytes | None, arrays: Mapping[str, Any] | None):
        self.key = key
        self.arrays = arrays
        self.head = ""
        self.run = ""
        self.n_records = 0
        self.agents: list[str] = []
        self.commits: dict[int, dict[str, Any]] = {}
        self.committed: dict[int, set[str]] = {}
        self.revealed: set[int] = set()
        self.shown: set[int] = set()
        self.depths: list[int] = []

    def header(self, line: bytes) -> str:
        content = _parse(line)
        if content.get("v") != VERSION or not isinstance(content.get("header"), dict):
            raise _BreakError(f"the first line is no header of version {VERSION}.")
        if header_line(content["header"]) != line:
            raise _BreakError("the header does not have its hash.")
        self.head = str(content["hash"])
        self.run = self.head[:16]
        self.agents = list(content["header"].get("agents", ()))
        return self.head

    def record(self, line: bytes) -> str:
        record = _parse(line)
        try:
            text = canonical({name: value for name, value in record.items() if name not in OUTSIDE})
            rest = outside(record["seconds"], record["source"])
            if record_line(text, record["hash"], record["seal"], rest) != line:
                raise _BreakError("its bytes are not in canonical form.")
            if record["prev"] != self.head or record["seq"] != self.n_records or record["run"] != self.run:
                raise _BreakError("it does not follow the record before it.")
            digest = chained(self.head, text)
            if record["hash"] != digest:
                raise _BreakError("its content does not have its hash.")
            signed = seal(digest, rest, self.key)
            if not hmac.compare_digest(str(record["seal"]), signed):
                raise _BreakError("its seal does not fit: seconds or source changed, or another key.")
            cites = record["cites"]
            if any(not 0 <= seq < self.n_records for seq in cites):
                raise _BreakError("it cites a record that is not before it.")
            depth = 1 + max((self.depths[seq] for seq in cites), default=-1)
            if record["t_logical"] != depth:
                raise _BreakError("its logical time is not one more than that of what it cites.")
            self._check_sealed(record)
            self._check_arrays(record["arrays"])
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise _BreakError(f"it is no record ({type(error).__name__}: {error}).") from None
        self.depths.append(depth)
        self.n_records += 1
        self.head = digest
        return digest

    def _check_sealed(self, record: dict[str, Any]) -> None:
        group = record["round"]
        if record["action"] == "commit":
            if group in self.revealed:
                raise _BreakError(
                    f"{record['agent']!r} commits after something of round {group} was revealed."
                )
            self.commits[record["seq"]] = record
            self.committed.setdefault(group, set()).add(record["agent"])
        elif record["action"] == "reveal":
            absent = [name for name in self.agents if name not in self.committed.get(group, set())]
            if absent:
                raise _BreakError(f"round {group} is revealed before {absent} committed.")
            first = self.commits.get(record["cites"][0] if record["cites"] else -1)
            if first is None or (first["agent"], first["round"]) != (record["agent"], group):
                raise _BreakError("it reveals no proposal that its agent committed.")
            if first["seq"] in self.shown:
                raise _BreakError("the proposal was revealed before.")
            nonce = bytes.fromhex(record["payload"]["nonce"])
            if (
                commitment(nonce, record["payload"]["proposal"], record["arrays"])
                != first["payload"]["commit"]
            ):
                raise _BreakError("the proposal is not the one that was committed.")
            self.revealed.add(group)
            self.shown.add(first["seq"])

    def _check_arrays(self, described: list[dict[str, Any]]) -> None:
        if self.arrays is None:
            return
        for item in described:
            if item["sha256"] not in self.arrays:
                raise _BreakError(f"array {item['name']!r} is not among the arrays.")
            if describe_array(item["name"], np.asarray(self.arrays[item["sha256"]])) != item:
                raise _BreakError(f"array {item['name']!r} does not have its digest.")


def _parse(line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        raise _BreakError("the line is no JSON.") from None
    if not isinstance(content, dict):
        raise _BreakError("the line is no record.")
    return content


def _lines(transcript: Transcript | str | os.PathLike[str]) -> Iterator[bytes]:
    if isinstance(transcript, Transcript):
        yield header_line(transcript.header)
        for record in transcript.records:
            try:
                text = canonical({name: value for name, value in record.items() if name not in OUTSIDE})
                rest = outside(record["seconds"], record["source"])
                yield record_line(text, record["hash"], record["seal"], rest)
            except (PanelError, KeyError) as error:
                raise _BreakError(f"it is no record ({error}).") from None
        return
    with open(transcript, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                raise _BreakError("the line is cut off: the run ended while writing it.")
            yield line[:-1]


def _read_arrays(arrays: Any) -> Mapping[str, Any] | None:
    if arrays is None or isinstance(arrays, Mapping):
        return arrays
    try:
        with np.load(arrays, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError:
        raise
    except Exception as error:  # zipfile and numpy raise many kinds on damaged bytes
        raise PanelError(f"{os.fspath(arrays)} is no npz of arrays ({error}).") from None
