"""From Views, arrays and frames to standardised numbers per view, with what is absent marked. No torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.columns import as_view, presence
from estimators.views import Views, select_view
from fusion.early import Ragged
from theory import FaultWarning, PanelError

CLIP = 8.0


@dataclass(frozen=True)
class ViewInput:
    """One view of some samples, ready for an encoder.

    Attributes
    ----------
    values : ndarray of shape (sample, feature) or (sample, token, feature)
        Standardised; 0 where absent.
    padding : ndarray of bool of shape (sample, token), or None
        True behind the end of a sequence.
    """

    values: NDArray[Any]
    padding: NDArray[np.bool_] | None


@dataclass(frozen=True)
class ViewReader:
    """How one view is read: learned from the training rows that have it.

    Attributes
    ----------
    name : str
        Of the view.
    selector : object
        What picks it out of X (see ``Specialist(view=...)``), or None for all of X.
    is_sequence : bool
        Whether a sample is a sequence of tokens.
    centre, spread : ndarray of shape (feature,)
        Of training rows (tokens); a feature without spread has 1.
    ever_absent : bool
        Whether a training row lacked it.
    transformer : object or None
        A fitted transformer in front.
    """

    name: str
    selector: Any
    is_sequence: bool
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    ever_absent: bool
    transformer: Any

    @property
    def n_features(self) -> int:
        """Features of a row or token."""
        return len(self.centre)


def view_selectors(X: Any, views: Any) -> dict[str, Any]:
    """Say which views there are and what picks each out of X.

    Parameters
    ----------
    X : array-like, DataFrame or Views of shape (sample, feature)
        The input.
    views : None, list of str, or mapping of str to selector
        None: all of a Views, or all of X as one view called ``"x"``.

    Returns
    -------
    dict of str to selector

    Raises
    ------
    PanelError
        If a named view does not exist.
    """
    if isinstance(views, Mapping):
        return dict(views)
    if isinstance(X, Views):
        names = list(X) if views is None else list(views)
        unknown = [name for name in names if name not in X]
        if unknown:
            raise PanelError(f"unknown view {unknown[0]!r}; there are {', '.join(X)}.")
        return {name: name for name in names}
    if views is not None:
        raise PanelError(
            f"views={views!r} names views, but X is a {type(X).__name__}. Pass Views, or a mapping."
        )
    return {"x": None}


def refuse_mapping(X: Any) -> None:
    """Tell people who pass a dict of views what to pass instead.

    Parameters
    ----------
    X : object
        Input of an estimator.

    Raises
    ------
    PanelError
        If it is a mapping: nothing can cut it along samples.
    """
    if isinstance(X, Mapping) and not hasattr(X, "tocsr"):  # some sparse arrays are mappings too
        raise PanelError("X is a mapping of views, which nothing can cut along samples. Pass Views(X).")


def read_raw(
    X: Any, name: str, selector: Any, transformer: Any, *, n_features: int = 1
) -> tuple[Any, NDArray[np.bool_]]:
    """Pick one view out of X and check it.

    Parameters
    ----------
    X : array-like, DataFrame or Views
        The input.
    name : str
        Of the view.
    selector : object
        What picks it.
    transformer : object or None
        Fitted; applied to the rows that are present.
    n_features : int, default 1
        What the transformer gives, where no row is present to ask it about.

    Returns
    -------
    values : ndarray of shape (sample, feature) or (sample, token, feature), or Ragged
        float64; absent rows hold anything.
    present : ndarray of bool of shape (sample,)

    Raises
    ------
    PanelError
        If a present row is partly NaN or not finite, or the view is no table of numbers.
    """
    part, here = select_view(X, selector)
    part = as_view(name, part)
    present = presence(part) if here is None else np.asarray(here)
    if transformer is not None:
        rows = np.flatnonzero(present)
        if not len(rows):  # most transformers refuse to see nobody
            return np.zeros((len(present), n_features)), present
        done = np.asarray(transformer.transform(part[rows] if not hasattr(part, "iloc") else part.iloc[rows]))
        part = np.full((len(present), *done.shape[1:]), np.nan)
        part[rows] = done
    if isinstance(part, Ragged):
        if part.values.dtype.kind not in "biuf":
            raise PanelError(f"view {name!r} holds tokens of {part.values.dtype}; needed are numbers.")
        present = present & (part.lengths > 0)
        heard = np.repeat(present, part.lengths)
        if not np.isfinite(part.values[heard]).all():
            raise PanelError(f"view {name!r}: a token is not finite. Impute, or leave the sequence empty.")
        if not heard.all():  # sums run over all tokens: what is masked must not reach them
            part = Ragged(np.where(heard[:, None], part.values, 0), part.offsets)
        return part, present
    if hasattr(part, "toarray"):
        part = part.toarray()
    try:
        values = np.asarray(part, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PanelError(
            f"view {name!r} holds no numbers ({error}). Give encoders={{{name!r}: a fitted transformer}}."
        ) from error
    if values.ndim not in (2, 3):
        raise PanelError(
            f"view {name!r} has shape {values.shape}; needed (sample, feature) or (sample, token, feature)."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):  # a finite sum has finite terms
            return values, present
    axes = tuple(range(1, values.ndim))
    present = present & ~np.isnan(values).all(axis=axes)
    broken = np.flatnonzero(present & ~np.isfinite(values).all(axis=axes))
    if len(broken):
        what = "not finite" if np.isinf(values[broken]).any() else "partly NaN"
        raise PanelError(
            f"view {name!r}: {len(broken)} rows {what} (first {broken[0]}). Impute, or set the whole row NaN to "
            "declare it absent."
        )
    return values, present


def fit_reader(
    name: str,
    selector: Any,
    raw: Any,
    present: NDArray[np.bool_],
    *,
    transformer: Any,
    sample_weight: NDArray[np.float64],
) -> ViewReader:
    """Learn the scale of a view from training rows.

    Parameters
    ----------
    name : str
        Of the view.
    selector : object
        What picks it.
    raw : ndarray or Ragged
        Training rows, of `read_raw`.
    present : ndarray of bool of shape (sample,)
        Which are there.
    transformer : object or None
        Fitted.
    sample_weight : ndarray of shape (sample,)
        Repetitions.

    Returns
    -------
    ViewReader

    Raises
    ------
    PanelError
        If the view is present in no training row.
    """
    here = present & (sample_weight > 0)
    if not here.any():
        raise PanelError(f"view {name!r} is present in no training row. Drop it.")
    if isinstance(raw, Ragged):
        kept = raw[np.flatnonzero(here)]
        rows, mass = kept.values.astype(np.float64), np.repeat(sample_weight[here], kept.lengths)
    elif raw.ndim == 3:
        rows = raw[here].reshape(-1, raw.shape[2])
        mass = np.repeat(sample_weight[here], raw.shape[1])
    else:
        rows, mass = raw[here], sample_weight[here]
    centre = np.average(rows, axis=0, weights=mass)
    with np.errstate(over="ignore"):
        spread = np.sqrt(np.average((rows - centre) ** 2, axis=0, weights=mass))
    if not np.isfinite(spread).all():  # dividing by it would make the feature a constant
        raise PanelError(
            f"view {name!r}: feature {int((~np.isfinite(spread)).argmax())} overflows. Rescale it."
        )
    flat = (spread == 0) | (spread < 10 * np.finfo(np.float64).eps * np.abs(centre))
    return ViewReader(
        name=name,
        selector=selector,
        is_sequence=isinstance(raw, Ragged) or raw.ndim == 3,
        centre=centre,
        spread=np.where(flat, 1.0, spread),
        ever_absent=bool((~present & (sample_weight > 0)).any()),
        transformer=transformer,
    )


def scaled(reader: ViewReader, raw: Any, present: NDArray[np.bool_]) -> ViewInput:
    """Standardise, clip at 8 standard deviations, and put 0 where the view is absent.

    Parameters
    ----------
    reader : ViewReader
        Of the view.
    raw : ndarray or Ragged
        Rows, of `read_raw`.
    present : ndarray of bool of shape (sample,)
        Which are there.

    Returns
    -------
    ViewInput

    Raises
    ------
    PanelError
        If features or form differ from the training rows.
    """
    is_sequence = isinstance(raw, Ragged) or raw.ndim == 3
    if raw.shape[-1] != reader.n_features or is_sequence != reader.is_sequence:
        raise PanelError(
            f"view {reader.name!r} has {raw.shape[-1]} features{' per token' if is_sequence else ''}; fitted with "
            f"{reader.n_features}{' per token' if reader.is_sequence else ''}."
        )
    if isinstance(raw, Ragged):
        values, padding = raw.pad()
        gone = padding | ~present[:, None]
    elif raw.ndim == 3:
        values, padding = raw, np.broadcast_to(~present[:, None], raw.shape[:2])
        gone = padding
    else:
        values, padding, gone = raw, None, ~present
    values = np.where(gone[..., None], reader.centre, values)
    z = np.clip((values - reader.centre) / reader.spread, -CLIP, CLIP)
    return ViewInput(z, None if padding is None else np.ascontiguousarray(padding))


def read_all(
    X: Any, readers: list[ViewReader], *, empty: str, missing: str, tell_new_gaps: bool
) -> tuple[list[ViewInput], NDArray[np.bool_]]:
    """Read every fitted view of some samples.

    Parameters
    ----------
    X : array-like, DataFrame or Views
        The input; a fitted view that a Views lacks is absent everywhere.
    readers : list of ViewReader
        The fitted views.
    empty : {"prior", "raise"}
        What samples without any view do.
    missing : {"abstain", "raise"}
        Whether a view may be absent.
    tell_new_gaps : bool
        Whether to warn when a view is absent now that never was in training.

    Returns
    -------
    inputs : list of ViewInput
    mask : ndarray of bool of shape (sample, specialist)

    Raises
    ------
    PanelError
        If there are views that were not fitted, or absences that were refused.
    """
    if isinstance(X, Views):
        # A selector may name a view under another name or pick columns of it; then strangers are none of ours.
        plain = all(reader.selector == reader.name for reader in readers)
        unknown = [name for name in X if name not in {reader.name for reader in readers}] if plain else []
        if unknown:
            raise PanelError(
                f"unknown view {unknown[0]!r}; fitted: {', '.join(reader.name for reader in readers)}."
            )
    inputs, masks = [], []
    n_samples = X.shape[0]
    for reader in readers:
        if isinstance(X, Views) and isinstance(reader.selector, str) and reader.selector not in X:
            raw: Any = np.zeros(
                (n_samples, 1, reader.n_features) if reader.is_sequence else (n_samples, reader.n_features)
            )
            present = np.zeros(n_samples, dtype=bool)
        else:
            raw, present = read_raw(
                X, reader.name, reader.selector, reader.transformer, n_features=reader.n_features
            )
        gone = int((~present).sum())
        if gone and missing == "raise":
            raise PanelError(f"view {reader.name!r} is absent in {gone} rows. Set missing='abstain'.")
        if gone and tell_new_gaps and not reader.ever_absent and len(readers) > 1:
            warnings.warn(
                f"view {reader.name!r} never absent in fit, absent in {gone} of {n_samples} rows. Fit with "
                "view_dropout > 0.",
                FaultWarning,
                stacklevel=4,
            )
        inputs.append(scaled(reader, raw, present))
        masks.append(present)
    mask = np.stack(masks, axis=1)
    nobody = ~mask.any(axis=1)
    if nobody.any() and empty == "raise":
        raise PanelError(
            f"{int(nobody.sum())} samples have no view (first {int(nobody.argmax())}). Drop them or set empty='prior'."
        )
    return inputs, mask
