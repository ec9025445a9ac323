"""scikit-learn's own tests for Voting and Stacking with our classes in their place: each difference has a reason."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import sklearn

TESTS = Path(__file__).resolve().parents[1]
OPTIONS = ["-m", "pytest", "-q", "-p", "sklearn_swap", "-p", "no:cacheprovider", "-p", "no:xdist", "-c"]
ROUTING = "metadata go to the fits of specialists; predict takes none"
NAMED = "columns are named by PanelTransformer(flatten=True), {specialist}__{output}"
TEXT = "the error says the same in the words of this library, with the name of the model and the way out"
MULTILABEL = "a classifier has one label per sample; several targets are for the regressor"
PROBABILITIES = "every fusion gives probabilities, votes too (scikit-learn#10355)"
DECISIONS = "fused answers are probabilities; there is no decision_function"

# Function: (cases that fail, of cases, why). 123 cases in scikit-learn 1.9.1.
VOTING = {
    "test_predictproba_hardvoting": (1, PROBABILITIES),
    "test_predict_proba_on_toy_problem": (1, PROBABILITIES),
    "test_multilabel": (1, MULTILABEL),
    "test_sample_weight": (1, TEXT),
    "test_sample_weight_kwargs": (1, "a fitted specialist must have classes_; the mock has none"),
    "test_voting_verbose": (2, "progress is joblib's, per specialist and fold"),
    "test_get_features_names_out_regressor": (1, NAMED),
    "test_get_features_names_out_classifier": (2, NAMED),
    "test_get_features_names_out_classifier_error": (1, NAMED),
}
STACKING = {
    "test_stacking_classifier_iris": (4, DECISIONS),
    "test_stacking_classifier_error": (3, TEXT),
    "test_stacking_regressor_error": (2, TEXT),
    "test_stacking_without_n_features_in": (2, "the error is Python's own, with quotes around both names"),
    "test_stacking_classifier_multilabel_predict_proba": (2, MULTILABEL),
    "test_stacking_classifier_multilabel_decision_function": (1, MULTILABEL),
    "test_stacking_classifier_multilabel_auto_predict": (4, MULTILABEL),
    "test_get_feature_names_out": (6, NAMED),
    "test_stacking_classifier_base_regressor": (1, "a team of classifiers has no regressors"),
    "test_stacking_final_estimator_attribute_error": (1, DECISIONS),
    "test_metadata_routing_for_stacking_estimators": (4, ROUTING),
}


@pytest.mark.slow
@pytest.mark.skipif(
    not sklearn.__version__.startswith("1.9."), reason="the table is that of scikit-learn 1.9"
)
@pytest.mark.parametrize(
    ("module", "number", "table"),
    [("test_voting", 41, VOTING), ("test_stacking", 82, STACKING)],
)
def test_scikit_learns_own_tests_pass_but_those_listed(module, number, table, tmp_path):
    pytest.importorskip(f"sklearn.ensemble.tests.{module}")
    outcomes = tmp_path / "outcomes.json"
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, *OPTIONS, os.devnull, "--pyargs", f"sklearn.ensemble.tests.{module}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "SWAP_OUTCOMES": str(outcomes)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert outcomes.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(outcomes.read_text())
    assert len(found) == number, Counter(re.sub(r"\[.*", "", name) for name in found)
    failed = {name: told for name, told in found.items() if told != "passed"}
    counts = Counter(re.sub(r"\[.*", "", name) for name in failed)
    assert counts == {name: row[0] for name, row in table.items()}, failed
