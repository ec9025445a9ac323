"""Many specialists' answers, aligned by sample and by label, as one panel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from theory._backends import (
    OUTPUT,
    SAMPLE,
    SPECIALIST,
    as_float,
    counts_from_zero,
    from_array,
    from_torch,
    kind_of,
    pandas_values,
)
from theory._exceptions import PanelError

if TYPE_CHECKING:
    from xarray import DataArray


@dataclass(frozen=True, slots=True)
class _Answer:
    """One specialist's answers: values (sample, output) and, where known, both axes' labels.

    `counted` says that the sample labels are those pandas makes up, 0 to n - 1.
    """

    name: str
    values: NDArray[Any]
    samples: list[Hashable] | None
    outputs: list[Hashable] | None
    counted: bool = False


def stack_specialists(
    answers: Mapping[str, Any] | Sequence[Any],
    *,
    classes: Mapping[str, Sequence[Hashable]] | None = None,
    outputs: Literal["exact", "union", "intersection"] = "exact",
) -> DataArray:
    """Put the answers of many specialists side by side, sample first.

    Labels decide, never positions: outputs in another order are reordered, outputs that only some
    specialists know are refused unless ``outputs`` says what to do with them. Answers without sample
    labels take the order of those that have them, if these have one order. The index that pandas
    makes up, 0 to n - 1, is a label only beside samples numbered otherwise.

    Parameters
    ----------
    answers : mapping of name to answers, or sequence of answers
        Each of shape (sample,) or (sample, output): array, tensor, DataFrame (index = samples,
        columns = outputs), Series, or DataArray with dims sample and, if there is one, output.
    classes : mapping of name to sequence of labels, optional
        Names of the columns of answers that carry none themselves, such as ``model.classes_``.
    outputs : {"exact", "union", "intersection"}
        Whether all must name the same outputs; or NaN stands where a specialist cannot name an
        output; or only the outputs that everybody names are kept.

    Returns
    -------
    DataArray
        Dims (sample, specialist, output) with coordinates where labels were known. dtype is the
        common one of the answers.

    Raises
    ------
    PanelError
        If numbers of samples differ, sample labels or outputs differ without leave, labels repeat,
        or some answers name their outputs and others do not.

    Examples
    --------
    >>> panel = stack_specialists(
    ...     {"a": [[0.9, 0.1]], "b": [[0.3, 0.7]]},
    ...     classes={"a": ["cat", "dog"], "b": ["dog", "cat"]},
    ... )
    >>> panel.sel(specialist="b").values.tolist(), panel.output.values.tolist()
    ([[0.7, 0.3]], ['cat', 'dog'])
    """
    if outputs not in ("exact", "union", "intersection"):
        raise PanelError(f"outputs must be 'exact', 'union' or 'intersection'; got {outputs!r}.")
    named = dict(answers) if isinstance(answers, Mapping) else {str(i): a for i, a in enumerate(answers)}
    if not named:
        raise PanelError("no answers were given; stack_specialists needs at least one specialist.")
    stray = sorted(set(classes or {}) - set(named))
    if stray:
        raise PanelError(f"classes names {stray}, which are no specialists; there are {sorted(named)}.")
    rows = [_read(name, answer, (classes or {}).get(name)) for name, answer in named.items()]
    rows = _without_counts(rows)
    samples = _common_samples(rows)
    labels = _common_outputs(rows, outputs)
    n_outputs = len(labels) if labels is not None else rows[0].values.shape[1]
    dtype = np.result_type(*(row.values.dtype for row in rows))
    panel = np.full((len(rows[0].values), len(rows), n_outputs), np.nan, dtype=dtype)
    for i, row in enumerate(rows):
        panel[:, i, :] = _placed(row, samples, labels, panel[:, i, :])
    coords: dict[str, Any] = {SPECIALIST: list(named)}
    if samples is not None:
        coords[SAMPLE] = samples
    if labels is not None:
        coords[OUTPUT] = labels
    from xarray import DataArray

    return DataArray(panel, dims=(SAMPLE, SPECIALIST, OUTPUT), coords=coords)


def _read(name: str, answer: Any, classes: Sequence[Hashable] | None) -> _Answer:
    kind, counted = kind_of(answer), False
    samples: list[Hashable] | None = None
    outputs: list[Hashable] | None = None if classes is None else list(classes)
    if kind == "xarray":
        if SAMPLE not in answer.dims or set(answer.dims) - {SAMPLE, OUTPUT}:
            raise PanelError(f"specialist {name!r} has dims {answer.dims}; answers need (sample, output).")
        table = answer.transpose(SAMPLE, ...)
        values = np.asarray(table.data)
        samples = _listed(table.coords[SAMPLE].values) if SAMPLE in table.coords else None
        if OUTPUT in table.coords:
            outputs = _listed(table.coords[OUTPUT].values)
    elif kind == "pandas":
        values = pandas_values(answer)
        samples, counted = _listed(answer.index), counts_from_zero(answer.index)
        if answer.ndim == 2 and not counts_from_zero(answer.columns):
            outputs = _listed(answer.columns)
    else:
        values = from_torch(answer) if kind == "torch" else from_array(answer)
    values = as_float(values)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] == 0:
        raise PanelError(f"specialist {name!r} has shape {values.shape}; answers need (sample, output).")
    if outputs is not None and len(outputs) != values.shape[1]:
        raise PanelError(f"specialist {name!r} has {values.shape[1]} outputs, but {len(outputs)} labels.")
    for axis, labels in (("sample", samples), ("output", outputs)):
        if labels is not None and len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise PanelError(f"{axis} {twice!r} occurs {labels.count(twice)} times in specialist {name!r}.")
    return _Answer(name, values, samples, outputs, counted)


def _without_counts(rows: list[_Answer]) -> list[_Answer]:
    """Drop sample labels that pandas made up, unless others number their samples too: then they may differ."""
    numbered = any(
        row.samples is not None and not row.counted and all(isinstance(label, int) for label in row.samples)
        for row in rows
    )
    return rows if numbered else [replace(row, samples=None) if row.counted else row for row in rows]


def _listed(labels: Any) -> list[Hashable]:
    return list(np.asarray(labels).tolist())


def _common_samples(rows: list[_Answer]) -> list[Hashable] | None:
    first = rows[0]
    for row in rows:
        if len(row.values) != len(first.values):
            raise PanelError(
                f"specialist {row.name!r} answered {len(row.values)} samples, {first.name!r} "
                f"{len(first.values)}. Give both the same samples, with NaN where one did not answer."
            )
    labelled = [row for row in rows if row.samples is not None]
    if not labelled:
        return None
    order = labelled[0].samples or []
    for row in labelled[1:]:
        gone, extra = set(order) - set(row.samples or []), set(row.samples or []) - set(order)
        if gone or extra:
            raise PanelError(
                f"specialist {row.name!r} answered other samples than {labelled[0].name!r}: it lacks "
                f"{_some(gone)} and adds {_some(extra)}. Reindex the answers to one list of samples."
            )
    bare = [row.name for row in rows if row.samples is None]
    moved = next((row.name for row in labelled if row.samples != order), None)
    if bare and moved is not None:
        raise PanelError(
            f"specialists {bare} do not label their samples, and {labelled[0].name!r} and {moved!r} label theirs in "
            "different orders: there is no telling which one the others follow. Label them, or reindex."
        )
    return list(order)


def _common_outputs(rows: list[_Answer], how: str) -> list[Hashable] | None:
    named = [row for row in rows if row.outputs is not None]
    if not named:
        for row in rows:
            if row.values.shape[1] != rows[0].values.shape[1]:
                raise PanelError(
                    f"specialist {row.name!r} gave {row.values.shape[1]} outputs, {rows[0].name!r} "
                    f"{rows[0].values.shape[1]}, without labels to match by. Give classes=."
                )
        return None
    if len(named) < len(rows):
        bare = [row.name for row in rows if row.outputs is None]
        raise PanelError(
            f"specialists {bare} do not name their outputs, the others do. Give classes= for them."
        )
    if how == "exact":
        for row in named[1:]:
            here, there = set(row.outputs or []), set(named[0].outputs or [])
            if here != there:
                raise PanelError(
                    f"specialist {row.name!r} has extra outputs {_some(here - there)} and lacks "
                    f"{_some(there - here)}, beside {named[0].name!r}. Use outputs='union' or rename."
                )
    order = list(dict.fromkeys(label for row in named for label in row.outputs or []))
    if how == "intersection":
        order = [label for label in order if all(label in (row.outputs or []) for row in named)]
        if not order:
            raise PanelError("no output is named by every specialist. Use outputs='union'.")
    return order


def _placed(
    row: _Answer, samples: list[Hashable] | None, labels: list[Hashable] | None, space: NDArray[Any]
) -> NDArray[Any]:
    values = row.values
    if samples is not None and row.samples is not None:
        position = {label: i for i, label in enumerate(row.samples)}
        values = values[[position[label] for label in samples]]
    if labels is None or row.outputs is None:
        return values
    column = {label: i for i, label in enumerate(row.outputs)}
    for k, label in enumerate(labels):
        if label in column:
            space[:, k] = values[:, column[label]]
    return space


def _some(labels: set[Hashable]) -> str:
    shown = sorted(map(str, labels))[:5]
    return f"[{', '.join(shown)}{', ...' if len(labels) > 5 else ''}]"
