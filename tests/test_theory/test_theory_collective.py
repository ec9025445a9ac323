"""Scores of collective decisions against loops, simulation and hand counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import (
    PanelError,
    calibration,
    conflict_resolution,
    cost_per_correct,
    group_accuracy,
    herding_index,
    hypothesis_diversity,
    oracle_gap,
    polya_exchange,
)


@given(st.integers(0, 999))
def test_conflict_oracle_and_accuracy_are_those_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    words, said, y = rng.integers(-1, 3, (40, 4)), rng.integers(-1, 3, 40), rng.integers(0, 3, 40)
    fought, right_there, rescue, lost, harm, crowd_right = [], [], [], 0, [], 0
    for row, decision, truth in zip(words, said, y, strict=True):
        heads = [int((row == k).sum()) for k in range(3)]
        most = int(np.argmax(heads)) if max(heads) else -1
        if len(set(row[row >= 0].tolist())) > 1:
            fought.append(decision == truth)
            right_there.append(most == truth)
        if most == truth:
            crowd_right += 1
            harm.append(decision != truth)
        elif truth in row:
            lost += 1
            rescue.append(decision == truth)
    score = conflict_resolution(words, said, y)
    assert score.n == len(fought)
    assert score.value == pytest.approx(np.mean(fought))
    assert score.details["plurality"] == pytest.approx(np.mean(right_there))
    assert (
        score.details["rescue"] == pytest.approx(np.mean(rescue))
        if lost
        else np.isnan(score.details["rescue"])
    )
    assert (
        score.details["harm"] == pytest.approx(np.mean(harm))
        if crowd_right
        else np.isnan(score.details["harm"])
    )
    somebody = np.mean([t in row for row, t in zip(words, y, strict=True)])
    assert oracle_gap(words, said, y).value == pytest.approx(somebody - np.mean(said == y))
    assert group_accuracy(said, y).details["coverage"] == pytest.approx(np.mean(said >= 0))


@given(st.integers(0, 999))
def test_whole_weights_are_repeated_samples(seed):
    rng = np.random.default_rng(seed)
    weight = rng.integers(1, 4, 30)
    again = np.repeat(np.arange(30), weight)
    said, y, words = rng.integers(0, 3, 30), rng.integers(0, 3, 30), rng.integers(0, 3, (30, 3))
    panel = rng.dirichlet(np.ones(3), (30, 3))
    pairs = [
        (group_accuracy(said, y, sample_weight=weight), group_accuracy(said[again], y[again])),
        (hypothesis_diversity(panel, sample_weight=weight), hypothesis_diversity(panel[again])),
        (oracle_gap(words, said, y, sample_weight=weight), oracle_gap(words[again], said[again], y[again])),
        (calibration(panel[:, 0], y, sample_weight=weight), calibration(panel[again, 0], y[again])),
    ]
    for one, two in pairs:
        assert one.value == pytest.approx(two.value)
    assert pairs[3][0].details["ece"] == pytest.approx(pairs[3][1].details["ece"])


def test_paired_standard_error_covers_and_is_smaller_than_unpaired():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        hard = rng.random(400)
        a, b = (rng.random(400) < 0.1).astype(int), np.zeros(400, dtype=int)
        one, two = np.where(hard < 0.6, a, 1), np.where(hard < 0.65, b, 1)
        score = group_accuracy(one, np.zeros(400, dtype=int), against=two)
        hits += abs(score.value - (0.6 * 0.9 - 0.65)) < 1.96 * score.standard_error
    assert 0.9 < hits / 300 < 0.99


def test_a_perfect_judge_shows_the_noise_floor():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(10) * 0.5, 4485)
    y = (rng.random((4485, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 9)
    score = calibration(p, y)
    assert score.details["ece"] < score.details["ece_floor_95"] * 1.3
    assert score.details["ece_floor"] == pytest.approx(0.014, abs=0.005)
    sure = p**3 / (p**3).sum(axis=1, keepdims=True)
    assert calibration(sure, y).details["ece"] > 5 * score.details["ece_floor_95"]


def test_diversity_runs_from_one_opinion_to_as_many_as_there_can_be():
    one = np.tile(np.eye(3)[0], (5, 4, 1))
    assert hypothesis_diversity(one).value == 0
    all_of_them = np.tile(np.eye(4), (5, 1, 1))
    assert hypothesis_diversity(all_of_them).value == pytest.approx(1)
    absent = all_of_them.copy()
    absent[:, 2:] = np.nan
    assert hypothesis_diversity(absent).details["distinct"] == 2


def test_herding_counts_flips_and_lost_independence():
    rng = np.random.default_rng(0)
    y = np.zeros(2000, dtype=int)
    before = (rng.random((2000, 5)) < 0.4).astype(int)
    after = before.copy()
    after[:, 1:3] = before[:, :1]
    score = herding_index(before, after, y, influence=np.full((5, 5), 0.2))
    assert score.value > 0.3
    assert abs(score.value - (1 - (25 / (5 + 6)) / 5)) < 5 * score.standard_error + 0.02
    assert score.details["largest_influence"] == pytest.approx(0.2)
    assert herding_index(before, before, y).value == 0
    flips = score.details["right_to_wrong"] - score.details["wrong_to_right"]
    assert flips == pytest.approx((after != 0).mean() - (before != 0).mean())


def test_costs_that_are_not_known_are_not_zero():
    told = cost_per_correct(
        [1, 1, 0], [1, 1, 1], {"calls": [1, 2, 3], "tokens": [5, np.nan, 7], "money": None}
    )
    assert told["calls"].value == 3
    assert np.isnan(told["tokens"].value)
    assert told["tokens"].details["known"] == 6
    assert told["money"] is None


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: group_accuracy([0.5], [1]), "one whole number per sample"),
        (lambda: calibration([[0.5, 0.6]], [0]), "must hold probabilities"),
        (lambda: calibration([[0.5, 0.5]], [2]), "y holds code 2, the verdict has 2"),
        (lambda: conflict_resolution([0, 1], [0, 1], [0, 1]), "proposals must be whole numbers"),
        (lambda: cost_per_correct([0], [0], {"calls": [-1]}), "numbers >= 0"),
        (lambda: polya_exchange([1.0, 0.0], np.eye(2)), "positive concentrations"),
        (lambda: polya_exchange([1.0, 1.0], -np.eye(2)), "square table of finite numbers >= 0"),
    ],
)
def test_bad_input_is_refused(call, text):
    with pytest.raises(PanelError, match=text):
        call()
