"""Time one peer's rules over `np.mean`, inside that peer's environment: `python measure.py NAME REPETITIONS`.

Imports nothing of this project. Prints one JSON object: the peer's version, and panel -> rule -> ratio of CPU time.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from importlib.metadata import version  # noqa: E402

import numpy as np  # noqa: E402

PANELS = {
    "10 x 1,000,000": (10, 1_000_000),
    "25 x 1,000,000": (25, 1_000_000),
    "100 x 100,000": (100, 100_000),
}
# A rule that takes longer is measured once.
PATIENCE = 2.0


def byzfl(n: int, f: int) -> dict:
    from byzfl.aggregators import aggregators as rules

    return {
        "median": rules.Median(),
        "trimmed_mean": rules.TrMean(f=f),
        "mean_around_median": rules.Meamed(f=f),
        "krum": rules.Krum(f=f),
        "multi_krum": rules.MultiKrum(f=f),
        "geometric_median": rules.GeometricMedian(),
    }


def byzpy(n: int, f: int) -> dict:
    from byzpy.aggregators.coordinate_wise.median import CoordinateWiseMedian
    from byzpy.aggregators.coordinate_wise.trimmed_mean import CoordinateWiseTrimmedMean
    from byzpy.aggregators.geometric_wise.geometric_median import GeometricMedian
    from byzpy.aggregators.geometric_wise.krum import Krum, MultiKrum

    made = {
        "median": CoordinateWiseMedian(),
        "trimmed_mean": CoordinateWiseTrimmedMean(f=f),
        "krum": Krum(f=f),
        "multi_krum": MultiKrum(f=f, q=n - f),
        "geometric_median": GeometricMedian(),
    }
    import torch

    # Its median and geometric median refuse NumPy arrays.
    return {
        name: (lambda panel, rule=rule: rule.aggregate(list(torch.from_numpy(panel))))
        for name, rule in made.items()
    }


def krum(n: int, f: int) -> dict:
    import torch
    from krum.primitives.aggregators.geometric_median import GeometricMedian
    from krum.primitives.aggregators.krum import Krum
    from krum.primitives.aggregators.median import Median
    from krum.primitives.aggregators.multikrum import MultiKrum
    from krum.primitives.aggregators.trimmed_mean import TrimmedMean

    made = {
        "median": Median,
        "trimmed_mean": TrimmedMean,
        "krum": Krum,
        "multi_krum": MultiKrum,
        "geometric_median": GeometricMedian,
    }

    def call(rule, **more):
        return lambda panel: rule.aggregate(torch.from_numpy(panel), n=n, f=f, **more)

    return {name: call(rule, **({"m": n - f} if name == "multi_krum" else {})) for name, rule in made.items()}


def flwr(n: int, f: int) -> dict:
    from flwr.server.strategy.aggregate import aggregate_krum, aggregate_median, aggregate_trimmed_avg

    def answers(panel):
        return [([row], 1) for row in panel]

    return {
        "median": lambda panel: aggregate_median(answers(panel)),
        "trimmed_mean": lambda panel: aggregate_trimmed_avg(answers(panel), f / n),
        "krum": lambda panel: aggregate_krum(answers(panel), f, 0),
        "multi_krum": lambda panel: aggregate_krum(answers(panel), f, n - f),
    }


def seconds(call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    peer, repetitions = sys.argv[1], int(sys.argv[2])
    warnings.simplefilter("ignore")
    if "torch" in sys.modules or peer != "flwr":
        import torch

        torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    results: dict[str, dict[str, float]] = {}
    for label, (n, d) in PANELS.items():
        panel = rng.standard_normal((n, d)).astype(np.float32)
        np.mean(panel, axis=0)
        base = min(seconds(lambda panel=panel: np.mean(panel, axis=0)) for _ in range(9))
        results[label] = {}
        for name, rule in globals()[peer](n, n // 5).items():
            try:
                took = seconds(lambda rule=rule, panel=panel: rule(panel))
                if took < PATIENCE:
                    took = min(took, *(seconds(lambda r=rule, p=panel: r(p)) for _ in range(repetitions)))
            except Exception as error:  # a peer's failure is a result, not ours
                print(f"{peer} {name} {label}: {error!r:.200}", file=sys.stderr)
                continue
            results[label][name] = round(took / base, 2)
    print(json.dumps({"version": version(peer), "results": results}))


if __name__ == "__main__":
    main()
