"""Records that fade: moments against batch formulas, regret bounds against simulation, requests that settle once."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_iris, make_regression
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB

from estimators import RobustFusionClassifier, RobustFusionRegressor, Specialist, TrackRecord
from estimators.pair_moments import joined, no_moments
from theory import FaultWarning, PanelError


def naive_moments(errors, decay):
    """Weighted moments of every pair over the labels that both answered, two passes."""
    n, m, _ = errors.shape
    here = ~np.isnan(errors).any(axis=2)
    fade = decay ** np.arange(n - 1, -1, -1.0)
    second, covariance, effective = np.full((m, m), np.nan), np.full((m, m), np.nan), np.zeros((m, m))
    for i in range(m):
        for j in range(m):
            both = here[:, i] & here[:, j]
            w, a, b = fade[both], errors[both, i], errors[both, j]
            if not len(w):
                continue
            W, Q = w.sum(), (w**2).sum()
            second[i, j] = (w[:, None] * a * b).sum() / W
            effective[i, j] = W**2 / Q
            if W - Q / W > 1e-9 * W:
                apart = (a - w @ a / W) * (b - w @ b / W)
                covariance[i, j] = (w[:, None] * apart).sum() / (W - Q / W)
    return second, covariance, effective


@pytest.mark.parametrize("halflife", [None, 7.0, 100.0])
@pytest.mark.parametrize("offset", [0.0, 5e3])
def test_moments_are_the_batch_formula(halflife, offset):
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(150, 4, 2)) + offset
    errors[rng.random((150, 4)) < 0.4] = np.nan
    moments = no_moments(4, 2, halflife=halflife)
    for part in np.array_split(errors, 11):
        moments = moments.updated(part)
    second, covariance, effective = naive_moments(errors, 1.0 if halflife is None else 2 ** (-1 / halflife))
    assert moments.covariance() == pytest.approx(covariance, rel=1e-9, abs=1e-9)
    assert moments.second_moment() == pytest.approx(second, rel=1e-11)
    assert moments.effective_n() == pytest.approx(effective)


def test_effective_number_tends_to_its_limit():
    moments = no_moments(1, 1, halflife=10.0).updated(np.ones((5000, 1, 1)))
    decay = 2 ** (-0.1)
    assert moments.effective_n()[0, 0] == pytest.approx((1 + decay) / (1 - decay))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([None, 3.0, 50.0]))
def test_merging_is_having_seen_both(seed, cut, halflife):
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(40, 3, 1))
    errors[rng.random((40, 3)) < 0.3] = np.nan
    start = no_moments(3, 1, halflife=halflife)
    whole = start.updated(errors)
    both = joined(start.updated(errors[:cut]), start.updated(errors[cut:]))
    for name in ("weight", "weight2", "scatter"):
        assert getattr(both, name) == pytest.approx(getattr(whole, name), abs=1e-9)
    assert both.mean == pytest.approx(whole.mean, abs=1e-9) and both.n_labels == 40


def losing_sequences(rng, kind):
    """Losses of four specialists over 400 labels, as probabilities of the truth."""
    if kind == "random":
        return rng.random((400, 4))
    if kind == "switch":
        right = np.full((400, 4), 0.1)
        right[:200, 0] = right[200:, 3] = 0.9
        return right
    right = np.full((400, 4), 0.2)
    right[np.arange(400), np.arange(400) % 4] = 0.9
    return right


def as_panel(right):
    return np.stack([right, 1 - right], axis=2), np.zeros(len(right), dtype=int)


@pytest.mark.parametrize("kind", ["random", "switch", "turns"])
@pytest.mark.parametrize("seed", range(3))
def test_regret_bounds(kind, seed):
    right = losing_sequences(np.random.default_rng(seed), kind)
    panel, y = as_panel(right)
    T, lnM = len(y), np.log(4)
    fixed = TrackRecord(rule="hedge", horizon=T).fit(panel, y)
    assert fixed.losses_ == pytest.approx(((1 - right) ** 2).sum(axis=0))
    assert fixed.mixed_loss_ - fixed.losses_.min() <= np.sqrt(T * lnM / 2) + 1e-9
    anytime = TrackRecord(rule="hedge").fit(panel, y)
    assert anytime.mixed_loss_ - anytime.losses_.min() <= 2 * np.sqrt(T * lnM / 2) + np.sqrt(lnM / 8) + 1e-9
    bayes = TrackRecord(rule="bayes").fit(panel, y)
    assert bayes.losses_ == pytest.approx(-np.log(right).sum(axis=0))
    assert bayes.mixed_loss_ - bayes.losses_.min() <= lnM + 1e-9


def test_bayes_is_the_posterior():
    right = np.random.default_rng(0).uniform(0.2, 0.9, (30, 3))
    panel, y = as_panel(right)
    record = TrackRecord(rule="bayes").fit(panel[:10], y[:10])
    for one, truth in zip(panel[10:], y[10:], strict=True):
        record.update(one[None], [truth])
    posterior = np.exp(np.log(right).sum(axis=0))
    assert record.weights_ == pytest.approx(posterior / posterior.sum())
    assert record.mixed_loss_ == pytest.approx(-np.log(posterior.mean()))


def test_fixed_share_follows_a_switch_that_hedge_misses():
    panel, y = as_panel(losing_sequences(np.random.default_rng(0), "switch"))
    share = TrackRecord(rule="fixed_share", rate=0.5, share=0.02).fit(panel, y)
    hedge = TrackRecord(rule="hedge", rate=0.5).fit(panel, y)
    assert share.weights_[3] > 0.9 and share.mixed_loss_ < hedge.mixed_loss_ - 20
    assert share.weights_.min() >= 0.02 / 4 * 0.98
    fading = TrackRecord(halflife=20, rule="hedge", rate=0.5).fit(panel, y)
    assert fading.weights_[3] > 0.9


def test_the_fused_answer_loses_no_more_than_the_mixture():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    panel = rng.dirichlet(np.ones(3), size=(300, 4)) + 0.5 * np.eye(3)[y][:, None] * rng.random((1, 4, 1))
    panel /= panel.sum(axis=2, keepdims=True)
    record = TrackRecord(rule="hedge").fit(panel[:1], y[:1])
    fused = 0.0
    start = record.mixed_loss_
    for one, truth in zip(panel[1:], y[1:], strict=True):
        answer = record.fuse(one[None])[0]
        fused += ((answer - np.eye(3)[truth]) ** 2).sum() / 2
        record.update(one[None], [truth])
    assert fused <= record.mixed_loss_ - start + 1.0


@pytest.mark.parametrize("rule", ["hedge", "bayes", "fixed_share"])
def test_the_absent_keep_their_share(rule):
    right = np.random.default_rng(0).uniform(0.2, 0.9, (60, 4))
    panel, y = as_panel(right)
    record = TrackRecord(rule=rule, rate=0.3, share=1e-9).fit(panel[:30], y[:30])
    before = record.weights_.copy()
    gone = panel[30:].copy()
    gone[:, 2] = np.nan
    record.update(gone, y[30:])
    assert record.weights_[2] == pytest.approx(before[2], rel=1e-5)
    assert record.weights_.sum() == pytest.approx(1)
    assert not np.allclose(record.weights_[[0, 1, 3]], before[[0, 1, 3]])


@pytest.mark.parametrize("rule", ["covariance", "inverse_mse", "hedge", "bayes", "fixed_share"])
def test_batches_change_nothing_and_permutations_permute(rule):
    right = np.random.default_rng(1).uniform(0.2, 0.9, (90, 3))
    panel, y = as_panel(right)
    at_once = TrackRecord(halflife=40, rule=rule).fit(panel, y)
    parts = TrackRecord(halflife=40, rule=rule).fit(panel[:1], y[:1])
    for rows in np.array_split(np.arange(1, 90), 7):
        parts.update(panel[rows], y[rows])
    assert parts.weights_ == pytest.approx(at_once.weights_, abs=1e-9)
    order = [2, 0, 1]
    assert TrackRecord(halflife=40, rule=rule).fit(panel[:, order], y).weights_ == pytest.approx(
        at_once.weights_[order], abs=1e-7
    )


@pytest.mark.parametrize("rule", ["covariance", "inverse_mse"])
def test_records_merge(rule):
    right = np.random.default_rng(2).uniform(0.2, 0.9, (90, 3))
    panel, y = as_panel(right)
    one = TrackRecord(halflife=40, rule=rule)
    whole = clone(one).fit(panel, y)
    merged = clone(one).fit(panel[:50], y[:50]).merge(clone(one).fit(panel[50:], y[50:]))
    assert merged.weights_ == pytest.approx(whole.weights_, abs=1e-9) and merged.n_labels_ == 90
    with pytest.raises(PanelError, match="records differ in parameters or task"):
        whole.merge(TrackRecord(rule=rule).fit(panel, y))
    walk = TrackRecord(rule="hedge").fit(panel, y)
    with pytest.raises(PanelError, match="depend on every label in turn and cannot be merged"):
        walk.merge(walk)


def test_repaired_moments_have_no_negative_eigenvalues():
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(30):
        y = rng.normal(size=20)
        panel = (y[:, None] + rng.normal(size=(20, 6)) @ rng.normal(size=(6, 6)))[:, :, None]
        panel[rng.random((20, 6)) < 0.4] = np.nan
        record = TrackRecord().fit(panel, y, task="regression")
        raw = record.moments_.second_moment()
        broken += np.isnan(raw).any() or np.linalg.eigvalsh(raw).min() < -1e-9
        assert np.linalg.eigvalsh(record.second_moment()).min() > -1e-9
        assert record.weights_.sum() == pytest.approx(1) and (record.weights_ >= 0).all()
    assert broken > 15


def test_each_request_settles_once():
    panel, y = as_panel(np.random.default_rng(0).uniform(0.2, 0.9, (20, 3)))
    record = TrackRecord(rule="inverse_mse", capacity=4).fit(panel[:10], y[:10])
    same = TrackRecord(rule="inverse_mse").fit(panel[:12], y[:12])
    record.open(["a", "b", "c"], panel[10:13])
    assert record.n_open == 3
    record.settle(["a", "b"], y[10:12])
    assert record.weights_ == pytest.approx(same.weights_) and record.n_open == 1 and record.n_labels_ == 12
    for ids in (["a"], ["nobody"], ["c", "c"]):
        with pytest.raises(
            PanelError, match=r"ids are not open \(first: '.*'\): never opened, settled already"
        ):
            record.settle(ids, y[: len(ids)])
    assert record.n_open == 1 and record.n_labels_ == 12
    with pytest.raises(PanelError, match=r"1 ids are open already \(first: 'c'\)"):
        record.open(["c"], panel[:1])
    record.open(range(5), panel[:5])
    assert record.n_open == 4 and record.n_dropped_ == 2
    with pytest.raises(PanelError, match=r"among the 2 dropped ones\. Raise capacity"):
        record.settle(["c"], [0])
    with pytest.raises(PanelError, match="one sample per id"):
        record.open(["x"], panel[:2])


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"rule": "luck"}, "rule must be one of covariance"),
        ({"halflife": -1}, "halflife must be a positive number"),
        ({"rule": "fixed_share", "share": 1.5}, "share must lie between 0 and 1"),
        ({"rate": 0.0}, "rate must lie between"),
        ({"capacity": 0}, "capacity must be a whole number >= 1"),
    ],
)
def test_bad_parameters(params, text):
    panel, y = as_panel(np.full((5, 2), 0.6))
    with pytest.raises(PanelError, match=text):
        TrackRecord(**params).fit(panel, y)


def test_bad_labels():
    panel, y = as_panel(np.full((5, 2), 0.6))
    with pytest.raises(PanelError, match="bayes' needs the probability of the truth"):
        TrackRecord(rule="bayes").fit(panel, np.zeros((5, 2)), task="regression")
    with pytest.raises(PanelError, match="takes no unequal sample_weight"):
        TrackRecord().fit(panel, y, sample_weight=[1, 2, 3, 4, 5])
    with pytest.raises(PanelError, match=r"panel needs \(2, 2\)"):
        TrackRecord().fit(panel, y).update(np.full((2, 3, 2), 0.5), [0, 0])


def test_an_ensemble_learns_on_without_refitting():
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)
    team = [("line", LogisticRegression(max_iter=500)), ("bayes", GaussianNB())]
    clf = RobustFusionClassifier(team, fusion="covariance", track_record=TrackRecord(halflife=30)).fit(
        X[rows[:100]], y[rows[:100]]
    )
    members, before = clf.estimators_, clf.weights_.copy()
    later = np.stack([m.predict_proba(X[rows[100:]]) for m in members], axis=1)
    later[:, 1] = 1 / 3  # the second has forgotten everything
    clf.update(later, y[rows[100:]])
    assert clf.estimators_ is members and clf.oof_panel_.shape == (150, 2, 3)
    assert clf.weights_[0] > max(before[0], 0.85) and clf.track_record_.n_labels_ == 150
    assert clf.track_record_.weights_[0] > 0.85
    with pytest.raises(PanelError, match=r"truths \[7\] are no class"):
        clf.update(later[:1], [7])
    with pytest.raises(PanelError, match=r"panel needs \(2, 3\)"):
        clf.update(later[:, :1], y[rows[100:]])


@pytest.mark.parametrize("keep", [True, False])
def test_a_record_as_fusion_moves_with_every_label(keep):
    X, y = load_iris(return_X_y=True)
    team = [("line", LogisticRegression(max_iter=500)), ("bayes", GaussianNB())]
    fusion = TrackRecord(rule="fixed_share", rate=1.0)
    clf = RobustFusionClassifier(team, fusion=fusion, keep_oof=keep).fit(X, y)
    assert clf.track_record_ is clf.fusion_
    wrong = np.tile([0.9, 0.05, 0.05], (40, 2, 1))
    wrong[:, 1] = [0.05, 0.05, 0.9]
    clf.update(wrong, np.full(40, 2))
    assert clf.weights_[1] > 0.9 and clf.track_record_.n_labels_ == 190
    fused = clf.predict_proba(X[:5])
    w = np.maximum(clf.weights_, 1e-9)
    wanted = np.einsum("m,mno->no", w / w.sum(), [m.predict_proba(X[:5]) for m in clf.estimators_])
    assert fused == pytest.approx(wanted)


def test_partial_fit_predicts_before_it_learns():
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)
    X, y = (X - X.mean(axis=0))[rows] / X.std(axis=0), y[rows]
    team = [("bayes", GaussianNB()), ("line", SGDClassifier(loss="log_loss", random_state=0))]
    clf = RobustFusionClassifier(team, fusion="covariance")
    for part in np.array_split(np.arange(150), 6):
        clf.partial_fit(X[part], y[part], classes=[0, 1, 2])
    assert clf.oof_panel_.shape == (125, 2, 3)  # all but the first batch were answered unseen
    assert clf.score(X, y) > 0.9 and clf.weights_.sum() == pytest.approx(1)
    assert not hasattr(
        RobustFusionClassifier([("far", LogisticRegression(solver="newton-cg"))]), "partial_fit"
    )
    numbers, t = make_regression(120, 3, random_state=0)
    reg = RobustFusionRegressor(
        [("a", SGDRegressor(random_state=0)), ("b", SGDRegressor(alpha=1.0, random_state=0))]
    )
    for part in np.array_split(np.arange(120), 8):
        reg.partial_fit(numbers[part], t[part])
    assert reg.score(numbers, t) > 0.5
    with pytest.raises(PanelError, match="first call of partial_fit needs classes"):
        RobustFusionClassifier(team).partial_fit(X, y)


def test_who_was_never_there_does_not_unlearn_the_others():
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    panel = (y[:, None] + rng.normal(size=(400, 3)) * [0.1, 1.0, 1.0])[:, :, None]
    panel[:, 2] = np.nan
    weights = TrackRecord().fit(panel, y, task="regression").weights_
    assert weights[0] > 0.9
    nobody = TrackRecord().fit(np.full((5, 3, 1), np.nan), y[:5], task="regression").weights_
    assert nobody == pytest.approx(np.full(3, 1 / 3))


def test_a_record_that_is_refused_is_not_fitted():
    record = TrackRecord(halflife=-1.0)
    with pytest.raises(PanelError, match="halflife must be a positive number"):
        record.fit(np.zeros((3, 2, 1)), np.zeros(3), task="regression")
    assert not hasattr(record, "task_")


def test_a_batch_that_is_refused_trains_nobody():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    y = (X[:, 0] > 0).astype(int)
    team = [(name, SGDClassifier(loss="log_loss", random_state=0)) for name in "ab"]
    clf = RobustFusionClassifier(team, fusion="covariance", keep_oof=False).partial_fit(
        X[:40], y[:40], classes=[0, 1]
    )
    before = clf.estimators_[0].coef_.copy()
    with pytest.raises(PanelError, match="Fit with keep_oof=True"):
        clf.partial_fit(X[40:], y[40:])
    assert np.array_equal(clf.estimators_[0].coef_, before)
    clf.set_params(fusion="covariance", keep_oof=True).partial_fit(X[40:], y[40:])
    assert not np.array_equal(clf.estimators_[0].coef_, before) and clf.oof_panel_.shape == (40, 2, 2)


@pytest.mark.parametrize("rule", ["hedge", "bayes"])
def test_a_copy_that_learns_leaves_the_record_as_it_was(rule):
    record = TrackRecord(rule=rule, rate=0.5).fit(np.full((3, 2, 2), 0.5), [0, 1, 0])
    before = record.losses_.copy(), record._log_weights.copy()
    other = copy.copy(record).update(np.array([[[0.9, 0.1], [0.1, 0.9]]]), [0])
    assert other.losses_[1] > before[0][1]
    assert np.array_equal(record.losses_, before[0]) and np.array_equal(record._log_weights, before[1])


def test_batches_go_on_without_a_specialist_whose_fit_failed():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3))
    y = (X[:, 0] > 0).astype(int)
    broken = Specialist(SGDClassifier(alpha=-1.0), on_error="abstain")
    clf = RobustFusionClassifier([("a", SGDClassifier(loss="log_loss", random_state=0)), ("b", broken)])
    with pytest.warns(FaultWarning, match="'b' failed in fit"):
        clf.fit(X[:60], y[:60])
    before = clf.estimators_[0].coef_.copy()
    clf.partial_fit(X[60:], y[60:])
    assert not np.array_equal(clf.estimators_[0].coef_, before) and clf.oof_panel_.shape == (90, 2, 2)
