"""Protocols that end in a vote: plurality, weighted votes, surprising popularity, the Delphi method."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from estimators.critic import Critic, log_ratio
from estimators.hearing import Floats, Splits, accuracy_of
from estimators.meeting import Case, even, opinions_on_others, softmax
from fusion.deliberative.critics import proposed_options
from fusion.deliberative.popularity import delphi, surprisingly_popular
from fusion.deliberative.presets import Protocol, confidence_weight

_LEAST = 1e-3  # weight of who is rather wrong than right: decides only among such
_PRIOR = 50.0  # answers that the exchangeable prediction counts for, beside those seen


class Plurality:
    """Self-consistency: every specialist has one vote, nothing is learned."""

    def __init__(self) -> None:
        self.stopped_by_ = {"rounds": 1.0}
        self.told_: dict[str, Any] = {}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Count; there is nothing to fit."""
        return self.say(case)

    def say(self, case: Case) -> Floats:
        """Give shares, with one vote more that is spread evenly; ties are even."""
        heads = _heads(case, np.ones(case.panel.shape[:2]))
        return _shares(heads + even(case.valid), case.valid)


class ConfidenceVote:
    """Reconcile: votes weighted by confidence, as fitted on training rows or as stated.

    Parameters
    ----------
    confidence : {"fitted", "stated"}
        Weights log(q/(1 - q)), q a logistic regression of being right on the log-odds of the stated probability;
        or ReConcile's steps of the stated probability.
    seed : int
        Of the regressions.

    Notes
    -----
    With K options log(q (K - 1)/(1 - q)) is best if wrong answers are independent. They are not: of 28 stored language
    models the vote weighted so is right on .638, that with log(q/(1 - q)) on .719. Who is rather wrong than
    right has next to no vote.
    """

    def __init__(self, confidence: str, *, seed: int):
        self.confidence = confidence
        self.seed = seed
        self.told_: dict[str, Any] = {"confidence": confidence}
        self.stopped_by_: dict[str, float] = {}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Fit the confidences on other rows."""
        words = proposed_options(case.panel, valid=case.valid)
        agreed = float(((words == words[:, :1]).all(axis=1) & (words[:, 0] >= 0)).mean())
        self.stopped_by_ = {"unanimity": agreed, "rounds": 1.0 - agreed}
        return opinions_on_others(self, case, y, splits, weight)

    def say(self, case: Case) -> Floats:
        """Give the weighted vote; even where nobody has a weight."""
        stated = np.nan_to_num(np.where(case.valid[:, None], case.panel, 0.0).max(axis=2))
        if self.confidence == "stated":
            steps = np.vectorize(confidence_weight, otypes=[float])(np.clip(stated, 0.0, 1.0))
            return _shares(_heads(case, steps) + 0.01 * even(case.valid), case.valid)
        weights = np.zeros(stated.shape)
        for i, model in enumerate(self.models_):
            q = model if isinstance(model, float) else model.predict_proba(_logit(stated[:, i]))[:, 1]
            q = np.clip(q, 0.02, 0.98)
            weights[:, i] = np.maximum(np.log(q / (1.0 - q)), _LEAST)
        return softmax(_heads(case, weights), case.valid)

    def fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> None:
        """Fit each specialist's confidence."""
        words = proposed_options(case.panel, valid=case.valid)
        plain = accuracy_of(case.panel, y, case.valid, weight)
        stated = np.nan_to_num(np.where(case.valid[:, None], case.panel, 0.0).max(axis=2))
        self.models_: list[Any] = []
        for i in range(words.shape[1]):
            here = words[:, i] >= 0
            right = words[here, i] == y[here]
            own = stated[here, i]
            if len(np.unique(right)) < 2 or np.ptp(own) < 1e-9:
                # Votes state no confidence: the accuracy is all there is.
                self.models_.append(float(plain[i]))
                continue
            model = LogisticRegression(random_state=self.seed)
            self.models_.append(
                model.fit(_logit(own), right, sample_weight=None if weight is None else weight[here])
            )


class PopularSurprise:
    """Surprisingly popular answers; predictions of the others come from how specialists co-answer, without labels."""

    def __init__(self) -> None:
        self.stopped_by_ = {"rounds": 1.0}
        self.told_: dict[str, Any] = {}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Learn on other rows what each specialist's answer predicts of the others."""
        return opinions_on_others(self, case, y, splits, weight)

    def say(self, case: Case) -> Floats:
        """Give actual over predicted shares, made to sum to 1."""
        words = proposed_options(case.panel, valid=case.valid)
        table = self.table_[np.arange(words.shape[1]), np.maximum(words, 0)]
        table = np.where(case.valid[:, None], table, 0.0)
        table /= np.maximum(table.sum(axis=2, keepdims=True), 1e-12)
        table[words < 0] = np.nan
        lonely = case.valid.sum(axis=1) == 1
        table[lonely] = np.where((words >= 0)[lonely][:, :, None], case.valid[lonely][:, None], np.nan)
        return _softened(np.asarray(surprisingly_popular(case.panel, table, valid=case.valid)), case)

    def fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> None:
        """Learn how each answer goes with those of the others; labels are not looked at."""
        words = proposed_options(case.panel, valid=case.valid)
        k = case.valid.shape[1]
        share = np.ones(len(words)) if weight is None else weight
        stands = (words[:, :, None] == np.arange(k)).astype(np.float64)
        others = stands.sum(axis=1)[:, None] - stands
        others /= np.maximum(others.sum(axis=2, keepdims=True), 1.0)
        seen = np.einsum("nia,nib->iab", stands * share[:, None, None], others)
        count = seen.sum(axis=2)
        agree = np.einsum("iaa->i", seen) / np.maximum(count.sum(axis=1), 1e-12)
        level = np.where(
            np.eye(k, dtype=bool), agree[:, None, None], ((1.0 - agree) / max(k - 1, 1))[:, None, None]
        )
        self.table_ = (seen + _PRIOR * level) / (count + _PRIOR)[:, :, None]


class Rounds:
    """The Delphi method on probabilities: opinions move toward the median, those a critic backs stay.

    The verdict is the mean of the last opinions.

    Parameters
    ----------
    plan : Protocol
        Rounds at most, and the tolerance that ends them.
    critics : list of (str, Critic)
        Say who is probably right; without one, a critic of specialists that sees the votes only.
    seed : int
        Of the critics.
    """

    def __init__(self, plan: Protocol, critics: list[tuple[str, Critic]], *, seed: int):
        self.plan = plan
        self.critics = [critic for _, critic in critics] or [Critic(about="specialist")]
        self.views = bool(critics)
        self.seed = seed

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Fit critics on other rows; find how many rounds it takes until the spread settles."""
        right = np.zeros(case.panel.shape[:2])
        for train, test in splits:
            self._fit(case.take(train), y[train], None if weight is None else weight[train])
            right[test] = self._right(case.take(test))
        self._fit(case, y, weight)
        opinion, spread = self._rounds(case, right, self.plan.rounds, self.plan.tolerance)
        self.rounds_ = len(spread) - 1
        early = self.rounds_ < self.plan.rounds
        self.stopped_by_ = {"stable" if early else "rounds": 1.0}
        self.told_ = {
            "rounds": self.rounds_,
            "interquartile_range": spread,
            "backed": float((right > 0.5).mean()),
        }
        return opinion

    def say(self, case: Case) -> Floats:
        """Hold as many rounds as the training rows took."""
        return self._rounds(case, self._right(case), self.rounds_, -1.0)[0]

    def _rounds(self, case: Case, right: Floats, rounds: int, tolerance: float) -> tuple[Floats, list[float]]:
        """Hold rounds; the number does not depend on the batch once it is fixed."""
        panel = _present(case)
        backed, spread = right > 0.5, [float(delphi(panel, step=0.5, rounds=0).spread[0])]
        for _ in range(rounds):
            found = delphi(panel, step=0.5, trust=backed, rounds=1, tolerance=0.0)
            panel = found.panel
            spread.append(float(found.spread[-1]))
            if abs(spread[-1] - spread[-2]) <= tolerance * max(spread[-2], 1e-300):
                break
        # A median per option is the median from before wherever m is odd, whoever is backed: moving toward it never
        # passes it. The mean of the last opinions is the median plus what those who are backed still say against it.
        return _softened(_shares(panel.mean(axis=1), case.valid), case), spread

    def _fit(self, case: Case, y: NDArray[Any], weight: Any) -> None:
        accuracy = accuracy_of(case.panel, y, case.valid, weight)
        self.fitted_ = [
            clone(critic).fit(
                case.panel,
                y,
                accuracy=accuracy,
                valid=case.valid,
                view=view,
                sample_weight=weight,
                seed=self.seed,
            )
            for critic, view in zip(self.critics, self._own(case), strict=True)
        ]

    def _right(self, case: Case) -> Floats:
        told = [
            critic.right(case.panel, valid=case.valid, view=view)
            for critic, view in zip(self.fitted_, self._own(case), strict=True)
        ]
        return np.asarray(np.mean(told, axis=0))

    def _own(self, case: Case) -> list[Any]:
        return case.views if self.views else [None]


def _present(case: Case) -> Floats:
    """Give everybody an opinion: who abstains has the median of the others, which moves no median."""
    gone = np.isnan(case.panel).any(axis=2)
    if not gone.any():
        return case.panel
    panel = np.where(gone[:, :, None], np.nan, case.panel)
    panel[gone.all(axis=1)] = even(case.valid)[gone.all(axis=1)][:, None]
    middle = np.nanmedian(panel, axis=1, keepdims=True)
    return np.asarray(np.where(np.isnan(panel), middle, panel))


def _heads(case: Case, weights: Floats) -> Floats:
    words = proposed_options(case.panel, valid=case.valid)
    stands = words[:, :, None] == np.arange(case.valid.shape[1])
    return np.asarray((stands * weights[:, :, None]).sum(axis=1))


def _shares(heads: Floats, valid: NDArray[np.bool_]) -> Floats:
    heads = np.where(valid, np.maximum(heads, 0.0), 0.0)
    total = heads.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0.0, heads / np.where(total > 0.0, total, 1.0), even(valid)))


def _softened(opinion: Floats, case: Case) -> Floats:
    """Mix in one even vote: a temperature cannot calibrate options of probability 0."""
    m = case.panel.shape[1]
    return np.asarray((m * opinion + even(case.valid)) / (m + 1.0))


def _logit(p: Floats) -> Floats:
    return log_ratio(p)[:, None]
