"""Dynamic selection: every rule against naive loops, regions, absences, numbers, and inside the ensembles."""

import numpy as np
import pandas as pd
import pytest
import reference_dynamic as twins
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier

from estimators import (
    DynamicSelection,
    PanelAudit,
    RobustFusionClassifier,
    RobustFusionRegressor,
    Specialist,
    Views,
)
from estimators.competence import SOURCES, Neighbours, double_faults, reference_classifier
from estimators.dynamic import _BEST, _RULES, _SET_RULES
from theory import PanelError, difficulty_panel

RULES = list(_RULES)
# Labels of DESlib 0.3.7 (scikit-learn 1.5.2) for the 60 queries of the test below; "." where its des_knn chooses
# between equals, by an unstable sort.
DESLIB = {
    "ola": "110100000001100000110000110200010000000000000000000100101100",
    "rank": "110100000001000000110000110200010000000001001000000100121100",
    "lca": "110100000001100000110000110100010010000000001000000100101101",
    "mla": "110100000001100000110000110100010010000000001000000100101101",
    "a_priori": "110100000001100000110000110200010000000000001000000100101100",
    "a_posteriori": "110100000001100000110000110100010010000000001000000100111101",
    "mcb": "110100000001100000110000110200010000000000000000000100101100",
    "knora_e": "110100000001000000110000110200010000000001001000000100121100",
    "knora_u": "110100000001100000110000110100010010000000001000000100121100",
    "knop": "110100000001100000110000110100010010000000001000000100121100",
    "des_p": "110100000001100000110000110200010000000000000000000100101100",
    "des_knn": "11....0....1...........0...............0...............2..0.",
    "rrc": "110100000001100000110000110100010010000000001000000100121100",
    "logarithmic": "110100000001100000110202110100010010200000001000000120121101",
    "exponential": "110100000201100000110000110100010010000000001000000120121100",
    "min_difference": "110100000001100000110000110100010010000000001000000100101100",
    "kl": "110100000201102010110010110100010212000000201010000120121101",
}


def make(seed, n=60, m=5, k=3):
    """Specialists that know a part of the input each."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    y = rng.integers(k, size=n)
    centre = rng.normal(size=(m, 2))
    skill = np.exp(-((X[:, None] - centre) ** 2).sum(axis=2) / 2)
    panel = rng.dirichlet(np.ones(k), size=(n, m)) + np.eye(k)[y][:, None] * skill[:, :, None]
    return X, panel / panel.sum(axis=2, keepdims=True), y


@pytest.mark.parametrize(
    ("rule", "n_classes", "seeds"),
    [
        *((rule, k, (0, 1, 2)) for rule in RULES if rule != "rrc" for k in (2, 3, 4)),
        ("rrc", 3, (1,)),  # its twin integrates cell by cell
        *(pytest.param("rrc", k, (0, 1, 2), marks=pytest.mark.slow) for k in (2, 3, 4)),
    ],
)
def test_rules_equal_naive_loops(rule, n_classes, seeds):
    for seed in seeds:
        X, panel, y = make(seed, k=n_classes, m=4 + 3 * (seed % 2), n=90)
        place = panel[:, :, :1].reshape(90, -1) if n_classes == 2 else panel.reshape(90, -1)
        place = place if rule == "knop" else X
        expected = twins.predict(rule, panel[:50], y[:50], place[:50], panel[50:], place[50:], 7)
        fitted = DynamicSelection(rule, region="X").fit(panel[:50], y[:50], X=X[:50])
        fused = fitted.fuse(panel[50:], X=X[50:])
        np.testing.assert_array_equal(fused.argmax(axis=1), expected)
        np.testing.assert_allclose(fused.sum(axis=1), 1.0)


@pytest.mark.parametrize("rule", _SET_RULES)
@pytest.mark.parametrize("m", [1, 8, 9, 64, 65, 130])
def test_sets_of_any_number_of_specialists(rule, m):
    X, panel, y = make(m, n=60, m=m, k=3)
    place = panel.reshape(60, -1) if rule == "knop" else X
    expected = twins.predict(rule, panel[:40], y[:40], place[:40], panel[40:], place[40:], 9)
    fused = (
        DynamicSelection(rule, k=9, region="X").fit(panel[:40], y[:40], X=X[:40]).fuse(panel[40:], X=X[40:])
    )
    np.testing.assert_array_equal(fused.argmax(axis=1), expected)


@pytest.mark.parametrize("rule", sorted(set(RULES) - set(_BEST)))
def test_no_neighbour_is_looked_for_where_all_agree(rule, monkeypatch):
    X, panel, y = make(5, n=80)
    fitted = DynamicSelection(rule, region="X").fit(panel[:50], y[:50], X=X[:50])
    queries = panel[50:].copy()
    alone = fitted.fuse(queries, X=X[50:])
    queries[::2] = queries[::2, :1]  # five times the first answer
    queries[4, 1:] = np.nan
    asked = []
    inner = DynamicSelection._votes
    monkeypatch.setattr(DynamicSelection, "_votes", lambda *a: asked.append(len(a[3])) or inner(*a))
    fused = fitted.fuse(queries, X=X[50:])
    contested = [len(set(row.argmax(axis=1))) > 1 for row in queries[1::2]]
    assert asked == [sum(contested)] and sum(contested) > 10
    np.testing.assert_array_equal(fused[::2], np.eye(3)[queries[::2, 0].argmax(axis=1)])
    np.testing.assert_array_equal(fused[1::2], alone[1::2])


@pytest.mark.parametrize("rule", DESLIB)
def test_rules_give_the_labels_of_deslib(rule):
    rng = np.random.default_rng(7)
    X, mixing = rng.normal(size=(260, 2)), rng.normal(size=(7, 2, 3)) * 1.5
    y = np.argmax(X @ rng.normal(size=(2, 3)) + X**2 @ rng.normal(size=(2, 3)), axis=1)
    scores = np.exp(np.einsum("nd,mdc->nmc", X, mixing))
    panel = scores / scores.sum(axis=2, keepdims=True)
    fitted = DynamicSelection(rule, region="X").fit(panel[:200], y[:200], X=X[:200])
    said = fitted.fuse(panel[200:], X=X[200:]).argmax(axis=1)
    pairs = zip(map(str, said), DESLIB[rule], strict=True)
    assert "".join("." if theirs == "." else mine for mine, theirs in pairs) == DESLIB[rule]


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from(sorted(set(RULES) - {"rrc"})))
def test_rules_equal_naive_loops_in_the_space_of_answers(seed, rule):
    _, panel, y = make(seed, n=40)
    place = panel.reshape(40, -1)
    expected = twins.predict(rule, panel[:30], y[:30], place[:30], panel[30:], place[30:], 5)
    fused = DynamicSelection(rule, k=5).fit(panel[:30], y[:30]).fuse(panel[30:])
    np.testing.assert_array_equal(fused.argmax(axis=1), expected)


def test_reference_classifier_is_the_chance_that_the_truth_wins():
    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.3, 0.2])
    drawn = rng.beta(3 * p, 3 - 3 * p, size=(200_000, 3))
    simulated = (drawn.argmax(axis=1) == 0).mean()
    found = reference_classifier(np.tile(p, (1, 1, 1)), np.array([0]))[0, 0]
    assert found == pytest.approx(simulated, abs=0.01)
    known = reference_classifier(np.array([[[0.3, 0.6, 0.1]], [[1 / 3, 1 / 3, 1 / 3]]]), np.array([1, 0]))
    np.testing.assert_allclose(known[:, 0], [0.784953394056843, 0.332872292262951], atol=1e-12)  # DESlib's


@pytest.mark.parametrize("rule", SOURCES)
def test_sources_at_certainty_and_at_chance(rule):
    sure = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]])
    right, wrong, chance = SOURCES[rule](sure, np.array([0]))[0]
    assert right == pytest.approx(1.0, abs=1e-6)
    assert wrong < min(chance, right)
    if rule == "rrc":
        assert chance == pytest.approx(1 / 3, abs=1e-3) and wrong == pytest.approx(0.0, abs=1e-6)
    elif rule != "kl":
        assert chance == pytest.approx(0.0, abs=1e-12)


def test_double_faults_without_pairs():
    rng = np.random.default_rng(0)
    _, panel, y = make(0)
    rule = DynamicSelection("des_knn").fit(panel, y)

    hits = (rng.random((20, 5)) < 0.6).astype(np.uint8)
    rows = rng.integers(20, size=(4, 6))
    codes = np.zeros((4, 5), dtype=np.int8)
    near = Neighbours(hits, hits * 1.0, hits, rows, np.ones((4, 6)), codes)
    wrong = hits[rows] == 0
    pairs = np.einsum("qki,qkj->qij", wrong * 1.0, wrong * 1.0)
    expected = pairs.sum(axis=2) - np.diagonal(pairs, axis1=1, axis2=2)
    np.testing.assert_allclose(double_faults(near), expected)
    assert rule.fuse(panel).shape == (60, 3)


def test_region_matters_and_selection_helps_where_specialists_know_regions():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(2000, 1))
    y = rng.integers(2, size=2000)
    where = np.digitize(X[:, 0], [-0.33, 0.33])
    good = rng.random((2000, 3)) < np.where(where[:, None] == np.arange(3), 0.95, 0.55)
    votes = np.eye(2)[np.where(good, y[:, None], 1 - y[:, None])]
    right = {}
    for rule in ("ola", "knora_e", "knora_u", "des_p"):
        fused = DynamicSelection(rule, k=25, region="X").fit(votes[:1000], y[:1000], X=X[:1000])
        right[rule] = (fused.fuse(votes[1000:], X=X[1000:]).argmax(axis=1) == y[1000:]).mean()
    vote = (votes[1000:].mean(axis=1).argmax(axis=1) == y[1000:]).mean()
    assert right["ola"] > 0.9 > vote + 0.05
    assert min(right.values()) > vote - 0.01


@pytest.mark.parametrize("rule", RULES)
def test_absent_specialists(rule):
    X, panel, y = make(1, n=80)
    gaps = panel.copy()
    gaps[np.random.default_rng(0).random((80, 5)) < 0.3] = np.nan
    gaps[:3, 1:] = np.nan
    gaps[3] = np.nan
    gaps[:, 4, 2] = np.nan
    fitted = DynamicSelection(rule, region="X").fit(gaps, y, X=X)
    fused = fitted.fuse(gaps, X=X)
    assert np.isnan(fused[3]).all() and np.isfinite(np.delete(fused, 3, axis=0)).all()
    alone = ~np.isnan(gaps[:3, 0]).all(axis=1)
    expected = np.nan_to_num(gaps[:3, 0], nan=-1).argmax(axis=1)
    np.testing.assert_array_equal(fused[:3][alone].argmax(axis=1), expected[alone])
    never = gaps.copy()
    never[:, 0] = np.nan
    fitted = DynamicSelection(rule, region="X").fit(never, y, X=X)
    assert np.isfinite(fitted.fuse(panel, X=X)).all()
    assert np.isfinite(DynamicSelection(rule).fit(gaps, y).fuse(panel)).all()


@pytest.mark.parametrize("rule", ["ola", "a_priori", "knora_u", "des_p"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_numbers_equal_naive_loops(rule, outputs):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 2)), rng.normal(size=(90, outputs))
    panel = y[:, None] + rng.normal(size=(90, 4, outputs)) * np.exp(X[:, :1] * [1, -1, 0.3, 0])[:, :, None]
    fitted = DynamicSelection(rule, k=6, region="X").fit(panel[:60], y[:60], X=X[:60], task="regression")
    expected = twins.predict_numbers(rule, panel[:60], y[:60], X[:60], panel[60:], X[60:], 6)
    np.testing.assert_allclose(fitted.fuse(panel[60:], X=X[60:]), expected, atol=1e-10)
    gaps = panel.copy()
    gaps[rng.random((90, 4)) < 0.4] = np.nan
    gaps[0] = np.nan
    fitted = DynamicSelection(rule, k=3, region="X").fit(gaps, y, X=X, task="regression")
    fused = fitted.fuse(gaps, X=X)
    nobody = np.isnan(gaps).all(axis=(1, 2))
    assert np.isnan(fused[nobody]).all() and np.isfinite(fused[~nobody]).all()
    exact = np.repeat(y[:, None], 4, axis=1)
    fitted = DynamicSelection(rule).fit(exact, y, task="regression")
    np.testing.assert_allclose(fitted.fuse(exact), y, atol=1e-12)


def test_blocks_change_nothing(monkeypatch):
    _, panel, y = make(2, n=80)
    for rule in ("knora_e", "mcb", "rrc"):
        whole = DynamicSelection(rule).fit(panel, y).fuse(panel)
        monkeypatch.setattr("estimators.dynamic._CELLS", 500)
        np.testing.assert_array_equal(DynamicSelection(rule).fit(panel, y).fuse(panel), whole)


@pytest.mark.parametrize("region", ["panel", "X", ["a"]])
def test_inside_the_classifier(region):
    X, _, _ = make(3, n=150)
    y = np.where(X[:, 0] * X[:, 1] > 0, "in", "out")
    frame = pd.DataFrame(X, columns=["a", "b"])
    team = [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier(max_depth=2, random_state=0))]
    fusion = DynamicSelection("ola", region=region)
    model = RobustFusionClassifier(team, fusion=fusion, cv=3).fit(frame[:100], y[:100])
    assert model.weights_ is None
    assert set(model.predict(frame[100:])) <= {"in", "out"}
    np.testing.assert_allclose(model.predict_proba(frame[100:]).sum(axis=1), 1.0)


def test_inside_the_classifier_with_views_and_absences():
    X, _, y = make(4, n=120, k=2)
    second = X[:, 1].copy()
    second[::7] = np.nan
    views = Views(near=X[:, :1], far=second)
    team = [
        ("near", Specialist(GaussianNB(), view="near")),
        ("far", Specialist(GaussianNB(), view="far", on_error="abstain")),
    ]
    model = RobustFusionClassifier(team, fusion=DynamicSelection("knora_u", region="near"), cv=3)
    assert set(model.fit(views, y).predict(views)) <= {0, 1}


def test_inside_the_regressor():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(200, 1))
    t = np.where(X[:, 0] < 0, X[:, 0], np.sin(6 * X[:, 0])) + 0.05 * rng.normal(size=200)
    team = [("line", Ridge(1e-3)), ("near", KNeighborsRegressor(3))]
    model = RobustFusionRegressor(team, fusion=DynamicSelection("knora_u", region="X"), cv=4)
    assert model.fit(X[::2], t[::2]).score(X[1::2], t[1::2]) > 0.8


def test_in_an_audit():
    simulated = difficulty_panel(120, 4, seed=0)
    fusions = ["plurality_vote", "dynamic", DynamicSelection("knop"), DynamicSelection("ola", region="X")]
    audit = PanelAudit(fusions=fusions, random_state=0, cv=2, n_byzantine=(0, 1))
    names = set(audit.fit(simulated.answers, simulated.y).leaderboard_.index)
    assert {"dynamic", "dynamic_knop"} <= names


def test_refusals():
    X, panel, y = make(0)
    with pytest.raises(PanelError, match="rule must be one of ola, rank"):
        DynamicSelection("meta_des").fit(panel, y)
    with pytest.raises(PanelError, match="rule must be one of ola, a_priori, knora_u, des_p for regression"):
        DynamicSelection("lca").fit(panel[:, :, :1], np.zeros(60), task="regression")
    with pytest.raises(PanelError, match="k must be a whole number >= 1"):
        DynamicSelection(k=0).fit(panel, y)
    with pytest.raises(PanelError, match="looks at the input; pass X, or use region='panel'"):
        DynamicSelection(region="X").fit(panel, y)
    with pytest.raises(PanelError, match="X has 10 samples, the panel 60"):
        DynamicSelection(region="X").fit(panel, y, X=X[:10])
    lacking = X.copy()
    lacking[4, 0] = np.nan
    with pytest.raises(PanelError, match=r"lacks numbers in 1 samples \(first: 4\)"):
        DynamicSelection(region="X").fit(panel, y, X=lacking)
    with pytest.raises(PanelError, match="holds no numbers"):
        DynamicSelection(region="X").fit(panel, y, X=np.full((60, 1), "a", dtype=object))
    with pytest.raises(PanelError, match="must be whole numbers, or all alike"):
        DynamicSelection().fit(panel, y, sample_weight=np.arange(60.0) / 2)
    fitted = DynamicSelection(region="X").fit(panel, y, X=X, sample_weight=np.r_[np.ones(59), 0.0])
    assert fitted.n_samples_ == 59
    with pytest.raises(PanelError, match=r"panel needs \(5, 3\) .* as in fit"):
        fitted.fuse(panel[:, :4], X=X)
    with pytest.raises(PanelError, match="region needs 2 columns as in fit; got 1"):
        fitted.fuse(panel, X=X[:, :1])
    before = panel.copy()
    panel.setflags(write=False)
    clone(DynamicSelection("rrc")).fit(panel, y).fuse(panel)
    np.testing.assert_array_equal(panel, before)


@pytest.mark.parametrize("rule", ["ola", "lca", "a_priori", "mcb", "knora_u", "des_p", "des_knn", "rrc"])
def test_weights_are_counts_of_neighbours(rule):
    rng = np.random.default_rng(4)
    y = rng.integers(3, size=90)
    panel = rng.dirichlet(np.ones(3), size=(90, 5)) + 0.5 * np.eye(3)[y][:, None] * rng.random((90, 5, 1))
    panel /= panel.sum(axis=2, keepdims=True)
    counts = rng.integers(0, 4, 60)
    weighted = DynamicSelection(rule, k=5).fit(panel[:60], y[:60], sample_weight=counts)
    many = np.repeat(np.arange(60), counts)
    repeated = DynamicSelection(rule, k=5).fit(panel[many], y[many])
    assert weighted.n_samples_ == counts.sum()
    assert np.array_equal(weighted.fuse(panel[60:]), repeated.fuse(panel[60:]))


@pytest.mark.parametrize("rule", ["knora_u", "ola", "des_knn", "rrc", "kl"])
def test_huge_weights_copy_no_rows(rule):
    _, panel, y = make(2, n=60)
    many = DynamicSelection(rule, k=5).fit(panel, y, sample_weight=np.full(60, 1e12))
    assert many.n_samples_ == 60 * 10**12 and len(many._known) <= 60 * 5
    few = DynamicSelection(rule, k=5).fit(panel, y, sample_weight=np.full(60, 7.0))
    np.testing.assert_array_equal(many.fuse(panel), few.fuse(panel))


def test_des_knn_prefers_who_is_here():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=80)
    right = rng.random((80, 10)) < np.r_[np.full(3, 0.8), np.full(7, 0.6)]
    panel = np.eye(2)[np.where(right, y[:, None], 1 - y[:, None])] * 0.8 + 0.1
    now = np.full((80, 10, 2), np.nan)
    now[:, :3] = panel[:, :3]
    X = rng.normal(size=(80, 2))
    fused = DynamicSelection("des_knn", region="X").fit(panel, y, X=X).fuse(now, X=X)
    # three of ten vote, and there are three
    np.testing.assert_allclose(fused, np.eye(2)[now[:, :3].argmax(axis=2)].mean(axis=1))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("region", ["panel", "X"])
def test_no_rows_one_specialist_one_class_and_zeros(rule, region):
    X, panel, y = make(0)
    none = DynamicSelection(rule, region=region).fit(panel, y, X=X).fuse(panel[:0], X=X[:0])
    assert none.shape == (0, 3)
    alone = DynamicSelection(rule, region=region).fit(panel[:, :1], y, X=X).fuse(panel[:, :1], X=X)
    np.testing.assert_array_equal(alone.argmax(axis=1), panel[:, 0].argmax(axis=1))
    single = DynamicSelection(rule, region=region).fit(panel[:, :, :1], y * 0, X=X)
    assert np.isfinite(single.fuse(panel[:, :, :1], X=X)).all()
    panel[:3, 1] = [0.0, 0.0, np.nan]
    assert np.isfinite(DynamicSelection(rule, region=region).fit(panel, y, X=X).fuse(panel, X=X)).all()
    with pytest.raises(PanelError, match="infinite answers"):
        single.fuse(np.full((60, 5, 1), np.inf), X=X)
