"""Timings of learned fusions in CPU seconds of one thread; run with ``python tests/benchmarks/bench_estimators.py``.

Without peers, work is compared with the NumPy or scikit-learn calls that it cannot do without. With
``--crowdkit PYTHON``, ``--deslib PYTHON`` or ``--autogluon PYTHON`` (interpreters of environments of their own),
the same data go through these libraries too, and the answers are compared.
"""

from __future__ import annotations

import argparse
import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import pickle  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import tracemalloc  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from sklearn.datasets import make_classification  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from estimators import (  # noqa: E402
    DecorrelatedSelection,
    DynamicSelection,
    Gate,
    GreedySelection,
    RobustFusionClassifier,
    TruthInference,
)
from estimators.fusions import PanelFuser  # noqa: E402
from fusion import plurality_vote  # noqa: E402

# What the default chooses among.
AUTO = ("mean", "log_pool", "covariance", "best_single", "arbiter")

PEERS = {"autogluon": "AutoGluon 1.6.3", "crowdkit": "crowd-kit 1.4.2", "deslib": "DESlib 0.3.7"}

# Least ratio to a peer, and what the work is. DESlib's mcb chooses, unless told otherwise, among specialists less
# than .1 apart by a draw in a loop over rows: that loop is 13 of 14 parts of its time.
DYNAMIC = {
    "knora_e": (3.0, "KNORA-E beyond its k-NN, 5,000 x 10 x 3"),
    "knora_u": (8.0, "KNORA-U, the same"),
    "mcb": (50.0, "MCB, the same"),
    "mcb, best": (3.0, 'MCB, the peer with `selection_method="best"`'),
    "lca": (3.0, "LCA, the same"),
    "des_knn": (50.0, "DES-KNN, the same"),
}
BARS = {
    "greedy": (100.0, "25 greedy steps, 100 x 5,000 x 3"),
    "dawid_skene, 1e5": (10.0, "Dawid-Skene, 100,000 answers, 20 steps"),
    "dawid_skene, 2e6": (10.0, "Dawid-Skene, 2,000,000 answers, 20 steps"),
    **DYNAMIC,
}


def cpu(work: Callable[[], object], repeat: int = 5) -> float:
    """Return the least CPU time of a few runs, in seconds, after one that is not counted."""
    work()
    times = []
    for _ in range(repeat):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def crowd(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Return labels of 50 specialists who answer one sample in ten."""
    truth = rng.integers(4, size=n_samples)
    labels = rng.integers(4, size=(n_samples, 50))
    labels = np.where(rng.random(labels.shape) < rng.uniform(0.3, 0.8, 50), truth[:, None], labels)
    gone = rng.random(labels.shape) < 0.9
    gone[gone.all(axis=1), 0] = False  # samples without any label vanish in crowd-kit
    labels[gone] = -1
    return labels


def data() -> dict[str, dict[str, np.ndarray]]:
    """Return what each peer is given."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=5000)
    library = rng.dirichlet(np.ones(3), size=(5000, 100))
    library += np.eye(3)[y][:, None] * rng.uniform(0, 0.8, size=(100, 1))
    library /= library.sum(axis=2, keepdims=True)
    labels = {"dawid_skene, 1e5": crowd(rng, 20_000), "dawid_skene, 2e6": crowd(rng, 400_000)}
    X = rng.normal(size=(10_000, 4))
    region = np.einsum("nd,mdc->nmc", X, rng.normal(size=(10, 4, 3)))
    panel = np.exp(region) / np.exp(region).sum(axis=2, keepdims=True)
    right = np.argmax(X @ rng.normal(size=(4, 3)) + X**2 @ rng.normal(size=(4, 3)), axis=1)
    return {
        "autogluon": {"panel": library, "y": y},
        "crowdkit": labels,
        "deslib": {"panel": panel, "X": X, "y": right},
    }


class Remembered:
    """Neighbours found before, by the number of the row, which the last feature holds."""

    def __init__(self, found: tuple[np.ndarray, np.ndarray], first: int):
        self.found, self.first, self.n_neighbors = found, first, found[1].shape[1]

    def kneighbors(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = place[:, -1].astype(int) - self.first
        return self.found[0][rows], self.found[1][rows]


def ours(given: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, tuple]]:
    """Return seconds and answers of our side, by peer and work; of dynamic rules seconds with k-NN too."""
    panel, y = given["autogluon"].values()
    greedy = GreedySelection(25, loss="log_loss")
    found = {"autogluon": {"greedy": (cpu(lambda: greedy.fit(panel, y)), greedy.weights_)}, "crowdkit": {}}
    for name, labels in given["crowdkit"].items():
        truth = TruthInference(smoothing=0.0, n_iter=20, tol=-np.inf)
        seconds = cpu(lambda t=truth, one=labels: t.fit(one))
        # crowd-kit returns what it raised to 1e-10 for the logarithms of its bound
        found["crowdkit"][name] = (seconds, np.maximum(truth.proba_, 1e-10))
    found["deslib"] = dynamic(given["deslib"])
    return found


def dynamic(given: dict[str, np.ndarray]) -> dict[str, tuple[float, np.ndarray, float]]:
    """Return seconds and labels of dynamic rules with neighbours found before, and seconds with k-NN."""
    panel, X, right = given.values()
    search = NearestNeighbors(n_neighbors=7).fit(X[:5000])
    numbered = np.column_stack([X, np.arange(len(X))])
    stored, found = Remembered(search.kneighbors(X[5000:]), 5000), {}
    for name in DYNAMIC:
        model = DynamicSelection(name.split(",")[0], region="X").fit(panel[:5000], right[:5000], X=X[:5000])
        whole = cpu(lambda m=model: m.fuse(panel[5000:], X=X[5000:]))
        model.fit(panel[:5000], right[:5000], X=numbered[:5000])
        model._search = stored
        seconds = cpu(lambda m=model: m.fuse(panel[5000:], X=numbered[5000:]), repeat=20)
        found[name] = (seconds, model.fuse(panel[5000:], X=numbered[5000:]).argmax(axis=1), whole)
    return found


def against_calls(given: dict[str, dict[str, np.ndarray]]) -> list[tuple[str, float, float, float]]:
    """Return (work, seconds, seconds of the calls it needs at least, most that the ratio may be)."""
    panel, y = given["autogluon"].values()
    rows = []
    logs = cpu(lambda: np.log(panel[:, :, 0]))
    work = cpu(lambda: GreedySelection(25, loss="log_loss").fit(panel, y))
    rows.append(("25 greedy steps, 100 x 5,000 x 3 / 25 np.log", work, 25 * logs, 2.0))
    gram = cpu(lambda: np.tensordot(panel, panel, axes=([0, 2], [0, 2])))
    work = cpu(lambda: DecorrelatedSelection(shrink_covariance=None).fit(panel, y))
    rows.append(("decorrelated, same / Gram matrix", work, gram, 60.0))
    labels = given["crowdkit"]["dawid_skene, 1e5"]
    one = np.exp(np.random.default_rng(0).normal(size=(20_000, 4)))
    exps = cpu(lambda: np.exp(one))
    for name, terms, most in (
        ("Dawid-Skene", {}, 100.0),
        ("with the discount", {"correlation": "discount"}, 200.0),
    ):
        model = TruthInference(n_iter=20, tol=-np.inf, **terms)
        rows.append(
            (
                f"{name}, 1e5 answers, 20 steps / 20 np.exp",
                cpu(lambda m=model: m.fit(labels)),
                20 * exps,
                most,
            )
        )
    panel, X, right = given["deslib"].values()
    search = NearestNeighbors(n_neighbors=7).fit(X[:5000])
    near = cpu(lambda: search.kneighbors(X[5000:]))
    for rule in ("knora_e", "mcb", "des_knn", "a_posteriori"):
        model = DynamicSelection(rule, region="X").fit(panel[:5000], right[:5000], X=X[:5000])
        work = cpu(lambda m=model: m.fuse(panel[5000:], X=X[5000:]))
        rows.append((f"{rule}, 5,000 x 10 x 7 / its k-NN", work, near, 4.0))
    gate = cpu(lambda: Gate(region="X").fit(panel[:2000], right[:2000], X=X[:2000]), repeat=2)
    rows.append(("gate, 2,000 x 10, seconds", gate, 1.0, 20.0))
    return rows


def team() -> list[tuple[str, object]]:
    """Return ten classifiers as people use them: linear, Bayes, forests and boosting."""
    return [
        ("line", LogisticRegression(max_iter=500)),
        ("scaled", make_pipeline(StandardScaler(), LogisticRegression())),
        ("bayes", GaussianNB()),
        ("forest", RandomForestClassifier(20, random_state=0)),
        ("boost", HistGradientBoostingClassifier(max_iter=30)),
        ("extra", ExtraTreesClassifier(20, random_state=0)),
        ("flat", LogisticRegression(C=0.1, max_iter=500)),
        ("smooth", GaussianNB(var_smoothing=0.1)),
        ("boost-2", HistGradientBoostingClassifier(max_iter=20)),
        ("forest-2", RandomForestClassifier(10, random_state=0)),
    ]


def ensembles() -> list[tuple[str, float, float, float]]:
    """Return (work, value, reference, most that their ratio may be) of the fusing ensembles."""
    X, y = make_classification(10_000, 20, n_classes=3, n_informative=8, random_state=0)
    clf = RobustFusionClassifier(team(), fusion="mean", cv=2).fit(X[:1000], y[:1000])
    fused = {rule: clf.with_fusion(rule) for rule in AUTO}
    alone, whole = [], {rule: [] for rule in AUTO}
    for _ in range(12):  # in turns: the machine's own swings are as large as what is measured
        alone.append(cpu(lambda: [member.predict_proba(X) for member in clf.estimators_], repeat=1))
        for rule, one in fused.items():
            whole[rule].append(cpu(lambda f=one: f.predict(X), repeat=1))
    rows = [
        (f"{rule}, 10 models x 10,000 / models alone", min(whole[rule]), min(alone), 1.05) for rule in AUTO
    ]
    rng = np.random.default_rng(0)
    panel, truth = rng.dirichlet(np.ones(3), size=(10_000, 10)), rng.integers(3, size=10_000)
    weights = rng.dirichlet(np.ones(10))
    mean = PanelFuser("mean", task="classification")
    least = cpu(lambda: np.matmul(weights, panel))
    rows.append(("mean of 10,000 x 10 x 3 / matmul", cpu(lambda: mean.fuse(panel, whole=True)), least, 1.5))
    votes = panel.argmax(axis=2)

    def voting() -> np.ndarray:
        return np.apply_along_axis(lambda v: np.argmax(np.bincount(v, weights=weights)), 1, votes)

    vote = cpu(lambda: plurality_vote(panel, weights=weights))
    rows.append(("weighted vote / Voting's bincount by row", vote, cpu(voting, repeat=2), 1.0 / 15.0))
    for rule in AUTO:
        fuser = PanelFuser(rule, task="classification")
        fuser.fit(panel[:500], truth[:500])
        one = [panel[k : k + 1].copy() for k in range(100)]
        took = cpu(lambda f=fuser, o=one: [f.fuse(row, whole=True) for row in o]) / 100
        rows.append((f"one row, 10 specialists, {rule} / 50 us", took, 50e-6, 1.0))
    stored = RobustFusionClassifier.from_predictions(panel, truth, fusion="mean")
    size = len(pickle.dumps(stored, protocol=5))
    rows.append(("kept for 10,000 x 10 x 3 / the panel, bytes", size, panel.nbytes, 1.2))
    tracemalloc.start()
    RobustFusionClassifier.from_predictions(panel, truth, fusion="mean")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the bar of fit is a guard against more copies: what is kept, the errors, and their centred copy
    rows.append(("peak of a fit to it / the panel, bytes", peak, panel.nbytes, 4.5))
    tracemalloc.start()
    stored.predict_proba(panel)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rows.append(("peak of a predict / the panel, bytes", peak, panel.nbytes, 1.2))
    return rows


def run_peer(name: str, python: str, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run one peer in its own interpreter on the same data."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "data.npz"), Path(folder, "out.npz")
        np.savez(source, **given)
        script = Path(__file__).with_name("peers.py")
        subprocess.run([python, str(script), name, str(source), str(target)], check=True)
        with np.load(target) as found:
            return dict(found)


def short(value: float) -> str:
    """Write two digits, or a whole number."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def main() -> int:
    """Print the tables; return 1 if a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="write the table of peers into the README")
    for name in PEERS:
        parser.add_argument(f"--{name}", metavar="PYTHON", help="interpreter that has this peer")
    options = vars(parser.parse_args())
    readme = options.pop("readme")
    given, missed = data(), False
    for name, seconds, against, most in [*ensembles(), *against_calls(given)]:
        missed |= seconds / against > most
        print(f"{name:<52} {seconds:11.6g}  ratio {seconds / against:8.3f}  at most {most:.3g}")
    mine, rows = ours(given) if any(options.values()) else {}, []
    for peer, python in options.items():
        if python is None:
            continue
        theirs = run_peer(peer, python, given[peer])
        for work, (seconds, answer, *whole) in mine[peer].items():
            least, words = BARS[work]
            took, other = float(theirs[work]), theirs[f"{work}_answer"]
            missed |= took / seconds < least
            apart = (
                f"{(other == answer).mean():.2%} of labels equal"
                if answer.dtype.kind == "i"
                else "equal"
                if np.array_equal(other, answer)
                else f"within {np.abs(other - answer).max():.0e}"
            )
            beside = f"; with k-NN {theirs[f'{work}_total']:.4f} s, ours {whole[0]:.4f} s" if whole else ""
            print(
                f"{peer + ' ' + work:<32} {took:9.5f} s, ours {seconds:9.5f} s  {took / seconds:8.1f} times faster, "
                f"at least {least:g}; {apart}{beside}"
            )
            cells = (
                f"{short(1e3 * took)} ms",
                f"{short(1e3 * seconds)} ms",
                f"{short(took / seconds)} x",
                f"{least:g} x",
            )
            rows.append(f"| {' | '.join((words, PEERS[peer], *cells, apart))} |")
    if readme:
        from readme import fill

        head = "| work | peer | its time | ours | ratio | bar | answers |\n|---|---|---|---|---|---|---|\n"
        fill("bench:estimators", head + "\n".join(rows))
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
