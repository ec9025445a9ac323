"""Timings of `theory` against NumPy and against peers, in the same run.

Usage: python tests/benchmarks/bench_theory.py [--readme] [--peer shapiq=PYTHON] [--peer pydvl=PYTHON] [--peer lmsim=PYTHON]
       [--peer deslib=PYTHON]

Ratios are CPU time of one process, each side the least of a few runs in alternation. A peer runs in the interpreter
given for it, which needs numpy and that package (peer_theory.py says which version it was written for); without one its
rows are left out. With --readme the tables go between the bench:theory marks of the README.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import NamedTuple  # noqa: E402

import numpy as np  # noqa: E402

from theory import difficulty_panel, error_agreement, error_correlation, error_covariance, price  # noqa: E402

FAIRNESS = (
    "Peers are generic: they price any game by calling it, and the closed forms serve these games only. A peer's "
    "seconds are those of its own work on the same matrix; its error is the mean absolute error over the mean "
    "absolute price."
)


class Row(NamedTuple):
    """One line: seconds of the work, seconds it is compared with (1: none), and the most the ratio may be."""

    work: str
    against: str
    seconds: float
    base: float
    most: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.base


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU time of one run, in seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def both(
    work: Callable[[], object], base: Callable[[], object] | None = None, repeat: int = 7
) -> tuple[float, float]:
    """Return the least times of two works that run in alternation, after one run that is not counted."""
    work()
    if base is not None:
        base()
    times = [(cpu(work), 1.0 if base is None else cpu(base)) for _ in range(repeat)]
    return min(t for t, _ in times), min(t for _, t in times)


def equicorrelated_draw(m: int, n: int = 400) -> np.ndarray:
    """Return the second moment of n draws of m correlated errors of unequal size."""
    rng = np.random.default_rng(m)
    errors = rng.normal(size=(n, m)) * rng.uniform(0.5, 1.5, m) + 0.5 * rng.normal(size=(n, 1))
    return errors.T @ errors / n


def matrix_rows() -> list[Row]:
    """Prices from a matrix: no comparison, only seconds."""
    twenty = equicorrelated_draw(20)
    hundred, _ = both(lambda: [price(twenty, v0=2.0) for _ in range(100)])
    exact, _ = both(lambda: price(twenty, game="gls", v0=2.0))
    return [
        Row("mean game, 20 specialists, exact", "", hundred / 100, 1.0, 100e-6),
        Row("precision game, 20 specialists, exact", "", exact, 1.0, 50e-3),
    ]


def sample_rows() -> list[Row]:
    """Prices from errors and votes by sample, against one pass over them."""
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(100_000, 50))

    def mean() -> object:
        return np.mean(errors, axis=1)

    rows = [
        Row(
            "prices from errors, 1e5 x 50",
            "np.mean",
            *both(lambda: price(errors, v0=1.0, se=False), mean),
            4.0,
        ),
        Row("the same with standard errors", "np.mean", *both(lambda: price(errors, v0=1.0), mean), 10.0),
        Row(
            "the same with a price for every sample",
            "np.mean",
            *both(lambda: price(errors, v0=1.0, per_sample=True), mean),
            12.0,
        ),
    ]
    for n, m, most in ((100_000, 11, 40.0), (20_000, 50, 200.0)):
        table = rng.normal(size=(n, m))
        work, base = both(
            lambda table=table, m=m: price(table, v0=1.0, game="trimmed", n_byzantine=m // 5),
            lambda table=table: np.sort(table, axis=1),
        )
        rows.append(
            Row(
                f"prices under a trimmed mean, {n:.0e} x {m}".replace("e+0", "e"), "np.sort", work, base, most
            )
        )
    votes = (rng.random((100_000, 51)) < 0.7).astype(float)
    work, base = both(lambda: price(votes, game="majority", v0=0.5), lambda: np.mean(votes, axis=1))
    rows.append(Row("majority prices, 1e5 x 51", "np.mean", work, base, 15.0))
    many = difficulty_panel(8_970, 28, n_options=10, seed=0)
    terms = {"y": many.y, "game": "plurality", "v0": "chance", "n_options": 10}
    rows.append(
        Row("plurality prices, 8,970 x 28 x 10", "", both(lambda: price(many.answers, **terms))[0], 1.0, 0.1)
    )
    return rows


def agreement_rows() -> list[Row]:
    """Statistics over all pairs."""
    from sklearn.covariance import ledoit_wolf

    panel = difficulty_panel(14_042, 71, seed=0)
    wrong = (~panel.correct).astype(float)

    def corrcoef() -> object:
        return np.corrcoef(wrong.T)

    work = both(lambda: error_agreement(panel.answers, panel.y, n_options=4), corrcoef)
    rows = [Row("label statistics, 71 x 14,042 x 4", "np.corrcoef", *work, 10.0)]
    work = both(lambda: error_correlation(wrong), corrcoef)
    rows.append(Row("correlations with intervals, the same", "np.corrcoef", *work, 30.0))
    work = both(
        lambda: error_covariance(wrong, shrink="constant_correlation"),
        lambda: ledoit_wolf(wrong, assume_centered=True),
    )
    rows.append(Row("constant-correlation shrinkage, the same", "sklearn ledoit_wolf", *work, 2.0))
    return rows


def peer_rows(peers: dict[str, str]) -> list[tuple[str, str, float, float, float | None, str]]:
    """Return (work, peer, its seconds, ours, its error, version); each peer in its own interpreter."""
    script = Path(__file__).with_name("peer_theory.py")
    out = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "games.npz"
        matrices = {m: equicorrelated_draw(m) for m in (16, 20, 50)}
        small = difficulty_panel(14_042, 2, seed=0)
        np.savez(
            data, answers=small.answers, y=small.y, **{f"m{m}": matrix for m, matrix in matrices.items()}
        )
        ours = {
            m: both(lambda c=c: [price(c, v0=2.0) for _ in range(100)])[0] / 100 for m, c in matrices.items()
        }
        panel = difficulty_panel(14_042, 71, seed=0)
        pairs = 71 * 70 // 2
        phi = error_correlation((~small.correct).astype(float)).value[0, 1]
        wrong = (~panel.correct).astype(float)
        ours |= {
            "CAPA": both(lambda: error_agreement(panel.answers, panel.y, n_options=4), repeat=3)[0] / pairs,
            "phi": both(lambda: error_covariance(wrong, kind="covariance"), repeat=3)[0] / pairs,
        }
        for peer, interpreter in peers.items():
            run = subprocess.run(
                [interpreter, str(script), peer, str(data)], capture_output=True, text=True, check=False
            )
            lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
            if run.returncode or not lines:
                print(f"{peer}: no result\n{run.stderr[-1500:]}", file=sys.stderr)
            for line in lines:
                found = json.loads(line)
                m, error = found["players"], None
                if m or found["values"]:
                    exact = price(matrices[m], v0=2.0).value if m else phi
                    error = float(np.abs(np.array(found["values"]) - exact).mean() / np.abs(exact).mean())
                out.append(
                    (
                        found["work"],
                        found["method"],
                        found["seconds"],
                        ours[m or found["work"].split()[0]],
                        error,
                        found["version"],
                    )
                )
    return out


def table(rows: list[Row]) -> str:
    """Write the README's table."""
    lines = ["| work | measured | bar |", "|---|---|---|"]
    for row in rows:
        if row.against:
            value, bar = f"{row.ratio:.2g} x {row.against}", f"{row.most:g} x"
        else:
            value, bar = f"{row.seconds * 1e3:.3g} ms", f"{row.most * 1e3:g} ms"
        lines.append(f"| {row.work} | {value} | {bar} |")
    return "\n".join(lines)


def peer_table(rows: list[tuple[str, str, float, float, float | None, str]]) -> str:
    """Write the table of peers, and the fairness note."""
    lines = ["| work | peer | its time | ours | ratio | its error |", "|---|---|---|---|---|---|"]
    for work, method, seconds, ours, error, version in rows:
        shown = "" if error is None else "exact" if error < 1e-6 else f"{error:.0%}"
        ratio = f"{seconds / ours:.0e}".replace("e+0", "e")
        lines.append(
            f"| {work} | {method} ({version}) | {seconds:.2g} s | {ours * 1e6:.3g} µs | {ratio} x | {shown} |"
        )
    return "\n".join([*lines, "", FAIRNESS])


def main() -> int:
    """Print the tables; return 1 if a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="write the tables into the README")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=PYTHON", help="shapiq, pydvl, lmsim or deslib"
    )
    options = parser.parse_args()
    rows = [*matrix_rows(), *sample_rows(), *agreement_rows()]
    for row in rows:
        print(
            f"{row.work:<46} {row.seconds:10.6f} s  ratio {row.ratio:9.4f}  at most {row.most:g}"
            f"{'' if row.ratio <= row.most else '  MISSED'}"
        )
    text = table(rows)
    peers = peer_rows(dict(item.split("=", 1) for item in options.peer))
    if peers:
        text += "\n\n" + peer_table(peers)
        print(peer_table(peers))
    if options.readme:
        from readme import fill

        fill("bench:theory", text)
    return int(any(row.ratio > row.most for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
