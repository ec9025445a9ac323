"""Cut rows off for validation: by class, by group, never the only row of a class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEWEST = 4  # below that many training rows a validation part says nothing


def validation_split(
    labels: Any, n_samples: int, *, groups: Any, fraction: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows into those to fit and those to stop by.

    Parameters
    ----------
    labels : array-like of shape (sample,), or None
        Classes to balance.
    n_samples : int
        Number of rows.
    groups : array-like of shape (sample,), or None
        Rows of a group stay together; takes precedence over classes.
    fraction : float
        Share to hold back; 0 for none.
    seed : int
        Of the draw.

    Returns
    -------
    fitted, held : ndarray of int
        Sorted positions. Every class keeps a row to fit; `held` may be empty.
    """
    everything = np.arange(n_samples)
    nothing = np.zeros(0, dtype=np.intp)
    rng = np.random.default_rng([seed, 20])
    if fraction <= 0 or n_samples < _FEWEST:
        return everything, nothing
    held = np.zeros(n_samples, dtype=bool)
    if groups is not None:
        names, code = np.unique(np.asarray(groups), return_inverse=True)
        if len(names) < 2:
            return everything, nothing
        wanted = fraction * n_samples
        for g in rng.permutation(len(names))[: len(names) - 1]:
            if held.sum() >= wanted:
                break
            held[code == g] = True
    elif labels is None:
        held[rng.permutation(n_samples)[: max(round(fraction * n_samples), 1)]] = True
    else:
        _, code = np.unique(np.asarray(labels), return_inverse=True)
        for c in range(code.max() + 1):
            rows = rng.permutation(np.flatnonzero(code == c))
            share = fraction * len(rows)
            count = int(share) + int(rng.random() < share - int(share))
            held[rows[: min(count, len(rows) - 1)]] = True
    if groups is not None and labels is not None:
        # A class that only held rows have could never be learned.
        labels = np.asarray(labels)
        lost = ~np.isin(labels, labels[~held])
        held &= ~lost
    return np.flatnonzero(~held), np.flatnonzero(held)
