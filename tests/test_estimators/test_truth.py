"""Truth inference: twins, a rising objective, the discount of copies, known truths, and every kind of label."""

import numpy as np
import pandas as pd
import pytest
import reference_estimators as twins
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

import estimators.truth_em as em
from estimators import PanelAudit, TruthInference, load_llm_panel
from estimators.excess import (
    chance_corrected,
    discount_exponents,
    excess_of_residuals,
)
from estimators.label_table import read_labels
from estimators.truth_em import Start
from theory import PanelError, difficulty_panel


def say(rng, y, accuracy, n_classes):
    """Independent one-coin specialists."""
    wrong = (y[:, None] + rng.integers(1, n_classes, size=(len(y), np.shape(accuracy)[-1]))) % n_classes
    return np.where(rng.random(wrong.shape) < accuracy, y[:, None], wrong)


def simulate(kind, n_classes, seed, n=2000, missing=0.2):
    """Nine independents; nine on hard and easy samples; six and five near-copies; six of ten that share a lure."""
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    if kind == "independent":
        labels = say(rng, y, rng.uniform(0.55, 0.85, 9), n_classes)
    elif kind == "difficulty":
        skill = rng.uniform(0.55, 0.85, 9)
        right = 1.0 / (1.0 + np.exp(-np.log(skill / (1 - skill)) - rng.normal(size=(n, 1))))
        labels = say(rng, y, right, n_classes)
    elif kind == "copies":
        one = say(rng, y, np.array([0.6]), n_classes)
        near = np.where(rng.random((n, 5)) < 0.95, one, rng.integers(n_classes, size=(n, 5)))
        labels = np.column_stack([say(rng, y, np.linspace(0.6, 0.82, 6), n_classes), near])
    else:
        alike = say(rng, y, np.full(6, 0.72), n_classes)
        lure = (y + 1) % n_classes
        caught = (rng.random((n, 1)) < 0.3) & (rng.random((n, 6)) < 0.8)
        alike = np.where(caught, lure[:, None], alike)
        labels = np.column_stack([alike, say(rng, y, rng.uniform(0.6, 0.8, 4), n_classes)])
    labels = labels.copy()
    labels[rng.random(labels.shape) < missing] = -1
    return labels, y


def accuracy(fitted, y, rows=slice(None)):
    return float((fitted.labels_ == y)[rows].mean())


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 1.0]), st.sampled_from([2, 3]))
def test_dawid_skene_equals_its_twin(seed, smoothing, n_classes):
    labels, _ = simulate("independent", n_classes, seed, n=30, missing=0.3)
    labels = labels[(labels >= 0).any(axis=1), :4]
    labels = labels[(labels >= 0).any(axis=1)]
    model = TruthInference(smoothing=smoothing, n_iter=6, tol=-np.inf).fit(labels)
    q, theta, prior, path = twins.dawid_skene(labels, len(model.classes_), smoothing, 6)
    np.testing.assert_allclose(model.proba_, q, atol=1e-11)
    np.testing.assert_allclose(model.error_rates_, np.where(theta > 0, theta, 1e-10), atol=1e-11)
    np.testing.assert_allclose(model.prior_, prior, atol=1e-12)
    if smoothing:  # without, floors of 1e-10 have no place in the naive objective
        np.testing.assert_array_less(np.array(path[:-1]) - 1e-9, path[1:])
        assert model.objective_[-1] <= path[-1] + 1e-9  # before the last M step


@pytest.mark.parametrize("model", ["dawid_skene", "one_coin"])
@pytest.mark.parametrize("correlation", ["independent", "discount"])
@pytest.mark.parametrize("smoothing", [0.0, 0.01, 1.0])
def test_objective_does_not_fall(model, correlation, smoothing):
    for seed in range(5):
        labels, _ = simulate("copies", 3, seed, n=300)
        found = TruthInference(model, correlation=correlation, smoothing=smoothing, tol=1e-9).fit(labels)
        assert found.n_iter_ == len(found.objective_) > 3
        assert np.diff(found.objective_).min() > -1e-7
        assert found.log_likelihood_ == found.objective_[-1]


@pytest.mark.parametrize("n_classes", [1, 2, 4, 5])
def test_compiled_step_equals_its_twin(n_classes, monkeypatch):
    monkeypatch.setattr(em, "_BLOCK", 64)
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=500)
    labels = np.where(rng.random((500, 9)) < 0.5, y[:, None], rng.integers(n_classes, size=(500, 9)))
    labels[rng.random(labels.shape) < 0.5] = -1
    labels[7] = -1
    table = read_labels(labels)
    rates = rng.dirichlet(np.ones(n_classes), size=(9, n_classes))
    prior = rng.dirichlet(np.ones(n_classes))
    prior[-1] = 0.0 if n_classes > 2 else prior[-1]  # a class that nobody named stays impossible
    prior /= prior.sum()
    fixed = np.where(rng.random(500) < 0.1, y, -1)
    fixed[y == n_classes - 1] = -1
    start = Start(fixed, rng.random(500), rng.random(9))
    expected = em.confusion_step(table, rates, prior, start)
    step = em._CompiledStep(table)
    for _ in range(2):  # it works in the same memory again, whatever was there
        step(table, np.full_like(rates, 1.0 / n_classes), np.full(n_classes, 1.0 / n_classes), start)
        q, counts, value = step(table, rates, prior, start)
        np.testing.assert_allclose(q, expected[0], atol=1e-13)
        np.testing.assert_allclose(counts, expected[1], atol=1e-10)
        assert value == pytest.approx(expected[2], rel=1e-12)
    np.testing.assert_allclose(q[7], prior if fixed[7] < 0 else np.eye(n_classes)[y[7]], atol=1e-9)


def test_large_input_gives_the_same_as_small_steps(monkeypatch):
    labels, _ = simulate("independent", 3, 1)
    small = TruthInference().fit(labels)
    monkeypatch.setattr(em, "_WORTH_COMPILING", 0)
    large = TruthInference().fit(labels)
    np.testing.assert_allclose(large.proba_, small.proba_, atol=1e-10)
    assert large.n_iter_ == small.n_iter_


def test_kappa_and_residual_correlation_equal_their_twins():
    labels, y = simulate("copies", 3, 0, n=60)
    found, common = chance_corrected(labels, 3, np.ones(60))
    for k, i in ((0, 1), (6, 7), (2, 9)):
        assert found[k, i] == pytest.approx(twins.kappa(labels[:, k], labels[:, i]), abs=1e-12)
        assert common[k, i] == ((labels[:, k] >= 0) & (labels[:, i] >= 0)).sum()
    q = np.eye(3)[y] * 0.7 + 0.1
    theta = np.random.default_rng(0).dirichlet(np.ones(3), size=(11, 3))
    expected = np.clip(twins.residual_correlation(labels, q, theta), 0, 1)
    expected[expected <= 1 / np.sqrt(common)] = 0
    np.testing.assert_allclose(excess_of_residuals(labels, q, theta, np.ones(60), 1.0), expected, atol=1e-10)


@given(st.integers(0, 1000), st.integers(2, 6), st.integers(1, 3))
def test_exponents_minimise_over_the_box(seed, m, factors):
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=(m, factors)) + 0.1
    matrix = np.abs(draws @ draws.T) + np.eye(m)
    spread = np.sqrt(matrix.diagonal())
    matrix = matrix / np.outer(spread, spread)
    a = discount_exponents(matrix)
    value = a @ matrix @ a / 2 - a.sum()
    for _ in range(200):
        other = np.clip(a + rng.normal(size=m) * rng.choice([0.01, 0.3]), 0, 1)
        assert other @ matrix @ other / 2 - other.sum() >= value - 1e-4
    assert ((a >= 0) & (a <= 1)).all()


def test_copies_count_as_one_and_independents_keep_their_vote():
    block = np.eye(7)
    block[:4, :4] = 1.0
    np.testing.assert_allclose(discount_exponents(block), [0.25] * 4 + [1.0] * 3, atol=1e-5)
    for seed in range(10):
        labels, _ = simulate("independent", 2 + 2 * (seed % 2), seed)
        assert TruthInference(correlation="discount").fit(labels).weights_.min() >= 0.85
        exact = labels[:, [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]]
        weights = TruthInference(correlation="discount").fit(exact).weights_
        assert weights[6:].sum() == pytest.approx(1.0, abs=0.01)
        np.testing.assert_allclose(weights[6:], weights[6], atol=1e-6)


@pytest.mark.parametrize(("n_classes", "plain", "discounted"), [(2, 0.60, 0.85), (4, 0.607, 0.935)])
def test_copies_mislead_dawid_skene_but_not_the_discount(n_classes, plain, discounted):
    rows = []
    for seed in (1, 2, 3):
        labels, y = simulate("copies", n_classes, seed)
        gold = np.where(np.arange(2000) < 100, y, -1)
        rest = np.arange(2000) >= 100
        rows.append(
            [
                accuracy(TruthInference().fit(labels), y),
                accuracy(TruthInference(correlation="discount").fit(labels), y),
                accuracy(TruthInference().fit(labels, gold), y, rest),
                accuracy(TruthInference(correlation="discount").fit(labels, gold), y, rest),
            ]
        )
    found = np.mean(rows, axis=0)
    assert found[0] == pytest.approx(plain, abs=0.02) and found[2] == pytest.approx(plain, abs=0.02)
    assert found[1] == pytest.approx(discounted, abs=0.02)
    assert found[3] > found[1] - 0.01


@pytest.mark.parametrize("n_classes", [2, 4])
def test_known_truths_tell_a_shared_lure_from_skill(n_classes):
    rows = []
    for seed in range(3):
        labels, y = simulate("lure", n_classes, seed)
        gold, rest = np.where(np.arange(2000) < 100, y, -1), np.arange(2000) >= 100
        rows.append(
            [
                accuracy(TruthInference(correlation="discount").fit(labels), y),
                accuracy(TruthInference().fit(labels, gold), y, rest),
                accuracy(TruthInference(correlation="discount").fit(labels, gold), y, rest),
            ]
        )
    blind, plain, told = np.mean(rows, axis=0)
    assert told > max(blind, plain) + 0.02


@pytest.mark.parametrize("kind", ["independent", "difficulty"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_discount_costs_little_where_nobody_copies(kind, n_classes):
    rows = []
    for seed in range(4):
        labels, y = simulate(kind, n_classes, seed)
        gold, rest = np.where(np.arange(2000) < 100, y, -1), np.arange(2000) >= 100
        fits = [TruthInference("majority"), TruthInference(), TruthInference(correlation="discount")]
        found = [accuracy(model.fit(labels), y) for model in fits]
        rows.append([*found, *(accuracy(model.fit(labels, gold), y, rest) for model in fits[1:])])
    majority, plain, discount, told, told_discount = np.mean(rows, axis=0)
    assert plain > majority + 0.005
    assert abs(discount - plain) < 0.006 and abs(told - plain) < 0.008
    assert told - 0.03 < told_discount < told + 0.005


def test_refining_needs_and_keeps_a_converged_fit():
    labels, y = simulate("copies", 4, 3)
    once = TruthInference(correlation="discount").fit(labels)
    more = TruthInference(correlation="discount", refine=2).fit(labels)
    assert more.converged_ and accuracy(more, y) > accuracy(once, y) - 0.01
    assert more.weights_[6:].sum() == pytest.approx(1.0, abs=0.2)
    assert more.weights_[:6].min() > 0.9


@pytest.mark.parametrize("model", ["dawid_skene", "one_coin", "majority"])
def test_the_same_labels_in_every_form(model):
    codes, _ = simulate("independent", 3, 0, n=80, missing=0.3)
    codes[5] = -1
    base = TruthInference(model).fit(codes)
    words = np.array(["x", "y", "z", ""])[codes]
    long = pd.DataFrame(
        [(f"q{t:02d}", f"s{k}", words[t, k] or None) for t in range(80) for k in range(9)],
        columns=["sample", "specialist", "label"],
    )
    panel = np.eye(3)[codes] * 0.5 + 1 / 6
    panel[codes < 0] = np.nan
    gaps = np.where(codes < 0, np.nan, codes)
    named = xr.DataArray(codes.T, dims=("specialist", "sample"), coords={"specialist": list("abcdefghi")})
    for labels in (words, long, panel, gaps, named, pd.DataFrame(codes)):
        other = TruthInference(model).fit(labels)
        np.testing.assert_allclose(other.proba_, base.proba_, atol=1e-12)
        np.testing.assert_allclose(other.predict_proba(labels), base.predict_proba(codes), atol=1e-12)
    shuffled = TruthInference(model).fit(long.sample(frac=1.0, random_state=0))
    order = np.argsort(shuffled.samples_)
    np.testing.assert_allclose(shuffled.proba_[order], base.proba_, atol=1e-9)
    assert shuffled.classes_.tolist() == ["x", "y", "z"] and shuffled.specialists_[0] == "s0"
    np.testing.assert_allclose(base.predict_proba(codes)[5], base.prior_, atol=1e-12)
    assert set(shuffled.predict(long)) <= {"x", "y", "z"}


def test_prediction_is_one_step_from_the_fit():
    labels, _ = simulate("independent", 3, 0)
    model = TruthInference(tol=1e-12, n_iter=500).fit(labels)
    assert model.converged_
    np.testing.assert_allclose(model.predict_proba(labels), model.proba_, atol=1e-4)
    assert not TruthInference(n_iter=2).fit(labels).converged_


def test_permuted_specialists_classes_and_samples():
    labels, _ = simulate("copies", 3, 4, n=400)
    for terms in ({}, {"correlation": "discount"}):
        base = TruthInference(**terms).fit(labels)
        order = np.random.default_rng(0).permutation(11)
        moved = TruthInference(**terms).fit(labels[:, order])
        np.testing.assert_allclose(moved.proba_, base.proba_, atol=1e-6)
        np.testing.assert_allclose(moved.weights_, base.weights_[order], atol=1e-6)
        codes = np.array([2, 0, 1, -1])[labels]
        np.testing.assert_allclose(
            TruthInference(**terms).fit(codes).proba_[:, [2, 0, 1]], base.proba_, atol=1e-9
        )
        np.testing.assert_allclose(
            TruthInference(**terms).fit(labels[::-1]).proba_[::-1], base.proba_, atol=1e-9
        )


def test_sample_weights_count_as_repetition():
    labels, _ = simulate("copies", 3, 0, n=150)
    counts = np.random.default_rng(0).integers(0, 3, size=150)
    for model in ("dawid_skene", "one_coin"):
        weighted = TruthInference(model, correlation="discount", n_iter=30, tol=-1.0)
        repeated = clone(weighted).fit(np.repeat(labels, counts, axis=0))
        weighted.fit(labels, sample_weight=counts)
        np.testing.assert_allclose(weighted.error_rates_, repeated.error_rates_, atol=1e-8)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_the_scale_of_weights_changes_no_step(scale):
    labels, _ = simulate("independent", 3, 0, n=200)
    one, other = TruthInference(), TruthInference()
    one.set_params(smoothing=0.0).fit(labels)
    other.set_params(smoothing=0.0).fit(labels, sample_weight=np.full(200, scale))
    assert one.n_iter_ == other.n_iter_
    np.testing.assert_allclose(other.proba_, one.proba_, atol=1e-10)


def test_known_truths_of_weight_zero_teach_nothing():
    labels, y = simulate("independent", 3, 0, n=80, missing=0.0)
    labels, y = labels % 2, y % 2
    gold = np.where(np.arange(80) < 60, y, -1)
    gold[0] = 2  # a class of its own
    weight = (np.arange(80) >= 60) * 1.0
    for model in ("dawid_skene", "one_coin"):
        for correlation in ("independent", "discount"):
            terms = {"correlation": correlation, "smoothing": 0.0}
            found = TruthInference(model, **terms).fit(labels, gold, sample_weight=weight)
            assert np.isfinite(found.proba_).all() and np.isfinite(found.log_likelihood_)
            assert found.prior_[2] == 0 and found.proba_[0].tolist() == [0, 0, 1]
            if model == "dawid_skene":  # of three classes a coin's errors are spread over two
                alone = TruthInference(model, **terms).fit(labels[60:])
                np.testing.assert_allclose(found.proba_[60:, :2], alone.proba_, atol=1e-6)


def test_a_silent_sample_has_only_its_own_options():
    labels, _ = simulate("independent", 4, 0, n=40)
    labels[0], labels[1] = -1, -1
    counts = np.full(40, 4)
    counts[:2] = 2, 3
    for model in ("majority", "one_coin"):
        found = TruthInference(model).fit(labels, n_options=counts).proba_
        np.testing.assert_allclose(found[0], [0.5, 0.5, 0, 0])
        np.testing.assert_allclose(found[1], [1 / 3, 1 / 3, 1 / 3, 0])


def test_options_of_each_sample():
    panel = load_llm_panel("mathl5")
    plain = TruthInference("one_coin").fit(panel.answers)
    found = TruthInference("one_coin").fit(panel.answers, n_options=panel.n_options)
    assert (found.proba_[np.arange(found.proba_.shape[1]) >= panel.n_options[:, None]] == 0).all()
    assert accuracy(found, panel.gold) > accuracy(plain, panel.gold)
    with pytest.raises(PanelError, match="error rates need it"):
        TruthInference().fit(panel.answers, n_options=panel.n_options)
    with pytest.raises(PanelError, match="at or above n_options"):
        TruthInference("one_coin").fit(panel.answers, n_options=np.ones(541, dtype=int))


@pytest.mark.parametrize(
    ("name", "model", "right"),
    [("mmlupro", "dawid_skene", 0.612), ("cruxeval", "one_coin", 0.872), ("mathl5", "one_coin", 0.764),
     ("gsm8k", "one_coin", 0.974)],
)  # fmt: skip
def test_language_models_without_truths(name, model, right):
    panel = load_llm_panel(name)
    options = None if model == "dawid_skene" else panel.n_options
    found = TruthInference(model).fit(panel.answers, n_options=options)
    assert accuracy(found, panel.gold) == pytest.approx(right, abs=0.007)


def test_as_a_fusion():
    simulated = difficulty_panel(400, 5, accuracy=0.6, seed=0)
    audit = PanelAudit(
        fusions=["plurality_vote", "dawid_skene", TruthInference(correlation="discount")],
        random_state=0, cv=2, n_byzantine=(0, 1),
    )  # fmt: skip
    audit.fit(simulated.answers, simulated.y)
    assert {"dawid_skene", "dawid_skene_discount"} <= set(audit.leaderboard_.index)
    votes = np.eye(4)[simulated.answers]
    learned = TruthInference(smoothing=1.0).fit(votes[:200], simulated.y[:200])
    assert (learned.proba_.argmax(axis=1) == simulated.y[:200]).all()  # known truths stay
    fused = learned.fuse(votes[200:])
    np.testing.assert_allclose(fused.sum(axis=1), 1.0)


def test_known_truths_by_name_and_labels_nobody_said():
    long = pd.DataFrame(
        {"sample": ["a", "a", "b", "b"], "specialist": [1, 2, 1, 2], "label": ["x", "y", "x", "x"]}
    )
    model = TruthInference().fit(long, {"a": "z"})
    assert model.labels_.tolist()[0] == "z" and model.classes_.tolist() == ["x", "y", "z"]
    assert TruthInference().fit(long, pd.Series({"a": "y"})).labels_[0] == "y"
    with pytest.raises(PanelError, match=r"samples that nobody labelled: \['c'\]"):
        TruthInference().fit(long, {"c": "x"})
    assert TruthInference().fit([[0, 1], [1, 1]], [1, -1]).labels_[0] == 1


def test_gaps_of_every_kind_in_truths_and_long_frames():
    labels, y = simulate("independent", 3, 0, n=40, missing=0.0)
    known = np.where(np.arange(40) < 10, y, -1)
    base = TruthInference().fit(labels, known)
    holes = [pd.Series(known).astype("Int64").mask(known < 0), np.where(known < 0, np.nan, known)]
    holes += [np.where(known < 0, gap, known.astype(object)) for gap in (None, pd.NA, "", float("nan"))]
    for gold in holes:
        found = TruthInference().fit(labels, gold)
        np.testing.assert_array_equal(found.proba_, base.proba_)
        assert found.classes_.dtype.kind == "i"
    words = np.array(["x", "y", "z"], dtype=object)[labels]
    words[3, 2] = ""
    frame = pd.DataFrame(
        {"sample": np.repeat(range(40), 9), "specialist": [*range(9)] * 40, "label": words.ravel()}
    )
    assert TruthInference().fit(frame).classes_.tolist() == ["x", "y", "z"]


def test_refusals():
    with pytest.raises(PanelError, match="gold names a sample twice"):
        TruthInference().fit([[0, 1], [1, 1]], pd.Series([0, 1], index=[0, 0]))
    with pytest.raises(
        PanelError, match=r"gold says \[0.0\] where labels say \['a', 'b'\]: name the truth as the"
    ):
        TruthInference().fit([["a", "b"], ["b", "b"]], [0, np.nan])
    for tol in ("x", np.nan):
        with pytest.raises(PanelError, match="tol must be a number"):
            TruthInference(tol=tol).fit([[0, 1], [1, 1]])
    fitted = TruthInference().fit(np.full((4, 3, 2), 0.5))
    for shape in ((4, 2, 2), (4, 3, 3), (4, 3)):
        with pytest.raises(PanelError, match=r"panel needs \(3, 2\) \(specialist, output\) as in fit"):
            fitted.fuse(np.full(shape, 0.5))
    with pytest.raises(PanelError, match="infinite answers"):
        fitted.fuse(np.full((4, 3, 2), np.inf))
    labels, y = simulate("independent", 2, 0, n=30)
    cases = [
        ({"model": "glad"}, "model must be 'dawid_skene'"),
        ({"correlation": "copula"}, "correlation must be"),
        ({"smoothing": -1.0}, "smoothing must be a number >= 0"),
        ({"n_iter": 0}, "n_iter must be a whole number >= 1"),
        ({"refine": -1}, "refine must be a whole number >= 0"),
    ]
    for terms, text in cases:
        with pytest.raises(PanelError, match=text):
            TruthInference(**terms).fit(labels)
    with pytest.raises(PanelError, match="about labels; for numbers"):
        TruthInference().fit(labels, task="regression")
    with pytest.raises(PanelError, match="every label is missing"):
        TruthInference().fit(np.full((3, 2), -1))
    with pytest.raises(PanelError, match=r"gold must be one label per sample \(30\)"):
        TruthInference().fit(labels, y[:5])
    model = TruthInference().fit(labels)
    with pytest.raises(PanelError, match=r"labels that were not there in fit: \[7\]"):
        model.predict_proba(np.full((2, 9), 7))
    twice = pd.DataFrame({"sample": [0, 0], "specialist": ["a", "a"], "label": [1, 2]})
    with pytest.raises(PanelError, match="specialist 'a' answered sample 0 twice"):
        TruthInference().fit(twice)
    with pytest.raises(PanelError, match="specialists that were not there in fit"):
        model.predict_proba(pd.DataFrame({"sample": [0], "specialist": ["zz"], "label": [1]}))
    before = labels.copy()
    labels.setflags(write=False)
    TruthInference(correlation="discount").fit(labels)
    np.testing.assert_array_equal(labels, before)
