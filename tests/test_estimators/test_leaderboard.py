"""Rules compared on samples they did not learn from: losses and gains by hand, ties, groups, no leaks."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from estimators.leaderboard import (
    cross_fused,
    default_fusions,
    fit_on,
    fuse_with,
    losses,
    paired_gain,
    rank_rules,
)
from estimators.table import Table, read_table
from fusion import PluralityVote, TrimmedMean
from theory import PanelError, difficulty_panel

CODES = np.array([[0, 0, 1], [1, 0, 2], [2, 2, -1], [0, 1, 1], [1, 1, 1], [0, 2, 2]])
Y = np.array([0, 0, 2, 1, 1, 0])


class Memory(BaseEstimator):
    """Knows the truth of every row that it learned from, and says 2 to all others."""

    def fit(self, panel, y, *, task="classification", sample_weight=None):
        self.known_ = {row.tobytes(): int(code) for row, code in zip(panel, y, strict=True)}
        self.task_ = task
        return self

    def fuse(self, panel):
        fused = np.zeros((len(panel), panel.shape[2]))
        for i, row in enumerate(panel):
            fused[i, self.known_.get(row.tobytes(), 2)] = 1.0
        return fused


def labels(n=240, m=5, seed=0, groups=None):
    simulated = difficulty_panel(n, m, accuracy=0.6, seed=seed)
    return read_table(simulated.answers, simulated.y, n_options=4, groups=groups)[0]


def test_no_rule_answers_a_row_that_it_learned_from():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(3), size=(60, 3))  # every row differs
    y = rng.integers(2, size=60)  # never 2, what a stranger is told
    table = read_table(proba, y)[0]
    for cv, groups in ((2, None), (5, None), (60, None), (4, np.arange(60) // 7)):
        grouped = read_table(proba, y, groups=groups)[0]
        fused, refused = cross_fused(grouped, {"memory": Memory()}, cv=cv, random_state=0)
        assert not refused and (fused["memory"].argmax(axis=1) == 2).all()
    leaked = fuse_with(fit_on(table, Memory()), table)
    assert (leaked.argmax(axis=1) == y).all()


def test_groups_stay_in_one_fold():
    rng = np.random.default_rng(0)
    once = rng.dirichlet(np.ones(3), size=(30, 3))
    y = rng.integers(2, size=30)
    twins, owner = np.repeat(once, 2, axis=0), np.repeat(np.arange(30), 2)
    apart = cross_fused(
        read_table(twins, np.repeat(y, 2), groups=owner)[0], {"memory": Memory()}, cv=5, random_state=0
    )[0]["memory"]
    together = cross_fused(read_table(twins, np.repeat(y, 2))[0], {"memory": Memory()}, cv=5, random_state=0)[
        0
    ]
    assert (apart.argmax(axis=1) == 2).all()
    assert (together["memory"].argmax(axis=1) != 2).any()
    with pytest.raises(PanelError, match="groups holds one group"):
        cross_fused(read_table(twins, np.repeat(y, 2), groups=np.zeros(60))[0], {}, cv=5, random_state=0)


def test_cross_fused_by_hand():
    table = labels()
    from sklearn.model_selection import KFold

    fused = cross_fused(table, {"s": "log_odds"}, cv=3, random_state=7)[0]["s"]
    for train, test in KFold(3, shuffle=True, random_state=7).split(table.panel):
        expected = fuse_with(fit_on(table.rows(train), "log_odds"), table.rows(test))
        np.testing.assert_array_equal(fused[test], expected)


def test_refused_rules_keep_their_reason():
    table = labels(m=3)
    fused, refused = cross_fused(
        table, {"trimmed": TrimmedMean(n_byzantine=2), "vote": PluralityVote()}, cv=3, random_state=0
    )
    assert list(fused) == ["vote"]
    assert "needs" in refused["trimmed"] and "got 3" in refused["trimmed"]


def test_losses_of_classes_by_hand():
    table = read_table(CODES, Y, n_options=[3, 3, 3, 3, 4, 3])[0]
    fused = np.array(
        [[0.5, 0.5, 0, 0], [0.2, 0.8, 0, 0], [0, 0, 3.0, 1.0], [-1, 1, 1, 1], [0.25] * 4, [np.nan] * 4]
    )
    loss = losses(table, fused)
    # ties by chance; a negative share is none; shares are scaled to 1; no answer is wrong, and even in doubt
    np.testing.assert_allclose(loss["error"], [0.5, 1.0, 0.0, 2 / 3, 0.75, 1.0])
    proba = [[0.5, 0.5, 0, 0], [0.2, 0.8, 0, 0], [0, 0, 0.75, 0.25], [0, 1 / 3, 1 / 3, 1 / 3], [0.25] * 4]
    proba.append([1 / 3, 1 / 3, 1 / 3, 0])
    brier = ((np.array(proba) - np.eye(4)[Y]) ** 2).sum(axis=1)
    np.testing.assert_allclose(loss["brier"], brier)
    np.testing.assert_allclose(loss["log_loss"], -np.log(np.array(proba)[np.arange(6), Y]))


def test_losses_of_numbers_by_hand():
    y = np.array([1.0, 2.0, 3.0, 6.0])
    table = read_table(np.ones((4, 2)), y, task="numbers")[0]
    loss = losses(table, np.array([[1.5], [2.0], [np.nan], [np.inf]]))
    np.testing.assert_allclose(loss["squared_error"], [0.25, 0.0, 0.0, 9.0])  # no answer: the mean, 3


def test_paired_gains_by_hand():
    table = read_table(CODES, Y)[0]
    right = np.eye(3)[Y]
    first = np.eye(3)[[0, 1, 2, 0, 1, 1]]  # wrong on 1, 3 and 5
    second = np.eye(3)[[0, 0, 2, 1, 0, 2]]  # wrong on 4 and 5
    board = rank_rules(
        table, {"first": first, "second": second, "right": right}, references=("first", "nobody")
    )
    assert list(board.index) == ["right", "second", "first"]
    difference = np.array([0, 1, 0, 1, -1, 0])
    se = difference.std(ddof=1) / np.sqrt(6)
    row = board.loc["second"]
    assert row["score"] == pytest.approx(4 / 6)
    assert row["gain_first"] == pytest.approx(1 / 6)
    assert row["gain_first_low"] == pytest.approx(1 / 6 - 1.959964 * se, abs=1e-6)
    assert row["gain_first_high"] == pytest.approx(1 / 6 + 1.959964 * se, abs=1e-6)
    assert board.loc["first", ["gain_first", "gain_first_low", "gain_first_high"]].tolist() == [0, 0, 0]
    assert not any("nobody" in column for column in board.columns)
    assert paired_gain(table, second, first) == pytest.approx((1 / 6, se))


def test_groups_widen_intervals_as_their_sums_vary():
    owner = np.array([0, 0, 1, 1, 2, 2])
    table = read_table(CODES, Y, groups=owner)[0]
    first = np.eye(3)[[0, 1, 2, 0, 1, 1]]
    second = np.eye(3)[[0, 0, 2, 1, 0, 2]]
    _, se = paired_gain(table, second, first)
    difference = np.array([0, 1, 0, 1, -1, 0]) - 1 / 6
    sums = np.array([difference[owner == g].sum() for g in range(3)])
    assert se == pytest.approx(np.sqrt((sums**2).sum() * 3 / 2) / 6)
    twins = labels(120, groups=np.arange(120))
    doubled = Table(
        np.repeat(twins.panel, 2, axis=0),
        np.repeat(twins.y, 2),
        "labels",
        None,
        twins.names,
        np.repeat(twins.groups, 2),
    )
    vote = np.nanmean(doubled.panel, axis=1)
    alone = np.nanmean(twins.panel, axis=1)
    gain = paired_gain(doubled, vote, doubled.panel[:, 0])
    assert gain == pytest.approx(paired_gain(twins, alone, twins.panel[:, 0]))


def test_scores_of_numbers_are_r_squared():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 2))
    panel = y[:, None, :] + rng.normal(size=(50, 3, 2))
    table = read_table(panel, y)[0]
    fused = {"mean": panel.mean(axis=1), "first": panel[:, 0], "constant": np.tile(y.mean(axis=0), (50, 1))}
    board = rank_rules(table, fused, references=("mean",))
    total = ((y - y.mean(axis=0)) ** 2).sum()
    assert board.loc["mean", "score"] == pytest.approx(1 - ((fused["mean"] - y) ** 2).sum() / total)
    assert board.loc["constant", "score"] == pytest.approx(0.0, abs=1e-12)
    gain = board.loc["mean", "score"] - board.loc["first", "score"]
    assert board.loc["first", "gain_mean"] == pytest.approx(-gain)
    assert board.index[0] == "mean"


def test_default_rules_suit_task_and_size():
    assert list(default_fusions("labels", 3, [1]))[:2] == ["best_single", "plurality_vote"]
    assert "top_3" not in default_fusions("labels", 3) and "top_3" in default_fusions("labels", 4)
    assert "trimmed_mean(2)" in default_fusions("numbers", 5) and "trimmed_mean(2)" not in default_fusions(
        "numbers", 4
    )
    assert "log_odds" not in default_fusions("numbers", 5) and "inverse_mse" in default_fusions("numbers", 5)
    for task in ("labels", "probabilities", "numbers"):
        assert {"best_single", "covariance", "arbiter"} <= set(default_fusions(task, 9, (1, 2, 3)))
        assert "krum(3)" in default_fusions(task, 9, (1, 2, 3))
