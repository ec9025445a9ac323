"""One specialist: what it sees, how it answers, what its failure means, and what its clones share."""

import pickle
import traceback

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier, is_regressor
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from estimators import RobustFusionClassifier, RobustFusionRegressor, Specialist, Views
from estimators.asking import ask
from estimators.specialists import as_specialist
from theory import FaultWarning, PanelError

X, Y = load_iris(return_X_y=True)


class Stubborn(ClassifierMixin, BaseEstimator):
    """A classifier that answers as it is told."""

    def __init__(self, answer=None, error=None, fit_error=None):
        self.answer = answer
        self.error = error
        self.fit_error = fit_error

    def fit(self, X, y):
        if self.fit_error:
            raise self.fit_error
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        if self.error:
            raise self.error
        if self.answer is not None:
            return self.answer
        return np.full((len(X), len(self.classes_)), 1.0 / len(self.classes_))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class Labelling(ClassifierMixin, BaseEstimator):
    """A classifier that has labels and nothing else."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.array(["c", "a", "a", "b"])


# --- how it answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "method"),
    [
        (LogisticRegression(max_iter=500), "predict_proba"),
        (LinearSVC(), "decision_function"),
        (SVC(), "decision_function"),
        (Perceptron(), "decision_function"),
        (KNeighborsClassifier(), "predict_proba"),
        (make_pipeline(StandardScaler(), LinearSVC()), "decision_function"),
    ],
)
def test_auto_takes_the_most_telling_method(model, method):
    specialist = Specialist(model).fit(X, Y)
    assert specialist.answer_method_ == method
    assert np.array_equal(
        specialist.answer(X), np.asarray(getattr(specialist.model_, method)(X), dtype=float)
    )


def test_a_model_that_only_predicts_is_heard_as_one_hot():
    specialist = Specialist(Labelling()).fit(np.zeros((4, 1)), ["a", "b", "c", "a"])
    assert specialist.answer_method_ == "predict"
    assert specialist.answer(np.zeros((4, 1))).tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_two_classes_by_decision_values_get_two_columns():
    X2, y2 = make_classification(60, random_state=0)
    specialist = Specialist(LinearSVC()).fit(X2, y2)
    said = specialist.answer(X2)
    assert np.array_equal(said, np.array([[-1, 1]]) * specialist.model_.decision_function(X2)[:, None])
    assert np.array_equal(specialist.classes_[said.argmax(axis=1)], specialist.predict(X2))


def test_method_forces_a_choice():
    specialist = Specialist(LogisticRegression(max_iter=500), method="predict").fit(X, Y)
    assert set(np.unique(specialist.answer(X))) == {0.0, 1.0}
    forced = Specialist(SVC(), method="predict_proba", name="margin")
    with pytest.raises(PanelError, match=r"'margin' \(SVC\) has no predict_proba. Set method='auto'"):
        forced.fit(X, Y)
    with pytest.raises(PanelError, match="has no predict_proba"):
        forced.set_params(model=SVC().fit(X, Y), freeze=True).fit(X, Y)


def test_regressors_answer_in_float64_with_an_output_axis():
    both = np.stack([Y, -Y], axis=1)
    assert Specialist(Ridge()).fit(X, Y).answer(X).shape == (150, 1)
    assert Specialist(LinearRegression()).fit(X, both).answer(X).shape == (150, 2)
    assert Specialist(LinearRegression()).fit(X.astype(np.float32), Y).answer(X).dtype == np.float64


@pytest.mark.parametrize("answer", [np.ones((3, 3)) / 3, np.ones((150, 2)) / 2, np.float64(0.5)])
def test_an_answer_of_the_wrong_shape_is_refused_by_name(answer):
    specialist = Specialist(Stubborn(answer=answer), name="odd").fit(X, Y)
    with pytest.raises(PanelError, match=r"specialist 'odd' gave .* from predict_proba"):
        specialist.answer(X)


def test_alone_it_is_an_estimator_of_the_models_kind():
    specialist = Specialist(LogisticRegression(max_iter=500), view=[2, 3]).fit(X, Y)
    assert is_classifier(specialist) and not is_regressor(specialist)
    assert is_regressor(Specialist(Ridge()))
    plain = LogisticRegression(max_iter=500).fit(X[:, 2:], Y)
    assert np.array_equal(specialist.predict_proba(X), plain.predict_proba(X[:, 2:]))
    assert np.array_equal(specialist.decision_function(X), plain.decision_function(X[:, 2:]))
    assert specialist.score(X, Y) == plain.score(X[:, 2:], Y)
    assert specialist.n_features_in_ == 2
    assert not hasattr(Specialist(LinearSVC()).fit(X, Y), "predict_proba")
    assert not hasattr(Specialist(Ridge()), "decision_function")
    for attribute in ("classes_", "n_features_in_"):
        with pytest.raises(AttributeError, match="not fitted yet"):
            getattr(Specialist(Ridge()), attribute)
    with pytest.raises(NotFittedError):
        Specialist(LogisticRegression()).predict(X)


# --- what it sees ------------------------------------------------------------------------------------


def gaps(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    ear = np.eye(3)[y] + rng.normal(size=(n, 3)) * 0.3
    eye = np.eye(3)[y] + rng.normal(size=(n, 3)) * 0.3
    ear[::4] = np.nan
    return Views(ear=ear, eye=eye), y


def test_absent_rows_are_neither_fitted_nor_answered():
    views, y = gaps()
    present = views.mask["ear"]
    specialist = Specialist(LogisticRegression(), view="ear").fit(views, y, sample_weight=np.arange(60) + 1.0)
    expected = LogisticRegression().fit(
        views["ear"][present], y[present], sample_weight=np.flatnonzero(present) + 1.0
    )
    said = specialist.answer(views)
    assert np.isnan(said[~present]).all()
    assert np.allclose(said[present], expected.predict_proba(views["ear"][present]), atol=1e-12)
    nobody = views[np.flatnonzero(~present)]
    assert np.isnan(specialist.answer(nobody)).all() and specialist.answer(nobody).shape == (15, 3)
    with pytest.raises(PanelError, match="view 'ear' is absent from 15 samples; only an ensemble can answer"):
        specialist.predict(views)
    with pytest.raises(PanelError, match="view 'ear' is absent from every sample"):
        clone(specialist).fit(nobody, y[:15])


def test_a_frame_stays_a_frame_after_gaps_are_cut():
    frame = pd.DataFrame({"a": [1.0, np.nan, 2.0, 3.0], "b": [0.0, np.nan, 1.0, np.nan]})
    specialist = Specialist(HistGradientBoostingClassifier(min_samples_leaf=1), view="table")
    specialist.fit(Views(table=frame), [0, 1, 1, 0])
    assert specialist.model_.feature_names_in_.tolist() == ["a", "b"]
    assert np.isnan(specialist.answer(Views(table=frame))[1]).all()


def test_an_ensemble_hears_those_who_are_there():
    views, y = gaps(90)
    team = [(name, Specialist(LogisticRegression(), view=name)) for name in ("ear", "eye")]
    fitted = RobustFusionClassifier(team, fusion="mean", cv=3).fit(views, y)
    assert np.isnan(fitted.oof_panel_.values[:, 0]).all(axis=1).sum() == (~views.mask["ear"]).sum()
    assert fitted.missing_rate_[0] == pytest.approx((~views.mask["ear"]).mean())
    alone = fitted.predict_proba(views)[~views.mask["ear"]]
    eye = fitted.named_estimators_["eye"].answer(views)[~views.mask["ear"]]
    assert np.allclose(alone, eye, atol=1e-12)
    assert np.isfinite(fitted.predict_proba(views)).all()


# --- parameters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [0, -1.0, np.nan, np.inf, "much", None, True])
def test_a_cost_is_a_positive_number(cost):
    with pytest.raises(PanelError, match="cost must be a positive number"):
        Specialist(LogisticRegression(), cost=cost).fit(X, Y)


@pytest.mark.parametrize("cost", [1, 0.5, np.float32(2), np.int64(3)])
def test_a_cost_of_any_real_type_will_do(cost):
    Specialist(NearestCentroid(), cost=cost).fit(X, Y)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"method": "embed"}, "method must be one of.*got 'embed'"),
        ({"on_error": "ignore"}, "'raise' or 'abstain'"),
    ],
)
def test_unknown_choices_are_refused(params, text):
    with pytest.raises(PanelError, match=text):
        Specialist(LogisticRegression(), **params).fit(X, Y)


def test_weights_reach_the_model_or_are_refused_by_name():
    weight = np.where(Y == 0, 100.0, 1.0)
    heavy = Specialist(LogisticRegression(max_iter=500)).fit(X, Y, sample_weight=weight)
    plain = LogisticRegression(max_iter=500).fit(X, Y, sample_weight=weight)
    assert np.array_equal(heavy.predict_proba(X), plain.predict_proba(X))
    inside = Specialist(make_pipeline(StandardScaler(), LogisticRegression())).fit(X, Y, sample_weight=weight)
    flat = Specialist(make_pipeline(StandardScaler(), LogisticRegression())).fit(X, Y)
    assert not np.allclose(inside.predict_proba(X), flat.predict_proba(X))
    without = Specialist(LogisticRegression(max_iter=500), use_weights=False).fit(X, Y, sample_weight=weight)
    assert np.array_equal(
        without.predict_proba(X), LogisticRegression(max_iter=500).fit(X, Y).predict_proba(X)
    )


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (KNeighborsClassifier(), "KNeighborsClassifier"),
        (make_pipeline(StandardScaler(), KNeighborsClassifier()), "Pipeline"),
        (make_pipeline(make_pipeline(StandardScaler(), KNeighborsClassifier())), "Pipeline"),
    ],
)
def test_a_model_without_weights_says_the_way_out(model, name):  # E7
    with pytest.raises(
        TypeError, match=rf"specialist 'knn' \({name}\) does not accept sample_weight. Set use_weights=False."
    ):
        Specialist(model, name="knn").fit(X, Y, sample_weight=np.ones(150))
    Specialist(model, name="knn", use_weights=False).fit(X, Y, sample_weight=np.ones(150))


def test_parameters_are_reached_from_outside():
    grid = GridSearchCV(
        Specialist(LogisticRegression(max_iter=500), view=[2, 3]), {"model__C": [1e-4, 1.0]}, cv=3
    )
    assert grid.fit(X, Y).best_params_ == {"model__C": 1.0}
    assert "view=[2, 3]" in repr(grid.estimator)


# --- frozen ------------------------------------------------------------------------------------------


def test_a_frozen_model_is_shared_and_never_refitted():
    model = LogisticRegression(max_iter=500).fit(X[:, :2], Y)
    before = model.coef_.copy()
    specialist = Specialist(model, view=[0, 1], freeze=True)
    copies = [clone(specialist), clone(clone(specialist)), as_specialist("x", specialist)]
    assert all(copy.model is model for copy in copies)
    assert specialist.fit(X, Y[::-1]).model_ is model
    assert np.array_equal(model.coef_, before)
    thawed = clone(specialist.set_params(freeze=False))
    assert thawed.model is not model and not hasattr(thawed.model, "coef_")
    assert copies[2].name == "x" and specialist.name is None


def test_a_frozen_model_that_is_not_fitted_is_refused():  # E6
    with pytest.raises(
        NotFittedError,
        match=r"specialist 'eye' has freeze=True but is not fitted. Fit it or set freeze=False.",
    ):
        Specialist(LogisticRegression(), freeze=True, name="eye").fit(X, Y)
    team = [("eye", Specialist(LogisticRegression(), freeze=True)), ("ear", LogisticRegression(max_iter=500))]
    with pytest.raises(NotFittedError, match="specialist 'eye'"):
        RobustFusionClassifier(team).fit(X, Y)


def test_frozen_specialists_make_an_ensemble_on_fresh_rows():
    even, odd = slice(0, None, 2), slice(1, None, 2)
    team = [
        (
            str(k),
            Specialist(
                LogisticRegression(max_iter=500).fit(X[even][:, :k], Y[even]), view=slice(0, k), freeze=True
            ),
        )
        for k in (2, 3, 4)
    ]
    fitted = RobustFusionClassifier(team, cv="prefit", fusion="covariance").fit(X[odd], Y[odd])
    assert [a is b.model for a, (_, b) in zip([m.model_ for m in fitted.estimators_], team, strict=True)] == [
        True
    ] * 3
    assert fitted.score(X, Y) > 0.9


# --- failure -----------------------------------------------------------------------------------------


def test_an_exception_names_the_specialist_and_the_way_out():  # E5
    specialist = as_specialist("llm", Specialist(Stubborn(error=ConnectionError("no route")))).fit(X, Y)
    with pytest.raises(ConnectionError, match="no route") as caught:
        ask(specialist, X, 3)
    text = "".join(traceback.format_exception(caught.value))
    assert "raised by specialist 'llm' in predict_proba. Set on_error='abstain' to go on without it." in text


def test_a_failure_can_be_an_abstention():
    specialist = as_specialist("llm", Specialist(Stubborn(error=OSError("gone")), on_error="abstain")).fit(
        X, Y
    )
    with pytest.warns(FaultWarning, match="specialist 'llm' failed and abstains: OSError: gone"):
        said, _, failure = ask(specialist, X, 3)
    assert np.isnan(said).all() and said.shape == (150, 3)
    assert failure == "OSError: gone"


def test_answers_that_are_not_finite():
    answer = np.full((150, 3), 1 / 3)
    answer[3, 1] = np.inf
    answer[5] = np.nan
    kept = answer.copy()
    gone = as_specialist("llm", Specialist(Stubborn(answer=answer), on_error="abstain")).fit(X, Y)
    with pytest.warns(
        FaultWarning, match="specialist 'llm': 2 of 150 answers are not finite; they count as abst"
    ):
        said, _, failure = ask(gone, X, 3)
    assert (
        failure == "" and np.isnan(said[[3, 5]]).all() and np.isfinite(np.delete(said, [3, 5], axis=0)).all()
    )
    assert np.array_equal(answer, kept, equal_nan=True)  # the model's own array
    loud = as_specialist("llm", Specialist(Stubborn(answer=answer))).fit(X, Y)
    assert np.array_equal(ask(loud, X, 3)[0], answer, equal_nan=True)  # faults, for the rule to judge


def test_absent_rows_are_no_failure():
    views, y = gaps()
    specialist = as_specialist("ear", Specialist(LogisticRegression(), view="ear", on_error="abstain")).fit(
        views, y
    )
    said, absent, _ = ask(specialist, views, 3)
    assert np.array_equal(absent, np.isnan(said).all(axis=1))
    assert np.isnan(said).all(axis=1).sum() == 15


def test_an_ensemble_goes_on_without_a_specialist_that_fails():
    team = [
        ("down", Specialist(Stubborn(error=OSError("gone")), on_error="abstain")),
        ("never", Specialist(Stubborn(fit_error=OSError("no licence")), on_error="abstain")),
        ("line", LogisticRegression(max_iter=500)),
    ]
    with pytest.warns(FaultWarning) as caught:
        fitted = RobustFusionClassifier(team, cv=3).fit(X, Y)
        accuracy = fitted.score(X, Y)
    assert any("'never' failed in fit and abstains: OSError: no licence" in str(w.message) for w in caught)
    assert any("'down' failed and abstains" in str(w.message) for w in caught)
    assert list(fitted.failures_) == ["never"]
    assert accuracy == LogisticRegression(max_iter=500).fit(X, Y).score(X, Y)


def test_an_ensemble_stops_where_a_specialist_may_not_fail():
    team = [("down", Specialist(Stubborn(error=OSError("gone")))), ("line", LogisticRegression(max_iter=500))]
    with pytest.raises(OSError, match="gone") as caught:
        RobustFusionClassifier(team, cv=3).fit(X, Y)
    assert "raised by specialist 'down' in predict_proba" in "".join(caught.value.__notes__)
    team[0] = ("never", Specialist(Stubborn(fit_error=OSError("no licence"))))
    with pytest.raises(OSError, match="no licence") as caught:
        RobustFusionClassifier(team, cv=3).fit(X, Y)
    assert "raised by specialist 'never' in fit. Set on_error='abstain'" in "".join(caught.value.__notes__)


# --- bookkeeping -------------------------------------------------------------------------------------


def test_pickle_keeps_answers_and_clone_keeps_parameters():
    specialist = Specialist(
        LogisticRegression(max_iter=500), view=np.array([0, 2]), calibration="isotonic", cost=2.5, name="me"
    ).fit(X, Y)
    back = pickle.loads(pickle.dumps(specialist))
    assert np.array_equal(back.answer(X), specialist.answer(X))
    fresh = clone(specialist)
    assert not hasattr(fresh, "model_") and fresh.model is not specialist.model
    assert (fresh.cost, fresh.calibration, fresh.name, fresh.view.tolist()) == (2.5, "isotonic", "me", [0, 2])


def test_fitting_leaves_the_model_and_the_input_alone():
    model, values = LogisticRegression(max_iter=500), X.copy()
    values.flags.writeable = False
    Specialist(model, view=[1, 2]).fit(values, Y).answer(values[::-1])
    assert not hasattr(model, "coef_")


def test_members_of_a_team_need_not_be_specialists():
    bare = as_specialist("knn", KNeighborsClassifier())
    assert isinstance(bare, Specialist) and bare.name == "knn"
    fitted = RobustFusionRegressor([("flat", Specialist(Ridge(1e6))), ("line", Ridge())], cv=3).fit(
        X, X[:, :2]
    )
    assert fitted.predict(X).shape == (150, 2)


def test_truths_and_weights_are_one_per_sample_also_where_a_view_picks_rows():
    views = Views(whole=X, part=np.where(np.arange(150)[:, None] < 5, np.nan, X))
    member = Specialist(LogisticRegression(max_iter=500), view="part")
    for y, weight in ((np.r_[Y, Y], None), (Y[:50], None), (Y, np.ones(300))):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            member.fit(views, y, sample_weight=weight)
