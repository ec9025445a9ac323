"""Functions as specialists: labels, probabilities, log-probabilities; time budgets, retries, transcripts."""

import asyncio
import json
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge

from estimators import CallableSpecialist, RobustFusionClassifier, RobustFusionRegressor, Views, make_fusion
from estimators.answers import AnswerError, read_answer
from estimators.calling import call_many
from theory import FaultWarning, PanelError

X, Y = load_iris(return_X_y=True)
NAMES = ["setosa", "versicolor", "virginica"]


def petal(row):
    return NAMES[int(row[3] > 0.8) + int(row[3] > 1.7)]


def petals(rows):
    return [petal(row) for row in rows]


async def petal_later(row):
    await asyncio.sleep(0)
    return petal(row)


def fitted(call=petal, **params):
    params.setdefault("classes", NAMES)
    return CallableSpecialist(call, **params).fit(X, np.array(NAMES)[Y])


# --- what it may say ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("b", [0.0, 1.0]),
        (np.str_("b"), [0.0, 1.0]),
        ([0.25, 0.75], [0.25, 0.75]),
        (np.array([1, 0]), [1.0, 0.0]),
        ({"a": np.log(0.2), "b": np.log(0.6)}, [0.25, 0.75]),
        ({"b": -700.0}, [0.0, 1.0]),
    ],
)
def test_answers_of_every_form(said, expected):
    assert read_answer(said, {"a": 0, "b": 1}) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("c", "labels"),
        (3, "labels"),
        ({"c": 0.0}, "labels"),
        ({}, "labels"),
        ({"a": np.nan}, "nonfinite"),
        ({"a": -np.inf}, "nonfinite"),
        ([1.0], "shape"),
        ([[1.0, 0.0]], "shape"),
        ([[1.0], [0.0, 1.0]], "shape"),
        (["x", "y"], "type"),
        (object(), "type"),
    ],
)
def test_unreadable_answers_say_why(said, status):
    with pytest.raises(AnswerError) as caught:
        read_answer(said, {"a": 0, "b": 1})
    assert caught.value.status == status


def test_an_answer_is_a_copy():
    own = np.array([0.5, 0.5])
    kept = read_answer(own, {"a": 0, "b": 1})
    own[:] = 9.0
    assert kept.tolist() == [0.5, 0.5]
    assert read_answer(None, None) is None
    assert read_answer(3, None).tolist() == [3.0]


def test_labels_in_and_out_of_any_type():
    for labels in ([10, 20, 30], [-1, 0, 1], NAMES):
        code = {name: label for name, label in zip(NAMES, labels, strict=True)}
        said = fitted(lambda row, code=code: code[petal(row)], classes=labels).predict(X)
        assert set(said.tolist()) == set(labels)
        assert np.array_equal(np.searchsorted(labels, said), np.searchsorted(NAMES, fitted().predict(X)))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"max_concurrency": 4},
        {"timeout": 30},
        {"call": petals, "batch_size": 7},
        {"call": petals, "batch_size": 7, "max_concurrency": 3},
        {"call": petal_later},
        {"call": petal_later, "max_concurrency": 8, "timeout": 30},
        {"factory": lambda: petal, "call": None},
    ],
)
def test_every_way_of_calling_gives_the_same_answers(params):
    assert np.array_equal(fitted(**params).predict_proba(X), fitted().predict_proba(X))


def test_it_is_a_classifier_or_a_regressor():
    assert is_classifier(fitted()) and not is_regressor(fitted())
    number = CallableSpecialist(lambda row: row.sum()).fit(X, Y)
    assert is_regressor(number)
    assert number.predict(X) == pytest.approx(X.sum(axis=1))
    assert not hasattr(number, "predict_proba")
    two = CallableSpecialist(lambda row: row[:2], n_outputs=2).fit(X, X[:, :2])
    assert np.array_equal(two.predict(X), X[:, :2])
    assert fitted().score(X, np.array(NAMES)[Y]) > 0.9


def test_texts_reach_the_function_as_they_are():
    views = Views(text=["good day", "bad day", None])
    told = CallableSpecialist(
        lambda text: "up" if "good" in text else "down", classes=["down", "up"], view="text"
    )
    answers, absent, note = told.fit(views, ["up", "down", "up"]).tell(views)
    assert answers[:2].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert np.isnan(answers[2]).all() and absent.tolist() == [False, False, True] and not note


# --- time and failure --------------------------------------------------------------------------------


def test_retries_share_one_budget():
    tries = []

    def flaky(item, time_left):
        tries.append(time_left)
        if len(tries) < 3:
            raise ConnectionError("busy")
        return item

    assert call_many(flaky, [5], retries=2, timeout=10.0)[0].value == 5
    assert len(tries) == 3
    assert tries[0] > tries[1] > tries[2] > 9.0
    tries.clear()
    assert isinstance(call_many(flaky, [5], retries=1)[0].error, ConnectionError)
    tries.clear()
    # the first pause alone is longer than the budget: no second attempt
    assert isinstance(call_many(flaky, [5], retries=9, timeout=0.04)[0].error, ConnectionError)
    assert len(tries) == 1


@pytest.mark.parametrize("kind", ["sync", "async", "stubborn"])
def test_what_hangs_is_left_behind(kind):
    def hang(item):
        if item == 1:
            time.sleep(30)
        return item

    async def wait(item):
        if item == 1:
            await asyncio.sleep(30)
        return item

    async def refuse(item):
        while item == 1:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                continue
        return item

    call = {"sync": hang, "async": wait, "stubborn": refuse}[kind]
    start = time.monotonic()
    outcomes = call_many(call, [0, 1, 2], timeout=0.2, max_concurrency=2)
    assert time.monotonic() - start < 5
    assert [outcome.value for outcome in outcomes] == [0, None, 2]
    assert str(outcomes[1].error) == "no answer within 0.2 s."


def test_a_callable_that_always_hangs_is_given_up():
    stop = threading.Event()
    outcomes = call_many(lambda _: stop.wait(60), range(40), timeout=0.02)
    stop.set()
    assert len(outcomes) == 40 and all(isinstance(one.error, TimeoutError) for one in outcomes)
    assert str(outcomes[-1].error) == "8 earlier calls hang; not called any more."
    assert sum("no answer within" in str(one.error) for one in outcomes) == 8


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), asyncio.CancelledError()])
@pytest.mark.parametrize("is_async", [False, True])
def test_nothing_that_is_raised_gets_lost(error, is_async):
    def sync(_):
        raise error

    async def later(_):
        raise error

    outcome = call_many(later if is_async else sync, [0], timeout=5.0)[0]
    assert type(outcome.error) is type(error)


def half(row):
    if row[0] > 6.0:
        raise ConnectionError("no route")
    return petal(row)


def test_one_failed_sample_abstains_and_the_others_answer():
    lost = X[:, 0] > 6.0
    gone = fitted(half, on_error="abstain")
    answers, absent, note = gone.tell(X)
    assert np.array_equal(absent, lost) and np.array_equal(np.isnan(answers).all(axis=1), lost)
    assert note == f"{lost.sum()} of 150 calls failed and abstain (first: ConnectionError: no route)."
    with pytest.raises(ConnectionError, match="no route") as caught:
        fitted(half).predict(X)
    assert any("sample 50 of 150; 61 failed" in text for text in caught.value.__notes__)
    with pytest.raises(PanelError, match="abstains from 61 samples; only an ensemble"):
        gone.predict(X)


def test_in_a_team_it_abstains_or_raises():
    y = np.array(NAMES)[Y]
    team = [
        ("llm", CallableSpecialist(half, classes=NAMES, on_error="abstain")),
        ("line", LogisticRegression(max_iter=500)),
    ]
    with pytest.warns(
        FaultWarning, match="'llm': .* calls failed and abstain .first: ConnectionError: no route"
    ):
        clf = RobustFusionClassifier(team, cv=3).fit(X, y)
    assert clf.missing_rate_[0] == pytest.approx((X[:, 0] > 6).mean())
    with pytest.warns(FaultWarning, match="61 of 150 calls failed"):
        assert clf.score(X, y) > 0.95
    team[0] = ("llm", CallableSpecialist(half, classes=NAMES))
    with pytest.raises(ConnectionError) as caught:
        RobustFusionClassifier(team, cv=3).fit(X, y)
    assert any("raised by specialist 'llm'" in text for text in caught.value.__notes__)


def test_none_is_an_abstention_and_nan_is_a_fault():
    calm = CallableSpecialist(lambda row: None if row[0] > 6 else row[3], on_error="raise")
    reg = RobustFusionRegressor([("a", calm), ("b", Ridge()), ("c", Ridge(3.0))], fusion="mean", cv=3).fit(
        X, Y
    )
    assert np.isfinite(reg.predict(X)).all()
    broken = CallableSpecialist(lambda row: np.nan if row[0] > 6 else row[3])
    with pytest.warns(FaultWarning, match="invalid out-of-fold answers.*'a' 61"):
        reg = RobustFusionRegressor(
            [("a", broken), ("b", Ridge()), ("c", Ridge(3.0))], fusion="mean", cv=3
        ).fit(X, Y)
    with pytest.raises(ValueError, match=r"1 specialist gave invalid values .'a'"):
        reg.predict(X)


def test_a_batch_needs_one_answer_for_each_sample():
    with pytest.raises(AnswerError, match=r"list with 3 answers for 50 samples; needed is one for each"):
        fitted(lambda rows: ["setosa"] * 3, batch_size=50).predict(X)
    with pytest.raises(AnswerError, match="str with 6 answers for 6 samples"):
        fitted(lambda rows: "setosa", batch_size=6).predict(X[:6])
    with pytest.raises(AnswerError, match="said 'rose', which is none of the classes"):
        fitted(lambda row: "rose").predict(X)


def test_the_process_exits_although_specialists_hang():
    code = (
        "import time, asyncio, warnings, numpy as np\n"
        "from estimators import CallableSpecialist\n"
        "async def later(x):\n"
        "    while True:\n"
        "        try: await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError: pass\n"
        "for call in (lambda x: time.sleep(60), later):\n"
        "    one = CallableSpecialist(call, timeout=0.1, on_error='abstain').fit(np.zeros((1, 1)), [0.0])\n"
        "    assert one.tell(np.zeros((1, 1)))[1].all()\n"
        "print(time.time(), flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert time.time() - float(done.stdout) < 2.0


# --- transcripts, clones, pickles --------------------------------------------------------------------


def test_a_transcript_replays_without_the_callable(tmp_path):
    calls = []

    def counted(row):
        calls.append(1)
        return None if row[0] > 7.5 else petal(row)

    path = tmp_path / "llm.jsonl"
    first = fitted(counted, cache=path).tell(X)
    n_different = len(np.unique(X, axis=0))
    asked = len(calls)
    assert asked == 150
    assert len(path.read_text().splitlines()) == 1 + asked
    again = fitted(counted, cache=path).tell(X)
    assert len(calls) == asked
    offline = fitted(None, cache=path).tell(X)
    for told in (again, offline):
        assert np.array_equal(told[0], first[0], equal_nan=True)
        assert np.array_equal(told[1], first[1])
    assert n_different == 149
    with pytest.raises(PanelError, match="1 samples are not in the transcript, and there is no callable"):
        fitted(None, cache=path).predict(X[:1] + 1)
    with pytest.raises(PanelError, match=r"was written for .* needed"):
        fitted(None, cache=path, classes=["a", "b"])


def test_a_transcript_that_was_cut_off_goes_on(tmp_path):
    path = tmp_path / "llm.jsonl"
    fitted(cache=path).predict(X[:5])
    path.write_text(path.read_text()[:-20])
    fitted(cache=path).predict(X[:6])
    lines = path.read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines[1:]}) == 6 == len(lines) - 1
    path.write_text("no json\n")
    with pytest.raises(PanelError, match="is no transcript"):
        fitted(cache=path)


def test_a_failed_call_is_not_remembered():
    memory = {}
    fitted(half, cache=memory, on_error="abstain").tell(X)
    assert len(memory) == len(np.unique(X[X[:, 0] <= 6.0], axis=0))
    assert np.array_equal(fitted(petal, cache=memory).predict(X), fitted().predict(X))


class Client:
    """Holds a lock, as clients do."""

    made = 0

    def __init__(self):
        self.lock = threading.Lock()
        Client.made += 1

    def __call__(self, row):
        with self.lock:
            return petal(row)


def test_clients_are_shared_by_clones_and_remade_from_pickles():
    client = Client()
    one = fitted(client)
    assert clone(one).call is client
    with pytest.raises(
        TypeError, match=r"specialist 'llm' holds a client that cannot be pickled.*Give factory="
    ):  # E15
        pickle.dumps(fitted(client, name="llm"))
    made = Client.made
    sent = pickle.loads(pickle.dumps(fitted(client, factory=Client)))
    assert sent.call is None
    assert np.array_equal(sent.predict(X), one.predict(X)) and np.array_equal(sent.predict(X), one.predict(X))
    assert Client.made == made + 1
    assert np.array_equal(pickle.loads(pickle.dumps(fitted())).predict(X), one.predict(X))


def test_a_team_with_a_factory_runs_in_processes():
    y = np.array(NAMES)[Y]
    team = [
        ("llm", CallableSpecialist(Client(), factory=Client, classes=NAMES)),
        ("line", LogisticRegression(max_iter=500)),
    ]
    assert RobustFusionClassifier(team, cv=2, n_jobs=2).fit(X, y).score(X, y) > 0.9


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number >= 1; got 0"),
        ({"max_concurrency": 0}, "max_concurrency must be a whole number >= 1"),
        ({"retries": -1}, "retries must be a whole number >= 0"),
        ({"retries": True}, "retries must be"),
        ({"timeout": 0}, "timeout must be a positive number of seconds"),
        ({"timeout": np.nan}, "timeout must be a positive"),
        ({"call": None}, "has nothing to ask. Give call=, factory= or cache="),
        ({"call": 3}, "call must be callable; got int"),
        ({"classes": ["a"]}, "classes must be two or more different labels"),
        ({"classes": ["a", "a"]}, "two or more different"),
        ({"on_error": "ignore"}, "on_error must be"),
        ({"cost": 0}, "cost must be a positive number"),
    ],
)
def test_bad_parameters_are_refused(params, text):
    with pytest.raises(PanelError, match=text):
        fitted(**params)


def test_names_in_a_team():
    made = make_fusion(
        CallableSpecialist(petal, classes=NAMES), CallableSpecialist(lambda row: "setosa", classes=NAMES)
    )
    assert [name for name, _ in made.estimators] == ["petal", "lambda"]
