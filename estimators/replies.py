"""What became of asking one specialist: a status, and numbers that were checked where they were made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from estimators.answers import AnswerError, as_numbers, check_probabilities, read_answer

OK, ABSTAINED, UNASKED, LATE, BUSY = "ok", "abstained", "unasked", "late", "busy"
RAISED, DIED, QUARANTINED = "raised", "died", "quarantined"
# Proved faults, spent from the budget. Who is late, busy or silent may be honest, and a liar need not be silent.
CHARGED = frozenset({RAISED, DIED, "nonfinite", "shape", "type", "labels", "range"})
_LONGEST = 500  # characters of an error text


class Reply(NamedTuple):
    """One specialist's answer, or why there is none.

    ``rows`` holds a status for each sample where these differ; else it is None and ``status`` is for all.
    """

    status: str
    values: NDArray[np.float64] | None = None
    text: str = ""
    rows: NDArray[np.str_] | None = None


@dataclass(frozen=True)
class Form:
    """What an answer must look like.

    Attributes
    ----------
    codes : mapping of label to int, or None
        Classes: a label or {label: log-probability} is an answer, too, and arrays hold probabilities.
    probabilities : bool
        Whether numbers must be probabilities.
    shape : tuple of int or None
        Shape of every answer; None: that of most answers.
    by_sample : bool
        Whether the rows of an answer to a batch are judged one by one.
    """

    codes: Mapping[Any, int] | None = None
    probabilities: bool = False
    shape: tuple[int, ...] | None = None
    by_sample: bool = False

    def read(self, said: Any) -> Reply:
        """Judge an answer.

        Parameters
        ----------
        said : object
            What the specialist returned; a tuple (numbers, absent) where it says which rows it leaves out.

        Returns
        -------
        Reply
        """
        absent = None
        if isinstance(said, tuple) and len(said) == 2 and getattr(said[1], "dtype", None) == np.bool_:
            said, absent = said
        if said is None:
            return Reply(ABSTAINED)
        try:
            values = self._numbers(said)
        except AnswerError as error:
            return Reply(error.status, text=str(error)[:_LONGEST])
        if self.shape is not None and values.shape != self.shape:
            return Reply("shape", text=f"shape {values.shape} instead of {self.shape}")
        if self.codes is not None and values.shape[-1] != len(self.codes):
            return Reply("shape", text=f"{values.shape[-1]} outputs for {len(self.codes)} classes")
        return self._judged(values, absent)

    def _numbers(self, said: Any) -> NDArray[np.float64]:
        if (
            type(said) is not np.ndarray
            and self.codes is not None
            and (isinstance(said, Mapping | str | bytes) or np.ndim(said) == 0)
        ):
            return read_answer(said, self.codes)  # type: ignore[return-value]
        values = as_numbers(said)
        if values.ndim == 0:
            return values.reshape(1)
        if values.ndim > 2 or values.size == 0:
            raise AnswerError("shape", f"shape {values.shape}; needed (output,) or (sample, output)")
        return values

    def _judged(self, values: NDArray[np.float64], absent: Any) -> Reply:
        cells = np.isfinite(values)
        if not self.probabilities and absent is None and cells.all():
            return Reply(OK, values)
        finite = cells.all(axis=-1)
        good = finite
        if self.probabilities:
            good = finite & check_probabilities(np.where(finite[..., None], values, 0.0))
        gone = np.zeros(finite.shape, dtype=bool) if absent is None else np.asarray(absent)
        if (good & ~gone).all():
            return Reply(OK, values)
        bad = ~good & ~gone
        status = "nonfinite" if (bad & ~finite).any() else "range" if bad.any() else OK
        text = f"{int(bad.sum())} of {bad.size} answers are {'not finite' if status == 'nonfinite' else 'no probabilities'}"
        if values.ndim == 1 or (bad.any() and not self.by_sample):
            return Reply(status, text=text) if bad.any() else Reply(ABSTAINED)
        rows = np.where(gone, ABSTAINED, np.where(~finite, "nonfinite", np.where(~good, "range", OK)))
        values[rows != OK] = np.nan
        if (rows == rows[0]).all():
            return Reply(str(rows[0]), text=text if bad.any() else "")
        return Reply(OK, values, text if bad.any() else "", rows)


def reply_of(call: Callable[..., Any], x: Any, form: Form, end: float | None) -> Reply:
    """Call a specialist and judge what it says; never raises.

    Parameters
    ----------
    call : callable
        Gets ``x``; and ``time_left`` where ``end`` is given.
    x : object
        The request, this specialist's own.
    form : Form
        What an answer must look like.
    end : float or None
        Monotonic time by which it should have answered, for callables that want to know.

    Returns
    -------
    Reply
    """
    try:
        said = call(x) if end is None else call(x, time_left=max(end - time.monotonic(), 0.0))
        return form.read(said)
    except AnswerError as error:
        return Reply(error.status, text=str(error)[:_LONGEST])
    except BaseException as error:
        return raised(error)


def raised(error: BaseException) -> Reply:
    """Give the reply of a specialist that raised; an interrupt in the main thread is the user's and goes on."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error
    try:
        text = f"{type(error).__name__}: {error}"[:_LONGEST]
    except BaseException:
        text = type(error).__name__
    return Reply(RAISED, text=text)


def as_call(member: Any, codes: Mapping[Any, int] | None = None) -> Callable[..., Any]:
    """Give what is called of a specialist: itself, or the method of a fitted estimator that answers.

    Parameters
    ----------
    member : callable or estimator
        A function, or something with ``tell``, ``predict_proba`` or ``predict``.
    codes : mapping of label to int, optional
        Classes, in whose order an estimator's probabilities are put.

    Returns
    -------
    callable

    Raises
    ------
    TypeError
        If it has none of these.
    """
    for method in ("tell", "predict_proba", "predict"):
        if hasattr(member, method):
            return _Estimator(member, method, codes)
    if not callable(member):
        raise TypeError(f"a specialist is a callable or a fitted estimator; got {type(member).__name__}.")
    return member  # type: ignore[no-any-return]


class _Estimator:
    """A fitted estimator as a function: one row of numbers per sample, in the order of the classes."""

    def __init__(self, member: Any, method: str, codes: Mapping[Any, int] | None):
        self.member, self.method, self.codes = member, method, codes

    def __call__(self, x: Any) -> Any:
        said = getattr(self.member, self.method)(x)
        own = getattr(self.member, "classes_", None)
        if self.method == "tell":
            answers, absent, _ = said
            return self._in_order(answers, own), absent
        if self.method == "predict":
            # one number per sample: (sample,) would be read as the outputs of a single one
            votes = np.asarray(said).reshape(len(said), -1)
            said = votes if own is None else (votes == np.asarray(own)).astype(np.float64)
        return self._in_order(said, own)

    def _in_order(self, answers: Any, own: Any) -> Any:
        if self.codes is None or own is None:
            return answers
        labels = np.asarray(own).tolist()
        if labels == list(self.codes):
            return answers
        if set(labels) != set(self.codes):
            raise AnswerError(
                "labels", f"it answers for the classes {labels[:10]} instead of {list(self.codes)[:10]}."
            )
        return np.asarray(answers)[:, [labels.index(label) for label in self.codes]]
