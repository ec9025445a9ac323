"""The clock on a clock of our own, the breaker over thousands of requests, and bytes between processes."""

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import CircuitBreaker
from estimators.panel_clock import Board, Rules, wait_for_replies
from estimators.replies import OK, Form, Reply
from estimators.workers import decode, encode
from theory import PanelError


class Script:
    """Replies at given moments, and a clock that stands still unless somebody waits."""

    def __init__(self, events):
        self.events = [(moment, place, reply) for place, (moment, reply) in events.items()]
        heapq.heapify(self.events)
        self.time = 0.0

    def now(self):
        return self.time

    def take(self, seconds):
        if self.events and self.events[0][0] <= self.time + seconds:
            moment, place, reply = heapq.heappop(self.events)
            self.time = max(self.time, moment)
            return place, reply, moment
        self.time += seconds
        return None


GOOD = Reply(OK, np.zeros(2))
BAD = Reply("raised")
GONE = Reply("abstained")


def run(events, n=15, f=4, deadline=1.0, hard=5.0, **more):
    script = Script(events)
    board = Board(n, set(range(n)))
    rules = Rules(f, lambda b: 2 * b + 1, more.pop("quorum", 2 * f + 1), 0.0, deadline, hard, **more)
    wait_for_replies(board, rules, script.take, script.now)
    return script.time, board.tally(), sorted(board.pending)


def test_with_a_quorum_the_deadline_ends_it_and_without_one_the_hard_deadline():
    early = {i: (0.1, GOOD) for i in range(9)}
    assert run(early)[0] == 1.0
    assert run({i: (0.1, GOOD) for i in range(15)})[0] == 0.1
    time, tally, pending = run({i: (0.1, GOOD) for i in range(8)})
    assert (time, tally, len(pending)) == (5.0, (8, 0), 7)
    # the quorum comes between the two: it is answered at once
    assert run({**{i: (0.1, GOOD) for i in range(8)}, 8: (2.5, GOOD), 9: (4.0, GOOD)})[:2] == (2.5, (9, 0))


def test_it_stops_as_soon_as_it_cannot_succeed():
    lost = {i: (0.1 * (i + 1), BAD) for i in range(5)}
    assert run(lost)[0] == pytest.approx(0.5)  # the fifth fault is one too many
    assert run(lost, degrade=True)[0] == 5.0
    silent = {i: (0.2, GONE) for i in range(7)}  # 8 are left, and 9 were needed
    assert run(silent)[0] == pytest.approx(0.2)
    answered = {i: (0.3, GOOD) for i in range(7, 12)}
    assert run(silent | answered, degrade=True)[0] == 1.0


def test_eager_and_quorum():
    events = {i: (0.1 * (i + 1), GOOD) for i in range(15)}
    assert run(events, eager=True)[:2] == (pytest.approx(0.9), (9, 0))
    assert run(events, quorum=3, eager=True)[0] == pytest.approx(0.3)
    assert run(events, quorum=12)[0] == pytest.approx(1.2)


def test_a_reply_in_time_counts_although_the_clock_woke_late():
    script = Script({i: (0.9, GOOD) for i in range(15)})
    board = Board(15, set(range(15)))
    script.time = 1.3  # this thread slept over the deadline
    wait_for_replies(board, Rules(4, lambda b: 2 * b + 1, 9, 0.0, 1.0, 1.2), script.take, script.now)
    assert board.tally() == (15, 0) and np.allclose(board.latency, 0.9)


def test_which_shape_is_wrong_is_known_once_the_rest_cannot_change_it():
    board = Board(5, set(range(5)))
    wide = Reply(OK, np.zeros(3))
    for place, reply in enumerate((wide, GOOD)):
        board.post(place, reply, 0.0)
    assert board.tally() == (1, 0)
    for place in (2, 3):
        board.post(place, GOOD, 0.0)
    assert board.shape == (2,) and board.tally() == (3, 1)
    board.post(3, wide, 0.0)  # a second reply of the same specialist changes nothing
    assert board.tally() == (3, 1)


@given(
    st.lists(st.tuples(st.floats(0, 8), st.sampled_from([GOOD, BAD, GONE])), min_size=1, max_size=15),
    st.integers(0, 4),
)
def test_it_never_outlasts_the_hard_deadline_and_never_stops_for_nothing(events, f):
    n = max(len(events), 2 * f + 1)
    script = dict(enumerate(events))
    time, (admitted, charged), pending = run(script, n=n, f=f)
    assert time <= 5.0
    assert admitted == sum(1 for t, r in events if r is GOOD and t <= time) or time < 1.0
    if pending and time < 1.0:
        assert charged > f or admitted + len(pending) < 2 * max(0, f - charged) + 1


# --- the breaker -------------------------------------------------------------------------------------


def share_asked(probability, n_requests=20_000):
    rng = np.random.default_rng(0)
    breaker = CircuitBreaker()
    asked = 0
    for request in range(n_requests):
        if "a" in breaker.choose(["a", "b"], float(request), minimum=1):
            asked += 1
            breaker.observe("a", "raised" if rng.random() < probability else "ok", float(request))
    return asked / n_requests


@pytest.mark.parametrize(
    ("probability", "low", "high"),
    [(0.02, 1.0, 1.0), (0.1, 0.98, 1.0), (0.3, 0.6, 0.92), (0.9, 0.002, 0.05), (1.0, 0.002, 0.02)],
)
def test_who_fails_more_is_asked_less(probability, low, high):
    assert low <= share_asked(probability) <= high


def test_it_opens_probes_waits_longer_and_closes():
    breaker = CircuitBreaker()
    for second in range(3):
        assert not breaker.is_open("a")
        breaker.observe("a", "shape", float(second))
    assert breaker.is_open("a") and breaker.is_proved("a")
    both = ["a", "b"]
    assert breaker.choose(both, 6.9, minimum=1) == ["b"]
    assert breaker.choose(both, 7.0, minimum=1) == both  # the probe
    assert breaker.choose(both, 7.0, minimum=1) == ["b"]  # one only
    breaker.observe("a", "late", 7.5)  # a probe that is late has failed
    assert breaker.choose(both, 17.4, minimum=1) == ["b"]
    assert breaker.choose(both, 17.5, minimum=1) == both
    breaker.observe("a", "ok", 18.0)
    assert not breaker.is_open("a") and breaker.choose(both, 18.0, minimum=1) == both


def test_it_never_leaves_too_few_and_probes_who_waited_longest():
    breaker = CircuitBreaker(streak=1)
    for second, name in enumerate("abc"):
        breaker.observe(name, "raised", float(second))
    assert breaker.choose("abcd", 3.0, minimum=1) == ["d"]
    assert breaker.choose("abcd", 3.0, minimum=3) == ["a", "b", "d"]


def test_lateness_and_disagreement_are_no_faults():
    breaker = CircuitBreaker(streak=1)
    for status in ("late", "busy", "unasked", "quarantined", "ok", "abstained"):
        breaker.observe("a", status, 0.0)
        assert not breaker.is_open("a")
    strict = CircuitBreaker(streak=1, late_counts=True)
    strict.observe("a", "late", 0.0)
    assert strict.is_open("a") and not strict.is_proved("a")
    with pytest.raises(PanelError, match="a breaker needs streak >= 1"):
        CircuitBreaker(streak=0)


# --- between processes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        GONE,
        Reply("raised", None, "text with\nlines and ü"),
        Reply(OK, np.arange(6.0).reshape(2, 3)),
        Reply(OK, np.array([[1.0], [np.nan]]), "one", np.array(["ok", "nonfinite"])),
    ],
)
def test_replies_survive_the_way_through_bytes(reply):
    back = decode(encode(reply))
    assert back.status == reply.status and back.text == reply.text
    assert (back.values is None) == (reply.values is None)
    if reply.values is not None:
        assert np.array_equal(back.values, reply.values, equal_nan=True)
        back.values[:] = 0.0  # writable
    assert (back.rows is None) or back.rows.tolist() == reply.rows.tolist()


def test_forms_judge_rows():
    told = Form({"a": 0, "b": 1}, True, by_sample=True).read(
        np.array([[0.5, 0.5], [np.inf, 0.0], [2.0, -1.0]])
    )
    assert told.rows.tolist() == ["ok", "nonfinite", "range"] and np.isnan(told.values[1:]).all()
    assert Form(by_sample=True).read(np.full((2, 2), np.nan)).status == "nonfinite"
    assert Form({"a": 0, "b": 1}, True).read([1e308, 1e308]).status == "range"
    assert Form().read([1e308, 1e308]).status == "ok"
    assert Form().read(np.zeros((2, 2, 2))).status == "shape"
    assert Form().read(np.zeros((0,))).status == "shape"
    assert Form().read(3).values.tolist() == [3.0]
    absent = Form().read((np.full((2, 1), np.nan), np.array([True, True])))
    assert absent.status == "abstained"


def test_a_probe_whose_outcome_is_never_told_is_made_again():
    breaker = CircuitBreaker(streak=1, cooldown=1.0)
    breaker.observe("a", "raised", 0.0)
    assert breaker.choose(["a", "b"], 1.5, minimum=1) == ["a", "b"]
    assert breaker.choose(["a", "b"], 1.6, minimum=1) == ["b"]  # one probe at a time
    assert breaker.choose(["a", "b"], 2.6, minimum=1) == ["a", "b"]
    breaker.observe("a", "ok", 2.7)
    assert not breaker.is_open("a")
