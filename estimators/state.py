"""Save fitted fusions, panels and operators without pickle, and load them without running what they hold."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from estimators.state_archive import FORMAT, read_archive, write_archive
from estimators.state_values import Decoder, Encoder
from theory import FaultWarning, StateError


def save_state(obj: Any, path: str | os.PathLike[str]) -> None:
    """Save a fitted fusion, its panel or an operator: JSON, arrays, and models written by skops.

    Parameters
    ----------
    obj : object
        A :class:`RobustFusionClassifier` or ``Regressor``, an early or deliberative one, a panel step, a learned
        fusion, a specialist, a fusion operator or chain, an array or a DataArray; or lists and dicts of these.
    path : str or path
        Replaced if it exists; the file appears whole or not at all.

    Raises
    ------
    StateError
        If it holds something that can be saved in no way: a function, a client, a torch module (so no
        mid fusion: save its ``module_.state_dict()`` with torch).

    Notes
    -----
    The file is a zip: ``state.json`` with versions, classes by name and a manifest of checksums; ``.npy`` arrays;
    and a ``.skops`` file for each scikit-learn model (needs the extra ``save``).

    References
    ----------
    .. [1] NumPy enhancement proposal 1, a simple file format for NumPy arrays.

    Examples
    --------
    >>> import tempfile
    >>> from fusion import NearestNeighborMixing, TrimmedMean
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state(NearestNeighborMixing(1) >> TrimmedMean(n_byzantine=1), folder + "/rule.zip")
    ...     load_state(folder + "/rule.zip").name
    'nearest_neighbor_mixing >> trimmed_mean'
    """
    encoder = Encoder()
    try:
        state = encoder.encode(obj, type(obj).__name__)
    except RecursionError as error:
        raise StateError(
            f"the {type(obj).__name__} holds itself, or is nested too deeply to be saved. Save its parts."
        ) from error
    head = {
        "format": FORMAT,
        "library": _version("consilience"),
        "scikit-learn": _version("scikit-learn"),
        "class": type(obj).__name__,
    }
    write_archive(path, head, state, encoder.parts)


def load_state(path: str | os.PathLike[str], *, trusted: Sequence[str] = (), max_bytes: int = 2**30) -> Any:
    """Load what :func:`save_state` saved.

    Parameters
    ----------
    path : str or path
        The file.
    trusted : sequence of str
        Names of types that models may hold beside those of scikit-learn, NumPy and SciPy that skops trusts.
    max_bytes : int, default 2**30
        Largest file that is read.

    Returns
    -------
    object

    Raises
    ------
    StateError
        If the file is damaged, of another format or version, holds classes that this version does not
        have, or models of types that are not trusted.
    FileNotFoundError
        If there is no such file.

    Warns
    -----
    FaultWarning
        If the models were fitted by another version of scikit-learn.

    Notes
    -----
    Nothing in the file is executed: arrays are numbers only, classes come from a table of this library,
    and skops builds models of trusted types. Trust types only in files from people whom you trust.

    References
    ----------
    .. [1] NumPy enhancement proposal 1, a simple file format for NumPy arrays.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state({"panel": np.eye(2)}, folder + "/panel.zip")
    ...     load_state(folder + "/panel.zip")["panel"].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    document, parts = read_archive(path, max_bytes=max_bytes)
    _check_versions(os.fspath(path), document)
    try:
        return Decoder(parts, trusted).decode(document["state"])
    except StateError as error:
        raise StateError(f"{path}: {error}") from error
    except Exception as error:  # a document that is no state fails in as many ways as there are values
        raise StateError(f"{path} cannot be read ({type(error).__name__}: {error}).") from error


def _check_versions(path: str, document: dict[str, Any]) -> None:
    saved, own = str(document.get("library")), _version("consilience")
    # Before 1.0 a minor version may change what a fitted object holds.
    if saved.split(".")[:2] != own.split(".")[:2]:
        raise StateError(
            f"{path} was saved by consilience {saved}; this is {own}. Install consilience=={saved}, or fit anew."
        )
    fitted, here = str(document.get("scikit-learn")), _version("scikit-learn")
    if fitted.split(".")[:2] != here.split(".")[:2]:
        warnings.warn(
            f"{path} was saved with scikit-learn {fitted}; this is {here}: its models may answer differently.",
            FaultWarning,
            stacklevel=3,
        )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0.0.0"
