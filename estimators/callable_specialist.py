"""A specialist that is a function: local code, a remote service or a language model, sync or async."""

from __future__ import annotations

import inspect
import pickle
import warnings
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.answers import AnswerError, label_codes, read_answer
from estimators.calling import Outcome, call_many
from estimators.columns import take_rows
from estimators.specialists import Specialist, answerer_tags
from estimators.transcript import Transcript, sample_key
from theory import FaultWarning, PanelError


class CallableSpecialist(Specialist):
    """A function behind the interface of a :class:`Specialist`; it is never fitted.

    Parameters
    ----------
    call : callable, optional
        A function or coroutine function. It gets one sample of its view (a text, a row) and gives a
        label of ``classes``, probabilities in their order, ``{label: log-probability}``, or None to
        abstain; without ``classes`` it gives a number, or several. If it has a parameter
        ``time_left``, it is told how many seconds are left. None: only ``cache`` answers, or ``factory``
        makes the callable.
    classes : sequence, optional
        Labels that it can name. None: a regressor.
    view : None, str, list, slice, tuple or callable
        What it sees; as in :class:`Specialist`.
    batch_size : int, optional
        Samples for each call: it then gets that many rows of its view at once and gives one answer
        for each. None: one sample for each call, without a container.
    max_concurrency : int
        Calls at a time.
    timeout : float, optional
        Seconds for one call, with all its retries. What hangs is left behind on a daemon thread and never
        holds up the exit.
    retries : int
        Further attempts after an exception, 0.05 s later, 0.1 s later and so on.
    cache : mutable mapping, path or None
        What it said before, by the content of the sample. A path is a transcript, one JSON line for each
        answer, which replays without the callable.
    factory : callable, optional
        Makes the callable, in each process once. Give it where ``call`` holds a client that cannot be
        pickled.
    n_outputs : int
        Numbers in the answer of a regressor.
    calibration, cost, owner, on_error, name : object
        As in :class:`Specialist`. With ``on_error="abstain"`` a sample whose call raises, times out or
        gives something unreadable is an abstention, and the other samples keep their answers.

    Attributes
    ----------
    model_ : object
        What answers.
    classes_ : ndarray
        Labels, of a classifier.

    Notes
    -----
    Clones share the callable and the cache. A pickle drops a callable that ``factory`` remakes.

    Examples
    --------
    >>> import numpy as np
    >>> oracle = CallableSpecialist(lambda row: "big" if row[0] > 1 else "small", classes=["big", "small"])
    >>> oracle.fit(np.zeros((2, 1)), ["big", "small"]).predict(np.array([[0.0], [2.0]])).tolist()
    ['small', 'big']
    """

    freeze = True
    use_weights = False
    method = "auto"

    def __init__(
        self,
        call: Callable[..., Any] | None = None,
        *,
        classes: Sequence[Any] | None = None,
        view: Any = None,
        batch_size: int | None = None,
        max_concurrency: int = 1,
        timeout: float | None = None,
        retries: int = 0,
        cache: Any = None,
        factory: Callable[[], Callable[..., Any]] | None = None,
        n_outputs: int = 1,
        calibration: Any = None,
        cost: float = 1.0,
        owner: str | None = None,
        on_error: str = "raise",
        name: str | None = None,
    ):
        self.call = call
        self.classes = classes
        self.view = view
        self.batch_size = batch_size
        self.max_concurrency = max_concurrency
        self.timeout = timeout
        self.retries = retries
        self.cache = cache
        self.factory = factory
        self.n_outputs = n_outputs
        self.calibration = calibration
        self.cost = cost
        self.owner = owner
        self.on_error = on_error
        self.name = name

    @property
    def kind(self) -> str:
        """What answers, in a word: the name of the function."""
        made = self.call if self.call is not None else self.factory
        return str(getattr(made, "__name__", type(self).__name__)).strip("<>")

    def _check_params(self) -> None:
        super()._check_params()
        for key, least in (("batch_size", 1), ("max_concurrency", 1), ("retries", 0), ("n_outputs", 1)):
            value = getattr(self, key)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not (whole and value >= least) and not (key == "batch_size" and value is None):
                raise PanelError(f"{key} must be a whole number >= {least}; got {value!r}.")
        timeout = self.timeout
        if timeout is not None and not (isinstance(timeout, int | float) and 0 < timeout < float("inf")):
            raise PanelError(f"timeout must be a positive number of seconds, or None; got {timeout!r}.")
        if self.call is None and self.factory is None and self.cache is None:
            raise PanelError(
                f"specialist {self._label()} has nothing to ask. Give call=, factory= or cache=."
            )
        for key in ("call", "factory"):
            if getattr(self, key) is not None and not callable(getattr(self, key)):
                raise PanelError(f"{key} must be callable; got {type(getattr(self, key)).__name__}.")

    def _frozen_model(self) -> Any:
        return _Called(self)

    def _heard(self, part: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_], str]:
        answers, absent, errors = self.model_.hear(part)
        n_samples = len(answers)
        if not errors:
            return answers, absent, ""
        place, first = next(iter(errors.items()))
        if self.on_error == "raise":
            first.add_note(f"sample {place} of {n_samples}; {len(errors)} failed.")
            raise first
        told = f"{type(first).__name__}: {first}"[:300]
        absent[list(errors)] = True
        return answers, absent, f"{len(errors)} of {n_samples} calls failed and abstain (first: {told})."

    @property
    def _answer_cache(self) -> Any:
        return self.cache

    def _outcomes(self, call: Callable[..., Any], items: list[Any]) -> list[Outcome]:
        return call_many(
            call, items, max_concurrency=self.max_concurrency, timeout=self.timeout, retries=self.retries
        )

    def _inner_tags(self) -> Any:
        return answerer_tags(
            classifier=self.classes is not None, multi_output=self.n_outputs > 1, sparse=True
        )

    def __sklearn_clone__(self) -> CallableSpecialist:
        return type(self)(**self.get_params(deep=False))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("model_", None)
        state["fitted"] = hasattr(self, "model_")
        if self.factory is not None:
            state["call"] = None
        elif self.call is not None:
            _check_pickles(self.call, self._label())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        fitted = state.pop("fitted")
        super().__setstate__(state)
        if fitted:
            self.model_ = self._frozen_model()


class _Called:
    """The callable with its cache, answering like a fitted model."""

    def __init__(self, owner: CallableSpecialist):
        self.owner = owner
        self.codes = None if owner.classes is None else label_codes(owner.classes)
        self.n_outputs = owner.n_outputs if self.codes is None else len(self.codes)
        cache = owner._answer_cache
        if cache is not None and not isinstance(cache, MutableMapping):
            cache = Transcript(cache, classes=None if self.codes is None else list(self.codes))
        self.cache = cache
        self.call = owner.call
        if self.codes is not None:
            self.classes_ = np.asarray(owner.classes)
            self.predict_proba = self._answers

    def predict(self, part: Any) -> NDArray[Any]:
        answers, silent, _ = self.owner._heard(part)
        if self.codes is None:
            return answers[:, 0] if self.n_outputs == 1 else answers
        if silent.any():
            raise PanelError(
                f"specialist {self.owner._label()} abstains from {int(silent.sum())} samples; only an ensemble can "
                "answer those."
            )
        return self.classes_[answers.argmax(axis=1)]

    def _answers(self, part: Any) -> NDArray[np.float64]:
        answers, _, note = self.owner._heard(part)
        if note:
            warnings.warn(f"specialist {self.owner._label()}: {note}", FaultWarning, stacklevel=3)
        return answers

    def hear(self, part: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[int, BaseException]]:
        """Ask about every sample: answers, who abstained, and errors by sample."""
        n_samples = part.shape[0] if hasattr(part, "shape") else len(part)
        answers = np.full((n_samples, self.n_outputs), np.nan)
        silent = np.zeros(n_samples, dtype=bool)
        errors: dict[int, BaseException] = {}
        keys = None if self.cache is None else [sample_key(_sample(part, i)) for i in range(n_samples)]
        asked = list(range(n_samples))
        if keys is not None:
            asked = [i for i in asked if keys[i] not in self.cache]
            for i in set(range(n_samples)) - set(asked):
                silent[i] = self.cache[keys[i]] is None
                answers[i] = _from_cache(self.cache[keys[i]], self.n_outputs)
        for i, said in self._say(part, asked):
            try:
                vector = said if isinstance(said, BaseException) else read_answer(said, self.codes)
                if isinstance(vector, BaseException):
                    raise vector
                if vector is not None and vector.shape != (self.n_outputs,):
                    raise AnswerError("shape", f"shape {vector.shape} instead of ({self.n_outputs},).")
            except Exception as error:
                errors[i] = error
                continue
            silent[i] = vector is None
            if vector is not None:
                answers[i] = vector
            if keys is not None:
                self.cache[keys[i]] = None if vector is None else vector.tolist()
        return answers, silent, errors

    def _say(self, part: Any, asked: list[int]) -> list[tuple[int, Any]]:
        if not asked:
            return []
        owner = self.owner
        if self.call is None and owner.factory is not None:
            self.call = owner.factory()
        if self.call is None:
            missing = PanelError(
                f"specialist {owner._label()}: {len(asked)} samples are not in the transcript, and there is no "
                "callable. Give call=, or on_error='abstain'."
            )
            return [(i, missing) for i in asked]
        size = owner.batch_size
        if size is None:
            batches = [[i] for i in asked]
            items = [_sample(part, i) for i in asked]
        else:
            batches = [asked[k : k + size] for k in range(0, len(asked), size)]
            items = [take_rows(part, np.asarray(rows)) for rows in batches]
        outcomes = owner._outcomes(self.call, items)
        said: list[tuple[int, Any]] = []
        for rows, outcome in zip(batches, outcomes, strict=True):
            said += zip(rows, _each(outcome, len(rows), batched=size is not None), strict=True)
        return said


def _each(outcome: Outcome, n_samples: int, *, batched: bool) -> list[Any]:
    """Split the answer to a batch into one for each sample."""
    error = outcome.error
    if error is not None:
        if not isinstance(error, Exception):  # SystemExit of a client must not end our process
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return [error] * n_samples
    if not batched:
        return [outcome.value]
    try:
        answers = list(outcome.value)
    except TypeError:
        answers = []
    if len(answers) != n_samples or isinstance(outcome.value, str | dict):
        gave = type(outcome.value).__name__
        text = f"{gave} with {len(answers)} answers for {n_samples} samples; needed is one for each."
        return [AnswerError("shape", text)] * n_samples
    return answers


def _sample(part: Any, i: int) -> Any:
    return part.iloc[i] if hasattr(part, "iloc") else part[i]


def _from_cache(stored: Any, n_outputs: int) -> Any:
    if stored is None:
        return np.nan
    vector = np.asarray(stored, dtype=np.float64)
    if vector.shape != (n_outputs,):
        raise PanelError(
            f"the cache holds an answer of shape {vector.shape}; needed ({n_outputs},). It is of another question."
        )
    return vector


def _check_pickles(call: Any, label: str) -> None:
    if inspect.isfunction(
        call
    ):  # which pickler is used decides: joblib's workers take lambdas, pickle does not
        return
    try:
        pickle.dumps(call)
    except Exception as error:
        raise TypeError(
            f"specialist {label} holds a client that cannot be pickled ({error}). Give factory=."
        ) from error
