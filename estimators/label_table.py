"""Labels of many specialists, read from a matrix with gaps, a long frame or a panel of probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.raw_answers import read_raw
from estimators.training import first_choices
from theory import PanelError, as_labels, encode_labels

_LONG = ("sample", "specialist", "label")


@dataclass(frozen=True)
class LabelTable:
    """Answers sorted by sample.

    Attributes
    ----------
    start : ndarray of int64, shape (sample + 1,)
        Answers of sample t are ``start[t] .. start[t + 1]``.
    who, said : ndarray of int64, shape (answer,)
        Codes of the specialist and of the label.
    n_specialists : int
        Number of specialists.
    classes : ndarray
        ``classes[code]`` is the label.
    samples, specialists : ndarray
        Their names, or positions.
    """

    start: NDArray[np.int64]
    who: NDArray[np.int64]
    said: NDArray[np.int64]
    n_specialists: int
    classes: NDArray[Any]
    samples: NDArray[Any]
    specialists: NDArray[Any]

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.start) - 1

    @property
    def n_classes(self) -> int:
        """Number of labels."""
        return len(self.classes)

    @cached_property
    def sample_of_answer(self) -> NDArray[np.int64]:
        """Sample of each answer."""
        return np.repeat(np.arange(self.n_samples), np.diff(self.start))

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """Codes (sample, specialist); -1 where there is no answer."""
        table = np.full((self.n_samples, self.n_specialists), -1, dtype=np.int64)
        table[self.sample_of_answer, self.who] = self.said
        return table

    def recoded(self, classes: NDArray[Any], specialists: NDArray[Any] | None = None) -> LabelTable:
        """Give labels (and specialists) the codes of another table; refuse those that it lacks."""
        said = _places(self.classes, classes, "labels")[self.said] if len(self.said) else self.said
        if specialists is None:
            return replace(self, said=said, classes=classes)
        if len(self.specialists) == len(specialists) and (self.specialists == specialists).all():
            return replace(self, said=said, classes=classes)
        who = _places(self.specialists, specialists, "specialists")[self.who]
        return replace(
            self, said=said, who=who, classes=classes, specialists=specialists, n_specialists=len(specialists)
        )


def read_labels(labels: Any) -> LabelTable:
    """Read what many specialists said about the same samples.

    Parameters
    ----------
    labels : array-like, DataFrame or DataArray
        A matrix (sample, specialist) of integer codes with -1 or NaN where there is no answer, or of words
        with None, NaN or ""; a long frame with the columns sample, specialist and label; or a panel (sample,
        specialist, output), of which the first choices are taken, with NaN rows where there is no answer.

    Returns
    -------
    LabelTable

    Raises
    ------
    PanelError
        If there is no answer, or one specialist answered a sample twice.
    """
    if hasattr(labels, "columns") and set(_LONG) <= set(map(str, labels.columns)):
        return _read_long(labels)
    raw = read_raw(labels)
    if raw.values.ndim == 3:
        values = np.asarray(raw.values, dtype=np.float64)
        if np.isinf(values).any():
            raise PanelError("the panel holds infinite answers; only NaN can stand for an abstention.")
        codes = first_choices(values)
        classes = np.arange(values.shape[2]) if raw.classes is None else raw.classes
    elif raw.values.dtype.kind in "iu" or _whole(raw.values):
        codes, _ = as_labels(raw.values)
        classes = None
    else:
        codes, classes = _read_words(raw.values)
    names = np.arange(codes.shape[1]) if raw.names is None else np.array(raw.names)
    here = codes >= 0
    said = codes[here]
    if not len(said):
        raise PanelError("there is no answer: every label is missing.")
    if classes is None:
        classes = np.unique(said)
        if classes[-1] >= len(classes):
            said = np.searchsorted(classes, said)
    # sums and differences of positions: np.nonzero takes three times as long
    start = np.concatenate([[0], np.cumsum(np.count_nonzero(here, axis=1))])
    first = np.repeat(np.arange(len(codes)) * codes.shape[1], np.diff(start))
    return LabelTable(
        start,
        np.flatnonzero(here) - first,
        said,
        codes.shape[1],
        classes,
        np.arange(len(codes)),
        names,
    )


def read_gold(gold: Any, table: LabelTable) -> tuple[LabelTable, NDArray[np.int64]]:
    """Read known truths, and add labels that nobody said to the table.

    Parameters
    ----------
    gold : array-like of shape (sample,), dict or Series by sample name, or None
        The truth where it is known; -1 (of codes), None, NaN or "" elsewhere.
    table : LabelTable
        The answers.

    Returns
    -------
    table : LabelTable
    codes : ndarray of int64, shape (sample,)
        -1 where the truth is not known.

    Raises
    ------
    PanelError
        If there is not one entry per sample, names of samples are unknown or come twice, or truths are words where
        labels are codes, or the other way round.
    """
    fixed = np.full(table.n_samples, -1, dtype=np.int64)
    if gold is None:
        return table, fixed
    if hasattr(gold, "items"):
        pairs = dict(gold.items())
        if len(pairs) < len(gold):
            raise PanelError("gold names a sample twice. Keep one truth of each.")
        place = {sample: t for t, sample in enumerate(table.samples.tolist())}
        strange = [sample for sample in pairs if sample not in place]
        if strange:
            raise PanelError(f"gold names samples that nobody labelled: {strange[:5]}.")
        rows = np.array([place[sample] for sample in pairs], dtype=np.int64)
        values = np.array(list(pairs.values()), dtype=object)
    else:
        values, rows = np.asarray(gold), np.arange(table.n_samples)
        if values.shape != (table.n_samples,):
            raise PanelError(
                f"gold must be one label per sample ({table.n_samples}), missing where unknown; got shape {values.shape}."
            )
    numeric = table.classes.dtype.kind in "iuf"
    given = [_known(value, numeric) for value in values.tolist()]
    known = np.array([value for value in values[np.array(given, dtype=bool)].tolist()])
    if not len(known):
        return table, fixed
    whole = table.classes.dtype.kind in "iu" and known.dtype.kind == "f" and (known == np.floor(known)).all()
    known = known.astype(table.classes.dtype) if whole else known
    if isinstance(known[0], str) != isinstance(table.classes[0], str):
        raise PanelError(
            f"gold says {known[:3].tolist()} where labels say {table.classes[:3].tolist()}: name the truth as the labels "
            "do; where it is unknown, -1 stands for codes, None, NaN or '' for words."
        )
    fresh = [value for value in np.unique(known).tolist() if value not in set(table.classes.tolist())]
    if fresh:
        table = table.recoded(np.unique(np.concatenate([table.classes, np.array(fresh)])))
    fixed[rows[np.array(given, dtype=bool)]] = _places(known, table.classes, "gold labels")
    return table, fixed


def _known(value: Any, numeric: bool) -> bool:
    # pandas' NA is neither equal to anything nor unequal
    if value is None or type(value).__name__ == "NAType" or value != value or value == "":
        return False
    return not (numeric and value == -1)


def _places(names: NDArray[Any], among: NDArray[Any], what: str) -> NDArray[np.int64]:
    place = {name: i for i, name in enumerate(among.tolist())}
    strange = [name for name in dict.fromkeys(names.tolist()) if name not in place]
    if strange:
        raise PanelError(f"there are {what} that were not there in fit: {strange[:5]}.")
    return np.array([place[name] for name in names.tolist()], dtype=np.int64)


def _whole(values: NDArray[Any]) -> bool:
    if values.dtype.kind != "f":
        return False
    known = values[~np.isnan(values)]
    return bool((known == np.floor(known)).all())


def _read_words(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    flat = values.ravel().tolist()
    first = next((word for word in flat if _known(word, False)), None)
    if first is None:
        raise PanelError("there is no answer: every label is missing.")
    codes, _, classes, _ = encode_labels(values, np.array([first] * len(values), dtype=object))
    return codes, classes


def _read_long(frame: Any) -> LabelTable:
    import pandas as pd

    table = frame.loc[frame["label"].notna() & ~frame["label"].isin([""]), list(_LONG)]
    if not len(table):
        raise PanelError("there is no answer: every label is missing.")
    if table[["sample", "specialist"]].isna().any(axis=None):
        raise PanelError("the long frame has answers without a sample or a specialist. Drop them.")
    # a sample whose labels are all missing still is one, with the prior as its answer
    everything = pd.unique(frame["sample"].dropna())
    samples = pd.Index(everything)
    sample = samples.get_indexer(table["sample"])
    who, specialists = pd.factorize(table["specialist"], sort=True)
    said, classes = pd.factorize(table["label"], sort=True)
    order = np.argsort(sample.astype(np.int64) * len(specialists) + who, kind="stable")
    sample, who, said = sample[order], who[order].astype(np.int64), said[order].astype(np.int64)
    twice = (np.diff(sample) == 0) & (np.diff(who) == 0)
    if twice.any():
        at = int(twice.argmax())
        raise PanelError(
            f"specialist {specialists.tolist()[who[at]]!r} answered sample {samples.tolist()[sample[at]]!r} twice. "
            "Keep one answer."
        )
    start = np.searchsorted(sample, np.arange(len(samples) + 1))
    return LabelTable(
        start, who, said, len(specialists), np.asarray(classes), np.asarray(samples), np.asarray(specialists)
    )
