"""Linear and logarithmic pools beyond the contract."""

from __future__ import annotations

import numpy as np
import pytest

from fusion import LogPool, linear_pool, log_pool, mean
from theory import BudgetError, PanelError


def test_one_zero_vetoes_a_log_pool_and_not_a_linear_one():
    rows = np.array([[0.7, 0.3], [0.6, 0.4], [0.0, 1.0]])
    assert log_pool(rows)[0] == pytest.approx(0.015, abs=5e-4)
    assert linear_pool(rows)[0] == pytest.approx(0.43, abs=5e-3)


def test_sharpness_and_logits():
    rows = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    plain = log_pool(rows, floor=1e-15)
    np.testing.assert_allclose(log_pool(np.log(rows) + 7.0, from_logits=True), plain, rtol=1e-12)
    np.testing.assert_allclose(log_pool(1e4 + np.log(rows), from_logits=True), plain, rtol=1e-9)
    squared = log_pool(rows, floor=1e-15, sharpness=2.0)
    np.testing.assert_allclose(squared, plain**2 / (plain**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(log_pool(rows, sharpness=0.0), 1 / 3)


def test_absent_classes_are_pooled_over_those_who_know_them():
    rows = np.array([[0.5, 0.5, np.nan], [0.2, 0.3, 0.5]])
    np.testing.assert_allclose(linear_pool(rows, missing="abstain"), [0.35, 0.4, 0.5])
    weighted = mean(rows, missing="abstain", weights=[3, 1])
    np.testing.assert_allclose(weighted, [0.425, 0.45, 0.5])
    logs = np.array([np.log([0.5, 0.2]).mean(), np.log([0.5, 0.3]).mean(), np.log(0.5)])
    expected = np.exp(logs) / np.exp(logs).sum()
    np.testing.assert_allclose(log_pool(rows, missing="abstain", floor=1e-12), expected, rtol=1e-9)
    with pytest.raises(BudgetError, match="1 of 2 specialists gave non-finite answers"):
        log_pool(rows)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[0.5, 0.6], [0.5, 0.5]], r"specialist '0' \(outputs 2\) sums to 1\.1"),
        ([[[0.5, 0.5], [1.2, -0.2]]], r"specialist '1' \(sample 0, outputs 2\) holds -0\.2"),
    ],
)
def test_what_is_no_probability_is_refused(rows, words):
    with pytest.raises(PanelError, match=words):
        log_pool(rows)


def test_parameters_are_checked():
    rows = np.full((2, 4), 0.25)
    for floor in (0.0, 0.25, -1.0):
        with pytest.raises(PanelError, match="floor must lie in"):
            LogPool(floor=floor)(rows)
    with pytest.raises(PanelError, match="sharpness must be"):
        log_pool(rows, sharpness=np.inf)


def test_negative_weights():
    rows = np.array([[1.0], [3.0]])
    assert mean(rows, weights=[2, -1])[0] == -1.0
    with pytest.raises(PanelError, match="positive sum"):
        mean(rows, weights=[1, -1])


def test_means_of_extreme_numbers():
    top = np.finfo(np.float64).max
    np.testing.assert_array_equal(mean([[top], [top]]), [top])
    np.testing.assert_allclose(mean(np.full((3000, 3, 1), top)), top)
    huge = np.float32(3e38)
    assert mean(np.full((3, 1), huge, dtype=np.float32))[0] == huge


@pytest.mark.parametrize("weights", [None, np.array([0.2, 0.5, 0.3])])
def test_a_pool_of_several_blocks_is_the_pool_of_each_sample(weights):
    panel = np.random.default_rng(0).dirichlet(np.ones(5), size=(9001, 3))
    pooled = log_pool(panel, weights=weights)
    for at in (0, 3999, 4000, 4001, 9000):
        np.testing.assert_array_equal(pooled[at], log_pool(panel[at : at + 1], weights=weights)[0])
    by_hand = np.exp(
        np.average(np.log((1 - 5e-6) * panel + 1e-6), axis=1, weights=weights)  # the default floor
    )
    np.testing.assert_allclose(pooled, by_hand / by_hand.sum(axis=1, keepdims=True), rtol=1e-12)
    panel[8000, 1] = np.nan  # faults of a late block are told by their own number
    with pytest.raises(BudgetError, match="sample 8000"):
        log_pool(panel, weights=weights)


def test_an_error_about_weights_speaks_of_the_whole_panel():
    panel = np.full((40_000, 3, 4), 0.25)
    with pytest.raises(
        PanelError, match=r"shape \(3,\) or \(40000, 3\), one weight per specialist; got \(4,\)"
    ):
        log_pool(panel, weights=np.ones(4))
