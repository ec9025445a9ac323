"""The audit's later chapters: handing on, drift, and samples that count more than once."""

import json

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from estimators import PanelAudit
from estimators.doubt import deferral_curve, risk_at, rule_doubt
from estimators.drift import FUSED, RHO, measure_drift
from estimators.report import audit_to_dict, audit_to_text
from estimators.table import read_table
from theory import PanelError, correlated_panel


def votes(n, skills, seed=0, n_options=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(n_options, size=n)
    wrong = (y[:, None] + rng.integers(1, n_options, size=(n, len(skills)))) % n_options
    return np.where(rng.random((n, len(skills))) < skills, y[:, None], wrong), y


def drift_of(panel, y, n_blocks=4, **more):
    table, _ = read_table(panel, y, **more)
    return measure_drift(
        table, (panel != y[:, None]).astype(float), table.panel.mean(axis=1), n_blocks=n_blocks
    )


@pytest.fixture(scope="module")
def drifting():
    panel, y = votes(800, [0.85, 0.8, 0.75, 0.7, 0.7])
    rng = np.random.default_rng(1)
    panel[400:, 1] = rng.integers(3, size=400)
    return panel, y


@pytest.fixture(scope="module")
def audited(drifting):
    audit = PanelAudit(n_byzantine=(), random_state=0, drift_blocks=4, fusions=["plurality_vote", "log_odds"])
    return audit.fit(*drifting, n_options=3, names=list("abcde"))


def test_blocks_hold_the_means_and_the_test_is_that_of_a_table_of_counts(drifting):
    panel, y = drifting
    drift = drift_of(panel, y)
    right = panel == y[:, None]
    np.testing.assert_array_equal(drift.stop - drift.start, [200] * 4)
    np.testing.assert_allclose(drift.score, right.reshape(4, 200, 5).mean(axis=1))
    assert drift.changed() == ["1", FUSED]
    # Pooled variance within blocks instead of that of all samples: level under no change, larger otherwise.
    for name in (0, 4):
        counts = right[:, name].reshape(4, 200).sum(axis=1)
        expected = chi2_contingency(np.stack([counts, 200 - counts])).statistic
        assert drift.tests.loc[str(name), "statistic"] == pytest.approx(expected, rel=0.03)


def test_what_does_not_change_is_seldom_said_to():
    found = [drift_of(*votes(400, [0.8, 0.7, 0.6], seed=seed)).tests["p"] for seed in range(150)]
    p = np.stack([row.loc[["0", "1", "2", FUSED]] for row in found])
    assert np.abs((p < 0.1).mean() - 0.1) < 0.05
    rho = np.asarray([row.loc[RHO] for row in found])
    assert (rho < 0.1).mean() < 0.22


def test_a_new_common_cause_changes_the_correlation():
    panel, y = votes(1200, [0.7, 0.7, 0.7, 0.7])
    panel[600:, 1:3] = panel[600:, :1]
    drift = drift_of(panel, y, n_blocks=2)
    assert drift.changed() == [FUSED, RHO]  # each as good as ever, but together they are not
    assert drift.rho[0] < 0.1 < 0.3 < drift.rho[1]


def test_groups_make_the_test_careful():
    panel, y = votes(100, [0.8, 0.7, 0.6], seed=5)
    thrice, truth = np.repeat(panel, 6, axis=0), np.repeat(y, 6)
    careless = drift_of(thrice, truth)
    careful = drift_of(thrice, truth, groups=np.repeat(np.arange(100), 6))
    once = drift_of(panel, y)
    for name in ("0", "1", "2"):
        assert careless.tests.loc[name, "statistic"] > 5 * once.tests.loc[name, "statistic"]
        assert careful.tests.loc[name, "statistic"] == pytest.approx(
            once.tests.loc[name, "statistic"], rel=0.02
        )


def test_holm_is_the_book():
    from estimators.drift import _holm

    np.testing.assert_allclose(_holm(np.array([0.01, 0.04, np.nan, 0.03])), [0.03, 0.06, np.nan, 0.06])


@pytest.mark.parametrize(
    ("blocks", "says"), [(1, "at least 2"), (2.5, "whole number"), (50, "Lower drift_blocks to 40")]
)
def test_blocks_are_checked(drifting, blocks, says):
    with pytest.raises(PanelError, match=says):
        drift_of(*drifting, n_blocks=blocks)


def test_numbers_and_gaps_drift_too():
    simulated = correlated_panel(400, 4, rho=0.3, seed=0)
    panel, y = simulated.panel[:, :, 0].copy(), simulated.y[:, 0]
    panel[200:, 2] += 3.0
    panel[:20, 1] = np.nan
    audit = PanelAudit(n_byzantine=(), random_state=0, drift_blocks=4, fusions=["median", "mean"]).fit(
        panel, y
    )
    assert audit.drift_.changed()[0] == "2"
    spread = ((y - y.mean()) ** 2).mean()
    assert audit.drift_.score[3, 2] == pytest.approx(1 - ((panel[300:, 2] - y[300:]) ** 2).mean() / spread)
    assert audit.deferral_.risk[-1] == pytest.approx(
        1 - audit.leaderboard_.loc[audit.recommended_name_, "score"]
    )
    assert "squared error" in audit_to_text(audit)


def test_deferral_is_counted(audited):
    curve, fused = audited.deferral_, audited.fused_[audited.recommended_name_]
    share = fused / fused.sum(axis=1, keepdims=True)
    assert curve.coverage[-1] == 1.0
    assert curve.risk[-1] == pytest.approx(1 - audited.leaderboard_.loc[audited.recommended_name_, "score"])
    point = len(curve.coverage) // 2
    kept = 1 - share.max(axis=1) <= curve.threshold[point] + 1e-9
    assert curve.coverage[point] == pytest.approx(kept.mean())
    wrong = share.argmax(axis=1) != audited.table_.y
    assert curve.risk[point] == pytest.approx(wrong[kept].mean(), abs=0.01)  # ties count by chance
    assert risk_at(curve, 0.5)[1] < risk_at(curve, 1.0)[1]


def test_one_sure_specialist_is_doubted_by_the_panel(drifting):
    table, _ = read_table(*drifting)
    alone = table.panel[:, 0]
    agree = (drifting[0] == drifting[0][:, :1]).mean(axis=1)
    np.testing.assert_allclose(rule_doubt(table, alone), 1 - agree)
    curve = deferral_curve(table, alone)
    assert risk_at(curve, 0.5)[1] < 0.5 * risk_at(curve, 1.0)[1]
    silent = alone.copy()
    silent[:3] = np.nan
    assert np.isinf(rule_doubt(table, silent)[:3]).all()


def test_it_is_told_in_words_data_and_pictures(audited):
    findings = "\n".join(audited.findings_)
    assert "Handing the most doubtful" in findings and "Changed over time, beyond chance: b (0.8" in findings
    text = audit_to_text(audited)
    assert "If it hands its most doubtful samples to someone else" in text and "0-199" in text
    data = json.loads(json.dumps(audit_to_dict(audited), allow_nan=False))
    assert len(data["drift"]["score"]["b"]) == 4 and data["deferral"][-1]["coverage"] == 1.0
    page = audited.to_html()
    assert "When to ask someone else" in page and "Over time" in page and page.count("<svg ") == 4
    still = PanelAudit(n_byzantine=(), random_state=0, drift_blocks=2, fusions=["plurality_vote"])
    still.fit(*votes(400, [0.8, 0.7, 0.6]))
    assert "No change over time" in "\n".join(still.findings_)


def test_weights_are_counts_of_one_sample_each(drifting):
    panel, y = drifting[0][:300], drifting[1][:300]
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 4, size=300)
    rows = np.repeat(np.arange(300), weight)
    options = {"n_options": 3}
    fast = PanelAudit(n_byzantine=(1,), n_subsets=3, random_state=0, fusions=["plurality_vote", "log_odds"])
    weighted = fast.fit(panel, y, sample_weight=weight, **options)
    scores, board = weighted.scores_, weighted.leaderboard_
    assert weighted.n_samples_ == weighted.n_given_ == weight.sum()
    right = panel == y[:, None]
    np.testing.assert_allclose(scores["score"], np.average(right, axis=0, weights=weight))
    # Copies are one sample: the standard error is the weighted mean's, not that of so many independent ones.
    residual = weight[:, None] * (right - scores["score"].to_numpy())
    np.testing.assert_allclose(scores["se"], np.sqrt((residual**2).sum(axis=0)) / weight.sum(), rtol=0.01)
    repeated = PanelAudit(**fast.get_params()).fit(panel[rows], y[rows], groups=rows, **options)
    np.testing.assert_array_equal(repeated.error_correlation_.value, weighted.error_correlation_.value)
    np.testing.assert_array_equal(repeated.prices_.value, weighted.prices_.value)
    assert repeated.leaderboard_.equals(board) and repeated.robustness_.equals(weighted.robustness_)
    bounded = PanelAudit(n_byzantine=(), fusions=["plurality_vote"], max_samples=50, random_state=0)
    bounded.fit(panel, y, sample_weight=weight, **options)
    assert (bounded.n_samples_, bounded.n_given_) == (50, weight.sum())


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        (np.full(300, 0.5), "whole numbers"),
        (np.ones(299), "300 whole numbers"),
        (-np.ones(300), "whole numbers >= 0"),
        (["many"] * 300, "whole numbers"),
        (np.full(300, np.nan), "whole numbers"),
        (np.zeros(300), "adds up to 0"),
        (np.full(300, 1e7), "Divide it"),
    ],
)
def test_weights_are_checked(drifting, weight, says):
    with pytest.raises(PanelError, match=says):
        PanelAudit(n_byzantine=()).fit(drifting[0][:300], drifting[1][:300], sample_weight=weight)
