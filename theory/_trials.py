"""Panels from several training sets: an axis of trials before samples and specialists."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._backends import OUTPUT, SPECIALIST, from_array, kind_of, ordered_dataarray
from theory._exceptions import PanelError

Floats = NDArray[np.float64]
_TRIAL = "trial"


def with_trials(panel: Any, what: str, plain: int) -> tuple[Floats, bool]:
    """Read (trial, sample, specialist, output); a panel of `plain` axes has no trials and gets one."""
    if kind_of(panel) == "xarray":
        table, dims = ordered_dataarray(panel, SPECIALIST, OUTPUT if OUTPUT in panel.dims else None)
        values = np.asarray(table)
        trials = _TRIAL in dims
        if trials:
            values = np.moveaxis(values, dims.index(_TRIAL), 0)
        if OUTPUT not in dims:
            values = values[..., None]
        values = values if trials else values[None]
    else:
        values = np.asarray(panel.detach().cpu().numpy() if kind_of(panel) == "torch" else from_array(panel))
        trials = values.ndim == 4 or plain == 2
        if plain == 2 and values.ndim == 3:
            values = values[..., None]
        elif plain == 3 and values.ndim == 3:
            values = values[None]
    if values.ndim != 4 or 0 in values.shape or values.dtype.kind not in "iubf":
        shape = "(trial, sample, specialist, output)"
        raise PanelError(
            f"{what} need the axes {shape}, or {'(sample, specialist, output)' if plain == 3 else 'without output'}; got "
            f"shape {np.shape(panel)}."
        )
    return values.astype(np.float64), trials
