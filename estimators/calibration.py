"""Calibration of one specialist's probabilities on rows it was not fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from theory import PanelError

_TINY = 1e-12


class TemperatureScaling(BaseEstimator):
    """Sharpen or flatten probabilities by one temperature, fitted by log loss.

    Parameters
    ----------
    bounds : tuple of two float
        Range of the inverse temperature.
    from_logits : bool
        Whether the input holds log-probabilities up to a constant per row.

    Attributes
    ----------
    inverse_temperature_ : float
        Below 1 for overconfident probabilities.
    at_bound_ : bool
        Whether it lies at an end of ``bounds``: the best one lies beyond, as it does where the most
        probable output is always right.

    References
    ----------
    .. [1] Guo et al., On calibration of modern neural networks, 2017, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> overconfident = np.array([[0.99, 0.01]] * 10)
    >>> scaling = TemperatureScaling().fit(overconfident, [0] * 7 + [1] * 3)
    >>> scaling.transform(overconfident)[0].round(2).tolist()
    [0.7, 0.3]
    """

    def __init__(self, bounds: tuple[float, float] = (0.01, 100.0), *, from_logits: bool = False):
        self.bounds = bounds
        self.from_logits = from_logits

    def fit(self, proba: Any, y: Any, sample_weight: Any = None) -> TemperatureScaling:
        """Find the temperature with the least log loss.

        Parameters
        ----------
        proba : array-like of shape (sample, output)
            Probabilities, or logits.
        y : array-like of int, shape (sample,)
            Codes of the right outputs.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : TemperatureScaling

        Raises
        ------
        PanelError
            If samples, codes and weights do not fit, or bounds are no range above 0.
        """
        if not 0.0 < self.bounds[0] < self.bounds[1] < np.inf:
            raise PanelError(f"bounds must be two numbers, 0 < low < high; got {self.bounds!r}.")
        table, codes, weight = _checked(proba, y, sample_weight)
        logits = self._logits(table)
        from scipy.optimize import minimize_scalar
        from scipy.special import logsumexp

        right = logits[np.arange(len(codes)), codes]

        def loss(log_beta: float) -> float:
            beta = np.exp(log_beta)
            return float(np.average(logsumexp(beta * logits, axis=1) - beta * right, weights=weight))

        low, high = np.log(self.bounds[0]), np.log(self.bounds[1])
        found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
        self.inverse_temperature_ = float(np.exp(found.x))
        self.at_bound_ = bool(min(found.x - low, high - found.x) < 1e-4)
        return self

    def at(self, inverse_temperature: float) -> TemperatureScaling:
        """Set the temperature instead of fitting it.

        Parameters
        ----------
        inverse_temperature : float
            Factor on the logits.

        Returns
        -------
        self : TemperatureScaling
        """
        self.inverse_temperature_ = float(inverse_temperature)
        return self

    def transform(self, proba: Any) -> NDArray[np.float64]:
        """Rescale probabilities.

        Parameters
        ----------
        proba : array-like of shape (sample, output)
            As in ``fit``.

        Returns
        -------
        ndarray of shape (sample, output)
            Rows sum to 1.
        """
        check_is_fitted(self)
        return _softmax(self.inverse_temperature_ * self._logits(proba))

    def _logits(self, proba: Any) -> NDArray[np.float64]:
        table = np.asarray(proba, dtype=np.float64)
        return table if self.from_logits else np.log(np.maximum(table, _TINY))


class OneVsRestCalibration(BaseEstimator):
    """Calibrate each output against the rest, then divide by the sum.

    Parameters
    ----------
    method : {"sigmoid", "isotonic"}
        Platt's logistic curve, or a monotone step function.

    Attributes
    ----------
    curves_ : list
        One fitted curve per output; None where the output never, or always, is right.
    base_rates_ : ndarray of shape (output,)
        Weighted share of samples in which each output is right; stands in for a missing curve.

    References
    ----------
    .. [1] Zadrozny & Elkan, Transforming classifier scores into accurate multiclass probability
       estimates, 2002.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.array([[2.0, -2.0], [-1.0, 1.0]] * 20)
    >>> calibrated = OneVsRestCalibration().fit(scores, [0, 1] * 20).transform(scores)
    >>> bool((calibrated.argmax(axis=1) == [0, 1] * 20).all())
    True
    """

    def __init__(self, method: str = "sigmoid"):
        self.method = method

    def fit(self, scores: Any, y: Any, sample_weight: Any = None) -> OneVsRestCalibration:
        """Fit one curve per output.

        Parameters
        ----------
        scores : array-like of shape (sample, output)
            Probabilities or decision values.
        y : array-like of int, shape (sample,)
            Codes of the right outputs.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : OneVsRestCalibration

        Raises
        ------
        PanelError
            If the method is unknown, or samples, codes and weights do not fit.
        """
        if self.method not in ("sigmoid", "isotonic"):
            raise PanelError(f"method must be 'sigmoid' or 'isotonic'; got {self.method!r}.")
        table, codes, weight = _checked(scores, y, sample_weight)
        # A logistic curve has the same shape at any scale, its penalty and its solver have not.
        self._centre, self._scale = table.mean(axis=0), table.std(axis=0)
        self._scale[self._scale == 0] = 1.0
        table = (table - self._centre) / self._scale
        self.curves_: list[Any] = []
        self.base_rates_ = np.array([np.average(codes == k, weights=weight) for k in range(table.shape[1])])
        for k in range(table.shape[1]):
            hit = codes == k
            if hit[weight > 0].all() or not hit[weight > 0].any():
                self.curves_.append(None)
            elif self.method == "isotonic":
                curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
                self.curves_.append(curve.fit(table[:, k], hit.astype(float), sample_weight=weight))
            else:
                curve = LogisticRegression(C=1e4)
                self.curves_.append(curve.fit(table[:, [k]], hit, sample_weight=weight))
        return self

    def transform(self, scores: Any) -> NDArray[np.float64]:
        """Turn scores into probabilities.

        Parameters
        ----------
        scores : array-like of shape (sample, output)
            As in ``fit``.

        Returns
        -------
        ndarray of shape (sample, output)
            Rows sum to 1.
        """
        check_is_fitted(self)
        table = (np.asarray(scores, dtype=np.float64) - self._centre) / self._scale
        proba = np.empty_like(table)
        for k, curve in enumerate(self.curves_):
            if curve is None:
                proba[:, k] = self.base_rates_[k]
            elif self.method == "isotonic":
                proba[:, k] = curve.predict(table[:, k])
            else:
                proba[:, k] = curve.predict_proba(table[:, [k]])[:, 1]
        proba = np.clip(proba, _TINY, None)
        return proba / proba.sum(axis=1, keepdims=True)


def make_calibrator(kind: Any) -> Any:
    """Give a fresh calibrator for a name, or a clone of the object given.

    Parameters
    ----------
    kind : {"temperature", "sigmoid", "isotonic"} or transformer
        A transformer needs ``fit(scores, y)`` and ``transform(scores)``.

    Returns
    -------
    object
        Unfitted calibrator.

    Raises
    ------
    PanelError
        If the name is unknown.
    """
    if kind == "temperature":
        return TemperatureScaling()
    if kind in ("sigmoid", "isotonic"):
        return OneVsRestCalibration(kind)
    if isinstance(kind, str):
        raise PanelError(f"calibration must be 'temperature', 'sigmoid' or 'isotonic'; got {kind!r}.")
    from sklearn.base import clone

    return clone(kind)


def _checked(
    scores: Any, y: Any, sample_weight: Any
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64]]:
    """Give scores, codes and weights that fit one another, or say what does not."""
    table, codes = np.asarray(scores, dtype=np.float64), np.asarray(y)
    weight = np.ones(len(codes)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if table.ndim != 2 or codes.shape != table.shape[:1] or weight.shape != codes.shape:
        raise PanelError(
            f"calibration needs scores (sample, output) with one code and weight per sample; got {table.shape}, "
            f"{codes.shape} and {weight.shape}."
        )
    if not np.isfinite(table).all():
        raise PanelError(
            f"calibration got {int((~np.isfinite(table)).sum())} scores that are not finite. Leave those samples out."
        )
    if codes.dtype.kind not in "iu" or (
        len(codes) and not (codes.min() >= 0 and codes.max() < table.shape[1])
    ):
        raise PanelError(f"y must hold codes from 0 to {table.shape[1] - 1}, the columns of the scores.")
    if (weight < 0).any() or not weight.sum() > 0:
        raise PanelError("calibration needs samples with positive weight.")
    return table, codes, weight


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))
