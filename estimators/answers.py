"""What one specialist said about one sample, read: a label, probabilities, log-probabilities or numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory import PanelError

_SUM_TOLERANCE = 1e-3


class AnswerError(PanelError):
    """An answer that cannot be used; ``status`` says why: type, shape, labels, range or nonfinite."""

    def __init__(self, status: str, text: str):
        super().__init__(text)
        self.status = status


def label_codes(classes: Sequence[Any]) -> dict[Hashable, int]:
    """Give each class its number.

    Parameters
    ----------
    classes : sequence
        Labels, each once.

    Returns
    -------
    dict
        Label to position.

    Raises
    ------
    PanelError
        If there are fewer than two, or one occurs twice.
    """
    labels = list(np.asarray(classes).tolist())
    codes: dict[Hashable, int] = {label: k for k, label in enumerate(labels)}
    if len(codes) < 2 or len(codes) < len(labels):
        raise PanelError(f"classes must be two or more different labels; got {labels}.")
    return codes


def read_answer(said: Any, codes: Mapping[Hashable, int] | None) -> NDArray[np.float64] | None:
    """Read one answer to one sample.

    Parameters
    ----------
    said : object
        With classes: a label, a mapping of label to log-probability (labels left out have probability
        0), or a probability for each class. Without: a number or several. None is an abstention.
    codes : mapping of label to int, or None
        The classes.

    Returns
    -------
    ndarray of float64, shape (output,), or None
        A fresh array; None for an abstention.

    Raises
    ------
    AnswerError
        If it is none of these.

    Examples
    --------
    >>> read_answer({"yes": -0.1, "no": -0.1}, {"no": 0, "yes": 1})
    array([0.5, 0.5])
    """
    if said is None:
        return None
    if codes is None:
        return as_numbers(said).reshape(-1)
    if isinstance(said, Mapping):
        return _from_logs(said, codes)
    label = said.item() if isinstance(said, np.generic) or getattr(said, "shape", None) == () else said
    if isinstance(label, str | bytes | bool | int | float) or label in _hashable(label, codes):
        if label not in codes:
            raise AnswerError("labels", f"said {label!r}, which is none of the classes {list(codes)[:10]}.")
        vector = np.zeros(len(codes))
        vector[codes[label]] = 1.0
        return vector
    vector = as_numbers(said)
    if vector.shape != (len(codes),):
        raise AnswerError("shape", f"shape {vector.shape} instead of ({len(codes)},).")
    return vector


def as_numbers(said: Any) -> NDArray[np.float64]:
    """Copy an answer to float64.

    Parameters
    ----------
    said : array-like or tensor
        Numbers.

    Returns
    -------
    ndarray of float64
        A copy.

    Raises
    ------
    AnswerError
        If it holds something else than numbers.
    """
    if hasattr(said, "detach"):
        said = said.detach().cpu()
    try:
        values = np.asarray(said)
    except ValueError as error:
        raise AnswerError("shape", f"rows of different lengths ({error}).") from error
    if values.dtype.kind not in "fiub":
        raise AnswerError("type", f"{type(said).__name__} ({values.dtype}) instead of numbers.")
    return values.astype(np.float64)  # always a copy: the specialist may change its own later


def check_probabilities(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which rows are probabilities: not negative, sum within 1e-3 of 1.

    Parameters
    ----------
    values : ndarray of shape (..., output)
        Finite.

    Returns
    -------
    ndarray of bool, shape (...)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return (values >= -1e-9).all(axis=-1) & (np.abs(values.sum(axis=-1) - 1.0) <= _SUM_TOLERANCE)


def _from_logs(said: Mapping[Any, Any], codes: Mapping[Hashable, int]) -> NDArray[np.float64]:
    stray = [label for label in said if label not in codes]
    if stray or not said:
        raise AnswerError("labels", f"said {stray or 'no label'}; the classes are {list(codes)[:10]}.")
    logs = np.full(len(codes), -np.inf)
    for label, value in said.items():
        logs[codes[label]] = float(value)
    top = logs.max()
    if np.isnan(logs).any() or not np.isfinite(top):
        raise AnswerError("nonfinite", f"log-probabilities {dict(said)!r:.200} have no finite maximum.")
    mass = np.exp(logs - top)
    return np.asarray(mass / mass.sum())


def _hashable(label: Any, codes: Mapping[Hashable, int]) -> Mapping[Hashable, int] | tuple[()]:
    return codes if isinstance(label, Hashable) else ()
