"""Panels and their truth from CSV (long or wide), Parquet, npz and NetCDF files, every decision noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np

from estimators.readers.array_files import Arrays, check_shapes, read_netcdf, read_npz
from estimators.readers.columns import Column, array_column, guess, listing, pick
from estimators.readers.tables import RawPanel, read_table_panel, read_truth_table
from estimators.readers.tasks import TASKS, settle
from theory._exceptions import PanelError

Task = Literal["labels", "probabilities", "numbers"]
_TABLES = {".csv", ".tsv", ".txt", ".parquet", ".pq", ".csv.gz", ".tsv.gz"}
_NETCDF = {".nc", ".nc4", ".netcdf", ".h5"}


@dataclass(frozen=True, eq=False)
class PanelTable:
    """A panel and its truth, as read from a file by :func:`read_panel`.

    Attributes
    ----------
    panel : ndarray
        Labels: int64 codes of shape (sample, specialist), -1 = abstained. Probabilities and numbers:
        float64 of shape (sample, specialist, output), NaN = abstained.
    y : ndarray
        The truth: int64 codes of shape (sample,); for numbers float64 of shape (sample, output).
    task : {"labels", "probabilities", "numbers"}
        What the answers are.
    classes : tuple of str, or None
        ``classes[code]`` is the label; None for numbers.
    names : tuple of str
        The specialists.
    sample_ids : ndarray of str, shape (sample,)
        The samples' names, or their row numbers.
    n_options : ndarray of int64, shape (sample,), or None
        Options each sample offered, where the file says so.
    source : str
        The file's path.
    notes : tuple of str
        Every decision that was taken in reading, in words.

    Examples
    --------
    >>> import numpy as np
    >>> from estimators import PanelTable
    >>> table = PanelTable(panel=np.array([[0, 1]]), y=np.array([0]), task="labels", classes=("no", "yes"),
    ...                    names=("a", "b"), sample_ids=np.array(["0"]), n_options=None, source="", notes=())
    >>> table.task
    'labels'
    """

    panel: np.ndarray
    y: np.ndarray
    task: Task
    classes: tuple[str, ...] | None
    names: tuple[str, ...]
    sample_ids: np.ndarray
    n_options: np.ndarray | None
    source: str
    notes: tuple[str, ...]


def read_panel(
    path: str | PathLike[str],
    *,
    truth: str | PathLike[str] | None = None,
    truth_column: str | None = None,
    task: Task | None = None,
    layout: Literal["long", "wide"] | None = None,
    specialists: Sequence[str] | None = None,
    sample: str | None = None,
    specialist: str | None = None,
    answer: str | None = None,
    probabilities: Sequence[str] | None = None,
    abstain: Sequence[str] = (),
) -> PanelTable:
    r"""Read the answers of many specialists, and the truth, from a file.

    Parameters
    ----------
    path : str or path
        ``.csv``, ``.tsv``, ``.txt`` (comma, semicolon or tab; also ``.csv.gz``), ``.parquet``, ``.npz``
        or ``.nc``. Wide tables have a row per sample and a column per specialist; long tables a row per
        (sample, specialist) with an answer, or with a column per class that holds its probability. Array
        files hold answers of shape (sample, specialist) or (sample, specialist, output).
    truth : str or path, optional
        Column, array or variable of the same file, or another file of one of these kinds that is joined
        by sample. Default: a column called truth, gold, y, y_true, target, ground_truth or label.
    truth_column : str, optional
        Column of the truth in another file; default as above.
    task : {"labels", "probabilities", "numbers"}, optional
        What the answers are. Default: decided from the values, with a note.
    layout : {"long", "wide"}, optional
        Default: long if columns for sample, specialist and answer are found.
    specialists : sequence of str, optional
        The specialists to use, in this order; default all.
    sample, specialist, answer : str, optional
        Columns of a table, or dims and the variable of an array file, that go by other names.
    probabilities : sequence of str, optional
        Columns of a long table, one per class, with its probability. Default: columns ``p_CLASS``,
        ``prob_CLASS``, ``proba_CLASS`` or ``probability_CLASS``.
    abstain : sequence of str, optional
        Labels that mean an abstention, besides the empty cell.

    Returns
    -------
    PanelTable
        Panel, truth, names, and notes on every decision.

    Raises
    ------
    PanelError
        If the file cannot be read or is empty, has no truth or too little of it, fewer than two
        specialists, a pair of sample and specialist twice, no such columns, labels that never meet the
        truth's, or answers that never vary.

    Notes
    -----
    Empty cells are abstentions (-1, or NaN). In text columns "NA" and "nan" are labels unless named in
    ``abstain``, in number columns they are empty. Whole numbers with at most 50 distinct values are read
    as labels; -1 among them is an abstention if the truth is never -1. A missing truth is an error, never
    a dropped sample. With ``n_options`` in an array file, codes are kept as they are, and a truth equal to
    ``n_options`` means that none of the options is right.

    A table of 10^6 samples and 50 specialists takes about 6 s and 2 GB (CSV or Parquet, with pyarrow).

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from estimators import read_panel
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = pathlib.Path(folder.name, "panel.csv")
    >>> _ = file.write_text("item,ann,bob,truth\n1,cat,dog,cat\n2,dog,,dog\n3,cat,cat,dog\n")
    >>> table = read_panel(file)
    >>> table.names, table.classes, table.panel.tolist(), table.y.tolist()
    (('ann', 'bob'), ('cat', 'dog'), [[0, 1], [1, -1], [0, 0]], [0, 1, 1])
    >>> print(*table.notes, sep="\n")
    samples named by the column 'item'
    truth read from the column 'truth'
    1 empty cell read as an abstention
    >>> folder.cleanup()
    """
    file = Path(path).expanduser()
    kind = _kind(file)
    _check_options(task, layout, abstain)
    asked = None if truth is None else str(truth)
    if kind == "table":
        raw = read_table_panel(
            file, truth=asked, layout=layout, specialists=specialists, sample=sample, specialist=specialist,
            answer=answer, probabilities=probabilities, task=task,
        )  # fmt: skip
    else:
        if kind == "npz":
            arrays = read_npz(file, answer=answer, truth=asked)
        else:
            arrays = read_netcdf(file, answer=answer, truth=asked, sample=sample, specialist=specialist)
        raw = _from_arrays(file, arrays, specialists)
    if raw.truth is None:
        raw = _join_truth(raw, file, asked, truth_column, sample)
    settled = settle(raw, task=task, abstain=tuple(abstain), source=file.name)
    return PanelTable(
        panel=settled.panel,
        y=settled.y,
        task=settled.task,
        classes=settled.classes,
        names=raw.names,
        sample_ids=raw.sample_ids,
        n_options=raw.n_options,
        source=str(file),
        notes=(*raw.notes, *settled.notes),
    )


def _check_options(task: str | None, layout: str | None, abstain: Sequence[str]) -> None:
    if task not in {None, *TASKS}:
        raise PanelError(f"task must be one of {', '.join(TASKS)}; got {task!r}.")
    if layout not in {None, "long", "wide"}:
        raise PanelError(f"layout must be 'long' or 'wide'; got {layout!r}.")
    if isinstance(abstain, str):
        raise PanelError(f"abstain takes a list of labels; got {abstain!r}. Write abstain=[{abstain!r}].")


def _kind(file: Path) -> Literal["table", "npz", "netcdf"]:
    suffix = file.suffix.lower()
    if suffix == ".gz":
        suffix = "".join(file.suffixes[-2:]).lower()
    if suffix not in {*_TABLES, ".npz", *_NETCDF}:
        raise PanelError(
            f"{file.name}: cannot tell what kind of file this is; needed is .csv, .tsv, .parquet, .npz or "
            ".nc."
        )
    if not file.is_file():
        raise PanelError(f"there is no file {file}.")
    if file.stat().st_size == 0:
        raise PanelError(f"{file.name} is empty (0 bytes).")
    return "table" if suffix in _TABLES else "npz" if suffix == ".npz" else "netcdf"


def _from_arrays(file: Path, arrays: Arrays, specialists: Sequence[str] | None) -> RawPanel:
    answers = arrays.answers
    if answers is None:
        raise PanelError(
            f"{file.name} has no answers: it holds {listing(arrays.variables)}. Needed is 'answers' or "
            "'panel' over sample and specialist, or its name: answer=NAME."
        )
    if answers.ndim not in {2, 3}:
        raise PanelError(
            f"{file.name}: the answers have shape {answers.shape}; needed is (sample, specialist) or "
            "(sample, specialist, output)."
        )
    sizes = {
        "the truth": (None if arrays.truth is None else len(np.atleast_1d(arrays.truth)), 0),
        "sample": (None if arrays.sample_ids is None else len(np.atleast_1d(arrays.sample_ids)), 0),
        "n_options": (None if arrays.n_options is None else len(np.atleast_1d(arrays.n_options)), 0),
        "specialist": (None if arrays.names is None else len(arrays.names), 1),
    }
    if answers.ndim == 3:
        sizes["classes"] = (None if arrays.classes is None else len(arrays.classes), 2)
    check_shapes(file.name, answers, sizes)
    notes = list(arrays.notes)
    names = arrays.names
    if names is None:
        names = tuple(str(k) for k in range(answers.shape[1]))
        notes.append("specialists have no names in the file: numbered from 0")
    if len(set(names)) < len(names):
        raise PanelError(
            f"{file.name}: several specialists are called {listing(_twice(names))}; rename them."
        )
    if specialists is not None:
        keep = [names.index(pick(names, one, role="specialists", source=file.name, noun="specialist"))
                for one in specialists]  # fmt: skip
        names, answers = tuple(names[k] for k in keep), answers[:, keep]
    ids = None if arrays.sample_ids is None else array_column(arrays.sample_ids).as_texts().astype(str)
    columns = None
    if answers.ndim == 2:
        columns = [array_column(answers[:, k]) for k in range(answers.shape[1])]
    truth: Column | np.ndarray | None = None
    if arrays.truth is not None:
        truth = arrays.truth if np.ndim(arrays.truth) > 1 else array_column(arrays.truth)
    return RawPanel(
        names=names,
        columns=columns,
        cube=None if columns is not None else answers,
        classes=arrays.classes,
        truth=truth,
        sample_ids=np.arange(len(answers)).astype(str) if ids is None else ids,
        has_ids=ids is not None,
        n_options=None if arrays.n_options is None else arrays.n_options.astype(np.int64),
        notes=notes,
        is_array=True,
    )


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if list(names).count(name) > 1})


def _join_truth(
    raw: RawPanel, file: Path, truth: str | None, column: str | None, sample: str | None
) -> RawPanel:
    """Bring the truth of another file into the panel's order of samples."""
    if truth is None:
        raise PanelError(
            f"{file.name} has no truth: none of {listing(raw.seen)} looks like one. Name its column, array "
            "or variable with truth=NAME, or give the file that holds it."
        )
    other = Path(truth).expanduser()
    kind = _kind(other)
    if kind == "table":
        ids, values, name = read_truth_table(other, truth_column=column, sample=sample)
    else:
        if kind == "npz":
            arrays = read_npz(other, answer=None, truth=column)
        else:
            arrays = read_netcdf(other, answer=None, truth=column, sample=sample, specialist=None)
        if arrays.truth is None:
            raise PanelError(
                f"{other.name} has no truth: it holds {listing(arrays.variables)}. Use truth_column=NAME."
            )
        values, name = array_column(arrays.truth), column or guess(arrays.variables, ("truth",)) or "truth"
        ids = None if arrays.sample_ids is None else array_column(arrays.sample_ids).as_texts().astype(str)
    n_samples = len(raw.sample_ids)
    if ids is None or not raw.has_ids:
        if len(values.values) != n_samples:
            raise PanelError(
                f"{other.name} has {len(values.values)} truths and {file.name} {n_samples} samples; without "
                "a sample column in both files they are matched by row, so the numbers must be equal."
            )
        note = f"truth read from {other.name} ({name}), matched by row: no sample names in both files"
        return raw.with_truth(values, note)
    import pandas as pd

    index = pd.Index(ids)
    if not index.is_unique:
        raise PanelError(
            f"{other.name} names samples more than once: {listing(list(index[index.duplicated()]))}."
        )
    rows = index.get_indexer(pd.Index(raw.sample_ids))
    missing = raw.sample_ids[rows < 0]
    if len(missing):
        raise PanelError(
            f"{other.name} has no truth for {len(missing)} of {n_samples} samples: "
            f"{listing(list(missing), 3)}. Add them, or take these samples out of the panel."
        )
    unused = len(index) - n_samples
    extra = f"; {unused} truths there have no answers here" if unused else ""
    return raw.with_truth(
        values.take(rows), f"truth read from {other.name} ({name}), joined by sample{extra}"
    )
