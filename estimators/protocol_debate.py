"""Debate in numbers: an antisymmetric critic of two options, and a judge that buys what it sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from estimators.critic import Adjudicator, Critic, fit_weighted, log_ratio
from estimators.hearing import Floats, Hearing, Splits, accuracy_of
from estimators.meeting import Case
from estimators.protocol_judges import first_model
from fusion.deliberative.adjudication import fit_temperature
from fusion.deliberative.critics import option_features
from fusion.deliberative.presets import Protocol

_FEW = 20


class Debate:
    """Two debaters for the options that stacking holds most probable; a critic splits their mass.

    Parameters
    ----------
    plan : Protocol
        With an "asking judge" the views are bought one a round; else all are seen at once.
    critics : list of (str, Critic)
        Their views, and the estimator of the first that has one.
    adjudicator : Adjudicator
        The judge who stacks.
    seed : int
        Of critic and judge.

    Notes
    -----
    g(a, b) is the critic's log-odds that a is right, of a and b. The share of a is
    sigma(beta (g(a, b) - g(b, a))/2), so that exchanging a and b gives the complement: no position can win. beta is
    fitted on rows that g was not fitted on. All options but two keep what stacking gave them.

    A view is kept where it lowers the log loss of the pair by two paired standard errors; for each fold that is
    decided on the other folds.

    References
    ----------
    Khan et al. (2024), Debating with more persuasive LLMs leads to more truthful answers, section 3.
    """

    def __init__(
        self, plan: Protocol, critics: list[tuple[str, Critic]], adjudicator: Adjudicator, *, seed: int
    ):
        self.asking = "asking judge" in plan.roles
        self.rounds = plan.rounds
        self.rule = "no_evidence" if self.asking or "no_evidence" in plan.stop else "rounds"
        self.names = [name for name, _ in critics]
        self.model = first_model(critics)
        self.stack = Hearing([], adjudicator, seed=seed)
        self.seed = seed
        self.told_: dict[str, Any] = {}
        self.stopped_by_ = {self.rule: 1.0}

    def cross_fit(self, case: Case, y: NDArray[Any], splits: Splits, weight: Any) -> Floats:
        """Stack, then fit the critic on pairs of other rows."""
        prior = self.stack.fit(
            case.panel, y, valid=case.valid, views=[], splits=splits, sample_weight=weight
        ).verdict_
        pair = two_likeliest(prior, case.valid)
        contest = (pair == y[:, None]).any(axis=1) & (case.valid.sum(axis=1) > 1)
        seen: dict[tuple[int, ...], tuple[Floats, Floats, float]] = {}

        def heard(views: tuple[int, ...]) -> tuple[Floats, Floats, float]:
            """Give the cross-fitted margins of a set of views, the pair's log losses, and the effect of the order."""
            if views not in seen:
                margin, orders = np.zeros(len(y)), np.zeros(len(y))
                for train, test in splits:
                    part = None if weight is None else weight[train]
                    critic = PairCritic(self.model, views, seed=self.seed)
                    critic.fit(case.take(train), y[train], prior[train], contest[train], part)
                    margin[test], orders[test] = critic.margins(case.take(test), prior[test])
                beta = _temperature(margin, pair, y, contest, weight)
                won = np.where(pair[:, 0] == y, beta * margin, -beta * margin)
                loss = np.where(contest, np.logaddexp(0.0, -won), 0.0)
                seen[views] = margin, loss, float(np.abs(orders).mean())
            return seen[views]

        blocks = tuple(range(len(self.names)))
        margin = np.zeros(len(y))
        if self.asking:
            rows = np.arange(len(y))
            for _, test in splits:
                others = np.setdiff1d(rows, test)
                margin[test] = heard(self._buy(heard, others[contest[others]], weight)[0])[0][test]
            blocks, why = self._buy(heard, rows[contest], weight)
            self.stopped_by_ = {why: 1.0}
            self.told_["bought"] = [self.names[b] for b in blocks]
        else:
            margin = heard(blocks)[0]
        self.told_["order_effect"] = heard(blocks)[2]
        self.beta_ = _temperature(margin, pair, y, contest, weight)
        self.critic_ = PairCritic(self.model, blocks, seed=self.seed)
        self.critic_.fit(case, y, prior, contest, weight)
        return self._split(prior, pair, margin, case.valid)

    def say(self, case: Case) -> Floats:
        """Give the split verdict."""
        prior = self.stack.verdict(case.panel, valid=case.valid, views=[])
        pair = two_likeliest(prior, case.valid)
        return self._split(prior, pair, self.critic_.margins(case, prior)[0], case.valid)

    def _buy(self, heard: Any, rows: NDArray[Any], weight: Any) -> tuple[tuple[int, ...], str]:
        """Buy the view that lowers the log loss most, while it pays."""
        bought: tuple[int, ...] = ()
        for _ in range(self.rounds):
            left = [b for b in range(len(self.names)) if b not in bought]
            if not left or len(rows) < _FEW:
                return bought, "no_evidence"
            now = heard(bought)[1][rows]
            share = np.ones(len(rows)) if weight is None else weight[rows]
            share = share / share.sum()
            best, least = None, 0.0
            for b in left:
                saved = now - heard(tuple(sorted((*bought, b))))[1][rows]
                mean = float(share @ saved)
                error = float(np.sqrt((share**2 * (saved - mean) ** 2).sum()))
                if mean > max(2.0 * error, least):
                    best, least = b, mean
            if best is None:
                return bought, "no_evidence"
            bought = tuple(sorted((*bought, best)))
        return bought, "rounds"

    def _split(self, prior: Floats, pair: NDArray[Any], margin: Floats, valid: Any) -> Floats:
        out = prior.copy()
        rows = np.flatnonzero(valid.sum(axis=1) > 1)
        first, second = pair[rows].T
        mass = prior[rows, first] + prior[rows, second]
        h = self.beta_ * margin[rows]
        out[rows, first] = mass * np.exp(-np.logaddexp(0.0, -h))
        out[rows, second] = mass * np.exp(-np.logaddexp(0.0, h))
        return out


class PairCritic:
    """Says which of two options is right; exchanging them changes the sign of its margin.

    Parameters
    ----------
    model : classifier or None
        What learns; gradient boosting by default.
    views : tuple of int
        Which critics' views it sees beside the proposals.
    seed : int
        Of the model.
    """

    def __init__(self, model: Any, views: tuple[int, ...], *, seed: int):
        self.model, self.views, self.seed = model, views, seed

    def fit(
        self, case: Case, y: NDArray[Any], prior: Floats, contest: NDArray[Any], weight: Any
    ) -> PairCritic:
        """Learn on the rows whose pair holds the right option, in both orders."""
        self.accuracy_ = accuracy_of(case.panel, y, case.valid, weight)
        self.model_ = None
        rows = np.flatnonzero(contest)
        if len(rows) < _FEW:
            return self
        part = case.take(rows)
        pair = two_likeliest(prior[rows], part.valid)
        ahead, behind = self._rows(part, prior[rows], pair)
        first = pair[:, 0] == y[rows]
        default = HistGradientBoostingClassifier(
            max_iter=120, learning_rate=0.07, max_leaf_nodes=15, early_stopping=False
        )
        twice = None if weight is None else np.tile(weight[rows], 2)
        table, target = np.concatenate([ahead, behind]), np.concatenate([first, ~first])
        self.model_ = fit_weighted(self.model, default, table, target, twice, self.seed)
        return self

    def margins(self, case: Case, prior: Floats) -> tuple[Floats, Floats]:
        """Give (g(a, b) - g(b, a))/2, and how far the two orders differ in probability."""
        if self.model_ is None or not len(prior):
            return self._lead(prior, two_likeliest(prior, case.valid)), np.zeros(len(prior))
        ahead, behind = self._rows(case, prior, two_likeliest(prior, case.valid))
        one, two = self.model_.predict_proba(ahead)[:, 1], self.model_.predict_proba(behind)[:, 1]
        return 0.5 * (log_ratio(one) - log_ratio(two)), one + two - 1.0

    def _rows(self, case: Case, prior: Floats, pair: NDArray[Any]) -> tuple[Any, Any]:
        rows, sample, option = option_features(case.panel, accuracy=self.accuracy_, valid=case.valid)
        place = np.zeros(case.valid.shape, dtype=np.intp)
        place[sample, option] = np.arange(len(sample))
        at = np.arange(len(prior))
        one, two = rows[place[at, pair[:, 0]]], rows[place[at, pair[:, 1]]]
        lead = self._lead(prior, pair)[:, None]
        own = [case.views[v] for v in self.views if case.views[v] is not None]
        return (
            np.column_stack([one, two[:, :-1], lead, *own]),
            np.column_stack([two, one[:, :-1], -lead, *own]),
        )

    def _lead(self, prior: Floats, pair: NDArray[Any]) -> Floats:
        p = np.maximum(np.take_along_axis(prior, pair, axis=1), 1e-6)
        return np.asarray(np.log(p[:, 0]) - np.log(p[:, 1]))


def two_likeliest(prior: Floats, valid: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Give the two most probable options, the lower code first; the one option twice where there is one.

    Parameters
    ----------
    prior : ndarray of shape (sample, output)
        Probabilities.
    valid : ndarray of bool, shape (sample, output)
        Which options exist.

    Returns
    -------
    ndarray of int, shape (sample, 2)
        Ties go to the first.
    """
    order = np.argsort(-np.where(valid, prior, -1.0), axis=1, kind="stable")[:, :2]
    if order.shape[1] < 2:
        order = np.tile(order, (1, 2))
    alone = valid.sum(axis=1) == 1
    order[alone, 1] = order[alone, 0]
    return np.sort(order, axis=1)


def _temperature(margin: Floats, pair: NDArray[Any], y: NDArray[Any], contest: Any, weight: Any) -> float:
    rows = np.flatnonzero(contest)
    if len(rows) < _FEW:
        return 1.0
    scores = 0.5 * np.column_stack([margin[rows], -margin[rows]])
    won = (pair[rows, 1] == y[rows]).astype(np.intp)
    return fit_temperature(scores, won, sample_weight=None if weight is None else weight[rows]).value
