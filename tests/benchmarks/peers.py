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
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


def crowdkit(data):
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    sample, who = np.nonzero(data["labels"] >= 0)
    frame = pd.DataFrame({"task": sample, "worker": who, "label": data["labels"][sample, who]})
    seconds, model = cpu(lambda: DawidSkene(n_iter=20, tol=-1e9).fit(frame))
    return {
        "dawid_skene": seconds,
        "dawid_skene_answer": model.probas_.sort_index().sort_index(axis=1).to_numpy(),
    }


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
            return self.predict_proba(X).argmax(axis=1)

    half = len(y) // 2
    numbered = np.column_stack([X, np.arange(len(y))])
    # neighbours must not see the row number
    search = NearestNeighbors(n_neighbors=7).fit(X[:half])
    near, beyond, answers = cpu(lambda: search.kneighbors(X[half:]))[0], {}, {}
    rules = {"knora_e": KNORAE, "knora_u": KNORAU, "mcb": MCB, "lca": LCA, "des_knn": DESKNN}
    for name, kind in rules.items():
        more = {"selection_method": "best"} if name == "mcb" else {}
        model = kind([Stored(i) for i in range(panel.shape[1])], k=7, **more).fit(numbered[:half], y[:half])
        model.roc_algorithm_ = search

        class Region:
            def kneighbors(self, X, n_neighbors=None, return_distance=True):
                return search.kneighbors(X[:, :-1], n_neighbors=n_neighbors)

        model.roc_algorithm_ = Region()
        seconds, said = cpu(lambda model=model: model.predict(numbered[half:]))
        beyond[name], answers[f"{name}_answer"] = seconds - near, said
    return {**beyond, **answers}


if __name__ == "__main__":
    peer, source, target = sys.argv[1:]
    found = {"crowdkit": crowdkit, "deslib": deslib, "autogluon": autogluon}[peer](np.load(source))
    np.savez(target, **found)
