"""The record of a deliberation: hash-chained JSON lines, arrays by digest, sealed proposals."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fusion.deliberative._records import (
    VERSION,
    canonical,
    chained,
    commitment,
    describe_array,
    header_line,
    outside,
    plain,
    record_line,
    seal,
)
from theory._exceptions import PanelError


class Transcript:
    """Records of a deliberation, each chained to the one before.

    Parameters
    ----------
    header : dict
        Versions, parameters and seed. With ``"agents"``, a list of names, nothing of a sealed round can be
        revealed before each of them has committed.
    path : path, optional
        File of JSON lines, flushed record by record. It must not exist. None: in memory.
    key : bytes, optional
        Seals each record with an HMAC, which only holders of the key can make. It is written nowhere.
    nonces : sequence of str, or Transcript, optional
        Nonces of an earlier run, so that its replay gets the same hashes. Random by default.
    keep_arrays : bool
        Keep copies of the arrays for :meth:`save_arrays`; the digests are recorded in any case.

    Attributes
    ----------
    records : list of dict
        What was recorded: v, seq, prev, hash, seal, run, t_logical, round, agent, role, action, payload,
        arrays, cites, cost, seconds, model, source.
    head : str
        Hash of the last record; keep it elsewhere to prove that nothing was cut off or rewritten.

    Raises
    ------
    PanelError
        If the file exists, or the header is no JSON.

    Notes
    -----
    hash = sha256(prev || canonical(record without hash, seal, seconds, source)): a replay, which differs in
    time and source only, has the same hashes. seal = sha256 or HMAC of (hash || seconds and source).
    canonical: sorted keys, no spaces, UTF-8, no NaN. ``t_logical`` is the causal depth: one more than that of
    the deepest record cited.

    **Proves** the order of records, their integrity relative to a head kept elsewhere, and that proposals were
    fixed before any was shared, *within this log*. **Does not prove** that the named model answered, that
    nobody talked outside the log, when anything happened, or anything against an owner who rewrites the whole
    chain or cuts its tail, unless the head or a key is kept elsewhere.

    Examples
    --------
    >>> log = Transcript({"seed": 0})
    >>> log.record(round=0, agent="a", role="proposer", action="propose", payload={"answer": "B"})
    0
    >>> len(log.records), len(log.head)
    (1, 64)
    """

    def __init__(
        self,
        header: Mapping[str, Any],
        path: str | os.PathLike[str] | None = None,
        *,
        key: bytes | None = None,
        nonces: Sequence[str] | Transcript | None = None,
        keep_arrays: bool = True,
    ):
        self.header = dict(header)
        self.path = None if path is None else os.fspath(path)
        self.records: list[dict[str, Any]] = []
        self.arrays: dict[str, NDArray[Any]] = {}
        self.keep_arrays = keep_arrays
        self._key = key
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._sealed: dict[int, tuple[bytes, Any, dict[str, NDArray[Any]]]] = {}
        self._nonces = _recorded_nonces(nonces) if isinstance(nonces, Transcript) else list(nonces or ())
        self._nonces.reverse()
        line = header_line(self.header)
        self.head = str(json.loads(line)["hash"])
        self._run = self.head[:16]
        if self.path is not None:
            try:
                self._file = open(self.path, "xb")  # noqa: SIM115 (kept open: one write a record)
            except FileExistsError:
                raise PanelError(
                    f"{self.path} exists, and a transcript is never continued. Give another path."
                ) from None
            self._file.write(line + b"\n")
            self._file.flush()

    def record(
        self,
        *,
        round: int,
        agent: str,
        role: str,
        action: str,
        payload: Any = None,
        arrays: Mapping[str, Any] | None = None,
        cites: Iterable[int] = (),
        cost: Mapping[str, Any] | None = None,
        model: str | None = None,
        source: str = "live",
    ) -> int:
        """Add a record.

        Parameters
        ----------
        round : int
            Round, 0 for the sealed one.
        agent, role, action : str
            Who did what, and as what.
        payload : object
            Anything that JSON holds, with text as keys; numpy scalars become numbers.
        arrays : mapping of str to array, optional
            Recorded by digest.
        cites : iterable of int
            Numbers of earlier records that this one rests on.
        cost : mapping, optional
            calls, tokens_in, tokens_out, seconds, money; None where not known.
        model : str, optional
            Name of the model that answered, as the endpoint gave it.
        source : {"live", "cache", "replay"}
            Where the answer came from.

        Returns
        -------
        int
            Number of the record.

        Raises
        ------
        PanelError
            If the payload is no JSON, a citation is not of an earlier record, or the source is unknown.
        """
        kept = {name: np.asarray(array) for name, array in (arrays or {}).items()}
        described = [describe_array(name, array) for name, array in kept.items()]
        cited = [int(seq) for seq in cites]
        spent = plain(cost or {})
        seconds = spent.pop("seconds", None)
        rest = outside(seconds, source)
        body = plain(payload)
        with self._lock:
            seq = len(self.records)
            if cited and not (min(cited) >= 0 and max(cited) < seq):
                raise PanelError(f"record {seq} cites {cited}; only records before it can be cited.")
            content = {
                "action": action,
                "agent": agent,
                "arrays": described,
                "cites": cited,
                "cost": spent,
                "model": model,
                "payload": body,
                "prev": self.head,
                "role": role,
                "round": int(round),
                "run": self._run,
                "seq": seq,
                "t_logical": 1 + max((self.records[i]["t_logical"] for i in cited), default=-1),
                "v": VERSION,
            }
            text = canonical(content)
            digest = chained(self.head, text)
            signed = seal(digest, rest, self._key)
            content.update(hash=digest, seal=signed, seconds=seconds, source=source)
            if self._file is not None:
                self._file.write(record_line(text, digest, signed, rest) + b"\n")
                self._file.flush()
            self.records.append(content)
            self.head = digest
            if self.keep_arrays:
                for item, array in zip(described, kept.values(), strict=True):
                    self.arrays.setdefault(item["sha256"], array.copy())
        return seq

    def commit(
        self,
        *,
        round: int,
        agent: str,
        role: str = "proposer",
        payload: Any = None,
        arrays: Mapping[str, Any] | None = None,
    ) -> int:
        """Fix a proposal without showing it.

        Parameters
        ----------
        round : int
            Round of the proposal.
        agent, role : str
            Who proposes.
        payload, arrays : object
            What :meth:`reveal` will show.

        Returns
        -------
        int
            Number of the record, for :meth:`reveal`.

        Raises
        ------
        PanelError
            If something of this round has been revealed already, or the agent has committed.

        Notes
        -----
        The record holds sha256(nonce || canonical(payload and array digests)). Without the 32 random bytes of
        the nonce a letter out of ten would be guessed in ten hashes.
        """
        committed = [item for item in self.records if item["round"] == round and item["action"] == "commit"]
        if any(item["agent"] == agent for item in committed):
            raise PanelError(f"agent {agent!r} has committed in round {round} already.")
        if any(item["round"] == round and item["action"] == "reveal" for item in self.records):
            raise PanelError(f"round {round} has been revealed in part; {agent!r} can no longer commit.")
        nonce = bytes.fromhex(self._nonces.pop()) if self._nonces else secrets.token_bytes(32)
        kept = {name: np.array(array) for name, array in (arrays or {}).items()}
        body = plain(payload)
        digest = commitment(nonce, body, [describe_array(name, array) for name, array in kept.items()])
        seq = self.record(round=round, agent=agent, role=role, action="commit", payload={"commit": digest})
        self._sealed[seq] = (nonce, body, kept)
        return seq

    def reveal(
        self,
        seq: int,
        *,
        cost: Mapping[str, Any] | None = None,
        model: str | None = None,
        source: str = "live",
    ) -> int:
        """Show what was committed.

        Parameters
        ----------
        seq : int
            From :meth:`commit`.
        cost, model, source : object
            As in :meth:`record`.

        Returns
        -------
        int
            Number of the record that shows it.

        Raises
        ------
        PanelError
            If there is no such sealed proposal, or an agent of the header has not committed yet.
        """
        if seq not in self._sealed:
            raise PanelError(f"record {seq} is no sealed proposal that is still to be revealed.")
        first = self.records[seq]
        there = {
            item["agent"]
            for item in self.records
            if item["round"] == first["round"] and item["action"] == "commit"
        }
        absent = [name for name in self.header.get("agents", ()) if name not in there]
        if absent:
            raise PanelError(
                f"round {first['round']} is shared before {absent} committed. Let all commit, then reveal."
            )
        nonce, body, kept = self._sealed.pop(seq)
        return self.record(
            round=first["round"],
            agent=first["agent"],
            role=first["role"],
            action="reveal",
            payload={"nonce": nonce.hex(), "proposal": body},
            arrays=kept,
            cites=(seq,),
            cost=cost,
            model=model,
            source=source,
        )

    def save_arrays(self, path: str | os.PathLike[str]) -> None:
        """Write the arrays to an npz, each under its digest.

        Parameters
        ----------
        path : path
            File to write.
        """
        with open(path, "wb") as file:
            np.savez(file, allow_pickle=False, **self.arrays)

    def close(self) -> None:
        """Close the file; what was recorded stays readable."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Transcript:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        away: dict[str, Any] = {"_lock": None, "_file": None, "_key": None, "_sealed": {}, "path": None}
        return {**vars(self), **away}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()


def _recorded_nonces(transcript: Transcript) -> list[str]:
    """Give the nonces of a run in the order of its commits, for its replay."""
    shown = {item["cites"][0]: item["payload"]["nonce"] for item in _actions(transcript.records, "reveal")}
    return [shown[item["seq"]] for item in _actions(transcript.records, "commit") if item["seq"] in shown]


def _actions(records: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    return [item for item in records if item["action"] == action]
