"""A specialist whose answers are on file: looked up by sample id, so that any split works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.answers import AnswerError, as_numbers, label_codes, read_answer
from estimators.specialists import Specialist, answerer_tags
from theory import PanelError


class PrecomputedSpecialist(Specialist):
    """Stored answers behind the interface of a :class:`Specialist`; it is never fitted.

    Parameters
    ----------
    table : DataArray, DataFrame, Series or mapping
        Answers by sample id. A DataArray has the dims (sample, output) or (sample, specialist, output)
        and a coordinate ``sample`` with the ids; a frame or series has them as its index; a mapping as its
        keys. Probabilities with named outputs, labels, or numbers; NaN rows are abstentions.
    key : None, str, list, tuple or callable
        Where the input holds the ids: a view of one column, as in :class:`Specialist`. None: the index of a
        DataFrame, or the only column.
    pick : str, optional
        Which specialist of a (sample, specialist, output) table; the name by default.
    classes : sequence, optional
        Labels of the outputs, where the table does not name them.
    calibration, cost, owner, on_error, name : object
        As in :class:`Specialist`. With ``on_error="abstain"`` unknown ids are abstentions.

    Attributes
    ----------
    model_ : object
        What answers.
    classes_ : ndarray
        Labels, of a classifier.

    Notes
    -----
    It is a classifier if ``classes`` is given, the table holds texts or truth values, or it names two
    or more outputs; else a regressor. That NaN rows and unknown ids are no faults follows from who made
    the table: the user, and not the specialist.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"cat": [0.9, 0.2], "dog": [0.1, 0.8]}, index=["a7", "b3"])
    >>> past = PrecomputedSpecialist(table, key="case").fit(pd.DataFrame({"case": ["a7"]}), ["cat"])
    >>> past.predict(pd.DataFrame({"case": ["b3", "a7"]})).tolist()
    ['dog', 'cat']
    """

    freeze = True
    use_weights = False
    method = "auto"

    def __init__(
        self,
        table: Any,
        *,
        key: Any = None,
        pick: str | None = None,
        classes: Any = None,
        calibration: Any = None,
        cost: float = 1.0,
        owner: str | None = None,
        on_error: str = "raise",
        name: str | None = None,
    ):
        self.table = table
        self.key = key
        self.pick = pick
        self.classes = classes
        self.calibration = calibration
        self.cost = cost
        self.owner = owner
        self.on_error = on_error
        self.name = name

    @property
    def view(self) -> Any:
        """The view that holds the ids."""
        return self.key

    @property
    def kind(self) -> str:
        """What answers, in a word."""
        return self.pick or "table"

    def _frozen_model(self) -> Any:
        return _Table(self)

    def _heard(self, part: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_], str]:
        model = self.model_
        answers, unknown = model.look_up(part)
        if len(unknown) and self.on_error == "raise":
            like = next(iter(model.row))
            hint = ""
            if isinstance(like, str) != isinstance(unknown[0], str):
                hint = f" The table has ids like {like!r}: turn one kind into the other."
            raise PanelError(
                f"specialist {self._label()}: {len(unknown)} of {len(answers)} sample ids are not in the table (first: "
                f"{unknown[0]!r}). Set on_error='abstain'.{hint}"
            )
        note = (
            f"{len(unknown)} of {len(answers)} sample ids are not in the table and abstain (first: {unknown[0]!r})."
            if len(unknown)
            else ""
        )
        return answers, np.isnan(answers).all(axis=1), note

    def _inner_tags(self) -> Any:
        if hasattr(
            self, "model_"
        ):  # every call looks at the tags: reading the table again took 4 ms of 200,000 rows
            model = self.model_
            return answerer_tags(
                classifier=hasattr(model, "classes_"), multi_output=model.values.shape[1] > 1
            )
        table = self.table
        if "specialist" in getattr(
            table, "dims", ()
        ):  # the team gives the name only after it looked at the tags
            table = table.isel(specialist=0, drop=True)
        _, values, labels = _rows(table, None)
        classifier = self.classes is not None or labels is not None
        return answerer_tags(classifier=classifier, multi_output=np.ndim(values) > 1)

    def __sklearn_clone__(self) -> PrecomputedSpecialist:
        return type(self)(**self.get_params(deep=False))


class _Table:
    """Answers by id, answering like a fitted model."""

    def __init__(self, owner: PrecomputedSpecialist):
        ids, said, labels = _rows(owner.table, owner.pick or owner.name)
        if owner.classes is not None:
            labels = list(np.asarray(owner.classes).tolist())
        codes = None if labels is None else label_codes(labels)
        self.owner = owner
        self.row = {one: i for i, one in enumerate(ids)}
        if len(self.row) < len(ids):
            seen: set[Any] = set()
            twice = next(one for one in ids if one in seen or seen.add(one))
            raise PanelError(
                f"sample id {twice!r} occurs {ids.count(twice)} times in the table. Keep one of them."
            )
        if not ids:
            raise PanelError(f"the table of specialist {owner._label()} is empty. Give it answers.")
        self.values = _as_rows(ids, said, codes)
        if codes is not None:
            self.classes_ = np.asarray(labels)
            self.predict_proba = self._answers
            if self.values.shape[1] != len(codes):
                raise PanelError(
                    f"the table has {self.values.shape[1]} outputs for {len(codes)} classes {labels}."
                )

    def look_up(self, part: Any) -> tuple[NDArray[np.float64], list[Any]]:
        indexed = self.owner.key is None and hasattr(part, "iloc")
        ids = np.asarray(part.index if indexed else part)
        ids = ids.reshape(len(ids), -1)
        if ids.shape[1] != 1:
            raise PanelError(f"sample ids need one column; got {ids.shape[1]}. Name it with key=.")
        places = [self.row.get(one, -1) for one in ids[:, 0].tolist()]
        answers = self.values[places]
        missing = [i for i, place in enumerate(places) if place < 0]
        answers[missing] = np.nan
        return answers, ids[missing, 0].tolist()

    def _answers(self, part: Any) -> NDArray[np.float64]:
        return self.owner._heard(part)[0]

    def predict(self, part: Any) -> NDArray[Any]:
        answers = self._answers(part)
        if not hasattr(self, "classes_"):
            return answers[:, 0] if answers.shape[1] == 1 else answers
        silent = np.isnan(answers).all(axis=1)
        if silent.any():
            raise PanelError(
                f"specialist {self.owner._label()} abstains from {int(silent.sum())} samples; only an ensemble can "
                "answer those."
            )
        return self.classes_[answers.argmax(axis=1)]


def _rows(table: Any, pick: str | None) -> tuple[list[Any], Any, list[Any] | None]:
    """Give ids, answers in their order, and the names of the outputs if these are classes."""
    if isinstance(table, Mapping):
        return list(table), list(table.values()), _labels(list(table.values()))
    if hasattr(table, "dims"):
        return _from_dataarray(table, pick)
    if not hasattr(table, "to_numpy"):
        raise PanelError(
            f"table must be a DataArray, DataFrame, Series or mapping; got {type(table).__name__}."
        )
    values = table.to_numpy()
    names = list(table.columns) if values.ndim == 2 else []
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return table.index.tolist(), values, names if values.ndim == 2 else _labels(values.tolist())


def _from_dataarray(table: Any, pick: str | None) -> tuple[list[Any], Any, list[Any] | None]:
    if "specialist" in table.dims:
        names = [str(name) for name in table["specialist"].values.tolist()]
        if pick not in names:
            raise PanelError(f"the table has no specialist {pick!r}; it has {names}. Name one with pick=.")
        table = table.isel(specialist=names.index(str(pick)))
    if "sample" not in table.dims or "sample" not in table.coords:
        raise PanelError(
            f"table needs a dim 'sample' with a coordinate of ids; got dims {table.dims} with coordinates on "
            f"{list(table.coords)}."
        )
    ids = table["sample"].values.tolist()
    table = table.transpose("sample", ...)
    if table.ndim == 1:
        return ids, table.values, _labels(table.values.tolist())
    named = "output" in table.coords and table.sizes["output"] > 1
    return ids, table.values, table["output"].values.tolist() if named else None


def _labels(said: list[Any]) -> list[Any] | None:
    """Name the classes that texts or truth values say; None for numbers."""
    found = {one for one in said if isinstance(one, str | bool | np.bool_)}
    return sorted(found, key=str) if found else None


def _as_rows(ids: list[Any], said: Any, codes: Any) -> NDArray[np.float64]:
    if isinstance(said, np.ndarray) and said.dtype.kind in "fiub" and (codes is None or said.ndim == 2):
        values = as_numbers(said)
        return values.reshape(len(values), -1)
    rows = []
    for name, one in zip(ids, _listed(said), strict=True):
        try:
            rows.append(None if _is_gap(one) else read_answer(one, codes))
        except AnswerError as error:
            raise PanelError(f"the table's answer to sample id {name!r} cannot be used: {error}") from error
    width = next((len(row) for row in rows if row is not None), 1)
    odd = next((i for i, row in enumerate(rows) if row is not None and len(row) != width), None)
    if odd is not None:
        raise PanelError(f"the table has {width} outputs, and for sample id {ids[odd]!r} {len(rows[odd])}.")  # type: ignore[arg-type]
    return np.array([np.full(width, np.nan) if row is None else row for row in rows])


def _listed(said: Any) -> list[Any]:
    return said.tolist() if isinstance(said, np.ndarray) else list(said)


def _is_gap(one: Any) -> bool:
    return one is None or (isinstance(one, float) and np.isnan(one))
