"""States: every fusion comes back with the same bits, and damaged or foreign files are refused by name."""

import json
import zipfile
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import estimators
from estimators import (
    CallableSpecialist,
    CircuitBreaker,
    PanelFusionClassifier,
    PanelTransformer,
    PrecomputedSpecialist,
    RobustFusionClassifier,
    RobustFusionRegressor,
    Specialist,
    ask_panel,
    learned_fusion_names,
    load_state,
    save_state,
)
from estimators.fusions import resolve_fusion
from estimators.state_values import CLASSES, own_class
from fusion import Krum, NearestNeighborMixing, TrimmedMean, get_operator, operator_names
from theory import FaultWarning, StateError

pytest.importorskip("skops")
X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])


def team():
    return [
        (
            "line",
            Specialist(make_pipeline(StandardScaler(), LogisticRegression()), calibration="temperature"),
        ),
        ("tree", Specialist(DecisionTreeClassifier(random_state=0), view=[0, 2, 3], calibration="isotonic")),
        ("margin", SVC()),
        ("flat", Specialist(LogisticRegression(C=0.1), view=slice(0, 2), calibration="sigmoid", owner="us")),
    ]


# Compiled types that skops leaves to the user: a crafted tree can crash the process.
COMPILED = [
    "sklearn.tree._tree.Tree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
]


def back(obj, path, trusted=COMPILED):
    save_state(obj, path)
    return load_state(path, trusted=trusted)


@pytest.mark.parametrize(
    "fusion",
    [
        "mean",
        "median",
        "log_pool",
        Krum(n_byzantine=1),
        NearestNeighborMixing(1) >> TrimmedMean(1),
        *learned_fusion_names(),
    ],
)
def test_a_fitted_ensemble_comes_back_with_the_same_bits(fusion, tmp_path):
    clf = RobustFusionClassifier(team(), fusion=fusion, cv=3).fit(X, NAMES[Y])
    same = back(clf, tmp_path / "team.zip")
    assert np.array_equal(same.predict_proba(X), clf.predict_proba(X))
    assert np.array_equal(same.predict(X), clf.predict(X))
    assert same.oof_panel_.identical(clf.oof_panel_)
    assert same.error_correlation_.identical(clf.error_correlation_)
    assert same.prices_.value.tolist() == clf.prices_.value.tolist()
    assert same.named_estimators_["flat"].owner == "us"
    assert same._members[2].model_ is same.estimators_[2]  # shared before, shared after
    assert np.array_equal(same.fit(X, NAMES[Y]).predict_proba(X), clf.predict_proba(X))


def test_regressors_panel_steps_and_stored_answers(tmp_path):
    Z, t = load_diabetes(return_X_y=True)
    reg = RobustFusionRegressor(
        [("a", Ridge()), ("b", DecisionTreeRegressor(random_state=0))], fusion="covariance"
    )
    reg.fit(pd.DataFrame(Z).rename(columns=str), t)
    same = back(reg, tmp_path / "reg.zip")
    assert np.array_equal(
        same.predict(pd.DataFrame(Z).rename(columns=str)), reg.predict(pd.DataFrame(Z).rename(columns=str))
    )
    assert same.feature_names_in_.tolist() == reg.feature_names_in_.tolist()
    step = PanelTransformer(team(), cv=3)
    panel = step.fit_transform(X, NAMES[Y])
    last = PanelFusionClassifier("covariance").fit(panel, NAMES[Y])
    assert back(step, tmp_path / "step.zip").transform(X).identical(step.transform(X))
    assert np.array_equal(back(last, tmp_path / "last.zip").predict_proba(panel), last.predict_proba(panel))
    assert back(panel, tmp_path / "panel.zip").identical(panel)
    frame = pd.DataFrame(np.eye(3)[Y], columns=[0, 1, 2], index=[f"n{i}" for i in range(150)])
    ids = pd.DataFrame(X, index=frame.index)
    past = PrecomputedSpecialist(frame, name="past").fit(ids, Y)
    assert np.array_equal(back(past, tmp_path / "past.zip").predict_proba(ids), np.eye(3)[Y])


@pytest.mark.parametrize("name", operator_names())
def test_every_operator_comes_back_with_its_parameters(name, tmp_path):
    operator = get_operator(name)
    same = back(operator, tmp_path / "rule.zip")
    assert type(same) is type(operator) and same.get_params() == operator.get_params()


def test_plain_values_keep_kind_and_bits(tmp_path):
    value = {
        "floats": [np.nan, np.inf, -np.inf, -0.0, 0.1],
        "ints": [2**80, -1, True, None],
        "tuple": (1, "a", (2.5,)),
        "pairs": {1: "one", (2, 3): {"x"}},
        "slice": slice(1, None, 2),
        "arrays": [
            np.array([[np.nan, np.inf]], dtype=np.float32),
            np.zeros((0, 3)),
            np.array(3),
            np.bool_(True),
        ],
        "texts": np.array([["ü", "b"]]),
        "objects": np.array(["a", None, 3], dtype=object),
        "generator": np.random.default_rng(3),
        "type": np.int8,
        "frame": pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0.5, np.nan]}, index=["p", "q"]),
    }
    same = back(value, tmp_path / "v.zip")
    assert repr(same["floats"]) == repr(value["floats"]) and same["ints"] == value["ints"]
    assert (
        same["tuple"] == value["tuple"]
        and same["pairs"] == value["pairs"]
        and same["slice"] == value["slice"]
    )
    for one, two in zip(same["arrays"], value["arrays"], strict=True):
        assert one.dtype == two.dtype and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
    assert same["texts"].tolist() == value["texts"].tolist() and same["texts"].dtype.kind == "U"
    assert same["objects"].tolist() == ["a", None, 3] and same["type"] is np.int8
    pd.testing.assert_frame_equal(
        same["frame"], value["frame"], check_index_type=False, check_column_type=False
    )
    assert same["generator"].random() == np.random.default_rng(3).random()
    for name in ("first.zip", "second.zip"):
        save_state(value["arrays"], tmp_path / name)
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_breakers_and_answers(tmp_path):
    breaker = CircuitBreaker(streak=1)
    breaker.observe("a", "raised", 5.0)
    assert back(breaker, tmp_path / "b.zip").choose("ab", 6.0, minimum=1) == ["b"]
    answer = ask_panel({"a": lambda x: [x], "b": lambda x: None}, 1.0, deadline=5.0)
    same = back(answer, tmp_path / "a.zip")
    assert same.status.tolist() == answer.status.tolist() and same.panel.tolist()[0] == [1.0]


def test_every_class_of_the_table_is_where_it_says():
    exported = set(estimators.__all__)
    here = [
        name
        for name, home in CLASSES.items()
        if find_spec(home) and (home != "estimators" or name in exported)
    ]
    assert len(here) > 20
    for name in here:
        assert own_class(name).__name__ == name
    fusions = {type(resolve_fusion(name)).__name__ for name in learned_fusion_names()}
    assert fusions <= set(CLASSES)  # a fusion that is added must be savable
    with pytest.raises(StateError, match="holds a 'os', which this version does not have"):
        own_class("os")


# --- what cannot be saved ----------------------------------------------------------------------------


def test_functions_clients_and_modules_are_refused_by_name(tmp_path):
    path = tmp_path / "no.zip"
    own = RobustFusionClassifier(team()[2:], fusion=lambda panel: panel.mean(axis=1), cv=3).fit(X, Y)
    with pytest.raises(
        StateError,
        match=r"parameter 'fusion' is a function; only registered operators can be saved. Name an operator, or pickle it",
    ):
        save_state(own, path)
    asked = CallableSpecialist(lambda row: 0, classes=[0, 1])
    with pytest.raises(
        StateError, match="'llm' is a CallableSpecialist, which no state can hold: it may hold a function"
    ):
        save_state({"llm": asked}, path)
    with pytest.raises(StateError, match=r"'rows' .generator. cannot be saved without pickle"):
        save_state({"rows": (i for i in range(3))}, path)
    torch = pytest.importorskip("torch")
    with pytest.raises(StateError, match="'net' is a torch module"):
        save_state({"net": torch.nn.Linear(1, 1)}, path)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises((StateError, RecursionError)):
        save_state(deep, path)
    assert not list(tmp_path.iterdir())  # nothing is left of a failed save


class Own(ClassifierMixin, BaseEstimator):
    """A user's model."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.first_ = self.classes_[0]
        return self

    def predict(self, X):
        return np.full(len(X), self.first_)


def test_models_of_unknown_types_need_trust(tmp_path):
    clf = RobustFusionClassifier([("own", Own()), ("line", LogisticRegression(max_iter=500))], cv=2).fit(X, Y)
    save_state(clf, tmp_path / "own.zip")
    name = f"{Own.__module__}.Own"
    with pytest.raises(StateError, match=rf"types that are not trusted: \['{name}'\]. Pass trusted="):
        load_state(tmp_path / "own.zip")
    same = load_state(tmp_path / "own.zip", trusted=[name])
    assert np.array_equal(same.predict_proba(X), clf.predict_proba(X))


# --- files that are not what was saved ---------------------------------------------------------------


def edited(path, change, drop=(), add=None):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if name not in drop}
    document = json.loads(parts["state.json"])
    change(document)
    parts["state.json"] = json.dumps(document).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, blob in (parts | (add or {})).items():
            archive.writestr(name, blob)


def small(path):
    save_state({"panel": np.arange(6.0).reshape(2, 3), "rule": Krum(n_byzantine=1), "n": 3}, path)
    return path


@pytest.mark.parametrize(
    ("change", "drop", "add", "text"),
    [
        (lambda d: d.update(format=2), (), None, "has format 2; this version reads format 1"),
        (
            lambda d: d.update(library="9.9.0"),
            (),
            None,
            "was saved by consilience 9.9.0; this is .* Install consilience==9.9.0",
        ),
        (lambda d: d["manifest"].clear(), (), None, r"parts \['a0.npy'\] are not those of its manifest"),
        (lambda d: None, ("a0.npy",), None, "are not those of its manifest"),
        (lambda d: None, (), {"a1.npy": b"x"}, "are not those of its manifest"),
        (lambda d: None, (), {"a0.npy": b"x"}, "a0.npy does not match its manifest"),
        (
            lambda d: d["manifest"]["a0.npy"].update(shape=[3, 2]),
            (),
            None,
            "array 'a0.npy' does not match its manifest",
        ),
        (
            lambda d: d["state"]["items"][1][1].update(name="rm"),
            (),
            None,
            "the operator 'rm', which this version does not have",
        ),
        (
            lambda d: d["state"].update({"$": "pickle"}),
            (),
            None,
            "cannot be read|a 'pickle', which this version does not know",
        ),
        (lambda d: d.pop("state"), (), None, "cannot be read .KeyError"),
        (
            lambda d: d.update(state={"$": "own", "class": "Popen", "id": 0, "items": []}),
            (),
            None,
            "holds a 'Popen', which",
        ),
    ],
)
def test_a_changed_file_is_refused(change, drop, add, text, tmp_path):
    path = small(tmp_path / "s.zip")
    edited(path, change, drop, add)
    with pytest.raises(StateError, match=text):
        load_state(path)


def test_other_versions_of_scikit_learn_are_told(tmp_path):
    path = small(tmp_path / "s.zip")
    edited(path, lambda d: d.update({"scikit-learn": "1.2.0"}))
    with pytest.warns(FaultWarning, match="was saved with scikit-learn 1.2.0; this is"):
        assert load_state(path)["n"] == 3


def test_large_files_and_no_files(tmp_path):
    path = small(tmp_path / "s.zip")
    with pytest.raises(StateError, match=r"max_bytes=100. Raise it if you trust the file"):
        load_state(path, max_bytes=100)
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "none.zip")
    (tmp_path / "e.zip").write_bytes(b"")
    with pytest.raises(StateError, match=r"cannot be read .BadZipFile"):
        load_state(tmp_path / "e.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("state.json", b"0" * 10_000_000)
    with pytest.raises(StateError, match=r"unpacks to more|is compressed"):
        load_state(tmp_path / "bomb.zip", max_bytes=1_000_000)
    nested = "[" * 200_000 + "]" * 200_000
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        archive.writestr("state.json", nested)
    with pytest.raises(StateError, match=r"cannot be read .RecursionError"):
        load_state(tmp_path / "deep.zip")


def fuzz(path, count, seed):
    """Load mutants: each is refused as a StateError, or comes back as it was saved."""
    rng = np.random.default_rng(seed)
    good = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    refused = 0
    mutant = path.with_name("mutant.zip")
    for _ in range(count):
        data = good.copy()
        kind = rng.integers(4)
        if kind == 0:
            data[rng.integers(len(data), size=rng.integers(1, 4))] = rng.integers(256)
        elif kind == 1:
            data = data[: rng.integers(len(data))]
        elif kind == 2:
            at = rng.integers(len(data))
            data = np.r_[data[:at], rng.integers(0, 256, 3).astype(np.uint8), data[at:]]
        else:
            data[rng.integers(len(data))] ^= np.uint8(1 << rng.integers(8))
        mutant.write_bytes(data.tobytes())
        try:
            found = load_state(mutant)
        except StateError:
            refused += 1
            continue
        assert set(found) == {"panel", "rule", "n"} and found["n"] == 3
        assert np.array_equal(found["panel"], np.arange(6.0).reshape(2, 3)) and found["rule"].n_byzantine == 1
    return refused / count


def test_mutated_files_are_refused_or_whole(tmp_path):
    assert fuzz(small(tmp_path / "s.zip"), 1500, 0) > 0.6


@pytest.mark.slow
def test_many_mutated_files_are_refused_or_whole(tmp_path):
    assert fuzz(small(tmp_path / "s.zip"), 60_000, 1) > 0.6
