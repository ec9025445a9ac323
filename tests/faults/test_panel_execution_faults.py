"""Fifteen specialists, four of them broken in every way: who answers, when, and how far off. In real time.

On a machine that does other work, too, a thread may wake late: the best of three rounds counts, and how late a thread
that only waits wakes is allowed on top.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
import pytest
from asked_specialists import (
    D,
    Honest,
    as_async,
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

from estimators import PanelExecutor, fuse_answer
from fusion import Median
from theory import QuorumError

N, F = 15, 4
X = np.linspace(-1.0, 1.0, D)
DEADLINE, HARD = 0.05, 1.0
LATE_BY = 0.02  # allowed at the 99th percentile
SCENARIOS = {
    "clean": (),
    "raising": (raising,),
    "hanging": (hanging,),
    "nan": (nothing,),
    "wrong shape": (misshapen,),
    "text": (texting,),
    "exit": (leaving,),
    "mutating": (mutating,),
    "lying": (lying,),
    "silent": (silent,),
    "refusing cancel": (refusing,),
    "raise, hang, nan, lie": (raising, hanging, nothing, lying),
    "4 liars": (lying,) * 4,
    "4 hanging": (hanging,) * 4,
}
MINIMUM = Median().minimum


def members(broken, mode):
    honest = [Honest(i) for i in range(N - len(broken))]
    calls = [*broken, *honest]
    if mode == "async":
        calls = [hanging_later if call is hanging else call for call in calls]
        calls = [call if asyncio.iscoroutinefunction(call) else as_async(call) for call in calls]
    return {f"s{i}": call for i, call in enumerate(calls)}


REQUESTS = [X + k for k in range(16)]
CLEAN = float(
    np.mean([np.linalg.norm(np.median([Honest(i)(x) for i in range(N)], axis=0) - x) for x in REQUESTS])
)


def machine_is_late_by():
    """Return how much longer than asked for a thread waits that has nothing else to do."""
    found = []
    for _ in range(4):
        start = time.perf_counter()
        with pytest.raises(Empty):
            SimpleQueue().get(timeout=DEADLINE)
        found.append(time.perf_counter() - start - DEADLINE)
    return max(found)


@pytest.mark.parametrize("mode", ["thread", "async"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_request_is_answered_in_time_and_near_the_truth(name, mode):
    broken = SCENARIOS[name]
    if refusing in broken:
        mode = "auto"
    params = {"n_byzantine": F, "minimum": MINIMUM, "deadline": DEADLINE, "hard_deadline": HARD}
    best = np.inf
    for _ in range(3):
        elapsed, errors = [], []
        with PanelExecutor(members(broken, mode), **params, mode="auto") as executor:
            for x in REQUESTS if best > DEADLINE + LATE_BY else ():
                start = time.perf_counter()
                fused = fuse_answer("median", executor.ask(x))
                elapsed.append(time.perf_counter() - start)
                errors.append(np.linalg.norm(fused.fused - x))
                assert np.isfinite(fused.radius) and fused.answer.guaranteed
        if elapsed:
            assert np.mean(errors) <= 2 * CLEAN
            best = min(best, float(np.quantile(elapsed, 0.99)))
            if best > DEADLINE + LATE_BY:
                best -= machine_is_late_by()
    assert best <= DEADLINE + LATE_BY


def test_processes_answer_while_members_die_and_hang():
    broken = (raising, hanging, dying, lying)
    with PanelExecutor(
        members(broken, "process"),
        n_byzantine=F,
        minimum=MINIMUM,
        deadline=0.3,
        hard_deadline=5.0,
        mode="process",
    ) as executor:
        for x in REQUESTS[:3]:
            fused = fuse_answer("median", executor.ask(x))
            assert np.linalg.norm(fused.fused - x) <= 4 * CLEAN and fused.answer.elapsed <= 5.0 + LATE_BY
            assert fused.answer.status[0] == "raised"
            assert fused.answer.status[1] in ("late", "busy") and fused.answer.status[2] in ("died", "busy")


def test_nine_of_fifteen_hanging_is_a_named_error_at_the_hard_deadline():
    start = time.perf_counter()
    with (
        pytest.raises(QuorumError, match=r"6 of 15 specialists answered within 0\.[456]"),
        PanelExecutor(
            members((hanging,) * 9, "thread"), n_byzantine=F, deadline=DEADLINE, hard_deadline=0.4
        ) as executor,
    ):
        executor.ask(X)
    assert time.perf_counter() - start < 0.4 + 0.25


def test_back_to_back_requests_with_stragglers_keep_their_quorum():
    class Straggler:
        def __init__(self, seed):
            self.rng = np.random.default_rng(seed)

        def __call__(self, x):
            time.sleep(1.0 if self.rng.random() < 0.02 else 0.001)
            return x

    team = {f"s{i}": Straggler(i) for i in range(N)}
    with PanelExecutor(
        team, n_byzantine=F, deadline=DEADLINE, hard_deadline=HARD, max_in_flight=4
    ) as executor:
        answers = [executor.ask(X) for _ in range(40)]
    assert all(answer.guaranteed for answer in answers)
    assert any(answer.who("late") for answer in answers)


@pytest.mark.parametrize("mode", ["auto", "process"])
def test_the_process_exits_within_a_second(mode, tmp_path):
    tests = Path(__file__).resolve().parents[1]
    script = tmp_path / "ask.py"
    script.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(tests)!r})\n"
        "import numpy as np\n"
        "from asked_specialists import Honest, hanging, lying, nothing, raising, refusing\n"
        "from estimators import PanelExecutor\n"
        "if __name__ == '__main__':\n"
        f"    broken = [raising, hanging, nothing, lying] + ([refusing] if {mode!r} == 'auto' else [])\n"
        "    team = {f's{i}': c for i, c in enumerate([*broken, *map(Honest, range(10))])}\n"
        f"    executor = PanelExecutor(team, n_byzantine=4, deadline=0.2, hard_deadline=5.0, mode={mode!r})\n"
        "    answer = executor.ask(np.zeros(5))\n"
        "    assert answer.status[1] == 'late', answer.status\n"
        "    print(time.time(), flush=True)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=False)
    ended = time.time()
    assert done.returncode == 0, done.stderr
    assert ended - float(done.stdout) < 1.0
