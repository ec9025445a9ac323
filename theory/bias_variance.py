"""The squared error of a mean of specialists over training sets: bias, variance and covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._exceptions import PanelError
from theory._results import add_warnings
from theory._trials import with_trials

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BiasVarianceCovariance:
    """Squared error of the mean over training sets: squared bias, variance and covariance.

    Attributes
    ----------
    loss : float
        Mean squared error of the mean of specialists, over trials and samples.
    bias : float
        Squared bias of the mean of specialists; noise of the truth is inside. Without bias correction it can
        only be >= 0, with it sampling error may make it negative.
    variance, covariance : float
        Mean over specialists of the variance, over pairs of the covariance, across trials.
    identity_gap : float
        loss - (bias + variance / M + (1 - 1/M) covariance), 0 up to rounding.
    per_sample : ndarray of shape (sample, 4)
        loss, bias, variance and covariance, sample by sample.
    n, n_trials, n_specialists : int
        Sizes.
    warnings : tuple of str
        What a reader should know before using the numbers.
    """

    loss: float
    bias: float
    variance: float
    covariance: float
    identity_gap: float
    per_sample: Floats
    n: int
    n_trials: int
    n_specialists: int
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the decomposition as text."""
        m = self.n_specialists
        line = (
            f"squared error of the mean {self.loss:.4g} = bias {self.bias:.4g} + variance {self.variance:.4g} / {m} + "
            f"(1 - 1/{m}) covariance {self.covariance:.4g}"
        )
        return add_warnings([line], self.warnings)


def bias_variance_covariance(panel: Any, y: ArrayLike, *, unbiased: bool = True) -> BiasVarianceCovariance:
    """Split the squared error of a mean of specialists over training sets.

    E (fbar - y)^2 = bias^2 + vbar / M + (1 - 1/M) cbar, expectations over trials: how specialists vary with
    what they were trained on. It is another object than `ensemble_variance`, which describes fixed specialists
    over samples.

    Parameters
    ----------
    panel : array-like or DataArray
        Numbers (trial, sample, specialist) or (trial, sample, specialist, output): one trial per training set, all on
        the same test samples. A DataArray is read by the dims trial, specialist and output.
    y : array-like of shape (sample,) or (sample, output)
        The truth.
    unbiased : bool
        Divide by trials - 1, and take from the squared bias what the variance of a finite mean adds to it. The
        identity holds either way.

    Returns
    -------
    BiasVarianceCovariance
        The terms, summed over outputs.

    Raises
    ------
    PanelError
        On fewer than two trials, non-finite numbers, or shapes that do not fit.

    References
    ----------
    Ueda and Nakano, *Generalization error of ensemble estimators*, 1996.

    Examples
    --------
    >>> result = bias_variance_covariance([[[1.0, 3.0]], [[1.0, -1.0]]], [0.0], unbiased=False)
    >>> result.loss, result.bias, result.variance, result.covariance
    (2.0, 1.0, 2.0, 0.0)
    """
    values, trials = with_trials(panel, "answers", 2)
    t, n, m, outputs = values.shape
    if not trials or t < 2:
        raise PanelError(
            f"two or more trials (training sets) are needed; got {t if trials else 'no trial axis'}. For one trained panel "
            "use ensemble_variance."
        )
    truth = np.asarray(y, dtype=np.float64)
    truth = truth[:, None] if truth.ndim == 1 else truth
    if truth.shape != (n, outputs):
        raise PanelError(f"y must have shape {(n,)} or {(n, outputs)}; got {np.shape(y)}.")
    if not np.isfinite(values).all() or not np.isfinite(truth).all():
        raise PanelError("answers and truth must be finite: drop incomplete samples.")
    centre = values.mean(axis=0)
    apart = values - centre
    squares = np.einsum("tnio,tnio->n", apart, apart) / t
    total = apart.sum(axis=2)
    crossed = np.einsum("tno,tno->n", total, total) / t - squares
    variance = squares / m
    covariance = crossed / (m * (m - 1)) if m > 1 else np.zeros(n)
    offset = centre.mean(axis=1) - truth
    bias = np.einsum("no,no->n", offset, offset)
    fused = values.mean(axis=2) - truth
    loss = np.einsum("tno,tno->n", fused, fused) / t
    if unbiased:
        scale = t / (t - 1.0)
        variance, covariance = variance * scale, covariance * scale
        bias = bias - (variance / m + (1.0 - 1.0 / m) * covariance) / t
    table = np.stack([loss, bias, variance, covariance], axis=1)
    parts = bias + variance / m + (1.0 - 1.0 / m) * covariance
    means = table.mean(axis=0)
    return BiasVarianceCovariance(
        loss=float(means[0]),
        bias=float(means[1]),
        variance=float(means[2]),
        covariance=float(means[3]),
        identity_gap=float(np.abs(loss - parts).max()),
        per_sample=table,
        n=n,
        n_trials=t,
        n_specialists=m,
        warnings=("one specialist has no pair: its covariance is 0 by convention",) if m == 1 else (),
    )
