"""A gate: a model that learns from the input where each specialist is to be believed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from estimators.region import needs_input, read_region
from estimators.training import answer_errors, read_answers, read_training
from theory import PanelError

_FLOOR = 1e-6  # least probability of the truth, as in the arbiter: one zero would silence a specialist
_NOTHING = 1e-12  # responsibility that teaches nothing


class Gate(BaseEstimator):
    """Mix the specialists with weights that depend on the sample: a mixture of frozen experts.

    Parameters
    ----------
    model : classifier, optional
        Learns which specialist to ask; needs ``sample_weight`` in ``fit`` and ``predict_proba``. Default:
        logistic regression with C = 1.
    n_iter : int
        Most rounds of expectation and maximisation.
    region : "panel", "X", str, list, slice, tuple or callable
        What the gate sees, standardised: what the specialists say, the input, or a view of it as in
        :class:`Specialist`.
    tol : float
        It stops when a round raises the log-likelihood by less than this per sample.

    Attributes
    ----------
    model_ : classifier
        The fitted gate; its classes are positions of specialists.
    weights_ : ndarray of shape (specialist,)
        Mean responsibility for the training samples; sums to 1.
    log_likelihood_ : ndarray
        Of the truths after each round.
    variance_ : ndarray of shape (specialist,), or None
        Of the errors of specialists that give numbers.
    needs_input : bool
        Whether ``fit`` and ``fuse`` need X.

    Notes
    -----
    With g_i(x) the gate and p_i the probability that specialist i gives to the truth (of numbers, a normal
    density with a variance of its own), responsibilities are r_i proportional to g_i p_i among those
    present, and the gate is fitted to them as weights; the log-likelihood sum ln sum g_i p_i does not
    fall, up to the penalty of the gate and the tolerance of its solver. A gate trained on which specialist was
    best learns mostly how ties were broken. Probabilities below 1e-6 count as that much.

    References
    ----------
    .. [1] Jacobs, Jordan, Nowlan & Hinton, Adaptive mixtures of local experts, 1991, equation 1.3.
    .. [2] Jordan & Jacobs, Hierarchical mixtures of experts and the EM algorithm, 1994, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.uniform(-1, 1, size=(400, 1)), rng.integers(2, size=400)
    >>> skill = np.where(X > 0, [0.9, 0.5], [0.5, 0.9])
    >>> said = np.where(rng.random((400, 2)) < skill, y[:, None], 1 - y[:, None])
    >>> panel = 0.7 * np.eye(2)[said] + 0.15
    >>> weights = Gate(region="X").fit(panel, y, X=X).weigh(panel, X=X)
    >>> bool(weights[X[:, 0] > 0.5, 0].min() > 0.8), bool(weights[X[:, 0] < -0.5, 1].min() > 0.8)
    (True, True)
    """

    def __init__(self, model: Any = None, *, n_iter: int = 20, region: Any = "panel", tol: float = 1e-5):
        self.model = model
        self.n_iter = n_iter
        self.region = region
        self.tol = tol

    @property
    def needs_input(self) -> bool:
        """Whether ``fit`` and ``fuse`` need X."""
        return needs_input(self.region)

    def fit(
        self, panel: Any, y: Any, *, X: Any = None, task: str = "classification", sample_weight: Any = None
    ) -> Gate:
        """Learn where to believe whom.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            Answers to samples that the specialists were not fitted on; NaN where one was absent.
        y : array-like
            Codes of the right outputs, or numbers.
        X : array-like of shape (sample, feature), or Views, optional
            The input, for regions other than ``"panel"``.
        task : {"classification", "regression"}
            What ``y`` is.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : Gate

        Raises
        ------
        PanelError
            If n_iter is below 1, tol is no number, the model cannot learn from weights, a needed input is
            missing, nobody answered, or the panel and its truth do not fit.
        """
        values, target, weight = read_training(panel, y, task, sample_weight)
        if not isinstance(self.n_iter, int | np.integer) or isinstance(self.n_iter, bool) or self.n_iter < 1:
            raise PanelError(f"n_iter must be a whole number >= 1; got {self.n_iter!r}.")
        if not isinstance(self.tol, int | float | np.number) or np.isnan(self.tol):
            raise PanelError(f"tol must be a number; got {self.tol!r}.")
        if self.model is not None and not (
            has_fit_parameter(self.model, "sample_weight") and hasattr(self.model, "predict_proba")
        ):
            raise PanelError(
                f"the gate's model needs sample_weight in fit, and predict_proba; {type(self.model).__name__} lacks one. "
                "Take e.g. LogisticRegression() or a tree; what it sees is standardised already: no pipeline is needed."
            )
        errors = answer_errors(values, target, task)
        here = ~np.isnan(errors).any(axis=2)
        mass = np.ones(len(values)) if weight is None else weight
        kept = here.any(axis=1) & (mass > 0)
        if not kept.any():
            raise PanelError("no specialist answered any sample; there is nobody to believe.")
        place = read_region(self.region, values, X)[kept]
        here, mass, errors = here[kept], mass[kept], errors[kept]
        self._centre = mass @ place / mass.sum()
        spread = np.sqrt(mass @ (place - self._centre) ** 2 / mass.sum())
        self._spread = np.where(spread > 0, spread, 1.0)
        place = (place - self._centre) / self._spread
        self.task_, self._shape = task, values.shape[1:]
        truth = None if task == "regression" else target.argmax(axis=1)[kept]
        self.variance_ = None
        if truth is None:
            self._learn_variance(errors, here, here * mass[:, None])
            fits = self._normal(errors, here)
        else:
            own = errors[np.arange(len(truth)), :, truth] + 1.0
            fits = np.where(here, np.log(np.maximum(np.nan_to_num(own), _FLOOR)), -np.inf)
        log_gate = np.log(
            here / here.sum(axis=1, keepdims=True), where=here, out=np.full(here.shape, -np.inf)
        )
        path: list[float] = []
        model = LogisticRegression(max_iter=1000, warm_start=True) if self.model is None else None
        for _ in range(self.n_iter):
            shares, _ = _normalised(log_gate + fits)
            self.model_ = self._fit_model(model, place, shares * mass[:, None])
            if truth is None:
                self._learn_variance(errors, here, shares * mass[:, None])
                fits = self._normal(errors, here)
            log_gate = self._log_gate(place, here)
            path.append(float(mass @ _normalised(log_gate + fits)[1]))
            if len(path) > 1 and path[-1] - path[-2] < self.tol * mass.sum():
                break
        shares, _ = _normalised(log_gate + fits)
        self.weights_ = np.asarray(mass @ shares / mass.sum())
        self.log_likelihood_ = np.array(path)
        return self

    def weigh(self, panel: Any, *, X: Any = None) -> NDArray[np.float64]:
        """Give the weight of each specialist for each sample.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            NaN where a specialist is absent.
        X : array-like of shape (sample, feature), or Views, optional
            The input of the same samples, for regions other than ``"panel"``.

        Returns
        -------
        ndarray of shape (sample, specialist)
            Non-negative; sums to 1 over those present, and is 0 where nobody is.

        Raises
        ------
        PanelError
            If specialists or outputs are not those of ``fit``, or a needed input is missing.
        """
        check_is_fitted(self, "model_")
        values = read_answers(panel, self._shape)
        gaps = np.isnan(values)
        here = ~(gaps.all(axis=2) if self.task_ == "classification" else gaps.any(axis=2))
        place = read_region(self.region, values, X)
        if place.shape[1] != len(self._centre):
            raise PanelError(f"region needs {len(self._centre)} columns as in fit; got {place.shape[1]}.")
        if not len(values):
            return np.zeros(here.shape)
        gate = np.exp(self._log_gate((place - self._centre) / self._spread, here))
        return np.where(here, gate, 0.0)

    def fuse(self, panel: Any, *, X: Any = None) -> NDArray[np.float64]:
        """Mix the answers by the gate.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            NaN where a specialist is absent.
        X : array-like of shape (sample, feature), or Views, optional
            The input of the same samples, for regions other than ``"panel"``.

        Returns
        -------
        ndarray of shape (sample, output)
            NaN where nobody is present. A class that a specialist cannot name has its probability 0.
        """
        weights = self.weigh(panel, X=X)
        values = np.nan_to_num(np.asarray(panel, dtype=np.float64))
        fused = np.matmul(weights[:, None, :], values)[:, 0]
        return np.where(weights.any(axis=1)[:, None], fused, np.nan)

    def _fit_model(self, model: Any, place: NDArray[np.float64], weight: NDArray[np.float64]) -> Any:
        sample, specialist = np.nonzero(weight > _NOTHING)
        if len(np.unique(specialist)) < 2:
            return int(specialist[0])
        fresh = clone(self.model) if model is None else model
        return fresh.fit(place[sample], specialist, sample_weight=weight[sample, specialist])

    def _log_gate(self, place: NDArray[np.float64], here: NDArray[np.bool_]) -> NDArray[np.float64]:
        gate = np.zeros(here.shape)
        if isinstance(self.model_, int):  # one specialist earned everything
            gate[:, self.model_] = 1.0
        else:
            gate[:, self.model_.classes_] = self.model_.predict_proba(place)
        gate = np.where(here, gate, 0.0)
        alone = ~gate.any(axis=1)
        gate[alone] = here[alone]
        total = gate.sum(axis=1, keepdims=True)
        gate /= np.where(total > 0, total, 1.0)
        return np.log(gate, where=gate > 0, out=np.full(gate.shape, -np.inf))

    def _learn_variance(
        self, errors: NDArray[np.float64], here: NDArray[np.bool_], weight: NDArray[np.float64]
    ) -> None:
        squared = np.where(here[:, :, None], errors, 0.0) ** 2
        mass = weight.sum(axis=0)
        found = (weight * squared.mean(axis=2)).sum(axis=0) / np.where(mass > 0, mass, 1.0)
        largest = float(squared.max())
        # an exact specialist would otherwise have an infinite density
        self.variance_ = np.maximum(found, _FLOOR * (largest if largest > 0 else 1.0))

    def _normal(self, errors: NDArray[np.float64], here: NDArray[np.bool_]) -> NDArray[np.float64]:
        squared = (np.where(here[:, :, None], errors, 0.0) ** 2).sum(axis=2)
        width = errors.shape[2]
        logs = -0.5 * (squared / self.variance_ + width * np.log(2.0 * np.pi * self.variance_))
        return np.where(here, logs, -np.inf)


def _normalised(logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Softmax, and the logarithm of the sum."""
    most = logs.max(axis=1, keepdims=True)
    shares = np.exp(logs - most)
    total = shares.sum(axis=1, keepdims=True)
    return shares / total, (most + np.log(total))[:, 0]
