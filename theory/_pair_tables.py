"""Counts over all pairs of specialists at once: a handful of matrix products instead of a loop over pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
# Counts in float32 are exact up to 2^24 samples, and its products take half the time.
_FLOAT32_EXACT = 1 << 24
# Above this many codes, labels are renumbered within each sample, where there are at most M of them.
_RELABEL = 32


@dataclass(frozen=True, eq=False)
class PairTable:
    """Counts of pairs, each (specialist, specialist); rows are specialist i.

    Attributes
    ----------
    n : ndarray
        Samples counted.
    right : ndarray
        Both right.
    left_wrong, right_wrong : ndarray
        Only i wrong; only j wrong.
    same, different : ndarray
        Both wrong with the same answer; both wrong otherwise (an abstention equals nothing).
    """

    n: Floats
    right: Floats
    left_wrong: Floats
    right_wrong: Floats
    same: Floats
    different: Floats

    @property
    def both_wrong(self) -> Floats:
        """Both wrong."""
        return self.same + self.different

    @property
    def wrong(self) -> Floats:
        """Share of samples on which i is wrong, among those counted for the pair."""
        return (self.left_wrong + self.both_wrong) / self.n

    def cells(self) -> tuple[Floats, ...]:
        """Return the five cells in the order of the influence functions."""
        return self.right, self.left_wrong, self.right_wrong, self.same, self.different


def product(left: Mask, right: Mask) -> Floats:
    """Count co-occurrences: left' right, exactly."""
    kind = np.float32 if len(left) < _FLOAT32_EXACT else np.float64
    a: NDArray[Any] = left.astype(kind)
    b: NDArray[Any] = a if right is left else right.astype(kind)
    return np.asarray(a.T @ b, dtype=np.float64)


def same_answers(answers: Ints) -> Floats:
    """Count samples on which both gave the same answer; -1 equals nothing."""
    codes = relabelled(answers) if int(answers.max(initial=0)) >= _RELABEL else answers
    total = np.zeros((answers.shape[1], answers.shape[1]))
    for k in range(int(codes.max(initial=-1)) + 1):
        said = codes == k
        total += product(said, said)
    return total


def relabelled(answers: Ints) -> Ints:
    """Renumber the answers of every sample 0, 1, ... in sorted order, so that few codes are in use."""
    order = np.argsort(answers, axis=1, kind="stable")
    ranked = np.take_along_axis(answers, order, axis=1)
    new = np.empty_like(ranked)
    new[:, 0] = np.where(ranked[:, 0] < 0, -1, 0)
    new[:, 1:] = (np.diff(ranked, axis=1) > 0).cumsum(axis=1) + new[:, :1]
    codes = np.empty_like(new)
    np.put_along_axis(codes, order, new, axis=1)
    return codes


def pair_table(answers: Ints, correct: Mask, counted: Mask | None, same: Floats | None = None) -> PairTable:
    """Count right and wrong answers of all pairs.

    Parameters
    ----------
    answers : ndarray of int, shape (sample, specialist)
        Codes, -1 = abstained.
    correct : ndarray of bool, same shape
        Who was right.
    counted : ndarray of bool or None
        Which answers count; None counts all of them, abstentions as wrong.
    same : ndarray, optional
        Result of `same_answers`, where it is at hand.
    """
    n, m = answers.shape
    right = product(correct, correct)
    if counted is None:
        total = np.full((m, m), float(n))
        alone = np.broadcast_to(correct.sum(axis=0).astype(np.float64), (m, m))
    else:
        total = product(counted, counted)
        alone = product(counted, correct)
    agree = same_answers(answers) if same is None else same
    left_wrong = alone - right
    both = total - right - left_wrong - left_wrong.T
    equal = agree - right
    return PairTable(total, right, left_wrong, left_wrong.T, equal, both - equal)


def influence_se(
    influence: tuple[Floats, ...], table: PairTable, groups: list[PairTable] | None, scale: Floats
) -> Floats:
    """Compute the standard error of a statistic from its influence in each of the five cells.

    Parameters
    ----------
    influence : tuple of five ndarrays
        Influence of a sample in each cell of `PairTable.cells`, mean 0.
    table : PairTable
        Counts of all samples.
    groups : list of PairTable or None
        Counts of every group, when samples come in groups.
    scale : ndarray
        What the sum over samples is divided by.
    """
    if groups is None:
        square = sum((c * f**2 for c, f in zip(table.cells(), influence, strict=True)), np.zeros_like(scale))
        return np.asarray(np.sqrt(square) / scale)
    square = np.zeros_like(scale)
    for group in groups:
        one = sum((c * f for c, f in zip(group.cells(), influence, strict=True)), np.zeros_like(scale))
        square += one**2
    return np.asarray(np.sqrt(square * len(groups) / (len(groups) - 1)) / scale)


def wilson(p: Floats, n: Floats, se: Floats, quantile: float) -> Floats:
    """Wilson interval of a share, with the samples that its standard error is worth."""
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(se > 0, p * (1.0 - p) / se**2, n)
        centre = (p + quantile**2 / (2.0 * size)) / (1.0 + quantile**2 / size)
        half = (
            quantile
            / (1.0 + quantile**2 / size)
            * np.sqrt(p * (1.0 - p) / size + quantile**2 / (4 * size**2))
        )
    return np.stack([np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)])
