"""The default: simple unless something else clearly wins, and at least as good as the best specialist on real panels."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from estimators import (
    Arbiter,
    AutoFusion,
    DecorrelatedSelection,
    GreedySelection,
    RobustFusionClassifier,
    RobustFusionRegressor,
    Specialist,
    Views,
    load_llm_panel,
    load_mfeat,
)
from estimators.choice import cross_fit, own_folds, paired
from theory import PanelError


def votes_of(name):
    data = load_llm_panel(name)
    return np.where((data.answers < 0)[:, :, None], np.nan, data.votes), data.gold, data.correct.mean(axis=0)


def votes(rng, skills, n=600, options=3):
    y = rng.integers(options, size=n)
    said = np.where(
        rng.random((n, len(skills))) < skills, y[:, None], rng.integers(options, size=(n, len(skills)))
    )
    return np.eye(options)[said], y


def test_equal_weights_stay_where_learned_ones_do_not_win():
    chosen = []
    for seed in range(20):
        panel, y = votes(np.random.default_rng(seed), [0.5] * 7, n=300)
        chosen.append(AutoFusion(["mean", "covariance"]).fit(panel, y).chosen_)
    assert chosen.count("mean") >= 16


def test_learned_weights_win_where_skills_differ():
    for seed in range(5):
        panel, y = votes(np.random.default_rng(seed), [0.95, 0.3, 0.3, 0.3, 0.3])
        auto = AutoFusion(["mean", "covariance"]).fit(panel, y)
        assert (
            auto.chosen_ == "covariance"
            and auto.table_.loc["covariance", "gain"] > auto.table_.loc["covariance", "se"]
        )
        assert "mean has" in auto.reason_ and auto.weights_[0] > 0.5


def test_the_table_is_the_cross_fitted_error():
    panel, y = votes(np.random.default_rng(3), [0.8, 0.7, 0.4])
    auto = AutoFusion(["accuracy", "covariance"]).fit(panel, y)
    folds = own_folds(len(y), 5)
    for rule in ("accuracy", "covariance"):
        fused = cross_fit(rule, panel, y, task="classification", folds=folds)
        naive = np.empty_like(fused)
        for part in range(5):
            from estimators.fusions import PanelFuser

            fuser = PanelFuser(rule, task="classification")
            fuser.fit(panel[folds != part], y[folds != part])
            naive[folds == part] = fuser.fuse(panel[folds == part])
        assert np.array_equal(fused, naive)
        assert auto.table_.loc[rule, "loss"] == pytest.approx((fused.argmax(axis=1) != y).mean(), abs=1e-12)


def test_counts_and_groups_in_paired_errors():
    rng = np.random.default_rng(0)
    gain, count = rng.normal(size=80), rng.integers(0, 4, 80)
    many = np.repeat(gain, count)
    mean, se = paired(gain, count, None)
    assert mean == pytest.approx(many.mean()) and se == pytest.approx(many.std(ddof=1) / np.sqrt(len(many)))
    twice = paired(np.repeat(gain, 2), None, np.repeat(np.arange(80), 2))
    assert twice == pytest.approx(paired(gain, None, None))


def test_too_little_to_compare_takes_the_first():
    panel, y = votes(np.random.default_rng(0), [0.9, 0.5], n=12)
    auto = AutoFusion().fit(panel, y)
    assert auto.chosen_ == "mean" and "without a comparison: 12 samples" in auto.reason_
    X, y = np.arange(8.0).reshape(-1, 1), np.array([0] * 7 + [1])
    clf = RobustFusionClassifier([("a", LogisticRegression()), ("b", GaussianNB())]).fit(X, y)
    assert clf.fallback_ == "class 1 has 1 sample; auto falls back to the mean"
    assert clf.weights_.tolist() == [0.5, 0.5]
    none = RobustFusionClassifier([("a", LogisticRegression())], cv="none").fit(X, y)
    assert "cv='none'; auto falls back" in none.fallback_


def test_refused_candidates_are_told():
    panel, y = votes(np.random.default_rng(0), [0.9, 0.5])
    auto = AutoFusion(["mean", "bulyan"]).fit(panel, y)
    assert auto.chosen_ == "mean"
    bad = AutoFusion(["mean", Arbiter(features="odd")]).fit(panel, y)
    assert "features must be" in bad.refused_["arbiter"]
    with pytest.raises(PanelError, match="no candidate can serve"):
        AutoFusion([Arbiter(features="odd"), Arbiter(features="bad")]).fit(panel, y)
    with pytest.raises(PanelError, match="needs a candidate and margin >= 0; got 0"):
        AutoFusion([]).fit(panel, y)


def test_numbers_choose_too():
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    alike = y[:, None] + rng.normal(size=(400, 5))
    apart = y[:, None] + rng.normal(size=(400, 5)) * [0.2, 2, 2, 2, 2]
    assert RobustFusionRegressor.from_predictions(alike, y).fusion_.chosen_ == "mean"
    uneven = RobustFusionRegressor.from_predictions(apart, y)
    assert uneven.fusion_.chosen_ in ("covariance", "best_single") and uneven.weights_[0] > 0.8


def test_counts_are_repetitions_for_the_default_too():
    rng = np.random.default_rng(0)
    X, y = load_iris(return_X_y=True)
    count = rng.integers(1, 3, len(y))
    again = np.repeat(np.arange(len(y)), count)
    fold = np.arange(len(y)) % 3
    team = [("line", LogisticRegression(max_iter=5000, tol=1e-9)), ("bayes", GaussianNB())]
    by = [[(np.flatnonzero(f != k), np.flatnonzero(f == k)) for k in range(3)] for f in (fold, fold[again])]
    weighted = RobustFusionClassifier(team, cv=by[0]).fit(X, y, sample_weight=count)
    repeated = RobustFusionClassifier(team, cv=by[1]).fit(X[again], y[again])
    assert weighted.fusion_.chosen_ == repeated.fusion_.chosen_
    assert weighted.predict_proba(X) == pytest.approx(repeated.predict_proba(X), abs=1e-4)
    a, b = weighted.fusion_.table_, repeated.fusion_.table_
    assert a.to_numpy() == pytest.approx(b.to_numpy(), abs=1e-3)


def test_grid_search_and_with_fusion_reach_the_choice():
    X, y = load_iris(return_X_y=True)
    team = [("line", LogisticRegression(max_iter=500)), ("tree", DecisionTreeClassifier(random_state=0))]
    clf = RobustFusionClassifier(team, fusion=AutoFusion(["median", "covariance"]))
    clf.set_params(fusion__margin=0.0).fit(X, y)
    assert clf.fusion_.margin == 0.0 and clf.fusion_.chosen_ in ("median", "covariance")


def test_default_on_six_views_of_digits():
    data = load_mfeat()
    team = [
        (name, Specialist(make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)), view=name))
        for name in data.names
    ]
    rows = np.random.default_rng(0).permutation(2000)
    views = Views(data.views)
    clf = RobustFusionClassifier(team, cv=3).fit(views[rows[:1000]], data.y[rows[:1000]])
    assert clf.score(views[rows[1000:]], data.y[rows[1000:]]) >= 0.98  # of half the data
    assert clf.score(views[rows[1000:]], data.y[rows[1000:]]) > max(clf.solo_scores_.values())
    assert 1 - clf.fusion_.table_.loc[clf.fusion_.chosen_, "loss"] >= 0.98


@pytest.mark.slow
def test_default_on_six_views_of_digits_out_of_fold():
    """Nested: specialists, out-of-fold panel and choice all fitted on nine tenths."""
    data = load_mfeat()
    team = [
        (name, Specialist(make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)), view=name))
        for name in data.names
    ]
    views, right = Views(data.views), np.zeros(2000)
    for train, test in KFold(10, shuffle=True, random_state=0).split(data.y):
        clf = RobustFusionClassifier(team).fit(views[train], data.y[train])
        right[test] = clf.predict(views[test]) == data.y[test]
    assert right.mean() >= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cruxeval", "mathl5", "gsm8k", "mmlupro"])
def test_default_is_no_worse_than_the_best_language_model(name):
    """Nested: chosen and learned on four fifths, judged on the rest; the best model is known in hindsight."""
    panel, y, solo = votes_of(name)
    right = np.zeros(len(y))
    for train, test in KFold(5, shuffle=True, random_state=1).split(panel):
        clf = RobustFusionClassifier.from_predictions(panel[train], y[train])
        right[test] = clf.predict(panel[test]) == y[test]
    assert right.mean() >= solo.max()


def test_ridge_numbers_are_scored_by_squared_error():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    y = X @ [1.0, 2.0, 3.0]
    reg = RobustFusionRegressor([("all", Ridge(0.01)), ("one", Specialist(Ridge(), view=[0]))]).fit(X, y)
    assert reg.fusion_.chosen_ in ("covariance", "best_single")
    assert reg.score(X, y) > 0.99


def test_candidates_of_one_name_are_told_apart():
    panel, y = votes(np.random.default_rng(0), [0.9, 0.5, 0.5, 0.5, 0.5], n=300)
    auto = AutoFusion([Arbiter(LogisticRegression(C=1e-6), cv=1), Arbiter(LogisticRegression(), cv=1)])
    auto.fit(panel, y)
    assert auto.table_.index.tolist() == ["arbiter-1", "arbiter-2"]
    assert auto.chosen_ == "arbiter-2" and auto.fusion_.final_estimator.C == 1.0


def test_groups_are_never_parted_where_no_folds_are_given(monkeypatch):
    panel, y = votes(np.random.default_rng(0), [0.9, 0.5], n=120)
    groups, seen = np.arange(120) // 12, []

    def spy(*args, folds, **more):
        seen.append(folds)
        return cross_fit(*args, folds=folds, **more)

    monkeypatch.setattr("estimators.choice.cross_fit", spy)
    AutoFusion(["mean", "covariance"]).fit(panel, y, groups=groups)
    assert len(seen) == 2
    assert all(len(np.unique(seen[0][groups == g])) == 1 for g in range(10))
    for cv in ("x", 0, 2.5):
        with pytest.raises(PanelError, match="cv must be a whole number >= 1; got"):
            AutoFusion(["mean", "covariance"], cv=cv).fit(panel, y)


def test_the_reason_and_the_table_say_why():
    panel, y = votes(np.random.default_rng(3), [0.95, 0.3, 0.3, 0.3, 0.3], n=400)
    odd = AutoFusion(["mean", "covariance", "best_single", Arbiter(features="odd")]).fit(panel, y)
    table = odd.table_
    assert table["behind"].min() == 0.0 and table["behind"].idxmin() == table["loss"].idxmin()
    assert table["behind"].to_numpy() == pytest.approx(table["loss"] - table["loss"].min())
    assert table["level"].tolist() == (table["behind"] <= table["behind_se"] + 1e-12).tolist()
    assert odd.chosen_ in table.index[table["level"]]
    gain, se = table.loc[odd.chosen_, "gain"], table.loc[odd.chosen_, "se"]
    assert (
        f"mean has {table.loc['mean', 'loss']:.4g}, which is {gain:.2g} more (standard error {se:.2g})"
        in odd.reason_
    )
    assert "within 1 standard errors of the lowest are covariance, best_single" in odd.reason_
    assert odd.reason_.endswith("refused: arbiter.")


@pytest.mark.parametrize("selection", [GreedySelection(max_cost=2.0), DecorrelatedSelection(max_cost=2.0)])
def test_candidates_that_select_by_cost_learn_the_costs_of_the_specialists(selection):
    X, y = load_iris(return_X_y=True)
    trees = [DecisionTreeClassifier(max_depth=depth, random_state=0) for depth in (1, 2, 3)]
    team = [(f"t{k}", Specialist(tree, cost=[1.0, 1.0, 5.0][k])) for k, tree in enumerate(trees)]
    auto = RobustFusionClassifier(team, fusion=AutoFusion([selection, "log_pool"], margin=1e6)).fit(X, y)
    assert auto.fusion_.refused_ == {} and auto.weights_[2] == 0.0
    alone = RobustFusionClassifier(team, fusion=selection).fit(X, y)
    np.testing.assert_array_equal(auto.weights_, alone.weights_)
    panel = alone.oof_panel_.values
    free = AutoFusion([selection]).fit(panel, y, costs=[1.0, 1.0, 1.0])
    assert free.fusion_.get_params()["costs"].tolist() == [1.0, 1.0, 1.0]
    own = AutoFusion([clone(selection).set_params(costs=[5.0, 5.0, 1.0])]).fit(
        panel, y, costs=[1.0, 1.0, 1.0]
    )
    assert own.weights_.tolist() == [0.0, 0.0, 1.0]  # its own costs stand
