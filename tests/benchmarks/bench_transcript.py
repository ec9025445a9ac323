"""What record and budget cost; run with ``python tests/benchmarks/bench_transcript.py``.

The least of several runs, in microseconds of one thread: a canonical record with its hash and seal (at most 15), with
the file as well, reserve and reconcile (at most 10), and the digest of an array in units of ``np.mean`` over
specialists of a (20000, 9, 10) panel (at most 2.5).
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import gc  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from fusion.deliberative import Budget, Ledger, Transcript, verify_transcript  # noqa: E402

PAYLOAD = {
    "answer": "B",
    "confidence": 0.7,
    "reasons": [{"claim": "because it is", "quote": "text of the source"}],
}
COST = {"calls": 1, "tokens_in": 10, "tokens_out": 3, "seconds": 0.1}
BARS = {"record": 15.0, "reserve + reconcile": 10.0, "digest, in means": 2.5}


def least(work: Callable[[], object], number: int, repeat: int = 7) -> float:
    """Return the least time of one call, in microseconds; the collector sleeps, as in timeit."""
    times = []
    for _ in range(repeat):
        gc.collect()
        gc.disable()
        start = time.perf_counter()
        for _ in range(number):
            work()
        times.append((time.perf_counter() - start) / number * 1e6)
        gc.enable()
    return min(times)


def measure() -> dict[str, float]:
    """Return what was measured, by name."""
    found = {}
    log = Transcript({"seed": 0})
    ledger = Ledger(Budget(calls=10**9, tokens=10**12, money=1e9, seconds=1e6))
    panel = np.random.default_rng(0).random((20_000, 9, 10))

    def record(to: Transcript) -> None:
        to.record(round=1, agent="a", role="critic", action="critique", payload=PAYLOAD, cost=COST, model="m")

    def reserve() -> None:
        ticket = ledger.reserve(tokens=50, money=0.1)
        ledger.reconcile(ticket, tokens_in=2, tokens_out=3, money=0.01)

    found["record"] = least(lambda: record(log), 5000)
    with tempfile.TemporaryDirectory() as folder, Transcript({"seed": 0}, Path(folder, "t.jsonl")) as file:
        found["record, written and flushed"] = least(lambda: record(file), 2000)
        count = len(file.records)
        found["verify a record of a file"] = least(lambda: verify_transcript(file.path), 1, 2) / count
    found["reserve + reconcile"] = least(reserve, 5000)
    mean = least(lambda: panel.mean(axis=1), 5, 20)
    bare = Transcript({}, keep_arrays=False)
    digest = least(lambda: bare.record(round=0, agent="a", role="r", action="x", arrays={"panel": panel}), 3)
    found["digest, in means"] = digest / mean
    return found


if __name__ == "__main__":
    for name, value in measure().items():
        bar = BARS.get(name)
        told = "" if bar is None else f"   at most {bar:g}: {'reached' if value <= bar else 'MISSED'}"
        print(f"{name:30s} {value:8.2f}{told}")
