"""Cheap specialists first: what asking the expensive ones only about doubtful samples costs and gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators.choice import cross_fit, own_folds
from estimators.leaderboard import losses
from estimators.result import class_uncertainty, present_weights
from estimators.table import Table
from estimators.training import read_training
from theory import PanelError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class EscalationCurve:
    """Accuracy and cost by the share of samples that the expensive specialists are asked about.

    Attributes
    ----------
    share : ndarray of shape (point,)
        Share of samples escalated, the most doubtful first.
    cost : ndarray
        Mean cost of a sample.
    accuracy : ndarray
        Of the cheap answer where it was kept, of the whole panel's elsewhere.
    random : ndarray
        Expected accuracy where as many samples are escalated by lot: the same cost.
    se : ndarray
        Standard error of ``accuracy - random``, paired by sample.
    """

    share: NDArray[np.float64]
    cost: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    random: NDArray[np.float64]
    se: NDArray[np.float64]

    def to_frame(self) -> pd.DataFrame:
        """Give the curve as a DataFrame."""
        import pandas as pd

        return pd.DataFrame({k: getattr(self, k) for k in ("share", "cost", "accuracy", "random", "se")})

    def plot(self, ax: Any = None) -> Any:
        """Draw accuracy over cost; needs matplotlib.

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
        ax.plot(self.cost, self.accuracy, label="doubtful samples escalated")
        ax.plot(self.cost, self.random, linestyle="--", label="as many, by lot")
        ax.set_xlabel("cost of a sample")
        ax.set_ylabel("accuracy")
        ax.legend(frameon=False)
        return ax


def escalation_curve(
    panel: Any,
    y: Any,
    *,
    expensive: Any,
    costs: Any = None,
    fusion: Any = "auto",
    by: str = "confidence",
    points: int = 21,
    cv: int = 5,
) -> EscalationCurve:
    """Measure what asking expensive specialists only about doubtful samples costs and gains.

    Parameters
    ----------
    panel : array-like of shape (sample, specialist, output)
        Probabilities or one-hot votes for samples that the specialists were not fitted on; NaN rows where
        one did not answer.
    y : array-like of int, shape (sample,)
        Codes of the right outputs.
    expensive : array-like of int or of bool
        Positions of the specialists that are first left out.
    costs : array-like of shape (specialist,), optional
        What an answer costs; 1 by default.
    fusion : str, fusion.Operator, learned fusion or callable
        Fuses the cheap ones alone, and all of them.
    by : {"confidence", "vote", "epistemic"}
        What makes the cheap answer doubtful.
    points : int
        Shares looked at, from 0 to 1.
    cv : int
        Folds over which learned fusions are cross-fitted.

    Returns
    -------
    EscalationCurve

    Raises
    ------
    PanelError
        If nobody, or everybody, is expensive, a parameter is out of range, or the panel, truths and costs do not
        fit.

    Notes
    -----
    Both fusions, and so the doubt, are learned on other folds than they are judged on. A tie is right by
    chance. Escalating by lot has its expected accuracy in closed form, without a draw.

    References
    ----------
    .. [1] Chen, Zaharia & Zou, FrugalGPT, 2023, section 3 (cascades of models).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=900)
    >>> skill = [0.6, 0.6, 0.6, 0.95]
    >>> said = np.where(rng.random((900, 4)) < skill, y[:, None], rng.integers(3, size=(900, 4)))
    >>> curve = escalation_curve(np.eye(3)[said], y, expensive=[3], costs=[1, 1, 1, 20])
    >>> bool(curve.accuracy[8] > curve.random[8] + 0.03)
    True
    """
    values, target, _ = read_training(panel, y, "classification")
    if not isinstance(points, int | np.integer) or points < 2:
        raise PanelError(f"points must be a whole number >= 2; got {points!r}.")
    dear = np.zeros(values.shape[1], dtype=bool)
    try:
        dear[np.asarray(expensive)] = True
    except IndexError as error:
        raise PanelError(
            f"expensive takes positions from 0 to {len(dear) - 1}, or {len(dear)} truth values; got {expensive!r}."
        ) from error
    price = np.ones(len(dear)) if costs is None else np.asarray(costs, dtype=np.float64)
    if not dear.any() or dear.all() or price.shape != dear.shape or not (price >= 0).all():
        raise PanelError(
            f"some but not all of {len(dear)} specialists must be expensive, with a cost >= 0 each; got "
            f"{int(dear.sum())} and costs of shape {price.shape}."
        )
    codes = target.argmax(axis=1)
    fold = own_folds(len(values), cv)
    right, doubt = {}, np.zeros(len(values))
    for name, chosen in (("cheap", ~dear), ("whole", np.ones_like(dear))):
        part = np.ascontiguousarray(values[:, chosen])
        fused = cross_fit(fusion, part, codes, task="classification", folds=fold, costs=price[chosen])
        table = Table(part, codes, "probabilities", None, tuple(map(str, np.flatnonzero(chosen))))
        right[name] = 1.0 - losses(table, fused)["error"]
        if name == "cheap":
            doubt = _doubt(part, np.nan_to_num(fused), by)
    order = np.argsort(-doubt, kind="stable")
    share = np.linspace(0.0, 1.0, points)
    count = np.round(share * len(values)).astype(int)
    gain = np.append(0.0, np.cumsum((right["whole"] - right["cheap"])[order]))
    base, top = float(right["cheap"].mean()), float(right["whole"].mean())
    escalated = np.argsort(order)[:, None] < count
    apart = (escalated - count / len(values)) * (right["whole"] - right["cheap"])[:, None]
    return EscalationCurve(
        share=count / len(values),
        cost=float(price[~dear].sum()) + count / len(values) * float(price[dear].sum()),
        accuracy=base + gain[count] / len(values),
        random=base + count / len(values) * (top - base),
        se=apart.std(axis=0, ddof=1) / np.sqrt(len(values)),
    )


def _doubt(panel: NDArray[np.float64], fused: NDArray[np.float64], by: str) -> NDArray[np.float64]:
    if by == "confidence":
        return np.asarray(1.0 - fused.max(axis=1))
    shares = present_weights(None, ~np.isnan(panel).all(axis=2))
    disagreement, _, epistemic = class_uncertainty(panel, shares)
    if by not in ("vote", "epistemic"):
        raise PanelError(f"by must be 'confidence', 'vote' or 'epistemic'; got {by!r}.")
    return disagreement if by == "vote" else epistemic
