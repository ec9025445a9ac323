"""A panel with its truth, read once and shared by all parts of an audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from theory import PanelError, as_errors, as_labels, as_panel


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
    """

    panel: NDArray[np.float64]
    y: NDArray[Any]
    task: str
    n_options: NDArray[np.int64] | None
    names: tuple[str, ...]
    groups: NDArray[Any] | None = None

    @property
    def kind(self) -> str:
        """The task in the words of :class:`PanelFuser`."""
        return "regression" if self.task == "numbers" else "classification"

    def rows(self, rows: Any) -> Table:
        """Take some samples."""
        return Table(
            self.panel[rows],
            self.y[rows],
            self.task,
            None if self.n_options is None else self.n_options[rows],
            self.names,
            None if self.groups is None else self.groups[rows],
        )


def read_table(
    panel: Any,
    y: Any,
    *,
    task: str = "auto",
    n_options: Any = None,
    names: Any = None,
    groups: Any = None,
    max_samples: int | None = None,
    random_state: Any = None,
) -> tuple[Table, int]:
    """Read a panel with its truth, and refuse what an audit cannot use.

    Parameters
    ----------
    panel : array-like, DataFrame or DataArray
        Label codes (sample, specialist), -1 = abstained; probabilities (sample, specialist, output);
        or numbers (sample, specialist), or with an output axis.
    y : array-like
        Codes of the right options, or numbers.
    task : {"auto", "labels", "probabilities", "numbers"}
        What the answers are.
    n_options : int or array-like of int, shape (sample,), optional
        Options of each sample, for labels.
    names : sequence of str, optional
        Names of the specialists.
    groups : array-like of shape (sample,), optional
        Samples that belong together.
    max_samples : int, optional
        Of a longer panel so many samples are drawn.
    random_state : int, RandomState or None
        Of the draw.

    Returns
    -------
    table : Table
    n_given : int
        Samples before the draw.

    Raises
    ------
    PanelError
        On shapes that do not fit, one specialist, missing or foreign truths, invalid probabilities,
        or a specialist that answered nothing.
    """
    task = _task_of(panel, y) if task == "auto" else task
    if task not in ("labels", "probabilities", "numbers"):
        raise PanelError(f"task must be 'auto', 'labels', 'probabilities' or 'numbers'; got {task!r}.")
    truth = np.asarray(y)
    n_outputs = None
    if task != "numbers":
        truth, _ = as_labels(truth.reshape(-1, 1) if truth.ndim == 1 else truth)
        truth = truth[:, 0]
        if (truth < 0).any():
            raise PanelError("y holds missing label codes (-1 or NaN). Drop those samples.")
        n_outputs = int(truth.max(initial=0)) + 1
    if task == "labels":
        n_outputs = max(int(as_labels(panel)[0].max(initial=0)) + 1, n_outputs or 0)
    n_given = len(truth)
    groups = None if groups is None else np.asarray(groups)
    if not len(panel) == n_given == len(truth if groups is None else groups):
        raise PanelError(
            f"panel has {len(panel)} samples, y has {n_given}"
            + ("." if groups is None else f", groups {len(groups)}.")
        )
    if n_given < 4:
        raise PanelError(f"an audit needs at least 4 samples to learn and to test on; got {n_given}.")
    if max_samples is not None and n_given > max_samples:
        drawn = np.sort(check_random_state(random_state).choice(n_given, max_samples, replace=False))
        panel, truth, y = _drawn(panel, drawn), truth[drawn], np.asarray(y)[drawn]
        groups = None if groups is None else groups[drawn]
        n_options = n_options if np.ndim(n_options) == 0 else np.asarray(n_options)[drawn]
    values, counts = read_answers(panel, task, n_options, n_outputs)
    if values.shape[1] < 2:
        raise PanelError("an audit compares specialists; this panel has one. Add a second.")
    if task == "probabilities" and truth.max() >= values.shape[2]:
        raise PanelError(f"y holds code {truth.max()}, but the panel has {values.shape[2]} outputs.")
    if counts is not None and (truth >= counts).any():
        row = int((truth >= counts).argmax())
        raise PanelError(
            f"sample {row} has {counts[row]} options, but its truth has code {truth[row]}. Count a 'none of "
            "these' option in n_options where the truth may lie outside the options."
        )
    if task == "numbers":
        truth = np.asarray(y, dtype=np.float64).reshape(len(truth), -1)
        if not np.isfinite(truth).all():
            raise PanelError(
                f"y holds {int((~np.isfinite(truth)).sum())} non-finite values. Drop those samples."
            )
    own = _names(panel, values.shape[1]) if names is None else tuple(str(name) for name in names)
    if len(own) != values.shape[1] or len(set(own)) != len(own):
        raise PanelError(f"names must be {values.shape[1]} different names; got {len(own)}.")
    everywhere = np.isnan(values).all(axis=(0, 2))
    if everywhere.any():
        raise PanelError(f"specialist {own[int(everywhere.argmax())]!r} answered nothing. Leave it out.")
    return Table(values, truth, task, counts, own, groups), n_given


def _drawn(panel: Any, rows: NDArray[Any]) -> Any:
    if hasattr(panel, "iloc"):
        return panel.iloc[rows]
    return panel.isel(sample=rows) if hasattr(panel, "isel") else np.asarray(panel)[rows]


def _task_of(panel: Any, y: Any) -> str:
    values = np.asarray(panel)
    truth = np.asarray(y)
    if values.ndim == 2 and values.dtype.kind in "iu" and truth.dtype.kind in "iu":
        return "labels"
    if values.ndim == 3 and values.shape[2] > 1 and truth.ndim == 1:
        sums = values.sum(axis=2)
        if np.nanmin(values) >= 0 and np.nanmax(np.abs(sums - 1.0)) < 1e-3:
            return "probabilities"
    return "numbers"


def read_answers(
    panel: Any, task: str, n_options: Any, n_outputs: int | None
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Read answers as votes, probabilities or numbers, and count the options.

    Parameters
    ----------
    panel : array-like, DataFrame or DataArray
        As in :func:`read_table`.
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
    """
    if task == "labels":
        codes, _ = as_labels(panel)
        if codes.ndim != 2:
            raise PanelError(f"labels must be (sample, specialist); got shape {codes.shape}.")
        width = max(int(codes.max(initial=0)) + 1, n_outputs or 0)
        counts = None
        if n_options is not None:
            counts = np.broadcast_to(np.asarray(n_options, dtype=np.int64), (len(codes),)).copy()
            if (codes >= counts[:, None]).any():
                row, who = np.argwhere(codes >= counts[:, None])[0]
                raise PanelError(
                    f"sample {row} has {counts[row]} options, but specialist {who} said code {codes[row, who]}."
                )
            width = max(width, int(counts.max(initial=1)))
        votes = (codes[:, :, None] == np.arange(width)).astype(np.float64)
        votes[codes < 0] = np.nan
        return votes, counts
    if n_options is not None:
        raise PanelError("n_options belongs to label codes; probabilities and numbers have their outputs.")
    if np.ndim(panel) == 2:
        values = as_errors(panel, missing="abstain")[0][:, :, None]
    else:
        values = as_panel(panel)[0].astype(np.float64)
    if values.ndim != 3:
        raise PanelError(f"panel must be (sample, specialist, output); got shape {values.shape}.")
    if np.isinf(values).any():
        raise PanelError("the panel holds infinite answers; only NaN can stand for an abstention.")
    values = values.copy()
    values[np.isnan(values).any(axis=2)] = np.nan
    if task == "probabilities":
        sums = values.sum(axis=2)
        bad = (np.abs(sums - 1.0) > 1e-3) | (values < 0).any(axis=2)
        if bad.any():
            row, who = np.argwhere(bad)[0]
            raise PanelError(
                f"{int(bad.sum())} answers are no probabilities (first: sample {row}, specialist {who}, sum "
                f"{sums[row, who]:.4g}). Normalise them, or use task='numbers'."
            )
    return values, None


def _names(panel: Any, n_specialists: int) -> tuple[str, ...]:
    if np.ndim(panel) == 2 or (hasattr(panel, "dims") and "output" not in panel.dims):
        return as_errors(panel, missing="abstain")[1]
    return as_panel(panel)[1].names
