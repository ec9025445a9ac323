"""Time a peer on games that bench_theory.py wrote: python peer_theory.py PEER GAMES.npz, one JSON line per result.

Runs in an interpreter of the peer's own, so it imports nothing of this library. Written for shapiq 1.4.1, pyDVL 0.10.0,
lm-sim 0.1.1 and DESlib 0.3.7.
"""

from __future__ import annotations

import json
import os
import sys
import warnings

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import time  # noqa: E402
from importlib.metadata import version  # noqa: E402

import numpy as np  # noqa: E402

V0, BUDGET = 2.0, 20_000


def report(work: str, method: str, players: int, seconds: float, values, package: str) -> None:
    line = {
        "work": work,
        "method": method,
        "players": players,
        "seconds": seconds,
        "version": version(package),
    }
    print(json.dumps({**line, "values": None if values is None else [float(v) for v in values]}), flush=True)


def gains(matrix: np.ndarray):
    """Return the mean game as a function of a (coalition, player) table of 0 and 1, worth 0 when empty."""

    def game(coalitions) -> np.ndarray:
        z = np.atleast_2d(np.asarray(coalitions)).astype(float)
        size = z.sum(axis=1)
        loss = np.einsum("si,si->s", z @ matrix, z) / np.maximum(size, 1) ** 2
        return np.where(size > 0, V0 - loss, 0.0)

    return game


def shapiq(games) -> None:
    from shapiq import ExactComputer
    from shapiq.approximator import SVARM, KernelSHAP, PermutationSamplingSV

    for sampler in (SVARM, KernelSHAP, PermutationSamplingSV):
        start = time.process_time()
        found = sampler(n=50, random_state=0).approximate(BUDGET, gains(games["m50"]))
        seconds = time.process_time() - start
        values = [found[(i,)] for i in range(50)]
        report(
            "mean game, 50 players, 20,000 evaluations",
            f"shapiq {sampler.__name__}",
            50,
            seconds,
            values,
            "shapiq",
        )
    start = time.process_time()
    found = ExactComputer(gains(games["m20"]), n_players=20)("SV", 1)
    seconds = time.process_time() - start
    values = [found[(i,)] for i in range(20)]
    report("mean game, 20 players, exact", "shapiq ExactComputer", 20, seconds, values, "shapiq")


def pydvl(games) -> None:
    from pydvl.valuation import (
        Dataset,
        DeterministicUniformSampler,
        MaxSamples,
        NoStopping,
        PermutationSampler,
        ShapleyValuation,
    )
    from pydvl.valuation.utility.base import UtilityBase

    class Game(UtilityBase):
        def __init__(self, matrix):
            self.matrix = matrix

        def __call__(self, sample) -> float:
            if sample is None or len(sample.subset) == 0:
                return 0.0
            at = sample.subset
            return float(V0 - self.matrix[np.ix_(at, at)].mean())

    def run(work, m, sampler, stop, label) -> None:
        data = Dataset(np.arange(m, dtype=float)[:, None], np.zeros(m))
        start = time.process_time()
        valuation = ShapleyValuation(Game(games[f"m{m}"]), sampler, stop, progress=False).fit(data)
        seconds = time.process_time() - start
        result = valuation.result
        values = np.asarray(result.values)[np.argsort(np.asarray(result.indices))]
        report(work, label, m, seconds, values, "pyDVL")

    # One sample is an order of all players, 50 evaluations.
    orders = PermutationSampler(seed=0)
    stop = MaxSamples(orders, BUDGET // 50)
    run("mean game, 50 players, 20,000 evaluations", 50, orders, stop, "pyDVL permutations")
    run("mean game, 16 players, exact", 16, DeterministicUniformSampler(), NoStopping(), "pyDVL exact")


def lmsim(games) -> None:
    from lmsim.metrics import CAPA

    answers, y = games["answers"], games["y"]
    first, second = (list(np.eye(4)[answers[:, j]]) for j in (0, 1))
    start = time.process_time()
    CAPA().compute_k(first, second, y.tolist())
    report("CAPA of one pair, 14,042 samples", "lm-sim CAPA", 0, time.process_time() - start, None, "lm-sim")


def deslib(games) -> None:
    from deslib.util.diversity import correlation_coefficient

    answers, y = games["answers"], games["y"]
    taken = []
    for _ in range(5):
        start = time.process_time()
        phi = correlation_coefficient(y, answers[:, 0], answers[:, 1])
        taken.append(time.process_time() - start)
    seconds = min(taken)
    report("phi of one pair, 14,042 samples", "DESlib correlation_coefficient", 0, seconds, [phi], "deslib")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    peer, path = sys.argv[1:]
    with np.load(path) as archive:
        {"shapiq": shapiq, "pydvl": pydvl, "lmsim": lmsim, "deslib": deslib}[peer](dict(archive))
