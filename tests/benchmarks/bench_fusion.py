"""Time every rule over `np.mean` of the same panel, in CPU time of one thread.

Usage: python tests/benchmarks/bench_fusion.py [--quick] [--readme]

Writes bench_fusion.json beside this file; with --readme also the table between the bench:fusion marks of the
README. Both are measured in alternation and the minimum of each is taken, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402
from readme import fill  # noqa: E402

from fusion import get_operator, operator_names, operator_row  # noqa: E402

HERE = Path(__file__).resolve().parent
PANELS = {
    "100,000 x 11 x 10": (100_000, 11, 10),
    "100,000 x 11 x 1": (100_000, 11, 1),
    "10 x 1,000,000": (10, 1_000_000),
}
# The bars of the first rules, on the first panel.
BARS = {"median": 1.0, "trimmed_mean": 1.0, "krum": 2.5, "geometric_median": 4.0}


def cpu_seconds(call) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def ratio(operator, panel, repetitions: int) -> tuple[float, float]:
    def rule():
        return operator(panel)

    def base():
        return np.mean(panel, axis=-2)

    rule(), base()  # compiles, and touches the pages
    times = [(cpu_seconds(rule), cpu_seconds(base)) for _ in range(repetitions)]
    mine, theirs = (min(column) for column in zip(*times, strict=True))
    return mine / theirs, mine


def measure(repetitions: int, shrink: int = 1) -> dict[str, dict[str, dict[str, float]]]:
    rng = np.random.default_rng(0)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for label, shape in PANELS.items():
        panel = rng.standard_normal((shape[0] // shrink, *shape[1:]) if len(shape) == 3 else shape).astype(
            np.float32
        )
        results[label] = {}
        for name in operator_names("late"):
            row = operator_row(name)
            operator = get_operator(name)
            if row.takes_budget:
                operator.set_params(n_byzantine=panel.shape[-2] // 5)
            given = panel
            if row.domain == "probabilities":
                if panel.size > 2_000_000 and panel.shape[-1] > 1000:
                    continue  # no one has a million classes
                given = np.exp(panel)
                given /= given.sum(axis=-1, keepdims=True)
            over, seconds = ratio(operator, given, repetitions)
            results[label][name] = {"over_mean": round(over, 3), "cpu_ms": round(seconds * 1e3, 3)}
            print(f"{label:>18}  {name:<17} {over:7.2f} x  {seconds * 1e3:9.2f} ms", flush=True)
    return results


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = [
        "| operator | " + " | ".join(results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for name in operator_names("late"):
        cells = [f"{part[name]['over_mean']:.2f}" if name in part else "" for part in results.values()]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples, three repetitions")
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    options = parser.parse_args()
    results = measure(3, 10) if options.quick else measure(9)
    report = {
        "unit": "CPU time over np.mean(panel, axis=-2) of the same float32 panel, one thread, minimum of repetitions",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processor": platform.machine(),
        "results": results,
    }
    if not options.quick:
        (HERE / "bench_fusion.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.readme:
        fill("bench:fusion", table(results))
    missed = {n: r for n, bar in BARS.items() if (r := next(iter(results.values()))[n]["over_mean"]) > bar}
    print(f"bars missed: {missed}" if missed else "all bars met")


if __name__ == "__main__":
    main()
