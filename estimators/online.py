"""A record of who was right, kept while answers and truths arrive, and weights that follow it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from estimators.pair_moments import joined, no_moments
from estimators.training import answer_errors, read_training
from estimators.weights import gap_policy
from fusion import linear_pool
from theory import PanelError, min_variance_weights

_RULES = ("covariance", "inverse_mse", "hedge", "bayes", "fixed_share")
_TINY = 1e-12


class TrackRecord(BaseEstimator):
    """Weigh specialists by a record that fades, and go on learning as truths arrive.

    Parameters
    ----------
    halflife : float, optional
        Labels after which a label's weight has halved; None forgets nothing.
    rule : {"covariance", "inverse_mse", "hedge", "bayes", "fixed_share"}
        ``"covariance"``: least squared error on the simplex, from the decayed moments. ``"inverse_mse"``:
        one over the decayed squared error. ``"hedge"``: w prop. to w exp(-rate loss). ``"bayes"``: w prop.
        to w p(truth), of classes. ``"fixed_share"``: hedge, and a share of all weight dealt out evenly
        after each label, so that a late winner can rise.
    rate : float, optional
        Learning rate of hedge and fixed_share. None: sqrt(8 ln M / T), T the ``horizon`` or, without
        one, the labels seen so far.
    horizon : int, optional
        Labels expected, for the rate.
    share : float
        Share that ``"fixed_share"`` deals out.
    largest : float, optional
        Squared error that counts as loss 1, of numbers; the largest one in ``fit`` by default. Of
        classes half the Brier score is the loss.
    capacity : int
        Most requests that wait for their truth; the oldest is dropped, and counted.

    Attributes
    ----------
    weights_ : ndarray of shape (specialist,)
        Sums to 1.
    moments_ : PairMoments
        Decayed moments of the errors.
    losses_ : ndarray of shape (specialist,)
        Summed losses where each answered, under the rules that have a loss.
    mixed_loss_ : float
        Summed loss of the weights: sum of w times loss, or of bayes -ln(sum of w times p).
    n_labels_, n_dropped_ : int
        Labels taken in; requests dropped unsettled.

    Notes
    -----
    With the rate for T labels hedge's ``mixed_loss_`` exceeds the best specialist's by at most
    sqrt(T ln M / 2) [1]_, with the rate for labels so far by 2 sqrt(T ln M / 2) + sqrt(ln M / 8); that of
    bayes, in log loss, by ln M. An absent specialist keeps its share: those present divide theirs
    among themselves. The fused answer, ``fuse``, is the weighted mean; since Brier score and squared error
    are convex, its loss is at most the mixed one.

    References
    ----------
    .. [1] Cesa-Bianchi & Lugosi, Prediction, learning, and games, 2006, theorems 2.2 and 2.3.
    .. [2] Herbster & Warmuth, Tracking the best expert, 1998 (fixed share).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=300)
    >>> panel = (y[:, None] + rng.normal(size=(300, 2)) * [0.1, 1.0])[:, :, None]
    >>> record = TrackRecord(halflife=50).fit(panel[:100], y[:100], task="regression")
    >>> record.update(panel[100:], y[100:]).weights_.round(1).tolist()
    [1.0, 0.0]
    """

    def __init__(
        self,
        halflife: float | None = None,
        *,
        rule: str = "covariance",
        rate: float | None = None,
        horizon: int | None = None,
        share: float = 0.01,
        largest: float | None = None,
        capacity: int = 10_000,
    ):
        self.halflife = halflife
        self.rule = rule
        self.rate = rate
        self.horizon = horizon
        self.share = share
        self.largest = largest
        self.capacity = capacity

    def fit(
        self, panel: Any, y: Any, *, task: str = "classification", sample_weight: Any = None
    ) -> TrackRecord:
        """Forget everything and take in labels, oldest first.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            Answers to samples that the specialists were not fitted on; NaN where one was absent.
        y : array-like
            Codes of the right outputs, or numbers.
        task : {"classification", "regression"}
            What ``y`` is.
        sample_weight : array-like of shape (sample,), optional
            A label is one label: only equal weights are taken, and zeros leave samples out.

        Returns
        -------
        self : TrackRecord

        Raises
        ------
        PanelError
            On parameters out of range, unequal weights, or a panel and truths that do not fit.
        """
        values, target, weight = read_training(panel, y, task, sample_weight)
        self._check(task)
        if weight is not None:
            if len(np.unique(weight[weight > 0])) > 1:
                raise PanelError(
                    "a track record counts labels and takes no unequal sample_weight. Leave it out."
                )
            values, target = values[weight > 0], target[weight > 0]
        n_specialists, n_outputs = values.shape[1:]
        self.moments_ = no_moments(n_specialists, n_outputs, halflife=self.halflife)
        self.task_ = task
        self.losses_ = np.zeros(n_specialists)
        self.mixed_loss_, self.n_labels_, self.n_dropped_ = 0.0, 0, 0
        self.weights_ = np.full(n_specialists, 1.0 / n_specialists)
        self._log_weights = np.log(self.weights_)
        self._open: dict[Any, NDArray[np.float64]] = {}
        errors = answer_errors(values, target, task)
        squares = (errors**2).sum(axis=2)
        self._largest = 2.0 if task == "classification" else self.largest
        if self._largest is None:
            self._largest = float(np.nanmax(squares)) if np.isfinite(squares).any() else 1.0
        self._take(values, target, errors)
        return self

    def update(self, panel: Any, y: Any) -> TrackRecord:
        """Take in more labels, oldest first.

        Parameters
        ----------
        panel, y : array-like
            As in ``fit``.

        Returns
        -------
        self : TrackRecord

        Raises
        ------
        PanelError
            If specialists or outputs are not those of ``fit``, or truths do not fit.
        """
        check_is_fitted(self, "task_")
        values, target, _ = read_training(panel, y, self.task_)
        if values.shape[1:] != self.moments_.mean.shape[1:]:
            raise PanelError(
                f"panel needs {self.moments_.mean.shape[1:]} (specialist, output) as in fit; got shape {values.shape}."
            )
        self._take(values, target, answer_errors(values, target, self.task_))
        return self

    def open(self, ids: Any, panel: Any) -> TrackRecord:
        """Remember answers whose truth is not known yet.

        Parameters
        ----------
        ids : sequence of hashable
            One per sample.
        panel : array-like of shape (sample, specialist, output)
            What was said.

        Returns
        -------
        self : TrackRecord

        Raises
        ------
        PanelError
            If an id is open already, or shapes do not fit.
        """
        check_is_fitted(self, "task_")
        values = np.array(panel, dtype=np.float64)
        if values.ndim != 3 or values.shape[1:] != self.moments_.mean.shape[1:] or len(ids) != len(values):
            raise PanelError(
                f"panel needs one sample per id and {self.moments_.mean.shape[1:]} (specialist, output) as in fit; "
                f"got {len(ids)} ids and shape {values.shape}."
            )
        twice = [one for one, count in Counter(ids).items() if count > 1 or one in self._open]
        if twice:
            raise PanelError(
                f"{len(twice)} ids are open already (first: {twice[0]!r}). Give each request its own."
            )
        for one, answers in zip(ids, values, strict=True):
            self._open[one] = answers
            if len(self._open) > self.capacity:
                del self._open[next(iter(self._open))]
                self.n_dropped_ += 1
        return self

    def settle(self, ids: Any, y: Any) -> TrackRecord:
        """Take in the truths of open requests; each settles once.

        Parameters
        ----------
        ids : sequence of hashable
            As given to ``open``.
        y : array-like
            Their truths.

        Returns
        -------
        self : TrackRecord

        Raises
        ------
        PanelError
            If an id is unknown, settled already or dropped, or given twice; nothing is taken in then.
        """
        check_is_fitted(self, "task_")
        unknown = [one for one, count in Counter(ids).items() if count > 1 or one not in self._open]
        if unknown:
            raise PanelError(
                f"{len(unknown)} ids are not open (first: {unknown[0]!r}): never opened, settled already, or among "
                f"the {self.n_dropped_} dropped ones. Raise capacity if truths come late."
            )
        if len(ids):
            self.update(np.stack([self._open[one] for one in ids]), y)
        for one in ids:
            del self._open[one]
        return self

    @property
    def n_open(self) -> int:
        """Requests that wait for their truth."""
        return len(self._open)

    def merge(self, newer: TrackRecord) -> TrackRecord:
        """Join this record with a later one of the same specialists.

        Parameters
        ----------
        newer : TrackRecord
            Of the same parameters; this record fades by its number of labels.

        Returns
        -------
        TrackRecord
            A new one, as if it had seen all labels; both stay as they are. Open requests are not carried.

        Raises
        ------
        PanelError
            If parameters or specialists differ, or the rule's weights depend on the order within a record.
        """
        check_is_fitted(self, "task_")
        check_is_fitted(newer, "task_")
        if self.get_params() != newer.get_params() or self.task_ != newer.task_:
            raise PanelError("records differ in parameters or task. Merge records of the same kind.")
        if self.rule in ("fixed_share", "hedge", "bayes"):
            raise PanelError(
                f"weights of rule={self.rule!r} depend on every label in turn and cannot be merged. Use 'covariance' or "
                "'inverse_mse', or settle all labels with one record."
            )
        result = TrackRecord(**self.get_params())
        for name, value in vars(self).items():
            if name.endswith("_") or name == "_largest":
                setattr(result, name, value)
        result.moments_ = joined(self.moments_, newer.moments_)
        result.n_labels_ = self.n_labels_ + newer.n_labels_
        result.n_dropped_ = self.n_dropped_ + newer.n_dropped_
        result._open = {}
        result.weights_ = result._from_moments()
        return result

    def fuse(self, panel: Any) -> NDArray[np.float64]:
        """Fuse a panel with the weights as they stand.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            NaN where a specialist is absent; its weight goes to the others.

        Returns
        -------
        ndarray of shape (sample, output)
            NaN where nobody is present.
        """
        check_is_fitted(self, "task_")
        weights = np.maximum(self.weights_, 1e-9)  # whoever is alone answers, whatever its weight
        return np.asarray(linear_pool(panel, weights=weights, missing=gap_policy(panel)))

    def second_moment(self) -> NDArray[np.float64]:
        """Give the decayed second moment of the errors, made positive semidefinite.

        Returns
        -------
        ndarray of shape (specialist, specialist)
            Pairs never seen together count as uncorrelated. Moments of pairs need not fit one another:
            negative eigenvalues, which no real moments have, become zero.
        """
        check_is_fitted(self, "task_")
        matrix = self.moments_.second_moment()
        own = matrix.diagonal()
        blank = float(np.nanmean(own)) if np.isfinite(own).any() else 1.0
        matrix = np.where(np.isnan(matrix), np.where(np.eye(len(matrix), dtype=bool), blank, 0.0), matrix)
        spectrum, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
        return np.asarray((vectors * np.maximum(spectrum, 0.0)) @ vectors.T)

    def _take(
        self, values: NDArray[np.float64], target: NDArray[np.float64], errors: NDArray[np.float64]
    ) -> None:
        if self.rule in ("hedge", "bayes", "fixed_share"):
            self._walk(values, target, errors)
        self.moments_ = self.moments_.updated(errors)
        self.n_labels_ += len(values)
        if self.rule in ("covariance", "inverse_mse"):
            self.weights_ = self._from_moments()

    def _from_moments(self) -> NDArray[np.float64]:
        matrix = self.second_moment()
        seen = self.moments_.effective_n().diagonal()
        # whoever was never there says nothing of how much the others' record is worth
        n = max(round(float(seen[seen > 0].min(initial=np.inf))), 2) if seen.any() else 2
        if self.rule == "covariance":
            if not matrix.any():
                return np.full(len(matrix), 1.0 / len(matrix))
            return np.asarray(
                min_variance_weights(matrix, constraint="simplex", shrink="auto", n=n, given="matrix").value
            )
        loss = matrix.diagonal()
        score = 1.0 / np.maximum(loss, _TINY * max(float(loss.max()), _TINY))
        return np.asarray(score / score.sum())

    def _walk(
        self, values: NDArray[np.float64], target: NDArray[np.float64], errors: NDArray[np.float64]
    ) -> None:
        here = ~np.isnan(errors).any(axis=2)
        if self.rule == "bayes":
            right = np.nan_to_num(values)[np.arange(len(values)), :, target.argmax(axis=1)]
            loss = -np.log(np.maximum(right, _TINY))
        else:
            assert self._largest is not None
            loss = np.minimum((np.nan_to_num(errors) ** 2).sum(axis=2) / self._largest, 1.0)
        loss = np.where(here, loss, 0.0)
        decay = self.moments_.decay
        log_w, losses = self._log_weights.copy(), self.losses_.copy()  # those of a copy of this record stay
        for k, (own, there) in enumerate(zip(loss, here, strict=True)):
            label = self.n_labels_ + k + 1
            fade = decay
            if self.rule == "hedge" and self.rate is None and self.horizon is None:
                fade *= float(np.sqrt((label - 1) / label))  # all losses so far at the rate of now
            if fade < 1.0:
                log_w = fade * log_w
                log_w -= _log_sum(log_w)
            mass = np.exp(log_w)
            spoke = float(mass[there].sum())
            if spoke > 0.0:
                share = np.where(there, mass, 0.0) / spoke
                rate = 1.0 if self.rule == "bayes" else self._rate(label)
                mixed = (
                    -np.log(max(float(share @ np.exp(-own)), _TINY)) if self.rule == "bayes" else share @ own
                )
                self.mixed_loss_ += float(mixed)
                moved = log_w[there] - rate * own[there]
                # those present divide what they had among themselves
                log_w[there] = moved - _log_sum(moved) + np.log(spoke)
                losses += own
            if self.rule == "fixed_share":
                log_w = np.log((1.0 - self.share) * np.exp(log_w) + self.share / len(log_w))
        self.losses_ = losses
        self._log_weights = log_w - _log_sum(log_w)
        self.weights_ = np.exp(self._log_weights)

    def _rate(self, label: int) -> float:
        if self.rate is not None:
            return self.rate
        return float(np.sqrt(8.0 * np.log(max(len(self.losses_), 2)) / (self.horizon or label)))

    def _check(self, task: str) -> None:
        if self.rule not in _RULES:
            raise PanelError(f"rule must be one of {', '.join(_RULES)}; got {self.rule!r}.")
        if self.rule == "bayes" and task == "regression":
            raise PanelError("rule='bayes' needs the probability of the truth; use 'hedge' for numbers.")
        for name, low, high in (("share", 0.0, 1.0), ("rate", 0.0, np.inf), ("largest", 0.0, np.inf)):
            value = getattr(self, name)
            if value is not None and not low < value < high:
                raise PanelError(f"{name} must lie between {low:g} and {high:g}; got {value!r}.")
        for name in ("capacity", "horizon"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | np.integer) and value >= 1):
                raise PanelError(f"{name} must be a whole number >= 1; got {value!r}.")


def _log_sum(values: NDArray[np.float64]) -> float:
    top = float(values.max())
    return top + float(np.log(np.exp(values - top).sum()))
