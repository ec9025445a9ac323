"""What the answers are: labels, probabilities or numbers; decided or told, checked, and said in notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from estimators.readers.columns import Column, array_column, factorize, listing, number_text
from estimators.readers.tables import RawPanel
from theory._exceptions import PanelError

TASKS = ("labels", "probabilities", "numbers")
# Whole numbers with more distinct values than this are counts or measurements rather than labels.
_MOST_LABELS = 50
# Probabilities written with three decimals miss a sum of one by this much.
_SUM = 5e-3


@dataclass(frozen=True, eq=False)
class Settled:
    """Panel and truth in the form of their task."""

    panel: np.ndarray
    y: np.ndarray
    task: Literal["labels", "probabilities", "numbers"]
    classes: tuple[str, ...] | None
    notes: list[str] = field(default_factory=list)


def settle(raw: RawPanel, *, task: str | None, abstain: tuple[str, ...], source: str) -> Settled:
    """Decide the task, code the answers and check that panel and truth can be audited.

    Parameters
    ----------
    raw : RawPanel
        As read, with its truth.
    task : str or None
        What the user said it is.
    abstain : tuple of str
        Labels that mean an abstention.
    source : str
        Name of the file, for messages.

    Returns
    -------
    Settled
        Panel, truth, task, classes and notes.

    Raises
    ------
    PanelError
        If something does not fit.
    """
    n_specialists = len(raw.names)
    if n_specialists < 2:
        raise PanelError(
            f"{source} has one specialist only ({listing(raw.names)}); a panel needs at least two. In a wide "
            "table each specialist is a column, in a long one a name in the column of specialists."
        )
    assert raw.truth is not None
    _check_truth(raw, source)
    if raw.cube is not None:
        settled = _settle_cube(raw, raw.cube, raw.truth, task, source)
    else:
        settled = _settle_columns(raw, task, abstain, source)
    _check_variation(settled, raw.names, source)
    return settled


def _check_truth(raw: RawPanel, source: str) -> None:
    truth = raw.truth
    if isinstance(truth, Column):
        empty = truth.empty
        if not truth.is_text and truth.values.dtype.kind == "f":
            empty = empty | ~np.isfinite(truth.values)
    else:
        numbers = np.asarray(truth, dtype=np.float64)
        empty = ~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)
    if empty.any():
        raise PanelError(
            f"{source}: the truth of {int(empty.sum())} of {len(empty)} samples is empty or not finite, "
            f"first of sample {raw.sample_ids[int(empty.argmax())]}. Fill it in, or take these samples out."
        )


def _settle_columns(raw: RawPanel, task: str | None, abstain: tuple[str, ...], source: str) -> Settled:
    columns, truth = raw.columns, raw.truth
    assert columns is not None
    if not isinstance(truth, Column):
        raise PanelError(
            f"{source}: the truth has shape {np.shape(truth)} and the answers one value per sample and "
            "specialist; the truth needs one value per sample too."
        )
    notes: list[str] = []
    text = [name for name, column in zip(raw.names, columns, strict=True) if column.is_text]
    if task is None:
        task = _guess_task(raw, columns, truth, bool(text) or bool(abstain), notes)
    if task == "labels":
        if raw.n_options is not None and raw.is_array and not text and not truth.is_text:
            return _codes_as_they_are(raw, columns, truth, notes, source)
        return _code_labels(raw, columns, truth, abstain, notes, source)
    if text:
        column = columns[raw.names.index(text[0])]
        raise PanelError(
            f"{source}: task={task!r} needs numbers, but {text[0]!r} holds text, e.g. "
            f"{column.uniques()[0]!r}."
        )
    panel = np.stack([column.floats() for column in columns], axis=1)
    _note_empty(int(np.isnan(panel).sum()), notes)
    if task == "probabilities":
        return _binary(panel, truth, notes, source)
    return _numbers(panel[..., None], truth, notes, source)


def _guess_task(raw: RawPanel, columns: list[Column], truth: Column, text: bool, notes: list[str]) -> str:
    if text or truth.is_text or raw.n_options is not None:
        return "labels"
    if all(column.is_whole() for column in [*columns, truth]):
        distinct = set().union(*(column.uniques().tolist() for column in [*columns, truth]))
        if len(distinct) <= _MOST_LABELS:
            notes.append(
                f"whole numbers with {len(distinct)} distinct values: read as labels, not as numbers"
            )
            return "labels"
        notes.append(f"whole numbers with {len(distinct)} distinct values: read as numbers, not as labels")
        return "numbers"
    binary = set(truth.uniques().tolist()) == {0, 1}
    ranges = [column.values[~column.empty] for column in columns]
    if binary and all(((one >= 0) & (one <= 1)).all() for one in ranges):
        notes.append("answers between 0 and 1, truth 0 or 1: read as probabilities of the class 1")
        return "probabilities"
    return "numbers"


def _note_empty(n_empty: int, notes: list[str]) -> None:
    if n_empty:
        words = (
            "1 empty cell read as an abstention"
            if n_empty == 1
            else f"{n_empty} empty cells read as abstentions"
        )
        notes.append(words)


def _numbers(panel: np.ndarray, truth: Column | np.ndarray, notes: list[str], source: str) -> Settled:
    if isinstance(truth, Column):
        if truth.is_text:
            raise PanelError(
                f"{source}: the answers are numbers, but the truth is text, e.g. {truth.uniques()[0]!r}."
            )
        y = truth.values.astype(np.float64)[:, None]
    else:
        y = np.asarray(truth, dtype=np.float64).reshape(len(panel), -1)
    if y.shape[1] != panel.shape[2]:
        raise PanelError(f"{source}: the answers have {panel.shape[2]} outputs and the truth {y.shape[1]}.")
    n_infinite = int(np.isinf(panel).sum())
    if n_infinite:
        notes.append(f"{n_infinite} answers are infinite: kept, and to be counted as faults")
    return Settled(panel, y, "numbers", None, notes)


def _binary(panel: np.ndarray, truth: Column, notes: list[str], source: str) -> Settled:
    values = array_column(truth.values).uniques() if not truth.is_text else truth.uniques()
    if truth.is_text or not set(values.tolist()) <= {0, 1}:
        raise PanelError(
            f"{source}: one column per specialist can hold the probability of the class 1, and the truth "
            f"must then be 0 or 1; it holds {listing(values.tolist())}. For more classes use a long table."
        )
    return _probabilities(np.stack([1.0 - panel, panel], axis=-1), truth, ("0", "1"), notes, source)


def _probabilities(
    panel: np.ndarray, truth: Column, classes: tuple[str, ...], notes: list[str], source: str
) -> Settled:
    outside = (panel < 0) | (panel > 1)
    if outside.any():
        raise PanelError(
            f"{source}: {int(outside.sum())} answers lie outside [0, 1], e.g. {panel[outside][0]:g}; "
            "probabilities were needed. If these are scores, turn them into probabilities, or use "
            "task='numbers'."
        )
    sums = panel.sum(axis=-1)
    off = np.abs(sums - 1.0) > _SUM
    off &= ~np.isnan(sums)
    if off.any():
        worst = sums[off][np.abs(sums[off] - 1.0).argmax()]
        notes.append(
            f"{int(off.sum())} rows of probabilities do not sum to 1 (one sums to {worst:.4g}); kept as is"
        )
    texts = truth.as_texts()
    codes = {name: code for code, name in enumerate(classes)}
    unknown = sorted({text for text in texts.tolist() if text not in codes})
    if unknown:
        raise PanelError(
            f"{source}: the truth names {listing(unknown)}, for which there are no probabilities; the "
            f"classes are {listing(classes)}."
        )
    y = np.array([codes[text] for text in texts.tolist()], dtype=np.int64)
    return Settled(panel, y, "probabilities", classes, notes)


def _settle_cube(
    raw: RawPanel, cube: np.ndarray, truth: Column | np.ndarray, task: str | None, source: str
) -> Settled:
    notes: list[str] = []
    if cube.dtype.kind not in "iuf":
        raise PanelError(
            f"{source}: answers over (sample, specialist, output) must be numbers; got {cube.dtype}."
        )
    if cube.dtype != np.float64:
        notes.append(f"answers are {cube.dtype} in the file, float64 here")
    panel = cube.astype(np.float64)
    if task == "labels":
        raise PanelError(
            f"{source}: task='labels' needs one answer per sample and specialist; got shape {cube.shape}."
        )
    if task is None and not raw.is_array:
        task = "probabilities"  # only columns of probabilities make a cube of a table
    if task is None:
        inside = np.isnan(panel) | ((panel >= 0) & (panel <= 1))
        probable = bool(inside.all()) and isinstance(truth, Column) and (truth.is_text or truth.is_whole())
        task = "probabilities" if probable and panel.shape[2] > 1 else "numbers"
        notes.append(f"answers with {panel.shape[2]} outputs: read as {task}")
    _note_empty(int(np.isnan(panel).any(axis=-1).sum()), notes)
    if task == "numbers":
        return _numbers(panel, truth, notes, source)
    if not isinstance(truth, Column):
        raise PanelError(
            f"{source}: probabilities need one label per sample as truth; got shape {np.shape(truth)}."
        )
    classes = raw.classes or tuple(str(code) for code in range(panel.shape[2]))
    if raw.classes and not truth.is_text and not set(truth.as_texts().tolist()) <= set(classes):
        # Array files keep the truth as codes beside the names of the classes.
        codes = truth.values
        if truth.is_whole() and codes.min() >= 0 and codes.max() < len(classes):
            notes.append("the truth is read as codes into the classes")
            truth = Column(codes.astype(np.int64), np.array(classes, dtype=object), truth.empty)
    return _probabilities(panel, truth, classes, notes, source)


def _codes_as_they_are(
    raw: RawPanel, columns: list[Column], truth: Column, notes: list[str], source: str
) -> Settled:
    n_options = raw.n_options
    assert n_options is not None
    whole = all(column.is_whole() for column in [*columns, truth])
    if not whole:
        raise PanelError(f"{source}: with n_options the answers and the truth are whole codes from 0.")
    panel = np.stack([np.where(column.empty, -1, column.values) for column in columns], axis=1).astype(
        np.int64
    )
    y = truth.values.astype(np.int64)
    wrong = (panel < -1) | (panel >= n_options[:, None])
    if wrong.any():
        sample, member = np.argwhere(wrong)[0]
        raise PanelError(
            f"{source}: {int(wrong.sum())} answers are no code below n_options, e.g. {panel[sample, member]} "
            f"of {raw.names[member]} at sample {raw.sample_ids[sample]} with {n_options[sample]} options."
        )
    if ((y < 0) | (y > n_options)).any():
        sample = int(((y < 0) | (y > n_options)).argmax())
        raise PanelError(
            f"{source}: the truth {y[sample]} of sample {raw.sample_ids[sample]} is no code up to n_options "
            f"({n_options[sample]}), which means none of them."
        )
    n_abstentions = int((panel == -1).sum())
    if n_abstentions:
        notes.append(f"{n_abstentions} answers are -1: abstentions")
    nobody = int((y == n_options).sum())
    if nobody:
        notes.append(f"the truth of {nobody} samples is n_options: none of the options, nobody can be right")
    n_classes = max(int(n_options.max()), int(y.max()) + 1)
    classes = (
        raw.classes if raw.classes and len(raw.classes) >= n_classes else tuple(map(str, range(n_classes)))
    )
    return Settled(panel, y, "labels", classes, notes)


def _code_labels(
    raw: RawPanel,
    columns: list[Column],
    truth: Column,
    abstain: tuple[str, ...],
    notes: list[str],
    source: str,
) -> Settled:
    """Give texts or numbers codes in sorted order, the same for answers and truth."""
    text = any(column.is_text for column in [*columns, truth])
    silent = set(abstain)
    if text:
        keyed = [_texts(column) for column in columns]
        truth_codes, truth_words = _texts(truth)
    else:
        keyed = [_words(column) for column in columns]
        truth_codes, truth_words = _words(truth)
        minus = sum(int((column.values[~column.empty] == -1).sum()) for column in columns)
        if minus and "-1" not in truth_words and "-1" not in silent:
            silent.add("-1")
            notes.append("-1 is read as an abstention, as the truth is never -1")
    named = {word for _, words in keyed for word in words.tolist()}
    absent = sorted(silent - named - {"-1"})
    if absent:
        notes.append(f"nobody ever answered {listing(absent)}, which was to be read as an abstention")
    said_silent = sorted(silent & set(truth_words))
    if said_silent:
        raise PanelError(
            f"{source}: {listing(said_silent)} cannot mean an abstention, as the truth names it."
        )
    answers = named - silent
    truths = set(truth_words)
    if not answers:
        raise PanelError(f"{source}: no specialist ever answered; all cells are empty or abstentions.")
    if not answers & truths:
        raise PanelError(
            f"{source}: no specialist ever named a label of the truth. The truth has {_sample_of(truths)}, "
            f"the answers have {_sample_of(answers)}; spell them alike, or name the right column of truths "
            "with truth=."
        )
    classes = _sorted(answers | truths)
    place = {word: code for code, word in enumerate(classes)}
    panel = np.empty((len(truth_codes), len(columns)), dtype=np.int64)
    n_empty = n_silent = 0
    for k, (codes, words) in enumerate(keyed):
        mapping = np.array([place.get(word, -1) for word in words] + [-1], dtype=np.int64)
        panel[:, k] = mapping[codes]
        empty = int((codes < 0).sum())
        n_empty += empty
        n_silent += int((panel[:, k] < 0).sum()) - empty
    _note_empty(n_empty, notes)
    if n_silent:
        notes.append(f"{n_silent} answers of {listing(sorted(silent & named))} read as abstentions")
    y = np.array([place[word] for word in truth_words], dtype=np.int64)[truth_codes]
    unnamed = sorted(truths - answers)
    if unnamed:
        n_samples = int(np.isin(y, [place[word] for word in unnamed]).sum())
        notes.append(f"{n_samples} samples have a truth that no specialist ever names: {listing(unnamed)}")
    _note_strangers(raw.names, keyed, truths, notes)
    looks_empty = sorted(answers & {"NA", "N/A", "NaN", "nan", "null", "NULL", "None"})
    if looks_empty:
        notes.append(f"{listing(looks_empty)} taken as a label; name it in abstain if it means no answer")
    return Settled(panel, y, "labels", tuple(classes), notes)


def _note_strangers(
    names: tuple[str, ...], keyed: list[tuple[np.ndarray, np.ndarray]], truths: set[str], notes: list[str]
) -> None:
    strangers = [
        name
        for name, (_, words) in zip(names, keyed, strict=True)
        if len(words) and not set(words.tolist()) & truths
    ]
    if strangers:
        notes.append(
            f"never names a label of the truth: {listing(strangers)}; if that is no specialist, choose with "
            "specialists="
        )


def _texts(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (-1 empty) and the words they stand for, all of which occur."""
    if column.texts is None:
        return _words(column)
    # The last slot takes the empty cells.
    slots = np.where(column.empty, len(column.texts), column.values)
    used = np.bincount(slots, minlength=len(column.texts) + 1)[:-1] > 0
    compact = np.append(np.where(used, np.cumsum(used) - 1, -1), -1)
    return compact[slots], column.texts[used]


def _words(column: Column) -> tuple[np.ndarray, np.ndarray]:
    codes, uniques = factorize(column.values[~column.empty])
    out = np.full(len(column.values), -1, dtype=np.int64)
    out[~column.empty] = codes
    return out, np.array([number_text(value) for value in uniques.tolist()], dtype=object)


def _sorted(words: set[str]) -> list[str]:
    """Sort as numbers where all are numbers, so that 10 comes after 9."""
    try:
        return sorted(words, key=float)
    except ValueError:
        return sorted(words)


def _sample_of(words: set[str]) -> str:
    return listing([repr(word) for word in _sorted(words)], 4)


def _check_variation(settled: Settled, names: tuple[str, ...], source: str) -> None:
    panel, notes = settled.panel, settled.notes
    said = panel >= 0 if settled.task == "labels" else ~np.isnan(panel)
    if not said.any():
        raise PanelError(f"{source}: no specialist ever answered; all cells are empty.")
    member_axes = tuple(axis for axis in range(panel.ndim) if axis != 1)
    silent = [
        name
        for name, spoke in zip(names, np.atleast_1d(said.any(axis=member_axes)), strict=True)
        if not spoke
    ]
    if silent:
        notes.append(f"never answers: {listing(silent)}")
    first = panel[:, :1]
    same = bool(((panel == first) | ~said | ~said[:, :1]).all()) and bool(said[:, 0].any())
    values = panel.reshape(len(panel), panel.shape[1], -1)
    shown = said.reshape(values.shape)
    constant = all(
        len(np.unique(values[..., output][shown[..., output]])) <= 1 for output in range(values.shape[2])
    ) if same else False  # fmt: skip
    if constant:
        raise PanelError(
            f"{source}: all specialists give the same answer on all {len(panel)} samples; nothing varies, so "
            "there is nothing to fuse or to compare."
        )
    if same:
        notes.append("all specialists give equal answers on every sample: fusing them changes nothing")
    if len(np.unique(settled.y, axis=0)) == 1:
        notes.append("the truth is the same on all samples")
