"""When to answer and when to ask someone else."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from theory import PanelError

if TYPE_CHECKING:
    import pandas as pd

    from estimators.result import FusionResult

_BY = ("confidence", "margin", "epistemic", "vote")
_STEPS = 100


class Defer(BaseEstimator):
    """A rule for handing samples on: answer where the doubt is small enough.

    Parameters
    ----------
    by : {"confidence", "margin", "epistemic", "vote"}
        What doubt is: 1 minus the highest fused probability; 1 minus the lead of the first over the
        second; the epistemic part of the entropy; or the disagreement of the first choices (of numbers,
        the only one: the specialists' squared distance from the fused answer).
    coverage : float, optional
        Share of samples to answer.
    risk : float, optional
        Most that may be wrong among the answered.
    delta : float
        How often the promise of ``risk`` may fail, over the draw of the samples fitted on. The stages of a
        cascade share it evenly, and have no proof of it: see ``predict_or_defer``.

    Notes
    -----
    Exactly one of ``coverage`` and ``risk`` is given. The promise is about samples like those of the
    out-of-fold panel. With few of them little can be promised: at n = 200 a risk of .02 accepts samples only if
    the 114 least doubtful ones are all answered correctly.

    References
    ----------
    .. [1] Geifman & El-Yaniv, Selective classification for deep neural networks, 2017.
    .. [2] Angelopoulos et al., Learn then test, 2021, section 2.3 (fixed-sequence testing).

    Examples
    --------
    >>> import numpy as np
    >>> doubt = np.arange(100) / 100
    >>> Defer(coverage=0.5).threshold(doubt, doubt > 0.8)
    0.5
    """

    def __init__(
        self,
        by: str = "confidence",
        *,
        coverage: float | None = None,
        risk: float | None = None,
        delta: float = 0.1,
    ):
        self.by = by
        self.coverage = coverage
        self.risk = risk
        self.delta = delta

    def check(self, *, numbers: bool = False) -> None:
        """Refuse parameters out of range.

        Parameters
        ----------
        numbers : bool
            Whether answers are numbers, which are not right or wrong.

        Raises
        ------
        PanelError
            If parameters are unknown or out of range, or do not fit the task.
        """
        if self.by not in _BY:
            raise PanelError(f"by must be one of {_BY}; got {self.by!r}.")
        if (self.coverage is None) == (self.risk is None):
            raise PanelError("Defer takes coverage= or risk=, one of the two.")
        for name in ("coverage", "risk", "delta"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, Real) or isinstance(value, bool) or not 0.0 < value < 1.0:
                raise PanelError(f"{name} must be between 0 and 1; got {value!r}.")
        if numbers and (self.by != "vote" or self.risk is not None):
            raise PanelError("numbers are not right or wrong: use Defer(by='vote', coverage=...) for them.")

    def doubt(self, result: FusionResult) -> NDArray[np.float64]:
        """Say how doubtful each answer is; infinite where nobody spoke.

        Parameters
        ----------
        result : FusionResult
            Fused answers.

        Returns
        -------
        ndarray of shape (sample,)
        """
        if self.by == "epistemic":
            doubt = result.epistemic
        elif self.by == "vote" or result.proba is None:
            doubt = result.disagreement
        elif self.by == "confidence" or result.proba.shape[1] < 2:
            doubt = 1.0 - result.proba.max(axis=1)
        else:
            two = np.partition(result.proba, -2, axis=1)[:, -2:]
            doubt = 1.0 - (two[:, 1] - two[:, 0])
        return np.where(result.n_present > 0, doubt, np.inf)

    def threshold(self, doubt: Any, wrong: Any, *, sample_weight: Any = None, stages: int = 1) -> float:
        """Find the doubt up to which to answer.

        Parameters
        ----------
        doubt : array-like of shape (sample,)
            On samples that nothing was fitted on.
        wrong : array-like of bool, shape (sample,)
            Whether the answer was wrong.
        sample_weight : array-like of shape (sample,), optional
            Counts of the samples.
        stages : int, default 1
            Stages of a cascade, each of which has a threshold: a promise holds if all of them do, so each may
            fail in ``delta`` / ``stages``. Bonferroni's step needs each test to be valid; one on samples that chose
            the thresholds of earlier stages is so in simulations only.

        Returns
        -------
        float
            Minus infinity where nothing may be answered.
        """
        self.check()
        if self.coverage is not None:
            return coverage_threshold(doubt, self.coverage, sample_weight=sample_weight)
        assert self.risk is not None
        return risk_threshold(doubt, wrong, self.risk, delta=self.delta / stages, sample_weight=sample_weight)


def coverage_threshold(doubt: Any, coverage: float, *, sample_weight: Any = None) -> float:
    """Give the doubt up to which a share of new samples is answered.

    Parameters
    ----------
    doubt : array-like of shape (sample,)
        On samples that nothing was fitted on.
    coverage : float
        Share to answer, at least.
    sample_weight : array-like of shape (sample,), optional
        Counts of the samples.

    Returns
    -------
    float
        The ceil((n + 1) coverage)-th smallest; infinite if n is too small.

    Raises
    ------
    PanelError
        If the coverage is out of range or doubts hold NaN.

    Examples
    --------
    >>> coverage_threshold([0.1, 0.2, 0.3, 0.4], 0.5)
    0.3
    """
    values, weight = _ordered(doubt, sample_weight)
    if not 0.0 < coverage < 1.0:
        raise PanelError(f"coverage must be between 0 and 1; got {coverage!r}.")
    reached = np.cumsum(weight)
    count = float(reached[-1]) if len(reached) else 0.0
    rank = np.ceil((count + 1.0) * coverage - 1e-9)
    return float("inf") if rank > count else float(values[np.searchsorted(reached, rank - 1e-9)])


def risk_threshold(
    doubt: Any, wrong: Any, risk: float, *, delta: float = 0.1, sample_weight: Any = None
) -> float:
    """Give the largest doubt up to which the error rate is proven to be at most ``risk``.

    Parameters
    ----------
    doubt : array-like of shape (sample,)
        On samples that nothing was fitted on.
    wrong : array-like of bool, shape (sample,)
        Whether the answer was wrong.
    risk : float
        Most that may be wrong among the answered.
    delta : float
        How often the promise may fail.
    sample_weight : array-like of shape (sample,), optional
        Counts of the samples.

    Returns
    -------
    float
        Minus infinity where nothing can be proven.

    Raises
    ------
    PanelError
        If risk or delta are out of range, or doubts and errors do not fit.

    Notes
    -----
    Thresholds are tested from the strictest upward, starting with m = ceil(ln delta / ln(1 - risk))
    answers, the fewest that can prove anything, in 100 steps that never part equal doubts. Each passes if
    the upper Clopper-Pearson limit Beta^-1(1 - delta; wrong + 1, m - wrong) is at most ``risk``; the
    first failure ends it. Tests in an order fixed beforehand need no correction for their number.

    References
    ----------
    .. [1] Angelopoulos et al., Learn then test, 2021, section 2.3.
    .. [2] Clopper & Pearson, The use of confidence or fiducial limits, 1934.

    Examples
    --------
    >>> import numpy as np
    >>> doubt = np.arange(1000) / 1000
    >>> 0.4 < risk_threshold(doubt, doubt > 0.5, 0.05) < 0.55
    True
    >>> risk_threshold(doubt[:10], np.zeros(10, dtype=bool), 0.05)
    -inf
    """
    from scipy.special import betaincinv

    for name, value in (("risk", risk), ("delta", delta)):
        if not 0.0 < value < 1.0:
            raise PanelError(f"{name} must be between 0 and 1; got {value!r}.")
    values, weight, hurt = _ordered(doubt, sample_weight, wrong)
    ends = np.flatnonzero(np.append(values[1:] > values[:-1], True)) if len(values) else np.zeros(0, int)
    ends = ends[np.isfinite(values[ends])]
    count, faults = np.cumsum(weight)[ends], np.cumsum(weight * hurt)[ends]
    first = np.ceil(np.log(delta) / np.log1p(-risk) - 1e-9)
    if not len(ends) or count[-1] < first:
        return -float("inf")
    steps = np.unique(np.searchsorted(count, np.linspace(first, count[-1], _STEPS) - 1e-9))
    passed = (
        betaincinv(faults[steps] + 1.0, np.maximum(count[steps] - faults[steps], 1e-12), 1.0 - delta) <= risk
    )
    kept = len(passed) if passed.all() else int(np.argmin(passed))
    return float(values[ends[steps[kept - 1]]]) if kept else -float("inf")


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """What each threshold of doubt answers, gets wrong and costs.

    Attributes
    ----------
    threshold : ndarray of shape (point,)
        Doubt up to which samples are answered, rising; the first answers none.
    coverage : ndarray
        Share of samples answered.
    risk : ndarray
        Share of wrong answers among them; NaN where none is answered.
    cost : ndarray
        Mean cost of a sample.
    """

    threshold: NDArray[np.float64]
    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    cost: NDArray[np.float64]

    @property
    def area(self) -> float:
        """Area under risk over coverage: the mean risk over all coverages."""
        known = self.coverage > 0
        steps = np.diff(self.coverage[known], prepend=0.0)
        return float((steps * self.risk[known]).sum())

    def cheapest(self) -> float:
        """Give the threshold of least cost; of equal ones the strictest."""
        return float(self.threshold[int(self.cost.argmin())])

    def to_frame(self) -> pd.DataFrame:
        """Give the curve as a DataFrame."""
        import pandas as pd

        return pd.DataFrame({k: getattr(self, k) for k in ("threshold", "coverage", "risk", "cost")})

    def plot(self, ax: Any = None) -> Any:
        """Draw risk and cost over coverage; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where; a new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from matplotlib.figure import Figure

        if ax is None:
            ax = Figure(figsize=(5.0, 3.2), layout="constrained").add_subplot()
        ax.plot(self.coverage, self.risk, label="wrong among the answered")
        ax.plot(self.coverage, self.cost, linestyle="--", label="cost of a sample")
        ax.set_xlabel("share answered")
        ax.set_xlim(0.0, 1.0)
        ax.set_ylim(bottom=0.0)
        ax.legend(frameon=False)
        return ax


def risk_coverage(
    doubt: Any,
    wrong: Any,
    *,
    cost_error: float = 1.0,
    cost_defer: float = 0.0,
    sample_weight: Any = None,
) -> RiskCoverage:
    """Compute what every threshold of doubt answers, gets wrong and costs.

    Parameters
    ----------
    doubt : array-like of shape (sample,)
        On samples that nothing was fitted on.
    wrong : array-like of shape (sample,)
        Whether the answer was wrong, or its loss.
    cost_error : float
        Of a wrong answer.
    cost_defer : float
        Of a sample handed on.
    sample_weight : array-like of shape (sample,), optional
        Counts of the samples.

    Returns
    -------
    RiskCoverage
        One point per distinct doubt, and one that answers nothing.

    Raises
    ------
    PanelError
        If doubts and errors do not fit.

    References
    ----------
    .. [1] El-Yaniv & Wiener, On the foundations of noise-free selective classification, 2010.

    Examples
    --------
    >>> curve = risk_coverage([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], cost_defer=0.3)
    >>> curve.risk.round(2).tolist(), curve.cheapest()
    ([nan, 0.0, 0.0, 0.33, 0.5], 0.2)
    """
    values, weight, hurt = _ordered(doubt, sample_weight, wrong)
    if not len(values):
        raise PanelError("a risk-coverage curve needs at least one sample.")
    ends = np.flatnonzero(np.append(values[1:] > values[:-1], True))
    total = float(weight.sum())
    coverage = np.append(0.0, np.cumsum(weight)[ends] / total)
    lost = np.append(0.0, np.cumsum(weight * hurt)[ends] / total)
    with np.errstate(invalid="ignore", divide="ignore"):
        risk = lost / coverage
    cost = cost_error * lost + cost_defer * (1.0 - coverage)
    return RiskCoverage(np.append(-np.inf, values[ends]), coverage, risk, cost)


def _ordered(doubt: Any, sample_weight: Any, *more: Any) -> tuple[Any, ...]:
    """Give doubts, counts and what else there is, in the order of the doubts."""
    values = np.asarray(doubt, dtype=np.float64)
    weight = np.ones(len(values)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    columns = [values, weight, *(np.asarray(column, dtype=np.float64) for column in more)]
    if values.ndim != 1 or any(column.shape != values.shape for column in columns):
        raise PanelError(f"one number per sample is needed; got {[column.shape for column in columns]}.")
    if any(np.isnan(column).any() for column in columns) or (weight < 0).any():
        raise PanelError("doubts, errors and weights must be numbers, no weight below 0.")
    counted = weight > 0
    order = np.argsort(values[counted], kind="stable")
    return tuple(column[counted][order] for column in columns)
