"""Cluster labels, and how a cluster's price is made and split."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def read_clusters(clusters: Any, n_specialists: int) -> Ints:
    """Read cluster labels, one per specialist, as codes by first appearance."""
    values = np.asarray(getattr(clusters, "labels", clusters))
    if values.shape != (n_specialists,):
        raise PanelError(
            f"clusters must be one label per specialist ({n_specialists}); got shape {values.shape}. "
            "find_clones(errors) makes them, or give the owner of every specialist."
        )
    _, first, codes = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[codes])


def cluster_shares(codes: Ints) -> Floats:
    """Matrix (cluster, specialist) that averages the members of every cluster."""
    shares = (codes[None, :] == np.arange(int(codes.max()) + 1)[:, None]).astype(np.float64)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def split_weights(codes: Ints, split: str) -> Floats:
    """Matrix (cluster, specialist) that hands a cluster's price to its members."""
    if split == "equal":
        return cluster_shares(codes)
    first = np.zeros((int(codes.max()) + 1, len(codes)))
    for cluster in range(len(first)):
        first[cluster, int(np.flatnonzero(codes == cluster)[0])] = 1.0
    return first
