"""Rules that need no talk, on the stored answers of language models: what deliberation has to beat.

Means over test halves of twenty splits; ties are drawn. The rows of stacking, Dawid-Skene and plurality are elsewhere.
"""

import numpy as np
import pytest

from estimators import load_llm_panel
from fusion.deliberative import skill_weights
from theory import effective_number, error_correlation, group_accuracy, hypothesis_diversity

NAMES = ["mmlupro", "cruxeval", "mathl5", "gsm8k"]
pytestmark = pytest.mark.slow


class Votes:
    """Answers as heads per option, with which any weighted vote is one product."""

    def __init__(self, name):
        panel = load_llm_panel(name)
        self.gold, self.said = panel.gold, panel.answers
        self.options = np.broadcast_to(panel.n_options, self.gold.shape)
        self.stands = self.said[:, :, None] == np.arange(max(int(self.said.max()), int(self.gold.max())) + 1)
        self.right = self.said == self.gold[:, None]

    def accuracy(self, rows, weights, seed):
        heads = np.einsum("nm,nmk->nk", np.broadcast_to(weights, self.said.shape)[rows], self.stands[rows])
        heads = heads + 1e-6 * np.random.default_rng(seed).random(heads.shape)
        return float((heads.argmax(axis=1) == self.gold[rows]).mean())


def split(n, seed):
    order = np.random.default_rng(seed).permutation(n)
    return order[: n // 2], order[n // 2 :]


@pytest.mark.parametrize(
    ("name", "expected"), list(zip(NAMES, [0.638, 0.876, 0.786, 0.973], strict=True)), ids=NAMES
)
def test_weighing_votes_by_skill_reaches_what_it_reached(name, expected):
    votes = Votes(name)
    scores = []
    for seed in range(20):
        train, test = split(len(votes.gold), seed)
        weights = skill_weights(votes.right[train].mean(axis=0), np.maximum(votes.options, 2))
        scores.append(votes.accuracy(test, weights, seed))
    assert np.mean(scores) == pytest.approx(expected, abs=0.008)


@pytest.mark.parametrize(
    ("name", "expected"), list(zip(NAMES, [0.719, 0.918, 0.913, 0.974], strict=True)), ids=NAMES
)
def test_wrong_answers_that_agree_make_the_plain_log_odds_the_better_weight(name, expected):
    # log(p (K - 1)/(1 - p)) takes wrong answers for independent; the same wrong one comes 2 to 4 times as often.
    votes = Votes(name)
    scores = []
    for seed in range(20):
        train, test = split(len(votes.gold), seed)
        weights = skill_weights(votes.right[train].mean(axis=0), np.full(len(votes.gold), 2))
        scores.append(votes.accuracy(test, weights, seed))
    assert np.mean(scores) == pytest.approx(expected, abs=0.004)


def ranked(chosen, m):
    weights = np.zeros(m)
    weights[chosen] = 1.0 - 0.01 * np.arange(len(chosen))
    return weights


def greedy(votes, rows, sizes):
    """Add whom the plurality gains most by, on the training half; keep the best size. Ties go to the first chosen."""
    chosen, path = [], []
    for _ in range(max(sizes)):
        tried = {}
        for i in set(range(votes.said.shape[1])) - set(chosen):
            tried[i] = votes.accuracy(rows, ranked([*chosen, i], votes.said.shape[1]), 0)
        best = max(sorted(tried), key=tried.get)
        chosen.append(best)
        path.append(tried[best])
    size = max(sizes, key=lambda s: path[s - 1])
    return ranked(chosen[:size], votes.said.shape[1])


@pytest.mark.parametrize(
    ("name", "expected"), list(zip(NAMES, [0.708, 0.971, 0.905, 0.967], strict=True)), ids=NAMES
)
def test_a_few_chosen_greedily_reach_what_they_reached(name, expected):
    votes = Votes(name)
    scores = []
    for seed in range(3 if name == "mmlupro" else 10):
        train, test = split(len(votes.gold), seed)
        scores.append(votes.accuracy(test, greedy(votes, train, (3, 4, 5)), seed))
    assert np.mean(scores) == pytest.approx(expected, abs=0.006)


def test_conformity_makes_members_better_and_the_panel_poorer():
    votes = Votes("mmlupro")
    nine = np.argsort(-votes.right.mean(axis=0), kind="stable")[:9]
    before = votes.said[:, nine]
    heads = (before[:, :, None] == np.arange(10)).sum(axis=1)
    others = heads[:, None] - (before[:, :, None] == np.arange(10))
    after = np.where(others.max(axis=2) > 4, others.argmax(axis=2), before)
    again = (after[:, :, None] == np.arange(10)).sum(axis=1)[:, None] - (after[:, :, None] == np.arange(10))
    assert np.array_equal(
        np.where(again.max(axis=2) > 4, again.argmax(axis=2), after), after
    )  # fixed after one round
    told = []
    for said in (before, after):
        wrong = 1.0 - (said == votes.gold[:, None])
        crowd = (said[:, :, None] == np.arange(10)).sum(axis=1) + 0.5 * np.random.default_rng(0).random(
            heads.shape
        )
        told.append(
            [
                1.0 - wrong.mean(),
                hypothesis_diversity(np.where((said >= 0)[:, :, None], np.eye(10)[said], np.nan)).details[
                    "distinct"
                ],
                effective_number(error_correlation(wrong)).value,
                group_accuracy(crowd.argmax(axis=1), votes.gold).value,
            ]
        )
    assert told[0] == pytest.approx([0.547, 2.80, 2.05, 0.678], abs=0.008)
    assert told[1] == pytest.approx([0.629, 2.00, 1.27, 0.678], abs=0.012)
