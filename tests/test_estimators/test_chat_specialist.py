"""A language model as a specialist: answers, reasons, budgets under many threads, replay, pickles."""

from __future__ import annotations

import json
import pickle
import warnings

import numpy as np
import pytest
from chat_server import GOOD, completion, hostile, question, serving
from sklearn.base import clone
from sklearn.dummy import DummyClassifier

from estimators import RobustFusionClassifier, Specialist
from estimators.chat import ChatSpecialist
from estimators.chat.specialist import sample_text
from fusion.deliberative import Budget, Ledger, Transcript, verify_transcript
from theory import FaultWarning, PanelError

CLASSES = ["yes", "no", "unsure"]


def chat(server, **parameters):
    return ChatSpecialist(server.url, "m", classes=CLASSES, **{"timeout": 1.0, "retries": 0, **parameters})


def by_question(body, *_):
    letter = {"rain": "A", "sun": "B"}.get(question(body))
    return completion("what?" if letter is None else json.dumps({**GOOD, "answer": letter}))


def test_it_answers_and_abstains_like_any_specialist():
    X = np.array([["rain"], ["sun"], ["fog"]], dtype=object)
    with serving(by_question) as server:
        one = chat(server, view=[0]).fit(X, ["yes", "no", "no"])
        assert one.predict(X[:2]).tolist() == ["yes", "no"]
        with pytest.warns(FaultWarning, match=r"1 of 3 calls failed and abstain \(first: .*unparsable"):
            proba = one.predict_proba(X)
        assert np.isnan(proba[2]).all() and proba[0].tolist() == [1.0, 0.0, 0.0]
        answers = one.answers(["rain", "fog"])
        assert (answers[0].label, answers[0].confidence, answers[0].reason) == ("yes", 0.8, None)
        assert (answers[1].label, answers[1].reason) == (None, "unparsable")
        with pytest.raises(PanelError, match="abstains: unparsable"):
            chat(server, view=[0], on_error="raise").fit(X, ["yes"] * 3).predict_proba(X)
        strict = clone(one).fit(X, ["yes"] * 3)
        assert strict.ledger_ is not one.ledger_


def test_it_is_a_member_of_an_ensemble_and_pickles_without_connections():
    X = np.array([["rain"], ["sun"]] * 10, dtype=object)
    y = np.array(["yes", "no"] * 10)
    with serving(by_question) as server:
        members = [("chat", chat(server, view=[0])), ("prior", Specialist(DummyClassifier(), view=[0]))]
        team = RobustFusionClassifier(members, fusion="mean", cv=2, extra_class="drop").fit(X, y)
        assert team.predict(X[:2]).tolist() == ["yes", "no"]
        again = pickle.loads(pickle.dumps(team))
        assert again.predict(X[:2]).tolist() == ["yes", "no"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"cache": "record"}, "with cassette="),
        ({"cache": "always"}, "cache must be one of"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"base_url": "http://h/chat/completions"}, "Cut that off"),
    ],
)
def test_bad_parameters(wrong, text):
    one = ChatSpecialist("http://127.0.0.1:1/v1", "m", classes=CLASSES).set_params(**wrong)
    with pytest.raises(PanelError, match=text):
        one.fit([["x"]], ["yes"])


def test_samples_are_written_as_text():
    assert sample_text("as it is") == "as it is"
    assert sample_text(np.array(["one"])) == "one"
    assert sample_text(np.array([1.5, 2.0])) == "1.5\n2.0"
    assert sample_text({"subject": "law", "text": "Who?"}) == "subject: law\ntext: Who?"


def run(server, tape, mode, budget, path):
    """1,000 questions through 32 threads, one record each in the order of the questions."""
    one = chat(
        server,
        cache=mode,
        cassette=tape,
        endpoint="hostile",
        budget=budget,
        max_concurrency=32,
        timeout=1.5,
    )
    questions = [f"question {k}" for k in range(1000)]
    with Transcript({"seed": 0}, path) as log:
        answers = one.fit(questions, ["yes"] * 1000).answers(questions)
        for k, answer in enumerate(answers):
            said = {"sample": k, "label": answer.label, "reason": answer.reason}
            cost = answer.cost
            log.record(
                round=0,
                agent="m",
                role="proposer",
                action="propose",
                payload=said,
                cost=cost,
                source=answer.source,
            )
    return answers, one.ledger_.totals(), log


def test_a_thousand_questions_to_a_hostile_endpoint(tmp_path):
    with serving(hostile) as server:
        answers, totals, log = run(
            server, tmp_path / "tape", "record", Budget(calls=1100, tokens=10**8), tmp_path / "a.jsonl"
        )
        n_bodies = len(server.bodies)
        reasons = {answer.reason for answer in answers}
        assert reasons == {
            None,
            "timeout",
            "unparsable",
            "schema",
            "http_404",
            "http_429",
            "http_500",
            "budget",
        }
        assert all((answer.label is None) == (answer.reason is not None) for answer in answers)
        assert sum(answer.label is not None for answer in answers) > 300
        # Never one call more than the budget, and all of it is used.
        assert n_bodies <= totals.calls == 1100 and totals.stopped_by == "calls"
        replayed, spent, second = run(
            server, tmp_path / "tape", "replay", Budget(calls=0), tmp_path / "b.jsonl"
        )
        assert len(server.bodies) == n_bodies and spent.calls == 0
    assert [(a.label, a.reason) for a in replayed] == [(a.label, a.reason) for a in answers]
    assert second.head == log.head
    assert verify_transcript(tmp_path / "a.jsonl", head=log.head)
    assert verify_transcript(tmp_path / "b.jsonl", head=log.head)


def test_a_token_budget_is_never_passed_by_32_threads():
    with serving(lambda *_: completion(json.dumps(GOOD))) as server:
        ledger = Ledger(Budget(tokens=40_000))
        one = chat(server, budget=ledger, max_concurrency=32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FaultWarning)
            answers = one.fit(["q"], ["yes"]).answers([f"q {k}" for k in range(300)])
    totals = ledger.totals()
    assert totals.charged_tokens <= 40_000 and totals.overrun_tokens == 0
    assert totals.calls == len(server.bodies)
    assert {answer.reason for answer in answers} <= {None, "budget"}
