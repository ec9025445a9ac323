"""Long and wide tables as raw panels: which column is what, and the cells in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from estimators.readers.array_files import SAMPLES, TRUTHS
from estimators.readers.columns import Column, factorize, guess, listing, pick, truth_inside
from estimators.readers.table_files import TableFile
from theory._exceptions import PanelError

_SAMPLE = (
    *SAMPLES, "item_id", "question_id", "example", "example_id", "task_id", "instance", "index",
    "__index_level_0__", "",
)  # fmt: skip
_SPECIALIST = (
    "specialist",
    "model",
    "worker",
    "annotator",
    "rater",
    "forecaster",
    "expert",
    "judge",
    "member",
)
_ANSWER = (
    "answer", "prediction", "predicted", "pred", "response", "vote", "forecast", "y_pred", "label", "value",
)  # fmt: skip
_PREFIXES = ("p_", "prob_", "proba_", "probability_")


@dataclass(frozen=True, eq=False)
class RawPanel:
    """A panel as the file holds it, before its task is settled.

    Attributes
    ----------
    names : tuple of str
        The specialists.
    columns : list of Column, or None
        One answer per sample and specialist: a column for each specialist.
    cube : ndarray of shape (sample, specialist, output), or None
        Several numbers per sample and specialist, instead of columns.
    classes : tuple of str, or None
        Names of the outputs, or of the codes.
    truth : Column, ndarray or None
        The truth, None if another file holds it.
    sample_ids : ndarray of str
        The samples' names or row numbers.
    has_ids : bool
        Whether the file names its samples.
    n_options : ndarray of int64, or None
        Options each sample offered.
    notes : list of str
        Decisions taken so far.
    is_array : bool
        Whether the answers come from an array file, where whole numbers are codes.
    seen : tuple of str
        Names of all columns.
    """

    names: tuple[str, ...]
    columns: list[Column] | None
    cube: np.ndarray | None
    classes: tuple[str, ...] | None
    truth: Column | np.ndarray | None
    sample_ids: np.ndarray
    has_ids: bool
    n_options: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    is_array: bool = False
    seen: tuple[str, ...] = ()

    def with_truth(self, truth: Column, note: str) -> RawPanel:
        """Return the panel with the truth of another file."""
        return replace(self, truth=truth, notes=[*self.notes, note])


def read_table_panel(
    file: Path,
    *,
    truth: str | None,
    layout: str | None,
    specialists: Sequence[str] | None,
    sample: str | None,
    specialist: str | None,
    answer: str | None,
    probabilities: Sequence[str] | None,
    task: str | None,
) -> RawPanel:
    """Read a long or wide table; see :func:`estimators.read_panel`."""
    table = TableFile(file)
    names, source = table.names, file.name
    rows = guess(names, _SAMPLE) if sample is None else pick(names, sample, role="samples", source=source)
    who = guess(names, _SPECIALIST)
    if specialist is not None:
        who = pick(names, specialist, role="specialists", source=source)
    inside = truth_inside(names, truth, source=source)
    what = guess([name for name in names if name != inside], _ANSWER)
    if answer is not None:
        what = pick(names, answer, role="answers", source=source)
    outputs = [pick(names, one, role="probabilities", source=source) for one in probabilities or ()]
    if not outputs and task in {None, "probabilities"}:
        outputs = [name for name in names if name.casefold().startswith(_PREFIXES)]
    asked_long = bool(specialist or answer or probabilities)
    if layout is None:
        layout = "long" if asked_long or (rows and who and (what or outputs)) else "wide"
    if layout == "wide":
        return _read_wide(table, rows, inside, truth, specialists)
    for role, found, option in (("samples", rows, "sample"), ("specialists", who, "specialist")):
        if found is None:
            raise PanelError(
                f"{source} has no column of {role} among {listing(names)}; a long table needs one. Name it "
                f"with {option}=COLUMN."
            )
    if what is None and not outputs:
        raise PanelError(
            f"{source} has no column of answers among {listing(names)}. Name it with answer=COLUMN, or the "
            "columns of probabilities with probabilities=[COLUMN, ...]."
        )
    assert rows is not None
    assert who is not None
    if truth is None:
        inside = guess([name for name in names if name not in {rows, who, what, *outputs}], TRUTHS)
    return _read_long(table, rows, who, what, outputs, inside, specialists)


def _read_wide(
    table: TableFile,
    rows: str | None,
    inside: str | None,
    truth: str | None,
    specialists: Sequence[str] | None,
) -> RawPanel:
    names, source = table.names, table.path.name
    notes: list[str] = []
    if truth is None:
        inside = guess([name for name in names if name != rows], TRUTHS)
    options = "n_options" if "n_options" in names and inside != "n_options" else None
    if specialists is not None:
        chosen = [pick(names, one, role="specialists", source=source) for one in specialists]
        if inside in chosen:
            raise PanelError(f"{source}: {inside!r} is the truth and cannot be a specialist as well.")
        rows = None if rows in chosen else rows
        options = None if options in chosen else options
    else:
        chosen = [name for name in names if name not in {rows, inside, options}]
        # The truth is read elsewhere: the one of this file is left over, and would be a perfect specialist.
        spare = guess(chosen, TRUTHS) if truth is not None else None
        if spare is not None:
            chosen.remove(spare)
            notes.append(f"the column {spare!r} looks like a truth and is not read as a specialist")
    if not chosen:
        raise PanelError(f"{source} has no columns of specialists: it holds {listing(names)}.")
    roles = [name for name in (rows, inside, options) if name is not None]
    shared = [*chosen, *([inside] if inside else [])]
    columns = table.columns([*chosen, *roles], one_kind=shared)
    n_samples = len(columns[chosen[0]].values)
    ids = np.arange(n_samples).astype(str)
    if rows is not None:
        ids = columns[rows].as_texts().astype(str)
        notes.append(f"samples named by the column {rows!r}")
        _check_ids(ids, rows, source)
    if inside is not None:
        notes.append(f"truth read from the column {inside!r}")
    return RawPanel(
        names=tuple(chosen),
        columns=[columns[name] for name in chosen],
        cube=None,
        classes=None,
        truth=None if inside is None else columns[inside],
        sample_ids=ids,
        has_ids=rows is not None,
        n_options=None if options is None else _whole(columns[options], options, source),
        notes=notes,
        seen=tuple(names),
    )


def _check_ids(ids: np.ndarray, rows: str, source: str) -> None:
    if (ids == "").any():
        raise PanelError(
            f"{source}: {int((ids == '').sum())} rows have no name in the column {rows!r}; fill it in."
        )
    codes, uniques = factorize(ids.astype(object))
    if len(uniques) < len(ids):
        counts = np.bincount(codes)
        twice = uniques[counts > 1]
        raise PanelError(
            f"{source}: {len(twice)} samples come more than once in the column {rows!r}: "
            f"{listing(list(twice), 3)}. Remove the duplicates, or name the column of samples with "
            "sample=COLUMN."
        )


def _whole(column: Column, name: str, source: str) -> np.ndarray:
    if column.is_text or column.empty.any() or not column.is_whole():
        raise PanelError(f"{source}: the column {name!r} must hold a whole number in every row.")
    return column.values.astype(np.int64)


def _read_long(
    table: TableFile,
    rows: str,
    who: str,
    what: str | None,
    outputs: list[str],
    inside: str | None,
    specialists: Sequence[str] | None,
) -> RawPanel:
    names, source = table.names, table.path.name
    options = "n_options" if "n_options" in names else None
    answers = outputs or [str(what)]
    wanted = list(dict.fromkeys([rows, who, *answers, *[name for name in (inside, options) if name]]))
    shared = [] if outputs else [*answers, *([inside] if inside else [])]
    columns = table.columns(wanted, one_kind=shared)
    sample_code, ids = _codes(columns[rows], rows, source)
    member_code, members = _codes(columns[who], who, source)
    notes = [f"long table: sample {rows!r}, specialist {who!r}, answer {listing(answers)}"]
    ignored = [name for name in names if name not in wanted]
    if ignored:
        notes.append(f"columns not used: {listing(ignored)}")
    keep = np.ones(len(sample_code), dtype=bool)
    if specialists is not None:
        found = list(members)
        order = [found.index(pick(found, one, role="specialists", source=source, noun="specialist"))
                 for one in specialists]  # fmt: skip
        place = np.full(len(found), -1)
        place[order] = np.arange(len(order))
        member_code, members = place[member_code], members[order]
        keep = member_code >= 0
        if not keep.all():
            notes.append(f"{int((~keep).sum())} rows of other specialists left out, as asked")
    cell = sample_code[keep] * len(members) + member_code[keep]
    n_cells = len(ids) * len(members)
    _check_pairs(cell, n_cells, ids, members, source)
    rows_of_cell = np.full(n_cells, -1, dtype=np.int64)
    rows_of_cell[cell] = np.flatnonzero(keep)
    absent = n_cells - len(cell)
    if absent:
        notes.append(f"{absent} of {n_cells} pairs of sample and specialist have no row: read as abstentions")
    grid = rows_of_cell.reshape(len(ids), len(members))
    cube, parts, classes = None, None, None
    if outputs:
        cube = np.stack(
            [_numbers(columns[name], name, source).take(grid).floats() for name in outputs], axis=-1
        )
        classes = _class_names(outputs)
    else:
        parts = [columns[answers[0]].take(grid[:, k]) for k in range(len(members))]
    truth = None
    if inside is not None:
        truth = _per_sample(columns[inside], sample_code, ids, inside, source)
        notes.append(f"truth read from the column {inside!r}")
    n_options = None
    if options is not None:
        n_options = _whole(_per_sample(columns[options], sample_code, ids, options, source), options, source)
    return RawPanel(
        names=tuple(str(member) for member in members),
        columns=parts,
        cube=cube,
        classes=classes,
        truth=truth,
        sample_ids=ids.astype(str),
        has_ids=True,
        n_options=n_options,
        notes=notes,
        seen=tuple(names),
    )


def _codes(column: Column, name: str, source: str) -> tuple[np.ndarray, np.ndarray]:
    if column.empty.any():
        raise PanelError(
            f"{source}: {int(column.empty.sum())} rows are empty in the column {name!r}; fill it in."
        )
    codes, texts = factorize(column.as_texts())
    return codes.astype(np.int64), texts


def _check_pairs(cell: np.ndarray, n_cells: int, ids: np.ndarray, members: np.ndarray, source: str) -> None:
    counts = np.bincount(cell, minlength=n_cells)
    twice = np.flatnonzero(counts > 1)
    if len(twice):
        sample, member = divmod(int(twice[0]), len(members))
        raise PanelError(
            f"{source}: {len(twice)} pairs of sample and specialist come more than once, the first is "
            f"(sample {ids[sample]}, specialist {members[member]}) with {counts[twice[0]]} rows. Keep one "
            "row per pair."
        )


def _numbers(column: Column, name: str, source: str) -> Column:
    if column.is_text:
        raise PanelError(
            f"{source}: the column {name!r} of probabilities holds text, e.g. {column.uniques()[0]!r}; "
            "numbers were needed."
        )
    return column


def _class_names(outputs: list[str]) -> tuple[str, ...]:
    for prefix in _PREFIXES:
        if all(name.casefold().startswith(prefix) for name in outputs):
            return tuple(name[len(prefix) :] for name in outputs)
    return tuple(outputs)


def _per_sample(column: Column, sample_code: np.ndarray, ids: np.ndarray, name: str, source: str) -> Column:
    """Return the one value per sample of a column that repeats it on every row."""
    first = np.full(len(ids), -1, dtype=np.int64)
    filled = np.flatnonzero(~column.empty)
    first[sample_code[filled][::-1]] = filled[::-1]
    differs = filled[column.values[first[sample_code[filled]]] != column.values[filled]]
    if len(differs):
        sample = ids[sample_code[differs[0]]]
        raise PanelError(
            f"{source}: sample {sample} has several values in the column {name!r}; one was needed."
        )
    return column.take(first)


def read_truth_table(
    file: Path, *, truth_column: str | None, sample: str | None
) -> tuple[np.ndarray | None, Column, str]:
    """Read the truth from a table of its own.

    Parameters
    ----------
    file : Path
        CSV or Parquet with a column of truths, and one of samples unless it is matched by row.
    truth_column, sample : str or None
        Names of the two columns; guessed if None.

    Returns
    -------
    ids : ndarray of str, or None
        The samples' names.
    truth : Column
        The truths.
    name : str
        Which column they are.
    """
    table = TableFile(file)
    names, source = table.names, file.name
    rows = sample if sample in names else guess(names, _SAMPLE)
    others = [name for name in names if name != rows]
    if truth_column is not None:
        name = pick(names, truth_column, role="truth", source=source)
    else:
        found = guess(others, (*TRUTHS, *_ANSWER)) or (others[0] if len(others) == 1 else None)
        if found is None:
            raise PanelError(
                f"{source}: no column of truths among {listing(names)}; name it with truth_column=COLUMN."
            )
        name = found
    rows = None if rows == name else rows
    columns = table.columns([name, *([rows] if rows else [])])
    return (None if rows is None else columns[rows].as_texts().astype(str)), columns[name], name
