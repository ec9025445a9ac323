"""Moments of a table of errors, pair by pair where answers are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import ErrorTable, read_sample_weight
from theory._exceptions import PanelError
from theory._shrinkage import shrink_matrix

Floats = NDArray[np.float64]

_BLOCK = 1_000_000  # numbers copied at a time into the layout of a matrix product


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of a table, pair by pair where answers are missing."""

    centred: Floats
    matrix: Floats
    mean: Floats
    n_pair: NDArray[np.int64] | None
    counts: Floats
    weight: Floats | None
    n_eff: float

    @property
    def n_eff_pair(self) -> Floats:
        """Effective number of samples of every pair."""
        return self.counts * (self.n_eff / len(self.centred))

    def fourth(self) -> Floats:
        """Mean of (sum_o e_io e_jo)^2 over the samples of each pair."""
        e = self.centred
        if e.shape[2] == 1:
            square = e[:, :, 0] ** 2
            return (square.T @ _times(square, self.weight)) / self.counts
        out = np.zeros_like(self.matrix)
        for start, block, u in _inner(e):
            out += np.tensordot(_ones(self.weight, len(block), start), u * u, axes=1)
        return out / self.counts

    def third(self) -> Floats:
        """Mean of (sum_o e_io^2)(sum_o e_io e_jo) over the samples of each pair, rows i."""
        e = self.centred
        if e.shape[2] == 1:
            flat = e[:, :, 0]
            return ((flat * flat * flat).T @ _times(flat, self.weight)) / self.counts
        out = np.zeros_like(self.matrix)
        for start, block, u in _inner(e):
            own = np.einsum("nii->ni", u)
            out += np.tensordot(_ones(self.weight, len(block), start), own[:, :, None] * u, axes=1)
        return out / self.counts


def _inner(e: Floats) -> Any:
    """Yield blocks of per-sample inner products: they stay in the cache, and memory near 1 MB."""
    m = e.shape[1]
    step = max(1, 100_000 // (m * m))
    for start in range(0, len(e), step):
        block = e[start : start + step]
        yield start, block, np.matmul(block, block.transpose(0, 2, 1))  # einsum takes ten times as long


def _ones(weight: Floats | None, length: int, start: int) -> Floats:
    return np.ones(length) if weight is None else weight[start : start + length]


def _times(values: Floats, weight: Floats | None) -> Floats:
    return values if weight is None else values * weight[:, None]


def kept(values: ArrayLike, table: ErrorTable) -> NDArray[Any]:
    """Keep the entries of the samples that were kept."""
    array = np.asarray(values)
    if table.kept is None:
        return array
    if array.shape != table.kept.shape:
        raise PanelError(f"one entry per sample is needed ({len(table.kept)}); got shape {array.shape}.")
    return array[table.kept]


def kept_weight(sample_weight: ArrayLike | None, table: ErrorTable) -> Floats | None:
    """Read sample weights of the samples that were kept."""
    if sample_weight is None:
        return None
    return read_sample_weight(kept(sample_weight, table), table.n)


def decayed_weight(
    sample_weight: ArrayLike | None, halflife: float | None, table: ErrorTable
) -> Floats | None:
    """Read sample weights and let them halve every `halflife` samples back from the last one."""
    if halflife is None:
        return kept_weight(sample_weight, table)
    if not (np.isfinite(halflife) and halflife > 0):
        raise PanelError(f"halflife is a number of samples > 0; got {halflife!r}.")
    n = table.n if table.kept is None else len(table.kept)
    fading = 2.0 ** (-np.arange(n - 1, -1, -1, dtype=np.float64) / halflife)
    given = read_sample_weight(sample_weight, n)
    return kept_weight(fading if given is None else fading * given, table)


def moments_of(table: ErrorTable, weight: Floats | None, *, center: bool) -> Moments:
    """Compute the mean and the second moments of a table, centred or not."""
    e, answered, n = table.values, table.answered, table.n
    n_eff = float(n) if weight is None else float(n * n / np.sum(weight**2))
    mask = None if answered is None else answered.astype(np.float64)
    if mask is None:
        mean = np.einsum("nio->io", _times3(e, weight)) / n
        counts = np.full((e.shape[1], e.shape[1]), float(n))
        n_pair = None
    else:
        counts = mask.T @ _times(mask, weight)
        n_pair = np.rint(mask.T @ mask).astype(np.int64)
        if (counts <= 0).any() or (n_pair < 2).any():
            i, j = np.argwhere((counts <= 0) | (n_pair < 2))[0]
            raise PanelError(
                f"specialists {table.names[i]!r} and {table.names[j]!r} share {n_pair[i, j]} answered "
                "samples; at least 2 are needed. Drop one of them, or give more samples."
            )
        mean = np.einsum("nio->io", _times3(e, weight)) / counts.diagonal()[:, None]
    centred = _centred(e, mean, mask) if center else e
    matrix = np.zeros_like(counts)
    step = max(1, _BLOCK // centred[0].size)
    for start in range(0, n, step):  # a copy of the whole table would take as much memory again
        block = np.ascontiguousarray(np.moveaxis(centred[start : start + step], 1, 2))
        flat = block.reshape(-1, e.shape[1])
        part = None if weight is None else np.repeat(weight[start : start + step], e.shape[2])
        matrix += flat.T @ _times(flat, part)
    matrix /= counts
    return Moments(centred, (matrix + matrix.T) / 2.0, mean, n_pair, counts, weight, n_eff)


def _centred(e: Floats, mean: Floats, mask: Floats | None) -> Floats:
    """Subtract the means; errors that never vary become exact zeros.

    A long sum leaves up to 1e-11 of a constant after its mean is taken off. Scaled to variance 1, that
    rounding would be a correlation.
    """
    centred = e - mean[None]
    if mask is not None:
        centred *= mask[:, :, None]
    small = np.einsum("nio,nio->io", centred, centred) <= 1e-16 * len(e) * mean**2
    for i, o in np.argwhere(small & (mean != 0.0)):
        said = slice(None) if mask is None else mask[:, i] > 0.0
        column = e[said, i, o]
        if np.ptp(column) <= 4.0 * np.finfo(np.float64).eps * abs(float(mean[i, o])):
            centred[said, i, o] = 0.0
    return centred


def _times3(values: Floats, weight: Floats | None) -> Floats:
    return values if weight is None else values * weight[:, None, None]


def shrunk_matrix(moments: Moments, shrink: str | float | None) -> tuple[Floats, float, list[str]]:
    """Shrink, then repair the matrix if missing answers left it indefinite."""
    n = float(np.mean(moments.n_eff_pair))
    needs = shrink is not None and not isinstance(shrink, int | float | np.number)
    value, amount = shrink_matrix(
        moments.matrix,
        n,
        shrink,
        fourth=moments.fourth() if needs else None,
        third=moments.third() if shrink == "constant_correlation" else None,
    )
    notes: list[str] = []
    if moments.n_pair is not None:
        eigenvalues, vectors = np.linalg.eigh(value)
        if eigenvalues[0] < -1e-12 * max(float(np.trace(value)), np.finfo(float).tiny):
            clipped = (vectors * np.maximum(eigenvalues, 0.0)) @ vectors.T
            own = np.maximum(clipped.diagonal(), np.finfo(float).tiny)
            restore = np.sqrt(value.diagonal() / own)
            value = clipped * restore[:, None] * restore[None, :]
            notes.append(
                f"pairwise counts gave an indefinite matrix (smallest eigenvalue {eigenvalues[0]:.3g}); "
                "negative eigenvalues were set to 0 and the diagonal restored"
            )
    return value, amount, notes


def standardise(matrix: Floats) -> Floats:
    """Turn a covariance into a correlation; NaN where the variance is zero."""
    variance = matrix.diagonal()
    # Rounding leaves about 1e-32 of a constant's variance; 1e-28 of the largest is still noise.
    flat = variance <= 1e-28 * max(float(variance.max()), np.finfo(float).tiny)
    scale = np.sqrt(np.where(flat, np.nan, variance))
    value = np.clip(matrix / scale[:, None] / scale[None, :], -1.0, 1.0)
    np.fill_diagonal(value, np.where(flat, np.nan, 1.0))
    result: Floats = value
    return result


def mean_correlations(matrix: Floats) -> tuple[float, float, list[str]]:
    """Return the pooled and the mean correlation of a matrix, and warnings."""
    m = len(matrix)
    if m < 2:
        return float("nan"), float("nan"), ["one specialist has no pair: mean correlations are NaN"]
    trace = float(np.trace(matrix))
    off = (float(matrix.sum()) - trace) / (m * (m - 1))
    pooled = off / (trace / m) if trace > 0 else float("nan")
    pairs = standardise(matrix)[np.triu_indices(m, 1)]
    known = ~np.isnan(pairs)
    return pooled, float(pairs[known].mean()) if known.any() else float("nan"), []


def missing_notes(table: ErrorTable) -> list[str]:
    """Say what missing answers did to a table."""
    notes = []
    if table.dropped:
        notes.append(
            f"{table.dropped} of {table.dropped + table.n} samples were left out: not all answered them"
        )
    if table.answered is not None:
        share = 1.0 - float(table.answered.mean())
        notes.append(
            f"{share:.1%} of the answers are missing; entries use the samples both answered, and are biased "
            "if answers are missing because samples are hard"
        )
    return notes
