"""What a critic looks at: a row per sample and option, or per sample and specialist."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.deliberative._reading import Bools, Floats, read_valid
from theory._exceptions import PanelError
from theory.panel import as_panel


def proposed_options(panel: Any, *, valid: Any = None) -> NDArray[np.int64]:
    """Say which option each specialist proposes.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Probabilities or votes; NaN or zero rows abstain.
    valid : array-like of bool, shape (..., output), or of int, shape (...), optional
        Which options exist.

    Returns
    -------
    ndarray of int64, shape (..., specialist)
        The most probable option; -1 for an abstention, which a flat row is too where there is a choice.

    Raises
    ------
    PanelError
        If the panel cannot be read.

    Notes
    -----
    Ties go to the first option, except that a row that is flat over all valid options names none.

    Examples
    --------
    >>> proposed_options([[0.2, 0.8], [0.5, 0.5]]).tolist()
    [1, -1]
    """
    values, _ = as_panel(panel)
    mask = read_valid(valid, values.shape[:-2], values.shape[-1])
    return _proposed(values, mask)


def _proposed(values: NDArray[Any], mask: Bools | None) -> NDArray[np.int64]:
    low = np.where(np.isnan(values), -np.inf, values)
    high = low
    if mask is not None:
        low = np.where(mask[..., None, :], low, -np.inf)
        high = np.where(mask[..., None, :], values, np.inf)
    first = low.argmax(axis=-1)
    top = low.max(axis=-1)
    n_options = values.shape[-1] if mask is None else mask.sum(axis=-1)[..., None]
    with np.errstate(invalid="ignore"):
        flat = ~(top > high.min(axis=-1)) & (n_options > 1)
    return np.asarray(np.where(flat | np.isneginf(top), -1, first), dtype=np.int64)


def skill_weights(accuracy: Any, n_options: Any) -> Floats:
    """Weight of one specialist's word: max(0, log(p (K - 1) / (1 - p))).

    Parameters
    ----------
    accuracy : array-like of shape (specialist,)
        Share of right answers, clipped to [.02, .98].
    n_options : array-like of int, shape (...)
        K, for each sample; with one option weights are 0.

    Returns
    -------
    ndarray of float64, shape (..., specialist)
        Weights.

    Raises
    ------
    PanelError
        If accuracies are not one finite number per specialist.

    Notes
    -----
    NaN is refused. Unlike `fusion.vote_weights`, K may differ between samples.

    References
    ----------
    Nitzan and Paroush (1982), Optimal decision rules in uncertain dichotomous choice situations, theorem 1.

    Examples
    --------
    >>> skill_weights([0.9, 0.2], [2, 4]).round(2)
    array([[2.2, 0. ],
           [3.3, 0. ]])
    """
    p = np.clip(np.asarray(accuracy, dtype=np.float64), 0.02, 0.98)
    if p.ndim != 1 or not np.isfinite(p).all():
        raise PanelError(f"accuracy must be one finite number per specialist; got shape {p.shape}.")
    others = np.maximum(np.asarray(n_options)[..., None] - 1, 0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(np.log(others * p / (1.0 - p)), 0.0))


def option_features(
    panel: Any, *, accuracy: Any, valid: Any = None, view: Any = None, block: int = 4096
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
    """Build a critic's rows about options: who stands for it, how many, how much, and what the critic sees.

    Parameters
    ----------
    panel : array-like, shape (sample, specialist, output)
        Sealed proposals: probabilities, votes, NaN or zero rows for abstentions.
    accuracy : array-like of shape (specialist,)
        Accuracy of each specialist on samples it was not fitted on.
    valid : array-like of bool, shape (sample, output), or of int, shape (sample,), optional
        Which options exist.
    view : array-like of shape (sample, feature), optional
        The critic's own view: repeated in every row of the sample.
    block : int
        Samples that are built at a time: beyond the result, memory stays below 64 MB.

    Returns
    -------
    rows : ndarray of float32, shape (row, feature)
        For each valid option: each specialist's probability of it (an indicator for votes), the number that
        proposes it, the sum of their `skill_weights`, that sum's share, K, then the view.
    sample, option : ndarray of int, shape (row,)
        Which sample and option a row is about.

    Raises
    ------
    PanelError
        If the panel, the accuracies or the view do not fit.

    Notes
    -----
    Abstentions have zeros everywhere. No column tells the code of an option, so relabelling the options changes
    nothing but the order of rows; an option that nobody proposed differs from others of its sample in nothing
    but the specialists' own probabilities.

    Examples
    --------
    >>> rows, sample, option = option_features([[[1, 0], [1, 0], [0, 1]]], accuracy=[0.7, 0.7, 0.7])
    >>> rows[:, :4].tolist(), sample.tolist(), option.tolist()
    ([[1.0, 1.0, 0.0, 2.0], [0.0, 0.0, 1.0, 1.0]], [0, 0], [0, 1])
    """
    values, mask = _table(panel, valid)
    n, m, k = values.shape
    own = _own_view(view, n)
    exists = np.ones((n, k), dtype=bool) if mask is None else mask
    sample, option = np.nonzero(exists)
    weights = skill_weights(accuracy, exists.sum(axis=1))
    if weights.shape[-1] != m:
        raise PanelError(f"accuracy must be one number per specialist ({m}); got {weights.shape[-1]}.")
    rows = np.empty((len(sample), m + 4 + own.shape[1]), dtype=np.float32)
    starts = np.searchsorted(sample, np.arange(0, n + block, block))
    for first, (begin, end) in zip(range(0, n, block), pairwise(starts), strict=False):
        here = slice(first, first + block)
        i, j = sample[begin:end] - first, option[begin:end]
        part = values[here]
        word = _proposed(part, None if mask is None else mask[here])
        stands = word[:, :, None] == np.arange(k)
        sums = np.einsum("nm,nmk->nk", weights[here], stands)
        total = sums.sum(axis=1, keepdims=True)
        rows[begin:end, :m] = np.nan_to_num(part[i, :, j])
        rows[begin:end, m] = stands.sum(axis=1)[i, j]
        rows[begin:end, m + 1] = sums[i, j]
        rows[begin:end, m + 2] = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0.0)[i, j]
        rows[begin:end, m + 3] = exists[here].sum(axis=1)[i]
        rows[begin:end, m + 4 :] = own[here][i]
    return rows, sample, option


def specialist_features(
    panel: Any, *, accuracy: Any, valid: Any = None, view: Any = None, cues: Any = None
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
    """Build a critic's rows about specialists: how each stands among its peers, and what the critic sees.

    Parameters
    ----------
    panel : array-like, shape (sample, specialist, output)
        Sealed proposals: probabilities, votes, NaN or zero rows for abstentions.
    accuracy : array-like of shape (specialist,)
        Accuracy of each specialist on samples it was not fitted on.
    valid : array-like of bool, shape (sample, output), or of int, shape (sample,), optional
        Which options exist.
    view : array-like of shape (sample, feature), optional
        The critic's own view.
    cues : array-like of shape (sample, specialist) or (sample, specialist, cue), optional
        How each behaved, such as the length of its text; the difference from the panel's mean is added.

    Returns
    -------
    rows : ndarray of float32, shape (row, feature)
        For each answer given: share of peers that propose the same option; their share of `skill_weights`;
        the strongest rival's share; own margin and entropy; mean distance from the panel's mean; cues, own and
        against the mean; the view; the specialist's code.
    sample, specialist : ndarray of int, shape (row,)
        Which sample and specialist a row is about; abstentions have none.

    Raises
    ------
    PanelError
        If the panel, the accuracies, the cues or the view do not fit.

    Notes
    -----
    A specialist alone has no peers and no rivals: zeros.

    Examples
    --------
    >>> rows, sample, who = specialist_features([[[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]], accuracy=[0.7, 0.7, 0.7])
    >>> rows[:, 0].tolist(), [round(float(margin), 1) for margin in rows[:, 3]]
    ([0.5, 0.5, 0.0], [0.8, 0.2, 0.6])
    """
    values, mask = _table(panel, valid)
    n, m, k = values.shape
    own = _own_view(view, n)
    word = _proposed(values, mask)
    spoke = word >= 0
    exists = np.ones((n, k), dtype=bool) if mask is None else mask
    weights = skill_weights(accuracy, exists.sum(axis=1)) * spoke
    stands = (word[:, :, None] == np.arange(k)).astype(np.float64)
    heads = stands.sum(axis=1)[:, None, :] - stands
    heavy = stands * weights[:, :, None]
    heavy = heavy.sum(axis=1)[:, None, :] - heavy
    columns = [_of_own(_shares(heads), word), _of_own(_shares(heavy), word), _rival(_shares(heads), word)]
    p = np.nan_to_num(values)
    ordered = np.sort(p, axis=2)
    columns.append(ordered[:, :, -1] - (ordered[:, :, -2] if k > 1 else 0.0))
    columns.append(-np.where(p > 0.0, p * np.log(np.where(p > 0.0, p, 1.0)), 0.0).sum(axis=2))
    centre = p.sum(axis=1) / np.maximum(spoke.sum(axis=1), 1)[:, None]
    columns.append(np.abs(p - centre[:, None, :]).sum(axis=2))
    if cues is not None:
        seen = np.asarray(cues, dtype=np.float64)
        seen = seen[:, :, None] if seen.ndim == 2 else seen
        if seen.shape[:2] != (n, m):
            raise PanelError(f"cues need the shape {(n, m)} (sample, specialist); got {seen.shape[:2]}.")
        for cue in np.moveaxis(seen, 2, 0):
            columns += [cue, cue - cue.mean(axis=1, keepdims=True)]
    sample, who = np.nonzero(spoke)
    rows = np.column_stack([column[sample, who] for column in columns] + [own[sample], who])
    return rows.astype(np.float32), sample, who


def _table(panel: Any, valid: Any) -> tuple[NDArray[Any], Bools | None]:
    values, _ = as_panel(panel)
    if values.ndim != 3:
        raise PanelError(f"a critic needs (sample, specialist, output); got shape {values.shape}.")
    if np.isinf(values).any():
        raise PanelError("the panel holds infinite answers; only rows of NaN can stand for abstentions.")
    return values, read_valid(valid, values.shape[:1], values.shape[2])


def _own_view(view: Any, n: int) -> Floats:
    if view is None:
        return np.zeros((n, 0))
    own = np.asarray(view, dtype=np.float64)
    own = own[:, None] if own.ndim == 1 else own
    if own.ndim != 2 or len(own) != n:
        raise PanelError(
            f"the view needs the shape ({n}, feature); got {own.shape}. Encode texts as numbers."
        )
    return own


def _shares(counts: Floats) -> Floats:
    total = counts.sum(axis=2, keepdims=True)
    return np.asarray(np.divide(counts, total, out=np.zeros_like(counts), where=total > 0.0))


def _of_own(shares: Floats, word: NDArray[np.int64]) -> Floats:
    return np.take_along_axis(shares, np.maximum(word, 0)[:, :, None], axis=2)[:, :, 0]


def _rival(shares: Floats, word: NDArray[np.int64]) -> Floats:
    rivals = shares.copy()
    np.put_along_axis(rivals, np.maximum(word, 0)[:, :, None], 0.0, axis=2)
    return np.asarray(rivals.max(axis=2))
