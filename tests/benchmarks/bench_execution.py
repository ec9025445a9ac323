"""Timings of panels within deadlines and of states; run with ``python tests/benchmarks/bench_execution.py``.

Wall times, as the work is spread over threads and processes.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from estimators import PanelExecutor, load_state, save_state  # noqa: E402

# Milliseconds for a request to 15 specialists that do nothing; and times np.savez.
BARS = {"thread": 0.3, "async": 0.5, "process": 15.0, "save": 3.0, "load": 3.0}


def same(x: np.ndarray) -> np.ndarray:
    """Do nothing."""
    return x


async def same_later(x: np.ndarray) -> np.ndarray:
    """Do nothing in a coroutine."""
    return x


def wall(work: Callable[[], object], repeat: int) -> float:
    """Return the median wall time of some runs, in seconds; of five rounds the best, as others use the machine."""
    rounds = []
    for _ in range(5):
        work()
        times = []
        for _ in range(repeat):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        rounds.append(float(np.median(times)))
    return min(rounds)


def requests() -> dict[str, float]:
    """Return milliseconds of a request by mode."""
    x = np.ones(5)
    found = {}
    for mode, call in (("thread", same), ("async", same_later), ("process", same)):
        team = {f"s{i}": call for i in range(15)}
        with PanelExecutor(team, n_byzantine=4, deadline=1.0, mode=mode) as executor:
            found[mode] = 1e3 * wall(lambda executor=executor: executor.ask(x), 200)
    return found


def states() -> dict[str, float]:
    """Return times np.savez of a million float64."""
    array = np.random.default_rng(0).normal(size=1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.zip", Path(folder) / "theirs.npz"
        peer = wall(lambda: np.savez(theirs, array=array), 9)
        return {
            "save": wall(lambda: save_state(array, ours), 9) / peer,
            "load": wall(lambda: load_state(ours), 9) / peer,
        }


def main() -> None:
    """Print what was measured, and whether it is within the bars."""
    for name, value in {**requests(), **states()}.items():
        unit = "ms" if name in ("thread", "async", "process") else "x savez"
        verdict = "ok" if value <= BARS[name] else "MISSED"
        print(f"{name:8s} {value:8.3f} {unit:8s} bar {BARS[name]:g}  {verdict}")


if __name__ == "__main__":
    main()
