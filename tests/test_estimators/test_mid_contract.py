"""check_estimator over early and mid fusion, with the number of checks and every declared failure."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import check_estimator

from estimators import EarlyFusionClassifier, EarlyFusionRegressor, MidFusionClassifier, MidFusionRegressor

SMALL = {"width": 8, "lr": 2e-2, "random_state": 0, "dtype": "float64"}
EXACT = {**SMALL, "max_iter": 30, "batch_size": None, "dropout": 0.0, "early_stopping": False}
MINIBATCH = {**SMALL, "max_iter": 40}
SHUFFLED = {
    f"check_sample_weight_equivalence_on_{kind}_data": "other rows make other minibatches and another validation part"
    for kind in ("dense", "sparse")
}


@pytest.mark.parametrize(
    ("estimator", "n_checks", "declared"),
    [
        (EarlyFusionClassifier(), 63, {}),
        (EarlyFusionRegressor(), 61, {}),
        (MidFusionClassifier(**EXACT), 70, {}),
        (MidFusionRegressor(**EXACT), 67, {}),
        pytest.param(MidFusionClassifier(**MINIBATCH), 70, SHUFFLED, marks=pytest.mark.slow),
        pytest.param(MidFusionRegressor(**MINIBATCH), 67, SHUFFLED, marks=pytest.mark.slow),
        pytest.param(MidFusionClassifier("gated", **EXACT), 70, {}, marks=pytest.mark.slow),
        pytest.param(MidFusionClassifier("median", **EXACT), 70, {}, marks=pytest.mark.slow),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_check_estimator(estimator, n_checks, declared):
    results = check_estimator(estimator, expected_failed_checks=declared, on_fail=None, on_skip=None)
    failed = [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]
    assert not failed
    assert not [r["check_name"] for r in results if r["status"] == "skipped"]
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(declared)
    assert len(results) == n_checks
