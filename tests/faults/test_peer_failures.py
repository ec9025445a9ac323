"""What breaks public peers, each ending here in the right answer or in an error that names the remedy.

The left column of the table is scikit-learn's behaviour, asserted beside ours, so that the claim in
the documents stays true or the test says that it no longer is.
"""

import copy
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from estimators import RobustFusionClassifier, RobustFusionRegressor, Specialist, Views
from fusion import Krum, TrimmedMean
from theory import BudgetError, FaultWarning, PanelError


class Broken(ClassifierMixin, BaseEstimator):
    """A classifier that is fine in fit and goes wrong at predict, as told."""

    def __init__(self, how="nan", rows=None, armed=False):
        self.how = how
        self.rows = rows
        self.armed = armed

    def fit(self, X, y):
        self.inner_ = LogisticRegression(max_iter=500).fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, X):
        proba = self.inner_.predict_proba(X)
        if not getattr(self, "now", self.armed):
            return proba
        rows = slice(None) if self.rows is None else slice(0, int(len(X) * self.rows))
        if self.how == "raise":
            raise RuntimeError("the sensor is gone")
        if self.how == "nan":
            proba[rows] = np.nan
        elif self.how == "one cell":
            proba[rows, 0] = np.nan
        elif self.how == "huge":
            proba[rows] = 1e6
        elif self.how == "inf":
            proba[rows, 0] = np.inf
        elif self.how == "negative":
            proba[rows] = proba[rows] * 3 - 1
        return proba


class Huge(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.full(len(X), 1e6)


def good():
    return [
        ("line", LogisticRegression(max_iter=500)),
        ("bayes", GaussianNB()),
        ("tree", DecisionTreeClassifier(random_state=0)),
        ("flat", LogisticRegression(C=0.01, max_iter=500)),
    ]


def fitted_with(broken, **params):
    """Fit with a sound specialist that breaks afterwards."""
    X, y = load_iris(return_X_y=True)
    clf = RobustFusionClassifier([*good(), ("bad", broken)], **params).fit(X, y)
    member = clf.estimators_[-1]
    (member.model_ if isinstance(member, Specialist) else member).now = True
    return clf, X, y


HOWS = ["nan", "one cell", "huge", "inf", "negative"]


@pytest.mark.parametrize("how", HOWS)
def test_invalid_answers_stop_a_mean_with_a_clear_error(how):
    clf, X, _ = fitted_with(Broken(how))
    with pytest.raises(BudgetError, match=r"sample 0: 1 specialist gave invalid values \('bad'\).*'median'"):
        clf.predict(X)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    "fusion", ["median", TrimmedMean(n_byzantine=1), Krum(n_byzantine=1), "geometric_median"]
)
def test_invalid_answers_are_spent_from_the_budget_of_robust_rules(how, fusion):
    clf, X, y = fitted_with(Broken(how), fusion=fusion)
    without = RobustFusionClassifier(good(), fusion=copy.copy(fusion), cv="none")
    if getattr(fusion, "n_byzantine", 0):
        without.set_params(fusion__n_byzantine=0)  # the fault has used up the budget
    expected = without.fit(X, y).predict_proba(X)
    assert np.allclose(clf.predict_proba(X), expected, atol=1e-9)
    assert clf.score(X, y) > 0.95


@pytest.mark.parametrize("how", ["nan", "one cell", "inf", "raise"])
def test_declared_failures_abstain_and_the_rest_answer(how):
    clf, X, y = fitted_with(Specialist(Broken(how), on_error="abstain"), fusion="mean")
    without = RobustFusionClassifier(good(), fusion="mean", cv="none").fit(X, y)
    text = (
        "'bad' failed and abstains: RuntimeError: the sensor is gone"
        if how == "raise"
        else "'bad': 150 of 150"
    )
    with pytest.warns(FaultWarning, match=text):
        proba = clf.predict_proba(X)
    assert np.allclose(proba, without.predict_proba(X))


def test_nan_on_half_the_rows_touches_only_those_rows():
    X, y = load_iris(return_X_y=True)
    half = Broken("nan", rows=0.5).fit(X, y)
    half.now = True
    voting = VotingClassifier(
        [("a", FrozenEstimator(half)), ("b", FrozenEstimator(GaussianNB().fit(X, y)))], voting="soft"
    )
    voting.fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (voting.predict(X[::-1])[:75] == 0).all()  # the peer: class 0 there, and no warning
    clf, X, y = fitted_with(Specialist(Broken("nan", rows=0.5), on_error="abstain"), fusion="mean")
    everybody = (
        RobustFusionClassifier([*good(), ("bad", Broken("none"))], cv="none").fit(X, y).predict_proba(X)
    )
    with pytest.warns(FaultWarning, match="'bad': 75 of 150 answers are not finite"):
        proba = clf.predict_proba(X)
    assert np.allclose(proba[75:], everybody[75:])
    assert (proba.argmax(axis=1) == y).mean() > 0.95


def test_a_raising_specialist_is_named_and_its_error_kept():
    clf, X, _ = fitted_with(Broken("raise"))
    with pytest.raises(RuntimeError, match="the sensor is gone") as caught:
        clf.predict(X)
    assert any(
        "specialist 'bad' in predict_proba" in note and "on_error='abstain'" in note
        for note in caught.value.__notes__
    )


def test_more_faults_than_the_budget_is_an_error_that_says_so():
    X, y = load_iris(return_X_y=True)
    team = [*good(), ("bad", Broken("nan", armed=True)), ("worse", Broken("huge", armed=True))]
    clf = RobustFusionClassifier(team, fusion=TrimmedMean(n_byzantine=1), cv="none").fit(X, y)
    with pytest.raises(
        BudgetError, match=r"2 specialists gave invalid values \('bad', 'worse'\).*withstands 1"
    ):
        clf.predict(X)


def test_one_of_six_says_a_million():
    X, y = load_digits(return_X_y=True)
    train, test = slice(0, 900), slice(900, None)
    team = [(f"m{i}", LogisticRegression(C=10.0**-i, max_iter=300)) for i in range(1, 4)]
    team += [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier(random_state=0))]
    liar = Broken("huge")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence of the peers' fits is not the point
        liar.fit(X[train], y[train])
        liar.now = True
        for column in range(10):
            liar.inner_.coef_[column] = 0.0
        clean = RobustFusionClassifier(team, fusion="median", cv="none").fit(X[train], y[train])
        robust = RobustFusionClassifier(
            [*team, ("liar", FrozenEstimator(liar))], fusion="median", cv="none"
        ).fit(X[train], y[train])
        mean = RobustFusionClassifier([*team, ("liar", FrozenEstimator(liar))], cv="none").fit(
            X[train], y[train]
        )
    assert robust.score(X[test], y[test]) > clean.score(X[test], y[test]) - 0.01
    with pytest.raises(BudgetError, match="'liar'"):
        mean.predict(X[test])


def test_a_regressor_that_says_a_million():
    X, y = load_diabetes(return_X_y=True)
    team = [
        ("line", Ridge(0.1)),
        ("tree", DecisionTreeRegressor(max_depth=3)),
        ("flat", Ridge(1.0)),
        ("huge", Huge()),
    ]
    assert VotingRegressor(team).fit(X, y).score(X, y) < -1e6
    told = "invalid out-of-fold answers, left out of everything learned: 'huge' 442 of 442"
    for fusion in ("median", "trimmed_mean", "geometric_median", "krum"):
        with pytest.warns(FaultWarning, match=told):
            fitted = RobustFusionRegressor(team, fusion=fusion).fit(X, y)
        assert fitted.score(X, y) > 0.3
        assert fitted.missing_rate_.tolist() == [0, 0, 0, 1]
    with pytest.warns(FaultWarning, match=told):
        mean = RobustFusionRegressor(team, fusion="mean").fit(X, y)
    with pytest.raises(BudgetError, match="'huge'"):
        mean.predict(X)
    trusting = RobustFusionRegressor(team, fusion="mean", plausible=None).fit(X, y)
    assert trusting.score(X, y) < -1e6  # asked for, and so it is


def disjoint(labels, fitted_on):
    X, y = load_iris(return_X_y=True)
    names = np.array(labels)[y]
    team = []
    for i, classes in enumerate(fitted_on):
        rows = np.isin(y, classes)
        model = LogisticRegression(max_iter=500).fit(X[rows], names[rows])
        team.append((f"m{i}", Specialist(model, freeze=True)))
    return team, X, names


@pytest.mark.parametrize("labels", [["a", "b", "c"], [10, 20, 30], [-1, 0, 1]])
def test_specialists_of_different_classes_are_aligned_by_label(labels):
    team, X, names = disjoint(labels, [[0, 1], [1, 2]])
    clf = RobustFusionClassifier(team, cv="prefit").fit(X, names)
    assert clf.predict_proba(X).shape == (150, 3)
    assert clf.score(X, names) > 0.9
    zero = RobustFusionClassifier(team, cv="prefit", absent_class="zero").fit(X, names)
    assert clf.score(X, names) >= zero.score(X, names)
    soft = VotingClassifier([(n, FrozenEstimator(s.model)) for n, s in team], voting="soft").fit(X, names)
    assert soft.predict_proba(X).shape == (150, 2)  # the peer loses a class, without a word


def test_classes_beyond_y_are_told_at_fit():
    team, X, names = disjoint(["a", "b", "c"], [[0, 1, 2], [0, 1]])
    rows = names != "c"
    with pytest.raises(
        PanelError, match=r"'m0' predicts classes \['c'\] that are not in y. Set extra_class="
    ):
        RobustFusionClassifier(team, cv="prefit").fit(X[rows], names[rows])
    kept = RobustFusionClassifier(team, cv="prefit", extra_class="keep").fit(X[rows], names[rows])
    assert kept.classes_.tolist() == ["a", "b", "c"]
    dropped = RobustFusionClassifier(team, cv="prefit", extra_class="drop").fit(X[rows], names[rows])
    assert dropped.classes_.tolist() == ["a", "b"]
    assert np.allclose(dropped.predict_proba(X).sum(axis=1), 1.0)


def test_rules_that_need_whole_rows_say_who_cannot_name_what():
    team, X, names = disjoint(["a", "b", "c"], [[0, 1], [0, 1, 2], [0, 1, 2]])
    with pytest.raises(
        PanelError, match=r"krum needs every class.*'m0' cannot name \['c'\].*absent_class='zero'"
    ):
        RobustFusionClassifier(team, fusion="krum", cv="prefit").fit(X, names)
    zero = RobustFusionClassifier(team, fusion="krum", cv="prefit", absent_class="zero").fit(X, names)
    assert zero.score(X, names) > 0.9


def test_frozen_members_with_any_labels_vote():
    X, y = load_iris(return_X_y=True)
    names = np.array(["x", "y", "z"])[y]
    team = [(n, FrozenEstimator(m.fit(X, names))) for n, m in good()]
    clf = RobustFusionClassifier(team, fusion="plurality_vote").fit(X, names)
    assert clf.score(X, names) > 0.95


def test_unfitted_frozen_specialist_is_refused():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="freeze=True but is not fitted"):
        RobustFusionClassifier([("a", Specialist(GaussianNB(), freeze=True))], cv="none").fit(X, y)


def test_absent_views_shrink_the_panel_and_nobody_gets_the_prior():
    X, y = load_iris(return_X_y=True)
    eye, ear = X[:, :2].copy(), X[:, 2:].copy()
    ear[:30] = np.nan
    both = Views(eye=eye, ear=ear)
    team = [
        ("eye", Specialist(LogisticRegression(max_iter=500), view="eye")),
        ("ear", Specialist(LogisticRegression(max_iter=500), view="ear")),
    ]
    clf = RobustFusionClassifier(team, fusion="covariance").fit(both, y)
    alone = RobustFusionClassifier(team[:1], cv="none").fit(both, y)
    assert np.allclose(clf.predict_proba(both)[:30], alone.predict_proba(both)[:30])
    assert clf.missing_rate_[1] == pytest.approx(0.2)
    blind = Views(eye=np.full_like(eye, np.nan), ear=np.full_like(ear, np.nan))
    with pytest.warns(FaultWarning, match="150 of 150 samples have no answer to fuse"):
        assert np.allclose(clf.predict_proba(blind), 1 / 3)


def test_short_panels_raise_relax_or_fall_back():
    X, y = load_iris(return_X_y=True)
    views = {f"v{i}": X[:, [i]].copy() for i in range(4)}
    team = [(name, Specialist(LogisticRegression(max_iter=500), view=name)) for name in views]
    whole = Views(views)
    gap = {name: view.copy() for name, view in views.items()}
    for name in ("v0", "v1"):
        gap[name][5] = np.nan
    fusion = TrimmedMean(n_byzantine=1)
    clf = RobustFusionClassifier(team, fusion=fusion).fit(whole, y)
    with pytest.raises(BudgetError, match=r"1 of 150 samples have fewer specialists.*\(3\); first \[5\]"):
        clf.predict(Views(gap))
    relaxed = RobustFusionClassifier(team, fusion=fusion, short="relax").fit(whole, y)
    with pytest.warns(FaultWarning, match="short='relax'"):
        assert relaxed.predict_proba(Views(gap))[5] == pytest.approx(
            np.mean(
                [
                    m.predict_proba(X[[5]][:, [i]])[0]
                    for i, m in ((2, clf.estimators_[2].model_), (3, clf.estimators_[3].model_))
                ],
                axis=0,
            )
        )
    prior = RobustFusionClassifier(team, fusion=fusion, short="prior").fit(whole, y)
    with pytest.warns(FaultWarning):
        assert np.allclose(prior.predict_proba(Views(gap))[5], 1 / 3)


def test_learned_fusion_without_a_panel_falls_back_and_says_why():
    X = np.arange(8.0).reshape(-1, 1)
    y = np.array([0, 0, 0, 0, 0, 0, 0, 1])
    team = [("a", LogisticRegression()), ("b", GaussianNB())]
    with pytest.warns(
        FaultWarning, match=r"no out-of-fold panel: class 1 has 1 sample. covariance falls back"
    ):
        clf = RobustFusionClassifier(team, fusion="covariance").fit(X, y)
    assert clf.oof_panel_ is None
    assert clf.weights_.tolist() == [0.5, 0.5]
