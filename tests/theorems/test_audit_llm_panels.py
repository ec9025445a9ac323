"""What the audit promises on four real panels of language models, held on halves that nothing learned from."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from estimators import PanelAudit, load_llm_panel

# Stored facts: rho (mean, min, max), pairwise same wrong answer, effective number, variance ratio,
# 1 + (M - 1) rho, plurality; and the logistic stack on test halves: mean and standard deviation.
FACTS = {
    "mmlupro": ((0.355, 0.134, 0.650), 0.350, 2.65, 10.64, 10.58, 0.589),
    "cruxeval": ((0.447, 0.030, 0.736), 0.196, 2.18, 23.63, 23.37, 0.860),
    "mathl5": ((0.312, 0.025, 0.556), 0.138, 3.04, 13.90, 13.49, 0.717),
    "gsm8k": ((0.330, 0.080, 0.764), 0.496, 2.89, 12.73, 14.86, 0.970),
}
STACK = {
    "mmlupro": (0.721, 0.002),
    "cruxeval": (0.968, 0.009),
    "mathl5": (0.921, 0.011),
    "gsm8k": (0.975, 0.005),
}
SINGLE = {"mmlupro": 0.703, "cruxeval": 0.964, "mathl5": 0.899, "gsm8k": 0.966}
SEEDS = {"mmlupro": 5, "cruxeval": 20, "mathl5": 20, "gsm8k": 20}


@pytest.fixture(scope="module", params=FACTS)
def panel(request):
    return load_llm_panel(request.param)


def halves(panel, seed):
    order = np.random.default_rng(seed).permutation(len(panel.gold))
    return order[: len(order) // 2], order[len(order) // 2 :]


def audited(panel, rows=slice(None), **params):
    audit = PanelAudit(n_byzantine=(), random_state=0, **params)
    options = panel.n_options[rows] + panel.open
    return audit.fit(panel.answers[rows], panel.gold[rows], n_options=options, names=panel.specialist)


def reached_accuracy(panel, audit, rows):
    said = audit.predict(panel.answers[rows], n_options=panel.n_options[rows] + panel.open)
    return float((said == panel.gold[rows]).mean())


def plain_stack(panel, train, test):
    """One row per sample and option, one column per specialist: did it choose this option?"""

    def option_rows(rows):
        options = panel.n_options[rows] + panel.open
        sample = np.repeat(np.arange(len(rows)), options)
        option = np.concatenate([np.arange(k) for k in options])
        votes = (panel.answers[rows][sample] == option[:, None]).astype(float)
        return np.column_stack([votes, votes.sum(axis=1) == 0]), sample, option

    table, sample, option = option_rows(train)
    model = LogisticRegression(C=0.3, max_iter=1000).fit(table, panel.gold[train][sample] == option)
    table, sample, option = option_rows(test)
    scores = np.full((len(test), option.max() + 1), -np.inf)
    scores[sample, option] = model.decision_function(table)
    return float((scores.argmax(axis=1) == panel.gold[test]).mean())


def best_single(panel, train, test):
    best = int(panel.correct[train].mean(axis=0).argmax())
    return float(panel.correct[test, best].mean())


def words_hold(audit, train):
    """The reasons name the rule and give the paired interval of the leaderboard."""
    row = audit.leaderboard_.loc[audit.recommended_name_]
    low, high = row["gain_best_single_low"], row["gain_best_single_high"]
    verdict = "beats" if low > 0 else "is worse than" if high < 0 else "is level with"
    assert audit.reasons_[0].startswith(f"Use {audit.recommended_name_}: accuracy {row['score']:.3f}")
    sentence = (
        f"It {verdict} the best single specialist: {row['gain_best_single']:+.3f} accuracy "
        f"(95 % paired interval {low:+.3f} to {high:+.3f})."
    )
    assert sentence in audit.reasons_, audit.reasons_
    assert verdict != "is worse than"


def test_recommendation_reaches_a_plain_stack(panel):
    seeds = 1 if panel.name == "mmlupro" else 6
    gaps, leads = [], []
    for seed in range(seeds):
        train, test = halves(panel, seed)
        audit = audited(panel, train)
        words_hold(audit, train)
        reached = reached_accuracy(panel, audit, test)
        gaps.append(reached - plain_stack(panel, train, test))
        leads.append(reached - best_single(panel, train, test))
    assert np.mean(gaps) >= -STACK[panel.name][1]
    assert np.mean(leads) >= 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_recommendation_reaches_the_stored_stack(panel):
    mean, deviation = STACK[panel.name]
    reached, single, stacked = [], [], []
    for seed in range(SEEDS[panel.name]):
        train, test = halves(panel, seed)
        audit = audited(panel, train)
        words_hold(audit, train)
        reached.append(reached_accuracy(panel, audit, test))
        single.append(best_single(panel, train, test))
        stacked.append(plain_stack(panel, train, test))
    assert np.mean(reached) >= mean - deviation
    assert np.mean(reached) >= np.mean(single)
    assert np.mean(single) == pytest.approx(SINGLE[panel.name], abs=2e-3)
    assert np.mean(stacked) == pytest.approx(mean, abs=2e-3)


def test_figures_through_the_audit(panel):
    audit = audited(panel, fusions=["plurality_vote", "best_single"])
    (rho, low, high), same, number, ratio, expected, plurality = FACTS[panel.name]
    m = len(audit.names_)
    pairs = audit.error_correlation_.value[np.triu_indices(m, 1)]
    assert audit.error_correlation_.rho_mean == pytest.approx(rho, abs=5e-4)
    assert pairs.min() == pytest.approx(low, abs=5e-4) and pairs.max() == pytest.approx(high, abs=5e-4)
    assert audit.agreement_.mean["same_wrong"] == pytest.approx(same, abs=6e-4)
    assert audit.effective_number_.all["exchangeable"] == pytest.approx(number, abs=6e-3)
    assert audit.variance_.ratio == pytest.approx(ratio, abs=6e-3)
    assert 1 + (m - 1) * audit.variance_.rho_mean == pytest.approx(expected, abs=6e-3)
    # the stored figure breaks ties at random; the leaderboard and the game take the mean over ties
    assert audit.leaderboard_.loc["plurality_vote", "score"] == pytest.approx(plurality, abs=5e-3)
    prices = audit.prices_
    assert 1 - (prices.v0 - prices.total) == pytest.approx(
        audit.leaderboard_.loc["plurality_vote", "score"], abs=5e-3
    )
    assert prices.value.sum() == pytest.approx(prices.total, abs=1e-12)
    assert audit.scores_["score"].max() == pytest.approx(panel.correct.mean(axis=0).max(), abs=1e-12)
    assert f"mean correlation of {audit.error_correlation_.rho_mean:.3f}" in audit.findings_[0]
    assert f"{audit.effective_number_.all['exchangeable']:.2f} independent ones" in audit.findings_[0]


def test_clones_added_to_a_panel_are_found_and_paid_once():
    panel = load_llm_panel("mathl5")
    answers = np.column_stack([panel.answers[:, :8], panel.answers[:, [3, 3]]])
    names = [*panel.specialist[:8], "copy one", "copy two"]
    options = panel.n_options + 1
    fusions = ["plurality_vote", "best_single"]
    audit = PanelAudit(n_byzantine=(), random_state=0, fusions=fusions)
    audit.fit(answers, panel.gold, n_options=options, names=names)
    alone = PanelAudit(n_byzantine=(), random_state=0, fusions=fusions)
    alone.fit(answers[:, :8], panel.gold, n_options=options, names=names[:8])
    assert audit.clones_.clusters == ((names[3], "copy one", "copy two"),)
    paid = dict(zip(audit.quotient_prices_.names, audit.quotient_prices_.value, strict=True))
    assert paid[names[3]] == pytest.approx(paid["copy one"], abs=1e-12)
    assert audit.quotient_prices_.value.sum() == pytest.approx(audit.quotient_prices_.total, abs=1e-12)
    assert any(f"{names[3]} = copy one = copy two" in text for text in audit.findings_)
    assert alone.quotient_prices_ is None
