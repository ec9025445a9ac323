"""What an answer is worth: entropies, spreads, intervals and sets against identities and simulation."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from estimators import RobustFusionClassifier, RobustFusionRegressor, Specialist, Views
from estimators.conformal import conformal_quantile
from estimators.result import STATUS, class_uncertainty, number_spread, present_weights
from fusion import Krum, TrimmedMean, operator_names
from theory import FaultWarning, PanelError


def test_entropies_by_hand():
    rng = np.random.default_rng(0)
    panel = rng.dirichlet(np.ones(4), size=(30, 5))
    panel[3, 1] = np.nan
    weights = rng.dirichlet(np.ones(5))
    shares = present_weights(weights, ~np.isnan(panel).all(axis=2))
    disagreement, total, epistemic = class_uncertainty(panel, shares)
    for t in range(30):
        rows = [i for i in range(5) if not np.isnan(panel[t, i]).any()]
        w = weights[rows] / weights[rows].sum()
        assert total[t] == pytest.approx(entropy(w @ panel[t, rows]))
        inner = sum(a * entropy(p) for a, p in zip(w, panel[t, rows], strict=True))
        assert epistemic[t] == pytest.approx(total[t] - inner)
        votes = np.bincount(panel[t, rows].argmax(axis=1), weights=w, minlength=4)
        assert disagreement[t] == pytest.approx(1 - votes.max())
    assert (epistemic >= 0).all() and (epistemic <= np.log(5)).all()
    nobody = class_uncertainty(np.full((1, 2, 3), np.nan), np.zeros((1, 2)))
    assert [float(v[0]) for v in nobody] == pytest.approx([1.0, np.log(3), 0.0])


def test_the_expected_spread_is_the_ambiguity():
    """E[D] = sum w_i S_ii - w'Sw, exactly on the sample."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(200, 2))
    panel = truth[:, None] + rng.normal(size=(200, 4, 2)) + rng.normal(size=(200, 1, 2))
    w = rng.dirichlet(np.ones(4))
    fused = np.einsum("m,nmo->no", w, panel)
    spread = number_spread(panel, fused, np.tile(w, (200, 1))).sum(axis=1)
    errors = panel - truth[:, None]
    S = np.einsum("nio,njo->ij", errors, errors) / 200
    assert spread.mean() == pytest.approx(w @ S.diagonal() - w @ S @ w, abs=1e-10)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.7, 0.95])
def test_intervals_hold_the_truth_however_correlated_errors_are(rho):
    rng = np.random.default_rng(int(100 * rho))
    shared = rng.normal(size=(6000, 1)) * np.sqrt(rho)
    panel = shared + rng.normal(size=(6000, 5)) * np.sqrt(1 - rho)
    y = rng.normal(size=6000) * 0
    reg = RobustFusionRegressor.from_predictions(panel[:2000], y[:2000], fusion="mean", plausible=None)
    ends = reg.predict_interval(panel[2000:], alpha=0.1)
    inside = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert inside == pytest.approx(0.9, abs=0.025)
    fused, std = reg.predict(panel[2000:], return_std=True)
    assert np.mean(std**2) == pytest.approx(np.mean(fused**2), rel=0.12)


def test_intervals_follow_the_disagreement():
    rng = np.random.default_rng(0)
    size = np.exp(rng.normal(size=4000))
    panel = rng.normal(size=(4000, 6)) * size[:, None]
    reg = RobustFusionRegressor.from_predictions(panel[:2000], np.zeros(2000), fusion="mean", plausible=None)
    fused, std = reg.predict(panel[2000:], return_std=True)
    assert np.corrcoef(np.log(std), np.log(size[2000:]))[0, 1] > 0.8
    assert reg.scale_.b[0] > 0 and reg.scale_.a[0] >= 0
    result = reg.fuse(panel[2000:])
    assert result.total == pytest.approx(std**2)
    assert (result.epistemic <= result.total + 1e-9).all() and np.array_equal(result.value, fused)


def test_intervals_on_real_numbers_and_two_targets():
    X, y = load_diabetes(return_X_y=True)
    team = [
        ("line", Ridge(0.1)),
        ("near", KNeighborsRegressor(9)),
        ("tree", DecisionTreeRegressor(max_depth=3)),
    ]
    inside = []
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(len(y))
        reg = RobustFusionRegressor(team, fusion="covariance").fit(X[rows[:300]], y[rows[:300]])
        ends = reg.predict_interval(X[rows[300:]])
        inside.append(((ends[:, 0] <= y[rows[300:]]) & (y[rows[300:]] <= ends[:, 1])).mean())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)
    X, y = make_regression(200, n_targets=2, noise=5, random_state=0)
    two = RobustFusionRegressor(team, fusion="median").fit(X, y)
    assert two.predict_interval(X[:5]).shape == (5, 2, 2)
    fused, std = two.predict(X[:5], return_std=True)
    assert fused.shape == std.shape == (5, 2)
    assert two.fuse(X[:5]).to_xarray()["value"].dims == ("sample", "output")


def test_sets_hold_the_truth():
    X, y = load_digits(return_X_y=True)
    team = [("line", LogisticRegression(max_iter=3000, C=0.001)), ("bayes", GaussianNB())]
    rows = np.random.default_rng(0).permutation(len(y))
    train, test = rows[:900], rows[900:]
    clf = RobustFusionClassifier(team, fusion="mean", cv=3).fit(X[train], y[train])
    for alpha in (0.1, 0.05, 0.01):
        sets = clf.predict_set(X[test], alpha=alpha)
        assert sets[np.arange(len(test)), y[test]].mean() == pytest.approx(1 - alpha, abs=0.02)
        assert (
            sets.any(axis=1).all()
            and sets[np.arange(len(test)), clf.predict_proba(X[test]).argmax(axis=1)].all()
        )
    assert clf.predict_set(X[test], alpha=1e-4).all()  # too few samples for so much certainty


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_coverage_is_the_law_of_order_statistics(alpha):
    """Over draws of 60 scores the mean coverage is ceil(61 (1 - alpha)) / 61."""
    rng = np.random.default_rng(0)
    reached = [conformal_quantile(rng.random(60), alpha) for _ in range(4000)]
    wanted = np.ceil(61 * (1 - alpha)) / 61
    assert np.mean(reached) == pytest.approx(wanted, abs=4 * np.sqrt(alpha / 61 / 4000) + 1e-3)


def test_counts_repeat_scores():
    rng = np.random.default_rng(3)
    scores, count = rng.random(50), rng.integers(0, 4, 50)
    for alpha in (0.05, 0.3, 0.9):
        assert conformal_quantile(scores, alpha, sample_weight=count) == conformal_quantile(
            np.repeat(scores, count), alpha
        )


def test_uncertainty_needs_a_panel_and_says_so():
    X, y = load_iris(return_X_y=True)
    team = [("line", LogisticRegression(max_iter=500)), ("bayes", GaussianNB())]
    with pytest.raises(
        PanelError, match=r"prediction sets need an out-of-fold panel, and there is none: cv='none'"
    ):
        RobustFusionClassifier(team, fusion="mean", cv="none").fit(X, y).predict_set(X)
    numbers = RobustFusionRegressor([("line", Ridge())], fusion="mean", cv="none").fit(X, y)
    assert np.isnan(numbers.fuse(X).total).all()
    for call in (numbers.predict_interval, lambda X: numbers.predict(X, return_std=True)):
        with pytest.raises(PanelError, match="learned from the out-of-fold panel"):
            call(X)
    clf = RobustFusionClassifier(team).fit(X, y)
    with pytest.raises(PanelError, match="alpha must be between 0 and 1; got 0"):
        clf.predict_set(X, alpha=0)
    with pytest.raises(PanelError, match="none of them NaN"):
        conformal_quantile([np.nan, 1.0], 0.1)


def test_temperature_after_fusion_mends_an_overconfident_arbiter():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=900)
    right = rng.random((900, 4)) < 0.6
    said = np.where(right, y[:, None], rng.integers(3, size=(900, 4)))
    panel = np.clip(np.eye(3)[said], 1e-6, None)
    panel /= panel.sum(axis=2, keepdims=True)

    def loss(clf):
        return -np.log(clf.predict_proba(panel[500:])[np.arange(400), y[500:]]).mean()

    plain = RobustFusionClassifier.from_predictions(panel[:500], y[:500], fusion="log_pool")
    mended = RobustFusionClassifier.from_predictions(
        panel[:500], y[:500], fusion="log_pool", calibration="temperature"
    )
    assert mended.calibrator_.inverse_temperature_ < 0.7
    assert loss(mended) < loss(plain) - 0.02
    assert np.array_equal(mended.predict(panel), plain.predict(panel))


def test_fuse_says_who_spoke():
    X, y = load_iris(return_X_y=True)
    eye, ear = X[:, :2].copy(), X[:, 2:].copy()
    views = Views(eye=eye, ear=ear)
    team = [
        ("eye", Specialist(LogisticRegression(max_iter=500), view="eye")),
        ("ear", Specialist(LogisticRegression(max_iter=500), view="ear")),
        ("tree", Specialist(DecisionTreeClassifier(random_state=0), view="ear")),
        ("bayes", Specialist(GaussianNB(), view="eye", on_error="abstain")),
    ]
    clf = RobustFusionClassifier(team, fusion=TrimmedMean(n_byzantine=1), short="relax").fit(views, y)
    before = dict(vars(clf))
    gap = ear[:6].copy()
    gap[2] = np.nan
    with pytest.warns(FaultWarning, match="short='relax'"):
        result = clf.fuse(Views(eye=eye[:6], ear=gap))
    assert vars(clf).keys() == before.keys() and all(vars(clf)[k] is before[k] for k in before)
    assert result.n_present.tolist() == [4, 4, 2, 4, 4, 4]
    assert [STATUS[k] for k in result.status[2]] == ["answered", "absent", "absent", "answered"]
    assert result.n_byzantine.tolist() == [1, 1, 0, 1, 1, 1]
    assert result.weights[2].tolist() == pytest.approx([0.5, 0, 0, 0.5])
    assert result.weights.sum(axis=1) == pytest.approx(1)
    clf.named_estimators_["bayes"].model_.predict_proba = lambda X: 1 / 0
    with pytest.warns(FaultWarning, match="'bayes' failed and abstains"):
        failed = clf.fuse(views[:4])
    assert STATUS[failed.status[0, 3]] == "failed" and "ZeroDivisionError" in failed.failures["bayes"]
    frame = failed.to_xarray()
    assert frame["status"].attrs["flag_meanings"] == list(STATUS) and "failure_bayes" in frame.attrs
    assert frame["proba"].dims == ("sample", "output")


@pytest.mark.parametrize(
    "fusion", [*operator_names("late"), "covariance", "arbiter", "auto", "dawid_skene", "greedy"]
)
def test_every_fusion_describes_its_answer(fusion):
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=60)
    panel = rng.dirichlet(np.ones(3), size=(60, 8)) + np.eye(3)[y][:, None]
    panel /= panel.sum(axis=2, keepdims=True)
    panel[5, 2] = np.nan
    clf = RobustFusionClassifier.from_predictions(panel, y, fusion=fusion)
    result = clf.fuse(panel)
    assert np.array_equal(result.proba, clf.predict_proba(panel))
    assert np.array_equal(result.label, clf.predict(panel))
    assert result.n_present[5] == 7
    if result.weights is not None:
        assert result.weights.sum(axis=1) == pytest.approx(1)
        assert result.weights[5, 2] == 0
    for values in (result.disagreement, result.total, result.epistemic):
        assert np.isfinite(values).all() and (values >= 0).all()


def test_a_spent_budget_is_reported():
    rng = np.random.default_rng(0)
    panel = rng.dirichlet(np.ones(3), size=(20, 7))
    clf = RobustFusionClassifier.from_predictions(panel, np.arange(20) % 3, fusion=Krum(n_byzantine=2))
    hurt = panel.copy()
    hurt[4, 1] *= 100
    result = clf.fuse(hurt)
    assert result.n_byzantine[4] == 1 and (np.delete(result.n_byzantine, 4) == 2).all()
    assert STATUS[result.status[4, 1]] == "fault" and result.weights[4, 1] == 0
    assert hurt[4, 1].sum() == pytest.approx(100)  # the caller's panel stays as it is


def test_uncertainty_of_several_blocks_is_that_of_each_sample():
    rng = np.random.default_rng(0)
    panel = rng.dirichlet(np.ones(4), size=(9000, 5))
    panel[8000], panel[8500, 1, 2] = np.nan, np.nan
    shares = present_weights(None, ~np.isnan(panel).all(axis=2))
    whole = class_uncertainty(panel, shares)
    for rows in (slice(0, 10), slice(2995, 3005), slice(7995, 8505)):
        for one, part in zip(whole, class_uncertainty(panel[rows], shares[rows]), strict=True):
            np.testing.assert_allclose(one[rows], part, rtol=1e-12)


def test_learning_holds_few_copies_of_the_panel():
    rng = np.random.default_rng(0)
    panel, y = rng.dirichlet(np.ones(3), size=(10_000, 10)), rng.integers(3, size=10_000)
    clf = RobustFusionClassifier.from_predictions(panel, y, fusion="mean")
    for work, most in (
        (lambda: RobustFusionClassifier.from_predictions(panel, y, fusion="mean"), 4.5),
        (lambda: clf.with_fusion("log_pool").predict_proba(panel), 4.5),
        (lambda: clf.predict_proba(panel), 1.2),
    ):
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most * panel.nbytes
