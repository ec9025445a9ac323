"""Influence functions: how much each sample moves a correlation, hence its standard error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def standard_error(psi: Floats, weight: Floats | None, group: NDArray[np.int64] | None) -> float:
    """Return the standard error of a mean whose samples have influence psi, shape (sample,)."""
    psi = psi if weight is None else psi * weight
    n = len(psi)
    if group is None:
        return float(np.sqrt(np.sum(psi**2)) / n)
    sums = np.bincount(group, weights=psi)
    g = len(sums)
    return float(np.sqrt(np.sum(sums**2) * g / (g - 1)) / n)


def correlation_interval(r: Floats, se: Floats, quantile: float) -> Floats:
    """Interval of a correlation on the scale of atanh; a perfect correlation has no width.

    Parameters
    ----------
    r : ndarray
        Correlations.
    se : ndarray, same shape
        Standard errors.
    quantile : float
        Normal quantile, 1.96 for 95 %.

    Returns
    -------
    ndarray of shape (2, ...)
        Lower and upper ends.

    Examples
    --------
    >>> import numpy as np
    >>> correlation_interval(np.array(0.5), np.array(0.05), 1.96).round(3)
    array([0.396, 0.592])
    """
    perfect = np.abs(r) >= 1.0 - 1e-12
    inner = np.where(perfect, 0.0, r)
    half = quantile * se / (1.0 - inner**2)
    centre = np.arctanh(inner)
    out = np.stack([np.tanh(centre - half), np.tanh(centre + half)])
    result: Floats = np.where(perfect, np.sign(r), out)
    return result


def correlation_se(
    z: Floats,
    r: Floats,
    answered: Mask | None,
    weight: Floats | None,
    group: NDArray[np.int64] | None,
) -> Floats:
    """Compute the standard errors of all pairwise correlations.

    Parameters
    ----------
    z : ndarray of shape (sample, specialist, output)
        Standardised errors, zero where a specialist did not answer.
    r : ndarray of shape (specialist, specialist)
        Correlations.
    answered : ndarray of bool or None
        Who answered, (sample, specialist).
    weight : ndarray or None
        Weights of samples with mean 1.
    group : ndarray of int or None
        Group of every sample.
    """
    known = np.nan_to_num(r, nan=0.0)
    if z.shape[2] == 1 and weight is None and group is None:
        return _by_products(z[:, :, 0], known, answered)
    return _by_blocks(z, known, answered, weight, group)


def _by_products(z: Floats, r: Floats, answered: Mask | None) -> Floats:
    """Expand the square of the influence into moments, each one matrix product."""
    n = len(z)
    square = z**2
    if answered is None:
        m22 = (square.T @ square) / n
        m31 = ((square * z).T @ z) / n
        m4 = m22.diagonal()
        variance = m22 - r * (m31 + m31.T) + r**2 / 4.0 * (m4[:, None] + 2.0 * m22 + m4[None, :])
        return np.asarray(np.sqrt(np.maximum(variance, 0.0) / n))
    mask = answered.astype(np.float64)
    counts = mask.T @ mask
    share = counts / n
    own = share.diagonal()
    m22 = (square.T @ square) / counts
    m31 = ((square * z).T @ z) / counts
    m20 = (square.T @ mask) / counts
    m4 = m22.diagonal()
    # psi = a - r/2 (b_i + b_j), a = O_i O_j (z_i z_j - r)/p_ij, b_i = O_i (z_i^2 - 1)/p_i
    aa = (m22 - r**2) / share
    bb = (m4 - 1.0) / own
    ab = (m31 - r - r * m20 + r) / own[:, None]
    cross = share * (m22 - m20 - m20.T + 1.0) / (own[:, None] * own[None, :])
    variance = aa - r * (ab + ab.T) + r**2 / 4.0 * (bb[:, None] + bb[None, :] + 2.0 * cross)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0) / n))


def _by_blocks(
    z: Floats, r: Floats, answered: Mask | None, weight: Floats | None, group: NDArray[np.int64] | None
) -> Floats:
    n, m, _ = z.shape
    w = np.ones(n) if weight is None else weight
    mask = np.ones((n, m)) if answered is None else answered.astype(np.float64)
    share = (mask.T @ (mask * w[:, None])) / n
    own = share.diagonal()
    order = np.arange(n) if group is None else np.argsort(group, kind="stable")
    codes = order if group is None else group[order]
    total = np.zeros((m, m))
    n_groups = n if group is None else int(codes[-1]) + 1
    for block in _whole_groups(codes, max(1, 100_000 // (m * m))):
        rows = order[block]
        zb, ob, wb = z[rows], mask[rows], w[rows]
        u = np.matmul(zb, zb.transpose(0, 2, 1))
        b = (np.einsum("nii->ni", u) - ob) / own
        both = ob[:, :, None] * ob[:, None, :]
        psi = (u - r * both) / share - r / 2.0 * (b[:, :, None] + b[:, None, :])
        psi *= wb[:, None, None]
        if group is not None:
            starts = np.flatnonzero(np.diff(codes[block], prepend=-1))
            psi = np.add.reduceat(psi, starts, axis=0)
        total += np.einsum("nij,nij->ij", psi, psi)
    factor = 1.0 if group is None else n_groups / (n_groups - 1)
    return np.asarray(np.sqrt(total * factor) / n)


def _whole_groups(codes: NDArray[np.int64], step: int) -> Iterator[slice]:
    """Cut sorted samples into blocks that never split a group."""
    start, n = 0, len(codes)
    while start < n:
        stop = min(n, start + step)
        while stop < n and codes[stop] == codes[stop - 1]:
            stop += 1
        yield slice(start, stop)
        start = stop


def correlation_influence(
    z: Floats, r: Floats, centred: Floats, matrix: Floats, answered: Mask | None, weight: Floats | None
) -> tuple[Floats, Floats]:
    """Influence of every sample on the mean correlation and on the pooled one, shape (sample,) each."""
    n, m, _ = z.shape
    if m < 2:
        return np.full(n, np.nan), np.full(n, np.nan)
    mask = np.ones((n, m)) if answered is None else answered.astype(np.float64)
    w = np.ones(n) if weight is None else weight
    share = (mask.T @ (mask * w[:, None])) / n
    off = 1.0 / share
    np.fill_diagonal(off, 0.0)
    known = np.isfinite(r)
    n_pairs = max(int(known.sum() - known.diagonal().sum()), 1)
    clean = np.where(known, r, 0.0)
    np.fill_diagonal(clean, 0.0)
    own = share.diagonal()

    pairs = _quadratic(z, np.where(known, off, 0.0)) - _quadratic(mask[:, :, None], off * clean)
    b = (np.einsum("nio,nio->ni", z, z) - mask) / own
    psi_mean = (pairs - b @ clean.sum(axis=1)) / n_pairs

    vbar = float(np.trace(matrix)) / m
    if vbar <= 0.0:
        return psi_mean, np.full(n, np.nan)
    covariance = matrix.copy()
    np.fill_diagonal(covariance, 0.0)
    pooled = float(covariance.sum()) / (m * (m - 1)) / vbar
    c = (_quadratic(centred, off) - _quadratic(mask[:, :, None], off * covariance)) / (m * (m - 1))
    v = ((np.einsum("nio,nio->ni", centred, centred) - mask * matrix.diagonal()) / own).mean(axis=1)
    return psi_mean, (c - pooled * v) / vbar


def _quadratic(x: Floats, a: Floats) -> Floats:
    """Sum over outputs of x' A x for every sample."""
    total = np.zeros(len(x))
    for flat in np.moveaxis(x, 2, 0):
        total += np.einsum("ni,ni->n", flat @ a, flat)
    return total
