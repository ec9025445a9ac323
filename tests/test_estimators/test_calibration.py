"""Calibration: the best temperature by brute force, curves on any scale, probabilities that sum to one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from estimators import OneVsRestCalibration, RobustFusionClassifier, Specialist, TemperatureScaling
from estimators.calibration import make_calibrator
from theory import PanelError


def overconfident(n=400, n_classes=3, seed=0):
    """Return probabilities twice as sharp as they should be, and outcomes of the honest ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes)) * 1.5
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (honest.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    sharp = honest**2
    return sharp / sharp.sum(axis=1, keepdims=True), y


def naive_temperature(proba, y, weight):
    """Try 4000 temperatures."""

    def loss(beta):
        scaled = np.maximum(proba, 1e-12) ** beta
        scaled /= scaled.sum(axis=1, keepdims=True)
        return np.average(-np.log(scaled[np.arange(len(y)), y]), weights=weight)

    betas = np.exp(np.linspace(np.log(0.01), np.log(20), 4001))
    return betas[np.argmin([loss(beta) for beta in betas])]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_temperature_is_the_best_of_many(seed):
    proba, y = overconfident(seed=seed)
    weight = np.random.default_rng(seed).integers(0, 4, len(y)).astype(float)
    scaling = TemperatureScaling().fit(proba, y, sample_weight=weight)
    assert scaling.inverse_temperature_ == pytest.approx(naive_temperature(proba, y, weight), rel=3e-3)
    assert not scaling.at_bound_


def test_temperature_finds_what_was_done_to_the_probabilities():
    proba, y = overconfident(20_000)
    scaling = TemperatureScaling().fit(proba, y)
    assert scaling.inverse_temperature_ == pytest.approx(0.5, abs=0.02)
    assert log_loss(y, scaling.transform(proba)) < log_loss(y, proba)
    assert np.array_equal(scaling.transform(proba).argmax(axis=1), proba.argmax(axis=1))


def test_weights_are_counts():
    proba, y = overconfident(100)
    counts = np.random.default_rng(0).integers(1, 4, 100)
    for make in (TemperatureScaling, OneVsRestCalibration):
        weighted = make().fit(proba, y, sample_weight=counts)
        repeated = make().fit(np.repeat(proba, counts, axis=0), np.repeat(y, counts))
        # both minimise the same function; only a scale of the scores, taken unweighted, differs
        assert np.allclose(weighted.transform(proba), repeated.transform(proba), atol=2e-3)


def test_logits_and_probabilities_are_the_same_thing():
    proba, y = overconfident()
    one = TemperatureScaling().fit(proba, y)
    two = TemperatureScaling(from_logits=True).fit(np.log(proba) + 7.0, y)
    assert two.inverse_temperature_ == pytest.approx(one.inverse_temperature_, rel=1e-5)
    assert np.allclose(two.transform(np.log(proba) - 3.0), one.transform(proba), atol=1e-6)
    set_by_hand = TemperatureScaling().at(1.0)
    assert np.allclose(set_by_hand.transform(proba), proba)


def test_a_temperature_at_the_end_of_its_range_says_so():
    proba = np.array([[0.9, 0.1], [0.2, 0.8]] * 10)
    assert TemperatureScaling(bounds=(0.5, 4.0)).fit(proba, [0, 1] * 10).at_bound_  # always right: sharper
    assert TemperatureScaling(bounds=(0.5, 4.0)).fit(proba, [1, 0] * 10).at_bound_  # always wrong: flatter


@given(st.integers(0, 10_000), st.sampled_from(["temperature", "sigmoid", "isotonic"]), st.integers(2, 4))
def test_whatever_comes_out_is_a_probability(seed, kind, n_classes):
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(n_classes, 0.2), size=30)
    proba[rng.random(30) < 0.2] = np.eye(n_classes)[0]
    y = rng.integers(0, n_classes, 30)
    before = proba.copy()
    said = make_calibrator(kind).fit(proba, y).transform(proba)
    assert said.shape == proba.shape and (said >= 0).all()
    assert np.allclose(said.sum(axis=1), 1.0, atol=1e-12)
    assert np.array_equal(proba, before)


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_scale_and_shift_of_scores_do_not_matter(kind):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    scores = np.eye(3)[y] + rng.normal(size=(300, 3))
    plain = OneVsRestCalibration(kind).fit(scores, y).transform(scores)
    for scale, shift in ((1e6, 0.0), (1e-6, 0.0), (3.0, 1e3)):
        moved = OneVsRestCalibration(kind).fit(scores * scale + shift, y).transform(scores * scale + shift)
        assert np.allclose(moved, plain, atol=1e-5)


def test_curves_are_those_of_each_output_against_the_rest():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 500)
    scores = np.eye(3)[y] * 2 + rng.normal(size=(500, 3))
    made = OneVsRestCalibration().fit(scores, y).transform(scores)
    naive = np.stack(
        [
            LogisticRegression(C=1e6).fit(scores[:, [k]], y == k).predict_proba(scores[:, [k]])[:, 1]
            for k in range(3)
        ],
        axis=1,
    )
    naive /= naive.sum(axis=1, keepdims=True)
    assert np.allclose(made, naive, atol=1e-3)


def test_an_output_that_is_never_right_keeps_its_rate():
    scores = np.random.default_rng(0).normal(size=(40, 3))
    calibration = OneVsRestCalibration().fit(scores, np.arange(40) % 2, sample_weight=[3.0, 1.0] * 20)
    assert calibration.curves_[2] is None
    assert calibration.base_rates_.tolist() == [0.75, 0.25, 0.0]
    assert (calibration.transform(scores)[:, 2] < 1e-9).all()
    only = OneVsRestCalibration("isotonic").fit(scores[:, :2], np.zeros(40, dtype=int))
    assert np.allclose(only.transform(scores[:, :2]), [1.0, 0.0], atol=1e-9)


def test_samples_without_weight_do_not_make_a_curve():
    scores = np.random.default_rng(0).normal(size=(20, 2))
    y = np.array([0] * 15 + [1] * 5)
    calibration = OneVsRestCalibration().fit(scores, y, sample_weight=1.0 - y)
    assert calibration.curves_ == [None, None]


@pytest.mark.parametrize(
    ("fit", "text"),
    [
        (lambda: TemperatureScaling().fit([[0.5, 0.5]], [2]), "codes from 0 to 1"),
        (lambda: TemperatureScaling().fit([[0.5, 0.5]], [-1]), "codes from 0 to 1"),
        (lambda: TemperatureScaling().fit([[0.5, 0.5]], ["a"]), "codes from 0 to 1"),
        (lambda: TemperatureScaling().fit([0.5, 0.5], [0, 1]), r"got \(2,\), \(2,\) and \(2,\)"),
        (lambda: TemperatureScaling().fit([[0.5, 0.5]], [0, 1]), r"got \(1, 2\), \(2,\)"),
        (lambda: TemperatureScaling().fit([[np.nan, 0.5]], [0]), "1 scores that are not finite. Leave those"),
        (lambda: TemperatureScaling().fit([[0.5, 0.5]], [0], sample_weight=[0.0]), "positive weight"),
        (lambda: TemperatureScaling().fit(np.empty((0, 2)), np.empty(0, dtype=int)), "positive weight"),
        (lambda: TemperatureScaling(bounds=(0.0, 1.0)).fit([[0.5, 0.5]], [0]), "0 < low < high"),
        (
            lambda: OneVsRestCalibration("spline").fit([[0.5, 0.5]], [0]),
            "'sigmoid' or 'isotonic'; got 'spline'",
        ),
        (lambda: OneVsRestCalibration().fit([[0.5, 0.5]], [0], sample_weight=[-1.0]), "positive weight"),
        (lambda: make_calibrator("platt"), "'temperature', 'sigmoid' or 'isotonic'; got 'platt'"),
    ],
)
def test_bad_input_says_the_way_out(fit, text):
    with pytest.raises(PanelError, match=text):
        fit()


class Flat(BaseEstimator):
    """A calibrator of the user's own."""

    def fit(self, scores, y):
        self.n_outputs_ = np.shape(scores)[1]
        return self

    def transform(self, scores):
        return np.full((len(scores), self.n_outputs_), 1.0 / self.n_outputs_)


def test_a_calibrator_of_ones_own_is_cloned():
    own = Flat()
    assert make_calibrator(own) is not own and isinstance(make_calibrator(own), Flat)
    assert isinstance(clone(TemperatureScaling((0.1, 10.0))), TemperatureScaling)


def team(calibration):
    forest = RandomForestClassifier(15, min_samples_leaf=5, random_state=0)
    return [
        ("bayes", Specialist(GaussianNB(), calibration=calibration)),
        ("margin", Specialist(LinearSVC(C=0.1), calibration=None)),  # decision values: calibrated in any case
        ("forest", Specialist(forest, calibration=calibration)),
    ]


@pytest.mark.parametrize("kind", ["temperature", "sigmoid", "isotonic", Flat()])
def test_in_an_ensemble_it_is_fitted_on_rows_the_model_did_not_see(kind):
    X, y = make_classification(400, n_features=12, n_redundant=6, random_state=0)
    raw = RobustFusionClassifier(team(None)).fit(X, y)
    made = RobustFusionClassifier(team(kind)).fit(X, y)
    if not isinstance(kind, Flat):
        before, after = (log_loss(y, fitted.oof_panel_.values[:, 0]) for fitted in (raw, made))
        assert after < before  # naive Bayes on copied features is far too sure
    else:
        assert np.allclose(made.oof_panel_.values[:, 0], 0.5)
    assert np.allclose(made.oof_panel_.values.sum(axis=2), 1.0)
    assert np.allclose(made.predict_proba(X).sum(axis=1), 1.0)
    assert set(made.calibrators_) == {"bayes", "margin", "forest"}
    assert isinstance(raw.calibrators_["margin"], OneVsRestCalibration) and raw.calibrators_["bayes"] is None


def test_an_unknown_calibration_is_refused_in_fit():
    X, y = make_classification(60, random_state=0)
    with pytest.raises(PanelError, match="calibration must be"):
        RobustFusionClassifier(team("platt")).fit(X, y)
