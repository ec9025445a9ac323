"""Timings of `theory` against NumPy, in the same run; run with ``python tests/benchmarks/bench_theory.py [--readme]``.

The peers are generic and the closed forms serve these games only; ratios are CPU time of one process.
"""

from __future__ import annotations

import argparse
import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402

from theory import difficulty_panel, error_agreement, error_correlation, error_covariance, price  # noqa: E402


def cpu(work: Callable[[], object], repeat: int = 5) -> float:
    """Return the least CPU time of a few runs, in seconds, after one that is not counted."""
    work()
    times = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def cases() -> list[tuple[str, float, float, float]]:
    """Return (work, seconds, what it is compared with, most it may be)."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(100, 20))
    matrix = draws.T @ draws / 100
    rows = []
    hundred = cpu(lambda: [price(matrix, v0=2.0) for _ in range(100)]) / 100
    rows.append(("price of a 20 x 20 matrix, seconds", hundred, 1.0, 100e-6))

    errors = rng.normal(size=(100_000, 50))
    base = cpu(lambda: np.mean(errors, axis=1))
    rows.append(
        ("prices with errors from 1e5 x 50 / np.mean", cpu(lambda: price(errors, v0=1.0)), base, 60.0)
    )

    panel = difficulty_panel(14_042, 71, seed=0)
    wrong = (~panel.correct).astype(float)
    base = cpu(lambda: np.corrcoef(wrong.T))
    work = cpu(lambda: error_agreement(panel.answers, panel.y, n_options=4))
    rows.append(("agreement of 71 x 14,042 x 4 / np.corrcoef", work, base, 10.0))
    rows.append(
        ("correlation with intervals, same / np.corrcoef", cpu(lambda: error_correlation(wrong)), base, 30.0)
    )

    from sklearn.covariance import ledoit_wolf

    base = cpu(lambda: ledoit_wolf(wrong, assume_centered=True))
    work = cpu(lambda: error_covariance(wrong, shrink="constant_correlation"))
    rows.append(("constant correlation / sklearn ledoit_wolf", work, base, 6.0))

    many = difficulty_panel(8_970, 28, n_options=10, seed=0)
    terms = {"y": many.y, "game": "plurality", "v0": "chance", "n_options": 10}
    rows.append(
        ("plurality prices of 8,970 x 28 x 10, seconds", cpu(lambda: price(many.answers, **terms)), 1.0, 3.0)
    )

    big = (rng.random((100_000, 51)) < 0.7).astype(float)
    base = cpu(lambda: np.mean(big, axis=1))
    rows.append(
        (
            "majority prices of 1e5 x 51 / np.mean",
            cpu(lambda: price(big, game="majority", v0=0.5)),
            base,
            60.0,
        )
    )
    return rows


def table(rows: list[tuple[str, float, float, float]]) -> str:
    """Write the README's table."""
    lines = ["| work | measured | bar |", "|---|---|---|"]
    for name, seconds, against, most in rows:
        if against == 1.0:
            work, value, bar = name.removesuffix(", seconds"), f"{seconds * 1e3:.3g} ms", f"{most * 1e3:g} ms"
        else:
            work, base = name.split(" / ")
            value, bar = f"{seconds / against:.2g} x {base}", f"{most:g} x"
        lines.append(f"| {work} | {value} | {bar} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; return 1 if a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    options = parser.parse_args()
    rows = cases()
    for name, seconds, against, most in rows:
        print(f"{name:<50} {seconds:10.6f} s  ratio {seconds / against:9.4f}  at most {most:g}")
    if options.readme:
        from readme import fill

        fill("bench:theory", table(rows))
    return int(any(seconds / against > most for _, seconds, against, most in rows))


if __name__ == "__main__":
    raise SystemExit(main())
