"""Stored answers by sample id: any split, any table, unknown ids."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from estimators import PrecomputedSpecialist, RobustFusionClassifier, Specialist, Views
from theory import FaultWarning, PanelError

X, Y = load_iris(return_X_y=True)
IDS = np.arange(1000, 1150)
PROBA = LogisticRegression(max_iter=500).fit(X, Y).predict_proba(X)
WITH_ID = np.c_[X, IDS]
ORDER = np.random.default_rng(0).permutation(150)
CUBE = xr.DataArray(
    np.stack([PROBA[ORDER], np.full((150, 3), 1 / 3)], axis=1),
    dims=("sample", "specialist", "output"),
    coords={"sample": IDS[ORDER], "specialist": ["good", "idle"], "output": [0, 1, 2]},
)
TABLES = {
    "cube": (CUBE.transpose("output", "specialist", "sample"), {"pick": "good"}),
    "square": (CUBE.sel(specialist="good", drop=True), {}),
    "frame": (pd.DataFrame(PROBA, index=IDS, columns=[0, 1, 2]).iloc[ORDER], {}),
    "plain": (pd.DataFrame(PROBA, index=IDS, columns=["x", "y", "z"]), {"classes": [0, 1, 2]}),
    "mapping": ({i: p for i, p in zip(IDS.tolist(), PROBA, strict=True)}, {"classes": [0, 1, 2]}),
}


@pytest.mark.parametrize("name", TABLES)
def test_rows_are_found_by_id_in_every_kind_of_table(name):
    table, params = TABLES[name]
    past = PrecomputedSpecialist(table, key=[4], **params).fit(WITH_ID, Y)
    rows = np.array([149, 0, 7, 7])
    assert np.array_equal(past.predict_proba(WITH_ID[rows]), PROBA[rows])
    assert past.classes_.tolist() == [0, 1, 2]
    assert np.array_equal(past.predict(WITH_ID), PROBA.argmax(axis=1))
    assert is_classifier(past)
    for twin in (clone(past).fit(WITH_ID, Y), pickle.loads(pickle.dumps(past)), copy.deepcopy(past)):
        assert np.array_equal(twin.predict_proba(WITH_ID), PROBA)


def test_the_name_picks_from_a_cube():
    team = [
        ("good", PrecomputedSpecialist(CUBE, key=[4])),
        ("line", Specialist(LogisticRegression(max_iter=500), view=[0, 1, 2, 3])),
    ]
    clf = RobustFusionClassifier(team, cv=3).fit(WITH_ID, Y)
    assert np.allclose(clf.oof_panel_.sel(specialist="good").values, PROBA)
    with pytest.raises(
        PanelError, match=r"no specialist 'bad'; it has \['good', 'idle'\]. Name one with pick="
    ):
        RobustFusionClassifier([("bad", PrecomputedSpecialist(CUBE, key=[4])), team[1]]).fit(WITH_ID, Y)


def test_any_split_works_because_rows_have_names():
    team = [
        ("past", PrecomputedSpecialist(TABLES["frame"][0], key=("case", [0]))),
        ("line", Specialist(LogisticRegression(max_iter=500), view="flower")),
    ]
    views = Views(flower=X, case=IDS)
    scores = cross_val_score(RobustFusionClassifier(team, cv=3), views, Y, cv=4)
    assert scores.mean() > 0.95


def test_labels_and_numbers():
    frame = pd.DataFrame({"id": IDS})
    text = pd.Series(np.where(Y == 0, "yes", "no"), index=IDS)
    said = PrecomputedSpecialist(text, key="id").fit(frame, Y)
    assert said.classes_.tolist() == ["no", "yes"] and is_classifier(said)
    assert np.array_equal(said.predict(frame), text.to_numpy())
    numbers = PrecomputedSpecialist(pd.Series(X[:, 0], index=IDS), key="id").fit(frame, Y)
    assert is_regressor(numbers) and np.array_equal(numbers.predict(frame), X[:, 0])
    two = PrecomputedSpecialist(
        xr.DataArray(X[:, :2], dims=("sample", "output"), coords={"sample": IDS}), key="id"
    )
    assert is_regressor(two) and np.array_equal(two.fit(frame, Y).predict(frame), X[:, :2])
    codes = PrecomputedSpecialist(pd.Series(Y, index=IDS), key="id", classes=[0, 1, 2]).fit(frame, Y)
    assert np.array_equal(codes.predict_proba(frame), np.eye(3)[Y])


def test_the_index_of_a_frame_names_the_samples():
    frame = pd.DataFrame(X, index=IDS)
    past = PrecomputedSpecialist(TABLES["frame"][0]).fit(frame, Y)
    assert np.array_equal(past.predict_proba(frame[::-1]), PROBA[::-1])
    with pytest.raises(PanelError, match=r"sample ids need one column; got 4[.] Name it with key="):
        past.predict(X)
    assert np.array_equal(past.predict_proba(IDS[:, None]), PROBA)


def test_unknown_ids_are_named():  # E13
    past = PrecomputedSpecialist(TABLES["frame"][0], key=[4], name="past").fit(WITH_ID, Y)
    stray = WITH_ID.copy()
    stray[[3, 9], 4] = 999999
    with pytest.raises(
        PanelError,
        match=r"specialist 'past': 2 of 150 sample ids are not in the table \(first: 999999.0\). Set on_error='abstain'.",
    ):
        past.predict(stray)
    team = [("past", past), ("line", Specialist(LogisticRegression(max_iter=500), view=[0, 1, 2, 3]))]
    clf = RobustFusionClassifier(team, fusion="mean").fit(WITH_ID, Y)
    with pytest.raises(PanelError, match="2 of 150"):
        clf.predict(stray)
    team[0] = ("past", clone(past).set_params(on_error="abstain"))
    clf = RobustFusionClassifier(team, fusion="mean").fit(WITH_ID, Y)
    with pytest.warns(FaultWarning, match="'past': 2 of 150 sample ids are not in the table and abstain"):
        proba = clf.predict_proba(stray)
    alone = clf.named_estimators_["line"].predict_proba(stray)
    assert np.allclose(proba[[3, 9]], alone[[3, 9]])


def test_a_nan_row_is_an_abstention():
    frame = TABLES["frame"][0].copy()
    frame.loc[1005] = np.nan
    told = PrecomputedSpecialist(frame, key=[4]).fit(WITH_ID, Y).tell(WITH_ID)
    assert np.flatnonzero(told[1]).tolist() == [5]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (pd.Series([1.0, 2.0], index=["a", "a"]), "sample id 'a' occurs 2 times in the table"),
        (np.zeros((3, 2)), "table must be a DataArray, DataFrame, Series or mapping; got ndarray"),
        (
            xr.DataArray(np.zeros((3, 2)), dims=("sample", "output")),
            "needs a dim 'sample' with a coordinate of ids",
        ),
        (CUBE, "the table has no specialist None"),
    ],
)
def test_bad_tables_are_refused(table, text):
    with pytest.raises(PanelError, match=text):
        PrecomputedSpecialist(table).fit(np.zeros((2, 1)), [0, 1])
    with pytest.raises(PanelError, match="the table has 3 outputs for 2 classes"):
        PrecomputedSpecialist(TABLES["plain"][0], classes=["a", "b"]).fit(WITH_ID, Y)
    views = Views(flower=X, case=IDS)
    with pytest.raises(PanelError, match="give the specialist a view"):
        PrecomputedSpecialist(TABLES["frame"][0]).fit(views, Y).predict(views)


def test_one_answer_does_not_read_the_whole_table(monkeypatch):
    rng = np.random.default_rng(0)
    past = PrecomputedSpecialist(pd.DataFrame(rng.random((50, 2)), columns=["a", "b"])).fit(None, None)
    monkeypatch.setattr("estimators.precomputed._rows", None)
    assert past.tell(pd.DataFrame(index=[5]))[0].shape == (1, 2)
    assert past.predict_proba(pd.DataFrame(index=[5])).shape == (1, 2)


@pytest.mark.parametrize(
    ("table", "params", "text"),
    [
        ({}, {}, "the table of specialist 'table' is empty"),
        ([1, 2], {}, "table must be a DataArray, DataFrame, Series or mapping; got list"),
        ({1: [0.2, 0.8], 2: [1.0]}, {}, "the table has 2 outputs, and for sample id 2 1"),
        ({1: [0.2, 0.8], 2: [1.0]}, {"classes": "ab"}, "answer to sample id 2 cannot be used: shape"),
        ({1: "a", 2: "c"}, {"classes": ["a", "b"]}, "sample id 2 cannot be used: said 'c'"),
    ],
)
def test_tables_that_cannot_be_read_name_the_sample(table, params, text):
    params = {key: list(value) for key, value in params.items()}
    with pytest.raises(PanelError, match=text):
        PrecomputedSpecialist(table, **params).fit(None, None)


def test_truth_values_of_numpy_are_classes():
    past = PrecomputedSpecialist({1: np.True_, 2: np.False_}).fit(None, None)
    assert past.classes_.tolist() == [False, True]
    assert past.predict(np.array([[1], [2]])).tolist() == [True, False]


def test_ids_of_another_kind_are_told_apart():
    past = PrecomputedSpecialist({"7": 1.0, "8": 2.0}).fit(None, None)
    with pytest.raises(
        PanelError,
        match=r"1 of 1 sample ids are not in the table \(first: 7\).* has ids like '7': turn one kind",
    ):
        past.tell(np.array([[7]]))
    with pytest.raises(PanelError, match=r"\(first: '9'\). Set on_error='abstain'.$"):
        past.tell(np.array([["9"]]))
