"""Delphi, surprising popularity, floor and ceiling in text; stop rules; what a run gained; what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from chat_minds import MINDS, QUOTE, RIGHT, SOURCE, Mind, deliberate
from chat_server import completion, serving
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from estimators.chat import ChatClient, TextItem, deliberate_text
from estimators.chat.gains import cross_stack, share_of_top, text_gains
from estimators.chat.stopping import plurality
from fusion.deliberative import Budget, Transcript, regime, surprisingly_popular, verify_transcript
from fusion.deliberative import protocol as preset
from theory import BudgetError, PanelError

SPLIT = {"a": "good", "b": "good", "c": "wrong"}


def of_action(run, action):
    return [record for record in run.transcript.records if record["action"] == action]


def shown(server):
    return [body["messages"][1]["content"] for body in server.bodies]


def test_delphi_shows_a_summary_without_names_asks_outliers_why_and_stops_when_the_answers_rest():
    with serving(Mind(favourite=MINDS)) as server:
        run = deliberate(server, "delphi", models=SPLIT, names=("alice", "bob", "c"))
        models = [
            body["model"] for body in server.bodies if "which fewer of you" in body["messages"][0]["content"]
        ]
        texts = shown(server)
    assert run.stopped_by == ["stable"] * 3 and run.rounds.tolist() == [2] * 3
    assert models == ["wrong"] * 6  # two rounds of three questions, of the one who stands apart
    assert not any(name in text for text in texts for name in ("alice", "bob"))
    assert any("named by 2" in text and "named by 1" in text and "quartiles 0.85" in text for text in texts)
    summary = of_action(run, "summarise")[0]["payload"]
    assert [sorted(one["heads"], reverse=True)[:2] for one in summary] == [[2, 1]] * 3
    assert run.proba[range(3), RIGHT] == pytest.approx([2 / 3] * 3)
    assert of_action(run, "stop")[0]["payload"] == [{"item": k, "rule": "stable"} for k in range(3)]
    justified = of_action(run, "justify")
    assert len(justified) == 2 and justified[0]["payload"][0]["quotes"][0]["verified"]


def test_delphi_of_one_mind_asks_nobody_why():
    with serving(Mind()) as server:
        run = deliberate(server, "delphi", rounds=1)
    assert of_action(run, "justify") == [] and run.stopped_by == ["rounds"] * 3
    assert run.ledger.totals().calls == 9 + 9


class Crowd:
    """Two say the popular error and expect all to; one knows better and expects the error of most."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def __call__(self, body, *_):
        labels = body["response_format"]["json_schema"]["schema"]["$defs"]["Others"]["required"]
        text = body["messages"][1]["content"]
        letter = {line[3:]: line[0] for line in text.splitlines() if line[1:3] == ") "}
        knows = body["model"] == "good"
        wrong = 0.6 if knows else 0.95
        others = dict.fromkeys(labels, 0.0)
        others[letter["Philadelphia"]], others[letter["Harrisburg"]] = (
            wrong * self.scale,
            (1 - wrong) * self.scale,
        )
        said = {"answer": letter["Harrisburg" if knows else "Philadelphia"], "confidence": 0.7, "reasons": []}
        return completion(json.dumps({**said, "others": others}))


CAPITAL = [TextItem("Capital of Pennsylvania?", ("Philadelphia", "Pittsburgh", "Harrisburg"))]


def crowd(server, **parameters):
    models = {"a": "m", "b": "m", "c": "good"}
    agents = {name: ChatClient(server.url, model, retries=0) for name, model in models.items()}
    return deliberate_text(CAPITAL, agents, protocol="surprisingly_popular", **parameters)


def test_an_answer_that_is_more_popular_than_predicted_wins():
    with serving(Crowd()) as server:
        run = crowd(server)
        assert len(server.bodies) == 3
    assert run.proposals[0].sum(axis=0).tolist() == [2.0, 0.0, 1.0]
    assert run.proba[0].argmax() == 2
    predicted = [[0.95, 0.0, 0.05], [0.95, 0.0, 0.05], [0.6, 0.0, 0.4]]
    assert run.proba[0] == pytest.approx(surprisingly_popular(run.proposals, [predicted])[0])
    assert run.gains([2])["gain_over_plurality"] == 1.0
    told = of_action(run, "reveal")[2]["payload"]["proposal"][0]["predicted"]
    assert told == pytest.approx([0.6, 0.0, 0.4])


@pytest.mark.parametrize(
    ("scale", "reason"), [(1.015, None), (0.985, None), (1.03, "schema"), (0.5, "schema")]
)
def test_predicted_shares_are_renormalised_only_near_one(scale, reason):
    with serving(Crowd(scale)) as server:
        run = crowd(server)
    assert run.abstentions == [[reason] * 3]
    if reason is None:
        told = of_action(run, "reveal")[0]["payload"]["proposal"][0]["predicted"]
        assert sum(told) == pytest.approx(1.0, abs=1e-12)
    else:
        assert np.isnan(run.proba).all() and run.reasons == ["schema"]


@pytest.mark.parametrize(("protocol", "sees"), [("naive", False), ("expert_judge", True), ("debate", False),
    ("interactive_debate", False), ("consultancy", False), ("critique_revise", True)])  # fmt: skip
def test_whether_the_judge_sees_the_source(protocol, sees):
    with serving(Mind()) as server:
        run = deliberate(server, protocol)
        of_judge = [
            body["messages"][1]["content"]
            for body in server.bodies
            if body["response_format"]["json_schema"]["name"] in ("verdict", "question")
        ]
    assert of_judge and all((SOURCE in text) == sees for text in of_judge)
    assert run.proba.argmax(axis=1).tolist() == RIGHT


def test_a_judge_alone_has_no_rival_and_says_so():
    with serving(Mind()) as server:
        run = deliberate(server, "naive")
    gains = run.gains(RIGHT)
    assert gains["accuracy"] == 1.0 and gains["stacking_reason"] == "nobody proposed"
    assert gains["plurality"] is gains["best_single"] is gains["gain_over_stacking"] is None
    with serving(Mind()) as server, pytest.raises(BudgetError, match="round 0 of naive needs 9 calls"):
        deliberate(server, "naive", budget=Budget(calls=8))


def stopping(name, *rules, **changes):
    return replace(preset(name), stop=("rounds", *rules), **changes)


def test_unanimity_and_quorum_end_a_question_before_its_first_round():
    with serving(Mind()) as server:
        run = deliberate(server, stopping("critique_revise", "unanimity"))
    assert run.stopped_by == ["unanimity"] * 3 and run.rounds.tolist() == [0] * 3
    assert run.ledger.totals().calls == 9 + 9 and of_action(run, "critique") == []
    with serving(Mind(favourite=MINDS)) as server:
        run = deliberate(server, stopping("delphi", "quorum", quorum=0.6), models=SPLIT)
        assert run.stopped_by == ["quorum"] * 3 and len(server.bodies) == 9
        run = deliberate(server, stopping("delphi", "quorum", quorum=0.7, rounds=1), models=SPLIT)
    assert run.stopped_by == ["rounds"] * 3


def test_clones_are_no_quorum_of_effective_votes():
    plan = stopping("delphi", "quorum", quorum=0.6, rounds=1)
    with serving(Mind(favourite=MINDS)) as server:
        run = deliberate(server, plan, models=SPLIT, vote_weights={"a": 0.5, "b": 0.5, "c": 1.0})
        assert run.stopped_by == ["rounds"] * 3
        run = deliberate(server, plan, models=SPLIT, vote_weights={"a": 1.0, "b": 1.0, "c": 1.0})
        assert run.stopped_by == ["quorum"] * 3
        for wrong, text in (
            ({"a": 1.0}, r"one for each of \['a', 'b', 'c'\]"),
            ({"a": 1.0, "b": 1.0, "c": -1.0}, "finite numbers >= 0"),
            (dict.fromkeys("abc", 0.0), "not all 0"),
        ):
            with pytest.raises(PanelError, match=text):
                deliberate(server, plan, vote_weights=wrong)
        with pytest.raises(PanelError, match="for the stop rule 'quorum'"):
            deliberate(server, "delphi", vote_weights=dict.fromkeys("abc", 1.0))


def test_a_rule_ends_only_the_questions_it_speaks_of():
    favourite = {"good": {"drought", "1842", "no"}, "half": {"drought", "1482", "no"}}
    with serving(Mind(favourite=favourite)) as server:
        run = deliberate(server, "reconcile", models={"a": "good", "b": "good", "c": "half"})
    assert run.stopped_by == ["unanimity", "rounds", "unanimity"] and run.rounds.tolist() == [0, 3, 0]
    told = [(record["round"], record["payload"]) for record in of_action(run, "stop")]
    assert told == [
        (1, [{"item": 0, "rule": "unanimity"}, {"item": 2, "rule": "unanimity"}]),
        (3, [{"item": 1, "rule": "rounds"}]),
    ]


def test_no_new_verified_quote_is_no_evidence():
    plan = replace(regime("competition"), stop=("rounds", "no_evidence", "budget"))
    with serving(Mind()) as server:
        run = deliberate(server, plan)
        asked = len(server.bodies)
    # Round 1 quotes what the sealed proposals quoted already.
    assert run.stopped_by == ["no_evidence"] * 3 and run.rounds.tolist() == [1] * 3
    assert asked == 6 + 6 + 9
    with serving(Mind()) as server:
        longer = deliberate(server, "debate")
        assert len(server.bodies) == 6 + 3 * 6 + 9 and longer.stopped_by == ["rounds"] * 3
    fresh = iter(range(100))

    def script(body, *rest):
        mind = Mind(quote=QUOTE if next(fresh) < 6 else "so grain was imported")
        return mind(body, *rest)

    with serving(script) as server:
        run = deliberate(server, plan)
    assert run.rounds.tolist() == [2] * 3


def test_a_round_that_is_dearer_than_its_gain_is_not_held():
    seen = []

    def gain(votes):
        seen.append(votes.shape)
        return np.array([0.3, 0.1, 0.2])[: len(votes)]

    with serving(Mind(favourite=MINDS)) as server:
        plan = stopping("delphi", "price", rounds=1)
        run = deliberate(server, plan, models=SPLIT, gain=gain, price=0.2)
    assert run.stopped_by == ["rounds", "price", "rounds"] and seen == [(3, 3, 4)]
    for wrong, text in (
        ({"gain": None}, "belong together"),
        ({"gain": lambda votes: [1.0]}, "3 finite numbers"),
    ):
        with serving(Mind()) as server, pytest.raises(PanelError, match=text):
            deliberate(server, plan, **wrong)


@pytest.mark.parametrize(("calls", "rounds"), [(17, 0), (18, 0), (24, 1), (29, 1), (30, 2), (36, 3)])
def test_the_rule_budget_keeps_the_readings_of_the_judge_back(calls, rounds, tmp_path):
    plan = stopping("critique_revise", "budget")
    with serving(Mind()) as server:
        log = Transcript({})
        run = deliberate(server, plan, budget=Budget(calls=calls), transcript=log, tape=tmp_path / "t")
        assert len(server.bodies) <= calls
        again = Transcript({}, nonces=log)
        deliberate(
            server, plan, budget=Budget(calls=calls), transcript=again, tape=tmp_path / "t", mode="replay"
        )
    assert again.head == log.head
    assert (run.rounds > 0).sum() == rounds and run.stopped_by.count("budget") == 3 - rounds
    assert (run.reasons == [None] * 3) == (
        calls >= 18
    )  # a round for those that can be paid, and a verdict for all


@pytest.mark.parametrize("budget", [Budget(rounds=1), Budget(seconds=0.0)])
def test_limits_on_rounds_and_time_are_stop_rules_too(budget):
    with serving(Mind(favourite=MINDS)) as server:
        run = deliberate(server, "delphi", models=SPLIT, budget=budget)
    expected = "silence" if budget.seconds == 0.0 else "budget"
    assert run.stopped_by == [expected] * 3 and of_action(run, "stop")[-1]["payload"][0]["rule"] == expected


def test_stop_rules_that_have_no_meaning_are_refused():
    log = Transcript({})
    with pytest.raises(PanelError, match="in 'debate' answers are assigned"), serving(Mind()) as server:
        deliberate(server, stopping("debate", "unanimity"), transcript=log)
    assert log.records == []
    with pytest.raises(PanelError, match=r"'escalation'. Escalation without talk: DeliberativeClassifier"):
        deliberate_text([], {}, protocol=regime("coordination"))
    with pytest.raises(PanelError, match="0 where nothing is shared"), serving(Mind()) as server:
        deliberate(server, "naive", rounds=2)


def test_a_consultant_without_an_opinion_of_its_own_still_argues():
    def script(body, *rest):
        sealed = body["response_format"]["json_schema"]["name"] == "proposal"
        return ("status", 404) if sealed else Mind()(body, *rest)

    with serving(script) as server:
        run = deliberate(server, "consultancy")
    assert len(of_action(run, "argue")) == 3 and run.stopped_by == ["rounds"] * 3
    assert run.abstentions == [["http_404"]] * 3 and run.proba.argmax(axis=1).tolist() == RIGHT


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"n_samples": 0}, "n_samples must be"),
        ({"word_limit": 0}, "word_limit must be"),
        ({"max_concurrency": 0}, "max_concurrency must be"),
        ({"names": ("a", "protocol", "c")}, "no agent may be called 'protocol'"),
    ],
)
def test_more_bad_input(wrong, text):
    with serving(Mind()) as server, pytest.raises(PanelError, match=text):
        deliberate(server, "reconcile", **wrong)


def panel_of_three(n, seed=0):
    """The first is right in nine of ten; the others share their errors and are wrong in six of ten."""
    rng = np.random.default_rng(seed)
    right = rng.integers(0, 4, n)
    shared = np.where(rng.random(n) < 0.4, right, (right + 1) % 4)
    one = np.where(rng.random(n) < 0.9, right, (right + 2) % 4)
    words = np.stack([one, shared, shared], axis=1)
    votes = np.eye(4)[words]
    votes[rng.random((n, 3)) < 0.1] = np.nan
    return votes, right


def test_the_stack_is_a_linear_one_and_never_reads_the_question_it_answers():
    votes, right = panel_of_three(300)
    four = np.full(300, 4)
    found = cross_stack(votes, right, four, seed=0)
    scores = np.zeros(
        (300, 4)
    )  # the naive twin: votes as they are, one logistic regression on all rows of a fold
    table = np.nan_to_num(votes).transpose(0, 2, 1)
    for train, test in KFold(5, shuffle=True, random_state=0).split(votes):
        model = LogisticRegression(C=0.3).fit(
            table[train].reshape(-1, 3), (right[train, None] == np.arange(4)).ravel()
        )
        scores[test] = model.decision_function(table[test].reshape(-1, 3)).reshape(-1, 4)
    rows = np.arange(300)
    twin, own = share_of_top(scores)[rows, right], share_of_top(found)[rows, right]
    assert own.mean() > 0.8 > 0.6 > share_of_top(np.nansum(votes, axis=1))[rows, right].mean()
    assert abs(own - twin).mean() < 0.02
    moved = right.copy()
    moved[7] = (moved[7] + 1) % 4
    assert (cross_stack(votes, moved, four, seed=0)[7] == found[7]).all()
    shuffled = np.random.default_rng(1).permutation(right)
    chance = share_of_top(cross_stack(votes, shuffled, four, seed=0))[rows, shuffled]
    assert abs(chance.mean() - 0.25) < 3 * np.sqrt(0.25 * 0.75 / 300)


def test_gains_are_paired_and_scored_against_each_rival():
    votes, right = panel_of_three(200)
    proba = np.eye(4)[np.where(np.arange(200) % 10 == 0, (right + 3) % 4, right)]
    told = text_gains(proba, votes, right, np.full(200, 4))
    assert told["accuracy"] == 0.9 and told["stacking_reason"] is None and told["best_single_agent"] == 0
    hits = (proba.argmax(axis=1) == right) * 1.0
    single = np.nan_to_num(votes[np.arange(200), 0, right])
    assert told["gain_over_best_single"] == pytest.approx((hits - single).mean())
    paired = np.sqrt(((hits - single - (hits - single).mean()) ** 2).sum() / 199 / 200)
    assert told["gain_over_best_single_standard_error"] == pytest.approx(paired, abs=1e-12)
    for rival in ("stacking", "plurality", "best_single"):
        assert told[f"gain_over_{rival}"] == pytest.approx(told["accuracy"] - told[rival])
    assert told["stacking"] > told["plurality"] + 0.2
    few = text_gains(proba[:19], votes[:19], right[:19], np.full(19, 4))
    assert few["stacking"] is few["gain_over_stacking"] is few["gain_over_stacking_standard_error"] is None
    assert few["stacking_reason"] == "a stack of 3 needs 20 questions with a truth; there are 19"
    assert few["gain_over_plurality"] is not None
    one = text_gains(proba[:1], votes[:1], right[:1], np.array([4]))
    assert one["gain_over_plurality_standard_error"] is None


def test_nobody_is_right_about_questions_that_nobody_answered():
    votes, right = panel_of_three(40)
    votes[::4] = np.nan
    told = text_gains(plurality(votes), votes, right, np.full(40, 4))
    assert told["gain_over_plurality"] == 0.0 and told["stacking"] <= 0.75
    silent = text_gains(np.full((40, 4), np.nan), np.full_like(votes, np.nan), right, np.full(40, 4))
    assert silent["stacking"] == silent["accuracy"] == 0.0


def test_a_run_with_a_truth_reports_its_gain_over_stacking():
    items = [TextItem(f"{k}: was grain imported?", ("no", "war", "drought"), SOURCE) for k in range(24)]
    favourite = {"good": {"drought"}, "wrong": {"war"}}

    def one(model):
        return ChatClient(server.url, model, retries=0)

    with serving(Mind(favourite=favourite)) as server:
        agents = {"a": one("wrong"), "b": one("wrong"), "c": one("good")}
        run = deliberate_text(items, agents, protocol="delphi", rounds=1, truth=[2] * 24)
    gains = run.gains()
    assert gains["accuracy"] == gains["plurality"] == 0.0 and gains["stacking"] == gains["best_single"] == 1.0
    assert gains["gain_over_stacking"] == -1.0 and gains["best_single_agent"] == "c"
    assert run.gains([1] * 24)["gain_over_stacking"] == 0.0
    for wrong, text in (
        ([0.5] * 24, "24 option numbers"),
        ([3] * 24, "truth of item 0 is 3; its options are 0 to 2"),
    ):
        with pytest.raises(PanelError, match=text):
            run.gains(wrong)
    with pytest.raises(PanelError, match="gains needs truth"):
        replace(run, truth=None).gains()


KILLED = """
import sys
from estimators.chat import Cassette, ChatClient, TextItem, deliberate_text
from fusion.deliberative import Transcript
url, tape, path = sys.argv[1:]
one = ChatClient(url, "m", retries=0, cassette=Cassette(tape), name="here")
agents = {name: one for name in "abc"}
judge = ChatClient(url, "judge", retries=0, cassette=one.cassette, name="here")
items = [TextItem(f"question {k}?", ("drought", "war")) for k in range(20)]
deliberate_text(items, agents, judge=judge, transcript=Transcript({}, path), max_concurrency=4)
"""


def test_a_killed_run_leaves_a_prefix_with_the_calls_made_and_goes_on_from_its_cassette(tmp_path, root):
    def slowly(*request):
        time.sleep(0.01)
        return Mind()(*request)

    env = {**os.environ, "PYTHONPATH": str(root)}
    with serving(slowly) as server:
        command = [sys.executable, "-c", KILLED, server.url, str(tmp_path / "tape")]
        for records in (
            15,
            110,
        ):  # while proposals are sealed; while they are criticised, with what was recorded
            path, before = tmp_path / f"{records}.jsonl", len(server.bodies)
            with subprocess.Popen([*command, str(path)], env=env) as process:
                end = time.monotonic() + 60
                while (
                    not path.exists() or path.read_bytes().count(b"\n") < records
                ) and time.monotonic() < end:
                    time.sleep(0.002)
                process.send_signal(signal.SIGKILL)
            found = verify_transcript(path)
            assert records - 1 <= found.n_verified and (found or "cut off" in found.reason)
            lines = [json.loads(line) for line in path.read_bytes().splitlines()[1 : found.n_verified + 1]]
            calls = [line for line in lines if line["action"] == "call"]
            live = sum(line["source"] == "live" for line in calls)
            asked = len(server.bodies) - before
            assert asked - 20 <= live <= asked  # those under way, and those that wait for one before them
            assert all(line["action"] != "decide" for line in lines)
            seqs = {
                name: [line["seq"] for line in lines if line["action"] == name]
                for name in ("commit", "reveal")
            }
            shared = [line["seq"] for line in lines if line["round"] > 0]
            assert (len(seqs["reveal"]) == 3) == bool(shared) == (records == 110)
            if shared:
                assert max(seqs["commit"]) < min(seqs["reveal"]) < max(seqs["reveal"]) < min(shared)
        subprocess.run([*command, str(tmp_path / "whole.jsonl")], env=env, check=True, timeout=60)
        made = len(server.bodies)
    assert verify_transcript(tmp_path / "whole.jsonl")
    whole = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_bytes().splitlines()[1:]]
    sources = [line["source"] for line in whole if line["action"] == "call"]
    assert whole[-1]["action"] == "decide" and sources.count("cache") > 80
    assert len(sources) <= made <= len(sources) + 8  # what was answered is not asked again
