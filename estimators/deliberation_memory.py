"""What a deliberation keeps: sealed training proposals; and which options a sample has."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.hearing import accuracy_of
from fusion.deliberative.critics import proposed_options
from fusion.deliberative.watch import peer_agreement, quarantine
from theory import FaultWarning, PanelError


class Memory:
    """Sealed training proposals: what a judge without some specialist is refitted on."""

    def __init__(self, panel: Any, y: Any, valid: Any, views: Any, splits: Any, weight: Any):
        self.panel, self.y, self.valid = panel, y, valid
        self.views, self.splits, self.weight = views, splits, weight
        self.accuracy = accuracy_of(panel, y, valid, weight) if len(y) else np.full(panel.shape[1], 0.5)


def read_options(n_options: Any, X: Any, n: int, k: int) -> NDArray[np.bool_]:
    """Read which options each sample has.

    Parameters
    ----------
    n_options : None, str or callable
        Every class; a column of X that counts options; or what gives a mask from X.
    X : array-like or DataFrame
        Samples.
    n, k : int
        Samples and classes.

    Returns
    -------
    ndarray of bool, shape (sample, output)

    Raises
    ------
    PanelError
        If the column does not exist or counts wrongly, or the mask does not fit.
    """
    if n_options is None:
        return np.ones((n, k), dtype=bool)
    if callable(n_options):
        mask = np.asarray(n_options(X))
    else:
        if n_options not in getattr(X, "columns", ()):
            raise PanelError(f"n_options={n_options!r} is no column of X. Give a DataFrame, or a callable.")
        counts = np.asarray(X[n_options])
        if counts.dtype.kind not in "iu" or counts.min(initial=1) < 1 or counts.max(initial=1) > k:
            raise PanelError(f"column {n_options!r} must count options from 1 to {k} as whole numbers.")
        mask = np.arange(k) < counts[:, None]
    if mask.shape != (n, k) or mask.dtype != bool or not mask.any(axis=1).all():
        raise PanelError(f"n_options must mark options in a bool mask {(n, k)}, one at least in each sample.")
    return mask


def find_strangers(
    memory: Memory, peers: Any, members: Any, panel: Any, valid: Any, names: list[str]
) -> tuple[int, ...]:
    """Say which specialists no longer agree with the others as they did on the training rows.

    Parameters
    ----------
    memory : Memory
        Sealed training proposals.
    peers : ndarray of shape (specialist,)
        Agreement of each with all others there.
    members : ndarray of int
        Who has spoken.
    panel : ndarray of shape (sample, specialist, output)
        Sealed proposals of a batch.
    valid : ndarray of bool, shape (sample, output)
        Which options exist.
    names : list of str
        Specialists.

    Returns
    -------
    tuple of int
        Columns; told by a FaultWarning.
    """
    if not len(members):
        return ()
    words = proposed_options(panel[:, members], valid=valid)
    before = peers[members]
    if len(members) < len(names):
        before = peer_agreement(proposed_options(memory.panel[:, members], valid=memory.valid))
    found = quarantine(words, before, n_outputs=valid.shape[1])
    tripped = np.flatnonzero(found.tripped)
    if len(tripped):
        worst = {names[members[j]]: round(float(found.change[j]), 3) for j in tripped}
        warnings.warn(
            f"quarantined, since agreement with the others fell: {worst}. The judge goes on without them.",
            FaultWarning,
            stacklevel=6,
        )
    return tuple(int(members[j]) for j in tripped)
