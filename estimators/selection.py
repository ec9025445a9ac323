"""Which specialists to keep: greedy by loss with replacement, or by what each adds to those chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from estimators.selection_losses import selection_loss
from estimators.training import answer_errors, read_answers, read_training
from estimators.weights import CovarianceWeights
from theory import PanelError

_TIE = 1e-12
_LEFT = 1e-9  # share of its variance that a specialist must not owe to the chosen ones


class GreedySelection(BaseEstimator):
    """Add, again and again, the specialist that lowers the loss of the average most.

    Parameters
    ----------
    size : int
        How many are added; one specialist may be added many times.
    loss : {"auto", "log_loss", "brier", "error", "mse"}
        What is lowered. ``"auto"``: the Brier score if every answer is one-hot, else the log loss of
        probabilities; the squared error of numbers. ``"error"`` counts wrong first choices.
    costs : array-like of shape (specialist,), optional
        What asking each specialist costs, in any unit.
    max_cost : float, optional
        Most that the chosen ones may cost together; one added twice is paid once.

    Attributes
    ----------
    weights_ : ndarray of shape (specialist,)
        Times added / number added, over the best prefix.
    chosen_ : ndarray of int
        Positions in the order of joining, over the best prefix.
    losses_ : ndarray
        Loss of the average after each joining, beyond the best prefix too.
    loss_ : str
        The loss used.

    Notes
    -----
    The average is over those of the chosen who are present; where none is, over everybody present, as in
    ``fuse``. A class that a specialist cannot name counts as probability 0. Equal losses (to 1e-12 of the largest) go to
    one already chosen, then to the first listed; of equal prefixes the shortest is kept. So the loss on
    these samples is never above that of the best single specialist that ``max_cost`` allows. Of votes the
    Brier score chooses better than the errors it stands for: on four panels of language models, trained on
    halves, the chosen were right in .716, .977, .916, .972 of the others, by errors in .699, .971, .914, .966.
    Probabilities below 2.2e-16 count as that much in the log loss.

    References
    ----------
    .. [1] Caruana et al., Ensemble selection from libraries of models, 2004, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([0.0, 0.0, 0.0, 0.0])
    >>> panel = np.array([[1, -1, 4], [-1, 1, 4], [1, -2, 4], [-1, 2, 4]])[:, :, None]
    >>> GreedySelection(3).fit(panel, y, task="regression").weights_.round(2).tolist()
    [0.67, 0.33, 0.0]
    """

    def __init__(
        self, size: int = 25, *, loss: str = "auto", costs: Any = None, max_cost: float | None = None
    ):
        self.size = size
        self.loss = loss
        self.costs = costs
        self.max_cost = max_cost

    def fit(
        self, panel: Any, y: Any, *, task: str = "classification", sample_weight: Any = None
    ) -> GreedySelection:
        """Choose the specialists.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            Answers to samples that the specialists were not fitted on; NaN where one was absent.
        y : array-like
            Codes of the right outputs, or numbers.
        task : {"classification", "regression"}
            What ``y`` is.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : GreedySelection

        Raises
        ------
        PanelError
            On an unknown loss, a size below 1, costs that do not fit, nobody to choose, or a panel and
            truths that do not fit.
        """
        values, target, weight = read_training(panel, y, task, sample_weight)
        steps = _read_size(self.size)
        purse = _Purse(self.costs, self.max_cost, values.shape[1])
        scorer = selection_loss(values, target, weight, loss=self.loss, task=task)
        counts = np.zeros(values.shape[1])
        order: list[int] = []
        losses: list[float] = []
        near = 0.0
        for _ in range(steps):
            allowed = purse.affordable(counts > 0) & scorer.heard
            if not allowed.any():
                raise PanelError(
                    f"max_cost={self.max_cost} pays for nobody who answered a sample of positive weight. Raise it."
                )
            scores = np.where(allowed, scorer.candidates(), np.inf)
            best = float(scores.min())
            if not losses:
                near = _TIE * float(np.abs(scores[np.isfinite(scores)]).max())
            tied = scores <= best + near
            known = tied & (counts > 0)
            chosen = int((known if known.any() else tied).argmax())
            scorer.add(chosen)
            counts[chosen] += 1
            order.append(chosen)
            losses.append(float(scores[chosen]))
        self.losses_ = np.array(losses)
        kept = int((self.losses_ <= self.losses_.min() + near).argmax())
        self.chosen_ = np.array(order[: kept + 1])
        self.weights_ = np.bincount(self.chosen_, minlength=values.shape[1]) / (kept + 1.0)
        self.loss_, self.task_, self._shape = scorer.name, task, values.shape[1:]
        return self

    def fuse(self, panel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average the chosen.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            NaN where a specialist is absent; its weight goes to the other chosen ones.

        Returns
        -------
        ndarray of shape (sample, output)
            NaN where nobody is present.

        Raises
        ------
        PanelError
            If specialists or outputs are not those of ``fit``.
        """
        check_is_fitted(self)
        return _average(read_answers(panel, self._shape), self.weights_, self.task_)


class DecorrelatedSelection(BaseEstimator):
    """Add the specialist that, given how it errs together with the chosen ones, helps them most.

    Parameters
    ----------
    size : int, optional
        Most that are chosen; each at most once. None: as long as joining pays.
    criterion : {"second_moment", "precision"}
        ``"second_moment"``: the squared error of the plain average falls; the chosen weigh alike.
        ``"precision"``: 1'S^-1 1 of the chosen grows by more than one more free weight costs out of
        sample; they get the free weights of least squared error, shrunk as in ``CovarianceWeights``.
    by_cost : bool
        Choose by gain per cost instead of by gain, from the second on.
    costs : array-like of shape (specialist,), optional
        What asking each specialist costs, in any unit.
    max_cost : float, optional
        Most that the chosen ones may cost together.
    shrink_covariance : {"constant_correlation", "identity", "oas"} or None
        Target that the error matrix is shrunk to; a panel with gaps is not shrunk.

    Attributes
    ----------
    chosen_ : ndarray of int
        Positions in the order of joining.
    gains_ : ndarray
        Fall of the squared error, or growth of the precision, at each joining; of the first one its
        squared error, or its precision.
    weights_ : ndarray of shape (specialist,)
        Sums to 1.
    second_moment_ : ndarray of shape (specialist, specialist)
        Of the errors.

    Notes
    -----
    With V the squared error of the average of s chosen ones and r_j the sum of S_ij over them, j may join
    if 2 r_j + S_jj < (2s + 1) V, and then V becomes (s^2 V + 2 r_j + S_jj) / (s + 1)^2. The precision
    grows by (1 - c'S_AA^-1 1)^2 / (S_jj - c'S_AA^-1 c), c = S_Aj, the Schur complement. Out of sample the
    variance of s free weights from n samples is (n - 1) / (n - s) times larger, so j may join if the
    precision grows by more than the factor (n - s) / (n - s - 1). Ties go to the first listed.

    References
    ----------
    .. [1] Bates & Granger, The combination of forecasts, 1969.
    .. [2] Perrone & Cooper, When networks disagree, 1993, section 4 (the rule for joining).

    Examples
    --------
    >>> import numpy as np
    >>> y = np.zeros(200)
    >>> noise = np.random.default_rng(0).normal(size=(200, 2))
    >>> panel = np.column_stack([noise[:, 0], noise[:, 0] * 1.1, noise[:, 1]])[:, :, None]
    >>> sorted(DecorrelatedSelection(2).fit(panel, y, task="regression").chosen_.tolist())
    [0, 2]
    """

    def __init__(
        self,
        size: int | None = None,
        *,
        criterion: str = "second_moment",
        by_cost: bool = False,
        costs: Any = None,
        max_cost: float | None = None,
        shrink_covariance: str | None = "constant_correlation",
    ):
        self.size = size
        self.criterion = criterion
        self.by_cost = by_cost
        self.costs = costs
        self.max_cost = max_cost
        self.shrink_covariance = shrink_covariance

    def fit(
        self, panel: Any, y: Any, *, task: str = "classification", sample_weight: Any = None
    ) -> DecorrelatedSelection:
        """Choose the specialists.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            Answers to samples that the specialists were not fitted on; NaN where one was absent.
        y : array-like
            Codes of the right outputs, or numbers.
        task : {"classification", "regression"}
            What ``y`` is.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : DecorrelatedSelection

        Raises
        ------
        PanelError
            On an unknown criterion, a size below 1, costs that do not fit, or a panel and truths that do
            not fit.
        """
        values, target, weight = read_training(panel, y, task, sample_weight)
        if self.criterion not in ("second_moment", "precision"):
            raise PanelError(f"criterion must be 'second_moment' or 'precision'; got {self.criterion!r}.")
        if self.by_cost and self.costs is None:
            raise PanelError("by_cost=True divides gains by costs; give costs=, one per specialist.")
        steps = values.shape[1] if self.size is None else min(_read_size(self.size), values.shape[1])
        purse = _Purse(self.costs, self.max_cost, values.shape[1])
        self._moments = CovarianceWeights("none", shrink_covariance=self.shrink_covariance)
        self._moments._learn(answer_errors(values, target, task), weight)
        self.second_moment_, self.task_ = self._moments.second_moment_, task
        self._shape = values.shape[1:]
        chosen, gains = self._choose(steps, purse)
        self.chosen_, self.gains_ = np.array(chosen), np.array(gains)
        self.weights_ = np.zeros(values.shape[1])
        self.weights_[self.chosen_] = 1.0 / len(chosen)
        if self.criterion == "precision":
            self._moments.weights_ = self.weights_ = self._moments._solve(self.weights_ > 0)
        return self

    def _choose(self, steps: int, purse: _Purse) -> tuple[list[int], list[float]]:
        matrix, precise = self.second_moment_, self.criterion == "precision"
        own = np.maximum(matrix.diagonal(), np.finfo(float).tiny)
        taken = np.zeros(len(matrix), dtype=bool)
        first = int(np.where(purse.affordable(taken), own, np.inf).argmin())
        taken[first] = True
        chosen, gains = [first], [float(1.0 / own[first] if precise else own[first])]
        while len(chosen) < steps:
            gain, value = (precision_gains if precise else moment_gains)(matrix, chosen)
            least = _TIE * value
            if precise and self.size is None:
                left = self._moments.n_samples_ - len(chosen)
                least = value / (left - 1.0) if left > 1 else np.inf
            worth = gain / purse.costs if self.by_cost else gain.copy()
            worth[taken | ~purse.affordable(taken) | ~(gain > least)] = -np.inf
            best = int(worth.argmax())
            if worth[best] == -np.inf:
                break
            taken[best] = True
            chosen.append(best)
            gains.append(float(gain[best]))
        return chosen, gains

    def fuse(self, panel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average the chosen by their weights.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            NaN where a specialist is absent. Free weights are then solved again for the chosen ones who
            are present; where none of the chosen is, the others are averaged.

        Returns
        -------
        ndarray of shape (sample, output)
            NaN where nobody is present.

        Raises
        ------
        PanelError
            If specialists or outputs are not those of ``fit``.
        """
        check_is_fitted(self)
        panel = read_answers(panel, self._shape)
        if self.criterion == "second_moment":
            return _average(panel, self.weights_, self.task_)
        kept = np.where(np.isin(np.arange(panel.shape[1]), self.chosen_)[:, None], panel, np.nan)
        some = np.isfinite(kept).any(axis=(1, 2))
        fused = _average(panel, np.zeros(panel.shape[1]), self.task_)
        if some.any():
            fused[some] = self._moments.fuse(kept[some])
        return fused


def moment_gains(matrix: NDArray[np.float64], chosen: list[int]) -> tuple[NDArray[np.float64], float]:
    """Say by how much each specialist would lower the squared error of the plain average.

    Parameters
    ----------
    matrix : ndarray of shape (specialist, specialist)
        Second moment of the errors.
    chosen : list of int
        Who is in the average.

    Returns
    -------
    gain : ndarray of shape (specialist,)
    value : float
        Squared error of the average now.
    """
    s = len(chosen)
    sums = matrix[:, chosen].sum(axis=1)
    value = float(sums[chosen].sum()) / s**2
    return value - (s**2 * value + 2.0 * sums + matrix.diagonal()) / (s + 1.0) ** 2, value


def precision_gains(matrix: NDArray[np.float64], chosen: list[int]) -> tuple[NDArray[np.float64], float]:
    """Say by how much each specialist would raise 1'S^-1 1; none for those that copy the chosen.

    Parameters
    ----------
    matrix : ndarray of shape (specialist, specialist)
        Second moment of the errors.
    chosen : list of int
        Who is in already.

    Returns
    -------
    gain : ndarray of shape (specialist,)
    value : float
        The precision now.
    """
    cross = matrix[np.ix_(chosen, range(len(matrix)))]
    right = np.column_stack([np.ones(len(chosen)), cross])
    solved = np.linalg.lstsq(matrix[np.ix_(chosen, chosen)], right, rcond=None)[0]
    ones = solved[:, 0]
    own = matrix.diagonal()
    left = own - (cross * solved[:, 1:]).sum(axis=0)
    free = left > _LEFT * own
    return np.where(free, (1.0 - cross.T @ ones) ** 2 / np.where(free, left, 1.0), 0.0), float(ones.sum())


class _Purse:
    """Who can still be paid."""

    def __init__(self, costs: Any, max_cost: float | None, n_specialists: int):
        values = np.ones(n_specialists) if costs is None else np.asarray(costs)
        numbers = values.dtype.kind in "iuf" and values.shape == (n_specialists,)
        if not numbers or not (np.isfinite(values) & (values > 0)).all():
            raise PanelError(
                f"costs must be one finite number > 0 per specialist ({n_specialists}); got {costs!r}."
            )
        if max_cost is not None and costs is None:
            raise PanelError("max_cost limits what costs= adds up to; give costs=, one per specialist.")
        if max_cost is not None and (isinstance(max_cost, str) or not max_cost >= values.min()):
            raise PanelError(
                f"max_cost={max_cost} pays for nobody: the cheapest specialist costs {values.min():g}. Raise it."
            )
        self.costs, self.most = values.astype(np.float64), np.inf if max_cost is None else max_cost

    def affordable(self, taken: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Say who is paid already or fits into what is left; sums may round by 1e-9."""
        spent = float(self.costs[taken].sum())
        return np.asarray(taken | (spent + self.costs <= self.most * (1.0 + 1e-9)))


def _read_size(size: Any) -> int:
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
        raise PanelError(f"size must be a whole number >= 1; got {size!r}.")
    return int(size)


def _average(values: NDArray[np.float64], weights: NDArray[np.float64], task: str) -> NDArray[np.float64]:
    """Average with the weights of those present; by equal ones where all who weigh something are away."""
    here = ~np.isnan(values)
    gone = ~here.any(axis=2) if task == "classification" else ~here.all(axis=2)
    chosen = np.flatnonzero(weights)
    if len(chosen) and not gone[:, chosen].any() and here[:, chosen].all():
        return np.asarray(np.matmul(weights[chosen], values[:, chosen]))
    alone = gone[:, chosen].all(axis=1)
    share = np.where(alone[:, None], 1.0, weights)[:, :, None] * (here & ~gone[:, :, None])
    mass = share.sum(axis=1)
    pooled = (share * np.where(here, values, 0.0)).sum(axis=1) / np.where(mass > 0, mass, 1.0)
    # an output that none of the present can name has no probability; a number that nobody gave is missing
    silent = gone.all(axis=1, keepdims=True) if task == "classification" else mass <= 0
    return np.where(silent, np.nan, pooled)
