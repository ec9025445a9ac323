"""How specialists err together, when labels arrive one after another and not everybody answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory import PanelError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairMoments:
    """Decayed moments of the errors of every pair, over the labels for which both answered.

    Parameters
    ----------
    decay : float
        Weight of a label relative to its successor's, 2^(-1 / halflife); 1 forgets nothing.
    n_labels : int
        Labels seen.
    weight, weight2 : ndarray of shape (specialist, specialist)
        Sums of the weights of the labels that both answered, and of their squares.
    mean : ndarray of shape (specialist, specialist, output)
        Mean error of i where j answered too.
    scatter : ndarray of shape (specialist, specialist)
        Centred sums of products, summed over outputs.

    Notes
    -----
    For each label W' = lambda W + 1, d_i = e_i - mu_ij, C' = lambda C + (lambda W / W') d_i d_j,
    mu_ij' = mu_ij + d_i / W', Q' = lambda^2 Q + 1 for pairs that both answered; the others only fade.
    Batches are joined in one step, equal to that. Centred updates keep large shared offsets from
    cancelling.

    References
    ----------
    .. [1] Chan, Golub & LeVeque, Algorithms for computing the sample variance, 1983.

    Examples
    --------
    >>> import numpy as np
    >>> errors = np.array([[1.0, 2.0], [3.0, np.nan], [-1.0, 0.0]])[:, :, None]
    >>> moments = no_moments(2, 1).updated(errors)
    >>> moments.second_moment().round(2).tolist()
    [[3.67, 1.0], [1.0, 2.0]]
    """

    decay: float
    n_labels: int
    weight: Floats
    weight2: Floats
    mean: Floats
    scatter: Floats

    def updated(self, errors: Floats) -> PairMoments:
        """Take in labels, oldest first.

        Parameters
        ----------
        errors : ndarray of shape (sample, specialist, output)
            Answer minus truth; NaN rows where a specialist did not answer.

        Returns
        -------
        PairMoments
            A new one.

        Raises
        ------
        PanelError
            If the shape is not that of the moments.
        """
        if errors.ndim != 3 or errors.shape[1:] != self.mean.shape[1:]:
            raise PanelError(
                f"errors must be (sample, {self.mean.shape[1]}, {self.mean.shape[2]}); got shape {errors.shape}."
            )
        n = len(errors)
        if n == 0:
            return self
        here = ~np.isnan(errors).any(axis=2)
        fade = self.decay ** np.arange(n - 1, -1, -1, dtype=np.float64)
        seen = here.astype(np.float64)
        weight = (seen * fade[:, None]).T @ seen
        weight2 = (seen * (fade**2)[:, None]).T @ seen
        some = np.maximum(here.sum(axis=0), 1)
        # about the batch's own means first: products of large shared offsets would cancel
        centre = np.where(here[:, :, None], errors, 0.0).sum(axis=0) / some[:, None]
        apart = np.where(here[:, :, None], errors - centre, 0.0)
        faded = apart * fade[:, None, None]
        mean = np.einsum("nio,nj->ijo", faded, seen, optimize=True)
        mean /= np.where(weight > 0, weight, 1.0)[:, :, None]
        scatter = np.einsum("nio,njo->ij", faded, apart, optimize=True)
        scatter -= weight * np.einsum("ijo,jio->ij", mean, mean)
        block = PairMoments(self.decay, n, weight, weight2, mean + centre[:, None, :], scatter)
        return joined(self, block)

    def second_moment(self) -> Floats:
        """Give the matrix of mean products of errors; NaN for pairs never seen together.

        Returns
        -------
        ndarray of shape (specialist, specialist)
            Summed over outputs. With gaps it may have negative eigenvalues.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            centred = self.scatter / self.weight
        return np.asarray(
            np.where(self.weight > 0, centred + np.einsum("ijo,jio->ij", self.mean, self.mean), np.nan)
        )

    def covariance(self) -> Floats:
        """Give the unbiased covariances C / (W - Q / W); NaN for pairs seen together less than twice.

        Returns
        -------
        ndarray of shape (specialist, specialist)
            Summed over outputs.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            left = self.weight - self.weight2 / self.weight
            return np.asarray(np.where(left > 1e-12 * self.weight, self.scatter / left, np.nan))

    def effective_n(self) -> Floats:
        """Give the effective number of labels of each pair, W^2 / Q; at most (1 + decay) / (1 - decay).

        Returns
        -------
        ndarray of shape (specialist, specialist)
        """
        return np.asarray(self.weight**2 / np.where(self.weight2 > 0, self.weight2, 1.0))


def no_moments(n_specialists: int, n_outputs: int, *, halflife: float | None = None) -> PairMoments:
    """Start without any label.

    Parameters
    ----------
    n_specialists, n_outputs : int
        Shape of the panel.
    halflife : float, optional
        Labels after which the weight of a label has halved; None forgets nothing.

    Returns
    -------
    PairMoments

    Raises
    ------
    PanelError
        If the halflife is not positive.
    """
    if halflife is not None and not 0.0 < halflife < np.inf:
        raise PanelError(f"halflife must be a positive number or None; got {halflife!r}.")
    decay = 1.0 if halflife is None else float(2.0 ** (-1.0 / halflife))
    square = np.zeros((n_specialists, n_specialists))
    mean = np.zeros((n_specialists, n_specialists, n_outputs))
    return PairMoments(decay, 0, square, square.copy(), mean, square.copy())


def joined(older: PairMoments, newer: PairMoments) -> PairMoments:
    """Join the moments of two runs of labels, one after the other.

    Parameters
    ----------
    older, newer : PairMoments
        Of the same specialists and decay; the older fades by the newer's number of labels.

    Returns
    -------
    PairMoments

    Raises
    ------
    PanelError
        If decay or shapes differ.
    """
    if older.decay != newer.decay or older.mean.shape != newer.mean.shape:
        raise PanelError(
            f"records differ: decay {older.decay:g} and {newer.decay:g}, shapes {older.mean.shape[1:]} and "
            f"{newer.mean.shape[1:]}. Merge records of the same specialists and halflife."
        )
    fade = older.decay**newer.n_labels
    old = older.weight * fade
    weight = old + newer.weight
    share = newer.weight / np.where(weight > 0, weight, 1.0)
    apart = newer.mean - older.mean
    products = np.einsum("ijo,jio->ij", apart, apart)
    return PairMoments(
        older.decay,
        older.n_labels + newer.n_labels,
        weight,
        older.weight2 * fade**2 + newer.weight2,
        older.mean + apart * share[:, :, None],
        older.scatter * fade + newer.scatter + old * share * products,
    )
