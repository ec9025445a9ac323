"""Where a sample lies: in the input, in a view of it, or in the space of what the specialists say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.views import select_view
from theory import PanelError


def needs_input(region: Any) -> bool:
    """Tell whether a region is read off the input rather than off the panel."""
    return not (isinstance(region, str) and region == "panel")


def read_region(region: Any, panel: NDArray[np.float64], X: Any) -> NDArray[np.float64]:
    """Give each sample a place.

    Parameters
    ----------
    region : "panel", "X", str, list, slice, tuple or callable
        The flattened answers; the whole input; or a view of it, as in :class:`Specialist`.
    panel : ndarray of shape (sample, specialist, output)
        Answers; NaN where a specialist is absent, or cannot name an output.
    X : array-like of shape (sample, feature), Views or None
        The input.

    Returns
    -------
    ndarray of float64, shape (sample, feature)
        Of a panel, an absent specialist stands at the mean of those present, an output that it cannot
        name at 0.

    Raises
    ------
    PanelError
        If the input is needed and not there, holds no numbers, lacks some, or has another length.
    """
    if not needs_input(region):
        gaps = np.isnan(panel)
        if not gaps.any():
            return panel.reshape(len(panel), panel.shape[1] * panel.shape[2])
        counts = np.maximum((~gaps).sum(axis=1, keepdims=True), 1)
        known = np.where(gaps, 0.0, panel)
        gone = gaps.all(axis=2, keepdims=True)
        filled = np.where(gone, known.sum(axis=1, keepdims=True) / counts, known)
        return np.asarray(filled.reshape(len(panel), panel.shape[1] * panel.shape[2]))
    if X is None:
        raise PanelError(
            f"region={region!r} looks at the input; pass X, or use region='panel', which looks at the answers."
        )
    part, present = select_view(X, None if isinstance(region, str) and region == "X" else region)
    if hasattr(part, "toarray"):
        part = part.toarray()
    try:
        place = np.asarray(part, dtype=np.float64)
    except (TypeError, ValueError):
        raise PanelError(
            f"region={region!r} holds no numbers. Choose numeric columns, or region='panel'."
        ) from None
    if len(place) != len(panel):
        raise PanelError(f"X has {len(place)} samples, the panel {len(panel)}.")
    place = place.reshape(len(place), int(np.prod(place.shape[1:])))
    bad = ~np.isfinite(place).all(axis=1)
    if present is not None:
        bad |= ~np.asarray(present)
    if bad.any():
        raise PanelError(
            f"region={region!r} lacks numbers in {int(bad.sum())} samples (first: {int(bad.argmax())}). Impute them, "
            "choose other columns, or use region='panel'."
        )
    return place
