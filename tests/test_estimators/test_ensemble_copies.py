"""Stored panels, fitted copies, metadata routing, callbacks, costs: what surrounds a fit."""

import pickle
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
import sklearn
import xarray as xr
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from estimators import (
    DecorrelatedSelection,
    Defer,
    DynamicSelection,
    GreedySelection,
    RobustFusionClassifier,
    RobustFusionRegressor,
    Specialist,
    TrackRecord,
    Views,
)
from fusion import Krum, TrimmedMean
from theory import FaultWarning, PanelError


class Counting(ClassifierMixin, BaseEstimator):
    """Counts its fits in a list that clones share."""

    fits: list = []  # noqa: RUF012

    def fit(self, X, y):
        Counting.fits.append(len(X))
        self.inner_ = GaussianNB().fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)

    def predict(self, X):
        return self.inner_.predict(X)


def team():
    return [
        ("line", LogisticRegression(max_iter=500)),
        ("tree", DecisionTreeClassifier(random_state=0)),
        ("bayes", GaussianNB()),
    ]


@pytest.mark.parametrize(
    "fusion", ["median", "covariance", "arbiter", "greedy", "auto", TrimmedMean(n_byzantine=1)]
)
def test_another_fusion_is_learned_without_fitting_anybody(fusion):
    X, y = load_iris(return_X_y=True)
    members = [*team(), ("counting", Counting())]
    first = RobustFusionClassifier(members, fusion="mean", cv=3).fit(X, y)
    Counting.fits.clear()
    copy = first.with_fusion(fusion)
    assert Counting.fits == [] and copy.estimators_ is first.estimators_
    fresh = RobustFusionClassifier(members, fusion=fusion, cv=3).fit(X, y)
    assert np.array_equal(copy.predict_proba(X), fresh.predict_proba(X))
    assert first.fusion == "mean" and first.fusion_.name == "mean"
    assert np.array_equal(first.with_fusion("mean").predict_proba(X), first.predict_proba(X))


def test_copies_that_cannot_be_learned_say_why():
    X, y = load_iris(return_X_y=True)
    bare = RobustFusionClassifier(team(), fusion="mean", keep_oof=False).fit(X, y)
    assert bare.with_fusion("median").score(X, y) > 0.9
    with pytest.raises(PanelError, match="covariance learns from the out-of-fold panel, and there is none"):
        bare.with_fusion("covariance")
    with pytest.raises(PanelError, match="Fit with keep_oof=True, or fusion=TrackRecord"):
        bare.update(np.full((1, 3, 3), 1 / 3), [0])
    kept = RobustFusionClassifier(team(), fusion="mean").fit(X, y)
    with pytest.raises(PanelError, match="dynamic_ola looks at the input, which is not kept"):
        kept.with_fusion(DynamicSelection("ola", region="X"))
    with pytest.raises(PanelError, match="there is no fusion 'magic'"):
        kept.with_fusion("magic")


def test_thresholds_and_scales_follow_the_copy():
    X, y = load_iris(return_X_y=True)
    first = RobustFusionClassifier(team(), fusion="mean", defer=Defer(coverage=0.6)).fit(X, y)
    copy = first.with_fusion("log_pool")
    assert copy.defer_threshold_ != first.defer_threshold_
    X, y = load_diabetes(return_X_y=True)
    numbers = RobustFusionRegressor(
        [("a", Ridge(0.1)), ("b", DecisionTreeRegressor(max_depth=2))], fusion="mean"
    )
    numbers.fit(X, y)
    assert numbers.with_fusion("best_single").scale_.a != numbers.scale_.a


@pytest.mark.parametrize("fusion", ["mean", "covariance", "arbiter", "log_odds"])
def test_stored_answers_fuse_as_living_ones(fusion):
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    living = RobustFusionClassifier(team(), fusion=fusion).fit(X, names)
    stored = RobustFusionClassifier.from_predictions(living.oof_panel_, names, fusion=fusion)
    assert stored.classes_.tolist() == ["a", "b", "c"]
    new = np.stack([m.predict_proba(X[:9]) for m in living.estimators_], axis=1)
    assert stored.predict_proba(new) == pytest.approx(living.predict_proba(X[:9]), abs=1e-9)
    assert stored.solo_scores_ == living.solo_scores_
    order = ["bayes", "line", "tree"]
    frame = xr.DataArray(
        new,
        dims=("sample", "specialist", "output"),
        coords={"specialist": list(living.oof_panel_.specialist.values)},
    )
    assert np.array_equal(stored.predict_proba(frame.sel(specialist=order)), stored.predict_proba(new))
    again = pickle.loads(pickle.dumps(stored))
    assert np.array_equal(again.predict(new), stored.predict(new))


def test_stored_numbers_and_costs():
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    panel = y[:, None] + rng.normal(size=(300, 4)) * [0.1, 0.5, 0.5, 2]
    reg = RobustFusionRegressor.from_predictions(
        panel, y, fusion=GreedySelection(5, max_cost=2.0), costs=[9, 1, 1, 1]
    )
    assert reg.weights_[0] == 0 and set(np.flatnonzero(reg.weights_)) <= {1, 2, 3}
    assert reg.predict(panel[:3]).shape == (3,)
    with pytest.raises(PanelError, match="costs must be 4 positive numbers"):
        RobustFusionRegressor.from_predictions(panel, y, costs=[1, 1, 1, -1])


@pytest.mark.parametrize(
    ("panel", "y", "text"),
    [
        (
            np.full((4, 150, 3), 1 / 3),
            np.zeros(150, int),
            r"got shape \(4, 150, 3\) for 150 targets. Transpose it",
        ),
        (
            np.full((5, 3), 0.5),
            np.zeros(5, int),
            r"panel must be \(sample, specialist, output\); got shape \(5, 3\)",
        ),
        (np.full((5, 2, 3), 1 / 3), [0, 1, 2, 3, 7], r"truths \[3, 7\] are no output of the panel"),
    ],
)
def test_stored_panels_that_do_not_fit(panel, y, text):
    with pytest.raises(PanelError, match=text):
        RobustFusionClassifier.from_predictions(panel, y)


def test_foreign_panels_are_refused_at_predict():
    panel = np.full((30, 2, 2), 0.5)
    clf = RobustFusionClassifier.from_predictions(panel, np.arange(30) % 2, fusion="mean")
    with pytest.raises(
        PanelError, match=r"panel needs \(2, 2\) \(specialist, output\) as in fit; got shape \(1, 3, 2\)"
    ):
        clf.predict(np.full((1, 3, 2), 0.5))
    named = xr.DataArray(panel, dims=("sample", "specialist", "output"), coords={"specialist": ["x", "y"]})
    with pytest.raises(PanelError, match=r"specialists must be \['0', '1'\]; the panel has \['x', 'y'\]"):
        clf.predict(named)


def test_costs_of_specialists_reach_a_selection_with_a_budget():
    X, y = load_iris(return_X_y=True)
    members = [
        ("dear", Specialist(LogisticRegression(max_iter=500), cost=10.0)),
        ("tree", Specialist(DecisionTreeClassifier(max_depth=2, random_state=0))),
        ("bayes", Specialist(GaussianNB(), cost=2.0)),
    ]
    free = RobustFusionClassifier(members, fusion="greedy").fit(X, y)
    bound = RobustFusionClassifier(members, fusion=GreedySelection(max_cost=3.0)).fit(X, y)
    assert free.weights_[0] > 0 and bound.weights_[0] == 0
    assert bound.fusion_.costs.tolist() == [10, 1, 2] and bound.fusion.costs is None
    joint = RobustFusionClassifier(members, fusion=DecorrelatedSelection(by_cost=True, max_cost=2.5)).fit(
        X, y
    )
    assert joint.weights_[0] == 0
    own = RobustFusionClassifier(members, fusion=GreedySelection(costs=[1, 9, 9], max_cost=1.0)).fit(X, y)
    assert own.weights_.tolist() == [1, 0, 0]


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_metadata_other_than_weights_is_refused_without_routing():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=r"Passing extra keyword arguments to .*fit is only supported if"):
        RobustFusionClassifier(team()).fit(X, y, site=np.zeros(150))


def test_weights_and_groups_go_to_those_who_ask(routing):
    X, y = load_iris(return_X_y=True)
    weight, groups = np.random.default_rng(0).integers(1, 4, 150).astype(float), np.arange(150) % 10
    asked = LogisticRegression(max_iter=2000).set_fit_request(sample_weight=True)
    silent = KNeighborsClassifier()
    refused = GaussianNB().set_fit_request(sample_weight=False)
    clf = RobustFusionClassifier(
        [("a", asked), ("b", silent), ("c", refused)], fusion="mean", cv=GroupKFold(5)
    )
    clf.set_fit_request(sample_weight=True, groups=True)
    clf.fit(X, y, sample_weight=weight, groups=groups)
    plain = GaussianNB().fit(X, y)
    assert np.allclose(clf.named_estimators_["c"].predict_proba(X), plain.predict_proba(X))
    heavy = LogisticRegression(max_iter=2000).fit(X, y, sample_weight=weight)
    assert np.allclose(clf.named_estimators_["a"].predict_proba(X), heavy.predict_proba(X))
    undecided = RobustFusionClassifier([("a", LogisticRegression(max_iter=500))], fusion="mean")
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        undecided.fit(X, y, sample_weight=weight)
    assert "splitter" in clf.get_metadata_routing()._route_mappings


class Sited(Counting):
    """Writes down the metadata of each fit."""

    heard: ClassVar[list] = []

    def fit(self, X, y, site=None, note=None):
        assert np.shape(site) == (len(X),)
        np.testing.assert_array_equal(np.asarray(X)[:, 0], site)  # the rows of this fit and no others
        self.heard.append((len(X), note))
        return super().fit(X, y)


@pytest.mark.parametrize("wrapped", [False, True])
def test_metadata_goes_to_the_specialists_that_ask_cut_like_the_samples(routing, wrapped):
    X, y = load_iris(return_X_y=True)
    Sited.heard.clear()
    asks = Sited().set_fit_request(site=True, note=True)
    team = [("s", Specialist(asks) if wrapped else asks), ("b", GaussianNB())]
    clf = RobustFusionClassifier(team, fusion="mean", cv=3).fit(X, y, site=X[:, 0].copy(), note="ward")
    assert Counter(Sited.heard) == {(150, "ward"): 1, (100, "ward"): 3}
    assert clf.score(X, y) > 0.9
    with pytest.raises(TypeError, match="got unexpected argument"):
        clf.fit(X, y, sites=X[:, 0])


def test_metadata_is_cut_like_a_view_that_some_samples_lack(routing):
    X, y = load_iris(return_X_y=True)
    Sited.heard.clear()
    asks = Specialist(Sited().set_fit_request(site=True), view="eye")
    there = np.arange(150) % 3 > 0
    views = Views({"eye": X, "ear": X}, mask={"eye": there})
    team = [("s", asks), ("b", Specialist(GaussianNB(), view="ear"))]
    RobustFusionClassifier(team, fusion="mean", cv=3).fit(views, y, site=X[:, 0].copy())
    assert sorted(n for n, _ in Sited.heard)[-1] == there.sum()


def test_weights_reach_the_step_of_a_pipeline_that_asks(routing):
    X, y = load_iris(return_X_y=True)
    weight = np.random.default_rng(0).integers(1, 4, 150).astype(float)
    asked = make_pipeline(
        StandardScaler().set_fit_request(sample_weight=False),
        LogisticRegression().set_fit_request(sample_weight=True),
    )
    clf = RobustFusionClassifier([("p", asked)], fusion="mean").fit(X, y, sample_weight=weight)
    scaled = StandardScaler().fit_transform(X)
    plain = LogisticRegression().fit(scaled, y, sample_weight=weight)
    np.testing.assert_allclose(clf.predict_proba(X), plain.predict_proba(scaled), atol=1e-6)


class Recorder:
    """A callback of scikit-learn that writes down what ends."""

    def __init__(self):
        self.ended, self.torn = [], 0

    def setup(self, estimator, context):
        self.root = context.task_name

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.ended.append((None if context.parent is None else context.parent.task_name, context.task_name))

    def teardown(self, estimator, context):
        self.torn += 1


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_callbacks_hear_every_fit(n_jobs):
    X, y = load_iris(return_X_y=True)
    heard = Recorder()
    clf = RobustFusionClassifier(team(), fusion="mean", cv=2, n_jobs=n_jobs).set_callbacks(heard)
    clf.fit(X, y)
    assert heard.torn == 1 and heard.root == "fit" and heard.ended[-1] == (None, "fit")
    for name in ("line", "tree", "bayes"):
        assert [b for a, b in heard.ended if a == name] == ["all samples", "fold 0", "fold 1"]
        assert ("fit", name) in heard.ended
    assert not hasattr(clf, "_callback_fit_ctx")
    broken = RobustFusionClassifier([("r", Specialist(GaussianNB(var_smoothing=-1)))], fusion="mean")
    heard = Recorder()
    with pytest.raises(ValueError, match="var_smoothing"):
        broken.set_callbacks(heard).fit(X, y)
    assert heard.torn == 1


def test_the_new_parameters_clone_and_show():
    clf = RobustFusionClassifier(
        team(), defer=Defer(risk=0.1), track_record=TrackRecord(halflife=9), calibration="temperature"
    )
    same = clone(clf)
    assert same.defer.risk == 0.1 and same.track_record.halflife == 9 and same.defer is not clf.defer
    assert same.set_params(defer__risk=0.2).defer.risk == 0.2
    assert "Defer(risk=0.1)" in repr(clf) and "line" in clf._repr_html_()
    for change, text in (
        ({"defer": 3}, "'defer'"),
        ({"calibration": "magic"}, "'calibration'"),
        ({"track_record": 1}, "'track_"),
    ):
        with pytest.raises(ValueError, match=text):
            clone(clf).set_params(**change).fit(*load_iris(return_X_y=True))


def test_predict_keeps_nothing_and_needs_little():
    X, y = load_iris(return_X_y=True)
    clf = RobustFusionClassifier(team()).fit(X, y)
    before = pickle.dumps(clf)
    clf.predict(X), clf.predict_proba(X), clf.fuse(X), clf.predict_set(X)
    assert pickle.dumps(clf) == before
    panel = np.random.default_rng(0).dirichlet(np.ones(3), size=(4000, 10))
    stored = RobustFusionClassifier.from_predictions(panel, np.arange(4000) % 3, fusion="mean")
    assert len(pickle.dumps(stored, protocol=5)) < 1.2 * panel.nbytes


def test_rules_over_a_batch_are_refused():
    X, y = load_iris(return_X_y=True)
    text = r"krum over a batch makes predictions depend on other rows\. Set scope='sample'"
    clf = RobustFusionClassifier(team(), fusion=Krum(n_byzantine=0, scope="batch"))
    with pytest.raises(PanelError, match=text):
        clf.fit(X, y)
    with pytest.raises(PanelError, match=text):
        RobustFusionClassifier(team(), fusion="mean").fit(X, y).with_fusion(clf.fusion)


def test_a_refused_update_changes_nothing():
    X, y = load_diabetes(return_X_y=True)
    team = [("a", Ridge()), ("b", Ridge(10.0))]
    reg = RobustFusionRegressor(team, fusion="mean", track_record=TrackRecord()).fit(X, y)
    before = pickle.dumps(reg)
    with pytest.raises(PanelError, match="truths must be finite"):
        reg.update(reg.oof_panel_, np.where(np.arange(len(y)) == 3, np.nan, y))
    assert pickle.dumps(reg) == before
    reg = RobustFusionRegressor(team, fusion="mean", track_record=TrackRecord())
    reg.fit(X, y, groups=np.arange(len(y)) % 7)
    with pytest.raises(PanelError, match="with groups cannot be joined"):
        reg.update(reg.oof_panel_, y)
    assert reg.track_record_.n_labels_ == len(y)


def test_update_tells_of_invalid_answers():
    X, y = load_iris(return_X_y=True)
    clf = RobustFusionClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier())], fusion="mean")
    panel = clf.fit(X, y).oof_panel_.values.copy()
    panel[:5, 0], panel[5:9, 1] = 1e6, np.nan  # a liar; and one who was not asked, which is no fault
    with pytest.warns(
        FaultWarning, match=r"^invalid answers, left out of everything learned: 'a' 5 of 150\.$"
    ):
        clf.update(panel, y)


class FailsOnFolds(GaussianNB):
    def fit(self, X, y, sample_weight=None):
        if len(X) < 150:
            raise RuntimeError("too few rows")
        return super().fit(X, y)


def test_fits_that_fail_in_folds_alone_are_told():
    X, y = load_iris(return_X_y=True)
    team = [("odd", Specialist(FailsOnFolds(), on_error="abstain")), ("a", GaussianNB())]
    with pytest.warns(FaultWarning, match="'odd' failed in 5 of 5 folds .*too few rows"):
        clf = RobustFusionClassifier(team, fusion="mean").fit(X, y)
    assert clf.missing_rate_.tolist() == [1.0, 0.0] and clf.failures_ == {}
