"""Mid fusion behind fit and predict: absences, liars, reproducibility, bad input."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import fusion
import fusion.mid
from estimators import MidFusionClassifier, MidFusionRegressor, Views, load_mfeat
from fusion.early import Ragged
from theory import FaultWarning, PanelError, error_correlation, panel_errors

FAST = {"width": 8, "max_iter": 25, "random_state": 0}


def toy(n=240, seed=0, ragged=True):
    """Three classes, three views; the third is a sequence."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    centre = 2.0 * np.eye(3)[y]
    eye, ear = centre + rng.normal(size=(n, 3)), centre[:, :2] + rng.normal(size=(n, 2))
    if not ragged:
        return Views(eye=eye, ear=ear), y
    lengths = rng.integers(0, 6, n)
    lengths[:3] = 2
    tokens = [centre[i] + rng.normal(size=(lengths[i], 3)) for i in range(n)]
    ear[5:15] = np.nan
    return Views(eye=eye, ear=ear, talk=Ragged.from_list(tokens)), y


@pytest.fixture(scope="module")
def fitted():
    X, y = toy()
    return MidFusionClassifier(**FAST).fit(X, y), X, y


@pytest.fixture(scope="module")
def digits():
    data = load_mfeat()
    return train_test_split(Views(data.views), data.y, random_state=0, stratify=data.y)


def test_default_beats_its_best_view_and_the_ridge_on_everything(digits):
    train, test, y_train, y_test = digits
    clf = MidFusionClassifier(param_budget=30_000, max_iter=40, random_state=0).fit(train, y_train)
    assert clf.score(test, y_test) >= 0.98
    assert clf.n_parameters_ <= 30_000
    report = clf.report_
    assert set(report["views"]) == set(train)
    assert report["fused"] > max(report["views"].values())
    panel = clf.predict_views(test)
    assert panel.dims == ("sample", "specialist", "output")
    late = np.asarray(fusion.log_pool(panel, floor=1e-6))
    assert (clf.classes_[late.argmax(axis=1)] == y_test).mean() > 0.97
    errors = panel_errors(panel.values, y_test, kind="probability")
    assert 0 < error_correlation(errors).rho_mean < 0.6


def test_a_masked_view_holding_nan_changes_no_bit(fitted):
    clf, X, _ = fitted
    present = X.mask["eye"].copy()
    present[::2] = False
    eye = X["eye"].copy()
    poisoned = eye.copy()
    poisoned[::2] = np.nan
    one = Views({**{n: X[n] for n in X}, "eye": eye}, mask={**X.mask, "eye": present})
    two = Views({**{n: X[n] for n in X}, "eye": poisoned}, mask={n: X.mask[n] for n in X if n != "eye"})
    np.testing.assert_array_equal(clf.predict_proba(one), clf.predict_proba(two))


def test_training_with_poisoned_absences_is_the_same_bit_for_bit():
    X, y = toy(ragged=False)
    results = []
    for content in (0.0, np.nan, 1e30):
        ear = X["ear"].copy()
        ear[::3] = content
        mask = np.ones(len(y), dtype=bool)
        mask[::3] = False
        views = Views({"eye": X["eye"], "ear": ear}, mask={"ear": mask})
        results.append(MidFusionClassifier(**FAST).fit(views, y).predict_proba(views))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_view_missing_altogether_is_absent_everywhere(fitted):
    clf, X, y = fitted
    less = Views({name: X[name] for name in ("eye", "talk")}, mask={n: X.mask[n] for n in ("eye", "talk")})
    nan = Views({"eye": X["eye"], "ear": np.full((len(y), 2), np.nan), "talk": X["talk"]})
    np.testing.assert_array_equal(clf.predict_proba(less), clf.predict_proba(nan))
    assert clf.score(less, y) > 0.7
    assert np.isnan(clf.predict_views(less).sel(specialist="ear")).all()


def test_nobody_present_gets_the_prior_or_an_error(fitted):
    clf, X, y = fitted
    gone = Views({n: X[n] for n in X}, mask={n: np.arange(len(y)) > 2 for n in X})
    proba = clf.predict_proba(gone)
    expected = np.bincount(y) / len(y)
    np.testing.assert_allclose(proba[:3], np.tile(expected, (3, 1)), atol=1e-12)
    np.testing.assert_array_equal(clf.transform(gone)[:3], 0.0)
    strict = clone(clf).set_params(empty="raise").fit(X.take(np.arange(20, 100)), y[20:100])
    with pytest.raises(
        PanelError, match=r"3 samples have no view \(first 0\). Drop them or set empty='prior'"
    ):
        strict.predict(gone)


def test_two_fits_are_equal_to_the_bit_and_leave_the_world_alone():
    X, y = toy()
    before = {name: np.array(X[name].values if isinstance(X[name], Ragged) else X[name]) for name in X}
    torch.manual_seed(7)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    one = MidFusionClassifier(**FAST).fit(X, y)
    two = MidFusionClassifier(**FAST).fit(X, y)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    assert one.loss_curve_ == two.loss_curve_
    assert not np.array_equal(
        one.predict_proba(X), clone(one).set_params(random_state=1).fit(X, y).predict_proba(X)
    )
    for name, values in before.items():
        np.testing.assert_array_equal(values, X[name].values if isinstance(X[name], Ragged) else X[name])


@pytest.mark.parametrize(
    "name", ["median", "robust", "bottleneck", "stream_attention", "monolith", "mixture_of_experts"]
)
def test_pickle_and_weights_file_keep_every_answer(name, tmp_path):
    X, y = toy()
    clf = MidFusionClassifier(name, **{**FAST, "max_iter": 5}).fit(X, y)
    if name == "robust":
        clf.set_rule("geometric_median")
    expected = clf.predict_proba(X)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), expected)
    clf.save_weights(tmp_path / "w.npz")
    other = MidFusionClassifier(name, **{**FAST, "max_iter": 1}).fit(X, y)
    assert not np.array_equal(other.predict_proba(X), expected)
    if name == "robust":
        other.set_rule("geometric_median")
    np.testing.assert_array_equal(other.load_weights(tmp_path / "w.npz").predict_proba(X), expected)


def test_weights_of_another_network_or_no_weights_are_refused(fitted, tmp_path):
    clf, X, y = fitted
    clf.save_weights(tmp_path / "w.npz")
    other = MidFusionClassifier(**{**FAST, "width": 16, "max_iter": 1}).fit(X, y)
    with pytest.raises(PanelError, match="has shape"):
        other.load_weights(tmp_path / "w.npz")
    (tmp_path / "no.npz").write_bytes(b"nothing")
    with pytest.raises(PanelError, match="holds no weights"):
        other.load_weights(tmp_path / "no.npz")


def test_checkpoint_holds_the_best_epoch_and_callbacks_can_stop(tmp_path):
    X, y = toy()
    seen = []
    clf = MidFusionClassifier(
        **{**FAST, "max_iter": 50},
        checkpoint=tmp_path / "best.npz",
        callbacks=[lambda s: seen.append(s["epoch"]) or s["epoch"] >= 9],
    ).fit(X, y)
    assert seen == list(range(10))
    assert clf.n_iter_ == 10
    kept = clf.predict_proba(X)
    fresh = MidFusionClassifier(**{**FAST, "max_iter": 1}).fit(X, y).load_weights(tmp_path / "best.npz")
    np.testing.assert_array_equal(fresh.predict_proba(X), kept)


def test_the_rule_can_change_after_training_and_bounds_a_liar(digits):
    train, test, y_train, y_test = digits
    params = {
        "fusion_params": {"train_rule": "mean"},
        "n_byzantine": 2,
        "width": 24,
        "max_iter": 30,
        "random_state": 0,
    }
    clf = MidFusionClassifier("robust", **params).fit(train, y_train)
    scores = {"clean": clf.score(test, y_test)}
    # A broken encoder of one view: its embeddings are far outside the common space, where a LayerNorm cannot help.
    with torch.no_grad():
        for parameter in clf.module_.encoders[0].norm.parameters():
            parameter.mul_(200.0)
    for rule in ("mean", "median", "trimmed_mean", "geometric_median", "krum"):
        scores[rule] = clf.set_rule(rule).score(test, y_test)
    assert scores["clean"] > 0.96
    assert scores["mean"] < 0.9
    assert min(scores[rule] for rule in ("median", "trimmed_mean", "geometric_median")) > 0.95
    assert scores["krum"] > scores["mean"]


def test_consistency_gate_finds_the_liar_and_is_quiet_with_two_views():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    views = {f"v{i}": 2.5 * np.eye(3)[y] + rng.normal(size=(600, 3)) for i in range(4)}
    X = Views(views)
    clf = MidFusionClassifier(width=8, max_iter=40, gate="consistency", random_state=0).fit(
        X.take(np.arange(300)), y[:300]
    )
    test, y_test = X.take(np.arange(300, 600)), y[300:]
    lying = Views({**{n: test[n] for n in test}, "v2": test["v2"][:, [1, 2, 0]]})
    assert np.nanmedian(clf.consistency_score(lying)) > 3 * np.nanmedian(clf.consistency_score(test))
    assert (clf.consistency_score(test) > clf.gate_threshold_).mean() < 0.12
    ungated = clone(clf).set_params(gate=None).fit(X.take(np.arange(300)), y[:300])
    assert clf.score(lying, y_test) >= ungated.score(lying, y_test)
    pair = Views({n: test[n] for n in ("v0", "v1")})
    gated = clone(clf).fit(Views({n: X[n] for n in ("v0", "v1")}), y)
    same = clone(gated).set_params(gate=None).fit(Views({n: X[n] for n in ("v0", "v1")}), y)
    np.testing.assert_array_equal(gated.predict_proba(pair), same.predict_proba(pair))


def test_regression_of_several_targets_and_its_gate():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 400, 2))
    target = np.stack([a[:, 0] + b[:, 1], 100.0 + 20.0 * c[:, 0]], axis=1)
    X = Views(a=a, b=b, c=c)
    reg = MidFusionRegressor(width=16, random_state=0, max_iter=80).fit(X, target)
    assert reg.predict(X).shape == (400, 2)
    assert reg.score(X, target) > 0.85
    assert reg.predict_views(X).shape == (400, 3, 2)
    assert set(reg.report_["views"]) == {"a", "b", "c"}
    one = MidFusionRegressor(width=8, random_state=0, max_iter=5).fit(X, target[:, 0])
    assert one.predict(X).shape == (400,)
    np.testing.assert_allclose(
        one.predict(Views(dict.fromkeys("abc", a), mask=dict.fromkeys("abc", np.zeros(400, dtype=bool)))),
        target[:, 0].mean(),
    )
    assert np.isfinite(one.consistency_score(X)).all()


def test_partial_fit_learns_and_keeps_classes():
    X, y = toy(ragged=False)
    clf = MidFusionClassifier(width=8, random_state=0)
    for _ in range(30):
        clf.partial_fit(X, y, classes=[0, 1, 2, 3])
    assert clf.classes_.tolist() == [0, 1, 2, 3]
    assert clf.score(X, y) > 0.8
    assert clf.n_iter_ == 30
    with pytest.raises(PanelError, match=r"classes \[7\] are not among"):
        clf.partial_fit(X, np.where(y == 0, 7, y))


def test_sample_weight_is_repetition_without_minibatches_and_zero_weight_rows_do_not_exist():
    X, y = toy(n=60, ragged=False)
    counts = np.random.default_rng(5).integers(0, 3, 60)
    exact = {
        "width": 6,
        "max_iter": 20,
        "batch_size": None,
        "dropout": 0.0,
        "view_dropout": 0.0,
        "dtype": "float64",
    }
    params = {**exact, "early_stopping": False, "random_state": 0}
    weighted = MidFusionClassifier(**params).fit(X, y, sample_weight=counts)
    repeated = MidFusionClassifier(**params).fit(
        X.take(np.repeat(np.arange(60), counts)), np.repeat(y, counts)
    )
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=0, atol=1e-9)


def test_tools_of_scikit_learn_take_views():
    X, y = toy(n=120)
    clf = MidFusionClassifier(**{**FAST, "max_iter": 8})
    assert cross_val_score(clf, X, y, cv=2).shape == (2,)
    assert cross_val_predict(clf, X, y, cv=2, method="predict_proba").shape == (120, 3)
    search = GridSearchCV(clf, {"fusion": ["mean", "median"]}, cv=2, n_jobs=2).fit(X, y)
    assert search.best_params_["fusion"] in ("mean", "median")
    pipe = make_pipeline(FunctionTransformer(), clf).fit(X, y)
    assert pipe.predict(X).shape == (120,)
    stack = StackingClassifier([("mid", clf)], LogisticRegression(), cv=2).fit(X, y)
    assert stack.predict(X).shape == (120,)


def test_one_table_can_be_cut_into_views():
    X, y = toy(ragged=False)
    table = np.concatenate([X["eye"], X["ear"]], axis=1)
    clf = MidFusionClassifier(views={"eye": slice(0, 3), "ear": [3, 4]}, **FAST).fit(table, y)
    assert clf.view_names_ == ("eye", "ear")
    same = MidFusionClassifier(**FAST).fit(Views.from_array(table, {"eye": slice(0, 3), "ear": [3, 4]}), y)
    np.testing.assert_array_equal(clf.predict_proba(table), same.predict_proba(X))


def test_own_encoders_frozen_transformers_and_own_operators():
    X, y = toy(ragged=False)

    class Own(torch.nn.Module):
        out_features = 5

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 5)

        def forward(self, values):
            return torch.tanh(self.layer(values))

    own = Own()
    kept = own.layer.weight.detach().clone()
    pca = PCA(1).fit(X["ear"])
    clf = MidFusionClassifier(
        fusion=lambda width, names: fusion.mid.GatedFusion(width, names, gate="scalar"),
        encoders={"eye": own, "ear": pca},
        **FAST,
    ).fit(X, y)
    assert clf.score(X, y) > 0.7
    assert clf._readers[1].n_features == 1
    assert clf.view_weights(X).shape == (240, 2)
    # The caller's module belongs to the caller.
    assert torch.equal(own.layer.weight, kept)


@pytest.mark.parametrize("balance", ["gblend", "ogm"])
def test_balanced_training_learns(balance):
    X, y = toy()
    clf = MidFusionClassifier(**{**FAST, "max_iter": 60}, balance=balance).fit(X, y)
    assert clf.score(X, y) > 0.75
    with pytest.raises(PanelError, match="needs the views' own heads"):
        MidFusionClassifier(**FAST, balance=balance, aux_heads=None).fit(X, y)


def test_negative_weights_are_refused_and_nobody_gets_no_answer():
    X, y = toy(ragged=False)
    with pytest.raises(ValueError, match="Negative values"):
        MidFusionClassifier(**FAST).fit(X, y, sample_weight=-np.ones(240))
    assert MidFusionClassifier(**{**FAST, "max_iter": 1}).fit(X, y).predict_proba(X[:0]).shape == (0, 3)


def test_labels_of_any_kind():
    X, y = toy()
    for labels in (np.array(["a", "b", "c"])[y], y == 1, np.array([10, 20, 30])[y], np.array([-1, 0, 1])[y]):
        clf = MidFusionClassifier(**{**FAST, "max_iter": 4}).fit(X, labels)
        assert set(clf.predict(X)) <= set(labels)


def test_groups_stay_together_and_singletons_train():
    from estimators.mid.splitting import validation_split

    groups = np.repeat(np.arange(12), 5)
    fitted, held = validation_split(None, 60, groups=groups, fraction=0.25, seed=0)
    assert not set(groups[fitted]) & set(groups[held])
    assert len(held) >= 15
    labels = np.array([0] * 30 + [1] * 29 + [2])
    fitted, held = validation_split(labels, 60, groups=None, fraction=0.3, seed=1)
    assert 59 in fitted
    assert set(labels[fitted]) == {0, 1, 2}
    assert sorted([*fitted, *held]) == list(range(60))


def test_new_gaps_are_told_when_training_never_hid_a_view():
    X, y = toy(ragged=False)
    clf = MidFusionClassifier(**FAST, view_dropout=0.0).fit(X, y)
    gap = Views({"eye": X["eye"]})
    with pytest.warns(FaultWarning, match=r"view 'ear' never absent in fit, absent in 240 of 240 rows"):
        clf.predict(gap)
    trained = MidFusionClassifier(**FAST).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained.predict(gap)


def test_diverging_training_says_so_and_keeps_the_best():
    X, y = toy(ragged=False)
    with pytest.warns(FaultWarning, match="loss not finite at epoch"):
        MidFusionRegressor(width=4, max_iter=30, lr=1e30, random_state=0, weight_decay=0.0).fit(
            X, y.astype(float)
        )


def half_a_row_of_nan(X, y):
    eye = X["eye"].copy()
    eye[17, 0] = np.nan
    return Views(eye=eye), y


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        (
            {},
            half_a_row_of_nan,
            r"view 'eye': 1 rows partly NaN \(first 17\)",
        ),
        ({"views": ["nose"]}, lambda X, y: (X, y), "unknown view 'nose'"),
        ({"missing": "raise"}, lambda X, y: (X, y), "view 'ear' is absent in 10 rows. Set missing='abstain'"),
        (
            {"param_budget": 10},
            lambda X, y: (X, y),
            "param_budget=10 is below the smallest 'mean' on 3 views",
        ),
        ({"fusion": "gatde"}, lambda X, y: (X, y), "there is no mid operator 'gatde'"),
        ({"encoders": {"nose": PCA()}}, lambda X, y: (X, y), "encoders name 'nose', which is no view"),
        (
            {},
            lambda X, y: (Views(words=np.array(["a"] * len(y), dtype=object)), y),
            "view 'words' holds no numbers",
        ),
        ({"width": 4, "param_budget": 100}, lambda X, y: (X, y), "say the same twice"),
        ({"device": "cuda:77"}, lambda X, y: (X, y), "device='cuda:77' is not there"),
        ({}, lambda X, y: ({name: X[name] for name in ("eye", "ear")}, y), r"Pass Views\(X\)"),
        ({"fusion": fusion.mid.GatedFusion(12, 3)}, lambda X, y: (X, y), "has width 12; width=8"),
    ],
)
def test_bad_input_is_refused(params, change, message):
    X, y = change(*toy())
    base = {key: value for key, value in FAST.items() if key != "width" or "param_budget" not in params}
    with pytest.raises((PanelError, ValueError), match=message):
        MidFusionClassifier(**{**base, **params}).fit(X, y)


def test_strangers_at_predict_are_refused(fitted):
    clf, X, _ = fitted
    with pytest.raises(PanelError, match="unknown view 'vidoe'; fitted: eye, ear, talk"):
        clf.predict(Views(vidoe=X["eye"]))
    with pytest.raises(PanelError, match="view 'eye' has 2 features; fitted with 3"):
        clf.predict(Views(eye=X["ear"]))
    with pytest.raises(PanelError, match="has no weights per view"):
        MidFusionClassifier("concat", **{**FAST, "max_iter": 1}).fit(X, toy()[1]).view_weights(X)
    stream = MidFusionClassifier("stream_attention", **{**FAST, "max_iter": 1}).fit(X, toy()[1])
    with pytest.raises(AttributeError, match="MidFusionClassifier"):
        stream.predict_views(X)


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here: device parity is checked where there is one"
)
def test_gpu_gives_the_same_answers():
    X, y = toy()
    settings = {**FAST, "dropout": 0.0, "view_dropout": 0.0, "dtype": "float64"}
    cpu, gpu = (MidFusionClassifier(**settings, device=device).fit(X, y) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(cpu.predict_proba(X), gpu.predict_proba(X), atol=1e-5)
