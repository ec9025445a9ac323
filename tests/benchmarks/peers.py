"""Peers of `estimators`, timed in an environment of their own: ``PYTHON peers.py NAME DATA.npz OUT.npz``.

Nothing of ours is imported here. NAME is crowdkit, deslib or autogluon; DATA is written by bench_estimators.py.
"""

import sys
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")


def cpu(work, repeat=3):
    times = []
    for _ in range(repeat):
        start = time.thread_time()
        result = work()
        times.append(time.thread_time() - start)
    return min(times), result


def crowdkit(data):
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    found = {}
    for name, labels in data.items():
        sample, who = np.nonzero(labels >= 0)
        frame = pd.DataFrame({"task": sample, "worker": who, "label": labels[sample, who]})
        seconds, model = cpu(lambda frame=frame: DawidSkene(n_iter=20, tol=-1e9).fit(frame))
        found[name] = seconds
        found[f"{name}_answer"] = model.probas_.sort_index().sort_index(axis=1).to_numpy()
    return found


def autogluon(data):
    from autogluon.core.metrics import log_loss
    from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection

    predictions = list(np.ascontiguousarray(data["panel"].transpose(1, 0, 2)))

    def work():
        model = EnsembleSelection(25, "multiclass", log_loss, random_state=np.random.RandomState(0))
        return model.fit(predictions, data["y"])

    seconds, model = cpu(work, repeat=1)
    return {"greedy": seconds, "greedy_answer": np.asarray(model.weights_)}


def deslib(data):
    from deslib.dcs import LCA, MCB
    from deslib.des import DESKNN, KNORAE, KNORAU
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.neighbors import NearestNeighbors

    panel, X, y = data["panel"], data["X"], data["y"]
    labels = panel.argmax(axis=2)

    class Stored(ClassifierMixin, BaseEstimator):
        """Answers by row number, which the last feature holds."""

        def __init__(self, which=0):
            self.which = which
            self.classes_ = np.arange(panel.shape[2])

        def fit(self, X, y):
            return self

        def predict_proba(self, X):
            return panel[X[:, -1].astype(int), self.which]

        def predict(self, X):
            return labels[X[:, -1].astype(int), self.which]

    half = len(y) // 2
    numbered = np.column_stack([X, np.arange(len(y))])
    search = NearestNeighbors(n_neighbors=7).fit(X[:half])
    stored = search.kneighbors(X[half:])

    class Search:
        """Neighbours of rows, without their number."""

        def kneighbors(self, X, n_neighbors=None, return_distance=True):
            return search.kneighbors(X[:, :-1], n_neighbors=n_neighbors)

    class Remembered:
        """The same, found before."""

        def kneighbors(self, X, n_neighbors=None, return_distance=True):
            rows = X[:, -1].astype(int) - half
            return stored[0][rows], stored[1][rows]

    rules = {
        "knora_e": (KNORAE, {}),
        "knora_u": (KNORAU, {}),
        "mcb": (MCB, {"random_state": 0}),
        "mcb, best": (MCB, {"selection_method": "best"}),
        "lca": (LCA, {}),
        "des_knn": (DESKNN, {}),
    }
    found = {}
    for name, (kind, more) in rules.items():
        model = kind([Stored(i) for i in range(panel.shape[1])], k=7, **more).fit(numbered[:half], y[:half])
        model.roc_algorithm_ = Search()
        found[f"{name}_total"] = cpu(lambda model=model: model.predict(numbered[half:]))[0]
        model.roc_algorithm_ = Remembered()
        model._predict_base = lambda X: labels[half:].copy()  # nor are its specialists asked
        found[name], found[f"{name}_answer"] = cpu(lambda model=model: model.predict(numbered[half:]))
    return found


if __name__ == "__main__":
    peer, source, target = sys.argv[1:]
    found = {"crowdkit": crowdkit, "deslib": deslib, "autogluon": autogluon}[peer](np.load(source))
    np.savez(target, **found)
