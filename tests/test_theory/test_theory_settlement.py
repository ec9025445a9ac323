"""Settlements, wagers and markets: every invariant that they promise."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import (
    PanelError,
    clear_uniform_price,
    correlated_panel,
    deposit_needed,
    kelly_pool,
    log_market,
    price,
    settle,
    wager,
)

numbers = st.lists(st.floats(-5, 5), min_size=1, max_size=12)


@given(numbers, st.integers(0, 10**9), st.floats(0, 3), st.integers(0, 10**6))
def test_settlement_balances(prices, budget, z, seed):
    rng = np.random.default_rng(seed)
    m = len(prices)
    se, debt, deposit = rng.uniform(0, 1, (3, m))
    paid = settle(prices, budget=budget, se=se, z=z, debt=debt, deposit=deposit)
    earned = np.maximum(paid.due, 0)
    assert paid.value.dtype == np.int64 and (paid.value >= 0).all()
    assert paid.value.sum() == (budget if earned.any() else 0)
    assert (paid.value[paid.due <= 0] == 0).all()
    # Every unit of loss is accounted for: price, deduction and old debt end as pay or as new debt.
    np.testing.assert_allclose(earned - paid.debt, np.array(prices) - z * se - debt, atol=1e-12)
    np.testing.assert_allclose(
        sum(prices) + sum(paid.residual[key] for key in ("uncertainty", "old_debt", "debt")),
        earned.sum(),
        atol=1e-9,
    )
    assert paid.residual["unpaid"] == budget - paid.value.sum()
    np.testing.assert_array_equal(paid.exhausted, paid.debt > deposit)
    if earned.any():
        assert (np.abs(paid.value - earned / earned.sum() * budget) < 1 + 1e-6).all()


def test_settlement_by_hand():
    paid = settle([0.5, 0.3, -0.2, 0.1], budget=10, se=[0.1, 0.1, 0.0, 0.2], z=1.0, debt=[0, 0.1, 0, 0])
    np.testing.assert_allclose(paid.due, [0.4, 0.1, -0.2, -0.1])
    assert paid.value.tolist() == [8, 2, 0, 0]
    np.testing.assert_allclose(paid.debt, [0, 0, 0.2, 0.1])
    assert paid.rate == pytest.approx(20.0) and paid.exhausted.tolist() == [False, False, True, True]
    # A debt is paid off before anything is paid out.
    later = settle([0.3, 0.3, 0.3, 0.3], budget=100, debt=paid.debt)
    np.testing.assert_allclose(later.due, [0.3, 0.3, 0.1, 0.2])
    assert not later.debt.any() and later.value.sum() == 100
    nobody = settle([-1.0, 0.0], budget=5)
    assert nobody.value.sum() == 0 and nobody.residual["unpaid"] == 5 and "stays unpaid" in nobody.warnings[0]
    assert "owes 0.20000, more than its deposit" in paid.summary()
    assert paid.to_xarray().value.dims == ("specialist",)


def test_only_committed_samples_are_paid():
    errors = correlated_panel(100, 4, rho=0.2, seed=0).errors
    result = price(errors, v0=2.0, per_sample=True)
    mask = np.ones((100, 4), dtype=bool)
    mask[50:, 2] = False
    paid = settle(result, budget=1000, committed=mask)
    assert paid.due[2] == pytest.approx(result.per_sample[:50, 2].sum() / 100)
    np.testing.assert_allclose(paid.due[[0, 1, 3]], result.value[[0, 1, 3]])
    half = settle(result, budget=1000, committed=mask[:, 2], z=1.0)
    table = np.where(mask[:, 2:3], result.per_sample, 0.0)
    np.testing.assert_allclose(half.due, table.mean(axis=0) - table.std(axis=0, ddof=1) / 10)
    assert paid.names == result.names


def test_deposits_deter():
    assert deposit_needed(1.0, detection=0.05) == pytest.approx(19.0)
    assert deposit_needed(1.0, detection=0.2) == pytest.approx(4.0)
    q, gain = 0.3, 2.0
    assert (1 - q) * gain - q * deposit_needed(gain, detection=q) == pytest.approx(0.0, abs=1e-12)


@given(st.integers(1, 8), st.integers(0, 10**6))
def test_wagers_balance_and_do_not_reward_splitting(m, seed):
    rng = np.random.default_rng(seed)
    scores, stakes = rng.random((5, m)), rng.uniform(0, 3, m)
    paid = wager(scores, stakes)
    np.testing.assert_allclose(paid.sum(axis=1), stakes.sum(), rtol=1e-12)
    assert (paid >= -1e-15).all()
    share = rng.random()
    split = wager(
        np.column_stack([scores, scores[:, 0]]),
        np.concatenate([[share * stakes[0]], stakes[1:], [(1 - share) * stakes[0]]]),
    )
    np.testing.assert_allclose(split[:, 0] + split[:, -1], paid[:, 0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(split[:, 1:-1], paid[:, 1:], rtol=1e-12, atol=1e-14)


@given(st.integers(2, 5), st.integers(1, 6), st.floats(0.1, 10), st.integers(0, 10**6))
def test_log_market_loses_at_most_its_bound(k, n, b, seed):
    rng = np.random.default_rng(seed)
    reports = rng.dirichlet(np.full(k, 0.3), n) * 0.98 + 0.02 / k
    reports = np.vstack([reports, reports[-1:]])
    for outcome in range(k):
        market = log_market(reports, outcome, liquidity=b)
        assert market.loss == pytest.approx(market.value.sum(), abs=1e-12)
        assert market.loss <= market.bound + 1e-12 and market.bound == pytest.approx(b * np.log(k))
        assert market.value[-1] == 0.0  # a copy of the last report
        # The same gains from the cost function: shares pay 1 each if their outcome happens.
        outstanding = np.vstack([np.zeros(k), np.cumsum(market.shares, axis=0)])
        cost = b * np.log(np.exp(outstanding / b).sum(axis=1))
        np.testing.assert_allclose(np.diff(cost), market.cost, atol=1e-9 * b)
        np.testing.assert_allclose(market.shares[:, outcome] - market.cost, market.value, atol=1e-9 * b)
        np.testing.assert_allclose(
            np.exp(outstanding[1:] / b) / np.exp(outstanding[1:] / b).sum(axis=1, keepdims=True),
            reports,
            rtol=1e-9,
        )


def test_honest_reports_earn_their_information_on_average():
    """Two conditionally independent signals: gains average to I(Y;X1) and I(Y;X2|X1)."""
    prior, right = np.array([0.4, 0.6]), 0.8
    expected, joint = np.zeros(2), {}
    for y, first, second in product((0, 1), repeat=3):
        joint[y, first, second] = prior[y] * np.prod(
            [right if x == y else 1 - right for x in (first, second)]
        )
    for (y, first, second), chance in joint.items():
        one = np.array([sum(joint[z, first, s] for s in (0, 1)) for z in (0, 1)])
        two = np.array([joint[z, first, second] for z in (0, 1)])
        market = log_market([one / one.sum(), two / two.sum()], y, prior=prior)
        expected += chance * market.value
    entropy = -sum(p * np.log(p) for p in prior)

    def conditional(known):
        total = 0.0
        for key in {tuple(c[i] for i in known) for c in joint}:
            rows = {
                z: sum(p for c, p in joint.items() if c[0] == z and tuple(c[i] for i in known) == key)
                for z in (0, 1)
            }
            whole = sum(rows.values())
            total -= sum(p * np.log(p / whole) for p in rows.values())
        return total

    np.testing.assert_allclose(expected, [entropy - conditional([1]), conditional([1]) - conditional([1, 2])])


@given(st.integers(1, 6), st.integers(0, 30), st.integers(0, 10**6))
def test_kelly_pool_keeps_wealth_and_bounds_regret(m, n, seed):
    n = max(n, 1)
    rng = np.random.default_rng(seed)
    beliefs, y = rng.dirichlet(np.ones(3), (n, m)) * 0.97 + 0.01, rng.integers(0, 3, n)
    wealth = rng.uniform(0.1, 2, m)
    result = kelly_pool(beliefs, y, wealth=wealth)
    np.testing.assert_allclose(result.wealth.sum(axis=1), wealth.sum(), rtol=1e-12)
    w = wealth / wealth.sum()  # the update, one sample at a time
    for t in range(n):
        np.testing.assert_allclose(result.pool[t], w @ beliefs[t], rtol=1e-10)
        w = w * beliefs[t, :, y[t]] / (w @ beliefs[t, :, y[t]])
    np.testing.assert_allclose(result.wealth[-1], w * wealth.sum(), rtol=1e-9, atol=1e-12)
    assert result.regret <= -np.log(wealth.min() / wealth.sum()) + 1e-9
    assert kelly_pool(beliefs, y).regret <= np.log(m) + 1e-9
    order = rng.permutation(n)
    np.testing.assert_allclose(
        kelly_pool(beliefs[order], y[order], wealth=wealth).wealth[-1], result.wealth[-1], rtol=1e-9
    )
    twice = kelly_pool(beliefs[:, [*range(m), 0]], y, wealth=[wealth[0] / 2, *wealth[1:], wealth[0] / 2])
    np.testing.assert_allclose(twice.wealth[:, 0] + twice.wealth[:, -1], result.wealth[:, 0], rtol=1e-9)


@given(
    st.lists(st.integers(0, 12), max_size=7),
    st.lists(st.integers(0, 12), max_size=7),
    st.sampled_from(["mcafee", "uniform"]),
)
def test_cleared_prices_are_fair_to_all(bids, asks, rule):
    cleared = clear_uniform_price(bids, asks, rule=rule)
    b, a = np.array(bids, float), np.array(asks, float)
    assert len(cleared.buyers) == len(cleared.sellers) == cleared.n_trades
    assert len(set(cleared.buyers.tolist())) == cleared.n_trades
    best = sum(max(x - y, 0) for x, y in zip(sorted(bids, reverse=True), sorted(asks), strict=False))
    if cleared.n_trades:
        assert (b[cleared.buyers] >= cleared.buy_price).all()
        assert (a[cleared.sellers] <= cleared.sell_price).all()
        assert cleared.buy_price >= cleared.sell_price
        assert cleared.surplus == pytest.approx(cleared.n_trades * (cleared.buy_price - cleared.sell_price))
        assert cleared.gain == pytest.approx(b[cleared.buyers].sum() - a[cleared.sellers].sum())
    if rule == "uniform":
        assert cleared.gain == pytest.approx(best) and cleared.surplus == 0.0
        if cleared.n_trades:  # nobody who is left out would have wanted to trade at this price
            out_b, out_a = np.delete(b, cleared.buyers), np.delete(a, cleared.sellers)
            assert (out_b <= cleared.buy_price).all() and (out_a >= cleared.sell_price).all()
    else:
        profitable = sum(x >= y for x, y in zip(sorted(bids, reverse=True), sorted(asks), strict=False))
        assert cleared.n_trades >= profitable - 1


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
    st.integers(0, 9),
)
def test_mcafee_is_truthful(bids, asks, lie):
    """The first buyer and the first seller gain nothing by a false report, whatever it is."""

    def gain(reported_bids, reported_asks):
        c = clear_uniform_price(reported_bids, reported_asks)
        buyer = (bids[0] - c.buy_price) if 0 in c.buyers else 0.0
        seller = (c.sell_price - asks[0]) if 0 in c.sellers else 0.0
        return buyer, seller

    buyer, seller = gain(bids, asks)
    assert gain([lie, *bids[1:]], asks)[0] <= buyer + 1e-12
    assert gain(bids, [lie, *asks[1:]])[1] <= seller + 1e-12


def test_clearing_by_hand():
    bids, asks = [9, 8, 7, 4], [2, 5, 6, 8]
    cleared = clear_uniform_price(bids, asks, rule="uniform", position=0.0)
    assert cleared.n_trades == 3 and cleared.buy_price == 6
    assert clear_uniform_price(bids, asks, rule="uniform", position=1.0).buy_price == 7
    assert clear_uniform_price(bids, asks).buy_price == 6  # (4 + 8) / 2 lies in [6, 7]
    squeezed = clear_uniform_price([9, 8], [2, 5])
    assert squeezed.n_trades == 1 and (squeezed.buy_price, squeezed.sell_price) == (8, 5)
    assert squeezed.surplus == 3 and np.isnan(clear_uniform_price([1], [2]).buy_price)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: settle([1.0], budget=1.5), "whole number of units"),
        (lambda: settle([np.nan], budget=1), "one finite number"),
        (lambda: settle([1.0], budget=1, z=1), "give se="),
        (lambda: settle([1.0], budget=1, se=[-1]), "se must be one number >= 0"),
        (lambda: settle([1.0], budget=1, debt=[1, 2]), "debt must be one number"),
        (lambda: settle([1.0], budget=1, z=-1), "at least 0"),
        (lambda: settle([1.0], budget=1, committed=[True]), "per_sample=True"),
        (lambda: settle(price(np.ones((3, 2)), v0=2.0), budget=1, committed=[True] * 3), "per_sample=True"),
        (lambda: settle(price(np.ones((3, 2)), v0=2.0), budget=1, se=[1, 1]), "leave se= out"),
        (
            lambda: settle(price(np.ones((3, 2)), v0=2.0, per_sample=True), budget=1, committed=[1, 1, 1]),
            "must be bool",
        ),
        (lambda: deposit_needed(1.0, detection=0.0), "Without any, no deposit deters"),
        (lambda: deposit_needed(-1.0, detection=0.5), "gain is a finite"),
        (lambda: wager([1.5], [1.0]), "lie in .0, 1."),
        (lambda: wager([0.5], [-1.0]), "stakes must be"),
        (lambda: wager([0.5], [1.0, 2.0]), "stakes must be"),
        (lambda: log_market([[1.0, 0.0]], 0), "positive probabilities"),
        (lambda: log_market([[0.5, 0.4]], 0), "sum to 1"),
        (lambda: log_market([[0.5, 0.5]], 2), "from 0 to 1"),
        (lambda: log_market([[0.5, 0.5]], 0, liquidity=0), "positive number"),
        (lambda: log_market([[0.5, 0.5]], 0, prior=[0.2, 0.3, 0.5]), "one probability per outcome"),
        (lambda: kelly_pool([[0.5, 0.5]], [0]), "axes .sample, specialist, output"),
        (lambda: kelly_pool([[[0.5, 0.5]]], [2]), "there are 2 outputs"),
        (lambda: kelly_pool([[[0.5, 0.5]]], [0], wealth=[0.0]), "positive number per specialist"),
        (lambda: clear_uniform_price([np.nan], [1.0]), "finite numbers"),
        (lambda: clear_uniform_price([1.0], [1.0], rule="uniform", position=2), "between 0 and 1"),
        (lambda: clear_uniform_price([1.0], [1.0], rule="vickrey"), "rule must be one of"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(PanelError, match=text):
        call()


@pytest.mark.parametrize("budget", [10**17 + 1, 10**18, 7 * (2**53 - 1)])
def test_a_huge_budget_pays_nobody_who_earned_nothing(budget):
    # In doubles the shares miss such a budget by several units, which once went to all, debtors included.
    paid = settle([1.0, 1.0, 1.0, -5.0], budget=budget).value
    assert paid[3] == 0
    assert sum(paid.tolist()) == budget
    assert paid[:3].max() - paid[:3].min() <= 1
    with pytest.raises(PanelError, match="does not fit 64 bits"):
        settle([1.0], budget=2**63)


def test_committed_answers_do_not_forget_groups():
    errors = np.repeat(np.random.default_rng(0).normal(size=(30, 3)), 10, axis=0)
    groups = np.repeat(np.arange(30), 10)
    mask = np.arange(300) < 200
    grouped = price(errors, v0=2.0, groups=groups, per_sample=True)
    with pytest.raises(PanelError, match="not those of independent samples"):
        settle(grouped, budget=100, z=1.0, committed=mask)
    plain = price(errors, v0=2.0, per_sample=True)
    assert np.array_equal(
        settle(grouped, budget=100, committed=mask).value, settle(plain, budget=100, committed=mask).value
    )
    kept = np.where(mask[:, None], plain.per_sample, 0.0)
    due = settle(plain, budget=100, z=1.0, committed=mask).due
    assert np.allclose(due, kept.mean(axis=0) - kept.std(axis=0, ddof=1) / np.sqrt(300))


def test_markets_name_what_is_wrong():
    with pytest.raises(PanelError, match="outcome is a number"):
        log_market([[0.5, 0.5]], True)
    with pytest.raises(PanelError, match=r"one sum is 0\.9\."):
        log_market([[0.5, 0.5], [0.5, 0.4]], 0)
