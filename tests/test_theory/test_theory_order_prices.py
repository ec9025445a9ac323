"""Prices under trimmed means, winsorized means and medians: equal to enumeration, ties included."""

import numpy as np
import pytest
from enumeration import order_game, semivalue
from hypothesis import given
from hypothesis import strategies as st

from theory import BudgetError, PanelError, correlated_panel, price
from theory.pricing._order_games import OrderRule, order_prices_numpy, order_tables

SEMIVALUES = [
    ("shapley", None),
    ("banzhaf", None),
    ("leave_one_out", None),
    ("solo", None),
    ("beta", (2.0, 3.5)),
]
RULES = [
    ("trimmed", {"n_byzantine": 0}),
    ("trimmed", {"n_byzantine": 1}),
    ("trimmed", {"n_byzantine": 2}),
    ("trimmed", {"proportiontocut": 0.25}),
    ("winsorized", {"n_byzantine": 1}),
    ("winsorized", {"n_byzantine": 2}),
    ("winsorized", {"proportiontocut": 0.25}),
    ("median", {}),
]
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def cut_of(options):
    if "proportiontocut" in options:
        return lambda t: int(options["proportiontocut"] * t)
    return lambda t: options.get("n_byzantine", 0)


def draw(m, n, seed=0, ties=False):
    rng = np.random.default_rng([seed, m])
    errors = rng.normal(size=(n, m, 1)) + rng.normal(size=(n, 1, 1))
    return np.round(2 * errors) / 2 if ties else errors


@pytest.mark.parametrize("m", range(1, 11))
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule[0]}-{list(rule[1].values())}")
def test_equals_enumeration(m, rule):
    game, options = rule
    if 2 * options.get("n_byzantine", 0) >= m:
        return
    n = 4 if m < 9 else 1
    errors = np.concatenate([draw(m, n), draw(m, n, ties=True)])
    v0 = np.linspace(1.0, 2.0, len(errors))
    for quorum in {1, min(3, m)}:
        games = [
            order_game(game, row.tolist(), start, cut_of(options), quorum)
            for row, start in zip(errors, v0, strict=True)
        ]
        for semi, beta in SEMIVALUES if m < 9 else SEMIVALUES[:2]:
            expected = np.array([semivalue(v, m, semi, beta) for v in games])
            found = price(
                errors, v0=v0, game=game, rule=semi, beta=beta, quorum=quorum, per_sample=True, **options
            )
            np.testing.assert_allclose(found.per_sample, expected, **EXACT)
            np.testing.assert_allclose(found.value, expected.mean(axis=0), **EXACT)
            whole = np.mean([start - v[tuple(range(m))] for v, start in zip(games, v0, strict=True)])
            assert found.total == pytest.approx(whole, abs=1e-12)
            assert found.exact and found.n_evaluations == 0


def test_outputs_and_missing_answers():
    rng = np.random.default_rng(3)
    errors = rng.normal(size=(12, 6, 2))
    errors[rng.random((12, 6)) < 0.4] = np.nan
    errors[3] = np.nan
    for game, options in RULES[1:]:
        for quorum in (1, 3):
            expected = np.zeros((12, 6))
            for t, row in enumerate(errors):
                here = np.flatnonzero(~np.isnan(row[:, 0]))
                if len(here):
                    v = order_game(game, row[here].tolist(), 1.5, cut_of(options), quorum)
                    expected[t, here] = semivalue(v, len(here), "shapley")
            found = price(
                errors, v0=1.5, game=game, quorum=quorum, missing="abstain", per_sample=True, **options
            )
            np.testing.assert_allclose(found.per_sample, expected, **EXACT)
            assert abs(found.residual) < 1e-12


def test_equals_the_same_rule_as_a_callable():
    drawn = correlated_panel(40, 7, rho=0.3, seed=5)
    found = price(drawn.errors, v0=1.0, game="median", quorum=2)
    called = price(
        drawn.panel, y=drawn.y, fuse=lambda p: np.median(p, axis=1), loss="squared", v0=1.0, quorum=2
    )
    np.testing.assert_allclose(found.value, called.value, **EXACT)
    np.testing.assert_allclose(found.se, called.se, rtol=1e-9)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule[0]}-{list(rule[1].values())}")
def test_compiled_core_equals_its_twin(rule):
    from theory._kernels import order_prices

    game, options = rule
    rng = np.random.default_rng(0)
    for m, n in ((1, 3), (2, 5), (9, 37), (23, 20)):
        chosen = OrderRule(game, options.get("n_byzantine", 0), options.get("proportiontocut"))
        tables = order_tables(m, chosen, "shapley", None, 1)
        errors = rng.normal(size=(n, m))
        order = np.argsort(errors, axis=1)
        ranked = np.take_along_axis(errors, order, axis=1)
        first, second = np.zeros((n, m)), np.zeros((n, m))
        order_prices(ranked, order, tables, first)
        order_prices_numpy(ranked, order, tables, second)
        np.testing.assert_allclose(first, second, rtol=1e-13, atol=1e-13)


@given(st.integers(3, 12), st.integers(0, 10**6), st.sampled_from(RULES), st.sampled_from(SEMIVALUES))
def test_laws(m, seed, rule, semivalue_):
    game, options = rule
    if 2 * options.get("n_byzantine", 0) >= m:
        options = {"n_byzantine": 1}
    rng = np.random.default_rng(seed)
    errors = np.round(rng.normal(size=(10, m)), 1)
    errors[:, 1] = errors[:, 0]
    terms = {"game": game, "rule": semivalue_[0], "beta": semivalue_[1], **options}
    base = price(errors, v0=1.5, **terms)
    assert base.value[0] == pytest.approx(base.value[1], abs=1e-12)
    order = rng.permutation(m)
    np.testing.assert_allclose(price(errors[:, order], v0=1.5, **terms).value, base.value[order], atol=1e-12)
    np.testing.assert_allclose(price(-3 * errors, v0=13.5, **terms).value, 9 * base.value, atol=1e-11)
    if semivalue_[0] == "shapley":
        assert abs(base.residual) < 1e-12
    if options.get("n_byzantine") == 0:
        flat = {"rule": semivalue_[0], "beta": semivalue_[1]}
        np.testing.assert_allclose(base.value, price(errors, v0=1.5, **flat).value, atol=1e-12)


def test_large_panels_stay_exact():
    errors = correlated_panel(400, 200, rho=0.2, seed=0).errors
    for game, options in (("trimmed", {"n_byzantine": 40}), ("median", {})):
        found = price(errors[:40], v0=1.0, game=game, per_sample=True, **options)
        assert abs(found.residual) < 1e-12
        assert np.abs(found.per_sample).max() < 1.0


def test_huge_outliers_leave_the_others_their_digits():
    drawn = correlated_panel(300, 7, rho=0.2, seed=1).errors[:, :, 0]
    clean = price(drawn, v0=2.0, game="trimmed", n_byzantine=1, quorum=3)
    loud = drawn.copy()
    loud[:, 0] = -1e8
    far = drawn.copy()
    far[:, 0] = -1e4
    first, second = (price(e, v0=2.0, game="trimmed", n_byzantine=1, quorum=3).value for e in (loud, far))
    np.testing.assert_allclose(first, second, atol=1e-12)
    assert np.abs(first - clean.value).max() < 0.5


def test_the_deployed_rule_decides_what_an_outlier_earns():
    """Seven specialists, rho .3, v0 2; one errs by +10 in 5 % of the samples; quorum 3."""
    errors = correlated_panel(20_000, 7, rho=0.3, seed=0).errors[:, :, 0]
    errors[::20, 0] += 10.0
    terms = {"v0": 2.0, "quorum": 3}
    mean = price(errors, **terms).value[0]
    trimmed = price(errors, game="trimmed", n_byzantine=1, **terms).value
    median = price(errors, game="median", **terms).value
    assert mean == pytest.approx(0.048, abs=0.006)
    assert trimmed[0] == pytest.approx(0.221, abs=0.006)
    assert median[0] == pytest.approx(0.216, abs=0.006)
    assert trimmed[1:].mean() == pytest.approx(0.225, abs=0.01)


@pytest.mark.parametrize(
    ("terms", "error", "text"),
    [
        ({"game": "trimmed"}, PanelError, "needs n_byzantine="),
        ({"game": "trimmed", "n_byzantine": 1, "proportiontocut": 0.1}, PanelError, "one of the two"),
        ({"game": "trimmed", "n_byzantine": 2}, BudgetError, "at least 5 specialists; got 3. Lower n_byz"),
        ({"game": "trimmed", "n_byzantine": -1}, PanelError, "at least 0"),
        ({"game": "trimmed", "n_byzantine": True}, PanelError, "whole number"),
        ({"game": "winsorized", "proportiontocut": 0.5}, PanelError, r"lies in \[0, 0.5\)"),
        ({"game": "median", "n_byzantine": 1}, PanelError, "makes no use of n_byzantine="),
        ({"game": "median", "quorum": 4}, PanelError, "Lower it to at most 3"),
        ({"game": "median", "clusters": [0, 0, 1]}, PanelError, "belong to the mean game"),
        ({"n_byzantine": 1}, PanelError, "belongs to game='trimmed', 'winsorized'"),
    ],
)
def test_bad_input(terms, error, text):
    with pytest.raises(error, match=text):
        price(np.ones((4, 3)), v0=1.0, **terms)
