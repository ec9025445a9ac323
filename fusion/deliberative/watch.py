"""A watch on specialists whose agreement with the others has collapsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.deliberative._reading import Floats
from theory._exceptions import PanelError
from theory.labels import as_labels

_LEAST = 200


@dataclass(frozen=True, eq=False)
class Quarantine:
    """Who no longer agrees with the others as before.

    Attributes
    ----------
    change : ndarray of shape (specialist,)
        Agreement now minus before, minus the panel's median change: a change of topic moves everybody.
    z : ndarray of shape (specialist,)
        That change in standard errors.
    tripped : ndarray of bool, shape (specialist,)
        Below both limits.
    n : int
        Samples in the batch; nothing trips in batches that are too small.
    """

    change: Floats
    z: Floats
    tripped: NDArray[np.bool_]
    n: int


def peer_agreement(labels: Any, *, n_outputs: int | None = None, sample_weight: Any = None) -> Floats:
    """Measure how often each specialist names what most of the others name.

    Parameters
    ----------
    labels : array-like of int, shape (sample, specialist)
        What each proposes; -1 abstains.
    n_outputs : int, optional
        Number of options.
    sample_weight : array-like of shape (sample,), optional
        Weights of the samples.

    Returns
    -------
    ndarray of float64, shape (specialist,)
        Among the samples in which it and somebody else spoke; NaN where there is none.

    Raises
    ------
    PanelError
        If the labels cannot be read.

    Notes
    -----
    Among t options that the others name equally often, naming one counts 1/t. Two abstentions never agree.

    Examples
    --------
    >>> peer_agreement([[0, 0, 1], [2, 2, 2], [-1, 1, 1]]).tolist()
    [0.75, 0.8333333333333334, 0.6666666666666666]
    """
    words, _ = as_labels(labels)
    if words.ndim != 2:
        raise PanelError(f"labels need the axes (sample, specialist); got shape {words.shape}.")
    k = int(words.max(initial=0)) + 1 if n_outputs is None else n_outputs
    stands = words[:, :, None] == np.arange(k)
    heads = stands.sum(axis=1)[:, None, :] - stands
    top = (heads == heads.max(axis=2, keepdims=True)) & (heads > 0)
    share = (stands & top).sum(axis=2) / np.maximum(top.sum(axis=2), 1)
    here = (words >= 0) & top.any(axis=2)
    weight = np.ones(len(words)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    total = (here * weight[:, None]).sum(axis=0)
    agreed = (share * here * weight[:, None]).sum(axis=0)
    return np.asarray(np.divide(agreed, total, out=np.full(len(total), np.nan), where=total > 0.0))


def quarantine(
    labels: Any,
    before: Any,
    *,
    n_outputs: int | None = None,
    least_change: float = -0.2,
    least_z: float = -6.0,
) -> Quarantine:
    """Find specialists whose agreement with the others fell, beyond what the whole panel did.

    Parameters
    ----------
    labels : array-like of int, shape (sample, specialist)
        A batch of at least 200 proposals; -1 abstains.
    before : array-like of shape (specialist,)
        `peer_agreement` on the training samples.
    n_outputs : int, optional
        Number of options.
    least_change, least_z : float
        A specialist trips if its change lies below the first and its z below the second.

    Returns
    -------
    Quarantine
        Nobody trips in a smaller batch, or in a panel of fewer than three.

    Raises
    ------
    PanelError
        If the labels and the former agreement do not fit.

    Notes
    -----
    It sees changes, not lies told from the start, and needs a majority that did not change.

    Examples
    --------
    >>> import numpy as np
    >>> words = np.zeros((300, 4), dtype=int)
    >>> words[:, 3] = 1
    >>> quarantine(words, [1.0, 1.0, 1.0, 1.0]).tripped.tolist()
    [False, False, False, True]
    """
    words, _ = as_labels(labels)
    old = np.asarray(before, dtype=np.float64)
    if words.ndim != 2 or old.shape != words.shape[1:]:
        raise PanelError(
            f"labels (sample, specialist) and the former agreement do not fit; got {words.shape} and {old.shape}."
        )
    n, m = words.shape
    now = peer_agreement(words, n_outputs=n_outputs) if n else np.full(m, np.nan)
    moved = now - old
    known = np.isfinite(moved)
    if n < _LEAST or m < 3 or not known.any():
        return Quarantine(np.zeros(m), np.zeros(m), np.zeros(m, dtype=bool), n)
    change = np.where(known, moved - np.median(moved[known]), 0.0)
    spoke = np.maximum((words >= 0).sum(axis=0), 1)
    p = np.clip(np.nan_to_num(old), 0.5 / spoke, 1.0 - 0.5 / spoke)
    z = change / np.sqrt(p * (1.0 - p) / spoke)
    return Quarantine(change, z, (change < least_change) & (z < least_z), n)
