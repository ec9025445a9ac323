"""A fusion chosen by what would have been right: simple unless something else clearly wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from estimators.calibration import TemperatureScaling
from estimators.fusions import PanelFuser, fusion_name
from estimators.leaderboard import losses
from estimators.stacking import Arbiter
from estimators.table import Table
from estimators.training import read_training
from theory import PanelError

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("loss", "gain", "se", "behind", "behind_se", "level")
_LEAST = 20  # rows: below, no paired comparison is worth its noise


class AutoFusion(BaseEstimator):
    """Compare a few fusions on samples that they did not learn from, and keep the simplest good one.

    Parameters
    ----------
    candidates : sequence of fusions, optional
        Simplest first. Defaults: of classes the mean, the log pool, covariance weights, the best single
        specialist and an arbiter; of numbers the mean, covariance weights and the best single
        specialist.
        Names that occur more than once are numbered: ``arbiter-1``, ``arbiter-2``.
    margin : float
        Standard errors of the paired difference within which a simpler candidate is preferred.
    cv : int
        Folds of the comparison where ``fit`` is given none.

    Attributes
    ----------
    chosen_ : str
        Name of the candidate in use.
    fusion_ : object
        The candidate itself, fitted on all rows.
    weights_ : ndarray of shape (specialist,), or None
        Its weights; equal ones where it learns none.
    table_ : DataFrame
        By candidate: cross-fitted ``loss`` (error rate, or squared error); its paired ``gain`` over
        the first candidate with standard error ``se``; how far it is ``behind`` the lowest loss, with
        ``behind_se``; whether it is ``level`` with it; and the ``brier`` score of classes.
    refused_ : dict
        Candidates that this panel cannot serve, with their reason.
    reason_ : str
        The outcome in words: who was level with the lowest loss, whom the Brier score left, which of these is
        the simplest, by how much it beats the first candidate, and who was refused.

    Notes
    -----
    Candidates within ``margin`` paired standard errors of the lowest loss are level. Of classes those are compared
    once more by their Brier score, which varies less than the error rate, each at its best temperature: how
    sharp a fusion is can be mended by ``calibration="temperature"``. The first of those still level is taken:
    equal weights stay unless learned ones win clearly. Its loss in the table is a little too low, since it was
    chosen by it.
    Below 20 rows, or with one fold, the first candidate is taken without a comparison. Chosen on four fifths and
    judged on the rest, it was right in .9875 of the six-view digits (best single specialist .977), and in .7237,
    .9700, .9205, .9697 of four panels of language models (best single model .7026, .9633, .9020, .9687).

    References
    ----------
    .. [1] Breiman et al., Classification and regression trees, 1984, section 3.4.3 (the one-standard-error rule).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=600)
    >>> said = np.where(rng.random((600, 4)) < [0.95, 0.4, 0.4, 0.4], y[:, None], rng.integers(3, size=(600, 4)))
    >>> auto = AutoFusion(["mean", "covariance"]).fit(np.eye(3)[said], y)
    >>> auto.chosen_, bool(auto.weights_[0] > 0.5)
    ('covariance', True)
    """

    def __init__(self, candidates: Any = None, *, margin: float = 1.0, cv: int = 5):
        self.candidates = candidates
        self.margin = margin
        self.cv = cv

    def fit(
        self,
        panel: Any,
        y: Any,
        *,
        task: str = "classification",
        sample_weight: Any = None,
        folds: Any = None,
        groups: Any = None,
        costs: Any = None,
    ) -> AutoFusion:
        """Compare the candidates and fit the one chosen.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            Answers to samples that the specialists were not fitted on; NaN where one was absent.
        y : array-like
            Codes of the right outputs, or numbers.
        task : {"classification", "regression"}
            What ``y`` is.
        sample_weight : array-like of shape (sample,), optional
            Counts of the samples.
        folds : array-like of int, shape (sample,), optional
            Fold of each sample; each is predicted by what was learned on the others.
        groups : array-like of shape (sample,), optional
            Samples of one group count as one in standard errors.
        costs : array-like of shape (specialist,), optional
            What each specialist costs, for candidates that select by cost and were given no costs of their own.

        Returns
        -------
        self : AutoFusion

        Raises
        ------
        PanelError
            If there is no candidate, none can serve this panel, or a parameter is out of range.
        """
        values, target, weight = read_training(panel, y, task, sample_weight)
        given = _default_candidates(task) if self.candidates is None else list(self.candidates)
        if not given or not (np.isscalar(self.margin) and self.margin >= 0):
            raise PanelError(
                f"AutoFusion needs a candidate and margin >= 0; got {len(given)} and {self.margin!r}."
            )
        names = _numbered([fusion_name(fusion) for fusion in given])
        truth = np.asarray(y) if task == "classification" else target
        if not isinstance(self.cv, int | np.integer) or self.cv < 1:
            raise PanelError(f"cv must be a whole number >= 1; got {self.cv!r}.")
        fold = own_folds(len(values), self.cv, groups) if folds is None else np.asarray(folds)
        self.refused_: dict[str, str] = {}
        self.task_ = task
        compared = len(given) > 1 and len(values) >= _LEAST and len(np.unique(fold)) > 1
        fused: dict[str, NDArray[np.float64]] = {}
        if compared:
            for name, fusion in zip(names, given, strict=True):
                try:
                    fused[name] = cross_fit(
                        fusion, values, truth, task=task, folds=fold, sample_weight=weight, costs=costs
                    )
                except ValueError as error:
                    self.refused_[name] = str(error)
            if not fused:
                raise PanelError(f"no candidate can serve this panel: {self.refused_}.")
            self._compare(fused, values, truth, weight, groups)
        else:
            self._take_first(names[0], len(values))
        fusion = given[names.index(self.chosen_)]
        self._fuser = PanelFuser(fusion, task=task, short="prior")
        self._fuser.fit(values, truth, sample_weight=weight, costs=costs)
        self.fusion_ = self._fuser.fusion
        if isinstance(self.fusion_, Arbiter) and task == "classification" and self.chosen_ in fused:
            known = ~np.isnan(fused[self.chosen_]).any(axis=1)
            scaling = TemperatureScaling().fit(
                fused[self.chosen_][known], truth[known], None if weight is None else weight[known]
            )
            if not scaling.at_bound_:  # always right so far: no sample says how sharp to be
                self.fusion_.inverse_temperature_ *= scaling.inverse_temperature_
        equal = np.full(values.shape[1], 1.0 / values.shape[1])
        self.weights_ = getattr(self.fusion_, "weights_", None) if self._fuser.is_learned else equal
        return self

    def fuse(self, panel: Any) -> NDArray[np.float64]:
        """Fuse a panel by the candidate chosen.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            NaN where a specialist is absent.

        Returns
        -------
        ndarray of shape (sample, output)
            NaN where nobody is present; of ``"best_single"`` also where that one is not.
        """
        check_is_fitted(self, "chosen_")
        return self._fuser.fuse(np.asarray(panel, dtype=np.float64))

    def _take_first(self, name: str, n_samples: int) -> None:
        import pandas as pd

        self.chosen_ = name
        self.table_: pd.DataFrame = pd.DataFrame(columns=list(_COLUMNS))
        self.reason_ = (
            f"{name} without a comparison: {n_samples} samples in one fold, or fewer than {_LEAST}."
        )

    def _compare(
        self,
        fused: dict[str, NDArray[np.float64]],
        values: NDArray[np.float64],
        truth: NDArray[Any],
        weight: NDArray[np.float64] | None,
        groups: Any,
    ) -> None:
        import pandas as pd

        kind = "probabilities" if self.task_ == "classification" else "numbers"
        main = "error" if self.task_ == "classification" else "squared_error"
        table = Table(values, truth, kind, None, tuple(str(i) for i in range(values.shape[1])))
        every = {name: losses(table, answer) for name, answer in fused.items()}
        if kind == "probabilities":
            for name, answer in fused.items():
                every[name]["brier"] = losses(table, _tempered(answer, truth, weight))["brier"]
        first = next(iter(every.values()))[main]
        mean = {name: float(np.average(loss[main], weights=weight)) for name, loss in every.items()}
        lowest = min(mean, key=mean.__getitem__)
        rows: dict[str, dict[str, Any]] = {}
        for name, loss in every.items():
            gain, se = paired(first - loss[main], weight, groups)
            behind, behind_se = paired(loss[main] - every[lowest][main], weight, groups)
            level = self._level(loss[main] - every[lowest][main], weight, groups)
            rows[name] = dict(zip(_COLUMNS, (mean[name], gain, se, behind, behind_se, level), strict=True))
            if "brier" in loss:
                rows[name]["brier"] = float(np.average(loss["brier"], weights=weight))
        self.table_ = pd.DataFrame.from_dict(rows, orient="index")
        level_ones = [name for name in rows if rows[name]["level"]]
        standing = level_ones
        if kind == "probabilities":
            # error rates within noise are told apart by the Brier score, which varies less
            best = min(standing, key=lambda name: rows[name]["brier"])
            standing = [
                n for n in standing if self._level(every[n]["brier"] - every[best]["brier"], weight, groups)
            ]
        self.chosen_ = standing[0]
        self.reason_ = self._in_words(rows, main.replace("_", " "), level_ones, standing)

    def _in_words(
        self, rows: dict[str, dict[str, Any]], main: str, level: list[str], standing: list[str]
    ) -> str:
        chosen, first = self.chosen_, next(iter(rows))
        own = rows[chosen]
        text = f"{chosen}: cross-fitted {main} {own['loss']:.4g}"
        if len(level) > 1:
            text += f"; within {self.margin:g} standard errors of the lowest are {', '.join(level)}"
        if len(standing) < len(level):
            text += f"; by Brier score {', '.join(standing)} {'is' if len(standing) == 1 else 'are'} left"
        if len(standing) > 1:
            text += f"; {chosen} is the simplest of them"
        if chosen != first:
            text += (
                f"; {first} has {rows[first]['loss']:.4g}, which is {own['gain']:.2g} more (standard error "
                f"{own['se']:.2g})"
            )
        if self.refused_:
            text += f"; refused: {', '.join(self.refused_)}"
        return f"{text}."

    def _level(self, behind: NDArray[np.float64], weight: Any, groups: Any) -> bool:
        mean, se = paired(behind, weight, groups)
        return mean <= self.margin * se + 1e-12


def _numbered(names: list[str]) -> list[str]:
    """Tell candidates of one name apart."""
    return [
        f"{name}-{names[: k + 1].count(name)}" if names.count(name) > 1 else name
        for k, name in enumerate(names)
    ]


def cross_fit(
    fusion: Any,
    panel: NDArray[np.float64],
    y: Any,
    *,
    task: str,
    folds: NDArray[Any],
    sample_weight: Any = None,
    X: Any = None,
    short: str = "prior",
    asked: Any = None,
    costs: Any = None,
) -> NDArray[np.float64]:
    """Fuse every sample by what was learned on the other folds.

    Parameters
    ----------
    fusion : str, fusion.Operator, learned fusion or callable
        What to apply; what learns nothing is applied once.
    panel : ndarray of shape (sample, specialist, output)
        Answers to samples that the specialists were not fitted on.
    y : array-like
        Codes, or numbers.
    task : {"classification", "regression"}
        What ``y`` is.
    folds : ndarray of int, shape (sample,)
        Fold of each sample.
    sample_weight : ndarray of shape (sample,), optional
        Counts of the samples.
    X : array-like or Views, optional
        Input of the samples, for fusions that look at it.
    short : {"prior", "relax"}
        What to do with samples that too few specialists answered.
    asked : ndarray of bool, shape (specialist,), optional
        Who is asked about the sample to fuse; all of them were asked about those learned from.
    costs : array-like of shape (specialist,), optional
        What each specialist costs, for a selection that was given no costs of its own.

    Returns
    -------
    ndarray of shape (sample, output)
        NaN where nobody, or too few, answered.

    Raises
    ------
    PanelError
        If a learned fusion is given one fold only.
    """
    import warnings

    from estimators.columns import take_rows
    from theory import FaultWarning

    whole = PanelFuser(fusion, task=task, short=short)
    said = panel if asked is None else np.where(np.asarray(asked)[:, None], panel, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FaultWarning)  # the whole panel was warned about already
        if not whole.is_learned:
            return whole.fuse(said)
        parts = np.unique(folds)
        if len(parts) < 2:
            raise PanelError(f"{fusion_name(fusion)} cannot be cross-fitted on one fold.")
        fused = np.full((len(panel), panel.shape[2]), np.nan)
        truth = np.asarray(y)
        for part in parts:
            test, train = np.flatnonzero(folds == part), np.flatnonzero(folds != part)
            fuser = PanelFuser(fusion, task=task, short=short)
            inner = None if X is None else take_rows(X, train)
            weight = None if sample_weight is None else sample_weight[train]
            fuser.fit(panel[train], truth[train], sample_weight=weight, X=inner, costs=costs)
            fused[test] = fuser.fuse(said[test], X=None if X is None else take_rows(X, test))
    return fused


def own_folds(n_samples: int, cv: int, groups: Any = None) -> NDArray[np.int64]:
    """Deal samples, or whole groups of them, into shuffled folds; always the same ones."""
    if groups is not None:
        _, code = np.unique(groups, return_inverse=True)
        return own_folds(int(code.max()) + 1, cv)[code]
    fold = np.zeros(n_samples, dtype=np.int64)
    if min(cv, n_samples) > 1:
        for j, (_, test) in enumerate(
            KFold(min(cv, n_samples), shuffle=True, random_state=0).split(np.empty((n_samples, 1)))
        ):
            fold[test] = j
    return fold


def paired(gain: NDArray[np.float64], weight: Any, groups: Any) -> tuple[float, float]:
    """Give the mean of paired differences and its standard error, weights being counts of samples."""
    count = np.ones(len(gain)) if weight is None else np.asarray(weight, dtype=np.float64)
    total = float(count.sum())
    mean = float(count @ gain / total)
    apart = gain - mean
    if groups is None:
        return mean, float(np.sqrt(count @ apart**2 / max(total - 1.0, 1.0) / total))
    _, code = np.unique(groups, return_inverse=True)
    sums = np.bincount(code, weights=count * apart)
    return mean, float(np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)) / total)


def _tempered(
    fused: NDArray[np.float64], truth: NDArray[Any], weight: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Take the difference in sharpness, which one number mends, out of the comparison."""
    shares = np.maximum(np.nan_to_num(fused), 0.0)
    known = shares.sum(axis=1) > 0
    if weight is not None:
        known &= weight > 0
    if not known.any():
        return fused
    scaling = TemperatureScaling().fit(shares[known], truth[known], None if weight is None else weight[known])
    tempered = fused.copy()
    tempered[known] = scaling.transform(shares[known])
    return tempered


def _default_candidates(task: str) -> list[Any]:
    if task == "regression":
        return ["mean", "covariance", "best_single"]
    # cv=1: the temperature comes from the comparison's own folds
    return ["mean", "log_pool", "covariance", "best_single", Arbiter(cv=1)]
