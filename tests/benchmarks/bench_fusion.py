"""Time late rules, pre-aggregators and chains over `np.mean` of the same panel, in CPU time of one thread, and peers too.

Usage: python tests/benchmarks/bench_fusion.py [--quick] [--readme] [--rules NAME,...] [--peer NAME[=PYTHON] ...]

`--peer krum=/path/to/python` times a peer in the environment of that interpreter; without a path one is made in a
temporary folder, since the peers' pins conflict. Writes bench_fusion.json beside this file, in which peers and
rules that are not measured this time keep their numbers; with --readme also the table between the bench:fusion
marks of the README. Rule and mean are measured in alternation and the minimum of each is taken, so that a busy
machine slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402
from readme import fill  # noqa: E402

from fusion import get_operator, get_pre_aggregator, operator_names, operator_row  # noqa: E402
from theory import BudgetError  # noqa: E402

HERE = Path(__file__).resolve().parent
RECORD = HERE / "bench_fusion.json"
PANELS = {
    "10 x 1,000,000": (10, 1_000_000),
    "25 x 1,000,000": (25, 1_000_000),
    "100 x 100,000": (100, 100_000),
    "100,000 x 11 x 10": (100_000, 11, 10),
    "100,000 x 11 x 1": (100_000, 11, 1),
}
PEERS = {"byzfl": "byzfl==0.0.11", "byzpy": "byzpy==0.1.4", "krum": "krum==0.9.1", "flwr": "flwr>=1.41"}
# Rules that search among subsets: 100 specialists with 20 liars have more of them than anyone waits for.
SEARCHES = {"smea"}
# What must be reached, by rule and panel (in the order above), and microseconds for one (15, 5) sample.
BARS: dict[str, tuple[float | None, ...]] = {
    "median": (0.6, 1.8, 7.0, 0.3, 1.5),
    "trimmed_mean": (0.7, 2.1, 7.5, 0.3, 1.5),
    "winsorized_mean": (0.9, 2.1, 7.5, None, None),
    "mean_around_median": (2.0, 5.0, 14.0, None, None),
    "phocas": (2.0, 5.0, 14.0, None, None),
    "krum": (9.0, 12.0, 15.0, 1.0, None),
    "multi_krum": (9.0, 12.0, 15.0, None, None),
    **{
        name: (9.0, 12.0, 15.0, None, None)
        for name in (
            "medoid",
            "monna",
            "caf",
            "cge",
            "centered_clipping",
            "fltrust",
            "minimum_diameter_averaging",
            "minimum_variance_averaging",
            "aksel",
            "dnc",
        )
    },
    "smea": (9.0, 12.0, None, None, None),
    "bulyan": (None, 12.0, 15.0, None, None),
    "geometric_median": (10.0, 13.0, 16.0, 3.0, None),
}
# Pre-aggregators, whose result is a panel, and chains, whose result is not.
CHAINS = (
    "nearest_neighbor_mixing",
    "bucketing",
    "clip_norms",
    "adaptive_clipping",
    "nearest_neighbor_mixing >> krum",
    "nearest_neighbor_mixing >> geometric_median",
    "nearest_neighbor_mixing >> trimmed_mean",
    "adaptive_clipping >> krum",
)
BARS |= {
    "nearest_neighbor_mixing": (14.0, 20.0, 30.0, None, None),
    "nearest_neighbor_mixing >> krum": (10.0, 13.0, 16.0, None, None),
    "nearest_neighbor_mixing >> geometric_median": (10.0, 13.0, 16.0, None, None),
}
SINGLE = {"mean": 20.0, "median": 20.0, "trimmed_mean": 20.0, "krum": 20.0}
Ratios = dict[str, dict[str, dict[str, float]]]


def cpu_seconds(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def ratio(rule: Callable[[], object], base: Callable[[], object], repetitions: int) -> tuple[float, float]:
    rule(), base()  # compiles, and touches the pages
    pairs = []
    for _ in range(repetitions):
        pairs.append((cpu_seconds(rule), cpu_seconds(base)))
        if pairs[0][0] > 2.0:
            break
    bases = [base for _, base in pairs] + [cpu_seconds(base) for _ in range(3)]
    mine = min(taken for taken, _ in pairs)
    return mine / min(bases), mine


def rules(n: int) -> list[str]:
    return [*(name for name in operator_names("late") if n < 100 or name not in SEARCHES), *CHAINS]


def made(name: str, n: int) -> Callable[[object], object]:
    parts = []
    for part in name.split(" >> "):
        operator = get_pre_aggregator(part) if part in CHAINS else get_operator(part)
        if "n_byzantine" in operator.get_params():
            operator.set_params(n_byzantine=n // 5)
        if part == "clip_norms":
            operator.set_params(radius=1.0)
        parts.append(operator)
    return parts[0] if len(parts) == 1 else parts[0] >> parts[1]


def measure(repetitions: int, shrink: int = 1, only: list[str] | None = None) -> Ratios:
    rng = np.random.default_rng(0)
    results: Ratios = {}
    for label, shape in PANELS.items():
        if len(shape) == 3:
            shape = (shape[0] // shrink, *shape[1:])
        panel = rng.standard_normal(shape).astype(np.float32)
        shares = np.exp(panel)
        shares /= shares.sum(axis=-1, keepdims=True)
        results[label] = {}
        for name in rules(shape[-2]):
            if only and name not in only:
                continue
            domain = "real" if name in CHAINS else operator_row(name).domain
            if domain != "real" and shape[-1] > 1000:
                continue  # nobody has a million classes
            given, operator = shares if domain == "probabilities" else panel, made(name, shape[-2])
            try:
                over, seconds = ratio(
                    lambda operator=operator, given=given: operator(given),
                    lambda given=given: np.mean(given, axis=-2),
                    repetitions,
                )
            except BudgetError as error:
                print(f"{label:>18}  {name:<28} {error}", flush=True)
                continue
            results[label][name] = {"over_mean": round(over, 3), "cpu_ms": round(seconds * 1e3, 3)}
            print(f"{label:>18}  {name:<28} {over:8.2f} x  {seconds * 1e3:9.2f} ms", flush=True)
    return results


def single(repetitions: int) -> dict[str, float]:
    """Microseconds of a public call on one (15, 5) sample of float64."""
    panel = np.random.default_rng(0).normal(size=(15, 5))
    times = {}
    for name in SINGLE:
        operator = made(name, 15)
        operator(panel)
        times[name] = round(
            1e4
            * min(cpu_seconds(lambda o=operator: [o(panel) for _ in range(100)]) for _ in range(repetitions)),
            1,
        )
        print(f"{'15 x 5':>18}  {name:<28} {times[name]:8.1f} us", flush=True)
    return times


def peer(name: str, python: str, folder: Path, repetitions: int) -> dict[str, object]:
    """Time a peer by `python`, or in an environment made for it."""
    if not python:
        python = str(folder / name / "bin" / "python")
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PEERS[name]], check=True, timeout=600)
    command = [python, str(HERE / "peers" / "measure.py"), name, str(repetitions)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=1800)
    report: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name} {report['version']}: {report['results']}", flush=True)
    return report


def table(results: Ratios, peers: dict[str, dict]) -> str:
    """One row per rule; where a peer has the rule, the fastest peer's ratio in brackets."""
    lines = ["| operator | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for name in rules(0):
        cells = []
        for label, part in results.items():
            cell = f"{part[name]['over_mean']:.2f}" if name in part else ""
            theirs = [(report["results"].get(label, {}).get(name), who) for who, report in peers.items()]
            known = sorted(item for item in theirs if item[0] is not None)
            cells.append(f"{cell} ({known[0][0]:.0f} {known[0][1]})" if known and cell else cell)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    versions = ", ".join(f"{who} {report['version']}" for who, report in peers.items())
    note = f"\n\nIn brackets the fastest of {versions}, where they have the rule." if peers else ""
    return "\n".join(lines) + note


def missed(results: Ratios, times: dict[str, float]) -> dict[str, float]:
    found = {
        f"{name}, {label}": results[label][name]["over_mean"]
        for name, bars in BARS.items()
        for label, bar in zip(PANELS, bars, strict=True)
        if bar is not None and results[label].get(name, {"over_mean": bar})["over_mean"] > bar
    }
    return found | {f"{name}, 15 x 5": times[name] for name, bar in SINGLE.items() if times[name] > bar}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples, three repetitions")
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME[=PYTHON]", help=", ".join(PEERS))
    parser.add_argument("--rules", type=lambda text: text.split(","), help="measure these alone: mean,krum")
    options = parser.parse_args()
    earlier = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    peers: dict[str, dict] = earlier.get("peers", {})
    if options.rules and (unknown := set(options.rules) - set(rules(0))):
        parser.error(f"no rule {', '.join(sorted(unknown))}")
    results = measure(3, 10, options.rules) if options.quick else measure(9, 1, options.rules)
    if options.rules:
        # In the order of the registry, whatever was measured last.
        results = {
            label: {
                name: both[name] for name in rules(0) if name in (both := earlier["results"][label] | part)
            }
            for label, part in results.items()
        }
    times = single(9)
    with tempfile.TemporaryDirectory() as folder:
        for item in options.peer:
            name, _, python = item.partition("=")
            if name not in PEERS:
                parser.error(f"no peer {name!r}; there are {', '.join(PEERS)}")
            try:
                peers[name] = peer(name, python, Path(folder), 3)
            except (subprocess.SubprocessError, OSError) as error:
                print(f"{name} could not be measured: {error}", flush=True)
    report = {
        "unit": "CPU time over np.mean(panel, axis=-2) of the same float32 panel, one thread, minimum of repetitions",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processor": platform.machine(),
        "results": results,
        "microseconds of one 15 x 5 sample": times,
        "peers": peers,
    }
    if not options.quick:
        RECORD.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.readme:
        fill("bench:fusion", table(results, peers))
    behind = missed(results, times)
    print(f"bars missed: {behind}" if behind else "all bars met")


if __name__ == "__main__":
    main()
