"""From probabilities to centred log-odds and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion.deliberative._reading import check_probabilities, read_prior, read_valid, same_kind
from theory._exceptions import PanelError
from theory.panel import as_panel

_FLOOR = 1e-6


def log_odds(
    panel: Any, *, prior: Any = None, valid: Any = None, max_abs: float | None = None, missing: str = "raise"
) -> Any:
    """Turn probabilities into log-odds against the prior, centred over the options that exist.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Probabilities; rows sum to 1 within 1e-6.
    prior : array-like of shape (output,) or (..., output), optional
        What is believed before anybody speaks; uniform by default.
    valid : array-like of bool, shape (..., output), or of int, shape (...), optional
        Which options exist, as a mask or a count; all by default.
    max_abs : float, optional
        Clips the result to [-max_abs, max_abs]: nobody can then weigh more.
    missing : {"raise", "abstain"}, default "raise"
        Whether a row of NaN is an error or an abstention.

    Returns
    -------
    array of float64, shape (..., specialist, output)
        log max(P, 1e-6) - log prior, minus its mean over valid options; 0 at options that are not valid, and
        in the rows of those who abstain (the prior itself).

    Raises
    ------
    PanelError
        If a row is no probability, names an option that is not valid, or a parameter is out of range.

    Notes
    -----
    NaN stands for an abstention only where a whole row is NaN and ``missing="abstain"``. Equal probabilities
    give equal log-odds, so ties survive.

    References
    ----------
    Genest and Zidek (1986), Combining probability distributions, section 3.

    Examples
    --------
    >>> log_odds([[0.5, 0.5], [0.8, 0.2]]).round(3)
    array([[ 0.   ,  0.   ],
           [ 0.693, -0.693]])
    """
    values, wrap = as_panel(panel)
    batch, k = values.shape[:-2], values.shape[-1]
    mask = read_valid(valid, batch, k)
    start = read_prior(prior, mask, k)
    absent = check_probabilities(values, wrap.names, mask, missing=missing)
    if max_abs is not None and not max_abs > 0.0:
        raise PanelError(f"max_abs must be a positive number; got {max_abs!r}. Leave it out for no limit.")
    odds = np.maximum(values, _FLOOR, dtype=np.float64)
    np.log(odds, out=odds)
    if start is not None:
        odds -= start[..., None, :]
    if mask is None:
        odds -= np.einsum("...k->...", odds)[..., None] / k
    else:
        seen = mask[..., None, :]
        odds = np.where(seen, odds, 0.0)
        odds -= np.where(seen, odds.sum(axis=-1, keepdims=True) / seen.sum(axis=-1, keepdims=True), 0.0)
    if absent is not None:
        odds[absent] = 0.0
    if max_abs is not None:
        np.clip(odds, -max_abs, max_abs, out=odds)
    return same_kind(wrap, odds)


def from_log_odds(odds: Any, *, prior: Any = None, valid: Any = None) -> Any:
    """Turn log-odds against a prior into probabilities.

    Parameters
    ----------
    odds : array-like, shape (..., specialist, output)
        Finite log-odds, centred or not.
    prior : array-like of shape (output,) or (..., output), optional
        What they are taken against; uniform by default.
    valid : array-like of bool, shape (..., output), or of int, shape (...), optional
        Which options exist.

    Returns
    -------
    array of float64, shape (..., specialist, output)
        Probabilities; exactly 0 at options that are not valid.

    Raises
    ------
    PanelError
        If a value is not finite or a parameter cannot be read.

    Notes
    -----
    NaN is refused. It undoes `log_odds` up to its floor of 1e-6.

    Examples
    --------
    >>> from_log_odds([[0.0, 0.0], [0.6931, -0.6931]]).round(3)
    array([[0.5, 0.5],
           [0.8, 0.2]])
    """
    values, wrap = as_panel(odds)
    if not np.isfinite(values).all():
        raise PanelError("log-odds must be finite. Make them with log_odds(..., missing='abstain').")
    batch, k = values.shape[:-2], values.shape[-1]
    mask = read_valid(valid, batch, k)
    start = read_prior(prior, mask, k)
    raw = values.astype(np.float64)
    if start is not None:
        raw += start[..., None, :]
    if mask is not None:
        raw = np.where(mask[..., None, :], raw, -np.inf)
    raw -= raw.max(axis=-1, keepdims=True)
    np.exp(raw, out=raw)
    raw /= raw.sum(axis=-1, keepdims=True)
    return same_kind(wrap, raw)


def soften_votes(panel: Any, accuracy: Any, *, valid: Any = None) -> Any:
    """Turn hard answers into probabilities by each specialist's accuracy on unseen samples.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        One-hot answers; a row of NaN or of zeros is an abstention.
    accuracy : array-like of shape (specialist,)
        Share of right answers among those given, clipped to [.02, .98].
    valid : array-like of bool, shape (..., output), or of int, shape (...), optional
        Which options exist.

    Returns
    -------
    array of float64, shape (..., specialist, output)
        p at the option named and (1 - p)/(K - 1) at the K - 1 others that exist; NaN rows for abstentions; 1
        where there is one option.

    Raises
    ------
    PanelError
        If a row is no vote or the accuracies do not fit.

    Notes
    -----
    NaN rows stay NaN: use ``missing="abstain"`` afterwards.

    Examples
    --------
    >>> soften_votes([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [0.8, 0.5])
    array([[0.8, 0.1, 0.1],
           [nan, nan, nan]])
    """
    values, wrap = as_panel(panel)
    batch, (m, k) = values.shape[:-2], values.shape[-2:]
    mask = read_valid(valid, batch, k)
    p = np.clip(np.asarray(accuracy, dtype=np.float64), 0.02, 0.98)
    if p.shape != (m,) or np.isnan(p).any():
        raise PanelError(f"accuracy must be one number per specialist ({m}); got shape {p.shape}.")
    votes = np.nan_to_num(values) if np.isnan(values).any() else values
    cast = votes.sum(axis=-1)
    if not np.isin(votes, (0.0, 1.0)).all() or cast.max(initial=0.0) > 1.0:
        raise PanelError(
            "soften_votes takes one-hot answers; these are not. Probabilities need no softening."
        )
    exists = (
        np.ones(values.shape, dtype=bool)
        if mask is None
        else np.broadcast_to(mask[..., None, :], values.shape)
    )
    n_options = exists.sum(axis=-1, keepdims=True)
    if (votes > exists).any():
        raise PanelError("a vote names an option that is not valid. Widen valid, or make it an abstention.")
    rest = (1.0 - p[:, None]) / np.maximum(n_options - 1, 1)
    soft = np.where(votes > 0.0, np.where(n_options > 1, p[:, None], 1.0), np.where(exists, rest, 0.0))
    soft[cast == 0.0] = np.nan
    return same_kind(wrap, soft)
