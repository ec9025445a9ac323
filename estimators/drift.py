"""Whether a panel changed over time: its accuracy and its error correlation, block of samples by block."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators.evidence import standard_error
from estimators.leaderboard import losses
from estimators.table import Table
from theory import PanelError, error_correlation

if TYPE_CHECKING:
    import pandas as pd

FUSED, RHO = "the recommended rule", "mean error correlation"
_LEAST_BLOCK = 20


@dataclass(frozen=True, eq=False)
class Drift:
    """A panel by consecutive blocks of samples.

    Attributes
    ----------
    start, stop : ndarray of int, shape (block,)
        First sample of each block, and the one after its last.
    score : ndarray of shape (block, specialist)
        Accuracy of each specialist, an abstention counting as not right; or 1 minus its squared error
        over the variance of the truth of all blocks. NaN where it answered no number.
    fused : ndarray of shape (block,)
        The same of the recommended rule, cross-fitted.
    rho, rho_se : ndarray of shape (block,)
        Mean error correlation and its standard error; NaN where errors do not vary.
    tests : DataFrame, index series
        One row for each specialist, for the recommended rule and for the error correlation: value in the
        ``first`` and ``last`` block, ``least`` and ``most`` of all blocks, ``statistic``, ``p``, and
        ``p_holm``, corrected for the number of rows.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    score: NDArray[np.float64]
    fused: NDArray[np.float64]
    rho: NDArray[np.float64]
    rho_se: NDArray[np.float64]
    tests: pd.DataFrame

    def changed(self, level: float = 0.05) -> list[str]:
        """Name the series that changed beyond chance, by the corrected p."""
        return [str(name) for name in self.tests.index[self.tests["p_holm"] < level]]


def measure_drift(
    table: Table, errors: NDArray[np.float64], fused: NDArray[np.float64], *, n_blocks: int
) -> Drift:
    """Compare consecutive blocks of samples.

    Parameters
    ----------
    table : Table
        Panel and truth, samples in order of time.
    errors : ndarray of shape (sample, specialist) or (sample, specialist, output)
        Of the specialists.
    fused : ndarray of shape (sample, output)
        Cross-fitted answers of the rule to follow.
    n_blocks : int
        Blocks of equal size, give or take one sample.

    Returns
    -------
    Drift

    Raises
    ------
    PanelError
        If there are fewer than two blocks, or blocks of fewer than 20 samples.

    Notes
    -----
    Under no change Q = sum_b (m_b - m)^2 / v_b is chi-squared with one degree of freedom fewer than blocks.
    Of scores, v_b is the variance within blocks, pooled over all of them, over the size of the block (within
    groups samples count together); of the correlation, its own squared standard error in each block, m weighted by
    their inverse. p is corrected by Holm's method.

    References
    ----------
    .. [1] Cochran, The combination of estimates from different experiments, 1954.
    .. [2] Holm, A simple sequentially rejective multiple test procedure, 1979.

    Examples
    --------
    >>> from estimators.table import read_table
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=400)
    >>> panel = np.where(rng.random((400, 3)) < 0.8, y[:, None], 1 - y[:, None])
    >>> panel[200:, 1] = rng.integers(2, size=200)
    >>> table, _ = read_table(panel, y)
    >>> drift = measure_drift(table, (panel != y[:, None]).astype(float), np.eye(2)[panel[:, 0]], n_blocks=4)
    >>> drift.changed()
    ['1']
    """
    import pandas as pd

    n = len(table.y)
    if isinstance(n_blocks, bool) or n_blocks != int(n_blocks) or n_blocks < 2:
        raise PanelError(f"drift_blocks must be a whole number of at least 2; got {n_blocks!r}.")
    if n < _LEAST_BLOCK * n_blocks:
        raise PanelError(
            f"{n_blocks} blocks of {n} samples have fewer than {_LEAST_BLOCK} each. Lower drift_blocks to "
            f"{n // _LEAST_BLOCK}."
        )
    edges = np.linspace(0, n, int(n_blocks) + 1).round().astype(np.int64)
    block = np.repeat(np.arange(int(n_blocks)), np.diff(edges))
    series = _scores(table, fused)
    rows: dict[str, tuple[float, ...]] = {}
    means = {}
    for name, values in series.items():
        means[name] = _block_means(values, block)
        rows[name] = (*_ends(means[name]), *_homogeneity(values, block, means[name], table.groups))
    rho, rho_se = _correlations(table, errors, edges)
    rows[RHO] = (*_ends(rho), *_cochran(rho, rho_se**2))
    columns = ["first", "last", "least", "most", "statistic", "p"]
    tests = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    tests.index.name = "series"
    tests["p_holm"] = _holm(tests["p"].to_numpy())
    score = np.stack([means[name] for name in table.names], axis=1)
    return Drift(edges[:-1], edges[1:], score, means[FUSED], rho, rho_se, tests)


def _scores(table: Table, fused: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Give the score of every sample, of each specialist and of the rule."""
    if table.task == "numbers":
        spread = float(((table.y - table.y.mean(axis=0)) ** 2).sum(axis=1).mean()) or 1.0
        own = 1.0 - ((table.panel - table.y[:, None, :]) ** 2).sum(axis=2) / spread
        rule = 1.0 - losses(table, fused)["squared_error"] / spread
    else:
        own = np.stack(
            [1.0 - losses(table, table.panel[:, i])["error"] for i in range(len(table.names))], axis=1
        )
        rule = 1.0 - losses(table, fused)["error"]
    return {**dict(zip(table.names, own.T, strict=True)), FUSED: rule}


def _ends(values: NDArray[np.float64]) -> tuple[float, ...]:
    known = values[~np.isnan(values)]
    least, most = (known.min(), known.max()) if len(known) else (np.nan, np.nan)
    return float(values[0]), float(values[-1]), float(least), float(most)


def _block_means(values: NDArray[np.float64], block: NDArray[np.int64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    count = np.bincount(block[known], minlength=block[-1] + 1)
    total = np.bincount(block[known], weights=values[known], minlength=block[-1] + 1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _homogeneity(
    values: NDArray[np.float64], block: NDArray[np.int64], means: NDArray[np.float64], groups: Any
) -> tuple[float, float]:
    known = ~np.isnan(values)
    count = np.bincount(block[known], minlength=block[-1] + 1)
    owner = None if groups is None else groups[known]
    error = standard_error(values[known] - means[block[known]], owner)
    with np.errstate(divide="ignore"):
        return _cochran(means, error**2 * known.sum() / count)


def _cochran(means: NDArray[np.float64], variance: NDArray[np.float64]) -> tuple[float, float]:
    """Test whether means with known variances are equal; NaN where none varies."""
    from scipy.stats import chi2

    here = np.isfinite(means) & np.isfinite(variance) & (variance > 0)
    if here.sum() < 2:
        return float("nan"), float("nan")
    weight = 1.0 / variance[here]
    centre = (weight * means[here]).sum() / weight.sum()
    statistic = float((weight * (means[here] - centre) ** 2).sum())
    return statistic, float(chi2.sf(statistic, here.sum() - 1))


def _correlations(
    table: Table, errors: NDArray[np.float64], edges: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    found = np.full((len(edges) - 1, 2), np.nan)
    for b, (low, high) in enumerate(pairwise(edges)):
        part = errors[low:high]
        gaps = np.isnan(part)
        known = ~(gaps.any(axis=2) if gaps.ndim == 3 else gaps)
        if (known.T.astype(int) @ known.astype(int)).min() < 3:
            continue  # a pair that never answered together has no correlation
        groups = None if table.groups is None else table.groups[low:high]
        if groups is not None and len(np.unique(groups)) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # a constant error in one block; its pairs are left out of the mean
            result = error_correlation(part, groups=groups, missing="abstain" if gaps.any() else "raise")
        found[b] = result.rho_mean, np.nan if result.rho_mean_se is None else result.rho_mean_se
    return found[:, 0], found[:, 1]


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted
