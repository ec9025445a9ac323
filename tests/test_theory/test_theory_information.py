"""Information: chain rules, the common scalar p(S), label chains, V-information that may be negative."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import (
    PanelError,
    bhattacharyya,
    correlated_panel,
    error_covariance,
    gaussian_information,
    information_chain,
    price,
    v_information,
)


def covariance(seed, m):
    a = np.random.default_rng(seed).normal(size=(m, m + 2))
    return a @ a.T


@given(st.integers(0, 10**6), st.integers(1, 7), st.floats(0.01, 100.0))
def test_chain_equals_determinants(seed, m, tau2):
    c = covariance(seed, m)
    found = gaussian_information(c, prior_variance=tau2)
    for k in range(1, m + 1):
        joint = tau2 * np.ones((k, k)) + c[:k, :k]
        information = 0.5 * (np.linalg.slogdet(joint)[1] - np.linalg.slogdet(c[:k, :k])[1])
        assert found.chain[:k].sum() == pytest.approx(information, rel=1e-9, abs=1e-10)
        assert found.precision[k - 1] == pytest.approx(
            np.ones(k) @ np.linalg.solve(c[:k, :k], np.ones(k)), rel=1e-8
        )
    assert found.value == pytest.approx(found.chain.sum(), rel=1e-12)
    assert (found.chain >= 0).all()


@given(st.integers(0, 10**6), st.permutations(range(4)))
def test_the_sum_does_not_depend_on_the_order(seed, order):
    c = covariance(seed, 4)
    there = gaussian_information(c, prior_variance=2.0, order=order)
    assert there.value == pytest.approx(gaussian_information(c, prior_variance=2.0).value, rel=1e-9)
    assert there.names == tuple(str(i) for i in order)


def test_p_is_the_common_scalar():
    c = covariance(3, 4)
    p = gaussian_information(c, prior_variance=1.0).precision[-1]
    bound = bhattacharyya(means=[[0.0] * 4, [0.7] * 4], covariance=c)
    assert bound.distance == pytest.approx(0.49 * p / 8, rel=1e-10)
    from theory import min_variance_weights

    assert min_variance_weights(c, constraint="none", shrink=None).variance == pytest.approx(1 / p, rel=1e-10)


def test_mean_over_orders_is_the_shapley_value():
    c, m = covariance(7, 4), 4

    def loss(members):
        if not members:
            return 0.0
        block = c[np.ix_(members, members)]
        return -gaussian_information(block, prior_variance=1.5).value

    shapley = price(loss, names=list("abcd"), game="callable", v0=0.0).value
    total = np.zeros(m)
    for order in permutations(range(m)):
        chain = gaussian_information(c, prior_variance=1.5, order=order).chain
        total[list(order)] += chain / 24
    np.testing.assert_allclose(total, shapley, rtol=1e-10)


def test_information_of_a_normal_panel_is_what_regression_finds():
    drawn = correlated_panel(100_000, 3, rho=0.5, seed=0)
    x, y = drawn.panel[:, :, 0], drawn.y[:, 0]
    beta, *_ = np.linalg.lstsq(x, y, rcond=None)
    left = np.var(y - x @ beta)
    found = gaussian_information(
        error_covariance(drawn.errors, kind="covariance"), prior_variance=float(np.var(y))
    )
    assert found.value == pytest.approx(0.5 * np.log(np.var(y) / left), abs=0.01)
    assert "nats" in found.summary() and "information" in found.to_xarray()


def table_information(joint):
    """I(Y; X) of a table of probabilities (x, y)."""
    px, py = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    inside = joint > 0
    return float((joint[inside] * np.log(joint[inside] / (px * py)[inside])).sum())


def label_answers(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    first = np.where(rng.random(n) < 0.8, y, 1 - y)
    second = np.where(rng.random(n) < 0.7, first, np.where(rng.random(n) < 0.75, y, 1 - y))
    return np.stack([first, second], axis=1), y


def true_chain():
    joint = np.zeros((2, 2, 2))
    for y in (0, 1):
        for a in (0, 1):
            for b in (0, 1):
                pa = 0.8 if a == y else 0.2
                pb = 0.7 * (b == a) + 0.3 * (0.75 if b == y else 0.25)
                joint[a, b, y] = 0.5 * pa * pb
    first = table_information(joint.sum(axis=1))
    return first, table_information(joint.reshape(4, 2)) - first


def test_label_chain_finds_the_true_one():
    answers, y = label_answers(50_000, 0)
    found = information_chain(answers, y)
    assert (np.abs(found.chain - true_chain()) < 4 * found.se).all()
    assert found.value == pytest.approx(found.chain.sum())
    swapped = information_chain(answers, y, order=[1, 0])
    assert swapped.value == pytest.approx(found.value, abs=1e-12) and swapped.names == ("1", "0")


def test_miller_madow_takes_most_of_the_bias_away():
    """A useless second specialist with five answers, 60 samples: the plug-in sees information in noise."""
    plugin, ours = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y, noise = rng.integers(0, 2, 60), rng.integers(0, 5, 60)
        ours.append(information_chain(noise[:, None], y).value)
        table = np.zeros((5, 2))
        np.add.at(table, (noise, y), 1 / 60)
        plugin.append(table_information(table))
    assert np.mean(plugin) > 0.03
    assert abs(np.mean(ours)) < 0.005
    assert min(ours) < 0  # unbiased needs negative values: not clipped


def test_label_chain_covers():
    inside = []
    for seed in range(300):
        answers, y = label_answers(400, seed)
        ci = information_chain(answers, y).ci
        inside.append((ci[0] <= true_chain()) & (true_chain() <= ci[1]))
    assert (np.mean(inside, axis=0) > 0.91 - 0.04).all()


def test_abstentions_are_answers_and_five_are_too_many():
    y = np.array([0, 1] * 20)
    silent = np.where(y == 0, -1, 0)
    assert information_chain(silent[:, None], y).value == pytest.approx(np.log(2) + 1 / 80, abs=1e-12)
    with pytest.raises(PanelError, match="at most 4"):
        information_chain(np.zeros((10, 5), int), np.zeros(10, int))
    assert "fewer than 5 a cell" in information_chain(np.arange(20)[:, None] % 10, y[:20]).warnings[0]


def logistic_steps(x, y, fold):
    """Cross-fitted probabilities of a logistic fuser on the first 1 .. d columns, by Newton steps."""
    n, d = x.shape
    out = np.empty((d, n, 2))
    for k in range(1, d + 1):
        design = np.column_stack([np.ones(n), x[:, :k]])
        for f in np.unique(fold):
            train = fold != f
            w = np.zeros(k + 1)
            for _ in range(15):
                p = 1 / (1 + np.exp(-design[train] @ w))
                hessian = (design[train] * (p * (1 - p))[:, None]).T @ design[train] + 1e-8 * np.eye(k + 1)
                w += np.linalg.solve(hessian, design[train].T @ (y[train] - p))
            p = 1 / (1 + np.exp(-design[fold == f] @ w))
            out[k - 1, fold == f] = np.stack([1 - p, p], axis=1)
    return out


def test_v_information_sees_news_and_never_clips():
    rng = np.random.default_rng(0)
    n = 2000
    y = rng.integers(0, 2, n)
    first = y + rng.normal(size=n)
    x = np.column_stack(
        [first, first + 1e-3 * rng.normal(size=n), y + rng.normal(size=n), rng.normal(size=(n, 30))]
    )
    steps = logistic_steps(x, y, np.arange(n) % 5)
    found = v_information(steps[:3], y, names=["one", "copy", "other"])
    assert found.chain[0] > 0.05 and found.chain[2] > 0.05
    assert abs(found.chain[1]) < 4 * found.se[1] + 1e-3
    noisy = v_information(steps, y)
    assert noisy.chain[3:].sum() < 0 and noisy.chain.min() < 0  # thirty columns of noise cost log loss
    assert found.value == pytest.approx(found.chain.sum()) and found.names == ("one", "copy", "other")


def test_v_information_of_nothing_is_centred_at_zero():
    """The fuser repeats the class shares it was fitted on: no information, and the default prior knows it."""
    values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = (rng.random(100) < 0.3).astype(int)
        fold, p = np.arange(100) % 5, np.empty((1, 100, 2))
        for f in range(5):
            share = (y[fold != f].sum() + 0.5) / (81.0)
            p[0, fold == f] = [1 - share, share]
        values.append(v_information(p, y).value)
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200) + 2e-3


def test_v_information_groups_and_certain_fusers():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([2.0, 2.0], size=(2, 50))
    y = rng.integers(0, 2, 50)
    alone = v_information(p, y, prior=[0.5, 0.5])
    twice = v_information(
        np.repeat(p, 2, axis=1), np.repeat(y, 2), prior=[0.5, 0.5], groups=np.arange(100) // 2
    )
    np.testing.assert_allclose(twice.chain, alone.chain)
    np.testing.assert_allclose(twice.se, alone.se * np.sqrt(50 / 49))
    sure = v_information([[[1.0, 0.0], [1.0, 0.0]]], [0, 1], prior=[0.5, 0.5])
    assert "certain and wrong" in sure.warnings[0] and np.isfinite(sure.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_information(np.ones((2, 2)), prior_variance=1.0), "singular"),
        (lambda: gaussian_information(np.eye(2), prior_variance=0.0), "prior_variance"),
        (lambda: gaussian_information(np.eye(2), prior_variance=1.0, order=[0, 0]), "each of the 2"),
        (lambda: v_information([[0.5, 0.5]], [0]), "need the axes"),
        (lambda: v_information([[[0.5, 0.6]] * 2], [0, 1]), "sum to 1"),
        (lambda: v_information([[[0.5, 0.5]] * 2], [0, 2]), "code 2"),
        (lambda: v_information([[[0.5, 0.5]] * 2], [0, 1], names=["a", "b"]), "one per step"),
        (lambda: v_information([[[0.5, 0.5]] * 2], [0, 1], prior=[1.0]), "prior must have shape"),
        (lambda: information_chain([[0]], [0]), "two or more samples"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(PanelError, match=message):
        call()
