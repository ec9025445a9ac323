"""Timings of deliberation, in units of np.mean over the specialists of a (20000, 9, 10) float64 panel.

Run with one thread: `python tests/benchmarks/bench_deliberation.py` prints the table and exits with 1 where a target
is missed.
"""

from __future__ import annotations

import hashlib
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from fusion.deliberative import (
    Budget,
    Ledger,
    Transcript,
    adjudicate,
    cap_revision,
    friedkin_johnsen,
    log_odds,
    option_features,
)


def best_of(call: Callable[[], object], repeats: int = 7) -> float:
    """Return the least of several timings in seconds, after one call that warms up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def rows() -> list[tuple[str, float, float | None, str]]:
    """Return name, measured, target and unit of every row."""
    rng = np.random.default_rng(0)
    panel = rng.dirichlet(np.ones(10), (20_000, 9))
    unit = best_of(lambda: panel.mean(axis=1), 25)
    odds = log_odds(panel)
    s = rng.random((20_000, 9)) * 0.9
    w = rng.random((9, 9)) * (1 - np.eye(9))
    w /= w.sum(axis=1, keepdims=True)
    moved = friedkin_johnsen(odds, susceptibility=s)
    log, ledger = Transcript({"seed": 0}, keep_arrays=False), Ledger(Budget(calls=10**9))
    votes = np.eye(10)[panel.argmax(axis=2)]

    def record() -> None:
        for _ in range(500):
            log.record(round=0, agent="a", role="proposer", action="propose", payload={"answer": "B"})

    def pay() -> None:
        for _ in range(500):
            ticket = ledger.reserve(tokens=100)
            assert ticket is not None
            ledger.reconcile(ticket, tokens_in=10, tokens_out=20)

    tracemalloc.start()
    table = option_features(votes, accuracy=np.full(9, 0.6))
    extra = (tracemalloc.get_traced_memory()[1] - sum(part.nbytes for part in table)) / 2**20
    tracemalloc.stop()
    return [
        ("log-odds", best_of(lambda: log_odds(panel)) / unit, None, "means"),
        (
            "Friedkin-Johnsen, complete graph",
            best_of(lambda: friedkin_johnsen(odds, susceptibility=s)) / unit,
            6,
            "means",
        ),
        (
            "Friedkin-Johnsen, general",
            best_of(lambda: friedkin_johnsen(odds, weights=w, susceptibility=s)) / unit,
            15,
            "means",
        ),
        ("caps, a third over", best_of(lambda: cap_revision(odds, moved, tv_cap=0.2)) / unit, 50, "means"),
        ("adjudicate", best_of(lambda: adjudicate(odds[:, 0])) / unit, None, "means"),
        ("sha256 of the panel", best_of(lambda: hashlib.sha256(panel).digest()) / unit, 2.5, "means"),
        ("option rows, extra memory", extra, 64, "MB"),
        ("transcript record", best_of(record) / 500 * 1e6, 15, "us"),
        ("reserve and reconcile", best_of(pay) / 500 * 1e6, 10, "us"),
    ]


if __name__ == "__main__":
    missed = 0
    for name, value, target, unit in rows():
        late = target is not None and value > target
        missed += late
        bar = "-" if target is None else f"{target:g}"
        print(f"{name:34s} {value:8.1f} {unit:6s} target {bar}{'  MISSED' if late else ''}")
    sys.exit(bool(missed))
