"""One file of JSON, arrays and models, whose every part is checked against a manifest before it is used."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import secrets
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory import StateError

FORMAT = 1
_STATE = "state.json"
_MOST_ENTRIES = 1_000
_KINDS = "fiub"
_WHEN = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold: the same state gives the same bytes


@dataclass
class Parts:
    """Arrays and serialized models of a state, by name.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Of kinds float, int, unsigned and bool.
    models : dict of str to bytes
        As skops wrote them.
    """

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    models: dict[str, bytes] = field(default_factory=dict)


def write_archive(path: str | os.PathLike[str], head: Mapping[str, Any], state: Any, parts: Parts) -> None:
    """Write a state to a file; it appears whole or not at all.

    Parameters
    ----------
    path : str or path
        Replaced if it exists.
    head : mapping
        Format, versions and class.
    state : object
        What JSON can hold.
    parts : Parts
        What it refers to.

    Raises
    ------
    StateError
        If there are too many parts, or the state holds what JSON cannot.
    """
    entries = {f"{name}.npy": _npy(array) for name, array in parts.arrays.items()}
    entries |= {f"{name}.skops": blob for name, blob in parts.models.items()}
    if len(entries) >= _MOST_ENTRIES:
        raise StateError(
            f"{path}: the state has {len(entries)} arrays and models; {_MOST_ENTRIES - 1} can be saved."
        )
    manifest = {
        name: {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
        for name, blob in entries.items()
    }
    for name, array in parts.arrays.items():
        manifest[f"{name}.npy"] |= {"dtype": array.dtype.str, "shape": list(array.shape)}
    document = {**head, "manifest": manifest, "state": state}
    try:
        text = json.dumps(document, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise StateError(f"{path}: the state cannot be written as JSON ({error}).") from error
    temporary = os.path.join(os.path.dirname(os.path.abspath(path)), f".state-{secrets.token_hex(8)}")
    # not by tempfile, which makes files that nobody else may read
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, blob in [(_STATE, text.encode()), *entries.items()]:
                archive.writestr(zipfile.ZipInfo(name, _WHEN), blob)
        if os.path.exists(path):
            os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_archive(path: str | os.PathLike[str], *, max_bytes: int) -> tuple[dict[str, Any], Parts]:
    """Read a file, and check all of it.

    Parameters
    ----------
    path : str or path
        The file.
    max_bytes : int
        Largest file that is read.

    Returns
    -------
    document : dict
        With ``state``.
    parts : Parts

    Raises
    ------
    StateError
        If anything is not as it was written.
    FileNotFoundError
        If there is no such file.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise StateError(
                f"{path} has {size} bytes; max_bytes={max_bytes}. Raise it if you trust the file."
            )
        try:
            return _read(os.fspath(path), file, max_bytes)
        except StateError:
            raise
        except Exception as error:  # zipfile, json and numpy raise a dozen kinds on damaged files
            raise StateError(f"{path} cannot be read ({type(error).__name__}: {error}).") from error


def _read(path: str, file: Any, max_bytes: int) -> tuple[dict[str, Any], Parts]:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len(infos) > _MOST_ENTRIES or sum(info.file_size for info in infos) > max_bytes:
            raise StateError(
                f"{path} unpacks to more than max_bytes={max_bytes}, or more than {_MOST_ENTRIES} parts."
            )
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise StateError(f"{path} is compressed; states are not.")
        blobs = {info.filename: archive.read(info) for info in infos}
    if _STATE not in blobs or len(blobs) != len(infos):
        raise StateError(f"{path} holds no {_STATE}, or a part twice; it is no saved state.")
    document = json.loads(blobs.pop(_STATE), parse_constant=_refuse_constant)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else document
        raise StateError(f"{path} has format {found!r}; this version reads format {FORMAT}.")
    manifest = document["manifest"]
    if set(manifest) != set(blobs):
        odd = sorted(set(manifest) ^ set(blobs))
        raise StateError(f"{path}: parts {odd[:5]} are not those of its manifest.")
    parts, unpacked = Parts(), 0
    for name, blob in blobs.items():
        row = manifest[name]
        if len(blob) != row["bytes"] or hashlib.sha256(blob).hexdigest() != row["sha256"]:
            raise StateError(f"{path}: {name} does not match its manifest.")
        stem, _, kind = name.rpartition(".")
        if kind == "npy":
            parts.arrays[stem] = _array(path, name, blob, row)
        elif kind == "skops":
            with zipfile.ZipFile(io.BytesIO(blob)) as model:  # a zip, too, that skops unpacks whole
                unpacked += sum(info.file_size for info in model.infolist())
            if unpacked > max_bytes:
                raise StateError(
                    f"{path}: {name} unpacks to more than max_bytes={max_bytes}, with those before it."
                )
            parts.models[stem] = blob
        else:
            raise StateError(f"{path}: {name} is neither an array nor a model.")
    return document, parts


def _npy(array: NDArray[Any]) -> bytes:
    flat = np.ascontiguousarray(array).reshape(array.shape)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(flat))
    return b"".join([file.getvalue(), flat.tobytes()])  # write_array copies through small chunks


def _array(path: str, name: str, blob: bytes, row: Mapping[str, Any]) -> NDArray[Any]:
    """Read an array by hand: np.load would do, but believes the header about what to allocate."""
    file = io.BytesIO(blob)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise StateError(f"{path}: {name} has the npy version {version}.")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    fits = len(blob) - file.tell() == math.prod(shape) * dtype.itemsize
    same = dtype.str == row["dtype"] and list(shape) == row["shape"]
    if dtype.kind not in _KINDS or dtype.hasobject or fortran or not fits or not same:
        raise StateError(f"{path}: array {name!r} does not match its manifest.")
    return np.frombuffer(blob, dtype=dtype, offset=file.tell()).reshape(shape).copy()


def _refuse_constant(text: str) -> Any:
    raise StateError(f"the state holds {text}, which JSON does not know.")
