"""Sequences of different lengths, one per sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError


class Ragged:
    """Sequences of different lengths, stored one behind the other.

    Parameters
    ----------
    values : array-like of shape (total_tokens, feature)
        All tokens.
    offsets : array-like of int of shape (sample + 1,)
        Sample i holds tokens ``offsets[i]`` to ``offsets[i + 1] - 1``; 0 first, sorted, the number of tokens last.

    Attributes
    ----------
    shape : tuple of int
        Number of samples and of features; cut along samples like an array.

    Raises
    ------
    PanelError
        If the offsets do not fit the values.

    Notes
    -----
    A sample without tokens is an absent view.

    Examples
    --------
    >>> r = Ragged.from_list([[[1.0], [2.0]], [], [[3.0]]])
    >>> len(r), r[0].tolist(), r.lengths.tolist()
    (3, [[1.0], [2.0]], [2, 0, 1])
    >>> r[[2, 0]].values.ravel().tolist()
    [3.0, 1.0, 2.0]
    """

    ndim = 2

    def __init__(self, values: Any, offsets: Any):
        self.values: NDArray[Any] = np.asarray(values)
        bounds = np.asarray(offsets)
        if self.values.ndim != 2:
            raise PanelError(f"values of a Ragged are (token, feature); got shape {self.values.shape}.")
        if bounds.ndim != 1 or bounds.dtype.kind not in "iu" or len(bounds) == 0:
            raise PanelError(
                f"offsets are integers, one more than samples; got {bounds.dtype} {bounds.shape}."
            )
        self.offsets: NDArray[np.int64] = bounds.astype(np.int64)
        steps = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.values) or (steps < 0).any():
            raise PanelError(
                f"offsets start at 0, never fall and end at {len(self.values)}; got {self.offsets[0]} to "
                f"{self.offsets[-1]}" + (", falling." if (steps < 0).any() else ".")
            )
        self.shape = (len(self.offsets) - 1, int(self.values.shape[1]))

    @classmethod
    def from_list(cls, sequences: Iterable[Any], *, n_features: int | None = None) -> Ragged:
        """Join sequences.

        Parameters
        ----------
        sequences : iterable of array-like of shape (token, feature)
            One per sample; None or empty is an absent view.
        n_features : int, optional
            Features, needed only if no sequence has a token.

        Returns
        -------
        Ragged

        Raises
        ------
        PanelError
            If sequences differ in features.
        """
        parts = [None if part is None or len(part) == 0 else np.asarray(part) for part in sequences]
        full = [part for part in parts if part is not None]
        for i, part in enumerate(parts):
            if part is not None and (part.ndim != 2 or part.shape[1] != full[0].shape[1]):
                raise PanelError(
                    f"sequence {i} has shape {part.shape}; needed (token, {full[0].shape[-1]}) like the first."
                )
        if not full and n_features is None:
            raise PanelError("no sequence has a token; say n_features.")
        values = np.concatenate(full) if full else np.zeros((0, n_features or 0))
        return cls(values, np.cumsum([0, *(0 if part is None else len(part) for part in parts)]))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sample."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self.values[lo:hi] for lo, hi in zip(self.offsets, self.offsets[1:], strict=False))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, np.integer)):
            if not -len(self) <= key < len(self):
                raise IndexError(f"sample {key} of {len(self)}")
            i = int(key) % len(self)
            return self.values[self.offsets[i] : self.offsets[i + 1]]
        if isinstance(key, slice):
            return self.take(np.arange(len(self))[key])
        rows = np.asarray(key)
        if rows.dtype.kind == "b":
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of shape {rows.shape} for {len(self)} samples")
            rows = np.flatnonzero(rows)
        return self.take(rows)

    def take(self, indices: Any, axis: int = 0) -> Ragged:
        """Take some samples.

        Parameters
        ----------
        indices : array-like of int
            Positions.
        axis : int, default 0
            Samples only.

        Returns
        -------
        Ragged

        Raises
        ------
        PanelError
            If another axis is asked for.
        """
        if axis != 0:
            raise PanelError("a Ragged is cut along samples only (axis 0).")
        rows = np.asarray(indices, dtype=np.int64) if len(indices) else np.zeros(0, dtype=np.int64)
        if len(rows) and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"samples {rows.min()} to {rows.max()} of {len(self)}")
        rows = np.where(rows < 0, rows + len(self), rows)
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(self.values[np.repeat(self.offsets[:-1][rows], lengths) + within], offsets)

    def copy(self) -> Ragged:
        """Copy values and offsets.

        Returns
        -------
        Ragged
        """
        return Ragged(self.values.copy(), self.offsets.copy())

    def pad(self, length: int | None = None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Give one rectangular array.

        Parameters
        ----------
        length : int, optional
            Tokens of each sample; the longest unless given, at least 1.

        Returns
        -------
        values : ndarray of shape (sample, token, feature)
            0 behind the end.
        padding : ndarray of bool of shape (sample, token)
            True behind the end.

        Raises
        ------
        PanelError
            If a sequence is longer.
        """
        longest = int(self.lengths.max(initial=0))
        length = max(longest, 1) if length is None else length
        if longest > length:
            raise PanelError(f"the longest sequence has {longest} tokens; length={length}.")
        padding = np.arange(length) >= self.lengths[:, None]
        padded = np.zeros((*padding.shape, self.shape[1]), dtype=self.values.dtype)
        padded[~padding] = self.values
        return padded, padding

    def __repr__(self) -> str:
        lengths = self.lengths
        span = f"{lengths.min()} to {lengths.max()}" if len(lengths) else "no"
        return f"Ragged({len(self)} samples, {span} tokens of {self.shape[1]} features)"


def pool_ragged(ragged: Ragged, *, n_segments: int = 5) -> NDArray[np.float64]:
    """Summarise each sequence by a vector of fixed length.

    Parameters
    ----------
    ragged : Ragged
        Sequences of d features.
    n_segments : int, default 5
        Segments as even as possible, the longer ones first, whose means are taken.

    Returns
    -------
    ndarray of shape (sample, (2 + n_segments) * d + 1), float64
        Mean, population standard deviation, mean of each segment, number of tokens. A segment without tokens, of
        a sequence shorter than `n_segments`, has the mean of the sequence. A sequence without tokens
        gives a row of NaN: an absent view.

    Raises
    ------
    PanelError
        If `n_segments` is negative.

    Notes
    -----
    Sums are differences of float64 prefix sums of centred values: ``np.add.reduceat`` gives the next row for an
    empty segment.

    Examples
    --------
    >>> pool_ragged(Ragged.from_list([[[1.0], [3.0]]]), n_segments=2).tolist()
    [[2.0, 1.0, 1.0, 3.0, 2.0]]
    """
    if n_segments < 0:
        raise PanelError(f"n_segments is 0 or more; got {n_segments}.")
    values = ragged.values.astype(np.float64)
    n, d = ragged.shape
    if n == 0:
        return np.zeros((0, (2 + n_segments) * d + 1))
    starts, lengths = ragged.offsets[:-1], ragged.lengths
    safe = np.maximum(lengths, 1)[:, None]
    middle = values.mean(axis=0) if len(values) else np.zeros(d)
    prefix = np.concatenate([np.zeros((1, d)), np.cumsum(values - middle, axis=0)])
    mean = (prefix[starts + lengths] - prefix[starts]) / safe
    residual = values - middle - np.repeat(mean, lengths, axis=0)
    squares = np.concatenate([np.zeros((1, d)), np.cumsum(residual**2, axis=0)])
    spread = np.sqrt(np.maximum((squares[starts + lengths] - squares[starts]) / safe, 0.0))
    parts = [mean + middle, spread]
    for s in range(n_segments):  # the cuts of np.array_split
        size, extra = lengths // n_segments, lengths % n_segments
        lo = starts + s * size + np.minimum(s, extra)
        hi = lo + size + (s < extra)
        count = (hi - lo)[:, None]
        segment = (prefix[hi] - prefix[lo]) / np.maximum(count, 1)
        parts.append(np.where(count > 0, segment, mean) + middle)
    pooled = np.concatenate([*parts, lengths[:, None].astype(np.float64)], axis=1)
    pooled[lengths == 0] = np.nan
    return pooled
