"""Corners of early and mid fusion that once failed: parts, pickles between them, absences behind transformers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from estimators import EarlyFusionClassifier, MidFusionClassifier, MidFusionRegressor, Views, compare_stages
from fusion.early import Ragged
from fusion.mid import MeanFusion
from theory import PanelError

FAST = {"width": 8, "max_iter": 3, "random_state": 0}


def two_views(n=60):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, n)
    return Views(eye=y[:, None] + rng.normal(size=(n, 3)), ear=y[:, None] + rng.normal(size=(n, 2))), y


@pytest.mark.parametrize("stored", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy])
def test_training_in_parts_goes_on_after_a_copy_as_if_nothing_had_happened(stored):
    X, y = two_views()
    whole = MidFusionClassifier(**FAST).partial_fit(X, y).partial_fit(X, y)
    resumed = stored(MidFusionClassifier(**FAST).partial_fit(X, y)).partial_fit(X, y)
    np.testing.assert_array_equal(whole.predict_proba(X), resumed.predict_proba(X))


def test_training_in_parts_weighs_classes_and_refuses_to_balance_what_it_has_not_seen():
    X, y = two_views()
    even, heavy = MidFusionClassifier(**FAST), MidFusionClassifier(class_weight={0: 100.0}, **FAST)
    for _ in range(5):
        even.partial_fit(X, y)
        heavy.partial_fit(X, y)
    assert heavy.predict_proba(X)[:, 0].mean() > even.predict_proba(X)[:, 0].mean() + 0.05
    only = np.flatnonzero(y > 0)
    heavy.partial_fit(X.take(only), y[only])
    by_hand = MidFusionClassifier(**FAST).partial_fit(X, y, sample_weight=np.where(y == 0, 100.0, 1.0))
    once = MidFusionClassifier(class_weight={0: 100.0}, **FAST).partial_fit(X, y)
    np.testing.assert_array_equal(by_hand.predict_proba(X), once.predict_proba(X))
    with pytest.raises(PanelError, match="'balanced' needs all samples at once"):
        MidFusionClassifier(class_weight="balanced", **FAST).partial_fit(X, y)


def test_later_parts_have_the_outputs_of_the_first():
    X, y = two_views()
    model = MidFusionRegressor(**FAST).partial_fit(X, np.c_[y, y].astype(float))
    with pytest.raises(PanelError, match="y has 1 outputs; fitted with 2"):
        model.partial_fit(X, y.astype(float))
    assert model.predict(X).shape == (60, 2)


def test_a_view_behind_a_transformer_may_be_absent_altogether():
    X, y = two_views()
    clf = MidFusionClassifier(encoders={"ear": StandardScaler().fit(X["ear"])}, **FAST).fit(X, y)
    gone = Views(eye=X["eye"], ear=np.full((60, 2), np.nan))
    np.testing.assert_array_equal(clf.predict_proba(gone), clf.predict_proba(Views(eye=X["eye"])))
    assert clf.predict(X[:0]).shape == (0,)
    with pytest.raises(PanelError, match="'ear' is present in no training row"):
        MidFusionClassifier(encoders={"ear": StandardScaler().fit(X["ear"])}, **FAST).fit(gone, y)


@pytest.mark.parametrize("model", [MidFusionClassifier(**FAST), EarlyFusionClassifier()])
def test_what_a_masked_sequence_holds_changes_no_bit(model):
    X, y = two_views()
    rng = np.random.default_rng(2)
    sound = [rng.normal(size=(rng.integers(1, 4), 2)) for _ in y]
    broken = [part.copy() for part in sound]
    broken[5][:], broken[7][0] = np.nan, np.inf
    here = ~np.isin(np.arange(60), [5, 7])
    a, b = (
        Views({"eye": X["eye"], "talk": Ragged.from_list(s)}, mask={"talk": here}) for s in (sound, broken)
    )
    np.testing.assert_array_equal(model.fit(a, y).predict_proba(a), model.fit(b, y).predict_proba(b))
    with pytest.raises(PanelError, match="a token is not finite"):
        model.fit(Views({"talk": Ragged.from_list(broken)}), y)


def test_tokens_that_are_no_numbers_and_numbers_that_overflow_are_told():
    X, y = two_views()
    words = Views(talk=Ragged(np.array([["x"]] * 60), np.arange(61)))
    with pytest.raises(PanelError, match="'talk' holds tokens of <U1; needed are numbers"):
        MidFusionClassifier(**FAST).fit(words, y)
    with pytest.raises(PanelError, match="'eye': feature 0 overflows"):
        MidFusionClassifier(**FAST).fit(Views(eye=X["eye"] * 1e300, ear=X["ear"]), y)


def test_a_fit_on_the_cpu_seeds_no_gpu(monkeypatch):
    X, y = two_views()
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    MidFusionClassifier(device="cpu", **FAST).fit(X, y)
    assert seeded == []


def test_a_change_of_precision_after_training_holds():
    X, y = two_views()
    clf = MidFusionClassifier(**FAST).fit(X, y)
    before = clf.predict_proba(X)
    np.testing.assert_allclose(clf.set_params(dtype="float64").predict_proba(X), before, atol=1e-5)


def test_stages_are_compared_where_some_samples_have_no_view():
    X, y = two_views()
    gappy = {name: X[name].copy() for name in X}
    for values in gappy.values():
        values[:12] = np.nan
    found = compare_stages(
        Views(gappy), y, budget=400, seeds=2, n_draws=1, max_iter=2, arms=["late_mean", "late_log_pool"]
    )
    assert np.isfinite(found.table()["nll"]).all()


def test_counts_and_masks_of_numpy_are_read():
    fuse = MeanFusion(2, np.int64(3))
    mask = np.array([[True, True, False], [True, False, False]])
    views = torch.arange(12.0).reshape(2, 3, 2)
    torch.testing.assert_close(fuse(views, mask=mask).fused, fuse(views, mask=torch.as_tensor(mask)).fused)
