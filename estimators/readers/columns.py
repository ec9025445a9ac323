"""One column of a table, numbers or texts, and what tables and arrays have in common."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from theory._exceptions import PanelError

# Spellings of "nothing" among numbers. Among texts only the empty cell means nothing: "NA" may be a label.
EMPTY_NUMBERS = ("", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None")


@dataclass(frozen=True, eq=False)
class Column:
    """Values of one column: numbers with a mask of empty cells, or codes into texts.

    Attributes
    ----------
    values : ndarray of shape (row,)
        int64 or float64 numbers; or the codes of texts, -1 where the cell is empty.
    texts : ndarray of str, or None
        What the codes stand for; None for numbers.
    empty : ndarray of bool, shape (row,)
        True where the cell is empty.
    """

    values: np.ndarray
    texts: np.ndarray | None
    empty: np.ndarray

    @property
    def is_text(self) -> bool:
        """Whether the column holds texts."""
        return self.texts is not None

    def take(self, rows: np.ndarray) -> Column:
        """Return the column at these rows; row -1 is an empty cell."""
        absent = rows < 0
        return Column(self.values[rows], self.texts, self.empty[rows] | absent)

    def as_texts(self) -> np.ndarray:
        """Return the cells as an object array of str, "" where empty; whole numbers without a point."""
        if self.texts is not None:
            return np.append(self.texts.astype(object), "")[np.where(self.empty, -1, self.values)]
        if self.values.dtype.kind == "i":
            cells = self.values.astype(str).astype(object)
            cells[self.empty] = ""
            return cells
        codes, uniques = factorize(self.values)
        texts = np.array([number_text(value) for value in uniques.tolist()], dtype=object)
        cells = texts[codes] if len(texts) else np.full(len(codes), "", dtype=object)
        cells[self.empty] = ""
        return cells

    def is_whole(self) -> bool:
        """Whether all numbers are whole."""
        if self.values.dtype.kind in "iu":
            return True
        seen = self.values[~self.empty]
        return bool((np.isfinite(seen) & (seen == np.floor(seen))).all())

    def uniques(self) -> np.ndarray:
        """Return the distinct non-empty values (texts, or numbers)."""
        if self.texts is not None:
            used = np.bincount(self.values[~self.empty], minlength=len(self.texts)) > 0
            return self.texts[used]
        return factorize(self.values[~self.empty])[1]

    def floats(self) -> np.ndarray:
        """Return the numbers as float64, NaN where empty."""
        numbers = self.values.astype(np.float64)
        numbers[self.empty] = np.nan
        return numbers


def factorize(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes in order of appearance and the distinct values; NaN is a value like others."""
    import pandas as pd

    codes, uniques = pd.factorize(values, use_na_sentinel=False)
    return np.asarray(codes), np.asarray(uniques)


def number_text(value: float) -> str:
    """Return a number as it would be written: 3, not 3.0."""
    return str(int(value)) if np.isfinite(value) and value == int(value) else repr(value)


def text_column(codes: np.ndarray, texts: Sequence[str] | np.ndarray) -> Column:
    """Return a column of texts: surrounding blanks do not count, and a blank cell is empty."""
    stripped = np.array([str(text).strip() for text in texts], dtype=object)
    # A last slot of its own for empty cells, which come as -1.
    merged, names = factorize(np.append(stripped, ""))
    blank = merged[-1]
    slots = np.append(merged[:-1], blank)[codes]
    empty = slots == blank
    return Column(np.where(empty, -1, slots), names, empty)


def array_column(array: np.ndarray) -> Column:
    """Return a one-dimensional array as a column."""
    if array.dtype.kind in "iu":
        return Column(array.astype(np.int64, copy=False), None, np.zeros(len(array), dtype=bool))
    if array.dtype.kind == "f":
        values = array.astype(np.float64, copy=False)
        return Column(values, None, np.isnan(values))
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    cells = np.asarray(array, dtype=object)
    missing = np.array([cell is None or cell != cell for cell in cells], dtype=bool)
    texts = np.where(missing, "", np.array([str(cell) for cell in cells], dtype=object))
    return text_column(*factorize(texts)) if len(texts) else text_column(np.empty(0, dtype=np.int64), [])


def words_column(cells: Iterable[str]) -> Column:
    """Return cells read as text: numbers if every cell is one or empty, texts otherwise."""
    codes, uniques = factorize(np.array(list(cells), dtype=object))
    words = [str(word).strip() for word in uniques]
    numbers: list[float] = []
    try:
        numbers = [np.nan if word in EMPTY_NUMBERS else float(word) for word in words]
    except ValueError:
        return text_column(codes, words)
    values = np.array(numbers, dtype=np.float64)[codes] if len(numbers) else np.empty(0)
    return array_column(values)


def pick(names: Sequence[str], wanted: str, *, role: str, source: str, noun: str = "column") -> str:
    """Return a name that must be there; the error names the nearest ones."""
    if wanted in names:
        return wanted
    folded = {name.casefold(): name for name in names}
    if wanted.casefold() in folded:
        near = [folded[wanted.casefold()]]
    else:
        near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"It has {listing(names)}."
    raise PanelError(f"{source} has no {noun} {wanted!r} ({role}). {hint}")


def truth_inside(names: Sequence[str], truth: str | None, *, source: str, noun: str = "column") -> str | None:
    """Return the name that holds the truth, or None if the truth is asked of another file or not named.

    A name in the file wins over a file of that name.
    """
    if truth is None or truth in names or not Path(truth).expanduser().is_file():
        return (
            None if truth is None else pick(names, truth, role="truth, or a file", source=source, noun=noun)
        )
    return None


def guess(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the first name that is one of the known ones, in the order of the known ones."""
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.strip().casefold(), name)
    return next((folded[word] for word in known if word in folded), None)


def listing(names: Sequence[object], limit: int = 8) -> str:
    """Return names for a message, the first few of many."""
    shown = ", ".join(str(name) for name in names[:limit])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > limit else shown
