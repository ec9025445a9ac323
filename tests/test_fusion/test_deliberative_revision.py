"""Bounded revision: what is known of its fixed point, its caps, and that talk creates no evidence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion import log_pool
from fusion.deliberative import (
    Revision,
    cap_revision,
    complete_graph,
    evidence_pool,
    friedkin_johnsen,
    from_log_odds,
    log_odds,
    skill_influence,
    topology,
    total_influence,
)
from theory import PanelError


@st.composite
def opinions(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    m, k = draw(st.integers(2, 7)), draw(st.integers(2, 6))
    panel = rng.dirichlet(np.ones(k), (4, m))
    w = rng.random((m, m)) * (1 - np.eye(m))
    return log_odds(panel), w / w.sum(axis=1, keepdims=True), rng.random((4, m)) * 0.9


def naive_fixed_point(odds, w, s):
    out = np.empty_like(odds)
    for n in range(len(odds)):
        big_s = np.diag(s[n])
        inverse = np.linalg.inv(np.eye(len(w)) - big_s @ w)
        out[n] = inverse @ (np.eye(len(w)) - big_s) @ odds[n]
    return out


@given(opinions())
def test_fixed_point_is_that_of_the_matrix_form_and_of_patience(drawn):
    odds, w, s = drawn
    expected = naive_fixed_point(odds, w, s)
    assert np.abs(friedkin_johnsen(odds, weights=w, susceptibility=s) - expected).max() < 1e-12
    assert np.abs(friedkin_johnsen(odds, weights=w, susceptibility=s, rounds=400) - expected).max() < 1e-12
    complete = friedkin_johnsen(odds, weights=complete_graph(len(w)), susceptibility=s)
    assert np.abs(friedkin_johnsen(odds, susceptibility=s) - complete).max() < 1e-12


@given(opinions())
def test_total_influence_is_stochastic_and_keeps_its_own(drawn):
    odds, w, s = drawn
    v = total_influence(w, s)
    assert v.min() >= -1e-15
    assert np.abs(v.sum(axis=-1) - 1).max() < 1e-12
    assert (np.diagonal(v, axis1=1, axis2=2) >= 1 - s - 1e-12).all()
    moved = friedkin_johnsen(odds, weights=w, susceptibility=s)
    assert (moved <= odds.max(axis=1, keepdims=True) + 1e-12).all()
    assert (moved >= odds.min(axis=1, keepdims=True) - 1e-12).all()


@given(opinions(), st.floats(0, 0.9), st.sampled_from(["broadcast", "ring", "hub", "sparse"]))
def test_talk_among_equals_leaves_the_log_pool_where_it_was(drawn, s, name):
    odds, w, _ = drawn
    moved = friedkin_johnsen(odds, weights=topology(name, len(w), k=1, seed=3), susceptibility=s)
    before, after = log_pool(from_log_odds(odds), floor=1e-15), log_pool(from_log_odds(moved), floor=1e-15)
    assert np.abs(odds.mean(axis=1) - moved.mean(axis=1)).max() < 1e-12
    assert np.abs(before - after).max() < 1e-9


def test_a_star_moves_the_pool_toward_who_is_heard():
    odds = log_odds(np.array([[0.9, 0.1], [0.3, 0.7], [0.3, 0.7]]))
    moved = friedkin_johnsen(odds, weights=topology("star", 3), susceptibility=0.5)
    assert moved.mean(axis=0)[0] > odds.mean(axis=0)[0] + 0.1


@given(opinions(), st.floats(0, 0.5))
def test_caps_hold_and_rise_with_the_step(drawn, cap):
    odds, w, s = drawn
    moved = friedkin_johnsen(odds, weights=w, susceptibility=s)
    bounded = cap_revision(odds, moved, tv_cap=cap)
    variation = 0.5 * np.abs(from_log_odds(bounded) - from_log_odds(odds)).sum(axis=-1)
    assert variation.max() <= cap + 1e-12
    free = 0.5 * np.abs(from_log_odds(moved) - from_log_odds(odds)).sum(axis=-1)
    assert np.allclose(variation, np.minimum(free, cap), atol=2e-9)


@given(opinions(), st.floats(0, 1), st.integers(0, 99))
def test_no_mind_changes_without_support(drawn, margin, seed):
    odds, w, _ = drawn
    support = np.random.default_rng(seed).dirichlet(np.ones(odds.shape[2]), len(odds))
    moved = friedkin_johnsen(odds, weights=w, susceptibility=0.9)
    bounded = cap_revision(odds, moved, support=support, flip_margin=margin, tv_cap=0.6)
    a, b = odds.argmax(axis=2), bounded.argmax(axis=2)
    rows = np.arange(len(odds))[:, None]
    assert ((a == b) | (support[rows, b] - support[rows, a] >= margin)).all()


def test_evidence_is_added_once_and_clones_add_nothing():
    odds = log_odds(np.array([[0.8, 0.2], [0.6, 0.4], [0.6, 0.4]]))
    r = np.array([[1.0, 0, 0], [0, 1, 1], [0, 1, 1]])
    once = evidence_pool(odds, weights=skill_influence(r, np.ones(3)), susceptibility=0.5, kappa=2 / 3)
    pair = evidence_pool(odds[:2], weights=complete_graph(2), susceptibility=0.5, kappa=1.0)
    assert np.allclose(once[0], pair[0])
    gain = evidence_pool(np.ones((3, 2)) * [1, -1], susceptibility=0.5, kappa=1.0)[0, 0]
    assert np.isclose(gain, 0.5 + 0.5 * 3)  # s N_eff > 1: iterated, it would diverge
    with pytest.raises(PanelError, match="counts evidence twice"):
        Revision(mode="evidence", rounds=2)(odds, right=0.5)


@pytest.mark.parametrize("robust", ["median", "trimmed_mean"])
def test_robust_peers_shrug_off_one_loud_liar(robust):
    honest = np.tile([[1.0, -1.0]], (6, 1)) + np.linspace(-0.2, 0.2, 6)[:, None] * [1, -1]
    loud = np.vstack([honest, [[-1e6, 1e6]]])
    moved = friedkin_johnsen(loud, susceptibility=0.5, robust=robust)
    assert (moved[:6, 0] > 0.7).all()
    assert (friedkin_johnsen(loud, susceptibility=0.5)[:6, 0] < -1e4).all()
    longer = friedkin_johnsen(loud, susceptibility=0.5, robust=robust, rounds=200)
    assert np.abs(longer - moved).max() < 1e-9


def test_weights_are_capped():
    w = skill_influence(np.eye(5), [10.0, 1, 1, 1, 1], max_weight=0.4)
    assert w.max() <= 0.4 + 1e-12
    assert np.allclose(w.sum(axis=1), 1)
    assert not np.diag(w).any()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: friedkin_johnsen(x, susceptibility=1.0), "gives no fixed point; use susceptibility < 1"),
        (lambda x: friedkin_johnsen(x, susceptibility=0.5, weights=np.eye(2)), "set the diagonal to 0"),
        (lambda x: friedkin_johnsen(x * np.nan, susceptibility=0.5), "opinions must be finite"),
        (lambda x: friedkin_johnsen(x, susceptibility=0.5, robust="mean"), "robust must be one of"),
        (lambda x: evidence_pool(x, susceptibility=0.5, kappa=1.5), r"share N_eff / m, in \(0, 1\]"),
        (lambda x: cap_revision(x, x[:1], tv_cap=0.1), "must have one shape"),
        (lambda x: cap_revision(x, x, flip_margin=0.1), "needs support"),
        (lambda x: cap_revision(x, x, tv_cap=1.5), r"total variation in \[0, 1\]"),
        (lambda x: log_odds([[0.5, 0.6]]), "sum 1.1; probabilities are finite.*Normalise first"),
        (lambda x: log_odds([[0.5, np.nan]], missing="abstain"), "probabilities are finite"),
        (lambda x: log_odds([[1.5, -0.5]]), "not negative"),
        (lambda x: log_odds([[0.5, 0.5]], valid=1), "option that is not valid"),
        (lambda x: topology("clique", 3), "topology must be one of"),
        (lambda x: topology("sparse", 3, k=3), "1 <= k <= n - 1"),
        (lambda x: topology("layered", 3, layers=[2, 2]), "sum to 3"),
        (lambda x: Revision(max_susceptibility=0.95).check(), r"lies in \[0, 0.9\]"),
    ],
)
def test_bad_input_is_refused(call, text):
    with pytest.raises(PanelError, match=text):
        call(np.array([[1.0, -1.0], [0.5, -0.5]]))


def test_abstentions_and_options_that_do_not_exist_weigh_nothing():
    panel = np.array([[[0.7, 0.3, 0.0], [np.nan] * 3]])
    odds = log_odds(panel, valid=[2], missing="abstain")
    assert odds[0, 1].tolist() == [0, 0, 0]
    assert odds[0, 0, 2] == 0
    assert np.allclose(from_log_odds(odds, valid=[2])[0], [[0.7, 0.3, 0], [0.5, 0.5, 0]])


def test_arrays_keep_kind_and_input():
    import xarray as xr

    odds = xr.DataArray(np.ones((2, 3, 2)) * [1, -1], dims=("output", "specialist", "sample")[::-1])
    copy = odds.copy(deep=True)
    moved = friedkin_johnsen(odds, susceptibility=0.5)
    assert moved.dims == ("sample", "specialist", "output")
    assert odds.identical(copy)


def test_layers_hear_the_layer_before():
    w = topology("layered", 6, layers=[3, 2, 1])
    assert w[:3].sum() == 0
    assert np.allclose(w[3:5, :3], 1 / 3)
    assert np.allclose(w[5, 3:5], 0.5)
    moved = friedkin_johnsen(
        np.arange(12.0).reshape(6, 2), weights=w, susceptibility=[0, 0, 0, 0.9, 0.9, 0.9]
    )
    assert np.allclose(moved[:3], np.arange(12.0).reshape(6, 2)[:3])
