"""The attack table to three decimals, quotient invariance, the escape curve, the exaggeration factor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import (
    Baseline,
    PanelError,
    escape_curve,
    exaggeration_factor,
    find_clones,
    price,
    replication_test,
)


def equal(m, rho=0.3):
    return np.full((m, m), rho) + (1 - rho) * np.eye(m)


# Five specialists, rho .3, v0 1.5: 0, 1, 3 copies; 3 noisy ones; an outsider's copy and its victim; two
# colluders on a bias of 1 (where the comparison reports them).
TABLE = {
    "shapley, mean": (0.212, 0.272, 0.274, 0.243, 0.136, 0.136, -0.199),
    "shapley, optimal weights": (0.212, 0.293, 0.370, 0.348, 0.147, 0.147, -0.076),
    "shapley, optimal, baseline": (0.232, 0.357, 0.503, None, None, None, None),
    "shapley, mean, baseline": (0.231, 0.335, 0.403, None, None, None, None),
    "banzhaf, optimal weights": (0.179, 0.179, 0.090, 0.100, 0.090, 0.090, 0.102),
    "leave one out, optimal weights": (0.035, 0.0, 0.0, 0.001, 0.0, 0.0, None),
    "commitment order, optimal weights": (0.035, 0.035, 0.035, 0.035, 0.0, 0.5, None),
    "quotient shapley, mean": (0.212, 0.212, 0.212, 0.243, 0.0, 0.212, None),
    "quotient shapley, optimal weights": (0.212, 0.212, 0.212, 0.348, 0.0, 0.212, None),
}
COLUMNS = ("0 copies", "1 copy", "3 copies", "3 noisy", "copier", "its victim", "colluders")


@pytest.fixture(scope="module")
def table():
    return replication_test(equal(5), v0=1.5)


@pytest.mark.parametrize("rule", TABLE)
def test_attack_table(table, rule):
    row = table.value[table.rules.index(rule)]
    for column, expected in zip(COLUMNS, TABLE[rule], strict=True):
        if expected is not None:
            found = row[table.attacks.index(column)]
            assert found == pytest.approx(expected, abs=5.01e-4), column


def test_copies_cost_the_panel(table):
    loss = dict(zip(table.attacks, table.loss, strict=True))
    assert loss["0 copies"] == pytest.approx(0.440, abs=5e-4)
    assert loss["3 copies"] == pytest.approx(0.519, abs=5e-4)
    assert table.to_xarray().pay.sel(rule="euler, mean", attack="0 copies") == pytest.approx(0.212)
    assert "quotient shapley, mean" in table.summary()


def test_six_equal_specialists_and_five_copies():
    """With equal variances: .597 becomes 1.494 under the mean and 1.618 under optimal weights."""
    found = replication_test(equal(6), v0=4.0, copies=(0, 4))
    first = {rule: row[:2] for rule, row in zip(found.rules, found.value, strict=True)}
    np.testing.assert_allclose(first["shapley, mean"], [0.5972, 1.494], atol=5e-4)
    np.testing.assert_allclose(first["shapley, optimal weights"], [0.5972, 1.6175], atol=5e-4)
    np.testing.assert_allclose(first["leave one out, optimal weights"], [0.0233, 0.0], atol=5e-4)
    np.testing.assert_allclose(first["quotient shapley, mean"], [0.5972, 0.5972], atol=5e-4)
    halved = first["halved per look-alike, optimal weights"]
    assert halved[1] == pytest.approx(first["shapley, optimal weights"][1] / 16, rel=1e-9)


def test_any_rule_can_be_tested():
    def solo(matrix, v0):
        return v0 - matrix.diagonal()

    found = replication_test(equal(4), v0=2.0, pay=solo, copies=(0, 2), attacker=1)
    assert found.rules == ("solo",) and found.attacks[:2] == ("0 copies", "2 copies")
    np.testing.assert_allclose(found.value[0, :2], [1.0, 3.0], atol=1e-6)
    named = replication_test(equal(4), v0=2.0, pay={"a": solo, "b": lambda c, v0: price(c, v0=v0).value})
    assert named.rules == ("a", "b")


@given(st.integers(2, 7), st.integers(1, 4), st.integers(0, 10**6))
def test_quotient_prices_do_not_see_recognised_copies(m, k, seed):
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(40, m)) + rng.normal(size=(40, 1))
    who = np.concatenate([np.arange(m), np.zeros(k, dtype=int)])
    alone = price(errors, v0=1.5).value
    for split in ("equal", "euler", "first"):
        copied = price(errors[:, who], v0=1.5, clusters=who, split=split).value
        np.testing.assert_allclose(np.bincount(who, copied), alone, rtol=1e-10, atol=1e-11)


def test_find_clones_sees_the_copies_that_the_attack_makes():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(2000, 5)) + 0.65 * rng.normal(size=(2000, 1))
    close = np.column_stack([errors, errors[:, 4] + 0.05 * rng.normal(size=2000)])
    far = np.column_stack([errors, errors[:, 4] + 0.5 * rng.normal(size=2000)])
    assert find_clones(close, threshold=0.95).clusters == (("4", "5"),)
    assert find_clones(far, threshold=0.95).clusters == ()


@pytest.mark.parametrize(
    ("pay", "expected"),
    [
        ("mean", (0.260, 0.236, 0.212, 0.212, 0.212)),
        ("optimal", (0.360, 0.343, 0.311, 0.229, 0.212)),
    ],
)
def test_escape_curve(pay, expected):
    curve = escape_curve(equal(5), v0=1.5, pay=pay)
    # Reported from a coarser grid of noise, which can only find less.
    assert (curve.value >= np.array(expected) - 5e-4).all()
    np.testing.assert_allclose(curve.value, expected, atol=1.6e-3)
    assert curve.honest == pytest.approx(0.212) and not curve.merged.any()
    assert (np.diff(curve.value) <= 1e-12).all()
    assert "honest pay 0.212" in curve.summary() and curve.to_xarray().pay.dims == ("threshold",)


def test_low_thresholds_join_honest_look_alikes():
    matrix = equal(5)
    matrix[0, 1] = matrix[1, 0] = 0.85
    curve = escape_curve(matrix, v0=1.5, thresholds=[0.9, 0.8], attacker=3)
    assert curve.merged.tolist() == [0, 2]


def test_escape_curve_of_a_rule_of_ones_own():
    curve = escape_curve(equal(3), v0=2.0, thresholds=[0.9], pay=lambda c, v0, tau: np.full(len(c), tau))
    assert curve.value[0] == pytest.approx(3.6)


@pytest.mark.parametrize("m", [2, 5, 10])
@pytest.mark.parametrize("rule", ["shapley", "banzhaf", "leave_one_out", "solo"])
def test_exaggeration_by_minimisation(m, rule):
    """The price of the last specialist along a shift is a parabola; three points give its peak."""
    rng = np.random.default_rng(m)
    others = rng.normal(size=m - 1) + 1.0
    for options, factor in (
        ({"v0": 1.0}, exaggeration_factor(m, rule=rule)),
        ({"v0": 1.0, "quorum": 2}, exaggeration_factor(m, rule=rule, quorum=2)),
        ({"baseline": Baseline(1.0, errors=[0.0])}, exaggeration_factor(m, rule=rule, baseline_weight=1.0)),
    ):
        pay = [
            price(np.append(others, d)[None], rule=rule, given="errors", **options).value[-1]
            for d in (-1.0, 0.0, 1.0)
        ]
        if rule == "solo" and "quorum" in options:
            assert np.isnan(factor)
            continue
        peak = (pay[0] - pay[2]) / (2 * (pay[0] - 2 * pay[1] + pay[2]))
        assert peak == pytest.approx(-factor * others.mean(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: exaggeration_factor(0), "at least 1"),
        (lambda: exaggeration_factor(5, quorum=6), "between 1 and 5"),
        (lambda: exaggeration_factor(5, baseline_weight=-1), "positive number"),
        (lambda: exaggeration_factor(5, rule="beta"), "needs beta="),
        (lambda: replication_test(equal(3), v0=None), "give v0"),
        (lambda: replication_test(equal(3), v0=1, attacker=5), "indices of 3"),
        (lambda: replication_test(equal(3), v0=1, attacker=0), "two specialists"),
        (lambda: replication_test(equal(3), v0=1, copies=(-1,)), "whole numbers >= 0"),
        (lambda: replication_test(equal(3), v0=1, noise=-1), "noise is a number"),
        (lambda: replication_test(equal(3), v0=1, threshold=2), "between 0 and 1"),
        (lambda: replication_test(equal(3), v0=1, pay={}), "pay= is a function"),
        (lambda: replication_test(equal(3), v0=1, pay=lambda c, v: [1.0]), "must give 3 finite prices"),
        (lambda: escape_curve(equal(3), v0=1, thresholds=[1.2]), "between 0 and 1"),
        (lambda: escape_curve(equal(3), v0=1, pay="median"), "pay must be"),
        (lambda: escape_curve(equal(3), v0=1, n_copies=0), "at least 1"),
        (lambda: escape_curve(equal(3), v0=1, attacker=3), "an index of 3"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(PanelError, match=text):
        call()


def test_numbers_of_copies_may_come_as_an_array():
    matrix = np.full((3, 3), 0.3) + 0.7 * np.eye(3)
    one = replication_test(matrix, v0=1.5, copies=np.array([0, 2]))
    assert np.array_equal(one.value, replication_test(matrix, v0=1.5, copies=[0, 2]).value)
