"""Handing on what is doubtful: thresholds against naive twins, promises by simulation, cascades on real panels."""

import numpy as np
import pytest
from scipy.stats import beta, binom
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from estimators import Defer, RobustFusionClassifier, RobustFusionRegressor, load_llm_panel, risk_coverage
from estimators.deferral import coverage_threshold, risk_threshold
from estimators.escalation import escalation_curve
from theory import PanelError


def team():
    return [
        ("line", LogisticRegression(max_iter=500)),
        ("tree", DecisionTreeClassifier(random_state=0)),
        ("bayes", GaussianNB()),
    ]


def naive_risk_threshold(doubt, wrong, risk, delta):
    """Walk up the sorted doubts with scipy's beta quantile; the same hundred steps."""
    order = np.argsort(doubt, kind="stable")
    doubt, wrong = np.asarray(doubt)[order], np.asarray(wrong)[order]
    first, n = int(np.ceil(np.log(delta) / np.log(1 - risk))), len(doubt)
    found, last = -np.inf, 0
    if first > n:
        return found
    for m in np.linspace(first, n, 100):
        m = int(np.ceil(m - 1e-9))
        while m < n and doubt[m] == doubt[m - 1]:
            m += 1
        if m == last:
            continue
        last = m
        errors = int(wrong[:m].sum())
        if beta.ppf(1 - delta, errors + 1, m - errors) > risk if errors < m else True:
            return found
        found = doubt[m - 1]
    return found


@pytest.mark.parametrize("seed", range(12))
def test_risk_threshold_is_the_naive_walk(seed):
    rng = np.random.default_rng(seed)
    doubt = np.round(rng.random(400), 2 if seed % 2 else 6)
    wrong = rng.random(400) < doubt**2 * 0.6
    for risk in (0.03, 0.1, 0.3):
        assert risk_threshold(doubt, wrong, risk) == naive_risk_threshold(doubt, wrong, risk, 0.1)


def test_coverage_threshold_is_an_order_statistic():
    rng = np.random.default_rng(0)
    for n in (1, 9, 10, 57):
        doubt = rng.random(n)
        for coverage in (0.1, 0.5, 0.9):
            rank = int(np.ceil((n + 1) * coverage - 1e-9))
            wanted = np.inf if rank > n else np.sort(doubt)[rank - 1]
            assert coverage_threshold(doubt, coverage) == wanted


def test_weights_count_samples():
    rng = np.random.default_rng(1)
    doubt, count = rng.random(150), rng.integers(0, 4, 150)
    wrong = rng.random(150) < doubt * 0.4
    many = np.repeat(doubt, count), np.repeat(wrong, count)
    assert risk_threshold(doubt, wrong, 0.2, sample_weight=count) == risk_threshold(*many, 0.2)
    assert coverage_threshold(doubt, 0.6, sample_weight=count) == coverage_threshold(many[0], 0.6)


def test_the_promised_risk_fails_no_more_often_than_delta():
    """True risk of the accepted: P(wrong | doubt) = doubt^2 / 2 makes it threshold^2 / 6."""
    rng = np.random.default_rng(0)
    failed, used, naive = 0, 0, 0
    for _ in range(600):
        doubt = rng.random(400)
        wrong = rng.random(400) < doubt**2 / 2
        threshold = max(risk_threshold(doubt, wrong, 0.05, delta=0.1), 0.0)
        failed += min(threshold, 1.0) ** 2 / 6 > 0.05
        used += threshold > 0
        order = np.argsort(doubt)
        rate = np.cumsum(wrong[order]) / np.arange(1, 401)
        plug_in = doubt[order][np.flatnonzero(rate <= 0.05).max()] if (rate <= 0.05).any() else 0.0
        naive += plug_in**2 / 6 > 0.05
    assert used > 500
    assert failed <= binom.ppf(0.999, 600, 0.1)
    assert naive > 240  # the threshold that only looks at the rate breaks its word in half the cases


def test_few_samples_prove_little():
    assert risk_threshold(np.arange(113) / 113, np.zeros(113, bool), 0.02) == -np.inf
    assert risk_threshold(np.arange(114) / 114, np.zeros(114, bool), 0.02) == 113 / 114


def test_risk_coverage_curve_counts():
    rng = np.random.default_rng(2)
    doubt, wrong = np.round(rng.random(60), 1), rng.random(60) < 0.3
    curve = risk_coverage(doubt, wrong, cost_error=2.0, cost_defer=0.5)
    assert np.isnan(curve.risk[0]) and curve.coverage[0] == 0 and curve.coverage[-1] == 1
    for threshold, coverage, risk, cost in zip(
        curve.threshold[1:], curve.coverage[1:], curve.risk[1:], curve.cost[1:], strict=True
    ):
        kept = doubt <= threshold
        assert coverage == pytest.approx(kept.mean()) and risk == pytest.approx(wrong[kept].mean())
        assert cost == pytest.approx(np.where(kept, 2.0 * wrong, 0.5).mean())
    assert curve.cheapest() == curve.threshold[curve.cost.argmin()]
    assert curve.to_frame().shape == (len(curve.cost), 4)
    assert risk_coverage([0.1, 0.2], [0, 0]).area == 0.0
    assert len(curve.plot().lines) == 2


@pytest.mark.parametrize("by", ["confidence", "margin", "epistemic", "vote"])
def test_an_ensemble_answers_what_it_promised(by):
    X, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(y))
    train, test = rows[:700], rows[700:]
    clf = RobustFusionClassifier(team(), fusion="mean", defer=Defer(by, coverage=0.7)).fit(X[train], y[train])
    answer = clf.predict_or_defer(X[test])
    assert 0.6 < (~answer.mask).mean() <= 1.0
    kept = ~answer.mask
    assert np.array_equal(answer.data[kept], clf.predict(X[test])[kept])
    assert (answer[kept] == y[test][kept]).mean() > clf.score(X[test], y[test])


def test_expensive_specialists_are_asked_only_about_doubtful_samples():
    X, y = load_digits(return_X_y=True)
    asked = []

    class Dear(LogisticRegression):
        def predict_proba(self, X):
            asked.append(len(X))
            return super().predict_proba(X)

    cheap = [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier(random_state=0))]
    clf = RobustFusionClassifier(
        [*cheap, ("dear", Dear(max_iter=300))], fusion="covariance", cv=3, defer=Defer(coverage=0.6)
    ).fit(X[:900], y[:900])
    asked.clear()
    staged = clf.predict_or_defer(X[900:], expensive=["dear"])
    assert len(asked) == 1 and 0 < asked[0] < 0.7 * len(X[900:])
    alone = RobustFusionClassifier(cheap, fusion="covariance", cv=3, defer=Defer(coverage=0.6)).fit(
        X[:900], y[:900]
    )
    assert (staged == y[900:]).mean() > (alone.predict_or_defer(X[900:]) == y[900:]).mean()
    assert staged.mask.mean() < alone.predict_or_defer(X[900:]).mask.mean()
    whole = clf.predict_or_defer(X[900:], expensive=[["tree"], ["dear"]])
    assert whole.shape == staged.shape


def test_cascades_say_what_is_wrong():
    X, y = load_iris(return_X_y=True)
    plain = RobustFusionClassifier(team()).fit(X, y)
    with pytest.raises(PanelError, match=r"needs a rule. Fit with defer=Defer"):
        plain.predict_or_defer(X)
    clf = RobustFusionClassifier(team(), defer=Defer(coverage=0.5)).fit(X, y)
    with pytest.raises(PanelError, match=r"expensive must name each specialist once; got \['nobody'\]"):
        clf.predict_or_defer(X, expensive=["nobody"])
    with pytest.raises(PanelError, match="leave at least one"):
        clf.predict_or_defer(X, expensive=["line", "tree", "bayes"])
    small = RobustFusionClassifier(team(), defer=Defer(coverage=0.5), keep_oof=False).fit(X, y)
    small.predict_or_defer(X)
    with pytest.raises(PanelError, match="which was not kept"):
        small.predict_or_defer(X, expensive=["tree"])
    with pytest.raises(PanelError, match="need an out-of-fold panel: cv='none'"):
        RobustFusionClassifier(team(), fusion="mean", cv="none", defer=Defer(coverage=0.5)).fit(X, y)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "coverage= or risk=, one of the two"),
        ({"coverage": 0.5, "risk": 0.1}, "one of the two"),
        ({"coverage": 1.0}, "coverage must be between 0 and 1; got 1.0"),
        ({"risk": 0}, "risk must be between 0 and 1; got 0"),
        ({"risk": 0.1, "delta": 2}, "delta must be between"),
        ({"by": "mood", "risk": 0.1}, "by must be one of"),
    ],
)
def test_bad_rules(params, text):
    with pytest.raises(PanelError, match=text):
        clone(Defer(**params)).threshold([0.1], [0])
    with pytest.raises(PanelError, match="numbers are not right or wrong"):
        RobustFusionRegressor([("a", LogisticRegression())], defer=Defer(risk=0.1)).defer.check(numbers=True)


def test_nobody_present_is_deferred_always():
    panel = np.full((40, 3, 2), 0.5)
    panel[:, :, 0], panel[:, :, 1] = 0.9, 0.1
    clf = RobustFusionClassifier.from_predictions(
        panel, np.zeros(40, int), fusion="mean", defer=Defer(coverage=0.9)
    )
    new = panel[:4].copy()
    new[2] = np.nan
    assert clf.predict_or_defer(new).mask.tolist() == [False, False, True, False]


@pytest.mark.parametrize("name", ["cruxeval", "mathl5", "gsm8k"])
def test_escalation_beats_the_lot_at_equal_cost_on_language_models(name):
    """Five middling models first, the best one for the doubtful: 5 to 14 points more right at the same cost."""
    data = load_llm_panel(name)
    votes = np.where((data.answers < 0)[:, :, None], np.nan, data.votes)
    order = np.argsort(data.correct.mean(axis=0))
    chosen = [*order[len(order) // 4 : len(order) // 4 + 5], order[-1]]
    curve = escalation_curve(
        votes[:, chosen], data.gold, expensive=[5], costs=[1, 1, 1, 1, 1, 20], fusion="covariance"
    )
    gain = curve.accuracy - curve.random
    assert gain[0] == pytest.approx(0, abs=1e-12) and gain[-1] == pytest.approx(0, abs=1e-12)
    assert (gain[4:14] > 2 * curve.se[4:14]).all() and gain[8] > 0.02
    assert curve.cost[0] == 5 and curve.cost[-1] == 25
    assert len(curve.plot().lines) == 2
    assert curve.to_frame().shape == (21, 5)


def test_escalation_refuses_what_is_no_cascade():
    panel, y = np.full((10, 2, 2), 0.5), np.zeros(10, int)
    for dear in ([], [0, 1]):
        with pytest.raises(PanelError, match="some but not all of 2 specialists must be expensive"):
            escalation_curve(panel, y, expensive=np.array(dear, dtype=int))
    with pytest.raises(PanelError, match="by must be"):
        escalation_curve(panel, y, expensive=[0], fusion="mean", by="mood")


def _easy_and_hard(n, rng):
    """Two specialists, sure and right about the easy samples; the second is the better one on the hard ones."""
    y = rng.integers(2, size=n)
    mean = np.where(rng.random(n)[:, None] < 0.6, 3.0, [0.3, 0.9])
    p = 1.0 / (1.0 + np.exp(-2.0 * rng.normal(mean, 1.0)))
    panel = np.stack([1.0 - p, p], axis=2)
    return np.where(y[:, None, None] == 1, panel, panel[:, :, ::-1]), y


def test_stages_together_keep_the_risk():
    over = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        clf = RobustFusionClassifier.from_predictions(
            *_easy_and_hard(2000, rng), fusion="mean", defer=Defer(risk=0.05)
        )
        panel, y = _easy_and_hard(20_000, rng)
        answer = clf.predict_or_defer(panel, expensive=["1"])
        answered = ~answer.mask
        assert answered.mean() > 0.6
        over += (answer.data[answered] != y[answered]).mean() > 0.05
    assert over <= 3  # delta = .1 for both stages together; each stage by itself: 10 of 10


def test_stages_share_what_a_promise_may_fail():
    rng = np.random.default_rng(0)
    doubt = rng.random(400)
    wrong = rng.random(400) < doubt / 4
    rule = Defer(risk=0.05, delta=0.2)
    assert rule.threshold(doubt, wrong, stages=4) == risk_threshold(doubt, wrong, 0.05, delta=0.05)
    assert rule.threshold(doubt, wrong, stages=4) < rule.threshold(doubt, wrong)
    X, y = load_iris(return_X_y=True)
    clf = RobustFusionClassifier(team(), fusion="mean", defer=Defer(risk=0.3, delta=0.2)).fit(X, y)
    told, real = [], Defer.threshold

    def spy(self, *args, **more):
        told.append(more.get("stages", 1))
        return real(self, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Defer, "threshold", spy)
        clf.predict_or_defer(X, expensive=[["tree"], ["bayes"]])
    assert told and set(told) == {3}


@pytest.mark.slow
def test_three_stages_keep_the_promise_that_thresholds_of_their_own_break():
    rng, broken = np.random.default_rng(1), {1: 0, 3: 0}
    for stages in broken:
        for _ in range(600):
            known, fresh = (
                [
                    (np.clip(p + rng.normal(scale=0.03 * (k + 1), size=n), 0, 1), p)
                    for k, p in enumerate(0.6 * np.clip(1 - 0.25 * np.arange(3), 0, 1)[:, None] * hard)
                ]
                for n, hard in ((n, rng.beta(1.2, 3, size=n)) for n in (600, 20_000))
            )
            answered, erred, cuts = np.zeros(600, dtype=bool), np.zeros(600, dtype=bool), []
            for doubt, p in known:
                wrong = rng.random(600) < p
                doubt, wrong = np.where(answered, -np.inf, doubt), np.where(answered, erred, wrong)
                cuts.append(Defer(risk=0.1).threshold(doubt, wrong, stages=stages))
                answered, erred = answered | (doubt <= cuts[-1]), wrong
            risk, left = np.zeros(20_000), np.ones(20_000, dtype=bool)
            for cut, (doubt, p) in zip(cuts, fresh, strict=True):
                here = left & (doubt <= cut)
                risk[here], left = p[here], left & ~here
            broken[stages] += bool((~left).any() and risk[~left].mean() > 0.1)
    assert broken[3] / 600 <= 0.06 and broken[1] / 600 > 0.1  # .045 and .12


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"expensive": ["a"]}, "expensive takes positions from 0 to 1, or 2 truth values; got"),
        ({"expensive": [2]}, "expensive takes positions from 0 to 1"),
        ({"expensive": [True] * 3}, "expensive takes positions from 0 to 1"),
        ({"expensive": [0], "points": 1}, "points must be a whole number >= 2; got 1"),
    ],
)
def test_escalation_says_what_it_takes(params, text):
    panel, y = np.eye(2)[np.zeros((40, 2), dtype=int)], np.zeros(40, dtype=int)
    with pytest.raises(PanelError, match=text):
        escalation_curve(panel, y, **params)
