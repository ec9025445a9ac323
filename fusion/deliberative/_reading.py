"""Reading the arguments that all parts of a deliberation share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_SUM = 1e-6


def read_valid(valid: Any, batch: tuple[int, ...], n_outputs: int) -> Bools | None:
    """Read which options exist: a mask (..., output) or a count per sample; None where all do."""
    if valid is None:
        return None
    given = np.asarray(valid)
    if given.dtype.kind in "iu":
        if given.min(initial=1) < 1 or given.max(initial=1) > n_outputs:
            raise PanelError(
                f"a count of valid options lies between 1 and the panel's {n_outputs} outputs; got "
                f"{int(given.min())} to {int(given.max())}."
            )
        given = np.arange(n_outputs) < given[..., None]
    if given.dtype != bool:
        raise PanelError(
            f"valid is a mask of bool or a count of int per sample; got dtype {given.dtype}. Use valid > 0."
        )
    try:
        mask = np.broadcast_to(given, (*batch, n_outputs))
    except ValueError:
        raise PanelError(
            f"valid must have shape {(*batch, n_outputs)} (..., output); got {given.shape}."
        ) from None
    if not mask.any(axis=-1).all():
        raise PanelError("a sample has no valid option. Drop it, or mark 'none of these' as valid.")
    return None if mask.all() else mask


def read_prior(prior: Any, valid: Bools | None, n_outputs: int) -> Floats | None:
    """Read log priors (..., output), made to sum to 1 over valid options; None where uniform."""
    if prior is None:
        return None
    values = np.asarray(prior, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] != n_outputs:
        raise PanelError(
            f"prior must hold one probability per output ({n_outputs}); got shape {values.shape}."
        )
    if not np.isfinite(values).all() or (values <= 0.0).any():
        raise PanelError("prior must hold positive finite numbers. Mix in a little of the uniform.")
    if valid is not None:
        values = np.where(valid, values, 0.0)
    values = values / values.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        logs = np.log(values)
    return np.asarray(np.where(np.isfinite(logs), logs, 0.0))


def check_probabilities(
    panel: NDArray[Any], names: tuple[str, ...], valid: Bools | None, *, missing: str
) -> Bools | None:
    """Refuse rows that are no probabilities; with missing="abstain" say which rows are all NaN.

    Parameters
    ----------
    panel : ndarray, shape (..., specialist, output)
        Probabilities.
    names : tuple of str
        Of the specialists.
    valid : ndarray of bool, shape (..., output), or None
        Options that exist; the others must have probability 0.
    missing : {"raise", "abstain"}
        What a row of NaN is.

    Returns
    -------
    ndarray of bool, shape (..., specialist), or None
        Who abstains; None where nobody does.
    """
    if missing not in ("raise", "abstain"):
        raise PanelError(f"missing must be 'raise' or 'abstain'; got {missing!r}.")
    total = np.einsum("...k->...", panel, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(total - 1.0) <= _SUM)
    least = panel.min(initial=0.0)
    if not least >= 0.0:  # NaN, or negative
        with np.errstate(invalid="ignore"):
            bad |= ~(panel >= 0.0).all(axis=-1)
    absent: Bools | None = None
    if missing == "abstain" and bad.any():
        absent = np.asarray(np.isnan(panel).all(axis=-1))
        bad &= ~absent
        absent = absent if absent.any() else None
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        sample = f"sample {place[0] if len(place) == 2 else place[:-1]}, " if len(place) > 1 else ""
        raise PanelError(
            f"specialist {names[place[-1]]!r} ({sample}outputs {panel.shape[-1]}) gave {panel[place]} with sum "
            f"{float(total[place]):.6g}; probabilities are finite, not negative and sum to 1. Normalise first, "
            "or use missing='abstain' for rows of NaN."
        )
    if valid is not None:
        stray = np.where(valid[..., None, :], 0.0, np.nan_to_num(panel)).max(axis=-1) > _SUM
        if stray.any():
            place = tuple(int(i) for i in np.argwhere(stray)[0])
            raise PanelError(
                f"specialist {names[place[-1]]!r} gives probability to an option that is not valid (at "
                f"{place[:-1]}). Widen valid, or make the answer an abstention."
            )
    return absent


def read_shares(name: str, value: Any, shape: tuple[int, ...], *, below_one: bool) -> Floats:
    """Read numbers in [0, 1), or [0, 1], that broadcast to (..., specialist)."""
    values = np.asarray(value, dtype=np.float64)
    try:
        full = np.broadcast_to(values, shape)
    except ValueError:
        raise PanelError(
            f"{name} must be one number, or one per specialist {shape[-1:]}, or of shape {shape}; got "
            f"{values.shape}."
        ) from None
    top = values.max(initial=0.0)
    if not np.isfinite(values).all() or values.min(initial=0.0) < 0.0 or top > 1.0:
        raise PanelError(f"{name} lies in [0, 1]; got values from {values.min():.6g} to {top:.6g}.")
    if below_one and top >= 1.0:
        raise PanelError(f"{name}={top:.6g} gives no fixed point; use {name} < 1.")
    return full


def read_influence(weights: Any, batch: tuple[int, ...], n: int, *, silent: Bools | None = None) -> Floats:
    """Read row-stochastic weights (specialist, specialist_) with a zero diagonal, shared or per sample.

    Rows of zeros are allowed where `silent` (specialists that listen to nobody).
    """
    values = np.asarray(weights, dtype=np.float64)
    if values.shape not in ((n, n), (*batch, n, n)):
        raise PanelError(f"weights must have shape {(n, n)} (specialist, specialist_); got {values.shape}.")
    if not np.isfinite(values).all() or (values < 0.0).any():
        raise PanelError("weights must be finite and >= 0: nobody is moved away from a peer.")
    sums = values.sum(axis=-1)
    unfit = np.abs(sums - 1.0) > 1e-8
    if silent is not None and unfit.any():
        unfit = unfit & ~(silent & (sums == 0.0))
    if unfit.any() or np.abs(np.diagonal(values, axis1=-2, axis2=-1)).max() > 0.0:
        raise PanelError(
            f"weights must be row-stochastic with a zero diagonal; row sums run from {sums.min():.6g} to "
            f"{sums.max():.6g}. Normalise rows, set the diagonal to 0."
        )
    return values


def same_kind(wrap: Any, values: NDArray[Any]) -> Any:
    """Give back an array of the panel's own shape in the kind that came in."""
    if wrap.kind == "xarray":
        return wrap.like.transpose(*wrap.dims).copy(data=values)
    if wrap.kind == "torch":
        import sys

        torch = sys.modules["torch"]
        return torch.as_tensor(np.ascontiguousarray(values)).to(device=wrap.like.device)
    return values
