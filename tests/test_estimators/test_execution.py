"""Panels within deadlines: statuses, budgets, texts, isolation, limits, and requests in a row."""

import asyncio
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from asked_specialists import (
    D,
    Honest,
    as_async,
    blocking,
    dying,
    hanging,
    hanging_later,
    leaving,
    lying,
    misshapen,
    mutating,
    nothing,
    raising,
    refusing,
    silent,
    texting,
)
from sklearn.linear_model import LogisticRegression

from estimators import (
    CircuitBreaker,
    Deadline,
    PanelExecutor,
    Specialist,
    Views,
    ask_and_fuse,
    ask_panel,
    fuse_answer,
)
from fusion import TrimmedMean
from theory import BudgetError, FaultWarning, PanelError, QuorumError

N, F = 15, 4
X = np.linspace(-1.0, 1.0, D)
SLOW_MACHINE = 0.25  # seconds that a loaded test machine may be late


def team(*broken, mode="thread"):
    honest = [Honest(i) for i in range(N - len(broken))]
    if mode == "async":
        honest = [as_async(call) for call in honest]
        broken = [call if asyncio.iscoroutinefunction(call) else as_async(call) for call in broken]
    return {f"s{i}": call for i, call in enumerate([*broken, *honest])}


# --- what becomes of each specialist -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "status", "text"),
    [
        (raising, "raised", "ConnectionError: no route"),
        (leaving, "raised", "SystemExit: 3"),
        (nothing, "nonfinite", "1 of 1 answers are not finite"),
        (misshapen, "shape", "shape (4,) instead of (5,)"),
        (texting, "type", "list (<U1) instead of numbers."),
        (silent, "abstained", None),
        (hanging, "late", None),
        (lying, "ok", None),
    ],
)
@pytest.mark.parametrize("mode", ["thread", "async"])
def test_every_way_of_failing_has_its_status(broken, status, text, mode):
    if mode == "async" and broken is hanging:
        broken = hanging_later
    answer = ask_panel(
        team(broken, mode=mode), X, n_byzantine=F, deadline=0.3, hard_deadline=20.0, mode="auto"
    )
    assert answer.status.tolist() == [status] + ["ok"] * 14
    assert answer.errors.get("s0") == text
    assert np.isnan(answer.panel[0]).all() == (status != "ok") and np.isfinite(answer.panel[1:]).all()
    assert answer.n_admitted == 14 + (status == "ok")
    assert answer.n_charged == (status in ("raised", "nonfinite", "shape", "type"))
    assert answer.guaranteed and answer.who(status)[0] == "s0"
    if status == "late":
        assert np.isnan(answer.latency[0]) and 0.3 <= answer.elapsed < 0.3 + SLOW_MACHINE
    else:
        assert answer.elapsed < 0.3 + SLOW_MACHINE


def test_a_request_that_is_changed_does_not_reach_the_others():
    for size in (D, 1 << 18):  # copied; and beyond 1 MB frozen
        x = np.ones(size)
        members = {"bad": mutating, **{f"s{i}": lambda x: x[:5] * 2 for i in range(4)}}
        answer = ask_panel(members, x, n_byzantine=1, deadline=5.0)
        assert (answer.panel[1:] == 2.0).all() and (x == 1.0).all()
        assert answer.status[0] == ("ok" if size == D else "raised")
    listed = {"bad": lambda x: x.append(1) or [0.0], "good": lambda x: [float(len(x))]}
    own = [1]
    assert ask_panel(listed, own, deadline=5.0, isolate=True).panel.tolist() == [[0.0], [1.0]] and own == [1]


def test_an_answer_that_is_changed_later_is_a_copy():
    kept = np.ones(3)
    answer = ask_panel({"a": lambda x: kept}, 0, deadline=5.0)
    kept[:] = 9.0
    assert answer.panel.tolist() == [[1.0, 1.0, 1.0]]


class Odd:
    """Hang or raise while it is turned into an array, or while its error is printed."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __array__(self, dtype=None, copy=None):
        time.sleep(self.seconds)
        raise RuntimeError("no array")


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("not even this")


def unprintable(x):
    raise Unprintable


def test_conversion_runs_on_the_specialists_side():
    start = time.monotonic()
    answer = ask_panel(team(lambda x: Odd(20), lambda x: Odd(0), unprintable), X, n_byzantine=F, deadline=0.3)
    assert time.monotonic() - start < 5
    assert answer.status.tolist()[:3] == ["late", "raised", "raised"]
    assert answer.errors == {"s1": "RuntimeError: no array", "s2": "Unprintable"}


def test_the_shape_is_that_of_most_answers():
    members = {"a": lambda x: [1.0], "b": lambda x: [1.0, 2.0], "c": lambda x: [3.0, 4.0]}
    answer = ask_panel(members, 0, n_byzantine=1, minimum=2, deadline=5.0)
    assert answer.status.tolist() == ["shape", "ok", "ok"]
    answer = ask_panel(members, 0, n_byzantine=2, minimum=1, shape=(1,), deadline=5.0)
    assert answer.status.tolist() == ["ok", "shape", "shape"]


def test_classes_labels_and_probabilities():
    members = {
        "label": lambda x: "b",
        "logs": lambda x: {"a": 0.0, "b": 0.0},
        "proba": lambda x: np.array([0.25, 0.75]),
        "stranger": lambda x: "c",
        "sum": lambda x: [0.5, 0.6],
        "below": lambda x: [-0.5, 1.5],
        "wide": lambda x: [0.2, 0.2, 0.6],
    }
    answer = ask_panel(members, 0, n_byzantine=4, minimum=3, classes=["a", "b"], deadline=5.0)
    assert answer.status.tolist() == ["ok", "ok", "ok", "labels", "range", "range", "shape"]
    assert answer.panel[:3].tolist() == [[0.0, 1.0], [0.5, 0.5], [0.25, 0.75]]
    assert answer.to_xarray().panel.sel(output="b", specialist="proba") == 0.75


def test_batches_are_admitted_whole_or_by_sample():
    rows = np.ones((6, 3))

    def half(x):
        said = x.copy()
        said[2] = np.nan
        return said

    members = {"half": half, **{f"s{i}": lambda x: x * 2 for i in range(4)}}
    whole = ask_panel(members, rows, n_byzantine=1, deadline=5.0)
    assert whole.panel.shape == (6, 5, 3) and (whole.status[:, 0] == "nonfinite").all()
    assert whole.n_charged.tolist() == [1] * 6
    single = ask_panel(members, rows, n_byzantine=1, deadline=5.0, admit="sample")
    assert single.status[:, 0].tolist() == ["ok", "ok", "nonfinite", "ok", "ok", "ok"]
    assert single.n_admitted.tolist() == [5, 5, 4, 5, 5, 5] and single.n_charged.tolist() == [
        0,
        0,
        1,
        0,
        0,
        0,
    ]
    fused = fuse_answer("trimmed_mean", ask_panel(members, rows, n_byzantine=1, deadline=5.0, admit="sample"))
    assert fused.fused.shape == (6, 3) and np.isfinite(fused.radius).all()
    assert dict(single.to_xarray().sizes) == {"sample": 6, "specialist": 5, "output": 3}


def test_fitted_specialists_answer_and_leave_out_what_they_have_no_view_of():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(60, 4))
    y = (data[:, 0] > 0).astype(int)
    gap = data.copy()
    gap[3] = np.nan
    views = Views(a=gap, b=data)
    members = {v: Specialist(LogisticRegression(), view=v, name=v).fit(views, y) for v in ("a", "b")}
    answer = ask_panel(members, views, deadline=20.0, classes=[0, 1], admit="sample")
    assert answer.status[3].tolist() == ["abstained", "ok"] and (answer.status[:3] == "ok").all()
    assert np.array_equal(answer.panel[:, 1], members["b"].predict_proba(views))


# --- budgets and texts -------------------------------------------------------------------------------


def test_fusion_uses_the_budget_that_is_left():
    broken = (raising, nothing, lying, lying)
    for spend, used, radius in (("cautious", 4, 1.06), ("declared", 2, 0.80)):
        fused = ask_and_fuse(TrimmedMean(n_byzantine=F), team(*broken), X, deadline=5.0, spend=spend)
        assert fused.answer.n_byzantine_used == used and fused.answer.n_charged == 2
        honest = np.array([Honest(i)(X) for i in range(11)])
        error = np.linalg.norm(fused.fused - honest.mean(axis=0))
        scale = np.sqrt(((honest - honest.mean(axis=0)) ** 2).sum(axis=1).mean())
        assert error <= fused.radius * scale
        assert fused.radius < radius


def test_too_few_answers_name_who_is_late_and_the_way_out():
    with pytest.raises(
        QuorumError,
        match=r"6 of 15 specialists answered within 0\.\d\d s; the panel with n_byzantine=4 needs 9 \(0 charged\). late: "
        r"s0, s1, s2, s3, s4, .... Raise hard_deadline, lower n_byzantine to 2, or on_shortfall='degrade'.",
    ):
        ask_panel(team(*[hanging] * 9), X, n_byzantine=F, deadline=0.1, hard_deadline=0.2)


def test_too_many_faults_are_told_at_once():
    start = time.monotonic()
    with pytest.raises(
        BudgetError,
        match=r"5 specialists failed \('s0': ConnectionError: no route, 's1': shape \(4,\) instead of \(5,\), .*\) but "
        "n_byzantine=4. Raise it or on_shortfall='degrade'.",
    ) as caught:
        ask_panel(
            team(raising, misshapen, nothing, texting, raising, hanging), X, n_byzantine=F, deadline=20.0
        )
    assert not isinstance(caught.value, QuorumError)
    assert time.monotonic() - start < 10


def test_a_shortfall_can_be_a_warning():
    with pytest.warns(FaultWarning, match="6 of 15 .* Went on with n_byzantine=2; nothing is guaranteed"):
        fused = ask_and_fuse(
            TrimmedMean(n_byzantine=F), team(*[hanging] * 9), X, deadline=0.1, on_shortfall="degrade"
        )
    assert not fused.answer.guaranteed and fused.radius == np.inf and np.isfinite(fused.fused).all()
    with pytest.warns(FaultWarning, match="5 specialists failed .* nothing is guaranteed"):
        answer = ask_panel(team(*[raising] * 5), X, n_byzantine=F, deadline=5.0, on_shortfall="degrade")
    assert answer.n_byzantine_used == 4
    with pytest.raises(QuorumError, match=r"0 of 15 .*nothing can be fused"):
        ask_panel(team(*[hanging] * 15), X, n_byzantine=F, deadline=0.1, on_shortfall="degrade")


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        (
            {"deadline": 0.1, "hard_deadline": 0.05},
            ValueError,
            r"hard_deadline=0.05 is before deadline=0.1\.",
        ),
        (
            {"mode": "async"},
            ValueError,
            "mode='async' needs coroutine functions; 's0' is not one. Use mode='auto'.",
        ),
        ({"mode": "fork"}, ValueError, "mode must be one of"),
        ({"deadline": 0}, ValueError, "a deadline is a positive number of seconds; got 0"),
        ({"deadline": np.inf}, ValueError, "a deadline is a positive number"),
        ({"n_byzantine": 8}, ValueError, "n_byzantine=8 needs at least 17 specialists; got 15"),
        ({"n_byzantine": True}, ValueError, "n_byzantine must be a whole number"),
        ({"quorum": 16}, ValueError, "quorum must be a whole number from 1 to 15"),
        ({"spend": "all"}, ValueError, "spend must be one of"),
        ({"classes": ["a"]}, ValueError, "classes must be two or more"),
    ],
)
def test_bad_parameters_are_refused(params, error, text):
    with pytest.raises(error, match=text):
        ask_panel(team(), X, **params)
    with pytest.raises(PanelError, match="there is nobody to ask"):
        PanelExecutor({})
    with pytest.raises(TypeError, match="a specialist is a callable or a fitted estimator; got int"):
        PanelExecutor({"a": 3})
    with pytest.raises(PanelError, match=r"'a' is a coroutine function. Use mode='auto'"):
        PanelExecutor({"a": refusing}, mode="thread")
    with pytest.raises(
        TypeError,
        match=r"specialist 'a' cannot be sent to a worker process \(a lambda\). Define it in a module or",
    ):
        PanelExecutor({"a": lambda x: x}, mode="process")


# --- time --------------------------------------------------------------------------------------------


def test_callables_are_told_what_time_is_left_and_rounds_share_it():
    told = []

    def curious(x, time_left):
        told.append(time_left)
        return [1.0]

    async def curious_too(x, time_left):
        return curious(x, time_left)

    end = Deadline.after(30.0)
    with PanelExecutor({"a": curious, "b": curious_too}) as executor:
        for _ in range(2):
            executor.ask(0, deadline=end)
    assert all(25 < left <= 30 for left in told) and len(told) == 4
    assert max(told[2:]) < min(told[:2])
    assert 25 < end.left() <= 30
    with pytest.raises(PanelError, match="the executor is closed"):
        executor.ask(0)


def test_eager_panels_do_not_wait_for_the_slow():
    start = time.monotonic()
    answer = ask_panel(team(hanging), X, n_byzantine=F, deadline=20.0, eager=True)
    assert time.monotonic() - start < 10 and answer.n_admitted >= 9


def test_hung_specialists_get_busy_and_cost_so_many_threads():
    stop = threading.Event()

    def stuck(x):
        stop.wait(60)

    before = threading.active_count()
    with PanelExecutor(
        team(stuck), n_byzantine=F, deadline=0.05, hard_deadline=5.0, max_in_flight=3
    ) as executor:
        statuses = [str(executor.ask(X).status[0]) for _ in range(6)]
    assert statuses == ["late"] * 3 + ["busy"] * 3
    assert threading.active_count() - before <= 3 + N
    stop.set()


def test_only_some_are_asked():
    with PanelExecutor(team(raising), n_byzantine=1) as executor:
        answer = executor.ask(X, only=["s3", "s4", "s5"])
        assert answer.who("unasked") == [f"s{i}" for i in range(N) if i not in (3, 4, 5)]
        assert answer.guaranteed and answer.n_charged == 0
        with pytest.raises(PanelError, match=r"only names \['zz'\], who are no specialists"):
            executor.ask(X, only=["zz"])


def test_a_blocked_loop_is_late_once_and_then_replaced():
    with PanelExecutor(
        team(blocking, mode="async"), n_byzantine=F, deadline=0.1, hard_deadline=0.3
    ) as executor:
        start = time.monotonic()
        with pytest.raises(QuorumError, match="late: s0, s1"):
            executor.ask(X)
        assert time.monotonic() - start < 0.9
        time.sleep(0.3)
        answer = executor.ask(X, only=[f"s{i}" for i in range(1, N)])
    assert answer.n_admitted == 14


@pytest.mark.parametrize("loop", ["private", "caller"])
def test_asking_from_a_coroutine(loop):
    seen = []

    async def own(x):
        seen.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return x

    async def main():
        with PanelExecutor({"a": own, "b": hanging_later, "c": Honest(1)}, deadline=0.3) as executor:
            answer = await executor.ask_async(X, loop=loop)
            return answer, asyncio.get_running_loop()

    answer, running = asyncio.run(main())
    assert answer.status.tolist() == ["ok", "late", "ok"]
    assert (seen[0] is running) == (loop == "caller")
    with pytest.raises(QuorumError):
        asyncio.run(PanelExecutor({"b": hanging_later}, deadline=0.1).ask_async(X))


def test_sync_checks_the_time_between_calls():
    def slow(x):
        time.sleep(0.15)
        return x

    answer = ask_panel({"a": slow, "b": slow, "c": slow}, X, mode="sync", deadline=0.1)
    assert answer.status.tolist() == ["ok", "late", "late"]


# --- the breaker in a row of requests ----------------------------------------------------------------


def test_a_breaker_leaves_out_who_keeps_failing():
    calls = []

    def failing(x):
        calls.append(1)
        raise ConnectionError("down")

    breaker = CircuitBreaker(cooldown=1000.0)
    with PanelExecutor(team(failing), n_byzantine=F, breaker=breaker, deadline=5.0) as executor:
        answers = [executor.ask(X) for _ in range(6)]
    assert [str(answer.status[0]) for answer in answers] == ["raised"] * 3 + ["quarantined"] * 3
    assert len(calls) == 3 and all(answer.n_charged == 1 for answer in answers)
    assert breaker.is_open("s0") and breaker.is_proved("s0")


def test_the_process_exits_although_specialists_hang(tmp_path):
    code = (
        "import time, sys\n"
        f"sys.path[:0] = {[str(__import__('pathlib').Path(__file__).resolve().parents[1])]!r}\n"
        "import numpy as np\n"
        "from asked_specialists import hanging, refusing, Honest\n"
        "from estimators import ask_panel\n"
        "team = {'a': hanging, 'b': refusing, **{str(i): Honest(i) for i in range(7)}}\n"
        "answer = ask_panel(team, np.zeros(5), n_byzantine=2, deadline=0.3)\n"
        "assert answer.who('late') == ['a', 'b'], answer.status\n"
        "print(time.time(), flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert time.time() - float(done.stdout) < 1.0


def test_processes_survive_what_threads_do_not():
    broken = (dying, hanging, raising, nothing)
    members = {f"s{i}": call for i, call in enumerate([*broken, *[Honest(i) for i in range(7)]])}
    with PanelExecutor(
        members, n_byzantine=4, mode="process", quorum=7, deadline=1.0, hard_deadline=20.0
    ) as executor:
        first = executor.ask(X)
        assert first.status.tolist() == ["died", "late", "raised", "nonfinite"] + ["ok"] * 7
        assert np.array_equal(first.panel[4], Honest(0)(X))
        assert "its worker process ended" in first.errors["s0"]
        for worker in executor._calls.workers[:2]:  # those that ended are started again, and fail again
            assert worker.ready.wait(30)
        assert executor.ask(X).status.tolist() == first.status.tolist()
        for worker in executor._calls.workers[:2]:
            worker.ready.clear()
        assert executor.ask(X).status[:2].tolist() == ["busy", "busy"]
