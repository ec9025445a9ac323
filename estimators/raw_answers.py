"""Answers of a panel as they came: labels or codes, probabilities or numbers, with names where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory import PanelError, as_errors, as_labels, as_panel, encode_labels

_SUM_TOLERANCE = 1e-3
_MOST_CELLS = 400_000_000


@dataclass(frozen=True)
class RawAnswers:
    """What came in, as a plain array.

    Attributes
    ----------
    values : ndarray of shape (sample, specialist) or (sample, specialist, output)
        Any dtype.
    names : tuple of str, or None
        Names of the specialists, if the panel carries them.
    classes : ndarray or None
        Labels of the outputs, if the panel carries them.
    """

    values: NDArray[Any]
    names: tuple[str, ...] | None
    classes: NDArray[Any] | None

    def holds_words(self, truth: NDArray[Any]) -> bool:
        """Tell labels that are no codes: words, bools, or objects of any kind."""
        return self.values.dtype.kind not in "iuf" or truth.dtype.kind not in "iuf"


def read_raw(panel: Any) -> RawAnswers:
    """Read any kind of panel as a plain array with samples first.

    Parameters
    ----------
    panel : array-like, DataFrame, DataArray or tensor
        A DataArray is read by dim name; a DataFrame has a column per specialist, or two levels
        (specialist, output).

    Returns
    -------
    RawAnswers

    Raises
    ------
    PanelError
        If there is no sample or specialist axis, or rows are ragged.
    """
    names: tuple[str, ...] | None = None
    classes = None
    if hasattr(panel, "data_vars"):
        as_panel(panel)  # refuses a Dataset, and says how to pick a variable
    if hasattr(panel, "dims") and hasattr(panel, "coords"):
        if "specialist" not in panel.dims:
            raise PanelError(f"a DataArray needs the dim 'specialist'; got dims {panel.dims}.")
        last = [dim for dim in ("specialist", "output") if dim in panel.dims]
        if "specialist" in panel.coords:
            names = tuple(str(name) for name in panel.coords["specialist"].values.tolist())
        if "output" in panel.dims and "output" in panel.coords:
            classes = np.asarray(panel.coords["output"].values)
        values = np.asarray(panel.transpose(..., *last))
    elif hasattr(panel, "iloc"):
        if getattr(panel, "ndim", 1) != 2:
            raise PanelError("a Series is one specialist; an audit needs a DataFrame with a column for each.")
        if panel.columns.nlevels == 2:
            values, wrap = as_panel(panel)
            names, classes = wrap.names, np.asarray(panel[panel.columns[0][0]].columns)
        else:
            values, names = panel.to_numpy(), tuple(str(name) for name in panel.columns)
    elif hasattr(panel, "detach"):
        values = panel.detach().cpu().numpy()
    else:
        try:
            values = np.asarray(panel)
        except ValueError as error:
            raise PanelError(
                f"panel must be (sample, specialist[, output]); its rows differ ({error})."
            ) from None
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise PanelError(f"panel must be (sample, specialist[, output]); got shape {values.shape}.")
    return RawAnswers(unboxed(values), names, classes)


def unboxed(values: NDArray[Any]) -> NDArray[Any]:
    """Turn an array of Python numbers into one of numbers; leave all others as they are."""
    if values.dtype.kind != "O":
        return values
    plain = np.array(values.tolist())
    return plain if plain.dtype.kind in "iuf" and plain.shape == values.shape else values


def encode_words(raw: RawAnswers, truth: NDArray[Any]) -> tuple[RawAnswers, NDArray[np.int64]]:
    """Turn words into codes shared by answers and truth; None, NaN and "" are abstentions."""
    codes, y, classes, _ = encode_labels(raw.values, truth)
    return RawAnswers(codes, raw.names, classes), y


def code_words(raw: RawAnswers, classes: NDArray[Any]) -> RawAnswers:
    """Give words the codes of an earlier panel; refuse words that it did not hold."""
    known = classes.tolist()
    codes, _, union, _ = encode_labels(raw.values, np.resize(np.array(known, dtype=object), len(raw.values)))
    place = {label: code for code, label in enumerate(known)}
    said = np.unique(codes[codes >= 0])
    strange = [label for label in union[said].tolist() if label not in place]
    if strange:
        raise PanelError(f"the panel holds labels that were not there in fit: {strange[:5]}.")
    table = np.array([place.get(label, -1) for label in union.tolist()] + [-1], dtype=np.int64)
    return RawAnswers(table[codes], raw.names, classes)


def read_truth_codes(raw: RawAnswers, truth: NDArray[Any]) -> NDArray[np.int64]:
    """Read the truth as codes; where outputs have names, by name.

    Parameters
    ----------
    raw : RawAnswers
        Labels or probabilities.
    truth : ndarray of shape (sample,)
        Codes, or names of outputs.

    Returns
    -------
    ndarray of int64, shape (sample,)

    Raises
    ------
    PanelError
        If truths are missing, or are no codes and no names.
    """
    if truth.ndim != 1:
        raise PanelError(f"y must be one label per sample; got shape {truth.shape}.")
    if raw.values.ndim == 3 and raw.classes is not None:
        place = {label: code for code, label in enumerate(raw.classes.tolist())}
        strange = [label for label in dict.fromkeys(truth.tolist()) if label not in place]
        if strange:
            raise PanelError(
                f"y holds {strange[:5]}, which are no outputs of the panel; its outputs are {list(place)[:10]}."
            )
        return np.array([place[label] for label in truth.tolist()], dtype=np.int64)
    if truth.dtype.kind not in "iufb":
        raise PanelError(
            f"y holds words, e.g. {truth[0]!r}, but the panel's outputs have no names. Give codes 0, 1, ... or a "
            "DataArray with an output coordinate."
        )
    codes = as_labels(truth.astype(np.int64 if truth.dtype.kind == "b" else truth.dtype)[:, None])[0][:, 0]
    if (codes < 0).any():
        raise PanelError("y holds missing label codes (-1 or NaN). Drop those samples.")
    return codes


def read_answers(
    raw: RawAnswers, task: str, *, n_options: Any = None, n_outputs: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None, tuple[str, ...]]:
    """Read answers as votes, probabilities or numbers, and count the options.

    Parameters
    ----------
    raw : RawAnswers
        From :func:`read_raw`; words already coded.
    task : {"labels", "probabilities", "numbers"}
        What the answers are.
    n_options : int or array-like of int, optional
        Options of each sample, for labels.
    n_outputs : int or None
        Least number of outputs of a panel of labels.

    Returns
    -------
    values : ndarray of float64, shape (sample, specialist, output)
        NaN rows where a specialist abstained.
    n_options : ndarray of int64, shape (sample,), or None
    notes : tuple of str
        How gaps were read.

    Raises
    ------
    PanelError
        On answers that are not what the task needs.
    """
    if task == "labels":
        return (*_votes(raw, n_options, n_outputs), ())
    if n_options is not None:
        raise PanelError("n_options belongs to label codes; probabilities and numbers have their outputs.")
    if raw.values.dtype.kind not in "iufb":
        raise PanelError(f"task={task!r} needs numbers; the panel holds {raw.values.dtype}.")
    if raw.values.ndim == 2:
        if task == "probabilities":
            raise PanelError(
                f"probabilities need the axes (sample, specialist, output); got shape {raw.values.shape}. For two "
                "classes stack np.stack([1 - p, p], axis=2)."
            )
        values = as_errors(raw.values, missing="abstain")[0][:, :, None]
    else:
        values = raw.values.astype(np.float64)
    if np.isinf(values).any():
        raise PanelError("the panel holds infinite answers; only NaN can stand for an abstention.")
    gaps = np.isnan(values)
    partly = gaps.any(axis=2) & ~gaps.all(axis=2)
    notes: tuple[str, ...] = ()
    if task == "numbers":
        if partly.any():
            notes = (f"{int(partly.sum())} answers lack some outputs; they count as abstentions.",)
        return np.where(gaps.any(axis=2, keepdims=True), np.nan, values), None, notes
    if partly.any():
        notes = (
            f"{int(partly.sum())} answers lack some outputs; what a specialist cannot name has probability 0.",
        )
        values = np.where(gaps & partly[:, :, None], 0.0, values)
    sums = values.sum(axis=2)
    bad = (np.abs(sums - 1.0) > _SUM_TOLERANCE) | (values < 0).any(axis=2)
    if bad.any():
        row, who = np.argwhere(bad)[0]
        raise PanelError(
            f"{int(bad.sum())} answers are no probabilities (first: sample {row}, specialist {who}, sum "
            f"{sums[row, who]:.4g}). Normalise them, or use task='numbers'."
        )
    return values, None, notes


def _votes(
    raw: RawAnswers, n_options: Any, n_outputs: int | None
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    if raw.values.ndim != 2:
        raise PanelError(f"labels must be (sample, specialist); got shape {raw.values.shape}.")
    codes, _ = as_labels(raw.values)
    width = max(int(codes.max()) + 1, n_outputs or 0)
    counts = None
    if n_options is not None:
        given = np.asarray(n_options)
        if given.dtype.kind not in "iu" or given.shape not in ((), (len(codes),)) or given.min() < 1:
            raise PanelError(
                f"n_options must be whole numbers >= 1, one for all samples or one for each of {len(codes)}; got "
                f"{given.dtype} of shape {given.shape}."
            )
        counts = np.broadcast_to(given.astype(np.int64), (len(codes),)).copy()
        if (codes >= counts[:, None]).any():
            row, who = np.argwhere(codes >= counts[:, None])[0]
            raise PanelError(
                f"sample {row} has {counts[row]} options, but specialist {who} said code {codes[row, who]}."
            )
        width = max(width, int(counts.max()))
    if codes.size * width > _MOST_CELLS:
        raise PanelError(
            f"{codes.shape[0]:,} x {codes.shape[1]} labels with codes up to {width - 1:,} are too many votes to hold. "
            "Number the options of each sample from 0, lower max_samples, or use task='numbers'."
        )
    votes = (codes[:, :, None] == np.arange(width)).astype(np.float64)
    votes[codes < 0] = np.nan
    return votes, counts
