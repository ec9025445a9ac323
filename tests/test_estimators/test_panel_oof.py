"""The out-of-fold panel: nobody answers what it was fitted on; classes by label; calibration across folds."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, ShuffleSplit
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import LinearSVC

from estimators import RobustFusionClassifier, RobustFusionRegressor, Specialist, Views
from estimators.panel import (
    Answers,
    align,
    answer_one,
    calibrate,
    fit_one,
    make_splits,
    n_rows,
    out_of_fold,
    take_rows,
)
from theory import FaultWarning, PanelError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = RNG.integers(3, size=60)


class Counting(ClassifierMixin, BaseEstimator):
    """Says how many rows it was fitted on, and refuses rows that it knows."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.known_ = {row.tobytes() for row in np.ascontiguousarray(X)}
        self.n_ = len(X)
        return self

    def predict_proba(self, X):
        if any(row.tobytes() in self.known_ for row in np.ascontiguousarray(X)) and len(X) < 60:
            raise AssertionError("asked about a row of its training set")
        return np.tile(np.array([self.n_ / 100, 1 - self.n_ / 100, 0.0]), (len(X), 1))


class Failing(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        raise RuntimeError("no memory")


def folds_of(specialist, cv=3, X=X, y=Y, groups=None, random_state=0, classifier=True):
    splits, reason = make_splits(cv, X, y, classifier=classifier, groups=groups, random_state=random_state)
    whole = fit_one(specialist, X, y, None)
    return out_of_fold([specialist], [whole], X, y, splits)[0], splits, reason


def test_every_row_is_answered_once_by_who_did_not_see_it():
    folds, splits, reason = folds_of(Specialist(Counting()))
    assert reason == "" and sorted(np.concatenate([rows for rows, _ in folds]).tolist()) == list(range(60))
    for (rows, answers), (train, test) in zip(folds, splits, strict=True):
        np.testing.assert_array_equal(rows, test)
        np.testing.assert_allclose(answers.values[:, 0], len(train) / 100)
        assert not answers.absent.any() and answers.failure == ""


def test_one_nearest_neighbour_shows_a_leak():
    """In-sample it is always right; out of fold it is not."""
    for make, model, y in (
        (RobustFusionClassifier, KNeighborsClassifier(1), Y),
        (RobustFusionRegressor, KNeighborsRegressor(1), RNG.normal(size=60)),
    ):
        fused = make([("nn", model), ("nn2", model)], fusion="mean", cv=4, random_state=0).fit(X, y)
        assert fused.score(X, y) == pytest.approx(1.0)
        assert fused.solo_scores_["nn"] < 0.6


def test_frozen_specialists_are_asked_and_not_fitted():
    model = LogisticRegression().fit(X, Y)
    specialist = Specialist(model, freeze=True)
    folds, _, _ = folds_of(specialist)
    for rows, answers in folds:
        np.testing.assert_allclose(answers.values, model.predict_proba(X[rows]))


def test_failures():
    with pytest.raises(RuntimeError, match="no memory"):
        fit_one(Specialist(Failing()), X, Y, None)
    text = fit_one(Specialist(Failing(), on_error="abstain"), X, Y, None)
    assert text == "RuntimeError: no memory"
    answers = answer_one(text, X)
    assert answers.absent.all() and np.isnan(answers.values).all() and answers.failure == text
    assert np.isnan(align(answers, np.arange(3), name="f", absent_class="missing", extra_class="raise")).all()


def test_missing_views_are_absences():
    gaps = X.copy()
    gaps[::4] = np.nan
    views = Views(a=X, b=gaps)
    member = fit_one(Specialist(LogisticRegression(), view="b"), views, Y, None)
    answers = answer_one(member, views)
    np.testing.assert_array_equal(answers.absent, np.arange(60) % 4 == 0)
    assert (
        np.isnan(answers.values[answers.absent]).all() and np.isfinite(answers.values[~answers.absent]).all()
    )


def test_splits():
    rows = np.arange(60)
    splits, reason = make_splits(5, X, Y, classifier=True, groups=None, random_state=None)
    assert len(splits) == 5 and reason == ""
    for _, test in splits:
        assert np.abs(np.bincount(Y[test], minlength=3) - np.bincount(Y) / 5).max() < 1
    rare = np.r_[np.zeros(57, int), 1, 1, 1]
    assert len(make_splits(5, X, rare, classifier=True, groups=None, random_state=0)[0]) == 3
    assert make_splits(5, X, np.r_[np.zeros(59, int), 1], classifier=True, groups=None, random_state=0) == (
        [], "class 1 has 1 sample",
    )  # fmt: skip
    assert (
        make_splits(5, X, np.zeros(60, int), classifier=True, groups=None, random_state=0)[1]
        == "y has one class"
    )
    assert (
        make_splits(5, X[:1], Y[:1], classifier=False, groups=None, random_state=0)[1] == "there is 1 sample"
    )
    assert len(make_splits(5, X[:3], X[:3, 0], classifier=False, groups=None, random_state=0)[0]) == 3
    assert make_splits("none", X, Y, classifier=True, groups=None, random_state=0) == ([], "cv='none'")
    train, test = make_splits("prefit", X, Y, classifier=True, groups=None, random_state=0)[0][0]
    assert len(train) == 0 and test.tolist() == rows.tolist()
    given = [(rows[:30], rows[30:])]
    assert (
        make_splits(given, X, Y, classifier=True, groups=None, random_state=0)[0][0][1].tolist()
        == given[0][1].tolist()
    )


@pytest.mark.parametrize("classifier", [True, False])
@pytest.mark.parametrize("cv", [4, LeaveOneGroupOut()], ids=str)
def test_groups_stay_together(cv, classifier):
    groups = RNG.integers(6, size=60)
    for train, test in make_splits(cv, X, Y, classifier=classifier, groups=groups, random_state=0)[0]:
        assert not set(groups[train]) & set(groups[test])


def test_rows_never_asked_stay_out():
    fused = RobustFusionClassifier(
        [("a", LogisticRegression()), ("b", KNeighborsClassifier())],
        cv=ShuffleSplit(1, test_size=20, random_state=0),
    )
    fused.fit(X, Y)
    asked = ~np.isnan(fused.oof_panel_.values).all(axis=(1, 2))
    assert asked.sum() == 20 and fused.oof_coverage_ == pytest.approx(20 / 60)


def test_repeated_rows_are_averaged():
    rows = np.arange(60)
    cv = [(rows[:40], rows[40:]), (rows[20:40], rows[40:])]
    fused = RobustFusionClassifier([("a", LogisticRegression()), ("b", KNeighborsClassifier())], cv=cv).fit(
        X, Y
    )
    two = [LogisticRegression().fit(X[train], Y[train]).predict_proba(X[40:]) for train, _ in cv]
    np.testing.assert_allclose(fused.oof_panel_.values[40:, 0], np.mean(two, axis=0))


def answers(values, classes, absent=None):
    values = np.asarray(values, dtype=float)
    return Answers(
        values, np.asarray(classes), np.zeros(len(values), bool) if absent is None else np.asarray(absent)
    )


def test_align_by_label():
    said = answers([[0.1, 0.9], [0.4, 0.6]], ["dog", "cat"])
    classes = np.array(["bat", "cat", "dog"])
    aligned = align(said, classes, name="s", absent_class="missing", extra_class="raise")
    np.testing.assert_array_equal(aligned, [[np.nan, 0.9, 0.1], [np.nan, 0.6, 0.4]])
    aligned = align(said, classes, name="s", absent_class="zero", extra_class="raise")
    np.testing.assert_array_equal(aligned, [[0, 0.9, 0.1], [0, 0.6, 0.4]])
    same = align(said, np.array(["dog", "cat"]), name="s", absent_class="missing", extra_class="raise")
    np.testing.assert_array_equal(same, said.values)


def test_align_extra_classes():
    said = answers([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]], [1, 2, 9])
    with pytest.raises(PanelError, match=r"specialist 's' predicts classes \[9\] that are not in y"):
        align(said, np.array([1, 2, 3]), name="s", absent_class="missing", extra_class="raise")
    dropped = align(said, np.array([1, 2, 3]), name="s", absent_class="zero", extra_class="drop")
    np.testing.assert_allclose(dropped, [[0.4, 0.6, 0.0], [np.nan] * 3])


def test_align_spoils_rows_that_are_not_finite():
    said = answers([[0.2, np.inf], [0.5, 0.5], [0.1, 0.9]], [0, 1], absent=[False, False, True])
    for classes in ([0, 1], [0, 1, 2]):
        aligned = align(said, np.array(classes), name="s", absent_class="zero", extra_class="raise")
        assert np.isnan(aligned[0]).all() and aligned[1, :2].tolist() == [0.5, 0.5]
    assert np.isnan(aligned[2]).all()


def test_calibration_uses_the_other_folds_only():
    rng = np.random.default_rng(1)
    y = rng.integers(2, size=400)
    margin = np.where(y == 1, 1.0, -1.0) * 2 + 2 * rng.normal(size=400)
    values = np.column_stack([-margin, margin])
    rows = np.split(np.arange(400), 4)
    folds = [(r, answers(values[r], [0, 1])) for r in rows]
    calibrator, calibrated = calibrate(folds, "sigmoid", y, np.array([0, 1]), None)
    from estimators.calibration import make_calibrator

    for j, (r, said) in enumerate(calibrated):
        others = np.concatenate([rows[i] for i in range(4) if i != j])
        alone = make_calibrator("sigmoid").fit(values[others], y[others])
        np.testing.assert_allclose(said.values, alone.transform(values[r]))
    whole = make_calibrator("sigmoid").fit(values, y)
    np.testing.assert_allclose(calibrator.transform(values), whole.transform(values))
    moved = y.copy()
    moved[rows[0]] = 1 - moved[rows[0]]  # its own labels do not reach a fold
    again = calibrate(folds, "sigmoid", moved, np.array([0, 1]), None)[1]
    np.testing.assert_allclose(again[0][1].values, calibrated[0][1].values)
    np.testing.assert_array_equal(folds[0][1].values, values[rows[0]])


def test_a_fold_without_some_classes_is_left_out_of_calibration():
    rng = np.random.default_rng(2)
    y = np.r_[rng.integers(2, size=60), np.full(5, 2)]
    full = rng.dirichlet(np.ones(3), size=65)
    folds = [
        (np.arange(30), answers(full[:30], [0, 1, 2])),
        (np.arange(30, 60), answers(full[30:60], [0, 1, 2])),
        (np.arange(60, 65), answers(full[60:, :2] / full[60:, :2].sum(axis=1, keepdims=True), [0, 1])),
    ]
    with pytest.warns(
        FaultWarning, match="5 out-of-fold answers come from folds that lacked some of the classes"
    ):
        _, calibrated = calibrate(folds, "temperature", y, np.array([0, 1, 2]), None)
    assert calibrated[2][1].absent.all() and np.isnan(calibrated[2][1].values).all()
    assert np.isfinite(calibrated[0][1].values).all() and not calibrated[0][1].absent.any()


def test_nothing_to_calibrate_on():
    nothing = [(np.arange(4), answers(np.full((4, 2), np.nan), [0, 1]))]
    with pytest.raises(PanelError, match="no out-of-fold row to calibrate on"):
        calibrate(nothing, "sigmoid", np.array([0, 1, 0, 1]), np.array([0, 1]), None)


def test_decision_functions_become_probabilities():
    fused = RobustFusionClassifier([("svc", LinearSVC()), ("log", LogisticRegression())], random_state=0).fit(
        X, Y
    )
    panel = fused.oof_panel_.values
    np.testing.assert_allclose(panel.sum(axis=2), 1.0)
    assert (panel >= 0).all()


@pytest.mark.parametrize(
    "make",
    [np.asarray, pd.DataFrame, csr_matrix, lambda X: Views(all=X)],
    ids=["numpy", "pandas", "sparse", "views"],
)
def test_rows_of_every_kind(make):
    given = make(X)
    part = take_rows(given, np.array([5, 2]))
    assert (n_rows(given), n_rows(part)) == (60, 2)
    plain = (
        part.toarray()
        if hasattr(part, "toarray")
        else part["all"]
        if isinstance(part, Views)
        else np.asarray(part)
    )
    np.testing.assert_array_equal(plain, X[[5, 2]])
