"""What a pool of probabilities or a vote gains over its specialists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_choice, check_level, read_groups, read_truth, read_weights
from theory._exceptions import PanelError
from theory._influence import standard_error
from theory._pair_tables import relabelled
from theory._results import add_warnings, with_interval
from theory._trials import with_trials
from theory.labels import as_labels

Floats = NDArray[np.float64]
_FLOOR = 1e-12


@dataclass(frozen=True, eq=False)
class DiversityDecomposition:
    """Cross-entropy of a pool: the specialists' mean loss minus their diversity, plus a remainder.

    Attributes
    ----------
    pool_loss, mean_loss, diversity, remainder : float
        Means over samples; pool_loss = mean_loss - diversity + remainder.
    mean_bias, mean_variance : float or None
        With trials: mean_loss = mean_bias + mean_variance; the noise of the labels is inside the bias.
    pool : str
        ``"geometric"`` (remainder 0) or ``"linear"``.
    per_sample : ndarray of shape (sample, 4)
        The four terms, sample by sample, means over trials.
    identity_gap : float
        Largest difference between the pool's loss and the sum of its parts, 0 up to rounding.
    n : int
        Samples.
    n_trials : int or None
        Training sets, if the panel had a trial axis.
    warnings : tuple of str
        What a reader should know before using the numbers.
    """

    pool_loss: float
    mean_loss: float
    diversity: float
    remainder: float
    mean_bias: float | None
    mean_variance: float | None
    pool: str
    per_sample: Floats
    identity_gap: float
    n: int
    n_trials: int | None
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the decomposition as text."""
        mean = f"{self.mean_loss:.4g}"
        if self.mean_bias is not None and self.mean_variance is not None:
            mean += f" (bias {self.mean_bias:.4g} + variance {self.mean_variance:.4g})"
        line = f"cross-entropy of the {self.pool} pool {self.pool_loss:.4g} = mean {mean} - diversity {self.diversity:.4g}"
        if self.pool == "linear":
            line += f" + remainder {self.remainder:.4g} (depends on the truth)"
        return add_warnings([line], self.warnings)


def diversity_decomposition(
    panel: Any,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    pool: Literal["geometric", "linear"] = "geometric",
) -> DiversityDecomposition:
    """Split the cross-entropy of a pool of probabilities into accuracy and diversity, sample by sample.

    Parameters
    ----------
    panel : array-like or DataArray
        Probabilities (sample, specialist, output), or (trial, sample, specialist, output) from several training
        sets; a DataArray is read by dim name.
    y : array-like of int, shape (sample,)
        True codes.
    weights : array-like of shape (specialist,), optional
        Convex weights (>= 0, sum 1); equal by default.
    pool : {"geometric", "linear"}
        The normalised weighted geometric mean, whose decomposition is exact; or the weighted mean, for which a
        remainder depends on the truth.

    Returns
    -------
    DiversityDecomposition
        The terms, in nats.

    Raises
    ------
    PanelError
        If rows are no probabilities, weights are not convex, or shapes do not fit.

    Notes
    -----
    Geometric pool: loss = sum w_i loss_i - diversity, with diversity = -ln sum_k prod_i q_i(k)^w_i >= 0, minus the
    log of the M-way Bhattacharyya affinity: it needs no labels. With trials the same identity along that axis
    splits each specialist's mean loss into that of its own centroid (bias, noise inside) and variance. Probabilities
    below 1e-12 are raised to it and rows normalised again, with a warning.

    References
    ----------
    Heskes, 1998; Wood et al., *A unified theory of diversity in ensemble learning*, JMLR, 2023.

    Examples
    --------
    >>> result = diversity_decomposition([[[0.9, 0.1], [0.5, 0.5]]], [0])
    >>> round(result.pool_loss, 4), round(result.mean_loss, 4), round(result.diversity, 4)
    (0.2877, 0.3993, 0.1116)
    """
    check_choice("pool", pool, ("geometric", "linear"))
    q, trials = with_trials(panel, "probabilities", 3)
    t, n, m, k = q.shape
    if not np.isfinite(q).all() or (q < 0).any() or (np.abs(q.sum(axis=3) - 1.0) > 1e-3).any():
        raise PanelError(
            "panel must hold probabilities: finite, >= 0, rows that sum to 1. Normalise them first."
        )
    truth = read_truth(y, n)
    if truth.max(initial=0) >= k:
        raise PanelError(f"y holds code {truth.max()}, but the panel has {k} outputs.")
    w = _convex(weights, m)
    small = int((q < _FLOOR).sum())
    notes: tuple[str, ...] = ()
    if small:
        notes = (f"{small} probabilities below {_FLOOR:g} were raised to it: a 0 makes the loss infinite",)
    q = np.maximum(q, _FLOOR)
    q = q / q.sum(axis=3, keepdims=True)
    logs = np.log(q)
    rows = np.arange(n)
    own = -logs[:, rows, :, truth].transpose(
        1, 0, 2
    )  # the advanced axes come first: (sample, trial, specialist)
    mean_loss = (own @ w).mean(axis=0)
    mixed = np.einsum("tnik,i->tnk", logs, w)
    affinity = _log_sum_exp(mixed)
    diversity = np.maximum(-affinity, 0.0)
    geometric = affinity - mixed[:, rows, truth]
    if pool == "geometric":
        # Normalise first and take the logarithm last: another route than the parts take.
        shares = np.exp(mixed - mixed.max(axis=2, keepdims=True))
        loss = -np.log(shares[:, rows, truth] / shares.sum(axis=2))
        gap = float(np.abs(loss - ((own @ w) - diversity)).max())
        remainder = np.zeros_like(loss)
    else:
        loss = -np.log(np.einsum("tnik,i->tnk", q, w)[:, rows, truth])
        remainder = loss - geometric
        gap = float(np.abs(loss - ((own @ w) - diversity + remainder)).max())
    bias = variance = None
    if trials:
        centre = logs.mean(axis=0)
        spread = -_log_sum_exp(centre)
        at_truth = centre[rows, :, truth]
        variance = float((spread @ w).mean())
        bias = float(((-at_truth - spread) @ w).mean())
    table = np.stack(
        [loss.mean(axis=0), (own @ w).mean(axis=0), diversity.mean(axis=0), remainder.mean(axis=0)], axis=1
    )
    means = table.mean(axis=0)
    return DiversityDecomposition(
        pool_loss=float(means[0]),
        mean_loss=float(mean_loss.mean()),
        diversity=float(means[2]),
        remainder=float(means[3]),
        mean_bias=bias,
        mean_variance=variance,
        pool=pool,
        per_sample=table,
        identity_gap=gap,
        n=n,
        n_trials=t if trials else None,
        warnings=notes,
    )


def _log_sum_exp(values: Floats) -> Floats:
    largest = values.max(axis=-1)
    return np.asarray(largest + np.log(np.exp(values - largest[..., None]).sum(axis=-1)))


def _convex(weights: ArrayLike | None, m: int) -> Floats:
    w = read_weights(weights, m)
    if (w < 0).any():
        raise PanelError(f"the decomposition needs weights >= 0; got {float(w.min()):.4g}.")
    return w


@dataclass(frozen=True, eq=False)
class VoteGain:
    """What a plurality vote gains over its average voter; it may lose.

    Attributes
    ----------
    value : float
        mean_error - vote_error.
    mean_error, vote_error : float
        Weighted mean error of the specialists; error of the vote, ties split.
    se : float
        Standard error of ``value``.
    ci : ndarray of shape (2,)
        Its interval.
    over_best : float
        Smallest error of a specialist minus the error of the vote.
    n : int
        Samples.
    """

    value: float
    mean_error: float
    vote_error: float
    se: float
    ci: Floats
    over_best: float
    n: int

    def summary(self) -> str:
        """Return the gain as text."""
        return (
            f"the vote errs on {self.vote_error:.4f}, the mean specialist on {self.mean_error:.4f}: gain "
            f"{with_interval(self.value, self.ci, 4)}, over the best {self.over_best:+.4f}"
        )


def vote_gain(
    answers: Any,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    ci: float = 0.95,
    groups: ArrayLike | None = None,
) -> VoteGain:
    """Measure how much less a plurality vote errs than its average voter.

    0/1 loss has no label-free diversity term: disagreement helps where the vote is right and harms where it is
    wrong. Only this difference is reported, and it may be negative.

    Parameters
    ----------
    answers : array-like, DataFrame or DataArray of shape (sample, specialist)
        Label codes; -1 abstains, which counts as an error of the specialist and as no vote.
    y : array-like of int, shape (sample,)
        True codes.
    weights : array-like of shape (specialist,), optional
        Convex weights; equal by default.
    ci : float
        Level of the interval.
    groups : array-like of shape (sample,), optional
        Labels of samples that belong together.

    Returns
    -------
    VoteGain
        The gain with its interval.

    Raises
    ------
    PanelError
        If codes, weights or shapes do not fit.

    Examples
    --------
    >>> gain = vote_gain([[0, 0, 1], [1, 0, 1], [1, 1, 0]], [0, 0, 0])
    >>> round(gain.mean_error, 3), round(gain.vote_error, 3), round(gain.value, 3)
    (0.556, 0.667, -0.111)
    """
    quantile = check_level(ci)
    codes, _ = as_labels(answers)
    if codes.ndim != 2 or len(codes) < 2:
        raise PanelError(
            f"answers need the axes (sample, specialist), 2 or more samples; got shape {codes.shape}."
        )
    n, m = codes.shape
    truth = read_truth(y, n)
    w = _convex(weights, m)
    group = read_groups(groups, n)
    right = codes == truth[:, None]
    small = relabelled(codes)
    tally = np.zeros((n, m))
    for i in range(m):
        said = small[:, i] >= 0
        tally[said, small[said, i]] += w[i]
    own = right @ w
    # Weights add in one order for all answers of a sample, but round: equal counts must still tie.
    first = tally >= tally.max(axis=1, keepdims=True) - 1e-12
    winners = first.sum(axis=1)
    won = (own > 0) & (own >= tally.max(axis=1) - 1e-12)
    vote_wrong = 1.0 - won / winners
    mean_wrong = (~right) @ w
    psi = mean_wrong - vote_wrong
    value = float(psi.mean())
    se = standard_error(psi - value, None, group)
    return VoteGain(
        value=value,
        mean_error=float(mean_wrong.mean()),
        vote_error=float(vote_wrong.mean()),
        se=se,
        ci=np.array([value - quantile * se, value + quantile * se]),
        over_best=float((~right).mean(axis=0).min() - vote_wrong.mean()),
        n=n,
    )
