"""What a fused answer is worth: who spoke, how far they agree, how uncertain the answer is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators.training import first_choices

if TYPE_CHECKING:
    from xarray import Dataset

STATUS = ("answered", "absent", "fault", "failed", "not asked")
ANSWERED, ABSENT, FAULT, FAILED, NOT_ASKED = range(5)
_BLOCK = 60_000  # answers looked at together


@dataclass(frozen=True, eq=False)
class FusionResult:
    """Fused answers with what is known about them; nothing of it is kept in the estimator.

    Attributes
    ----------
    label : ndarray of shape (sample,), or None
        The class of the highest fused probability; None for numbers.
    value : ndarray of shape (sample,) or (sample, output), or None
        Fused numbers; None for classes.
    proba : ndarray of shape (sample, output), or None
        Fused probabilities; None for numbers.
    n_present : ndarray of int, shape (sample,)
        Specialists that gave a usable answer.
    weights : ndarray of shape (sample, specialist), or None
        What each weighed, 0 where it gave no usable answer; rows sum to 1, or to 0 where nobody spoke.
        None for fusions without weights.
    disagreement : ndarray of shape (sample,)
        Of classes 1 minus the largest weighted share of first choices; of numbers the weighted mean of
        the squared distances from the fused answer, summed over outputs.
    total, epistemic : ndarray of shape (sample,)
        Of classes the entropy (nats) of the weighted mean p of the specialists' probabilities, and that
        minus the weighted mean of their own entropies: between 0 and ln M. Of numbers the predicted
        squared error a + b D, and its part b D that follows the disagreement D; NaN without an
        out-of-fold panel.
    status : ndarray of int8, shape (sample, specialist)
        Positions in ``STATUS``: answered, absent, fault, failed, not asked.
    n_byzantine : ndarray of int, shape (sample,)
        Wrong answers that the fusion still withstood in that sample, beyond the faults already left out.
    names : tuple of str
        Names of the specialists.
    outputs : tuple
        Labels of the outputs.
    failures : dict
        By name: the exception of a specialist that failed, in fit or now.

    Notes
    -----
    Agreement of specialists that err together is weak evidence: read ``disagreement`` beside the
    ensemble's ``effective_number_``. Without weights, or where one specialist has all of it, the
    uncertainties weigh all who are present alike: one alone cannot disagree.

    References
    ----------
    .. [1] Depeweg et al., Decomposition of uncertainty in Bayesian deep learning, 2018 (total, epistemic).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from estimators import RobustFusionClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> team = [("line", LogisticRegression(max_iter=500)), ("bayes", GaussianNB())]
    >>> result = RobustFusionClassifier(team, fusion="mean").fit(X, y).fuse(X[:3])
    >>> result.n_present.tolist(), result.weights[0].tolist()
    ([2, 2, 2], [0.5, 0.5])
    """

    label: NDArray[Any] | None
    value: NDArray[np.float64] | None
    proba: NDArray[np.float64] | None
    n_present: NDArray[np.int64]
    weights: NDArray[np.float64] | None
    disagreement: NDArray[np.float64]
    total: NDArray[np.float64]
    epistemic: NDArray[np.float64]
    status: NDArray[np.int8]
    n_byzantine: NDArray[np.int64]
    names: tuple[str, ...] = ()
    outputs: tuple[Any, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)

    def to_xarray(self) -> Dataset:
        """Give everything as one Dataset.

        Returns
        -------
        xarray.Dataset
            Dims sample, specialist, output; what is None is left out. The status keeps its codes, their
            meanings in the attributes ``flag_values`` and ``flag_meanings``.
        """
        from xarray import Dataset

        variables: dict[str, Any] = {}
        for name in ("label", "n_present", "disagreement", "total", "epistemic", "n_byzantine"):
            values = getattr(self, name)
            if values is not None:
                variables[name] = ("sample", values)
        if self.value is not None:
            variables["value"] = (("sample", "output")[: self.value.ndim], self.value)
        if self.proba is not None:
            variables["proba"] = (("sample", "output"), self.proba)
        if self.weights is not None:
            variables["weights"] = (("sample", "specialist"), self.weights)
        meanings = {"flag_values": list(range(len(STATUS))), "flag_meanings": list(STATUS)}
        variables["status"] = (("sample", "specialist"), self.status, meanings)
        coords: dict[str, Any] = {"specialist": list(self.names)}
        if self.proba is not None:
            coords["output"] = list(self.outputs)
        notes = {f"failure_{name}": text for name, text in self.failures.items()}
        return Dataset(variables, coords=coords, attrs=notes)


def present_weights(weights: NDArray[np.float64] | None, present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Divide weights among those present.

    Parameters
    ----------
    weights : ndarray of shape (specialist,) or (sample, specialist), or None
        Not negative; None weighs alike.
    present : ndarray of bool, shape (sample, specialist)
        Who gave a usable answer.

    Returns
    -------
    ndarray of shape (sample, specialist)
        Rows sum to 1; those with nobody present, to 0. Where only specialists of weight 0 are present,
        they weigh alike.
    """
    if weights is None:
        shares = present.astype(np.float64)
    else:
        shares = np.where(present, weights, 0.0)
        lost = present.any(axis=1) & ~(shares.sum(axis=1) > 0)
        shares[lost] = present[lost]
    mass = shares.sum(axis=1, keepdims=True)
    return shares / np.where(mass > 0, mass, 1.0)


def class_uncertainty(
    panel: NDArray[np.float64], shares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Measure how uncertain and how divided a panel of probabilities is.

    Parameters
    ----------
    panel : ndarray of shape (sample, specialist, output)
        NaN rows for those who gave no usable answer; an output that a specialist cannot name counts 0.
    shares : ndarray of shape (sample, specialist)
        From :func:`present_weights`.

    Returns
    -------
    disagreement, total, epistemic : ndarray of shape (sample,)
        As in :class:`FusionResult`; where nobody spoke, 1, ln(outputs) and 0.
    """
    from scipy.special import xlogy

    step = max(1, _BLOCK // max(panel[:1].size, 1))
    if len(panel) > step:  # several copies of a block, not of the panel
        cuts = range(0, len(panel), step)
        parts = [class_uncertainty(panel[at : at + step], shares[at : at + step]) for at in cuts]
        disagreement, total, epistemic = (np.concatenate(part) for part in zip(*parts, strict=True))
        return disagreement, total, epistemic
    proba = np.maximum(np.nan_to_num(panel), 0.0)
    n_samples, _, n_outputs = proba.shape
    pool = np.matmul(shares[:, None, :], proba)[:, 0]
    own = -xlogy(proba, proba).sum(axis=2)
    total = -xlogy(pool, pool).sum(axis=1)
    epistemic = np.maximum(total - (shares * own).sum(axis=1), 0.0)
    choice = first_choices(panel)
    here = choice >= 0
    cell = np.arange(n_samples)[:, None] * n_outputs + choice
    votes = np.bincount(cell[here], weights=shares[here], minlength=n_samples * n_outputs)
    disagreement = np.clip(1.0 - votes.reshape(n_samples, n_outputs).max(axis=1), 0.0, 1.0)
    nobody = ~here.any(axis=1)
    total[nobody] = np.log(n_outputs)
    return disagreement, total, epistemic


def number_spread(
    panel: NDArray[np.float64], fused: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the weighted mean squared distance of the answers from the fused one.

    Parameters
    ----------
    panel : ndarray of shape (sample, specialist, output)
        NaN rows for those who gave no usable answer.
    fused : ndarray of shape (sample, output)
        Fused answers.
    shares : ndarray of shape (sample, specialist)
        From :func:`present_weights`.

    Returns
    -------
    ndarray of shape (sample, output)

    Notes
    -----
    For a weighted mean with weights w its expectation is sum_i w_i S_ii - w'Sw, S the second moment
    of the errors: the average error of the specialists minus that of the mean.

    References
    ----------
    .. [1] Krogh & Vedelsby, Neural network ensembles, cross validation, and active learning, 1995.
    """
    apart = np.nan_to_num(panel - fused[:, None, :]) ** 2
    return np.asarray(np.matmul(shares[:, None, :], apart)[:, 0])
