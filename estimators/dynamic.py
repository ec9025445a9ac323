"""For each sample the specialists that do well near it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from estimators.competence import NEIGHBOUR_RULES, SOURCES, Neighbours, double_faults, inverse_distance
from estimators.region import needs_input, read_region
from estimators.specialist_sets import (
    Sets,
    first_members,
    label_digits,
    longest_right,
    most_often_right,
    pack,
    padded_width,
    same_labels,
    sizes,
    some,
    times_right,
)
from estimators.training import answer_errors, first_choices, read_answers, read_training
from theory import PanelError

_BEST = ("ola", "rank", "lca", "mla", "a_priori", "a_posteriori", "mcb")
_SET_RULES = (
    "ola",
    "rank",
    "mcb",
    "knora_e",
    "knora_u",
    "knop",
)  # these count hits, 64 specialists at a time
_RULES = (*_BEST, "knora_e", "knora_u", "knop", "des_p", "des_knn", *SOURCES)
_NUMBER_RULES = ("ola", "a_priori", "knora_u", "des_p")
_CELLS = 4_000_000  # of query x neighbour x specialist held at a time
_TINY = 1e-12
_SIMILAR = 0.7  # share of equal labels above which output profiles are alike (Giacinto & Roli)


class DynamicSelection(BaseEstimator):
    """Choose for each sample the specialists that were right on panel rows like it.

    Parameters
    ----------
    rule : str
        One specialist: ``"ola"``, ``"rank"``, ``"lca"``, ``"mla"``, ``"a_priori"``, ``"a_posteriori"``,
        ``"mcb"``. A vote of several: ``"knora_e"``, ``"knora_u"``, ``"knop"``, ``"des_p"``, ``"des_knn"``;
        of those whose competence, averaged over the whole panel with weights exp(-distance^2), beats
        guessing: ``"rrc"``, ``"logarithmic"``, ``"exponential"``, ``"min_difference"``, ``"kl"``. Numbers:
        ``"ola"``, ``"a_priori"``, ``"knora_u"``, ``"des_p"``.
    k : int
        Neighbours looked at; all rows if there are fewer.
    region : "panel", "X", str, list, slice, tuple or callable
        Where neighbours are found: in what the specialists say, in the input, or in a view of it as in
        :class:`Specialist`. ``"knop"`` always looks at what they say. Features should be on one scale.

    Attributes
    ----------
    needs_input : bool
        Whether ``fit`` and ``fuse`` need X.
    n_samples_ : int
        Rows of the panel that neighbours come from.

    Notes
    -----
    Competence from the k nearest rows: ``ola``, ``des_p``, ``des_knn`` share right; ``rank``, ``knora_e``
    how many nearest ones before the first error; ``lca`` share right of those whose truth is what the
    specialist says now, ``mla`` the same weighted by 1/distance; ``a_priori``, ``a_posteriori``
    1/distance-weighted probability of the truth, of all or of those; ``mcb`` share right of those with
    labels like now's from more than 70 % of specialists (none: all); ``knora_u``, ``knop`` number right.

    One specialist: the highest competence, ties to the first listed. Votes: ``knora_e`` those with the most,
    ``knora_u`` and ``knop`` everybody by competence, ``des_p`` those above 1/C, ``des_knn`` of the better half
    the 30 % of the panel's size with fewest shared errors, ``rrc`` and ``logarithmic`` those above 1/C,
    ``exponential``, ``min_difference`` and ``kl`` those above 0. If nobody is chosen, everybody votes.
    Numbers: ``ola`` and ``a_priori`` the least local squared error, plain or weighted by 1/distance; ``knora_u``
    a mean with weights one over it; ``des_p`` the mean of those with no more than the average of it.

    In the panel an absent specialist was not right; now, it is never chosen.

    References
    ----------
    .. [1] Cruz, Sabourin & Cavalcanti, Dynamic classifier selection: recent advances and perspectives, 2018.
    .. [2] Woloszynski & Kurzynski, A probabilistic model of classifier competence, 2011 (rrc).
    .. [3] Rooney, Patterson, Anand & Tsymbal, Dynamic integration of regression models, 2004 (numbers).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(0, 1, 40)[:, None]
    >>> y = np.arange(40) % 2
    >>> said = np.column_stack([np.where(X[:, 0] < 0.5, y, 0), np.where(X[:, 0] < 0.5, 0, y)])
    >>> rule = DynamicSelection("ola", k=5, region="X").fit(np.eye(2)[said], y, X=X)
    >>> bool((rule.fuse(np.eye(2)[said], X=X).argmax(axis=1) == y).mean() > 0.9)
    True
    """

    def __init__(self, rule: str = "knora_e", *, k: int = 7, region: Any = "panel"):
        self.rule = rule
        self.k = k
        self.region = region

    @property
    def needs_input(self) -> bool:
        """Whether ``fit`` and ``fuse`` need X."""
        return self.rule != "knop" and needs_input(self.region)

    def fit(
        self, panel: Any, y: Any, *, X: Any = None, task: str = "classification", sample_weight: Any = None
    ) -> DynamicSelection:
        """Keep the panel as the place where competence is looked up.

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
            Counts: a sample of weight 2 is two neighbours. Whole numbers, or equal ones; zeros leave samples out.

        Returns
        -------
        self : DynamicSelection

        Raises
        ------
        PanelError
            On an unknown rule or one that does not fit the task, k below 1, weights that are no counts, a missing
            input, or a panel and truths that do not fit.
        """
        values, target, weight = read_training(panel, y, task, sample_weight)
        allowed = _RULES if task == "classification" else _NUMBER_RULES
        if self.rule not in allowed:
            raise PanelError(f"rule must be one of {', '.join(allowed)} for {task}; got {self.rule!r}.")
        if not isinstance(self.k, int | np.integer) or isinstance(self.k, bool) or self.k < 1:
            raise PanelError(f"k must be a whole number >= 1; got {self.k!r}.")
        place = self._place(values, X)
        self.task_, self.n_samples_, self._mass = task, len(values), None
        if weight is not None:
            counts = _counts(weight)
            self.n_samples_ = int(counts.sum())
            if self.rule in SOURCES:
                self._mass = counts[counts > 0]
            # more than k copies of a row are never its neighbours together
            copies = np.minimum(counts, 1 if self.rule in SOURCES else self.k).astype(np.int64)
            values, target, place = (np.repeat(part, copies, axis=0) for part in (values, target, place))
        self._shape = values.shape[1:]
        self._known = place
        errors = answer_errors(values, target, task)
        if task == "regression":
            self._errors = (errors**2).sum(axis=2)
        else:
            self._learn_labels(values, target.argmax(axis=1), errors)
        if self.rule not in SOURCES:
            self._search = NearestNeighbors(n_neighbors=min(self.k, len(values))).fit(place)
        return self

    def fuse(self, panel: Any, *, X: Any = None) -> NDArray[np.float64]:
        """Fuse each sample by those who do well near it.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            NaN where a specialist is absent.
        X : array-like of shape (sample, feature), or Views, optional
            The input of the same samples, for regions other than ``"panel"``.

        Returns
        -------
        ndarray of shape (sample, output)
            The answer of the one chosen, or shares of the votes; numbers. NaN where nobody is present.

        Raises
        ------
        PanelError
            If specialists or outputs are not those of ``fit``, or a needed input is missing.
        """
        check_is_fitted(self, "task_")
        values = read_answers(panel, self._shape)
        place = self._place(values, X)
        if place.shape[1] != self._known.shape[1]:
            raise PanelError(f"region needs {self._known.shape[1]} columns as in fit; got {place.shape[1]}.")
        fused = np.empty((len(values), values.shape[2]))
        width = len(self._known) if self.rule in SOURCES else self._search.n_neighbors
        size = max(_CELLS // (width * values.shape[1]), 1)
        for begin in range(0, len(values), size):
            rows = slice(begin, begin + size)
            decide = self._labels if self.task_ == "classification" else self._numbers
            fused[rows] = decide(values[rows], place[rows])
        return fused

    def _place(self, values: NDArray[np.float64], X: Any) -> NDArray[np.float64]:
        if self.rule == "knop":
            # of two classes one probability says it all
            return read_region("panel", values[:, :, :1] if values.shape[2] == 2 else values, None)
        return read_region(self.region, values, X)

    def _learn_labels(
        self, values: NDArray[np.float64], truth: NDArray[np.int64], errors: NDArray[np.float64]
    ) -> None:
        n_classes = values.shape[2]
        # narrow codes: looking at neighbours is limited by memory, not by arithmetic
        self._code = np.int8 if n_classes < 128 else np.int64
        said = first_choices(values).astype(self._code)
        hits = said == truth[:, None]
        if self.rule in SOURCES:
            # who is absent neither beats guessing nor falls behind it
            away = np.isnan(errors).any(axis=2)
            full = np.where(away[:, :, None], 1.0 / n_classes, np.nan_to_num(values))
            source = SOURCES[self.rule](full, truth) if n_classes > 1 else hits * 1.0
            chance = 1.0 / n_classes if self.rule == "rrc" else 0.0
            self._source = np.where(away, chance, source)
        elif self.rule in _SET_RULES:
            self._right = pack(hits)
            self._digits = label_digits(said, n_classes) if self.rule == "mcb" else None
        else:
            self._hits = hits.view(np.uint8)
            self._truth = np.repeat(truth.astype(self._code)[:, None], hits.shape[1], axis=1)
            self._proba = np.nan_to_num(values[np.arange(len(truth)), :, truth])

    def _labels(self, values: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
        n_specialists, n_classes = self._shape
        label = np.full((len(values), padded_width(n_specialists)), -1, dtype=self._code)
        label[:, :n_specialists] = first_choices(values)
        if self.rule in _BEST:
            here = pack(label >= 0)
            best = values[np.arange(len(values)), self._best(label, here, place)]
            best[np.isnan(best)] = 0.0
            best[~some(here)] = np.nan
            return best
        voters = np.stack([pack(label == c) for c in range(n_classes)])
        votes = np.stack([sizes(voter) for voter in voters]).astype(np.float64)
        # where all agree nobody need be chosen, and no neighbour be found
        contested = np.count_nonzero(votes, axis=0) > 1
        rows = slice(None) if contested.all() else np.flatnonzero(contested)
        if contested.any():
            chosen = self._votes(label[rows, :n_specialists], voters[:, :, rows], place[rows])
            votes[:, rows] = np.where(chosen.any(axis=0), chosen, votes[:, rows])
        total = votes.sum(axis=0)
        votes /= np.where(total > 0, total, np.nan)
        return np.ascontiguousarray(votes.T)

    def _best(
        self, label: NDArray[np.integer[Any]], here: Sets, place: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Find the most competent of those present; anybody where nobody is."""
        distance, rows = self._search.kneighbors(place)
        n_specialists, n_classes = self._shape
        if self.rule not in _SET_RULES:
            label = label[:, :n_specialists]
            competence = NEIGHBOUR_RULES[self.rule](self._near(distance, rows, label))
            return np.where(label >= 0, competence, -np.inf).argmax(axis=1)
        hits = self._right.take(rows.T, axis=1)
        if self.rule == "mcb":
            now = label_digits(label, n_classes)
            equal = [sizes(same_labels(self._digits.take(near, axis=2), now, here)) for near in rows.T]
            alike = np.stack(equal) > _SIMILAR * n_specialists + 1e-9
            # all bits of the similar ones, or of everybody
            hits &= -(alike | ~alike.any(axis=0)).astype(hits.dtype)
        find = longest_right if self.rule == "rank" else most_often_right
        return np.minimum(first_members(find(hits, here)), n_specialists - 1)

    def _votes(
        self, label: NDArray[np.integer[Any]], voters: Sets, place: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Count the votes of the chosen, shape (class, query); all 0 where nobody is chosen."""
        n_classes = self._shape[1]
        if self.rule in SOURCES:
            least = 1.0 / n_classes if self.rule in ("rrc", "logarithmic") else 0.0
            chosen = pack(self._potential(place) > least)
        else:
            distance, rows = self._search.kneighbors(place)
            if self.rule in ("knora_u", "knop"):
                return times_right(self._right.take(rows.T, axis=1), voters).astype(np.float64)
            if self.rule == "knora_e":
                chosen = longest_right(self._right.take(rows.T, axis=1), np.bitwise_or.reduce(voters))
            else:
                near = self._near(distance, rows, label)
                competence = np.where(label >= 0, NEIGHBOUR_RULES[self.rule](near), -np.inf)
                chosen = pack(
                    competence > 1.0 / n_classes if self.rule == "des_p" else _apart(near, competence)
                )
        return np.stack([sizes(chosen & voter) for voter in voters]).astype(np.float64)

    def _near(
        self, distance: NDArray[np.float64], rows: NDArray[np.int64], label: NDArray[np.integer[Any]]
    ) -> Neighbours:
        return Neighbours(self._hits, self._proba, self._truth, rows, inverse_distance(distance), label)

    def _potential(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        squared = (place**2).sum(axis=1)[:, None] + (self._known**2).sum(axis=1) - 2.0 * place @ self._known.T
        # the nearest counts 1: far from everything all weights would be 0
        weight = np.exp(squared.min(axis=1, keepdims=True) - squared)
        if self._mass is not None:
            weight *= self._mass
        return np.asarray(weight @ self._source / weight.sum(axis=1)[:, None])

    def _numbers(self, values: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
        here = ~np.isnan(values).any(axis=2)
        distance, rows = self._search.kneighbors(place)
        errors = self._errors.take(rows, axis=0)
        weight = inverse_distance(distance) if self.rule == "a_priori" else np.ones_like(distance)
        seen = ~np.isnan(errors) * weight[:, :, None]
        mass = seen.sum(axis=1)
        local = (np.nan_to_num(errors) * seen).sum(axis=1) / np.where(mass > 0, mass, 1.0)
        local = np.where(here & (mass > 0), local, np.inf)
        local[~np.isfinite(local).any(axis=1)] = 1.0  # nobody was seen near: all alike
        local = np.where(here, local, np.inf)
        if self.rule in ("ola", "a_priori"):
            best = values[np.arange(len(values)), local.argmin(axis=1)]
            return np.where(here.any(axis=1)[:, None], best, np.nan)
        finite = np.isfinite(local)
        if self.rule == "knora_u":
            largest = np.where(finite, local, 0.0).max(axis=1, keepdims=True)
            share = 1.0 / np.maximum(local, _TINY * np.where(largest > 0, largest, 1.0))
        else:
            mean = np.where(finite, local, 0.0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
            share = (local <= mean[:, None] * (1.0 + _TINY)).astype(np.float64)
        total = share.sum(axis=1)
        fused = np.matmul(share[:, None, :], np.where(here[:, :, None], values, 0.0))[:, 0]
        fused /= np.where(total > 0, total, 1.0)[:, None]
        return np.where(here.any(axis=1)[:, None], fused, np.nan)


def _counts(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.array_equal(np.round(weight), weight):
        return weight
    if len(np.unique(weight[weight > 0])) > 1:
        raise PanelError(
            "dynamic selection looks at single neighbours: sample_weight must be whole numbers, or all alike. Round "
            "them, or leave them out."
        )
    return (weight > 0).astype(np.float64)


def _apart(near: Neighbours, competence: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Choose of the better half the 30 % of all with fewest shared errors, of the absent (-inf) none before others."""
    n_specialists = competence.shape[1]
    half = max(n_specialists // 2, 1)
    better = np.argsort(-competence, axis=1, kind="stable")[:, :half]
    faults = np.take_along_axis(np.where(competence < 0, np.inf, double_faults(near)), better, axis=1)
    kept = min(int(np.ceil(0.3 * n_specialists)), half)
    apart = np.argsort(faults, axis=1, kind="stable")[:, :kept]
    chosen = np.zeros(competence.shape, dtype=bool)
    np.put_along_axis(chosen, np.take_along_axis(better, apart, axis=1), True, axis=1)
    return chosen
