"""What a group made of its members: scores of collective decisions, each with its standard error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import read_sample_weight, read_truth
from theory._exceptions import PanelError

Floats = NDArray[np.float64]
_BINS = 10


@dataclass(frozen=True)
class Score:
    """One number about a group's decisions.

    Attributes
    ----------
    value : float
        NaN where no sample bears on it.
    standard_error : float
        Of the value over samples; NaN where there is none.
    n : int
        Samples that bear on it.
    details : dict
        What stands beside it.
    """

    value: float
    standard_error: float
    n: int
    details: dict[str, Any] = field(default_factory=dict)


def group_accuracy(
    labels: ArrayLike,
    y: ArrayLike,
    *,
    against: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> Score:
    """Share of right decisions, or its paired difference from another rule's.

    Parameters
    ----------
    labels : array-like of int, shape (sample,)
        Decisions; -1 abstains and counts as not right.
    y : array-like of int, shape (sample,)
        Truth.
    against : array-like of int, shape (sample,), optional
        Another rule's decisions: the value is then the difference, with its paired standard error.
    sample_weight : array-like of shape (sample,), optional
        Weights.

    Returns
    -------
    Score
        ``details["coverage"]`` is the share of samples decided.

    Raises
    ------
    PanelError
        If shapes do not fit.

    Examples
    --------
    >>> score = group_accuracy([0, 1, -1, 1], [0, 1, 1, 0])
    >>> score.value, score.details["coverage"]
    (0.5, 0.75)
    """
    said, truth = _labels(labels, y)
    right = (said == truth).astype(np.float64)
    if against is not None:
        right = right - (_labels(against, y)[0] == truth)
    weight = read_sample_weight(sample_weight, len(truth))
    return _mean(right, weight, {"coverage": _mean((said >= 0).astype(float), weight, {}).value})


def calibration(
    verdict: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    seed: int = 0,
    n_draws: int = 200,
) -> Score:
    """Log loss of a verdict, with Brier score, expected calibration error and the floor of its noise.

    Parameters
    ----------
    verdict : array-like of shape (sample, output)
        Probabilities.
    y : array-like of int, shape (sample,)
        Truth.
    sample_weight : array-like of shape (sample,), optional
        Weights.
    seed : int
        Of the draws behind the noise floor.
    n_draws : int
        Truths drawn from the verdict itself: what a perfectly calibrated judge shows.

    Returns
    -------
    Score
        The value is the mean log loss (floor 1e-6); details hold ``brier``, ``ece`` (10 bins of the largest
        probability), ``ece_floor`` (mean of a perfect judge) and ``ece_floor_95``.

    Raises
    ------
    PanelError
        If shapes do not fit or rows are no probabilities.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, equation 3.

    Examples
    --------
    >>> score = calibration([[0.8, 0.2], [0.4, 0.6]], [0, 1])
    >>> round(score.value, 3), round(score.details["brier"], 3)
    (0.367, 0.2)
    """
    p, truth = _probabilities(verdict, y)
    weight = read_sample_weight(sample_weight, len(truth))
    rows = np.arange(len(truth))
    loss = -np.log(np.maximum(p[rows, truth], 1e-6))
    brier = (p**2).sum(axis=1) - 2.0 * p[rows, truth] + 1.0
    top, first = p.max(axis=1), p.argmax(axis=1)
    share = np.ones(len(truth)) if weight is None else weight
    bins = np.minimum((top * _BINS).astype(int), _BINS - 1)
    rng = np.random.default_rng(seed)
    floor = [_ece(top, rng.random(len(top)) < top, bins, share) for _ in range(n_draws)]
    details = {
        "brier": _mean(brier, weight, {}).value,
        "ece": _ece(top, first == truth, bins, share),
        "ece_floor": float(np.mean(floor)),
        "ece_floor_95": float(np.quantile(floor, 0.95)),
    }
    return _mean(loss, weight, details)


def hypothesis_diversity(panel: ArrayLike, *, sample_weight: ArrayLike | None = None) -> Score:
    """How far members hold different opinions: 0 for one opinion, 1 for as many as there can be.

    Parameters
    ----------
    panel : array-like of shape (sample, specialist, output)
        Probabilities; NaN rows abstain.
    sample_weight : array-like of shape (sample,), optional
        Weights.

    Returns
    -------
    Score
        Mean of [H(mean P_i) - mean H(P_i)] / log min(m, K); ``details["distinct"]`` is the mean number of
        different first choices.

    Raises
    ------
    PanelError
        If the panel has no three axes.

    Notes
    -----
    Samples without an answer are left out. NaN rows are abstentions.

    Examples
    --------
    >>> score = hypothesis_diversity([[[1, 0], [0, 1]], [[1, 0], [1, 0]]])
    >>> score.value, score.details["distinct"]
    (0.5, 1.5)
    """
    values = np.asarray(panel, dtype=np.float64)
    if values.ndim != 3:
        raise PanelError(f"panel needs the axes (sample, specialist, output); got shape {values.shape}.")
    weight = read_sample_weight(sample_weight, len(values))
    spoke = np.asarray(~np.isnan(values).any(axis=2))
    p = np.where(spoke[:, :, None], values, 0.0)
    heads = spoke.sum(axis=1)
    kept = heads > 0
    mean = p.sum(axis=1) / np.maximum(heads, 1)[:, None]
    own = (_entropy(p) * spoke).sum(axis=1) / np.maximum(heads, 1)
    limit = np.log(max(min(values.shape[1:]), 2))
    spread = np.maximum(_entropy(mean) - own, 0.0) / limit
    stands = (p.argmax(axis=2)[:, :, None] == np.arange(values.shape[2])) & spoke[:, :, None]
    distinct = stands.any(axis=1).sum(axis=1).astype(np.float64)
    part = None if weight is None else weight[kept]
    return _mean(spread[kept], part, {"distinct": _mean(distinct[kept], part, {}).value})


def conflict_resolution(
    proposals: ArrayLike,
    labels: ArrayLike,
    y: ArrayLike,
    *,
    plurality: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> Score:
    """Share of right decisions where members named different options at first.

    Parameters
    ----------
    proposals : array-like of int, shape (sample, specialist)
        Sealed first choices; -1 abstains.
    labels : array-like of int, shape (sample,)
        Decisions; -1 abstains.
    y : array-like of int, shape (sample,)
        Truth.
    plurality : array-like of int, shape (sample,), optional
        Decisions to compare with; the plurality of the proposals, lowest code on ties, by default.
    sample_weight : array-like of shape (sample,), optional
        Weights.

    Returns
    -------
    Score
        Details: ``plurality``, the same share of the plurality; ``rescue``, P(right | plurality wrong, somebody
        right); ``harm``, P(wrong | plurality right), both over all samples.

    Raises
    ------
    PanelError
        If shapes do not fit.

    Examples
    --------
    >>> score = conflict_resolution([[0, 0, 1], [1, 1, 1]], [1, 1], [1, 1])
    >>> score.value, score.details["plurality"], score.details["rescue"]
    (1.0, 0.0, 1.0)
    """
    said, truth = _labels(labels, y)
    words = _words(proposals, len(truth))
    weight = read_sample_weight(sample_weight, len(truth))
    most = _plurality(words) if plurality is None else _labels(plurality, y)[0]
    low = np.where(words < 0, np.iinfo(np.int64).max, words).min(axis=1)
    fought = words.max(axis=1) > low
    right, crowd = said == truth, most == truth
    somebody = (words == truth[:, None]).any(axis=1)

    def share(event: NDArray[np.bool_], among: NDArray[np.bool_]) -> Score:
        return _mean(event[among].astype(np.float64), None if weight is None else weight[among], {})

    score = share(right, fought)
    details = {
        "plurality": share(crowd, fought).value,
        "rescue": share(right, ~crowd & somebody).value,
        "harm": share(~right, crowd).value,
    }
    return Score(score.value, score.standard_error, score.n, details)


def herding_index(
    before: ArrayLike, after: ArrayLike, y: ArrayLike, *, influence: ArrayLike | None = None
) -> Score:
    """How much independence was lost between two rounds.

    Parameters
    ----------
    before, after : array-like of int, shape (sample, specialist)
        First choices; -1 abstains.
    y : array-like of int, shape (sample,)
        Truth.
    influence : array-like of shape (specialist, specialist_), optional
        Total influence V; see `fusion.deliberative.total_influence`.

    Returns
    -------
    Score
        1 - N_eff(after) / N_eff(before), N_eff = m^2 / sum R of the errors, with a jackknife standard error
        over ten blocks. Details: ``largest_influence`` max_j mean_i V_ij in [1/m, 1] (None without V),
        ``right_to_wrong``, ``wrong_to_right``, shares of all answers.

    Raises
    ------
    PanelError
        If shapes do not fit.

    Notes
    -----
    Specialists that are always right, or always wrong, correlate with nobody. An abstention is not right.

    Examples
    --------
    >>> herding_index([[0, 1], [1, 0], [1, 1], [0, 0]], [[0, 0], [1, 1], [1, 1], [0, 0]], [1, 1, 1, 1]).value
    0.5
    """
    first = np.asarray(before)
    truth = read_truth(y, len(first))
    words, later = _words(before, len(truth)), _words(after, len(truth))
    if words.shape != later.shape:
        raise PanelError(f"before and after must have one shape; got {words.shape} and {later.shape}.")
    wrong, still = words != truth[:, None], later != truth[:, None]

    def index(kept: NDArray[np.bool_]) -> float:
        return 1.0 - _effective(still[kept]) / _effective(wrong[kept])

    n = len(truth)
    blocks = np.arange(n) * 10 // n
    pieces = np.array([index(blocks != b) for b in np.unique(blocks)])
    g = len(pieces)
    error = float(np.sqrt((g - 1) / g * ((pieces - pieces.mean()) ** 2).sum())) if n >= 20 else float("nan")
    largest = None if influence is None else float(np.asarray(influence, dtype=np.float64).mean(axis=0).max())
    details = {
        "largest_influence": largest,
        "right_to_wrong": float((~wrong & still).mean()),
        "wrong_to_right": float((wrong & ~still).mean()),
    }
    return Score(index(np.ones(n, dtype=bool)), error, n, details)


def oracle_gap(
    proposals: ArrayLike, labels: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> Score:
    """Measure what a chooser that always finds the right proposal would add; negative where a judge beats it.

    Parameters
    ----------
    proposals : array-like of int, shape (sample, specialist)
        Sealed first choices; -1 abstains.
    labels : array-like of int, shape (sample,)
        Decisions.
    y : array-like of int, shape (sample,)
        Truth.
    sample_weight : array-like of shape (sample,), optional
        Weights.

    Returns
    -------
    Score
        P(somebody right) - P(decision right); ``details["somebody_right"]``.

    Raises
    ------
    PanelError
        If shapes do not fit.

    Examples
    --------
    >>> oracle_gap([[0, 1], [1, 1]], [0, 1], [1, 1]).value
    0.5
    """
    said, truth = _labels(labels, y)
    somebody = (_words(proposals, len(truth)) == truth[:, None]).any(axis=1).astype(np.float64)
    weight = read_sample_weight(sample_weight, len(truth))
    return _mean(somebody - (said == truth), weight, {"somebody_right": _mean(somebody, weight, {}).value})


def cost_per_correct(
    labels: ArrayLike, y: ArrayLike, costs: dict[str, ArrayLike | None]
) -> dict[str, Score | None]:
    """Price of each right decision, in every unit that is known.

    Parameters
    ----------
    labels : array-like of int, shape (sample,)
        Decisions.
    y : array-like of int, shape (sample,)
        Truth.
    costs : dict of str to array-like of shape (sample,), or None
        By unit (calls, tokens, seconds, money); NaN where a part is not known, None where nothing is.

    Returns
    -------
    dict of str to Score or None
        Sum of costs over number of right decisions, with the standard error of the ratio; None if nothing is
        known. Where a part is unknown the value is NaN, and ``details["known"]`` the price of the known part.

    Raises
    ------
    PanelError
        If shapes do not fit or a cost is negative.

    Examples
    --------
    >>> cost_per_correct([1, 0], [1, 1], {"calls": [3, 5], "money": None})["calls"].value
    8.0
    """
    said, truth = _labels(labels, y)
    right = (said == truth).astype(np.float64)
    out: dict[str, Score | None] = {}
    for unit, given in costs.items():
        if given is None:
            out[unit] = None
            continue
        cost = np.asarray(given, dtype=np.float64)
        if cost.shape != truth.shape or (cost < 0.0).any() or np.isinf(cost).any():
            raise PanelError(
                f"cost {unit!r} must be {len(truth)} numbers >= 0, NaN where unknown; got {cost.shape}."
            )
        total = float(right.sum())
        known = float(np.nansum(cost) / total) if total else float("inf")
        whole = not np.isnan(cost).any()
        error = float("nan")
        if whole and total and len(truth) > 1:
            rest = cost - known * right
            error = float(rest.std(ddof=1) * np.sqrt(len(truth)) / total)
        out[unit] = Score(known if whole else float("nan"), error, len(truth), {"known": known})
    return out


def _labels(labels: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    said = np.asarray(labels)
    if said.ndim != 1 or said.dtype.kind not in "iu":
        raise PanelError(f"labels must be one whole number per sample; got {said.dtype}, shape {said.shape}.")
    return said.astype(np.int64), read_truth(y, len(said))


def _words(proposals: ArrayLike, n: int) -> NDArray[np.int64]:
    words = np.asarray(proposals)
    if words.ndim != 2 or len(words) != n or words.dtype.kind not in "iu":
        raise PanelError(f"proposals must be whole numbers of shape ({n}, specialist); got {words.shape}.")
    return words.astype(np.int64)


def _probabilities(verdict: ArrayLike, y: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    p = np.asarray(verdict, dtype=np.float64)
    truth = read_truth(y, len(p))
    if p.ndim != 2 or not (p >= 0.0).all() or (np.abs(p.sum(axis=1) - 1.0) > 1e-6).any():
        raise PanelError("the verdict must hold probabilities of shape (sample, output) that sum to 1.")
    if len(truth) and truth.max() >= p.shape[1]:
        raise PanelError(f"y holds code {int(truth.max())}, the verdict has {p.shape[1]} outputs.")
    return p, truth


def _mean(values: Floats, weight: Floats | None, details: dict[str, Any]) -> Score:
    n = len(values)
    if not n:
        return Score(float("nan"), float("nan"), 0, details)
    share = np.full(n, 1.0 / n) if weight is None else weight / weight.sum()
    mean = float(share @ values)
    error = float(np.sqrt((share**2 * (values - mean) ** 2).sum() * n / (n - 1))) if n > 1 else float("nan")
    return Score(mean, error, n, details)


def _entropy(p: Floats) -> Floats:
    return np.asarray(-np.where(p > 0.0, p * np.log(np.where(p > 0.0, p, 1.0)), 0.0).sum(axis=-1))


def _ece(top: Floats, right: NDArray[np.bool_], bins: NDArray[np.int64], share: Floats) -> float:
    gap = np.bincount(bins, weights=share * (right - top), minlength=_BINS)
    return float(np.abs(gap).sum() / share.sum())


def _plurality(words: NDArray[np.int64]) -> NDArray[np.int64]:
    heads = (words[:, :, None] == np.arange(int(words.max(initial=0)) + 1)).sum(axis=1)
    return np.where(heads.max(axis=1) > 0, heads.argmax(axis=1), -1)


def _effective(wrong: NDArray[np.bool_]) -> float:
    e = wrong.astype(np.float64)
    e = e - e.mean(axis=0)
    cov = e.T @ e
    sd = np.sqrt(cov.diagonal())
    scale = np.where(sd > 0.0, sd, 1.0)
    r = cov / scale[:, None] / scale[None, :]
    np.fill_diagonal(r, 1.0)
    return float(len(r) ** 2 / r.sum())
