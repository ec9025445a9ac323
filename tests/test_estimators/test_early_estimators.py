"""Early fusion behind fit and predict, against a pipeline on the same columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from estimators import (
    EarlyFusionClassifier,
    EarlyFusionRegressor,
    Views,
    alignment_score,
    load_av_digits,
    load_view_task,
)
from theory import PanelError

# Accuracy in percent and log loss of early fusion: the design's table of linear models.
LINEAR = {
    "av_digits": (99.39, 0.052),
    "tri_digits": (99.89, 0.029),
    "digits4": (98.44, 0.073),
    "breast_cancer": (97.54, 0.096),
    "wine": (99.43, 0.142),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_table_is_reproduced(name):
    task = load_view_task(name)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    proba = cross_val_predict(EarlyFusionClassifier(), task.X, task.y, cv=folds, method="predict_proba")
    accuracy, loss = LINEAR[name]
    assert 100 * (proba.argmax(axis=1) == task.y).mean() == pytest.approx(accuracy, abs=0.02)
    assert log_loss(task.y, proba) == pytest.approx(loss, abs=0.0007)


def test_diabetes_is_reproduced():
    task = load_view_task("diabetes")
    said = cross_val_predict(
        EarlyFusionRegressor(Ridge(1.0)), task.X, task.y, cv=KFold(5, shuffle=True, random_state=0)
    )
    assert r2_score(task.y, said) == pytest.approx(0.498, abs=0.001)


def test_it_is_the_pipeline_on_all_columns():
    task = load_view_task("breast_cancer")
    table = np.concatenate([task.X[name] for name in task.X], axis=1)
    pipe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(table, task.y)
    early = EarlyFusionClassifier().fit(task.X, task.y)
    np.testing.assert_allclose(early.predict_proba(task.X), pipe.predict_proba(table), rtol=0, atol=1e-6)
    assert early.predict_proba(task.X[:0]).shape == (0, 2)
    assert early.predict(task.X[:0]).shape == (0,)


def test_absent_views_have_a_column_of_their_own_and_nan_is_never_seen():
    task = load_view_task("wine")
    rng = np.random.default_rng(0)
    gone = rng.random(len(task.y)) < 0.3
    poisoned = task.X["phenols"].copy()
    poisoned[gone] = np.nan
    X = Views({**{n: task.X[n] for n in task.X}, "phenols": poisoned})
    clf = EarlyFusionClassifier().fit(X, task.y)
    assert clf.estimator_.n_features_in_ == 13 + 1
    assert clf.score(X, task.y) > 0.95
    less = Views({n: task.X[n] for n in ("taste", "colour")})
    assert clf.score(less, task.y) > 0.9
    nobody = Views({n: task.X[n] for n in task.X}, mask={n: np.arange(len(task.y)) > 0 for n in task.X})
    np.testing.assert_allclose(clf.predict_proba(nobody)[0], np.bincount(task.y) / len(task.y))
    with pytest.raises(PanelError, match=r"view 'phenols' is absent in \d+ rows. Set missing='abstain'"):
        EarlyFusionClassifier(missing="raise").fit(X, task.y)
    with pytest.raises(AttributeError, match="MidFusionClassifier"):
        clf.predict_views(X)


def test_other_heads_ragged_views_and_attention_over_streams():
    task = load_av_digits("av", ragged=True)
    rows = np.arange(0, 1797, 6)
    X, y = task.X.take(rows), task.y[rows]
    forest = EarlyFusionClassifier(RandomForestClassifier(50, random_state=0)).fit(X, y)
    assert forest.scaling_.blocks_["audio"].centre.shape == (141,)
    assert forest.score(task.X.take(rows + 1), task.y[rows + 1]) > 0.9

    class Net(torch.nn.Module):
        out_features = 16

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(205, 16)

        def forward(self, values):
            return torch.relu(self.layer(values))

    net = EarlyFusionClassifier(Net(), random_state=0).fit(X, y)
    assert net.score(task.X.take(rows + 1), task.y[rows + 1]) > 0.9
    small = Views(image=X["image"], audio=X["audio"]).take(np.arange(60))
    stream = EarlyFusionClassifier("stream_attention", random_state=0)
    stream.fit(small, y[:60])
    assert stream.predict_proba(small).shape == (60, 10)


def test_a_shuffled_view_has_no_alignment_score():
    task = load_view_task("wine")
    rng = np.random.default_rng(1)
    X = Views({**{n: task.X[n] for n in task.X}, "colour": task.X["colour"][rng.permutation(len(task.y))]})
    lost = alignment_score(EarlyFusionClassifier(), X, task.y)
    assert lost["phenols"] > 0.03
    assert abs(lost["colour"]) < 0.04 < lost["taste"]


def test_weights_are_refused_by_name_and_strangers_too():
    task = load_view_task("wine")
    with pytest.raises(TypeError, match="KNeighborsClassifier does not accept sample_weight"):
        EarlyFusionClassifier(KNeighborsClassifier()).fit(task.X, task.y, sample_weight=np.ones(178))
    clf = EarlyFusionClassifier().fit(task.X, task.y)
    with pytest.raises(PanelError, match="unknown view 'smell'; fitted: taste, phenols, colour"):
        clf.predict(Views(smell=task.X["taste"]))


def test_what_used_to_be_dropped_or_promised_in_silence():
    task = load_view_task("wine")
    with pytest.raises(ValueError, match="Negative values"):
        EarlyFusionClassifier().fit(task.X, task.y, sample_weight=np.where(np.arange(178) < 5, -1.0, 1.0))
    assert not hasattr(EarlyFusionClassifier(LinearSVC()), "predict_proba")
    assert hasattr(EarlyFusionClassifier(), "predict_proba")
    cubes = Views(a=task.X["taste"], b=np.random.default_rng(0).normal(size=(178, 2, 3)))
    assert EarlyFusionClassifier().fit(cubes, task.y).predict(cubes[:0]).shape == (0,)
