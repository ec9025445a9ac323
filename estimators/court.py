"""Critics who predict how far each number is off, and the judge who reads what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from estimators.critic import fit_weighted

_SHRINK = 0.1
_FLOOR = 1e-3
_FEW = 30  # rows with somebody absent, on which a judge can be compared with the pool
_ABSENT = 1e6  # variance of an answer that was not given, relative to that of y


@dataclass(frozen=True, eq=False)
class Finding:
    """What a court says of some samples.

    Attributes
    ----------
    value, sd : ndarray of shape (sample,)
        The judge's number, and the standard deviation of its error as the critics' predictions have it.
    errors : ndarray of shape (sample, specialist)
        Standard deviation that the critics predict for each specialist.
    """

    value: NDArray[np.float64]
    sd: NDArray[np.float64]
    errors: NDArray[np.float64]


class Court:
    """Critics and judge of one set of specialists who give numbers.

    Parameters
    ----------
    critic, judge : regressor or None
        As in :class:`DeliberativeRegressor`.
    clip : bool
        Whether weights are clipped at 0.
    prior : float
        Stands for an answer where nobody gave one.
    seed : int
        For estimators without a seed.

    Attributes
    ----------
    cross_fitted_ : Finding
        Of the rows of ``fit``, by critics and judges that did not see them.
    rivals_ : dict of str to ndarray of shape (sample,)
        Cross-fitted numbers of ridge stacking, the pool, the mean and the best single specialist.
    scale_ : float
        Variance of y.
    best_ : int
        Column of the best single specialist.
    pool_ratio_ : float
        Mean squared error of the pool over what the critics predicted for it.
    """

    def __init__(self, critic: Any, judge: Any, *, clip: bool, prior: float, seed: int):
        self.critic, self.judge, self.clip, self.prior, self.seed = critic, judge, clip, prior, seed

    def fit(self, said: Any, y: Any, x: Any, splits: Any, weight: Any = None) -> Court:
        """Cross-fit critics, then the judge on their outputs.

        Parameters
        ----------
        said : ndarray of shape (sample, specialist)
            Sealed proposals to samples that the specialists were not fitted on; NaN where there is none.
        y : ndarray of shape (sample,)
            Numbers.
        x : ndarray of shape (sample, feature)
            What critics see.
        splits : list of (train, test)
            Folds of these rows.
        weight : ndarray of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : Court
        """
        n, m = said.shape
        here = ~np.isnan(said)
        share = np.ones(n) if weight is None else weight
        self.scale_ = max(float(np.average((y - np.average(y, weights=share)) ** 2, weights=share)), 1e-300)
        mass = np.maximum((here * share[:, None]).sum(axis=0), 1e-300)
        self._bias = (np.where(here, said - y[:, None], 0.0) * share[:, None]).sum(axis=0) / mass
        filled = self._filled(said)
        residual = np.where(here, filled - y[:, None], 0.0)
        variance = self._fit_critics(filled, here, residual, x, splits, weight)
        self._stretch = (np.where(here, residual**2 / variance, 0.0) * share[:, None]).sum(axis=0) / mass
        self._stretch = np.maximum(self._stretch, 1e-12)
        variance *= self._stretch
        standard = np.where(here, residual / np.sqrt(variance), 0.0)
        moment = (standard * share[:, None]).T @ standard
        scale = np.sqrt(np.maximum(moment.diagonal(), 1e-300))
        r = moment / scale[:, None] / scale[None, :]
        self._correlation = (1.0 - _SHRINK) * r + _SHRINK * np.eye(m)
        weights, sd = self._weights(np.where(here, variance, _ABSENT * self.scale_))
        features = _brief(filled, weights)
        ridge = RidgeCV(alphas=np.logspace(-3, 3, 13) * max(float(features.var()), 1e-12))
        judged, stacked, best = np.empty(n), np.empty(n), np.empty(n)
        loss = np.where(here, residual**2, self.scale_) * share[:, None]
        for train, test in splits:
            part = None if weight is None else weight[train]
            judge = fit_weighted(self.judge, ridge, features[train], y[train], part, self.seed)
            judged[test] = judge.predict(features[test])
            stack = fit_weighted(None, ridge, filled[train], y[train], part, self.seed)
            stacked[test] = stack.predict(filled[test])
            best[test] = filled[test, int(loss[train].sum(axis=0).argmin())]
        self._judge = fit_weighted(self.judge, ridge, features, y, weight, self.seed)
        pooled = (weights * filled).sum(axis=1)
        self.pool_ratio_ = float(np.average((y - pooled) ** 2 / sd**2, weights=share))
        self._plain = np.maximum((residual**2 * share[:, None]).sum(axis=0) / mass, 1e-12 * self.scale_)
        self._copes, self._own = False, 1.0
        part = ~here.all(axis=1)
        alone = self._settled(judged, sd, variance, filled, here).value
        lost = (share * ((y - judged) ** 2 - (y - alone) ** 2))[part].sum()
        self._copes = int(part.sum()) >= _FEW and bool(lost <= 0.0)
        # The judge is better than the pool whose error is predicted: its own scale, so that sd^2 is what it risks.
        known = share * (~part | self._copes)
        known = known if known.any() else share
        self._own = np.sqrt(max(float(np.average((y - judged) ** 2 / sd**2, weights=known)), 1e-12))
        self.cross_fitted_ = self._settled(judged, sd, variance, filled, here)
        self.rivals_ = {
            "stack": stacked,
            "pool": pooled,
            "mean": filled.mean(axis=1),
            "best_single": best,
        }
        self.best_ = int(loss.sum(axis=0).argmin())
        return self

    def hear(self, said: Any, x: Any) -> Finding:
        """Give the verdict.

        Parameters
        ----------
        said : ndarray of shape (sample, specialist)
            Sealed proposals; NaN where there is none.
        x : ndarray of shape (sample, feature)
            What critics see.

        Returns
        -------
        Finding
            The prior where nobody answered.
        """
        here, filled = ~np.isnan(said), self._filled(said)
        variance = np.empty(filled.shape)
        for i, critic in enumerate(self._critics):
            told = np.log(self.scale_) if critic is None else critic.predict(_situation(filled, x, i))
            variance[:, i] = np.exp(told) * self._stretch[i]
        weights, sd = self._weights(np.where(here, variance, _ABSENT * self.scale_))
        judged = np.asarray(self._judge.predict(_brief(filled, weights)), dtype=np.float64)
        found = self._settled(judged, sd, variance, filled, here)
        nobody = ~here.any(axis=1)
        return Finding(
            np.where(nobody, self.prior, found.value),
            np.where(nobody, np.sqrt(self.scale_), found.sd),
            found.errors,
        )

    def _fit_critics(self, filled: Any, here: Any, residual: Any, x: Any, splits: Any, weight: Any) -> Any:
        n, m = filled.shape
        variance = np.empty((n, m))
        self._critics: list[Any] = []
        target = np.log(np.maximum(residual**2, _FLOOR * self.scale_))
        for i in range(m):
            rows = _situation(filled, x, i)
            for train, test in splits:
                known = train[here[train, i]]
                one = self._critic(rows, target[:, i], known, weight)
                variance[test, i] = np.log(self.scale_) if one is None else one.predict(rows[test])
            self._critics.append(self._critic(rows, target[:, i], np.flatnonzero(here[:, i]), weight))
        return np.exp(variance)

    def _critic(self, table: Any, target: Any, rows: Any, weight: Any) -> Any:
        if not len(rows):
            return None
        default = HistGradientBoostingRegressor(
            max_iter=120, learning_rate=0.07, max_leaf_nodes=15, early_stopping=False
        )
        model = None if self.critic is None else clone(self.critic)
        part = None if weight is None else weight[rows]
        return fit_weighted(model, default, table[rows], target[rows], part, self.seed)

    def _weights(self, variance: Any) -> tuple[Any, Any]:
        """Weights D^-1 R^-1 D^-1 1, made to sum to 1, and the sd of the pool that they predict."""
        inverse = 1.0 / np.sqrt(variance)
        weights = inverse * np.linalg.solve(self._correlation, inverse.T).T
        if self.clip:
            weights = np.maximum(weights, 0.0)
        total = weights.sum(axis=1, keepdims=True)
        small = total <= 1e-12 * np.abs(weights).sum(axis=1, keepdims=True)
        weights = np.where(small, 1.0 / weights.shape[1], weights / np.where(small, 1.0, total))
        scaled = weights * np.sqrt(variance)
        return weights, np.sqrt(np.maximum((scaled @ self._correlation * scaled).sum(axis=1), 1e-300))

    def _settled(self, judged: Any, sd: Any, variance: Any, filled: Any, here: Any) -> Finding:
        """Where somebody is absent, pool the others by their mean squared errors, unless the judge copes with it.

        A judge adds up what two say that see a half of the signal each, and counts one twice without the other; a
        critic takes it for agreement that nobody differs. With one of two such sensors gone the root mean squared
        error was 1.42 where the other alone has 1.02, and intervals of .9 held .37; so it is .99, and they hold .90.
        """
        value, risk, errors = judged.copy(), self._own * sd, np.where(here, np.sqrt(variance), np.nan)
        pool = ~here.all(axis=1) & (not self._copes)
        if pool.any():
            plain = np.where(here[pool], self._plain, _ABSENT * self.scale_)
            weights, risk[pool] = self._weights(plain)
            value[pool] = (weights * filled[pool]).sum(axis=1)
            errors[pool] = np.where(here[pool], np.sqrt(plain), np.nan)
        return Finding(value, risk, errors)

    def _filled(self, said: Any) -> Any:
        """Take biases away; who is absent gets the mean of the others, with next to no weight."""
        here = ~np.isnan(said)
        plain = np.where(here, said - self._bias, 0.0)
        count = here.sum(axis=1, keepdims=True)
        mean = np.where(count > 0, plain.sum(axis=1, keepdims=True) / np.maximum(count, 1), self.prior)
        return np.where(here, plain, mean)


def paired_gain(y: Any, judged: Any, other: Any, share: Any) -> dict[str, float]:
    """Give the squared error saved, with its paired standard error.

    Parameters
    ----------
    y, judged, other : ndarray of shape (sample,)
        Truth and two answers.
    share : ndarray of shape (sample,)
        Weights.

    Returns
    -------
    dict
        ``value`` and ``standard_error``.
    """
    saved = (y - other) ** 2 - (y - judged) ** 2
    mean = float(np.average(saved, weights=share))
    w = share / share.sum()
    return {"value": mean, "standard_error": float(np.sqrt((w**2 * (saved - mean) ** 2).sum()))}


def _situation(said: Any, x: Any, i: int) -> Any:
    return np.column_stack([x, said[:, i], said.mean(axis=1), said.std(axis=1)])


def _brief(said: Any, weights: Any) -> Any:
    weighted = weights * said
    return np.column_stack([said, weighted, weighted.sum(axis=1)])
