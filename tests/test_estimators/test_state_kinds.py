"""States of deliberative and early fusions; kinds that would come back as something else; files of others."""

import collections
import io
import json
import os
import stat
import warnings
import zipfile

import numpy as np
import pytest
import xarray as xr
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB

import estimators.state_archive as archive
from estimators import (
    Critic,
    Defer,
    DeliberativeClassifier,
    DeliberativeRegressor,
    EarlyFusionClassifier,
    EarlyFusionRegressor,
    Escalation,
    RobustFusionClassifier,
    load_state,
    risk_coverage,
    save_state,
)
from fusion.deliberative import protocol_names
from theory import StateError

pytest.importorskip("skops")
ORDER = np.random.default_rng(0).permutation(150)
X, Y = (part[ORDER] for part in load_iris(return_X_y=True))
A, B = load_diabetes(return_X_y=True)
TEAM = [("bayes", GaussianNB()), ("line", LogisticRegression(max_iter=500))]
JUDGED = ("consultancy", "debate", "interactive_debate")
# Compiled types that skops leaves to the user.
COMPILED = [
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn._loss._loss.CyHalfMultinomialLoss",
    "sklearn._loss._loss.CyHalfSquaredError",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
]


@pytest.mark.parametrize(
    "model",
    [
        DeliberativeClassifier(TEAM, random_state=0),
        DeliberativeClassifier(TEAM, critics=[("k", Critic(LogisticRegression()))], random_state=0),
        DeliberativeClassifier(TEAM, escalation=Escalation([["bayes"], ["line"]]), random_state=0),
        EarlyFusionClassifier(),
        DeliberativeRegressor([("r", Ridge()), ("s", Ridge(alpha=10.0))], judge=Ridge(), random_state=0),
        EarlyFusionRegressor(),
    ],
    ids=["verdict", "critics", "cascade", "early", "numbers", "early numbers"],
)
def test_other_stages_come_back_with_the_same_bits(model, tmp_path):
    numbers = "Regressor" in type(model).__name__
    data, truth = (A, B) if numbers else (X, np.array(["x", "y", "z"])[Y])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few samples calibrate a judge poorly, and it says so
        model.fit(data, truth)
    save_state(model, tmp_path / "model.zip")
    same = load_state(tmp_path / "model.zip", trusted=COMPILED)
    ask = "predict" if numbers else "predict_proba"
    assert np.array_equal(getattr(same, ask)(data), getattr(model, ask)(data))
    assert same.get_params(deep=False).keys() == model.get_params(deep=False).keys()


@pytest.mark.parametrize("name", sorted(set(protocol_names()) - {"critique_revise"}))
def test_every_protocol_comes_back_with_the_same_bits(name, tmp_path):
    critics = [("k", Critic(LogisticRegression(), view=[0]))] if name in JUDGED else []
    model = DeliberativeClassifier(TEAM, protocol=name, critics=critics, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, Y)
    save_state(model, tmp_path / "model.zip")
    same = load_state(tmp_path / "model.zip", trusted=COMPILED)
    assert np.array_equal(same.predict_proba(X), model.predict_proba(X))


def test_mid_fusions_say_that_torch_keeps_them(tmp_path):
    pytest.importorskip("torch")
    from estimators import MidFusionClassifier

    mid = MidFusionClassifier(max_iter=1).fit(X, Y)
    with pytest.raises(StateError, match="is a MidFusionClassifier, which no state can hold: it may hold a"):
        save_state(mid, tmp_path / "mid.zip")


def test_curves_come_back(tmp_path):
    curve = risk_coverage([0.1, 0.2], [0, 1])
    save_state(curve, tmp_path / "curve.zip")
    assert np.array_equal(load_state(tmp_path / "curve.zip").coverage, curve.coverage)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            np.ma.MaskedArray([1.0, 2.0], mask=[True, False]),
            "is a MaskedArray, which would come back as a plain arr",
        ),
        (np.asmatrix([[1.0]]), "is a matrix, which would come back as a plain array"),
        (collections.OrderedDict(a=1), "is a OrderedDict, which would come back as a plain dict"),
        (collections.Counter("ab"), "is a Counter, which would come back as a plain dict"),
        (xr.Dataset({"a": ("x", [1.0])}), r"\(Dataset\) cannot be saved without pickle"),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(value, text, tmp_path):
    with pytest.raises(StateError, match=text):
        save_state({"value": value}, tmp_path / "no.zip")


def test_answers_with_a_mask_are_refused_as_they_would_lose_it(tmp_path):
    clf = RobustFusionClassifier(TEAM, fusion="mean", defer=Defer(coverage=0.5)).fit(X, Y)
    with pytest.raises(StateError, match="MaskedArray"):
        save_state(clf.predict_or_defer(X), tmp_path / "no.zip")


def test_what_holds_itself_is_refused(tmp_path):
    ring = {}
    ring["me"] = ring
    with pytest.raises(StateError, match="the dict holds itself, or is nested too deeply"):
        save_state(ring, tmp_path / "no.zip")
    assert not list(tmp_path.iterdir())


def test_files_have_the_permissions_of_other_files(tmp_path):
    plain, state = tmp_path / "plain", tmp_path / "state.zip"
    plain.touch()
    save_state([1], state)
    assert stat.S_IMODE(state.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    os.chmod(state, 0o640)
    save_state([2], state)
    assert stat.S_IMODE(state.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "state.zip"]


def test_a_model_that_unpacks_to_too_much_is_not_unpacked(tmp_path):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as inner:
        inner.writestr("schema.json", b"0" * 5_000_000)
    parts = archive.Parts(models={"m0": bomb.getvalue()})
    path = tmp_path / "bomb.zip"
    archive.write_archive(path, {"format": 1}, None, parts)
    assert path.stat().st_size < 100_000
    with pytest.raises(StateError, match=r"m0\.skops unpacks to more than max_bytes=1000000"):
        archive.read_archive(path, max_bytes=1_000_000)
    many = archive.Parts(models={f"m{k}": bomb.getvalue() for k in range(3)})  # each of them would fit
    archive.write_archive(path, {"format": 1}, None, many)
    with pytest.raises(
        StateError, match=r"m1\.skops unpacks to more than max_bytes=6000000, with those before"
    ):
        archive.read_archive(path, max_bytes=6_000_000)
    assert len(archive.read_archive(path, max_bytes=15_000_000)[1].models) == 3
    with zipfile.ZipFile(path) as outer:
        assert json.loads(outer.read("state.json"))["format"] == 1
