"""Views side by side on one scale: standardise over those present, weigh blocks, mark the absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError

BlockScale = Literal["equal", "mfa"] | None


@dataclass(frozen=True)
class BlockScaling:
    """Centre and spread of one view, learned from the samples that have it.

    Attributes
    ----------
    centre, spread : ndarray of shape (feature,)
        A feature without spread has 1.
    weight : float
        Of the block.
    ever_absent : bool
        Whether a sample of the fit lacked the view.

    Examples
    --------
    >>> from fusion.early import scale_blocks
    >>> scale_blocks({"a": [[1.0], [3.0]]})["a"].centre.tolist()
    [2.0]
    """

    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    weight: float
    ever_absent: bool


def scale_blocks(
    views: Mapping[str, Any],
    *,
    mask: Mapping[str, Any] | None = None,
    block_scale: BlockScale = None,
    sample_weight: Any = None,
) -> dict[str, BlockScaling]:
    """Learn how to standardise each view over the samples that have it.

    Parameters
    ----------
    views : mapping of str to array-like of shape (sample, feature_v)
        The views. A row of nothing but NaN is absent.
    mask : mapping of str to array-like of bool of shape (sample,), optional
        Presence.
    block_scale : {None, "equal", "mfa"}, default None
        Weight of a block: 1; ``sqrt(mean d) / sqrt(d_v)``, equal total variance; or one over the largest singular
        value of the standardised block over ``sqrt(n)``, so that its first component has variance 1.
    sample_weight : array-like of shape (sample,), optional
        Repetitions of the samples.

    Returns
    -------
    dict of str to BlockScaling

    Raises
    ------
    PanelError
        If a view is partly NaN in a row, not finite, of another length, or never present.

    References
    ----------
    .. [1] Escofier & Pages, Multiple factor analysis, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> s = scale_blocks({"a": [[1.0], [3.0], [np.nan]]})["a"]
    >>> s.centre.tolist(), s.spread.tolist(), s.ever_absent
    ([2.0], [1.0], True)
    """
    if block_scale not in (None, "equal", "mfa"):
        raise PanelError(f"block_scale is None, 'equal' or 'mfa'; got {block_scale!r}.")
    arrays, present = _read_views(views, mask)
    n = len(next(iter(arrays.values())))
    weight = np.ones(n) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    width = float(np.mean([values.shape[1] for values in arrays.values()]))
    blocks = {}
    for name, values in arrays.items():
        here = present[name] & (weight > 0)
        if not here.any():
            raise PanelError(f"view {name!r} is present in no sample. Drop it.")
        rows, mass = (values, weight) if here.all() else (values[here], weight[here])
        share = mass / mass.sum()
        centre = share @ rows
        gap = rows - centre
        drift = share @ gap  # what rounding left of a large offset
        centre = centre + drift
        spread = np.sqrt(np.maximum(share @ np.square(gap, out=gap) - drift**2, 0.0))
        flat = spread < 10 * np.finfo(np.float64).eps * np.abs(centre)
        spread = np.where(flat | (spread == 0), 1.0, spread)
        block = 1.0
        if block_scale == "equal":
            block = float(np.sqrt(width / values.shape[1]))
        elif block_scale == "mfa":
            z = np.sqrt(mass / mass.sum())[:, None] * (rows - centre) / spread
            largest = float(np.linalg.norm(z, 2))
            block = 1.0 / largest if largest > 0 else 1.0
        absent = bool((~present[name] & (weight > 0)).any())
        blocks[name] = BlockScaling(centre, spread, block, absent)
    return blocks


def concat_views(
    views: Mapping[str, Any],
    blocks: Mapping[str, BlockScaling],
    *,
    mask: Mapping[str, Any] | None = None,
    add_mask: bool | Literal["auto"] = "auto",
    clip: float | None = None,
) -> NDArray[np.float64]:
    """Standardise each view and put them side by side.

    Parameters
    ----------
    views : mapping of str to array-like of shape (sample, feature_v)
        The views; one that is missing is absent everywhere.
    blocks : mapping of str to BlockScaling
        Of `scale_blocks`.
    mask : mapping of str to array-like of bool of shape (sample,), optional
        Presence.
    add_mask : bool or "auto", default "auto"
        Columns that say which views are there; auto: of the views ever absent in the fit.
    clip : float, optional
        Bound on the standardised values.

    Returns
    -------
    ndarray of shape (sample, features and mask columns), float64
        An absent block is 0, the mean.

    Raises
    ------
    PanelError
        If a view is unknown or has another number of features.

    Examples
    --------
    >>> import numpy as np
    >>> views = {"a": [[1.0], [3.0], [np.nan]]}
    >>> concat_views(views, scale_blocks(views)).tolist()
    [[-1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    """
    unknown = [name for name in views if name not in blocks]
    if unknown:
        raise PanelError(f"unknown view {unknown[0]!r}; fitted: {', '.join(blocks)}.")
    arrays, present = _read_views(views, mask)
    n = len(next(iter(arrays.values())))
    parts, flags = [], []
    for name, block in blocks.items():
        if name not in arrays:
            parts.append(np.zeros((n, len(block.centre))))
            here = np.zeros(n, dtype=bool)
        else:
            values, here = arrays[name], present[name]
            if values.shape[1] != len(block.centre):
                raise PanelError(
                    f"view {name!r} has {values.shape[1]} features; fitted with {len(block.centre)}."
                )
            # One fresh array, then in place: each further pass would cost as much as the fit of a small model.
            z = (values if here.all() else np.where(here[:, None], values, block.centre)) - block.centre
            z /= block.spread
            if clip is not None:
                np.clip(z, -clip, clip, out=z)
            if block.weight != 1.0:
                z *= block.weight
            parts.append(z)
        if add_mask is True or (add_mask == "auto" and block.ever_absent):
            flags.append(here.astype(np.float64))
    return np.concatenate([*parts, *(flag[:, None] for flag in flags)], axis=1)


@dataclass(eq=False)
class ScaledConcat:
    """Standardised views side by side: learn on some samples, apply to others.

    Parameters
    ----------
    block_scale : {None, "equal", "mfa"}, default None
        Weight of a block, as in `scale_blocks`.
    add_mask : bool or "auto", default "auto"
        Mask columns, as in `concat_views`.
    clip : float, optional
        Bound on the standardised values.

    Attributes
    ----------
    blocks_ : dict of str to BlockScaling
        What was learned.

    Examples
    --------
    >>> joined = ScaledConcat().fit({"a": [[0.0], [2.0]], "b": [[5.0], [5.0]]})
    >>> joined.transform({"a": [[4.0]], "b": [[5.0]]}).tolist()
    [[3.0, 0.0]]
    """

    block_scale: BlockScale = None
    add_mask: bool | Literal["auto"] = "auto"
    clip: float | None = None
    blocks_: dict[str, BlockScaling] = field(default_factory=dict, init=False, repr=False)

    def fit(
        self, views: Mapping[str, Any], mask: Mapping[str, Any] | None = None, sample_weight: Any = None
    ) -> ScaledConcat:
        """Learn centre and spread of each view.

        Parameters
        ----------
        views : mapping of str to array-like of shape (sample, feature_v)
            The views.
        mask : mapping of str to array-like of bool of shape (sample,), optional
            Presence.
        sample_weight : array-like of shape (sample,), optional
            Repetitions of the samples.

        Returns
        -------
        ScaledConcat
            Itself.
        """
        self.blocks_ = scale_blocks(
            views, mask=mask, block_scale=self.block_scale, sample_weight=sample_weight
        )
        return self

    def transform(
        self, views: Mapping[str, Any], mask: Mapping[str, Any] | None = None
    ) -> NDArray[np.float64]:
        """Put views side by side.

        Parameters
        ----------
        views : mapping of str to array-like of shape (sample, feature_v)
            The views.
        mask : mapping of str to array-like of bool of shape (sample,), optional
            Presence.

        Returns
        -------
        ndarray of shape (sample, feature), float64

        Raises
        ------
        PanelError
            If it was not fitted, or views do not fit.
        """
        if not self.blocks_:
            raise PanelError("ScaledConcat is not fitted. Call fit first.")
        return concat_views(views, self.blocks_, mask=mask, add_mask=self.add_mask, clip=self.clip)


def _read_views(
    views: Mapping[str, Any], mask: Mapping[str, Any] | None = None
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.bool_]]]:
    """Check views of one row per sample and say which rows are present.

    Parameters
    ----------
    views : mapping of str to array-like of shape (sample, feature_v)
        The views.
    mask : mapping of str to array-like of bool of shape (sample,), optional
        Presence; a row of nothing but NaN is absent in any case.

    Returns
    -------
    arrays : dict of str to ndarray of shape (sample, feature_v), float64
    present : dict of str to ndarray of bool of shape (sample,)

    Raises
    ------
    PanelError
        If views differ in samples, or a present row is not finite.
    """
    if not views:
        raise PanelError("there is no view. Give {name: values}.")
    stray = sorted(set(mask or {}) - set(views))
    if stray:
        raise PanelError(f"mask names {stray}, which are no views; there are {list(views)}.")
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in views.items()}
    flat = [name for name, values in arrays.items() if values.ndim != 2]
    if flat:
        raise PanelError(f"view {flat[0]!r} has shape {arrays[flat[0]].shape}; needed (sample, feature).")
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise PanelError(f"views differ in samples: {told}. Use align_views(how='inner').")
    present: dict[str, NDArray[np.bool_]] = {}
    for name, values in arrays.items():
        with np.errstate(over="ignore", invalid="ignore"):
            sound = bool(np.isfinite(values.sum()))  # a finite sum has finite terms
        here = (
            np.ones(len(values), dtype=bool)
            if sound
            else np.asarray(~np.isnan(values).all(axis=1), dtype=bool)
        )
        if mask is not None and name in mask:
            here = np.logical_and(here, np.asarray(mask[name], dtype=bool))
        broken = np.zeros(0) if sound else np.flatnonzero(here & ~np.isfinite(values).all(axis=1))
        if len(broken):
            what = "partly NaN" if not np.isinf(values[broken]).any() else "not finite"
            raise PanelError(
                f"view {name!r}: {len(broken)} rows {what} (first {broken[0]}). Impute, or set the whole row NaN to "
                "declare it absent."
            )
        present[name] = here
    return arrays, present
