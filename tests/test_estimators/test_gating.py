"""The gate: a rising likelihood, against the best-label gate, absences, numbers, weights, and inside ensembles."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from estimators import Gate, PanelAudit, RobustFusionClassifier
from theory import PanelError, difficulty_panel


def regions(seed, n=1500):
    """Three specialists of two labels, one good on each third of a line, the others near chance there."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, size=(n, 1))
    y = rng.integers(2, size=n)
    mine = np.digitize(X[:, 0], [-1 / 3, 1 / 3])[:, None] == np.arange(3)
    said = np.where(rng.random((n, 3)) < np.where(mine, 0.9, 0.55), y[:, None], 1 - y[:, None])
    return X, 0.8 * np.eye(2)[said] + 0.1, y, mine


def plain():
    return LogisticRegression(C=1e8, max_iter=5000, tol=1e-8)


def right(fused, y):
    return float((fused.argmax(axis=1) == y).mean())


def test_likelihood_does_not_fall_and_is_that_of_the_mixture():
    for seed in range(4):
        X, panel, y, _ = regions(seed, 400)
        gate = Gate(plain(), region="X", n_iter=15, tol=-np.inf).fit(panel, y, X=X)
        assert len(gate.log_likelihood_) == 15
        assert np.diff(gate.log_likelihood_).min() > -1e-6
        fused = gate.fuse(panel, X=X)
        mixture = np.log(fused[np.arange(len(y)), y]).sum()
        assert gate.log_likelihood_[-1] == pytest.approx(mixture, rel=1e-9)
        assert gate.log_likelihood_[0] > np.log(panel.mean(axis=1)[np.arange(len(y)), y]).sum()


def test_one_round_by_hand():
    X, panel, y, _ = regions(0, 200)
    gate = Gate(plain(), region="X", n_iter=1).fit(panel, y, X=X)
    rows, labels, weights = [], [], []
    for t in range(200):
        p = panel[t, :, y[t]]
        for i in range(3):
            rows.append((X[t] - X.mean()) / X.std())
            labels.append(i)
            weights.append(p[i] / p.sum())
    model = plain().fit(np.array(rows), labels, sample_weight=weights)
    expected = model.predict_proba((X - X.mean()) / X.std())
    np.testing.assert_allclose(gate.weigh(panel, X=X), expected, atol=1e-5)


def test_responsibilities_beat_the_best_label():
    rows = []
    for seed in range(3):
        X, panel, y, mine = regions(seed)
        half = 750
        fused = Gate(region="X").fit(panel[:half], y[:half], X=X[:half]).fuse(panel[half:], X=X[half:])
        own = panel[np.arange(len(y)), :, y]
        best = LogisticRegression().fit(X[:half], own[:half].argmax(axis=1))
        labelled = np.einsum("tm,tmc->tc", best.predict_proba(X[half:]), panel[half:])
        oracle = panel[half:][mine[half:]]
        rows.append(
            [
                right(fused, y[half:]),
                right(labelled, y[half:]),
                right(panel[half:].mean(axis=1), y[half:]),
                right(oracle, y[half:]),
            ]
        )
    gated, labelled, mean, oracle = np.mean(rows, axis=0)
    assert gated > oracle - 0.03
    assert gated > max(labelled, mean) + 0.08


def test_absent_specialists():
    X, panel, y, _ = regions(1, 600)
    gaps = panel.copy()
    gaps[np.random.default_rng(0).random((600, 3)) < 0.3] = np.nan
    gaps[:2] = np.nan
    for region in ("X", "panel"):
        gate = Gate(region=region).fit(gaps, y, X=X)
        weights, fused = gate.weigh(gaps, X=X), gate.fuse(gaps, X=X)
        nobody = np.isnan(gaps).all(axis=(1, 2))
        np.testing.assert_allclose(weights.sum(axis=1), ~nobody, atol=1e-12)
        assert (weights[np.isnan(gaps).all(axis=2)] == 0).all()
        assert np.isnan(fused[nobody]).all()
        np.testing.assert_allclose(fused[~nobody].sum(axis=1), 1.0)
    never = gaps.copy()
    never[:, 1] = np.nan
    gate = Gate(region="X").fit(never, y, X=X)
    assert gate.weights_[1] == 0
    only = np.full_like(panel, np.nan)
    only[:, 1] = panel[:, 1]
    np.testing.assert_allclose(gate.fuse(only, X=X), panel[:, 1])
    single = Gate(region="X").fit(only, y, X=X)
    np.testing.assert_allclose(single.fuse(panel, X=X), panel[:, 1])


@pytest.mark.parametrize("outputs", [1, 2])
def test_numbers(outputs):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(800, 1))
    y = rng.normal(size=(800, outputs))
    scale = np.where(X > 0, [0.2, 2.0], [2.0, 0.2])
    panel = y[:, None] + rng.normal(size=(800, 2, outputs)) * scale[:, :, None]
    gate = Gate(plain(), region="X", n_iter=30, tol=-np.inf)
    gate.fit(panel[:400], y[:400], X=X[:400], task="regression")
    assert np.diff(gate.log_likelihood_).min() > -1e-6
    loss = ((gate.fuse(panel[400:], X=X[400:]) - y[400:]) ** 2).mean()
    assert loss < 0.5 * ((panel[400:].mean(axis=1) - y[400:]) ** 2).mean()
    same = Gate(plain(), region="X").fit(panel * 1e6, y * 1e6, X=X, task="regression")
    plainly = Gate(plain(), region="X").fit(panel, y, X=X, task="regression")
    np.testing.assert_allclose(same.weigh(panel, X=X), plainly.weigh(panel, X=X), atol=1e-3)
    exact = Gate(region="X").fit(np.repeat(y[:, None], 2, axis=1), y, X=X, task="regression")
    np.testing.assert_allclose(exact.fuse(np.repeat(y[:, None], 2, axis=1), X=X), y, atol=1e-9)


def test_sample_weights_count_as_repetition():
    X, panel, y, _ = regions(2, 200)
    counts = np.random.default_rng(0).integers(0, 4, size=200)
    long = np.repeat(np.arange(200), counts)
    terms = {"region": "X", "n_iter": 5, "tol": -1.0}
    weighted = Gate(plain(), **terms).fit(panel, y, X=X, sample_weight=counts)
    repeated = Gate(plain(), **terms).fit(panel[long], y[long], X=X[long])
    np.testing.assert_allclose(weighted.weigh(panel, X=X), repeated.weigh(panel, X=X), atol=1e-3)
    assert weighted.log_likelihood_[-1] == pytest.approx(repeated.log_likelihood_[-1], rel=1e-5)


def test_permuted_specialists_and_another_model():
    X, panel, y, _ = regions(3, 300)
    order = [2, 0, 1]
    kept = Gate(region="X").fit(panel, y, X=X)
    moved = Gate(region="X").fit(panel[:, order], y, X=X)
    np.testing.assert_allclose(moved.weigh(panel[:, order], X=X), kept.weigh(panel, X=X)[:, order], atol=1e-2)
    assert kept.weights_.sum() == pytest.approx(1.0)
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0)
    trees = Gate(model, region="X", n_iter=3).fit(panel, y, X=X)
    assert not hasattr(model, "classes_") and right(trees.fuse(panel, X=X), y) > 0.8


def test_inside_ensembles():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 2))
    y = np.where(X[:, 0] * X[:, 1] > 0, "in", "out")
    team = [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier(max_depth=2, random_state=0))]
    for fusion in ("gate", Gate(region="X"), Gate(region=[0])):
        model = RobustFusionClassifier(team, fusion=fusion, cv=3).fit(X[:100], y[:100])
        assert model.weights_.sum() == pytest.approx(1.0)
        assert set(model.predict(X[100:])) <= {"in", "out"}
    simulated = difficulty_panel(120, 4, seed=0)
    audit = PanelAudit(fusions=["plurality_vote", Gate()], random_state=0, cv=2, n_byzantine=(0, 1))
    assert "gate" in audit.fit(simulated.answers, simulated.y).leaderboard_.index


def test_refusals():
    for model in (KNeighborsClassifier(), LinearSVC(), make_pipeline(StandardScaler(), LogisticRegression())):
        with pytest.raises(PanelError, match=r"needs sample_weight in fit, and predict_proba; \w+ lacks one"):
            Gate(model).fit(np.full((4, 2, 2), 0.5), [0, 1, 0, 1])
    for tol in ("x", np.nan):
        with pytest.raises(PanelError, match="tol must be a number"):
            Gate(tol=tol).fit(np.full((4, 2, 2), 0.5), [0, 1, 0, 1])
    X, panel, y, _ = regions(0, 60)
    with pytest.raises(PanelError, match="n_iter must be a whole number >= 1"):
        Gate(n_iter=0).fit(panel, y)
    with pytest.raises(PanelError, match="looks at the input; pass X"):
        Gate(region="X").fit(panel, y)
    with pytest.raises(PanelError, match="nobody to believe"):
        Gate().fit(np.full((4, 2, 2), np.nan), [0, 1, 0, 1])
    gate = Gate(region="X").fit(panel, y, X=X)
    with pytest.raises(PanelError, match=r"panel needs \(3, 2\)"):
        gate.fuse(panel[:, :2], X=X)
    with pytest.raises(PanelError, match="region needs 1 columns as in fit; got 2"):
        gate.fuse(panel, X=np.column_stack([X, X]))
    before = panel.copy()
    panel.setflags(write=False)
    clone(Gate()).fit(panel, y).fuse(panel)
    np.testing.assert_array_equal(panel, before)
