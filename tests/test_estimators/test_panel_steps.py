"""The panel as pipeline steps: out-of-fold in fit, full fit in transform, any fusion as the last step."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import check_estimator

from estimators import (
    CovarianceWeights,
    PanelFusionClassifier,
    PanelFusionRegressor,
    PanelTransformer,
    RobustFusionClassifier,
    RobustFusionRegressor,
    Specialist,
    Views,
)
from fusion import TrimmedMean
from theory import BudgetError, FaultWarning, PanelError

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])


def team():
    return [
        ("line", Specialist(LogisticRegression(max_iter=500), cost=2.0, owner="us")),
        ("tree", DecisionTreeClassifier(random_state=0)),
        ("margin", SVC()),
    ]


def regressors():
    return [("line", Ridge()), ("tree", DecisionTreeRegressor(random_state=0))]


# Both compare fit_transform with transform, which differ by design: out of fold, and fitted on everything.
BY_DESIGN = {"check_transformer_general", "check_transformer_data_not_an_array"}
CHECKED = {
    "cube": (
        lambda: PanelTransformer(team()[:2]),
        51,
        BY_DESIGN | {"check_array_api_input"},
    ),  # of DataArrays
    "flat": (lambda: PanelTransformer(team()[:2], flatten=True), 52, BY_DESIGN),
    "flat numbers": (lambda: PanelTransformer(regressors(), flatten=True), 52, BY_DESIGN),
    "mean": (PanelFusionRegressor, 58, set()),
    "median": (lambda: PanelFusionRegressor("median"), 58, set()),
}


@pytest.mark.parametrize("name", CHECKED)
def test_every_check_of_scikit_learn_passes_but_those_listed(name):
    make, number, expected = CHECKED[name]
    results = check_estimator(make(), on_skip=None, on_fail=None)
    assert {r["check_name"] for r in results if r["status"] == "failed"} == expected
    assert not [r["check_name"] for r in results if r["status"] == "skipped"]
    assert sum(r["status"] == "passed" for r in results) == number  # of scikit-learn 1.9


def test_fit_transform_is_out_of_fold_and_transform_the_full_fit():
    step = PanelTransformer(team(), cv=3)
    panel = step.fit_transform(X, NAMES[Y])
    whole = RobustFusionClassifier(team(), cv=3).fit(X, NAMES[Y])
    assert panel.dims == ("sample", "specialist", "output")
    assert np.array_equal(panel.values, whole.oof_panel_.values)
    assert panel.specialist.values.tolist() == ["line", "tree", "margin"]
    assert panel.output.values.tolist() == NAMES.tolist() == step.classes_.tolist()
    assert panel.cost.values.tolist() == [2.0, 1.0, 1.0] and panel.owner.values.tolist() == [
        "us",
        "tree",
        "margin",
    ]
    full = step.transform(X)
    assert (full.sel(specialist="tree").values.max(axis=1) == 1).all()
    assert np.array_equal(full.values, PanelTransformer(team(), cv=3).fit(X, NAMES[Y]).transform(X).values)
    tree = DecisionTreeClassifier(random_state=0).fit(X, NAMES[Y])
    assert np.array_equal(full.sel(specialist="tree").values, tree.predict_proba(X))
    assert np.array_equal(pickle.loads(pickle.dumps(step)).transform(X).values, full.values)


@pytest.mark.parametrize(
    "fusion", ["mean", "median", "log_pool", "covariance", "accuracy", TrimmedMean(n_byzantine=1)]
)
def test_two_steps_are_the_one_ensemble(fusion):
    y = NAMES[Y]
    pipe = make_pipeline(PanelTransformer(team(), cv=3), PanelFusionClassifier(fusion)).fit(X, y)
    whole = RobustFusionClassifier(team(), fusion=fusion, cv=3).fit(X, y)
    assert np.allclose(pipe.predict_proba(X), whole.predict_proba(X), atol=1e-12)
    assert np.array_equal(pipe.predict(X), whole.predict(X))
    Z, t = load_diabetes(return_X_y=True)
    if fusion in ("mean", "median", "covariance"):
        pipe = make_pipeline(PanelTransformer(regressors(), cv=3), PanelFusionRegressor(fusion)).fit(Z, t)
        whole = RobustFusionRegressor(regressors(), fusion=fusion, cv=3).fit(Z, t)
        assert np.allclose(pipe.predict(Z), whole.predict(Z), atol=1e-9)


def test_grid_search_over_fusions_and_specialists():
    pipe = make_pipeline(StandardScaler(), PanelTransformer(team()[:2], cv=2), PanelFusionClassifier())
    grid = {
        "panelfusionclassifier__fusion": ["mean", "covariance"],
        "paneltransformer__tree__max_depth": [1, 3],
    }
    search = GridSearchCV(pipe, grid, cv=2).fit(X, Y)
    assert len(search.cv_results_["params"]) == 4 and search.best_score_ > 0.9
    # the panel itself is searched over, cut along samples
    panel = PanelTransformer(team(), cv=3).fit_transform(X, Y)
    inner = GridSearchCV(PanelFusionClassifier(), {"fusion": ["mean", "median", CovarianceWeights()]}, cv=3)
    assert inner.fit(panel, Y).best_score_ > 0.9
    assert cross_val_score(PanelFusionClassifier("covariance"), panel, Y, cv=3).mean() > 0.9


def test_flat_panels_have_names_and_frames():
    step = PanelTransformer(team(), flatten=True).set_output(transform="pandas")
    frame = step.fit_transform(X, NAMES[Y])
    assert frame.columns.tolist()[:4] == [
        "line__setosa",
        "line__versicolor",
        "line__virginica",
        "tree__setosa",
    ]
    assert isinstance(step.transform(X), pd.DataFrame)
    stacked = make_pipeline(PanelTransformer(team(), flatten=True), LogisticRegression()).fit(X, Y)
    assert stacked.score(X, Y) > 0.95
    cube = PanelTransformer(team())
    assert not hasattr(cube, "get_feature_names_out")
    with pytest.raises(AttributeError):
        cube.set_output(transform="pandas")
    with config_context(transform_output="pandas"):
        assert cube.fit_transform(X, Y).dims == ("sample", "specialist", "output")


def test_views_absences_and_partial_coverage():
    gap = X[:, :2].copy()
    gap[::5] = np.nan
    views = Views(a=gap, b=X[:, 2:])
    members = [
        ("a", Specialist(LogisticRegression(max_iter=500), view="a")),
        ("b", Specialist(LogisticRegression(max_iter=500), view="b")),
    ]
    pipe = make_pipeline(PanelTransformer(members, cv=3), PanelFusionClassifier()).fit(views, Y)
    panel = pipe[0].transform(views)
    assert np.isnan(panel.values[::5, 0]).all() and np.isfinite(panel.values[:, 1]).all()
    assert pipe.score(views, Y) > 0.9
    order = np.random.default_rng(0).permutation(150)
    timed = PanelTransformer(team(), cv=TimeSeriesSplit(3))
    some = timed.fit_transform(X[order], Y[order])
    assert timed.oof_coverage_ < 1 and np.isnan(some.values).all(axis=(1, 2)).any()
    learned = PanelFusionClassifier("covariance").fit(some, Y[order])
    assert np.isfinite(learned.weights_).all()
    with pytest.warns(
        FaultWarning, match="samples have no answer to fuse .first: sample 0.; they get the prior"
    ):
        proba = learned.predict_proba(some)
    assert np.allclose(proba[0], np.bincount(Y) / 150)


def test_a_dataarray_is_read_by_name():
    step = PanelTransformer(team(), cv=3)
    panel = step.fit_transform(X, NAMES[Y])
    fitted = PanelFusionClassifier("covariance").fit(panel, NAMES[Y])
    expected = fitted.predict_proba(panel)
    shuffled = panel.isel(specialist=[2, 0, 1], output=[1, 2, 0]).transpose("output", "sample", "specialist")
    assert np.array_equal(fitted.predict_proba(shuffled), expected)
    assert np.array_equal(clone(fitted).fit(shuffled, NAMES[Y]).predict(panel), fitted.predict(panel))
    with pytest.raises(PanelError, match=r"has the specialists \['line', 'tree'\]; fitted were"):
        fitted.predict(panel.isel(specialist=[0, 1]))
    with pytest.raises(PanelError, match="panel needs the dims"):
        fitted.predict(panel.rename(specialist="member"))
    with pytest.raises(PanelError, match=r"panel must be \(sample, 3 specialists, 3 outputs\) as in fit"):
        fitted.predict(panel.values[:, :2])


def test_faults_are_spent_from_the_budget_and_absences_are_not():
    panel = PanelTransformer(team(), cv=3).fit_transform(X, Y).values
    lying = panel.copy()
    lying[:, 1] = 1e6
    gone = panel.copy()
    gone[:, 1] = np.nan
    with pytest.raises(
        BudgetError, match=r"sample 0: 1 specialist gave invalid values \('1'\), but mean withstands 0"
    ):
        PanelFusionClassifier("mean").fit(panel, Y).predict(lying)
    for broken in (lying, np.where(np.isnan(gone), np.inf, gone), np.where(np.isnan(gone), -1.0, gone)):
        robust = PanelFusionClassifier(TrimmedMean(n_byzantine=1)).fit(panel, Y)
        assert np.allclose(
            robust.predict_proba(broken), np.nan_to_num(panel[:, [0, 2]]).mean(axis=1), atol=1e-9
        )
    alone = PanelFusionClassifier("mean").fit(panel, Y)
    assert np.allclose(alone.predict_proba(gone), panel[:, [0, 2]].mean(axis=1))
    numbers = np.array([[1.0, 2.0, np.inf]])
    with pytest.raises(BudgetError, match="withstands 0"):
        PanelFusionRegressor().fit([[1.0, 2.0, 3.0]], [1.0]).predict(numbers[:, :, None])


def test_several_outputs_and_weights():
    rng = np.random.default_rng(0)
    t = rng.normal(size=(80, 2))
    panel = t[:, None] + rng.normal(size=(80, 4, 2)) * [[0.1], [1.0], [1.0], [5.0]]
    fitted = PanelFusionRegressor("inverse_mse").fit(panel, t)
    assert fitted.predict(panel).shape == t.shape and fitted.weights_[0] > 0.9
    half = np.r_[np.ones(40), np.zeros(40)]
    weighted = PanelFusionRegressor("inverse_mse").fit(panel, t, sample_weight=half).weights_
    assert np.allclose(weighted, PanelFusionRegressor("inverse_mse").fit(panel[:40], t[:40]).weights_)


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (
            lambda: PanelFusionClassifier().fit(np.zeros((4, 150, 3)), Y),
            r"panel must be \(sample, specialist, output\); got shape \(4, 150, 3\) for 150 targets. Transpose it",  # E14
        ),
        (
            lambda: PanelFusionClassifier().fit(X, Y),
            r"got shape \(150, 4\). Transpose it or pass a DataArray",
        ),
        (lambda: PanelFusionClassifier().fit(np.zeros((150, 2, 5)), Y), "has 5 outputs and y 3 classes"),
        (
            lambda: PanelFusionClassifier().fit(
                xr.DataArray(
                    np.zeros((2, 2, 2)),
                    dims=("sample", "specialist", "output"),
                    coords={"output": ["a", "b"]},
                ),
                ["a", "c"],
            ),
            r"y holds \['c'\], which no output of the panel is named",
        ),
        (
            lambda: PanelFusionRegressor().fit(np.zeros((5, 2, 3)), np.zeros(5)),
            "the panel has 3 outputs, y has 1",
        ),
        (
            lambda: PanelFusionClassifier("covariance").fit(np.full((4, 2, 2), np.nan), [0, 1, 0, 1]),
            "no answers to learn from",
        ),
        (
            lambda: PanelFusionClassifier("magic").fit(np.full((2, 2, 2), 0.5), [0, 1]),
            "there is no fusion 'magic'",
        ),
        (
            lambda: PanelTransformer(team()).fit_transform(X[[0, 60, 120, 61]], Y[[0, 60, 120, 61]]),
            "no out-of-fold panel: class 0 has 1 sample. Give more samples",
        ),
    ],
)
def test_bad_input_says_the_way_out(work, text):
    with pytest.raises(PanelError, match=text):
        work()


def test_folds_given_as_a_list_and_fresh_rows():
    splits = list(KFold(3, shuffle=True, random_state=1).split(X))
    assert PanelTransformer(team(), cv=splits).fit_transform(X, Y).shape == (150, 3, 3)
    frozen = [("line", Specialist(LogisticRegression(max_iter=500).fit(X, Y), freeze=True))]
    fresh = PanelTransformer(frozen, cv="prefit").fit_transform(X, Y)
    assert np.array_equal(fresh.values[:, 0], frozen[0][1].model.predict_proba(X))
    with pytest.raises(ValueError, match="non-empty list"):
        PanelTransformer([]).fit(X, Y)


def test_names_are_matched_only_where_both_panels_have_them():
    rng = np.random.default_rng(0)
    first = rng.random((60, 3, 1))
    panel = np.concatenate([first, 1 - first], axis=2)
    y = (panel[:, :, 1].mean(axis=1) > 0.5).astype(int)
    plain = PanelFusionClassifier("covariance").fit(panel, y)
    for names in ([0, 1, 2], ["ear", "eye", "nose"]):
        told = xr.DataArray(panel, dims=("sample", "specialist", "output"), coords={"specialist": names})
        assert np.array_equal(plain.predict_proba(told), plain.predict_proba(panel))
    named = PanelFusionClassifier("covariance").fit(told, y)
    turned = told.isel(specialist=[2, 0, 1])
    assert np.array_equal(named.predict_proba(turned), plain.predict_proba(panel))
    with pytest.raises(PanelError, match=r"the panel has the specialists \['ear', 'eye'\]; fitted were"):
        named.predict(told.isel(specialist=[0, 1]))
    twice = told.assign_coords(specialist=["ear", "ear", "eye"])
    with pytest.raises(PanelError, match="the specialist 'ear' occurs 2 times"):
        PanelFusionClassifier("mean").fit(twice, y)


def test_costs_and_owners_are_those_of_the_team_that_was_fitted():
    step = PanelTransformer(team()).fit(X, Y)
    before = step.transform(X[:5])
    step.set_params(estimators=[("other", LogisticRegression(max_iter=500))])
    xr.testing.assert_identical(step.transform(X[:5]), before)


def test_a_specialist_that_failed_in_fit_keeps_its_cost_and_owner():
    broken = Specialist(LogisticRegression(C=-1.0), cost=7.0, owner="them", on_error="abstain")
    with pytest.warns(FaultWarning, match="'broken' failed in fit"):
        step = PanelTransformer([("tree", DecisionTreeClassifier()), ("broken", broken)]).fit(X, Y)
    panel = step.transform(X[:4])
    assert panel["cost"].values.tolist() == [1.0, 7.0] and panel["owner"].values.tolist() == ["tree", "them"]
    assert np.isnan(panel.sel(specialist="broken")).all()
