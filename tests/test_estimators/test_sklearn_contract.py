"""scikit-learn's own checks, all of them, none skipped; and the ways in which people drive estimators."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, TimeSeriesSplit, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimator,
    check_param_validation,
    check_parameters_default_constructible,
)

from estimators import (
    CovarianceWeights,
    RobustFusionClassifier,
    RobustFusionRegressor,
    SkillWeights,
    Specialist,
    make_fusion,
)
from fusion import TrimmedMean


def classifiers():
    return [
        ("line", LogisticRegression(max_iter=200)),
        ("tree", DecisionTreeClassifier(random_state=0)),
        ("flat", LogisticRegression(C=0.1, max_iter=200)),
    ]


def regressors():
    return [("line", Ridge()), ("tree", DecisionTreeRegressor(random_state=0)), ("flat", Ridge(10.0))]


ESTIMATORS = {
    "classifier, mean": (lambda: RobustFusionClassifier(classifiers()), 63),
    "classifier, trimmed mean": (lambda: RobustFusionClassifier(classifiers(), fusion="trimmed_mean"), 63),
    "regressor, mean": (lambda: RobustFusionRegressor(regressors()), 61),
    "regressor, median": (lambda: RobustFusionRegressor(regressors(), fusion="median"), 61),
    "specialist": (lambda: Specialist(LogisticRegression(max_iter=200)), 63),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_check_of_scikit_learn_passes(name):
    make, number = ESTIMATORS[name]
    results = check_estimator(make(), on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert not skipped
    assert sum(r["status"] == "passed" for r in results) == number  # of scikit-learn 1.9
    assert not any(r["expected_to_fail"] for r in results)


@pytest.mark.parametrize("make", [make for make, _ in list(ESTIMATORS.values())[:4]])
def test_checks_that_check_estimator_does_not_yield(make):
    estimator = make()
    name = type(estimator).__name__
    check_dataframe_column_names_consistency(name, estimator)
    check_param_validation(name, estimator)
    check_parameters_default_constructible(name, estimator)


def test_grid_search_reaches_operators_and_specialists():
    X, y = load_iris(return_X_y=True)
    grid = {"fusion": ["mean", TrimmedMean(n_byzantine=1)], "tree__max_depth": [1, 3]}
    search = GridSearchCV(RobustFusionClassifier(classifiers(), cv="none"), grid, cv=3).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    nested = RobustFusionClassifier(classifiers(), fusion=TrimmedMean(n_byzantine=1))
    assert nested.set_params(fusion__n_byzantine=0).fusion.n_byzantine == 0


@pytest.mark.parametrize("fusion", ["mean", "covariance", "arbiter", "median"])
def test_pickle_clone_and_joblib_keep_predictions(fusion, tmp_path):
    X, y = load_iris(return_X_y=True)
    fitted = RobustFusionClassifier(classifiers(), fusion=fusion).fit(X, y)
    expected = fitted.predict_proba(X)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(X), expected)
    joblib.dump(fitted, tmp_path / "model.joblib")
    assert np.array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(X), expected)
    assert np.array_equal(clone(fitted).fit(X, y).predict_proba(X), expected)


def test_parallel_jobs_change_no_bit():
    X, y = make_classification(120, random_state=0)
    one = RobustFusionClassifier(classifiers(), fusion="covariance").fit(X, y)
    two = RobustFusionClassifier(classifiers(), fusion="covariance", n_jobs=2, predict_n_jobs=2).fit(X, y)
    assert np.array_equal(one.predict_proba(X), two.predict_proba(X))
    assert np.array_equal(one.oof_panel_.values, two.oof_panel_.values)


@pytest.mark.parametrize("labels", [["a", "b", "c"], [10, 20, 30], [-1, 0, 1]])
def test_labels_of_any_kind_give_the_same_panel(labels):
    X, y = load_iris(return_X_y=True)
    plain = RobustFusionClassifier(classifiers()).fit(X, y)
    named = RobustFusionClassifier(classifiers()).fit(X, np.array(labels)[y])
    assert np.allclose(named.oof_panel_.values, plain.oof_panel_.values)
    assert set(named.predict(X)) <= set(labels)
    assert named.oof_panel_.output.values.tolist() == labels


def test_order_of_specialists_permutes_what_is_learned():
    X, y = load_iris(return_X_y=True)
    first = RobustFusionClassifier(classifiers(), fusion="covariance").fit(X, y)
    second = RobustFusionClassifier(classifiers()[::-1], fusion="covariance").fit(X, y)
    assert np.allclose(first.weights_, second.weights_[::-1], atol=1e-9)
    assert np.allclose(first.predict_proba(X), second.predict_proba(X))


def test_dropping_a_specialist_is_leaving_it_out():
    X, y = load_iris(return_X_y=True)
    dropped = RobustFusionClassifier(classifiers()).set_params(tree="drop").fit(X, y)
    absent = RobustFusionClassifier([m for m in classifiers() if m[0] != "tree"]).fit(X, y)
    assert np.array_equal(dropped.predict_proba(X), absent.predict_proba(X))
    assert dropped.named_estimators_["tree"] == "drop"


def test_time_series_and_groups_where_stacking_gives_up():
    X, y = make_classification(90, random_state=0)
    ordered = RobustFusionClassifier(classifiers(), cv=TimeSeriesSplit(3), fusion="covariance").fit(X, y)
    assert 0 < ordered.oof_coverage_ < 1
    assert np.isnan(ordered.oof_panel_.values).any()
    groups = np.repeat(np.arange(9), 10)
    for cv in (3, GroupKFold(3)):
        grouped = RobustFusionClassifier(classifiers(), cv=cv).fit(X, y, groups=groups)
        assert grouped.oof_coverage_ == 1.0


def test_sample_weight_counts_rows():
    X, y = make_classification(60, random_state=0)
    weight = np.random.default_rng(0).integers(1, 4, 60)
    team = classifiers()[:1]
    weighted = RobustFusionClassifier(team, cv="none").fit(X, y, sample_weight=weight)
    repeated = RobustFusionClassifier(team, cv="none").fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert np.allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-4)
    with pytest.raises(ValueError, match="at least one non-zero"):
        RobustFusionClassifier(team).fit(X, y, sample_weight=np.zeros(60))


def test_weights_that_a_model_cannot_take_are_told_how_to_leave_out():
    X, y = make_classification(60, random_state=0)
    near = [("near", Specialist(KNeighborsClassifier())), ("line", LogisticRegression())]
    with pytest.raises(TypeError, match=r"'near'.*does not accept sample_weight.*use_weights=False"):
        RobustFusionClassifier(near).fit(X, y, sample_weight=np.ones(60))
    near[0] = ("near", Specialist(KNeighborsClassifier(), use_weights=False))
    RobustFusionClassifier(near).fit(X, y, sample_weight=np.ones(60))


def test_two_targets_are_fused_where_voting_refuses():
    X, y = make_regression(80, n_targets=2, random_state=0)
    for fusion in ("mean", "median", "covariance", "arbiter", "geometric_median"):
        fitted = RobustFusionRegressor(regressors(), fusion=fusion).fit(X, y)
        assert fitted.predict(X).shape == y.shape
        assert fitted.prices_.value.sum() == pytest.approx(fitted.prices_.total, abs=1e-9)


def test_it_works_inside_pipelines_and_cross_validation():
    X, y = load_iris(return_X_y=True, as_frame=True)
    pipe = make_pipeline(StandardScaler(), make_fusion(*(m for _, m in classifiers())))
    assert cross_val_score(pipe, X, y, cv=3).mean() > 0.9
    own = RobustFusionClassifier(classifiers()).fit(X, y)
    assert own.feature_names_in_.tolist() == X.columns.tolist()
    with pytest.raises(ValueError, match="feature names"):
        own.predict(X[X.columns[::-1]])


def test_make_fusion_names_and_kind():
    named = make_fusion(Specialist(Ridge(), name="mine"), Ridge(), Ridge(2.0))
    assert [name for name, _ in named.estimators] == ["mine", "ridge", "ridge-2"]
    assert not is_classifier(named)
    with pytest.raises(ValueError, match="two specialists are named 'x'"):
        make_fusion(Specialist(Ridge(), name="x"), Specialist(Ridge(), name="x"))
    with pytest.raises(ValueError, match="at least one"):
        make_fusion()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"estimators": []}, ValueError, "non-empty list"),
        ({"estimators": [("a", "drop")]}, ValueError, "All estimators are dropped"),
        ({"estimators": [("fusion", LogisticRegression())]}, ValueError, "conflict"),
        ({"estimators": [("r", Ridge())]}, ValueError, "should be a classifier"),
        ({"fusion": "magic"}, ValueError, "there is no fusion 'magic'.*trimmed_mean"),
        ({"fusion": 3}, ValueError, "The 'fusion' parameter"),
        ({"fusion": "covariance", "cv": "none"}, ValueError, "learns from out-of-fold.*Set cv=5"),
        ({"fusion": TrimmedMean(n_byzantine=2)}, ValueError, "needs at least 5 specialists; got 3"),
        ({"cv": "prefit"}, ValueError, "freeze=True"),
    ],
)
def test_bad_parameters_say_the_way_out(change, error, text):
    X, y = load_iris(return_X_y=True)
    params = {"estimators": classifiers()} | change
    with pytest.raises(error, match=text):
        RobustFusionClassifier(**params).fit(X, y).predict(X)


def test_one_dimensional_input_is_refused_with_the_remedy():
    X, y = load_iris(return_X_y=True)
    fitted = RobustFusionClassifier(classifiers()).fit(X, y)
    with pytest.raises(ValueError, match=r"Expected 2D array.*reshape\(1, -1\)"):
        fitted.predict(X[0])


def test_learned_weights_on_frames_of_numbers():
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    panel = y[:, None] + rng.normal(size=(300, 4)) * [0.5, 1.0, 2.0, 4.0]
    skill = SkillWeights("inverse_mse").fit(panel[:, :, None], y, task="regression").weights_
    joint = CovarianceWeights().fit(panel[:, :, None], y, task="regression").weights_
    assert (np.diff(skill) < 0).all()
    assert joint[0] > 0.6
    assert skill.sum() == pytest.approx(1) and joint.sum() == pytest.approx(1)
    frame = pd.DataFrame(panel)
    assert frame.shape == (300, 4)


def test_verbose_reports_the_fits(capfd):
    X, y = load_iris(return_X_y=True)
    RobustFusionClassifier(classifiers(), cv=2, verbose=True).fit(X, y)
    out, err = capfd.readouterr()
    assert "fits of specialists" in err and "9/9" not in out
