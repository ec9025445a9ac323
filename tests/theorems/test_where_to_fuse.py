"""What early and mid fusion can and cannot do, and the tables of linear models and networks, on real data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fusion
from estimators import MidFusionClassifier, Views, compare_stages, load_view_task

# Accuracy in percent and log loss: best view, late mean, median, geometric mean, stack; error correlation.
LINEAR = {
    "mfeat": (97.45, (98.20, 0.259), (98.10, 0.137), (98.60, 0.090), (99.05, 0.051), 0.25),
    "av_digits": (96.38, (99.78, 0.148), (99.78, 0.148), (99.89, 0.061), (99.89, 0.057), 0.01),
    "tri_digits": (96.38, (99.83, 0.145), (99.83, 0.052), (99.89, 0.043), (99.94, 0.030), 0.00),
    "digits4": (96.66, (97.39, 0.245), (97.33, 0.165), (97.55, 0.145), (98.28, 0.080), 0.28),
    "breast_cancer": (97.19, (95.26, 0.183), (94.20, 0.160), (95.61, 0.155), (96.66, 0.121), 0.34),
    "wine": (93.83, (97.75, 0.401), (96.62, 0.328), (98.87, 0.308), (98.87, 0.120), 0.10),
}


def linear():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_late_fusion_of_linear_models_is_reproduced(name):
    task = load_view_task(name)
    y, classes = task.y, np.unique(task.y)
    panel = np.full((len(y), len(task.X.names), len(classes)), np.nan)
    stacked = np.zeros((len(y), len(classes)))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(y, y):
        inner = np.zeros((len(train), len(task.X.names), len(classes)))
        for v, view in enumerate(task.X):
            x = task.X[view]
            panel[test, v] = linear().fit(x[train], y[train]).predict_proba(x[test])
            for a, b in StratifiedKFold(3, shuffle=True, random_state=1).split(train, y[train]):
                inner[b, v] = linear().fit(x[train[a]], y[train[a]]).predict_proba(x[train[b]])
        arbiter = linear().fit(np.log(np.maximum(inner, 1e-6)).reshape(len(train), -1), y[train])
        stacked[test] = arbiter.predict_proba(np.log(np.maximum(panel[test], 1e-6)).reshape(len(test), -1))
    best, mean, median, geometric, stack, _ = LINEAR[name]
    assert 100 * (panel.argmax(axis=2) == y[:, None]).mean(axis=0).max() == pytest.approx(best, abs=0.3)
    middle = fusion.median(panel)
    for fused, (accuracy, loss) in (
        (fusion.mean(panel), mean),
        (middle / middle.sum(axis=1, keepdims=True), median),
        (fusion.log_pool(panel, floor=1e-6), geometric),
        (stacked, stack),
    ):
        assert 100 * (fused.argmax(axis=1) == y).mean() == pytest.approx(accuracy, abs=0.35)
        assert log_loss(y, fused) == pytest.approx(loss, abs=0.006)


def exclusive_or(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n, 5))
    return Views(a=a, b=b), ((a[:, 0] > 0) ^ (b[:, 0] > 0)).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operator", "low", "high"),
    [
        ("mean", 0.40, 0.60),
        ("concat", 0.40, 0.60),
        ("gated", 0.93, 1.0),
        ("low_rank", 0.93, 1.0),
        ("product_of_experts", 0.93, 1.0),
        ("mixture_of_experts", 0.93, 1.0),
        ("view_transformer", 0.93, 1.0),
        ("bottleneck", 0.90, 1.0),
    ],
)
def test_only_some_operators_can_learn_what_only_views_together_tell(operator, low, high):
    X, y = exclusive_or()
    settings = {
        "width": 32,
        "view_dropout": 0.0,
        "aux_heads": None,
        "dropout": 0.0,
        "lr": 5e-3,
        "random_state": 0,
    }
    clf = MidFusionClassifier(operator, **settings).fit(X.take(np.arange(1000)), y[:1000])
    assert low <= clf.score(X.take(np.arange(1000, 1500)), y[1000:]) <= high


@pytest.mark.slow
def test_networks_at_equal_parameters_on_three_views():
    """Four splits of tri_digits: the design's table within its standard errors, and its orderings under attack."""
    task = load_view_task("tri_digits")
    arms = [
        "monolith",
        "shuffled_groups",
        "grouped",
        "mid_mean",
        "mid_median",
        "mid_gated",
        "mid_low_rank",
        "late_log_pool",
    ]
    found = compare_stages(task.X, task.y, budget=20_000, arms=arms, seeds=4, labels_per_class=30)
    accuracy = 100 * found.dataset.accuracy.mean("seed")

    def at(arm, condition="clean"):
        return float(accuracy.sel(arm=arm, condition=condition))

    clean = {"monolith": 99.4, "shuffled_groups": 98.8, "grouped": 99.4, "mid_mean": 99.6, "mid_median": 99.5}
    for arm, expected in clean.items():
        assert at(arm) == pytest.approx(expected, abs=1.3), arm
    lying = {
        "monolith": 79.0,
        "grouped": 84.1,
        "mid_mean": 90.8,
        "mid_median": 91.3,
        "mid_gated": 75.4,
    }
    for arm, expected in lying.items():
        assert at(arm, "wrong_1") == pytest.approx(expected, abs=6.0), arm
    wrong = {arm: at(arm, "wrong_1") for arm in arms}
    # The table has 64.2 for low rank; 68 to 71 here over starts of the factors, still the least of all.
    assert min(wrong, key=lambda arm: wrong[arm]) in ("mid_low_rank", "shuffled_groups")
    assert wrong["mid_low_rank"] < 73.0
    assert wrong["mid_median"] >= wrong["mid_mean"] - 0.5
    assert wrong["mid_mean"] > wrong["mid_gated"] > wrong["mid_low_rank"]
    assert wrong["mid_mean"] >= wrong["grouped"] > wrong["shuffled_groups"]
    gain, low, _ = found.difference("mid_mean", "monolith", "wrong_1")
    assert gain > 0.04
    assert low > 0
    assert found.difference("mid_mean", "monolith")[0] > -0.003
    assert at("mid_mean", "absent") > at("monolith", "absent")
