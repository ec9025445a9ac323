"""Panels at their limits: estimators of other classes, requests that cannot travel, threads that share."""

import asyncio
import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from asked_specialists import D, Honest, sleeping
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier

import estimators.workers as workers
from estimators import CircuitBreaker, PanelExecutor, Specialist, ask_and_fuse, ask_panel
from estimators.background import takes_time_left
from theory import BudgetError, PanelError, QuorumError

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(40, 2))
WORDS = np.where(POINTS[:, 0] > 0, "yes", "no")
MODEL = LogisticRegression().fit(POINTS, WORDS)


def one(x):
    return [1.0]


# --- fitted estimators --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: Specialist(m).fit(POINTS, WORDS)])
def test_probabilities_of_estimators_come_in_the_order_of_the_panel(wrap):
    answer = ask_panel({"a": wrap(MODEL)}, POINTS[:3], classes=["yes", "no"], deadline=20.0)
    assert answer.outputs == ("yes", "no")
    assert np.allclose(answer.panel[:, 0], MODEL.predict_proba(POINTS[:3])[:, ::-1])


def test_estimators_of_other_classes_are_refused_by_name():
    with pytest.raises(
        BudgetError, match=r"'a': it answers for the classes \['no', 'yes'\] instead of \['no', 'so', 'yes'\]"
    ):
        ask_panel({"a": MODEL}, POINTS[:3], classes=["no", "so", "yes"], deadline=20.0)


def test_hard_classifiers_vote_and_regressors_give_one_number_a_sample():
    votes = ask_panel(
        {"a": RidgeClassifier().fit(POINTS, WORDS)}, POINTS[:4], classes=["yes", "no"], deadline=20.0
    )
    assert votes.panel[:, 0, 0].tolist() == (WORDS[:4] == "yes").astype(float).tolist()
    line = LinearRegression().fit(POINTS, POINTS[:, 0])
    team = {"bare": line, "told": Specialist(line, freeze=True).fit(POINTS, POINTS[:, 0])}
    answer = ask_panel(team, POINTS[:4], deadline=20.0)
    assert answer.panel.shape == (4, 2, 1) and (answer.status == "ok").all()


def test_rows_that_fail_in_different_ways_are_judged_one_by_one():
    def mixed(x):
        return np.array([[np.nan], [1.0], [np.inf]]), np.array([True, True, False])

    breaker = CircuitBreaker(streak=1)
    team = {"a": mixed, "b": lambda x: np.ones((3, 1)), "c": lambda x: np.ones((3, 1))}
    answer = ask_panel(team, 0, n_byzantine=1, minimum=1, admit="sample", deadline=20.0, breaker=breaker)
    assert answer.status[:, 0].tolist() == ["abstained", "abstained", "nonfinite"]
    assert answer.n_charged.tolist() == [0, 0, 1]
    assert breaker.is_open("a")  # a fault in one sample is a fault, although another came first


# --- requests -----------------------------------------------------------------------------------------


class Stubborn:
    def __deepcopy__(self, memo):
        raise RuntimeError("one of a kind")


class Unreadable:
    def __reduce__(self):
        return _gone, ()


def _gone():
    raise ImportError("no such class here")


def test_a_request_that_cannot_be_copied_occupies_nobody():
    with PanelExecutor({"a": one}, isolate=True, deadline=20.0, max_in_flight=2) as executor:
        for _ in range(3):
            with pytest.raises(PanelError, match=r"request \(Stubborn\) cannot be copied \(one of a kind\)"):
                executor.ask(Stubborn())
        assert executor.ask(1.0).status.tolist() == ["ok"]


def test_processes_outlive_requests_that_cannot_travel_and_late_kills():
    with PanelExecutor({"a": Honest(0)}, mode="process", deadline=20.0) as executor:
        worker = executor._calls.workers[0]
        first = worker.process.pid
        with pytest.raises(PanelError, match=r"request \(lock\) cannot be sent to worker processes"):
            executor.ask(threading.Lock())
        with pytest.raises(BudgetError, match="'a': ImportError: no such class here"):
            executor.ask(Unreadable())
        assert executor.ask(np.zeros(D)).status.tolist() == ["ok"]
        assert worker.process.pid == first

        def and_killed(data):  # the deadline passes just after the answer was read
            worker.kill(worker.request)
            return decode(data)

        decode, workers.decode = workers.decode, and_killed
        try:
            assert executor.ask(np.zeros(D)).status.tolist() == ["ok"]
        finally:
            workers.decode = decode
        assert worker.ready.wait(30), "nobody started the process again"
        assert executor.ask(np.zeros(D)).status.tolist() == ["ok"]
        assert worker.process.pid != first


def test_a_request_given_up_in_the_queue_never_reaches_the_process():
    team = {"a": sleeping, "b": Honest(0)}
    with PanelExecutor(team, mode="process", minimum=1, deadline=20.0) as executor:
        worker = executor._calls.workers[0]
        first = threading.Thread(target=executor.ask, args=(np.full(D, 1.0),))
        first.start()
        while worker.request is None:
            time.sleep(0.001)
        given_up = executor.ask(np.full(D, 1e6), deadline=0.05, hard_deadline=20.0)
        assert given_up.status.tolist() == ["late", "ok"]
        first.join()
        # it would sleep in the process for good, and nobody was left to end it
        assert executor.ask(np.zeros(D), deadline=10.0).status.tolist() == ["ok", "ok"]


def test_requests_from_many_threads_do_not_exceed_what_may_run():
    running, most, gate = [0], [0], threading.Lock()

    def counted(x):
        with gate:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with gate:
            running[0] -= 1
        return [1.0]

    executor = PanelExecutor({"a": counted}, deadline=20.0, max_in_flight=2)
    reserve, start = executor._calls.reserve, threading.Barrier(6)

    def at_once(places, most):
        start.wait(10)
        return reserve(places, most)

    executor._calls.reserve = at_once

    def ask():
        with contextlib.suppress(QuorumError):
            executor.ask(0)

    askers = [threading.Thread(target=ask) for _ in range(6)]
    for thread in askers:
        thread.start()
    for thread in askers:
        thread.join()
    assert most[0] == 2 and executor._calls.running == [0]


# --- one after the other ------------------------------------------------------------------------------


def test_sync_stops_at_the_quorum_and_where_it_cannot_succeed():
    def failing(x):
        raise ConnectionError("down")

    asked = dict.fromkeys("abcde", one)
    answer = ask_panel(asked, 0, mode="sync", eager=True, minimum=2, deadline=20.0)
    assert answer.status.tolist() == ["ok", "ok", "late", "late", "late"]
    with pytest.raises(BudgetError, match="2 specialists failed"):
        ask_panel(
            {"a": failing, "b": failing, "c": pytest.fail}, 0, n_byzantine=1, mode="sync", deadline=20.0
        )


def test_an_interrupt_in_the_callers_thread_is_the_users():
    def interrupted(x):
        raise KeyboardInterrupt

    with PanelExecutor({"a": interrupted, "b": one}, mode="sync", deadline=20.0) as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.ask(0)
        assert executor._calls.running == [0, 0]
    assert ask_panel({"a": interrupted, "b": one}, 0, n_byzantine=1, minimum=1, deadline=20.0).who(
        "raised"
    ) == ["a"]


def test_an_interrupted_wait_leaves_nobody_counted(monkeypatch):
    def interrupting(*_):
        raise KeyboardInterrupt

    with PanelExecutor({"a": one, "b": one}, mode="sync", deadline=20.0) as executor:
        with monkeypatch.context() as patch:
            patch.setattr("estimators.execution.wait_for_replies", interrupting)
            with pytest.raises(KeyboardInterrupt):
                executor.ask(0)
        assert executor._calls.running == [0, 0]


# --- parameters and threads ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"shape": "abc"}, r"shape must be \(output,\) or \(sample, output\); got 'abc'"),
        ({"shape": (0, 3)}, r"shape must be \(output,\)"),
        ({"minimum": "2"}, "minimum must be a whole number from 1 up; got '2'"),
        ({"minimum": 0}, "minimum must be a whole number from 1 up; got 0"),
        ({"deadline": "1"}, "a deadline is a positive number of seconds; got '1'"),
        ({"n_byzantine": 1}, "n_byzantine must be a whole number from 0 to 0; got 1"),
    ],
)
def test_parameters_out_of_range_say_so(params, text):
    with pytest.raises(PanelError, match=text):
        ask_panel({"a": one}, 0, **params)
    with pytest.raises(PanelError, match=r"Give specialists as \{name: callable\}"):
        ask_panel([("a", one)], 0)


def test_who_wants_the_time_is_found_in_every_kind_of_callable():
    def named(x, time_left):
        return x

    def keyword(x, *, time_left=None):
        return x

    def local(x):
        time_left = 1.0
        return x * time_left

    @functools.wraps(named)
    def wrapped(*args, **more):
        return named(*args, **more)

    assert [takes_time_left(call) for call in (named, keyword, local, wrapped, one)] == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_threads_that_share_a_breaker_make_one_probe():
    class Names(list):  # gives the other threads their turn in the middle
        def __iter__(self):
            for name in super().__iter__():
                time.sleep(0.001)
                yield name

    breaker = CircuitBreaker(streak=1, cooldown=1.0)
    breaker.observe("a", "raised", 0.0)
    probes = []
    threads = [
        threading.Thread(target=lambda: probes.append("a" in breaker.choose(Names("ab"), 5.0, minimum=1)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(probes) == 1


def test_a_short_panel_says_what_became_of_everybody():
    def failing(x):
        raise ConnectionError("no route")

    team = {"a": failing, "b": lambda x: None, "c": one, "d": one, "e": one}
    executor = PanelExecutor(team, n_byzantine=1, minimum=lambda f: 3 + f, mode="sync", deadline=20.0)
    with pytest.raises(
        QuorumError,
        match=r"needs 3 \(1 charged\)\. late: c, d\. abstained: b\. unasked: e\. failed: 'a': ConnectionError: no route\. "
        "Raise hard_deadline, or",
    ):
        executor.ask(0, only=list("abcd"))
    with pytest.raises(
        QuorumError,
        match=r"needs 1 \(0 charged\)\. abstained: b\. Ask more specialists, or on_shortfall='degrade'\.",
    ):
        ask_panel({"b": lambda x: None}, 0, deadline=20.0)


def test_other_wrong_arguments_are_refused_before_anybody_is_counted():
    with PanelExecutor({"a": one, "b": one}, deadline=20.0) as executor:
        with pytest.raises(PanelError, match=r"only takes a list of names; got 'a'. Use \['a'\]"):
            executor.ask(0, only="a")
        assert executor._calls.running == [0, 0]
    with pytest.raises(PanelError, match="breaker must be a CircuitBreaker or None; got dict"):
        PanelExecutor({"a": one}, breaker={})
    with pytest.raises(PanelError, match="the minimum is the operator's own"):
        ask_and_fuse("median", {"a": one}, 0, minimum=1)
    for params in ({"cooldown": "5"}, {"least": -1.0}, {"longest": 0.0}):
        with pytest.raises(
            PanelError, match=r"a breaker needs streak >= 1, .* cooldown > 0 and longest > 0; got streak=3"
        ):
            CircuitBreaker(**params)


@pytest.mark.parametrize("mode", ["thread", "sync"])
def test_a_large_request_is_frozen_once_for_all(mode):
    x, seen = np.zeros(1 << 18), []

    def look(own):
        seen.append(own)
        own.shape = (2, -1)  # its own view: the others' keep their shape
        return [1.0]

    answer = ask_panel({"a": look, "b": look, "c": look}, x, mode=mode, deadline=20.0)
    assert (answer.status == "ok").all() and x.shape == (1 << 18,)
    assert np.shares_memory(seen[0], seen[1]) and not np.shares_memory(seen[0], x)
    for own in seen:
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
            own.setflags(write=True)


def test_a_large_record_array_that_holds_objects_is_handed_on_as_it_is():
    x = np.zeros(1 << 17, dtype=[("text", object), ("size", float)])
    assert ask_panel({"a": lambda own: [float(own is x)]}, x, deadline=20.0).panel.tolist() == [[1.0]]


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_an_interrupt_of_the_whole_group_leaves_the_workers_at_work():
    code = (
        "import sys\n"
        f"sys.path[:0] = {[str(pathlib.Path(__file__).resolve().parents[1])]!r}\n"
        "import numpy as np\n"
        "from asked_specialists import Honest, hanging\n"
        "from estimators import PanelExecutor\n"
        "if __name__ == '__main__':\n"
        "    team = {'a': Honest(0), 'h': hanging}\n"
        "    with PanelExecutor(team, mode='process', deadline=20.0) as executor:\n"
        "        print('ready', flush=True)\n"
        "        try:\n"
        "            executor.ask(np.zeros(5))\n"
        "        except KeyboardInterrupt:\n"
        "            print(executor.ask(np.zeros(5), only=['a']).status.tolist())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout.readline() == "ready\n"
        time.sleep(0.5)
        os.killpg(run.pid, signal.SIGINT)
        out, err = run.communicate(timeout=30)
    assert (run.returncode, out, err) == (0, "['ok', 'unasked']\n", "")


def test_without_threads_or_a_loop_nobody_stays_counted(monkeypatch):
    async def later(x):
        return [1.0]

    calls = {"a": one, "b": one, "c": one}
    with PanelExecutor(calls, deadline=20.0) as executor:
        starts = iter([None, RuntimeError("can't start new thread"), None])

        def start(work):
            error = next(starts)
            if error is not None:
                raise error
            work()

        with monkeypatch.context() as patch:
            patch.setattr("estimators.panel_calls.in_background", start)
            answer = executor.ask(0)
        assert answer.status.tolist() == ["ok", "busy", "ok"]
        assert answer.errors["b"] == "it could not be called (can't start new thread)"
        assert executor._calls.running == [0, 0, 0]
    loop = asyncio.new_event_loop()
    loop.close()
    with PanelExecutor({"a": later, "b": one}, deadline=20.0) as executor:
        with pytest.raises(PanelError, match=r"the loop given cannot be used \(Event loop is closed\)"):
            executor.ask(0, loop=loop)
        assert executor._calls.running == [0, 0]
