"""Losses of fused answers against the truth, sample by sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_choice, read_truth
from theory._exceptions import PanelError

Floats = NDArray[np.float64]
_CLIP = 1e-12


def read_loss(loss: Any, y: ArrayLike, n: int, labels: bool) -> Callable[[Any], Floats]:
    """Return a function from fused answers to the loss of every sample.

    Parameters
    ----------
    loss : {"squared", "brier", "zero_one", "log"}, callable or None
        None is ``"zero_one"`` for panels of labels, else an error.
    y : array-like
        The truth.
    n : int
        Samples.
    labels : bool
        Whether the panel holds label codes.
    """
    if callable(loss):
        truth = np.asarray(y)
        return lambda fused: _checked(loss(fused, truth), n)
    if loss is None:
        if not labels:
            raise PanelError(
                "give loss=: 'squared' for numbers; 'brier', 'zero_one' or 'log' for probabilities."
            )
        loss = "zero_one"
    check_choice("loss", loss, ("squared", "brier", "zero_one", "log"))
    if labels and loss != "zero_one":
        raise PanelError(f"a panel of labels has loss='zero_one' or a callable; got {loss!r}.")
    if loss == "squared":
        target = np.asarray(y, dtype=np.float64)
        target = target[:, None] if target.ndim == 1 else target
        if len(target) != n or not np.isfinite(target).all():
            raise PanelError(f"y must hold {n} finite numbers; got shape {target.shape}.")
        return lambda fused: _checked(_squared(np.asarray(fused, dtype=np.float64), target), n)
    codes = read_truth(y, n)
    scores = {"zero_one": _zero_one, "brier": _brier, "log": _log}
    score = scores[loss]
    return lambda fused: _checked(score(np.asarray(fused), codes), n)


def _checked(values: Any, n: int) -> Floats:
    losses = np.asarray(values, dtype=np.float64)
    if losses.shape != (n,) or not np.isfinite(losses).all():
        raise PanelError(
            f"the loss of a coalition must be {n} finite numbers; got shape {losses.shape} with "
            f"{int((~np.isfinite(losses)).sum())} non-finite. Check fuse= on small coalitions."
        )
    return losses


def _squared(fused: Floats, target: Floats) -> Floats:
    fused = fused[:, None] if fused.ndim == 1 else fused
    if fused.shape != target.shape:
        raise PanelError(f"fused answers have shape {fused.shape}, the truth {target.shape}.")
    return np.asarray(((fused - target) ** 2).sum(axis=1))


def _zero_one(fused: NDArray[Any], codes: NDArray[np.int64]) -> Floats:
    if fused.ndim == 1:
        return np.asarray(fused != codes, dtype=np.float64)
    best = fused == fused.max(axis=1, keepdims=True)
    # Ties among the largest are split: the loss of drawing one of them.
    return np.asarray(1.0 - _at(best, codes) / best.sum(axis=1))


def _brier(fused: NDArray[Any], codes: NDArray[np.int64]) -> Floats:
    return np.asarray((fused**2).sum(axis=1) - 2.0 * _at(fused, codes) + 1.0)


def _log(fused: NDArray[Any], codes: NDArray[np.int64]) -> Floats:
    return np.asarray(-np.log(np.maximum(_at(fused, codes), _CLIP)))


def _at(fused: NDArray[Any], codes: NDArray[np.int64]) -> NDArray[Any]:
    if fused.ndim != 2 or codes.max(initial=0) >= fused.shape[1]:
        raise PanelError(
            f"fused answers of shape {fused.shape} do not hold label code {codes.max(initial=0)}: outputs "
            "are columns."
        )
    return fused[np.arange(len(codes)), codes]
