"""Liars: each lie does what its name says, honest rows stay, and robust rules keep what they promise."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from estimators.liars import attack_rules, lie_names, score, tell_lies
from estimators.table import read_table
from fusion import Krum, Mean, Median, PluralityVote, TrimmedMean
from theory import correlated_panel, difficulty_panel

RNG = np.random.default_rng


@pytest.fixture
def labels():
    simulated = difficulty_panel(200, 5, accuracy=0.7, seed=0)
    answers = simulated.answers.copy()
    answers[RNG(0).random(answers.shape) < 0.1] = -1
    return read_table(answers, simulated.y, n_options=np.where(simulated.y < 3, 4, 5), names=list("abcde"))[0]


@pytest.fixture
def numbers():
    simulated = correlated_panel(200, 5, rho=0.2, n_outputs=2, seed=1)
    return read_table(simulated.panel, simulated.y)[0]


@pytest.mark.parametrize("kind", ["labels", "numbers"])
def test_the_honest_keep_their_rows_and_the_panel_is_not_changed(kind, request):
    table = request.getfixturevalue(kind)
    before = table.panel.copy()
    for lie in lie_names(table.task):
        lied = tell_lies(table, (1, 3), lie, RNG(0))
        np.testing.assert_array_equal(lied[:, [0, 2, 4]], before[:, [0, 2, 4]])
        assert not np.array_equal(lied[:, [1, 3]], before[:, [1, 3]], equal_nan=True), lie
        np.testing.assert_array_equal(table.panel, before)


def test_silence_and_shuffles(labels, numbers):
    for table in (labels, numbers):
        assert np.isnan(tell_lies(table, (2,), "silent", RNG(0))[:, 2]).all()
        shuffled = tell_lies(table, (0, 1), "shuffle", RNG(0))
        key = [row.tobytes() for row in np.ascontiguousarray(table.panel[:, :2])]
        assert sorted(key) == sorted(row.tobytes() for row in np.ascontiguousarray(shuffled[:, :2]))


def test_runner_up_is_the_strongest_wrong_option(labels):
    lied = tell_lies(labels, (0, 4), "runner_up", RNG(0))
    votes = np.nan_to_num(labels.panel[:, [1, 2, 3]]).sum(axis=1)
    for i in range(len(votes)):
        chosen = int(lied[i, 0].argmax())
        assert lied[i, 0].sum() == 1 and (lied[i, 4] == lied[i, 0]).all()
        wrong = [c for c in range(labels.n_options[i]) if c != labels.y[i]]
        assert chosen in wrong and votes[i, chosen] == votes[i, wrong].max()


def test_constants(labels, numbers):
    np.testing.assert_array_equal(tell_lies(labels, (1,), "constant", RNG(0))[:, 1], np.eye(5)[[0] * 200])
    np.testing.assert_array_equal(
        tell_lies(numbers, (1,), "constant", RNG(0))[:, 1],
        np.tile(numbers.panel.max(axis=(0, 1)), (200, 1)),
    )


def test_lies_in_numbers(numbers):
    mirrored = tell_lies(numbers, (0,), "mirror", RNG(0))[:, 0]
    np.testing.assert_allclose(mirrored + numbers.y, np.tile(2 * numbers.y.mean(axis=0), (200, 1)))
    shifted = tell_lies(numbers, (0, 2), "shift", RNG(0))
    honest = numbers.panel[:, [1, 3, 4]]
    np.testing.assert_allclose(shifted[:, 0], honest.mean(axis=1) + 10 * honest.std(axis=(0, 1)))
    np.testing.assert_array_equal(shifted[:, 0], shifted[:, 2])


def attacked(table, fusions, n_byzantine=(1, 2), **more):
    settings = {"n_subsets": 100, "n_samples": 1000, "random_state": 0} | more
    return attack_rules(table, fusions, n_byzantine=n_byzantine, **settings)


def test_rows_of_the_table_by_loops(labels):
    """One pass over stacked panels gives what a loop over plans gives."""
    frame, refused = attacked(labels, {"vote": PluralityVote(), "s": "log_odds"}, (1,))
    assert not refused and set(frame["lie"]) == {"none", *lie_names("labels")}

    class Alone(BaseEstimator):  # not one of ours, so every panel is fused alone
        def fit(self, panel, y, *, task, sample_weight=None):
            self.fitted_ = True
            return self

        def fuse(self, panel):
            return PluralityVote()(panel, missing="abstain")

    looped, _ = attacked(labels, {"vote": Alone()}, (1,))
    columns = ["lie", "worst", "mean", "liars"]
    assert frame[frame["rule"] == "vote"][columns].values.tolist() == looped[columns].values.tolist()
    for f, group in frame.groupby("n_byzantine"):
        assert (group["worst"] <= group["mean"] + 1e-12).all()
        assert all(text.count(",") == max(f - 1, 0) for text in group["liars"])


def test_the_honest_row_is_the_plain_score(labels):
    frame, _ = attacked(labels, {"vote": PluralityVote()}, (1,), n_samples=60)
    rng = RNG(np.random.RandomState(0).randint(2**31 - 1))
    # the same draws: who learns, then the order of the samples
    learns = np.isin(np.arange(200), rng.permutation(200)[:100])
    shuffled = rng.permutation(200)
    test = labels.rows(shuffled[~learns[shuffled]][:60])
    expected = score(test, PluralityVote()(test.panel, missing="abstain"))
    assert frame.iloc[0]["worst"] == frame.iloc[0]["mean"] == pytest.approx(expected)
    assert frame.iloc[0]["lie"] == "none" and frame.iloc[0]["liars"] == ""


def test_robust_rules_within_their_budget_keep_their_score_where_the_honest_agree():
    rng = RNG(2)
    y = rng.integers(4, size=120)
    table = read_table(np.repeat(y[:, None], 7, axis=1), y, n_options=4)[0]
    rules = {"vote": PluralityVote(), "krum": Krum(n_byzantine=2), "median": Median()}
    frame, _ = attacked(table, rules, (1, 2, 3))
    within = frame[(frame["n_byzantine"] <= 2) | (frame["rule"] != "krum")]
    assert (within["worst"] == 1.0).all()
    truth = rng.normal(size=120)
    numbers = read_table(np.repeat(truth[:, None], 7, axis=1), truth)[0]
    rules = {
        "median": Median(),
        "trimmed": TrimmedMean(n_byzantine=2),
        "krum": Krum(n_byzantine=2),
        "mean": Mean(),
    }
    frame, _ = attacked(numbers, rules, (2,))
    worst = frame.groupby("rule")["worst"].min()
    assert worst[["median", "trimmed", "krum"]].min() == pytest.approx(1.0) and worst["mean"] < 0


def test_sets_of_liars():
    simulated = difficulty_panel(120, 9, accuracy=0.6, seed=0)
    table = read_table(simulated.answers, simulated.y, n_options=4)[0]
    seen = []

    class Spy(BaseEstimator):
        def fit(self, panel, y, *, task, sample_weight=None):
            self.fitted_ = True
            return self

        def fuse(self, panel):
            seen.append(tuple(np.flatnonzero(np.isnan(panel).all(axis=(0, 2))).tolist()))
            return np.nan_to_num(panel).sum(axis=1)

    attacked(table, {"spy": Spy()}, (2,), n_subsets=5)
    silent = [who for who in seen if who]
    assert len(silent) == len(set(silent)) == 5 and all(len(who) == 2 for who in silent)
    seen.clear()
    attacked(table, {"spy": Spy()}, (1,), n_subsets=9)
    assert sorted(who for who in seen if who) == [(i,) for i in range(9)]


def test_the_strongest_are_always_among_the_liars():
    y = RNG(0).integers(4, size=400)
    answers = RNG(1).integers(4, size=(400, 12))
    answers[:, [3, 8]] = y[:, None]
    table = read_table(answers, y, n_options=4, names=[f"s{i}" for i in range(12)])[0]
    frame, _ = attacked(table, {"best": "best_single", "vote": "log_odds"}, (2,), n_subsets=1)
    assert set(frame[frame["n_byzantine"] == 2]["liars"]) == {"s3, s8"}


def test_a_rule_that_fails_under_attack_is_reported():
    simulated = difficulty_panel(80, 4, accuracy=0.6, seed=0)
    table = read_table(simulated.answers, simulated.y, n_options=4)[0]

    def strict(panel):
        if np.isnan(panel).any():
            raise ValueError("somebody is silent")
        return panel.mean(axis=1)

    frame, refused = attacked(table, {"strict": strict, "vote": PluralityVote()}, (1,))
    assert set(frame["rule"]) == {"vote"} and refused == {"strict": "somebody is silent"}


def test_groups_are_not_cut():
    proba = RNG(0).dirichlet(np.ones(3), size=(200, 4))
    owner = RNG(1).integers(20, size=200)
    table = read_table(proba, RNG(2).integers(3, size=200), groups=owner)[0]
    group_of = {row.tobytes(): int(g) for row, g in zip(proba, owner, strict=True)}
    learned, asked = set(), set()

    class Spy(BaseEstimator):
        def fit(self, panel, y, *, task, sample_weight=None):
            learned.update(group_of[row.tobytes()] for row in panel)
            self.fitted_ = True
            return self

        def fuse(self, panel):
            asked.update(group_of[row.tobytes()] for row in panel if row.tobytes() in group_of)
            return np.nan_to_num(panel).sum(axis=1)

    attacked(table, {"spy": Spy()}, (1,))
    assert len(learned) == len(asked) == 10 and not learned & asked


def test_determinism_and_progress(labels):
    ticks = []
    rules = {"vote": PluralityVote(), "median": Median()}
    first, _ = attacked(labels, rules, n_subsets=3, tick=ticks.append)
    again, _ = attacked(labels, rules, n_subsets=3)
    assert first.equals(again) and len(ticks) == 2
    other, _ = attacked(labels, rules, n_subsets=3, random_state=np.random.RandomState(5))
    assert not first.equals(other)
