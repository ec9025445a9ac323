"""The arbiter: against a stack written by hand, its invariances, gaps, options and refusals."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier

from estimators import Arbiter
from theory import PanelError, difficulty_panel


@pytest.fixture(scope="module")
def team():
    """Two good specialists on four options, and four poor ones that mostly say the same."""
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=900)
    skill = np.array([0.85, 0.75, 0.35])
    said = np.where(rng.random((900, 3)) < skill, y[:, None], rng.integers(4, size=(900, 3)))
    follows = np.where(rng.random((900, 3)) < 0.8, said[:, 2:], rng.integers(4, size=(900, 3)))
    said = np.column_stack([said, follows])
    proba = 0.6 * np.eye(4)[said] + 0.4 * rng.dirichlet(np.ones(4), size=said.shape)
    return proba, y


def accuracy(fused, y):
    return float((fused.argmax(axis=1) == y).mean())


def test_votes_per_option_equal_a_logistic_model_on_option_rows(team):
    proba, y = team
    votes = np.eye(4)[proba.argmax(axis=2)]
    arbiter = Arbiter().fit(votes[:450], y[:450])
    assert (arbiter.features_, arbiter.per_) == ("vote", "option")
    rows = votes[:450].transpose(0, 2, 1).reshape(-1, 6)
    table = np.column_stack([rows, rows.sum(axis=1) == 0])
    hit = (y[:450, None] == np.arange(4)).ravel()
    model = LogisticRegression(C=0.3, max_iter=1000).fit(table, hit)
    np.testing.assert_allclose(arbiter.weights_, model.coef_[0, :6], atol=1e-10)
    rows = votes[450:].transpose(0, 2, 1).reshape(-1, 6)
    scores = model.decision_function(np.column_stack([rows, rows.sum(axis=1) == 0])).reshape(-1, 4)
    fused = arbiter.fuse(votes[450:])
    np.testing.assert_array_equal(fused.argmax(axis=1), scores.argmax(axis=1))
    scaled = np.exp(arbiter.inverse_temperature_ * scores)
    np.testing.assert_allclose(fused, scaled / scaled.sum(axis=1, keepdims=True), atol=1e-10)


def test_weights_follow_skill_and_share_what_copies_know():
    simulated = difficulty_panel(3000, 4, accuracy=0.7, rho=0.0, seed=1)
    votes = np.eye(4)[simulated.answers]
    alone = Arbiter().fit(votes, simulated.y).weights_
    doubled = Arbiter().fit(votes[:, [0, 0, 1, 2, 3]], simulated.y).weights_
    assert doubled[0] == pytest.approx(doubled[1], rel=1e-6)
    assert doubled[0] + doubled[1] == pytest.approx(alone[0], rel=0.05)


@pytest.mark.parametrize("per", ["option", "class"])
@pytest.mark.parametrize("features", ["log_odds", "proba", "vote"])
def test_every_kind_beats_the_plain_mean_on_unlike_specialists(team, features, per):
    proba, y = team
    arbiter = Arbiter(features=features, per=per).fit(proba[:450], y[:450])
    fused = arbiter.fuse(proba[450:])
    np.testing.assert_allclose(fused.sum(axis=1), 1.0)
    assert (fused >= 0).all()
    assert accuracy(fused, y[450:]) > accuracy(proba[450:].mean(axis=1), y[450:]) + 0.1


def test_probabilities_are_calibrated(team):
    proba, y = team
    fused = Arbiter().fit(proba[:450], y[:450]).fuse(proba[450:])
    assert abs(fused.max(axis=1).mean() - accuracy(fused, y[450:])) < 0.05


@pytest.mark.parametrize("features", ["auto", "vote"])
def test_permuted_options_and_specialists(team, features):
    proba, y = team
    new_code = np.array([2, 0, 3, 1])  # option k is called new_code[k]
    moved = np.empty_like(proba)
    moved[:, :, new_code] = proba
    kept = Arbiter(features=features).fit(proba, y)
    options = Arbiter(features=features).fit(moved, new_code[y])
    # the solver stops at a tolerance, and sums in another order
    np.testing.assert_allclose(options.fuse(moved)[:, new_code], kept.fuse(proba), atol=2e-4)
    order = [3, 1, 5, 0, 4, 2]
    members = Arbiter(features=features).fit(proba[:, order], y)
    np.testing.assert_allclose(members.weights_, kept.weights_[order], atol=2e-3)
    np.testing.assert_allclose(members.fuse(proba[:, order]), kept.fuse(proba), atol=2e-4)


def test_options_that_do_not_exist_get_nothing(team):
    proba, y = team
    rows = y < 3
    panel = np.eye(4)[proba[rows].argmax(axis=2)]
    counts = np.where(np.arange(rows.sum()) % 2, 4, 3)
    for per in ("option", "class"):
        arbiter = Arbiter(per=per).fit(panel, y[rows], n_options=counts)
        fused = arbiter.fuse(panel, n_options=counts)
        assert (fused[counts == 3, 3] == 0).all()
        np.testing.assert_allclose(fused.sum(axis=1), 1.0)
    one = arbiter.fuse(panel[:5], n_options=1)
    np.testing.assert_array_equal(one, np.eye(4)[[0] * 5])


def test_log_odds_are_centred_over_the_options_of_the_sample():
    rng = np.random.default_rng(0)
    panel, y = rng.dirichlet(np.ones(3), size=(200, 4)), rng.integers(3, size=200)
    wide = np.concatenate([panel, np.zeros((200, 4, 2))], axis=2)
    narrow = Arbiter(features="log_odds").fit(panel, y)
    padded = Arbiter(features="log_odds").fit(wide, y, n_options=3)
    np.testing.assert_allclose(padded.weights_, narrow.weights_, atol=1e-12)
    np.testing.assert_allclose(padded.fuse(wide, n_options=3)[:, :3], narrow.fuse(panel), atol=1e-12)


def test_a_new_panel_may_have_more_options(team):
    proba, y = team
    votes = np.eye(4)[proba.argmax(axis=2)]
    arbiter = Arbiter().fit(votes, y)
    wide = np.concatenate([votes, np.zeros((900, 6, 2))], axis=2)
    fused = arbiter.fuse(wide)
    assert fused.shape == (900, 6)
    np.testing.assert_array_equal(fused[:, :4].argmax(axis=1), arbiter.fuse(votes).argmax(axis=1))
    fixed = Arbiter(per="class").fit(votes, y)
    with pytest.raises(PanelError, match=r"panel needs \(6, 4\) \(specialist, output\) as in fit"):
        fixed.fuse(wide)
    with pytest.raises(PanelError, match="as in fit"):
        arbiter.fuse(votes[:, :5])


@pytest.mark.parametrize("per", ["option", "class"])
def test_missing_cells(team, per):
    proba, y = team
    gaps = proba.copy()
    gaps[np.random.default_rng(1).random(gaps.shape[:2]) < 0.3] = np.nan
    gaps[7] = np.nan
    arbiter = Arbiter(per=per).fit(gaps[:450], y[:450])
    fused = arbiter.fuse(gaps[450:])
    assert np.isfinite(fused).all() and accuracy(fused, y[450:]) > 0.75
    assert np.isfinite(arbiter.fuse(gaps[7:8])).all()


@pytest.mark.parametrize("per", ["option", "class"])
def test_another_model_without_weights(team, per):
    proba, y = team
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0)
    arbiter = Arbiter(model, per=per).fit(proba[:450], y[:450])
    assert arbiter.weights_ is None and not hasattr(model, "classes_")
    fused = arbiter.fuse(proba[450:])
    np.testing.assert_allclose(fused.sum(axis=1), 1.0)
    assert accuracy(fused, y[450:]) > 0.75


def test_sample_weights_reach_the_model(team):
    proba, y = team
    only = np.zeros(900)
    only[:450] = 1.0
    halves = Arbiter(cv=1).fit(proba, y, sample_weight=only)
    np.testing.assert_allclose(halves.weights_, Arbiter(cv=1).fit(proba[:450], y[:450]).weights_, atol=2e-3)
    assert halves.inverse_temperature_ == 1.0


def test_auto_features():
    y = np.array([0, 1, 0, 1] * 10)
    one_hot = np.eye(2)[np.tile([[0, 1], [1, 1], [0, 0], [1, 0]], (10, 1))]
    assert Arbiter().fit(one_hot, y).features_ == "vote"
    gaps = one_hot.copy()
    gaps[3, 0] = np.nan
    assert Arbiter().fit(gaps, y).features_ == "vote"
    soft = one_hot * 0.8 + 0.1
    assert Arbiter().fit(soft, y).features_ == "log_odds"
    partly = np.concatenate([soft, np.full((40, 2, 1), np.nan)], axis=2)  # nobody names the third
    assert Arbiter().fit(partly, y).features_ == "log_odds"


@pytest.mark.parametrize("outputs", [1, 2])
def test_numbers(outputs):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(600, outputs))
    panel = y[:, None, :] + rng.normal(size=(600, 4, outputs)) * np.array([0.3, 1.0, 1.0, 1.0])[:, None]
    panel[:, 1] += 5.0  # a bias that a learned rule takes away and a mean does not
    truth = y[:, 0] if outputs == 1 else y
    arbiter = Arbiter().fit(panel[:300], truth[:300], task="regression")
    fused = arbiter.fuse(panel[300:])
    assert fused.shape == (300, outputs)
    assert ((fused - y[300:]) ** 2).mean() < 0.1 < ((panel[300:].mean(axis=1) - y[300:]) ** 2).mean()
    exact = Arbiter(LinearRegression()).fit(panel, truth, task="regression")
    table = np.column_stack([panel.reshape(600, -1), np.ones(600)])
    solved = table @ np.linalg.lstsq(table, y, rcond=None)[0]
    np.testing.assert_allclose(exact.fuse(panel), solved, atol=1e-8)
    gaps = panel.copy()
    gaps[::7, 0] = np.nan
    assert ((Arbiter().fit(gaps, truth, task="regression").fuse(gaps) - y) ** 2).mean() < 0.3
    if outputs == 1:
        assert arbiter.weights_.argmax() == 0
        boosted = Arbiter(HistGradientBoostingRegressor(max_iter=20)).fit(panel, truth, task="regression")
        assert boosted.weights_ is None and boosted.fuse(panel).shape == (600, 1)


def test_ridge_strength_follows_the_scale_of_the_numbers():
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    panel = (y[:, None] + 0.5 * rng.normal(size=(200, 3)))[:, :, None]
    plain = Arbiter().fit(panel, y, task="regression")
    large = Arbiter().fit(panel * 1e6, y * 1e6, task="regression")
    assert isinstance(plain.final_estimator_, RidgeCV)
    np.testing.assert_allclose(large.weights_, plain.weights_, rtol=1e-6)


def test_two_samples_and_two_specialists():
    panel = np.eye(2)[[[0, 1], [1, 1]]]
    fused = Arbiter().fit(panel, [0, 1]).fuse(panel)
    assert fused.shape == (2, 2) and np.isfinite(fused).all()


def test_refusals(team):
    proba, y = team
    with pytest.raises(PanelError, match="features must be"):
        Arbiter(features="logits").fit(proba, y)
    with pytest.raises(PanelError, match="per must be"):
        Arbiter(per="sample").fit(proba, y)
    for counts in (0, 5, [4, 4], 3.0):
        with pytest.raises(PanelError, match="n_options must be whole numbers between 1 and the panel's 4"):
            Arbiter().fit(proba, y, n_options=counts)
    with pytest.raises(PanelError, match="none of these"):
        Arbiter().fit(proba, y, n_options=2)
    with pytest.raises(PanelError, match="at least two options"):
        Arbiter().fit(proba[:, :, :1], np.zeros(900, dtype=int))
    with pytest.raises(PanelError, match="at least two options"):
        Arbiter(per="class").fit(proba, np.zeros(900, dtype=int))
    with pytest.raises(PanelError, match="infinite answers"):
        Arbiter().fit(proba, y).fuse(np.full((1, 6, 4), np.inf))
    with pytest.raises(
        TypeError,
        match=r"final_estimator KNeighborsClassifier does not accept sample_weight. Fit without it, or",
    ):
        Arbiter(KNeighborsClassifier()).fit(proba, y, sample_weight=np.ones(900))
    searched = GridSearchCV(LogisticRegression(), {"C": [0.1]}, cv=2)  # takes it among **params
    assert np.isfinite(Arbiter(searched).fit(proba, y, sample_weight=np.ones(900)).fuse(proba[:3])).all()
    before = proba.copy()
    proba.setflags(write=False)
    clone(Arbiter()).fit(proba, y).fuse(proba)
    np.testing.assert_array_equal(proba, before)


@pytest.mark.parametrize("per", ["class", "option"])
def test_weights_are_counts_where_answers_are_missing(team, per):
    proba, y = team
    rng = np.random.default_rng(1)
    panel, counts = proba[:200].copy(), rng.integers(3, size=200)
    panel[rng.random((200, 6)) < 0.2] = np.nan
    panel[counts > 0, 3] = proba[:200][counts > 0, 3]  # away in samples without weight only
    rows = np.repeat(np.arange(200), counts)
    weighed = Arbiter(cv=1, per=per).fit(panel, y[:200], sample_weight=counts).fuse(panel)
    np.testing.assert_allclose(
        weighed, Arbiter(cv=1, per=per).fit(panel[rows], y[rows]).fuse(panel), atol=1e-7
    )


@pytest.mark.parametrize("features", ["log_odds", "vote"])
def test_a_panel_of_several_blocks_is_fused_like_its_parts(features):
    rng = np.random.default_rng(0)
    panel, y = rng.dirichlet(np.ones(4), size=(9000, 5)), rng.integers(4, size=9000)
    panel[8999, 2] = np.nan
    options = rng.integers(2, 5, size=9000)
    arbiter = Arbiter(features=features).fit(panel[:500], y[:500])
    for counts in (None, options):
        fused = arbiter.fuse(panel, n_options=counts)
        for rows in (slice(0, 10), slice(2995, 3005), slice(8990, 9000)):
            part = arbiter.fuse(panel[rows], n_options=None if counts is None else counts[rows])
            np.testing.assert_allclose(fused[rows], part, rtol=1e-12)
