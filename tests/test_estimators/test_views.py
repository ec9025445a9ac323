"""Views: aligned inputs of several kinds, cut by every splitter, with gaps that stay gaps."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.compose import make_column_selector
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    train_test_split,
)
from sklearn.pipeline import make_pipeline

from estimators import RobustFusionClassifier, Specialist, Views
from estimators.views import select_view
from theory import PanelError


def example(n=12):
    """Return five kinds of views; row i can be told by its values."""
    rows = np.arange(n, dtype=float)
    return Views(
        array=np.stack([rows, rows + 0.5], axis=1),
        frame=pd.DataFrame({"a": rows, "b": rows * 2}, index=np.arange(n) + 100),
        sparse=sparse.csr_array(np.diag(rows + 1)),
        text=[f"text {i}" for i in range(n)],
        image=np.broadcast_to(rows[:, None, None], (n, 3, 2)).copy(),
    )


def rows_of(X):
    """Return the row number that each view holds, read back from its values."""
    text = [int(text.split()[1]) for text in X["text"]]
    return [
        X["array"][:, 0].astype(int).tolist(),
        X["frame"]["a"].astype(int).tolist(),
        (X["sparse"].max(axis=1).toarray().ravel().astype(int) - 1).tolist() if len(X) else [],
        text,
        X["image"][:, 0, 0].astype(int).tolist(),
    ]


def test_shape_names_and_kinds():
    X = example()
    assert (len(X), X.shape, X.ndim) == (12, (12, 2 + 2 + 12 + 1 + 6), 2)
    assert X.names == ("array", "frame", "sparse", "text", "image") == tuple(X)
    assert "text" in X and "smell" not in X
    assert isinstance(X["frame"], pd.DataFrame)
    assert sparse.issparse(X["sparse"])
    assert X["text"].shape == (12,)  # one axis: what vectorizers want
    assert "Views(12 samples; columns of array: 2, frame: 2" in repr(X)


def test_numbers_become_a_column_and_texts_stay_in_one_axis():
    X = Views(
        number=[1, None, 3.5],
        series=pd.Series([1.0, 2.0, 3.0], name="s"),
        one_axis=np.arange(3),
        mixed=["a", None, "c"],
        ragged=[[1], [1, 2], [3]],
        coo=sparse.coo_array(np.eye(3)),
    )
    assert X["number"].shape == X["series"].shape == X["one_axis"].shape == (3, 1)
    assert X["number"].dtype == np.float64
    assert X["mixed"].shape == X["ragged"].shape == (3,)
    assert X.mask["number"].tolist() == X.mask["mixed"].tolist() == [True, False, True]
    assert X[[2, 0]]["coo"].toarray().tolist() == [[0, 0, 1], [1, 0, 0]]  # which coo itself cannot do
    assert Views(words=[["a", "b"], ["c", "d"]])["words"].shape == (2,)


@given(st.lists(st.lists(st.integers(0, 11), max_size=8), min_size=1, max_size=3))
def test_cutting_is_cutting_every_view(cuts):
    X, left = example(), np.arange(12)
    for cut in cuts:
        rows = np.array(cut, dtype=int)[: len(left)] % max(len(left), 1)
        X, left = X.take(rows), left[rows]
    assert len(X) == len(left) == X.shape[0]
    if len(left):
        assert rows_of(X) == [left.tolist()] * 5
    assert {name: len(mask) for name, mask in X.mask.items()} == dict.fromkeys(X.names, len(left))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, -5), [11, 6, 1]),
        ([3, 1, 3], [3, 1, 3]),
        ([-1], [11]),
        (7, [7]),
        (np.arange(12) % 5 == 0, [0, 5, 10]),
        ([i == 4 for i in range(12)], [4]),
        ([], []),
    ],
)
def test_keys_of_every_kind(key, expected):
    X = example()
    assert X[key]["array"][:, 0].tolist() == expected
    assert X.iloc[key]["text"].tolist() == [f"text {i}" for i in expected]


def test_nothing_is_copied_until_a_view_is_asked_for():
    values = np.zeros((1000, 50))
    X = Views(big=values, small=np.arange(1000.0))
    assert X["big"] is values
    half = X[:500]
    assert half._views["big"] is values
    assert half["big"].shape == (500, 50)
    assert half[::2]["small"].ravel().tolist() == list(range(0, 500, 2))


def test_a_pickle_holds_the_samples_that_are_left():
    X = Views(big=np.random.default_rng(0).random((1000, 50)), text=["x"] * 1000)[:3]
    sent = pickle.dumps(X)
    assert len(sent) < 5000
    back = pickle.loads(sent)
    assert np.array_equal(back["big"], X["big"]) and back.shape == X.shape
    assert back[1:]["text"].tolist() == ["x", "x"]


def test_copies_share_nothing_and_inputs_stay_as_they_are():
    values = np.arange(6.0).reshape(3, 2)
    values.flags.writeable = False
    X = Views(a=values[::-1], b=[["x"], ["y"], ["z"]])
    other = X.copy()
    other["a"][0, 0] = 99.0
    other.mask["a"][0] = False
    assert X["a"][0, 0] == 4.0 and X.mask["a"].all()
    assert X[[0]]["a"].tolist() == [[4.0, 5.0]]


def test_absent_rows():
    X = Views(
        array=np.array([[1.0, np.nan], [np.nan, np.nan], [1.0, 1.0]]),
        frame=pd.DataFrame({"a": [1, None, 3], "b": ["x", None, None]}),
        objects=[None, {"any": "thing"}, float("nan")],
        nullable=pd.Series(["a", pd.NA, "c"], dtype="string"),
        dates=np.array(["2020-01-01", "NaT", "2020-01-03"], dtype="datetime64[D]"),
        whole=np.ones((3, 1), dtype=int),
        sparse=sparse.csr_array((3, 4)),
        cells=np.array([[None, None], [np.zeros(2), None], [pd.NA, pd.NaT]], dtype=object),
    )
    assert {name: mask.tolist() for name, mask in X.mask.items()} == {
        "array": [True, False, True],
        "frame": [True, False, True],
        "objects": [False, True, False],
        "nullable": [True, False, True],
        "dates": [True, False, True],
        "whole": [True, True, True],
        "sparse": [True, True, True],
        "cells": [False, True, False],
    }


def test_a_mask_overrules_what_the_values_look_like():
    X = Views(
        {"a": [[1.0], [np.nan], [3.0]], "b": np.ones(3)}, mask={"a": [0, 1, 1], "b": [True, False, True]}
    )
    assert X.mask["a"].tolist() == [False, True, True]
    assert X[[2, 1]].mask["b"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Views(), "at least one view, as in Views\\(audio=A"),
        (lambda: Views({"a": [1]}, a=[2]), "view 'a' is given twice"),
        (lambda: Views({1: [1.0]}), "named by texts; got 1 \\(int\\)"),
        (lambda: Views(a=[1, 2], b=[1]), "different numbers of samples: {'a': 2, 'b': 1}. Align them"),
        (lambda: Views(a="words"), "view 'a' is a str; needed is one row per sample"),
        (lambda: Views(a=3), "view 'a' is a int"),
        (lambda: Views(a=np.float64(3)), "view 'a' has shape \\(\\)"),
        (lambda: Views(a=np.ones((3, 0))), "shape \\(3, 0\\); needed are samples and at least one column"),
        (lambda: Views({"a": [1]}, mask={"b": [True]}), "mask names \\['b'\\].*there are \\['a'\\]"),
        (lambda: Views({"a": [1]}, mask={"a": [True, True]}), "shape \\(2,\\); needed \\(1,\\)"),
        (lambda: Views({"a": [1]}, mask={"a": [np.nan]}), "must hold true and false"),
        (lambda: example()["smell"], "no view 'smell'; there are \\['array'"),
        (lambda: example()[["array", "text"]], "a view is picked by one name"),
        (lambda: example()[[0.5]], "a slice, a mask or positions"),
        (lambda: example()[np.ones(3, dtype=bool)], "mask has 3 entries for 12 samples"),
        (lambda: example()[[12]], "there are 12 samples; positions 12 to 12"),
        (lambda: example().take([0], axis=1), "axis 0"),
    ],
)
def test_bad_views_say_the_way_out(build, text):
    with pytest.raises(PanelError, match=text):
        build()


def test_views_never_become_one_array():
    with pytest.raises(TypeError, match=r"Views cannot become one array. Select a view with X\['name'\]"):
        np.asarray(example())
    with pytest.raises(TypeError, match="give every specialist a view="):
        LogisticRegression().fit(example(), [0, 1] * 6)


# --- what a specialist sees -------------------------------------------------------------------------


def table():
    return pd.DataFrame({"age": [1.0, 2.0], "audio:0": [3.0, 4.0], "audio:1": [5.0, 6.0], "name": ["x", "y"]})


@pytest.mark.parametrize(
    ("view", "columns"),
    [
        ("age", ["age"]),
        ("audio:", ["audio:0", "audio:1"]),
        ("audio:1", ["audio:1"]),
        (["name", "age"], ["name", "age"]),
        (slice(1, 3), ["audio:0", "audio:1"]),
        (slice("age", "audio:0"), ["age", "audio:0"]),
        ([-1, 0], ["name", "age"]),
        (np.array([2]), ["audio:1"]),
        ([True, False, False, True], ["age", "name"]),
        (make_column_selector(dtype_include=float), ["age", "audio:0", "audio:1"]),
        (lambda X: X.columns[:2], ["age", "audio:0"]),
        (lambda X: X[["name"]], ["name"]),
        (lambda X: slice(0, 1), ["age"]),
    ],
)
def test_columns_of_a_frame(view, columns):
    part, present = select_view(table(), view)
    assert list(part.columns) == columns
    assert present is None
    part, present = select_view(Views(table=table()), ("table", view))
    assert list(part.columns) == columns


@pytest.mark.parametrize(
    ("view", "columns"),
    [
        ([2, 0], [2, 0]),
        (slice(0, 2), [0, 1]),
        (slice(None, None, 2), [0, 2]),
        ([False, True, False], [1]),
        ([-1], [2]),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.coo_array, np.ndarray.tolist])
def test_columns_of_arrays(view, columns, kind):
    values = np.arange(12.0).reshape(4, 3)
    part, _ = select_view(kind(values), view)
    part = part.toarray() if sparse.issparse(part) else part
    assert np.array_equal(part, values[:, columns])


@pytest.mark.parametrize(
    ("X", "view", "text"),
    [
        (example(), None, "X holds the views \\['array'.*give the specialist a view="),
        (example(), "smell", "no view 'smell'"),
        (example(), ["array"], "must name one of the views"),
        (example(), ("array", [5]), "columns \\[5\\] are outside X, which has 2 columns"),
        (example(), ("frame", ["c"]), "columns \\['c'\\] are not in X; there are \\['a', 'b'\\]"),
        (example(), lambda X: X["array"][:3], "gave 3 rows for 12 samples"),
        (example(), ("text", [0]), "need a table \\(sample, feature\\)"),
        (np.ones((2, 3)), "age", "names a column, but X has none. Pass a DataFrame or Views"),
        (np.ones((2, 3)), ["a"], "columns \\['a'\\] are not in X"),
        (np.ones((2, 3)), ("audio", [1]), "names a view, but X is a ndarray. Pass Views"),
        (np.ones((2, 3)), [], "list of columns is empty"),
        (np.ones((2, 3)), slice(7, 9), "hold nothing; X has 3 columns"),
        (np.ones((2, 3)), [True, False], "a mask of columns needs 3 entries"),
        (np.ones((2, 3)), [0, "a"], "all names, all positions or one mask"),
        (np.ones((2, 3)), [0.0], "all names, all positions or one mask"),
        (np.ones((2, 3)), 1, "Write \\[1\\]"),
        (np.ones(3), [0], "X has shape \\(3,\\)"),
        (table(), "wave:", "no column begins with 'wave:'; there are \\['age'"),
        (table(), slice("age", "end"), "are not in X"),
    ],
)
def test_bad_selections_say_the_way_out(X, view, text):
    with pytest.raises(PanelError, match=text):
        select_view(X, view)


def test_presence_travels_with_the_view_and_is_read_off_a_callable():
    X = Views({"a": np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])})
    for view in ("a", ("a", [1]), lambda X: X["a"][:, :1], lambda X: "a", lambda X: ("a", [0])):
        part, present = select_view(X, view)
        assert present.tolist() == [True, False, True]
        assert len(part) == 3
    assert select_view(X[[0, 2]], "a")[1] is None


# --- scikit-learn's ways of cutting ------------------------------------------------------------------


def labelled(n=90, seed=0):
    rng = np.random.default_rng(seed)
    y = np.array(["no", "yes", "who"])[np.arange(n) % 3]
    code = np.arange(n) % 3
    ear = rng.normal(size=(n, 3)) * 0.6 + np.eye(3)[code]
    ear[::7] = np.nan
    notes = [f"{word} thing {i}" if i % 5 else None for i, word in enumerate(y)]
    frame = pd.DataFrame({"x": code + rng.normal(size=n) * 0.3, "noise": rng.normal(size=n)})
    return Views(ear=ear, notes=notes, table=frame), y


def team():
    return [
        ("ear", Specialist(LogisticRegression(), view="ear")),
        ("notes", Specialist(make_pipeline(TfidfVectorizer(), LogisticRegression()), view="notes")),
        ("table", Specialist(LogisticRegression(), view=("table", ["x"]))),
    ]


def test_train_test_split_and_every_splitter():
    X, y = labelled()
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
    assert isinstance(train, Views) and len(train) == len(y_train) == 63
    fitted = RobustFusionClassifier(team(), cv=3).fit(train, y_train)
    assert fitted.score(test, y_test) > 0.9
    by_group, groups = GroupKFold(3), np.arange(90) // 3
    for cv in (3, StratifiedKFold(3, shuffle=True, random_state=0), by_group):
        scores = cross_val_score(
            RobustFusionClassifier(team(), cv=3), X, y, cv=cv, groups=groups if cv is by_group else None
        )
        assert len(scores) == 3 and scores.min() > 0.8


def test_cross_validated_answers_are_those_of_a_loop():
    X, y = labelled()
    splitter = StratifiedKFold(3)
    made = cross_val_predict(RobustFusionClassifier(team(), cv=2), X, y, cv=splitter, method="predict_proba")
    looped = np.empty_like(made)
    for train, test in splitter.split(np.zeros(90), y):
        looped[test] = RobustFusionClassifier(team(), cv=2).fit(X[train], y[train]).predict_proba(X[test])
    assert np.array_equal(made, looped)


def test_grid_search_and_learning_curve():
    X, y = labelled(60)
    grid = {"fusion": ["mean", "log_pool"], "table__model__C": [0.1, 1.0]}
    search = GridSearchCV(RobustFusionClassifier(team(), cv="none"), grid, cv=3, error_score="raise").fit(
        X, y
    )
    assert search.best_score_ > 0.8
    assert search.predict(X[:4]).shape == (4,)
    sizes, train, test = learning_curve(
        RobustFusionClassifier(team(), cv="none"), X, y, cv=3, train_sizes=[0.5, 1.0], error_score="raise"
    )
    assert sizes.tolist() == [20, 40] and test.shape == (2, 3) and np.isfinite(train).all()


def test_workers_get_the_same_samples():
    X, y = labelled(60)
    alone = cross_val_score(RobustFusionClassifier(team(), cv="none"), X, y, cv=3)
    beside = cross_val_score(RobustFusionClassifier(team(), cv="none"), X, y, cv=3, n_jobs=2)
    assert np.array_equal(alone, beside)
