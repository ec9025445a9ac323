"""What an audited rule gains by handing its most doubtful samples on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.deferral import RiskCoverage, risk_coverage
from estimators.leaderboard import losses
from estimators.result import number_spread, present_weights
from estimators.table import Table
from estimators.training import first_choices

SHARES = (1.0, 0.95, 0.9, 0.8, 0.5)


def rule_doubt(table: Table, fused: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say how doubtful each fused answer is; infinite where nobody answered.

    Parameters
    ----------
    table : Table
        Panel.
    fused : ndarray of shape (sample, output)
        Answers of a rule.

    Returns
    -------
    ndarray of shape (sample,)
        1 minus the largest share. Where that never varies (one specialist's label has the share 1), the share
        of the panel that put another option first than the fused one. Of numbers, the specialists' mean squared
        distance from the fused answer.
    """
    present = np.isfinite(table.panel).any(axis=2)
    if table.task == "numbers":
        spread = number_spread(table.panel, fused, present_weights(None, present)).sum(axis=1)
        return np.where(np.isfinite(fused).all(axis=1) & present.any(axis=1), spread, np.inf)
    answered = np.isfinite(fused).any(axis=1)
    shares = np.where(np.isfinite(fused), np.maximum(fused, 0.0), 0.0)
    mass = shares.sum(axis=1)
    doubt = 1.0 - shares.max(axis=1) / np.where(mass > 0, mass, 1.0)
    if answered.any() and np.ptp(doubt[answered]) <= 1e-12:
        agree = (first_choices(table.panel) == shares.argmax(axis=1)[:, None]) & present
        doubt = 1.0 - agree.sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return np.where(answered, np.round(doubt, 12), np.inf)


def deferral_curve(table: Table, fused: NDArray[np.float64]) -> RiskCoverage:
    """Compute what share of wrong answers every threshold of doubt leaves.

    Parameters
    ----------
    table : Table
        Panel and truth.
    fused : ndarray of shape (sample, output)
        Cross-fitted answers of a rule.

    Returns
    -------
    RiskCoverage
        ``risk`` is the share of wrong answers among the answered, or the squared error over the variance of
        the truth (1 - R2).
    """
    loss = losses(table, fused)
    if table.task != "numbers":
        return risk_coverage(rule_doubt(table, fused), loss["error"])
    spread = float(((table.y - table.y.mean(axis=0)) ** 2).sum(axis=1).mean()) or 1.0
    return risk_coverage(rule_doubt(table, fused), loss["squared_error"] / spread)


def risk_at(curve: RiskCoverage, share: float) -> tuple[float, float]:
    """Read a curve at the least coverage that answers a share of the samples.

    Parameters
    ----------
    curve : RiskCoverage
        From :func:`deferral_curve`.
    share : float
        Share to answer, at least.

    Returns
    -------
    coverage, risk : float
        Equal doubts are answered together, so the coverage may be larger.

    Examples
    --------
    >>> risk_at(risk_coverage([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]), 0.6)[0]
    0.75
    """
    point = min(int(np.searchsorted(curve.coverage, share - 1e-9)), len(curve.coverage) - 1)
    return float(curve.coverage[point]), float(curve.risk[point])
