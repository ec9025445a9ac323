"""A panel with its truth, read once and shared by all parts of an audit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from estimators.raw_answers import RawAnswers, encode_words, read_answers, read_raw, read_truth_codes, unboxed
from theory import PanelError

TASKS = ("labels", "probabilities", "numbers")
_LEAST_SAMPLES = 4
_MOST_COUNTED = 10**8


@dataclass(frozen=True)
class Table:
    """A panel with its truth, as the audit's parts share it.

    Attributes
    ----------
    panel : ndarray of float64, shape (sample, specialist, output)
        Votes, probabilities or numbers; NaN rows where a specialist abstained.
    y : ndarray
        Codes (sample,), or numbers (sample, output).
    task : {"labels", "probabilities", "numbers"}
        What the answers are.
    n_options : ndarray of int, shape (sample,), or None
        Options of each sample, where their number differs.
    names : tuple of str
        Names of the specialists.
    groups : ndarray or None
        Samples of one group stay in one fold, and count as one in standard errors.
    classes : ndarray or None
        ``classes[code]`` is the label, where the panel came with labels instead of codes.
    notes : tuple of str
        How gaps were read, and what else a reader of the audit must know.
    """

    panel: NDArray[np.float64]
    y: NDArray[Any]
    task: str
    n_options: NDArray[np.int64] | None
    names: tuple[str, ...]
    groups: NDArray[Any] | None = None
    classes: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The task in the words of :class:`PanelFuser`."""
        return "regression" if self.task == "numbers" else "classification"

    @property
    def option_counts(self) -> Any:
        """Number of options, of each sample where it differs."""
        return self.panel.shape[2] if self.n_options is None else self.n_options

    def rows(self, rows: Any) -> Table:
        """Take some samples."""
        return replace(
            self,
            panel=self.panel[rows],
            y=self.y[rows],
            n_options=None if self.n_options is None else self.n_options[rows],
            groups=None if self.groups is None else self.groups[rows],
        )


def read_table(
    panel: Any,
    y: Any,
    *,
    task: str = "auto",
    n_options: Any = None,
    names: Any = None,
    groups: Any = None,
    sample_weight: Any = None,
    max_samples: int | None = None,
    random_state: Any = None,
) -> tuple[Table, int]:
    """Read a panel with its truth, and refuse what an audit cannot use.

    Parameters
    ----------
    panel : array-like, DataFrame, DataArray or tensor
        Labels (sample, specialist), as codes with -1 = abstained or as words; probabilities
        (sample, specialist, output); or numbers (sample, specialist), or with an output axis.
    y : array-like
        Codes or words of the right options, or numbers. Where a DataArray of probabilities names its
        outputs, these names.
    task : {"auto", "labels", "probabilities", "numbers"}
        What the answers are.
    n_options : int or array-like of int, shape (sample,), optional
        Options of each sample, for label codes.
    names : sequence of str, optional
        Names of the specialists.
    groups : array-like of shape (sample,), optional
        Samples that belong together.
    sample_weight : array-like of int, shape (sample,), optional
        How often each sample counts. Copies of a sample stay together as a group does, so standard errors
        know that they are one sample.
    max_samples : int, optional
        Of a longer panel so many samples are drawn.
    random_state : int, RandomState or None
        Of the draw.

    Returns
    -------
    table : Table
    n_given : int
        Samples before the draw, each as often as it counts.

    Raises
    ------
    PanelError
        On shapes that do not fit, one specialist, missing or foreign truths, invalid probabilities,
        a task that cannot be told, or a specialist that answered nothing.
    """
    if task not in ("auto", *TASKS):
        raise PanelError(f"task must be 'auto', 'labels', 'probabilities' or 'numbers'; got {task!r}.")
    raw, truth = read_raw(panel), unboxed(np.asarray(y))
    if truth.ndim == 2 and truth.shape[1] == 1 and task != "numbers":
        truth = truth[:, 0]
    if truth.ndim not in (1, 2) or truth.dtype.kind in "cmMV":
        raise PanelError(
            f"y must be (sample,) or (sample, output); got {truth.dtype} of shape {truth.shape}."
        )
    n_given = len(truth)
    groups = None if groups is None else _read_groups(groups, n_given)
    if len(raw.values) != n_given:
        raise PanelError(f"panel has {len(raw.values)} samples, y has {n_given}.")
    if n_given < _LEAST_SAMPLES:
        raise PanelError(f"an audit needs at least 4 samples to learn and to test on; got {n_given}.")
    if raw.values.ndim == 2 and raw.holds_words(truth) and task in ("auto", "labels"):
        if n_options is not None:
            raise PanelError(
                "n_options belongs to label codes; words have as many options as there are words."
            )
        raw, truth = encode_words(raw, truth)
        task = "labels"
    task = _task_of(raw.values, truth) if task == "auto" else task
    if task != "numbers":
        truth = read_truth_codes(raw, truth)
    drawn: NDArray[np.int64] | None = None
    if sample_weight is not None:
        drawn = _repeated(sample_weight, n_given)
        groups, n_given = np.arange(n_given) if groups is None else groups, len(drawn)
    if max_samples is not None and n_given > max_samples:
        if max_samples < _LEAST_SAMPLES:
            raise PanelError(f"max_samples must be at least 4; got {max_samples}.")
        kept = np.sort(check_random_state(random_state).choice(n_given, max_samples, replace=False))
        drawn = kept if drawn is None else drawn[kept]
    if drawn is not None:
        raw, truth = replace(raw, values=raw.values[drawn]), truth[drawn]
        groups = None if groups is None else groups[drawn]
        n_options = n_options if np.ndim(n_options) == 0 else np.asarray(n_options)[drawn]
    n_outputs = None if task == "numbers" else int(truth.max()) + 1
    values, counts, notes = read_answers(raw, task, n_options=n_options, n_outputs=n_outputs)
    if values.shape[1] < 2:
        raise PanelError("an audit compares specialists; this panel has one. Add a second.")
    if task == "numbers":
        truth = _read_numbers(truth, values.shape[2])
    elif truth.max() >= values.shape[2]:
        raise PanelError(f"y holds code {truth.max()}, but the panel has {values.shape[2]} outputs.")
    if counts is not None and (truth >= counts).any():
        row = int((truth >= counts).argmax())
        raise PanelError(
            f"sample {row} has {counts[row]} options, but its truth has code {truth[row]}. Count a 'none of "
            "these' option in n_options where the truth may lie outside the options."
        )
    own = _read_names(raw, names)
    everywhere = np.isnan(values).all(axis=(0, 2))
    if everywhere.any():
        raise PanelError(f"specialist {own[int(everywhere.argmax())]!r} answered nothing. Leave it out.")
    if (truth == truth[0]).all():
        notes = (*notes, _constant_truth(task))
    classes = None if task == "numbers" else raw.classes
    return Table(values, truth, task, counts, own, groups, classes, notes), n_given


def _repeated(sample_weight: Any, n_samples: int) -> NDArray[np.int64]:
    """Give the row of each sample, as often as it counts."""
    try:
        counts = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        counts = np.empty(0)
    if counts.shape != (n_samples,) or not ((counts >= 0) & (counts == np.floor(counts))).all():
        raise PanelError(
            f"sample_weight must be {n_samples} whole numbers >= 0, how often each sample counts; got "
            f"{sample_weight!r:.80}. Multiply shares by a large number and round them."
        )
    total = counts.sum()
    if not _LEAST_SAMPLES <= total <= _MOST_COUNTED:
        raise PanelError(
            f"sample_weight adds up to {total:.0f}; an audit needs between {_LEAST_SAMPLES} and {_MOST_COUNTED:,} "
            "samples. Divide it by a common factor."
        )
    return np.repeat(np.arange(n_samples), counts.astype(np.int64))


def _constant_truth(task: str) -> str:
    what = (
        "R2 has no scale, so scores are 1 minus the squared error" if task == "numbers" else "nothing varies"
    )
    return f"The truth is the same for all samples: {what}, and learned rules have nothing to learn."


def _read_groups(groups: Any, n_samples: int) -> NDArray[Any]:
    import pandas as pd

    values = np.asarray(groups)
    if values.shape != (n_samples,):
        raise PanelError(f"groups must be one label per sample ({n_samples}); got shape {values.shape}.")
    if pd.isna(values).any():
        raise PanelError("groups holds missing values. Give each sample without a group one of its own.")
    return values


def _read_numbers(truth: NDArray[Any], n_outputs: int) -> NDArray[np.float64]:
    try:
        numbers = truth.astype(np.float64).reshape(len(truth), -1)
    except (TypeError, ValueError):
        raise PanelError(f"y must hold numbers; got {truth.dtype}, e.g. {truth.flat[0]!r}.") from None
    if numbers.shape[1] != n_outputs:
        raise PanelError(
            f"the panel has {n_outputs} outputs, y has shape {truth.shape}. Give y one column per output."
        )
    if not np.isfinite(numbers).all():
        raise PanelError(
            f"y holds {int((~np.isfinite(numbers)).sum())} non-finite values. Drop those samples."
        )
    return numbers


def _read_names(raw: RawAnswers, names: Any) -> tuple[str, ...]:
    n_specialists = raw.values.shape[1]
    own = raw.names if names is None else tuple(str(name) for name in names)
    if own is None:
        return tuple(str(i) for i in range(n_specialists))
    if len(own) != n_specialists:
        raise PanelError(f"names must be one per specialist ({n_specialists}); got {len(own)}.")
    if len(set(own)) != len(own):
        twice = sorted({name for name in own if own.count(name) > 1})
        raise PanelError(f"specialists need different names; {', '.join(map(repr, twice))} occurs twice.")
    return own


def _task_of(values: NDArray[Any], truth: NDArray[Any]) -> str:
    if values.ndim == 3:
        return "probabilities" if values.shape[2] > 1 and truth.ndim == 1 else "numbers"
    kinds = values.dtype.kind + truth.dtype.kind
    if set(kinds) <= set("iu"):
        return "labels"
    if kinds != "ff" and all(_is_whole(array) for array in (values, truth)):
        raise PanelError(
            "answers and truth are whole numbers, but one of them is stored as floats: labels with gaps, or "
            "counts? Say task='labels' or task='numbers'."
        )
    return "numbers"


def _is_whole(array: NDArray[Any]) -> bool:
    if array.dtype.kind != "f":
        return True
    known = array[~np.isnan(array)]
    return bool((known == np.floor(known)).all())
