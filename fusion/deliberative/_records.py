"""Bytes and hashes of a transcript: one writing of every record, one digest of every array."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError

VERSION = 1
# Beside the hash and the seal: what differs between a run and its replay. The seal holds it, the hash does not.
SOURCES = ("live", "cache", "replay")
OUTSIDE = ("hash", "seal", "seconds", "source")

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def plain(value: Any) -> Any:
    """Copy a payload to what JSON holds, so that its owner can no longer change it.

    Parameters
    ----------
    value : object
        None, text, numbers, sequences of them, mappings with text as keys, numpy scalars.

    Returns
    -------
    object
        Fresh lists and dicts.

    Raises
    ------
    PanelError
        On anything else: keys that are no text would be read back as others.
    """
    kind = type(value)
    if kind is str or value is None or kind is int or kind is float or kind is bool:
        return value
    if kind is dict or isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise PanelError(f"a payload's keys must be text; got {key!r}. Use str(key).")
        return {key: inner if type(inner) is str else plain(inner) for key, inner in value.items()}
    if kind is list or isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if isinstance(value, str | int | float):
        return value
    raise PanelError(
        f"a payload holds JSON; got {type(value).__name__}. Give arrays in arrays=, and other things as text."
    )


def canonical(value: Any) -> bytes:
    """Write JSON in its one form: sorted keys, no spaces, UTF-8, no NaN.

    Parameters
    ----------
    value : object
        From :func:`plain`.

    Returns
    -------
    bytes

    Raises
    ------
    PanelError
        If it holds numbers that are not finite, text that is no Unicode, or things that JSON cannot hold.
    """
    try:
        return _encode(value).encode()
    except (ValueError, TypeError) as error:
        raise PanelError(
            f"a record must be JSON without NaN or infinity ({error}). Give arrays in arrays=, None for gaps."
        ) from None


def describe_array(name: str, array: NDArray[Any]) -> dict[str, Any]:
    """Give name, dtype, shape and digest of an array.

    Parameters
    ----------
    name : str
        Its name.
    array : ndarray
        Any dtype but object.

    Returns
    -------
    dict
        The digest is sha256(dtype, shape, little-endian C-order bytes).

    Raises
    ------
    PanelError
        If it holds objects.
    """
    if array.dtype.hasobject:
        raise PanelError(f"array {name!r} holds objects; give numbers, or text in the payload.")
    little = array.dtype.newbyteorder("<")
    body = np.ascontiguousarray(array, dtype=little)
    digest = hashlib.sha256(f"{little.str}{array.shape}".encode())
    digest.update(body.data.cast("B") if body.size and body.dtype.kind in "biufc" else body.tobytes())
    return {"dtype": little.str, "name": name, "sha256": digest.hexdigest(), "shape": list(array.shape)}


def header_line(header: Mapping[str, Any]) -> bytes:
    """Write the first line of a file: the header and its hash.

    Parameters
    ----------
    header : mapping
        Versions, parameters, seed.

    Returns
    -------
    bytes
        Canonical JSON without a line end.
    """
    content = plain(header)
    digest = hashlib.sha256(canonical(content)).hexdigest()
    return canonical({"hash": digest, "header": content, "v": VERSION})


def record_line(content: bytes, digest: str, signed: str, rest: str) -> bytes:
    """Write a record: its hashed content, then hash, seal and what is outside of the hash.

    Parameters
    ----------
    content : bytes
        Canonical JSON of what is hashed.
    digest, signed : str
        Hash and seal.
    rest : str
        From :func:`outside`.

    Returns
    -------
    bytes
        Without a line end.
    """
    return content[:-1] + f',"hash":"{digest}","seal":"{signed}",{rest}}}'.encode()


def outside(seconds: Any, source: str) -> str:
    """Write what the hash leaves out, in canonical form.

    Parameters
    ----------
    seconds : float or None
        Duration.
    source : str
        Where the answer came from.

    Returns
    -------
    str
        Two members of a JSON object.

    Raises
    ------
    PanelError
        If the duration is no number, or the source is unknown.
    """
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if seconds is not None and not number:
        raise PanelError(f"seconds must be a finite number or None; got {seconds!r}.")
    if source not in SOURCES:
        raise PanelError(f"source must be one of {SOURCES}; got {source!r}.")
    return f'"seconds":{"null" if seconds is None else repr(seconds)},"source":"{source}"'


def chained(head: str, content: bytes) -> str:
    """Hash a record together with the hash of the one before."""
    return hashlib.sha256(head.encode() + content).hexdigest()


def seal(digest: str, rest: str, key: bytes | None) -> str:
    """Hash, or sign, what is outside of the chain.

    Parameters
    ----------
    digest : str
        Hash of the record.
    rest : str
        From :func:`outside`.
    key : bytes or None
        With a key: HMAC-SHA256.

    Returns
    -------
    str
        Hexadecimal.
    """
    body = (digest + rest).encode()
    if key is None:
        return hashlib.sha256(body).hexdigest()
    return hmac.new(key, body, "sha256").hexdigest()


def commitment(nonce: bytes, payload: Any, arrays: list[dict[str, Any]]) -> str:
    """Hash a proposal with its nonce.

    Parameters
    ----------
    nonce : bytes
        32 random bytes.
    payload : object
        From :func:`plain`.
    arrays : list of dict
        From :func:`describe_array`.

    Returns
    -------
    str
        Hexadecimal.
    """
    return hashlib.sha256(nonce + canonical({"arrays": arrays, "payload": payload})).hexdigest()
