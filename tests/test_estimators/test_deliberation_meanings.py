"""What single protocols promise: no position wins a debate, views are bought only where they pay, calls are real."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from estimators import Adjudicator, Critic, DeliberativeClassifier, Escalation, PrecomputedSpecialist
from estimators.deliberation_protocol import numeric_meaning
from estimators.meeting import Case
from estimators.protocol_debate import Debate, two_likeliest
from estimators.protocol_votes import Rounds
from fusion.deliberative import Protocol, Revision, protocol, protocol_names, regime
from theory import PanelError

pytestmark = pytest.mark.filterwarnings("ignore:the temperature:theory.FaultWarning")


def task(n=400, seed=0):
    return make_classification(n, 8, n_informative=5, n_classes=3, flip_y=0.2, random_state=seed)


def team():
    return [
        ("line", LogisticRegression(max_iter=200)),
        ("tree", DecisionTreeClassifier(max_depth=3, random_state=0)),
        ("bayes", GaussianNB()),
    ]


def places(n=900, k=3, seed=0):
    """Two specialists, each right at its own place only; a judge that sees the place knows whom to believe."""
    rng = np.random.default_rng(seed)
    where, y = rng.integers(0, 2, n), rng.integers(0, k, n)
    members = []
    for i in range(2):
        said = np.where((where == i) | (rng.random(n) < 0.3), y, rng.integers(0, k, n))
        members.append(
            (f"s{i}", PrecomputedSpecialist(pd.DataFrame(np.eye(k)[said], columns=list(range(k))), key="id"))
        )
    noise = rng.normal(size=(n, 2))
    X = pd.DataFrame({"id": np.arange(n), "where": where, "x": noise[:, 0], "z": noise[:, 1]})
    return members, X, y


def blocks():
    model = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8)
    return [(name, Critic(model, view=[name])) for name in ("x", "where", "z")]


def test_exchanging_the_options_gives_the_complement():
    members, X, y = places()
    clf = DeliberativeClassifier(
        members, protocol="debate", critics=blocks(), cv="prefit", random_state=0
    ).fit(X, y)
    memory, debate = clf._memory, clf.hearings_[-1].meaning
    assert isinstance(debate, Debate)
    case = Case(memory.panel, memory.valid, memory.views)
    prior = debate.stack.verdict(case.panel, valid=case.valid, views=[])
    pair = two_likeliest(prior, case.valid)
    margin, order = debate.critic_.margins(case, prior)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        swap = np.arange(3)
        swap[[a, b]] = b, a
        other = Case(case.panel[:, :, swap], case.valid[:, swap], case.views)
        again, back = debate.critic_.margins(other, prior[:, swap])
        rows = (pair == (a, b)).all(axis=1)
        assert np.array_equal(again[rows], -margin[rows])
        assert np.allclose(back[rows], order[rows])
    said = debate.say(case)
    mass = np.take_along_axis(prior, pair, axis=1).sum(axis=1)
    assert np.allclose(np.take_along_axis(said, pair, axis=1).sum(axis=1), mass, atol=1e-12)
    rest = np.ones(said.shape, dtype=bool)
    np.put_along_axis(rest, pair, False, axis=1)
    assert np.array_equal(said[rest], prior[rest])


def test_a_debate_about_the_place_beats_stacking_and_the_asking_judge_buys_the_place_alone():
    members, X, y = places()
    params = {"critics": blocks(), "cv": "prefit", "random_state": 0}
    debate = DeliberativeClassifier(members, protocol="debate", **params).fit(X, y).report_
    assert debate["gain_over_stack"]["value"] > 5 * debate["gain_over_stack"]["standard_error"]
    asked = DeliberativeClassifier(members, protocol="interactive_debate", **params).fit(X, y).report_
    assert asked["bought"] == ["where"]
    assert asked["stopped_by"] == {"no_evidence": 1.0}
    assert asked["log_loss"]["value"] < debate["log_loss"]["value"] + 0.01  # what is not bought is not missed
    once = replace(protocol("interactive_debate"), rounds=1)
    told = DeliberativeClassifier(members, protocol=once, **params).fit(X, y).report_
    assert told["stopped_by"] == {"rounds": 1.0}
    blind = DeliberativeClassifier(
        members,
        protocol="interactive_debate",
        critics=[blocks()[0], blocks()[2]],
        cv="prefit",
        random_state=0,
    ).fit(X, y)
    assert blind.report_["bought"] == []


def test_delphi_listens_to_whom_the_critic_backs():
    rng = np.random.default_rng(0)
    case = Case(rng.dirichlet(np.ones(3), (50, 5)), np.ones((50, 3), dtype=bool), [])
    rounds = Rounds(protocol("delphi"), [], seed=0)
    nobody, spread = rounds._rounds(case, np.zeros((50, 5)), 8, -1.0)
    assert (np.diff(spread) <= 1e-12).all()
    first = np.zeros((50, 5))
    first[:, 0] = 1.0
    backed, _ = rounds._rounds(case, first, 8, -1.0)
    toward = np.abs(backed - case.panel[:, 0]).sum(axis=1) - np.abs(nobody - case.panel[:, 0]).sum(axis=1)
    assert (toward <= 1e-9).mean() > 0.9
    everybody, _ = rounds._rounds(case, np.ones((50, 5)), 8, -1.0)
    assert np.allclose(everybody, (5 * case.panel.mean(axis=1) + 1 / 3) / 6)
    X, y = task()
    clf = DeliberativeClassifier(team(), protocol=replace(protocol("delphi"), tolerance=0.9), random_state=0)
    told = clf.fit(X, y).report_
    assert told["stopped_by"] == {"stable": 1.0}
    assert told["rounds"] == 1


def test_a_consultancy_asks_one_and_the_judge_alone_nobody():
    X, y = task()
    for name, calls in (("consultancy", 150), ("naive", 0)):
        clf = DeliberativeClassifier(team(), protocol=name, random_state=0).fit(X[:250], y[:250])
        told = clf.deliberate(X[250:])
        assert told.ledger["calls"] == calls
        assert (told.decision.action == "accept").all()
    asked = told.dataset.asked.values
    assert not asked.any()
    one = DeliberativeClassifier(team(), protocol="consultancy", random_state=0).fit(X, y)
    assert one._names[one._stages[0][0]] == one.report_["best_single"]


def test_the_source_is_the_ceiling_and_the_judge_alone_the_floor():
    members, X, y = places()
    loss = {
        name: DeliberativeClassifier(members, protocol=name, critics=blocks(), cv="prefit", random_state=0)
        .fit(X, y)
        .report_["log_loss"]["value"]
        for name in ("naive", "self_consistency", "expert_judge")
    }
    assert loss["expert_judge"] < loss["self_consistency"] < loss["naive"] < np.log(3) + 0.02


def test_layers_are_as_deep_as_the_rounds():
    X, y = task()
    for depth in (1, 2):
        plan = replace(protocol("mixture_of_agents"), rounds=depth)
        quick = [("left", Critic(DecisionTreeClassifier(max_depth=3, random_state=0), view=[0, 1]))]
        clf = DeliberativeClassifier(team(), protocol=plan, critics=quick, random_state=0).fit(X, y)
        assert clf.report_["layers"] == [3] * (depth - 1) + [1]
        assert len(clf.hearings_[-1].meaning.layers_) == depth
    one = DeliberativeClassifier(
        team(), protocol=replace(protocol("mixture_of_agents"), rounds=1), random_state=0
    ).fit(X, y)
    stack = DeliberativeClassifier(team(), random_state=0).fit(X, y)
    # One layer is a stack, but for the temperature, which rests on folds of folds.
    assert np.allclose(one.predict_proba(X), stack.predict_proba(X), atol=0.02)
    assert (one.predict(X) == stack.predict(X)).mean() > 0.995


@pytest.mark.parametrize("name", ["self_consistency", "debate", "reconcile"])
def test_protocols_escalate(name):
    X, y = task(500)
    stages = Escalation([["line", "tree"], ["bayes"]])
    clf = DeliberativeClassifier(team(), protocol=name, escalation=stages, random_state=0).fit(
        X[:300], y[:300]
    )
    told = clf.deliberate(X[300:])
    asked = told.dataset.asked.values
    assert asked[:, :2].all()
    assert 0 < asked[:, 2].mean() < 1
    assert clf.report_["stopped_by"]["unanimity"] == pytest.approx(1 - clf.report_["escalation"]["rate"])
    assert clf.report_["escalation"]["calls_per_sample"] == pytest.approx(
        2 + clf.report_["escalation"]["rate"]
    )


def test_meanings_follow_the_structure_not_the_name():
    assert [numeric_meaning(protocol(name)) for name in protocol_names()] == list(protocol_names())
    own = Protocol("own", aggregate="plurality")
    assert numeric_meaning(own) == "self_consistency"
    kinds = [numeric_meaning(regime(name)) for name in ("competition", "collaboration", "coordination")]
    assert kinds == ["debate", "critique_revise", "critique_revise"]


def test_regimes_run_and_say_what_ended_them():
    X, y = task(500)
    fit = {
        "competition": {},
        "collaboration": {"revision": Revision()},
        "coordination": {
            "escalation": Escalation([["line"], ["tree", "bayes"]], rule="expected_gain", rate=0.3)
        },
    }
    told = {
        name: DeliberativeClassifier(team(), protocol=regime(name), random_state=0, **params)
        .fit(X, y)
        .report_
        for name, params in fit.items()
    }
    assert told["competition"]["stopped_by"] == {"no_evidence": 1.0}
    assert sum(told["collaboration"]["stopped_by"].values()) == 1.0
    assert told["coordination"]["stopped_by"]["price"] == pytest.approx(0.7, abs=0.05)
    assert told["coordination"]["protocol"] == "escalation"


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"protocol": "chat"}, "protocol must be one of"),
        ({"protocol": 3}, "protocol must be a name or a fusion.deliberative.Protocol"),
        ({"protocol": "debate", "revision": Revision()}, "nobody revises in 'debate'"),
        (
            {"protocol": "naive", "escalation": Escalation([["line"], ["tree", "bayes"]])},
            "'naive' asks nobody",
        ),
        ({"protocol": regime("coordination")}, r"stops by price.* give escalation=Escalation"),
        ({"protocol": replace(protocol("reconcile"), n_proposers=2)}, "numeric specialists all propose"),
        ({"protocol": replace(protocol("reconcile"), stop=("quorum",))}, "these specialists speak once"),
        ({"topology": "circle"}, "topology must be one of"),
        ({"topology": "layered"}, "layered needs two or more positive layers"),
        ({"topology": np.eye(3)}, "with a diagonal of 0"),
        ({"topology": np.ones((2, 2))}, r"topology must have shape \(3, 3\)"),
    ],
)
def test_what_does_not_go_together_is_refused(params, text):
    X, y = task(210)
    with pytest.raises(PanelError, match=text):
        DeliberativeClassifier(team(), **params).fit(X, y)


def test_folds_of_the_judge_need_two():
    X, y = task(210)
    with pytest.raises(ValueError, match=r"'critic_cv' parameter .* must be an int in the range"):
        DeliberativeClassifier(team(), critic_cv=1).fit(X, y)


def test_a_judge_without_calibration_is_left_alone():
    X, y = task()
    clf = DeliberativeClassifier(
        team(), protocol="self_consistency", adjudicator=Adjudicator(calibration=None), random_state=0
    ).fit(X, y)
    assert clf.report_["inverse_temperature"] == 1.0
    said = np.stack([member.predict(X) for member in clf._members], axis=1)
    heads = (said[:, :, None] == np.arange(3)).sum(axis=1)
    assert np.allclose(clf.predict_proba(X), (heads + 1 / 3) / 4)
