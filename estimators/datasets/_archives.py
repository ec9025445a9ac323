"""Reading a data file of known content: checksum first, then the arrays."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from theory._exceptions import PanelError

DATA = Path(__file__).resolve().parent / "data"


def read_archive(file: Path, *, sha256: str) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file whose bytes have the given SHA-256.

    Parameters
    ----------
    file : Path
        The archive.
    sha256 : str
        The checksum its bytes must have, in hex.

    Returns
    -------
    dict of str to ndarray
        Fresh arrays, owned by the caller.

    Raises
    ------
    PanelError
        If the bytes are not the ones this version of the library was tested with.
    """
    content = file.read_bytes()
    seen = hashlib.sha256(content).hexdigest()
    if seen != sha256:
        raise PanelError(
            f"{file} has the SHA-256 {seen[:16]}...; {sha256[:16]}... was needed. The file is damaged or of "
            "another version: take it again from the repository (git checkout -- FILE), or read it yourself "
            "with numpy.load."
        )
    # The bytes that were checked are the bytes that are parsed: the file is not opened a second time.
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
