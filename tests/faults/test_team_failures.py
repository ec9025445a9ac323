"""What public peers get wrong about slow, failing and remote members, each with our answer (their issue beside it)."""

import time

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from estimators import (
    CallableSpecialist,
    Deadline,
    PanelExecutor,
    RobustFusionClassifier,
    Specialist,
    ask_and_fuse,
    ask_panel,
)
from theory import BudgetError, FaultWarning, PanelError, QuorumError

X, Y = load_iris(return_X_y=True)


def good(x):
    return x * 2.0


def test_an_error_body_is_no_answer():  # KServe #2484: fed onward, and 200 returned
    answer = ask_panel(
        {"a": good, "b": good, "c": lambda x: {"error": "boom"}}, np.ones(2), n_byzantine=1, deadline=5.0
    )
    assert answer.status.tolist() == ["ok", "ok", "type"] and "dict" in answer.errors["c"]
    clf = RobustFusionClassifier(
        [
            ("web", CallableSpecialist(lambda row: {"error": 500}, classes=[0, 1, 2])),
            ("line", LogisticRegression(max_iter=500)),
        ]
    )
    with pytest.raises(PanelError, match=r"said .'error'.; the classes are") as caught:
        clf.fit(X, Y)
    assert any("specialist 'web'" in note for note in caught.value.__notes__)


def test_the_failed_member_is_named():  # Triton #4786: which step failed is not said
    def broken(x):
        raise RuntimeError("deadlock")

    with pytest.raises(
        BudgetError, match=r"1 specialist failed .'ocr': RuntimeError: deadlock. but n_byzantine=0"
    ):
        ask_panel({"ocr": broken, "b": good}, np.ones(2), deadline=5.0)


def test_one_slow_member_is_not_waited_for():  # Triton #5113: waits for all; baml #2039 asks for this
    start = time.monotonic()
    fused = ask_and_fuse(
        "median",
        {"a": good, "b": good, "slow": lambda x: time.sleep(20)},
        np.ones(2),
        n_byzantine=0,
        deadline=0.2,
        quorum=2,
    )
    assert time.monotonic() - start < 5 and fused.fused.tolist() == [2.0, 2.0]


def test_fallbacks_get_what_is_left_of_the_time():  # litellm: each fallback copies the whole time-out
    end = Deadline.after(0.3)
    with (
        PanelExecutor({"a": lambda x: time.sleep(20)}) as first,
        PanelExecutor({"b": lambda x: time.sleep(20)}) as second,
    ):
        start = time.monotonic()
        for executor in (first, second):
            with pytest.raises((QuorumError, PanelError)):
                executor.ask(0, deadline=end)
        assert time.monotonic() - start < 0.3 + 0.25


def test_none_is_an_abstention_and_no_vote():  # litellm #4814: ensembles get None
    answer = ask_panel({"a": good, "b": lambda x: None}, np.ones(2), deadline=5.0)
    assert answer.status.tolist() == ["ok", "abstained"] and np.isnan(answer.panel[1]).all()


def test_a_nan_member_and_a_raising_one_change_nothing():  # river 0.26.1: .83 -> .56, and the stop of everything
    def raising(row):
        raise ConnectionError("gone")

    line = ("line", LogisticRegression(max_iter=500))
    alone = RobustFusionClassifier([line], cv=3).fit(X, Y)
    for call in (lambda row: [np.nan] * 3, raising):
        member = CallableSpecialist(call, classes=[0, 1, 2], on_error="abstain")
        with pytest.warns(FaultWarning, match="'bad'"):
            team = RobustFusionClassifier([line, ("bad", member)], cv=3).fit(X, Y)
        with pytest.warns(FaultWarning, match="'bad'"):
            assert np.allclose(team.predict_proba(X), alone.predict_proba(X))


def test_a_view_of_other_columns_is_refused():  # FunctionTransformer: 3 of 4 columns accepted silently
    view = FunctionTransformer(lambda table: table[:, :2])
    assert view.fit(X).transform(X[:, :3]).shape == (150, 2)
    team = [
        ("two", Specialist(LogisticRegression(max_iter=500), view=[0, 1])),
        ("all", LogisticRegression(max_iter=500)),
    ]
    clf = RobustFusionClassifier(team, cv=3).fit(X, Y)
    with pytest.raises(ValueError, match="X has 3 features, but RobustFusionClassifier is expecting 4"):
        clf.predict(X[:, :3])
