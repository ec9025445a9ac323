"""The audit end to end: every kind of panel, the words it uses, liars, groups, costs, clones, refusals."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from estimators import Arbiter, PanelAudit, RobustFusionClassifier
from fusion import Krum, Median, PluralityVote
from theory import BudgetError, PanelError, correlated_panel, difficulty_panel


def fast(**more):
    return PanelAudit(**({"n_byzantine": (), "random_state": 0} | more))


@pytest.fixture(scope="module")
def labels():
    return difficulty_panel(500, 5, accuracy=0.65, rho=0.2, seed=3)


@pytest.fixture(scope="module")
def audited(labels):
    return PanelAudit(random_state=0, n_subsets=6).fit(
        labels.answers, labels.y, n_options=4, names=list("abcde")
    )


def team(n, skills, n_options=4, seed=0):
    """Answer questions independently, each with its own skill."""
    rng = np.random.default_rng(seed)
    y = rng.integers(n_options, size=n)
    guess = rng.integers(n_options, size=(n, len(skills)))
    return np.where(rng.random((n, len(skills))) < skills, y[:, None], guess), y


def test_is_an_estimator():
    audit = PanelAudit(cv=3, withstand=1)
    assert clone(audit).get_params() == audit.get_params()
    assert repr(audit) == "PanelAudit(cv=3, withstand=1)"
    assert audit.set_params(cv=4).cv == 4
    with pytest.raises(Exception, match="not fitted"):
        audit.predict([[0, 1]])


def test_labels(audited, labels):
    audit = audited
    assert (audit.task_, audit.names_, audit.n_samples_, audit.n_given_) == (
        "labels",
        tuple("abcde"),
        500,
        500,
    )
    np.testing.assert_allclose(audit.scores_["score"], labels.correct.mean(axis=0))
    np.testing.assert_array_equal(audit.errors_, 1.0 - labels.correct)
    assert audit.prices_.game == "plurality"
    assert audit.prices_.value.sum() == pytest.approx(audit.prices_.total, abs=1e-12)
    assert audit.agreement_ is not None and audit.quotient_prices_ is None
    board = audit.leaderboard_
    assert audit.recommended_name_ in board.index and board["score"].is_monotonic_decreasing
    robust = audit.robustness_
    assert set(robust["n_byzantine"]) == {0, 1, 2} and set(robust["rule"]) == set(board.index)
    assert {"plurality", "certificate of plurality_vote"} <= set(audit.bounds_)
    certified = audit.bounds_["certificate of plurality_vote"]
    assert certified.value > 1 - board.loc["plurality_vote", "score"] - 0.05
    assert len(audit.reasons_) >= 2 and len(audit.findings_) >= 5 and audit.warnings_


def test_predict_is_the_recommended_rule(audited, labels):
    said = audited.predict(labels.answers, n_options=4)
    assert said.dtype.kind == "i" and ((said >= 0) & (said < 4)).all()
    fused = audited.fuse(labels.answers, n_options=4)
    np.testing.assert_array_equal(said, fused.argmax(axis=1))
    silent = labels.answers.copy()
    silent[3] = -1
    assert audited.predict(silent, n_options=4)[3] == -1
    assert np.isnan(audited.fuse(silent, n_options=4)[3]).all()


def test_probabilities():
    rng = np.random.default_rng(0)
    said, y = team(400, [0.8, 0.7, 0.6, 0.5], n_options=3)
    panel = (0.7 * np.eye(3)[said] + 0.3 * rng.dirichlet(np.ones(3), size=said.shape)).astype(np.float32)
    audit = PanelAudit(random_state=0, n_subsets=4).fit(panel, y)
    assert audit.task_ == "probabilities" and audit.prices_.game == "mean"
    prior = np.bincount(y) / len(y)
    assert audit.prices_.v0 == pytest.approx(1 - (prior**2).sum())
    brier = ((panel.mean(axis=1) - np.eye(3)[y]) ** 2).sum(axis=1).mean()
    assert audit.prices_.v0 - audit.prices_.total == pytest.approx(brier, abs=1e-6)
    assert audit.leaderboard_.loc["mean", "brier"] == pytest.approx(brier, abs=1e-6)
    assert audit.prices_.value.sum() == pytest.approx(audit.prices_.total, abs=1e-12)
    assert {"gain_mean", "gain_best_single"} <= set(audit.leaderboard_.columns)
    assert (audit.predict(panel) == y).mean() > 0.8


@pytest.mark.parametrize("outputs", [1, 2])
def test_numbers(outputs):
    simulated = correlated_panel(400, 5, rho=0.3, scale=[0.5, 1, 1, 1, 2], n_outputs=outputs, seed=0)
    panel, y = simulated.panel, simulated.y
    panel, y = (panel[:, :, 0], y[:, 0]) if outputs == 1 else (panel, y)
    audit = PanelAudit(random_state=0, n_subsets=4).fit(panel, y)
    assert audit.task_ == "numbers" and audit.agreement_ is None
    error = (simulated.panel.mean(axis=1) - simulated.y) ** 2
    total = ((simulated.y - simulated.y.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert audit.prices_.v0 - audit.prices_.total == pytest.approx(error.sum(axis=1).mean())
    assert audit.leaderboard_.loc["mean", "score"] == pytest.approx(1 - error.sum(axis=1).mean() / total)
    own = 1 - ((simulated.panel - simulated.y[:, None]) ** 2).sum(axis=2).mean(axis=0) / total
    np.testing.assert_allclose(audit.scores_["score"], own)
    assert audit.recommended_name_ in ("arbiter", "covariance")
    assert audit.predict(panel).shape == ((400,) if outputs == 1 else (400, 2))
    assert audit.scores_["score"].idxmax() == "0" and "R2" in audit.reasons_[0]


def test_numbers_with_gaps():
    simulated = correlated_panel(300, 4, rho=0.2, seed=2)
    panel = simulated.panel[:, :, 0].copy()
    panel[np.random.default_rng(0).random(panel.shape) < 0.3] = np.nan
    panel[5] = np.nan
    audit = PanelAudit(random_state=0, n_subsets=3).fit(panel, simulated.y[:, 0])
    np.testing.assert_allclose(audit.scores_["answered"], 1 - np.isnan(panel).mean(axis=0))
    np.testing.assert_array_equal(np.isnan(audit.predict(panel)), np.isnan(panel).all(axis=1))
    assert any("unanswered" in text for text in audit.warnings_)


def test_words_in_words_out():
    words = np.array(["cat", "dog", "eel", "newt"])
    said, y = team(300, [0.8, 0.7, 0.5])
    codes = fast().fit(said, y)
    audit = fast().fit(words[said], words[y])
    assert audit.classes_.tolist() == words.tolist() and codes.classes_ is None
    pd.testing.assert_frame_equal(audit.leaderboard_, codes.leaderboard_)
    np.testing.assert_array_equal(audit.predict(words[said]), words[codes.predict(said)])
    few = words[said[:7]].astype(object)
    few[2, 0] = None
    assert set(audit.predict(few)) <= set(words)
    few[4] = None
    with pytest.raises(PanelError, match=r"nobody answered 1 samples \(first: 4\)"):
        audit.predict(few)
    with pytest.raises(PanelError, match=r"labels that were not there in fit: \['asp'\]"):
        audit.predict([["asp", "cat", "dog"]])


def test_the_panel_of_a_fusing_classifier_with_its_labels():
    X, y = load_iris(return_X_y=True)
    named = np.array(["setosa", "versicolor", "virginica"])[y]
    members = [
        ("tree", DecisionTreeClassifier(max_depth=2)),
        ("bayes", GaussianNB()),
        ("log", LogisticRegression(max_iter=500)),
    ]
    for truth in (named, np.array([10, 30, 20])[y]):
        made = RobustFusionClassifier(members, random_state=0).fit(X, truth)
        audit = fast().fit(made.oof_panel_, truth)
        assert audit.names_ == ("tree", "bayes", "log")
        assert audit.scores_["score"].min() > 0.85
        assert (audit.predict(made.oof_panel_) == truth).mean() > 0.9
        with pytest.raises(PanelError, match="outputs must be those of fit"):
            audit.fuse(made.oof_panel_.isel(output=[1, 0, 2]))


def test_specialists_are_checked_by_name():
    said, y = team(200, [0.8, 0.6, 0.4])
    frame = pd.DataFrame(said, columns=["ann", "bob", "cyd"])
    audit = fast().fit(frame, y)
    np.testing.assert_array_equal(audit.predict(frame), audit.predict(said))
    with pytest.raises(PanelError, match=r"those of fit, in its order \(ann, bob, cyd\); got cyd, bob, ann"):
        audit.predict(frame[["cyd", "bob", "ann"]])
    with pytest.raises(PanelError, match=r"panel needs \(3, 4\)"):
        audit.predict(said[:, :2])
    assert fast().fit(said, y).predict(frame).shape == (200,)


def test_beats():
    audit = fast().fit(*team(1500, [0.6] * 7))
    assert any(text.startswith("It beats the best single specialist: +0.") for text in audit.reasons_)
    row = audit.leaderboard_.loc[audit.recommended_name_]
    assert f"{row['gain_best_single_low']:+.3f} to {row['gain_best_single_high']:+.3f}" in audit.reasons_[1]


def test_level_and_simpler():
    audit = fast().fit(*team(1500, [0.75] * 7))
    assert audit.leaderboard_.iloc[0]["score"] - audit.leaderboard_.loc["plurality_vote", "score"] < 0.003
    assert audit.reasons_[2].startswith("It is level with counting all heads (plurality): ")
    assert audit.reasons_[3].startswith("plurality_vote is simpler, and cannot be told from arbiter here")
    # one that knows everything: nothing can be gained
    said, y = team(400, [0.3, 0.3, 0.3, 0.3], seed=4)
    said = np.column_stack([said, np.where(np.random.default_rng(0).random(400) < 0.9, y, (y + 1) % 4)])
    alone = fast(fusions=["best_single", "plurality_vote", "arbiter"]).fit(said, y)
    assert alone.recommended_name_ == "best_single" or any(
        "It is level with the best single specialist" in text for text in alone.reasons_
    )
    assert not any("It is worse" in text for text in alone.reasons_)


def test_worse():
    said, y = team(800, [0.95, 0.2, 0.2, 0.2, 0.2])
    rules = {"count": PluralityVote(), "best_single": "best_single"}
    audit = fast(fusions=rules).fit(said, y)
    assert audit.recommended_name_ == "best_single"
    assert any("No fusion beats the best specialist alone" in text for text in audit.reasons_)
    # whoever must withstand a liar cannot ask the best one
    safe = PanelAudit(fusions=rules, n_byzantine=(), withstand=2, n_subsets=20, random_state=0).fit(said, y)
    worst = safe.robustness_[safe.robustness_["n_byzantine"] == 2].groupby("rule")["worst"].min()
    assert safe.recommended_name_ == worst.idxmax()
    robust = fast(fusions={"count": PluralityVote(), "best_single": "best_single"})
    robust.fit(said, y).recommended_name_ = "count"
    from estimators.findings import describe

    assert any("It is worse than the best single specialist: -0." in text for text in describe(robust)[0])


def test_withstand_recommends_by_the_worst_case():
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    panel = y[:, None] + 0.3 * rng.normal(size=(400, 7))
    trusting = PanelAudit(random_state=0).fit(panel, y)
    wary = PanelAudit(random_state=0, withstand=2).fit(panel, y)
    assert trusting.recommended_name_ in ("mean", "arbiter", "covariance", "inverse_mse")
    at = wary.robustness_[wary.robustness_["n_byzantine"] == 2].groupby("rule")["worst"].min()
    assert at[wary.recommended_name_] == at.max() > 0.8 > 0 > at["mean"]
    assert wary.recommended_name_ in ("median", "trimmed_mean(2)", "geometric_median", "krum(2)")
    assert wary.reasons_[0].startswith(
        f"Use {wary.recommended_name_}: with 2 of 7 specialists lying it keeps R2 0."
    )
    assert "no other rule keeps more" in wary.reasons_[0]


def test_numbers_of_liars():
    said, y = team(120, [0.8, 0.6, 0.4, 0.4])
    with pytest.raises(
        BudgetError, match=r"withstand=2 needs at least 5 specialists; got 4. Lower withstand to 1"
    ):
        fast(withstand=2).fit(said, y)
    with pytest.raises(PanelError, match="numbers of liars must be >= 0; got -1"):
        fast(n_byzantine=(-1,)).fit(said, y)
    audit = fast(n_byzantine=(0, 1, 2), n_subsets=2).fit(said, y)
    assert set(audit.robustness_["n_byzantine"]) == {0, 1}
    assert any("2 liars of 4 specialists were not tried" in text for text in audit.warnings_)
    assert len(fast().fit(said, y).robustness_) == 0


def test_groups(labels):
    owner = np.repeat(np.arange(50), 10)
    audit = fast(fusions=["best_single", "plurality_vote"]).fit(
        labels.answers, labels.y, n_options=4, groups=owner
    )
    rate = labels.correct[:, 0].astype(float)
    sums = np.array([(rate - rate.mean())[owner == g].sum() for g in range(50)])
    assert audit.scores_["se"].iloc[0] == pytest.approx(np.sqrt((sums**2).sum() * 50 / 49) / 500)
    alone = fast(fusions=["best_single", "plurality_vote"]).fit(labels.answers, labels.y, n_options=4)
    assert audit.error_correlation_.rho_mean == pytest.approx(alone.error_correlation_.rho_mean)
    assert any(text.startswith("bounds: they count samples as independent") for text in audit.warnings_)
    assert audit.error_correlation_.rho_mean_ci[0] != alone.error_correlation_.rho_mean_ci[0]


def test_twins_as_groups_do_not_narrow_intervals(labels):
    twice, owner = np.repeat(labels.answers, 2, axis=0), np.repeat(np.arange(500), 2)
    rules = ["plurality_vote", Median()]
    once = fast(fusions=rules).fit(labels.answers, labels.y, n_options=4, groups=np.arange(500))
    both = fast(fusions=rules).fit(twice, np.repeat(labels.y, 2), n_options=4, groups=owner)
    np.testing.assert_allclose(both.scores_["se"], once.scores_["se"])
    np.testing.assert_allclose(both.prices_.se, once.prices_.se, rtol=1e-6)
    np.testing.assert_allclose(
        both.leaderboard_.loc["plurality_vote", "se"], once.leaderboard_.loc["plurality_vote", "se"]
    )


def test_costs(labels):
    audit = fast(fusions=["plurality_vote"]).fit(
        labels.answers, labels.y, n_options=4, costs=[1, 1, 1, 1, 1e-3]
    )
    assert audit.costs_.tolist() == [1, 1, 1, 1, 1e-3]
    assert any(text.startswith("Per cost, 4 earns most") for text in audit.findings_)
    for costs in ([1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, np.nan], [1, 1, 1, 1, np.inf], "abcde"):
        with pytest.raises(PanelError, match="costs must be 5 positive numbers"):
            fast().fit(labels.answers, labels.y, costs=costs)


@pytest.mark.parametrize("task", ["labels", "probabilities", "numbers"])
def test_clones_are_found_and_paid_once(task):
    rng = np.random.default_rng(0)
    said, y = team(400, [0.8, 0.7, 0.6], n_options=3)
    panel = {
        "labels": said,
        "probabilities": 0.8 * np.eye(3)[said] + 0.2 * rng.dirichlet(np.ones(3), size=said.shape),
        "numbers": y[:, None] + rng.normal(size=(400, 3)),
    }[task]
    names = ["a", "b", "c", "a again"]
    doubled = np.concatenate([panel, panel[:, :1]], axis=1)
    audit = fast(task=task, fusions=["best_single", Median()]).fit(doubled, y, names=names)
    assert audit.clones_.clusters == (("a", "a again"),)
    paid = audit.quotient_prices_
    assert paid.value.sum() == pytest.approx(paid.total, abs=1e-12)
    assert paid.value[0] == pytest.approx(paid.value[3], abs=1e-12)
    if task != "labels":
        alone = fast(task=task, fusions=["best_single", Median()]).fit(panel, y, names=names[:3])
        np.testing.assert_allclose(paid.value[1:3], alone.prices_.value[1:], atol=1e-12)
        assert paid.value[0] * 2 == pytest.approx(alone.prices_.value[0], abs=1e-12)
    assert any("Near copies" in text and "a = a again (together " in text for text in audit.findings_)


def test_max_samples(labels):
    audit = fast(max_samples=100).fit(labels.answers, labels.y, n_options=4)
    assert (audit.n_samples_, audit.n_given_) == (100, 500)
    assert any("100 samples drawn at random from 500 (max_samples)" in text for text in audit.warnings_)
    assert (
        fast(max_samples=None, fusions=["mean"]).fit(labels.answers, labels.y, n_options=4).n_samples_ == 500
    )


def test_determinism_and_pickle(labels):
    first, again = (
        PanelAudit(random_state=0, n_subsets=3).fit(labels.answers, labels.y, n_options=4) for _ in range(2)
    )
    pd.testing.assert_frame_equal(first.leaderboard_, again.leaderboard_)
    pd.testing.assert_frame_equal(first.robustness_, again.robustness_)
    assert (first.reasons_, first.findings_, first.warnings_) == (
        again.reasons_,
        again.findings_,
        again.warnings_,
    )
    back = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(back.fuse(labels.answers), first.fuse(labels.answers))
    assert back.reasons_ == first.reasons_
    other = PanelAudit(random_state=np.random.RandomState(1), n_subsets=3).fit(
        labels.answers, labels.y, n_options=4
    )
    assert not other.leaderboard_.equals(first.leaderboard_)


def test_own_fusions(labels):
    def first(panel):
        return panel[:, 0]

    audit = fast(fusions=[first, "median", Krum(n_byzantine=3), Arbiter(per="class")])
    audit.fit(labels.answers, labels.y, n_options=4)
    assert set(audit.leaderboard_.index) == {"first", "median", "arbiter"}
    assert "krum(3)" in audit.refused_ and any("krum(3) was left out" in text for text in audit.warnings_)
    assert not any("best single specialist:" in text for text in audit.reasons_)
    named = {"by option": Arbiter(), "by class": Arbiter(per="class")}
    assert set(fast(fusions=named).fit(labels.answers, labels.y).leaderboard_.index) == set(named)
    with pytest.raises(PanelError, match=r"arbiter twice\. Give a dict"):
        fast(fusions=list(named.values())).fit(labels.answers, labels.y)
    with pytest.raises(PanelError, match="must be 'auto', a list or a dict; got 'median'"):
        fast(fusions="median").fit(labels.answers, labels.y)
    with pytest.raises(PanelError, match=r"no fusion can serve this panel: .*krum"):
        fast(fusions=[Krum(n_byzantine=3)]).fit(labels.answers, labels.y)


def test_small_and_degenerate_panels():
    rng = np.random.default_rng(0)
    few = fast().fit(rng.integers(2, size=(5, 3)), [0, 1, 1, 0, 1])
    assert any("Only 5 samples" in text for text in few.warnings_)
    constant = fast().fit(rng.integers(2, size=(40, 3)), np.zeros(40, dtype=int))
    assert any("The truth is the same for all samples" in text for text in constant.warnings_)
    flat = fast().fit(rng.normal(size=(40, 3)), np.ones(40))
    assert any("R2 has no scale" in text for text in flat.warnings_)
    three = np.arange(40) % 3
    for said in (three, (three + 1) % 3):
        with pytest.raises(PanelError, match="no specialist's error varies: each is right, or wrong alike"):
            fast().fit(np.repeat(said[:, None], 3, axis=1), three)
    with pytest.raises(PanelError, match="no specialist's error varies"):
        fast().fit(np.arange(40.0)[:, None] + [0.5, 1, 2], np.arange(40) + 0.25)
    with pytest.raises(PanelError, match="cancel exactly on all 4 samples"):
        fast().fit([[0, 1], [1, 0], [1, 0], [0, 1]], [0, 0, 0, 0])
    one_knows = np.column_stack([three, rng.integers(3, size=(40, 2))])
    assert fast().fit(one_knows, three).recommended_name_ == "best_single"


def test_all_abstain_on_some_samples():
    said, y = team(200, [0.8, 0.6, 0.5])
    said[::10] = -1
    audit = PanelAudit(random_state=0, n_subsets=3).fit(said, y)
    silent = np.arange(200) % 10 == 0
    assert (audit.predict(said)[silent] == -1).all() and (audit.predict(said)[~silent] >= 0).all()
    assert audit.leaderboard_["score"].max() <= 0.9
    # an unanswered sample is an error of the certified rule, also where the truth is option 0
    vote = audit.fused_["plurality_vote"]
    wrong = silent | (np.nan_to_num(vote, nan=-1).argmax(axis=1) != y)
    assert audit.bounds_["certificate of plurality_vote"].value >= wrong.mean()
