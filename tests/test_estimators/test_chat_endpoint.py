"""What an endpoint can do wrong, over real HTTP: each ends in its answer or its reason, and in the ledger."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from chat_server import GOOD, completion, serving

from estimators.chat import Cassette, ChatClient, Price
from estimators.chat.asking import ask_in_form
from estimators.chat.connections import wait_for
from estimators.chat.schemas import letters, proposal_form
from estimators.chat.wire import retry_after
from fusion.deliberative import Budget, Ledger
from theory import PanelError

FORM = proposal_form(letters(3))
TALK = [{"role": "user", "content": "Which?"}]


async def no_sleep(_):
    pass


def client(server, **parameters):
    return ChatClient(
        server.url, "m", **{"timeout": 0.3, "sleep": no_sleep, "jitter": lambda: 0.5, **parameters}
    )


def ask(*arguments, **named):
    return wait_for(ask_in_form(*arguments, **named))


def said(value) -> str:
    return json.dumps(value)


good = said(GOOD)
ANSWERED = {
    "good": lambda *_: completion(good),
    "fenced": lambda *_: completion(f"Here:\n```json\n{good}\n```"),
    "think": lambda *_: completion(f'<think>{{"answer": "B"}} maybe</think>{good}'),
    "later object": lambda *_: completion(good + ' {"answer": "B"}'),
    "repaired": lambda body, _, n: completion("no idea" if n == 0 else good),
    "429 then good": lambda body, _, n: (
        ("status", (429, {"Retry-After": "2"})) if n == 0 else completion(good)
    ),
    "500 twice": lambda body, _, n: ("status", 500) if n < 2 else completion(good),
    "disconnect once": lambda body, _, n: ("hang_up", None) if n == 0 else completion(good),
    "complete at the limit": lambda *_: completion(good, finish="length"),
    "no usage": lambda *_: completion(good, usage=None),
}
ABSTAINED = {
    "unparsable": (lambda *_: completion("no idea"), 2),
    "unparsable: twice the key": (lambda *_: completion('{"answer": "A", "answer": "B"}'), 2),
    "unparsable: NaN": (lambda *_: completion('{"answer": "A", "confidence": NaN, "reasons": []}'), 2),
    "unparsable: null content": (lambda *_: completion(None), 2),
    "schema": (lambda *_: completion(said({**GOOD, "answer": "Z"})), 2),
    "schema: extra field": (lambda *_: completion(said({**GOOD, "probs": [1, 0, 0]})), 2),
    "schema: confidence": (lambda *_: completion(said({**GOOD, "confidence": 70})), 2),
    "truncated": (lambda *_: completion(good[:20], finish="length"), 2),
    "refused": (lambda *_: completion(None, refusal="I will not"), 1),
    "filtered": (lambda *_: completion("", finish="content_filter"), 1),
    "timeout": (lambda *_: ("slow", 5), 4),
    "timeout: drip": (lambda *_: ("drip", 5), 4),
    "connection": (lambda *_: ("hang_up", None), 4),
    "malformed: page": (lambda *_: ("page", "<html>"), 1),
    "malformed: no JSON": (lambda *_: ("raw", b'{"choices": '), 1),
    "malformed: no choices": (lambda *_: {"choices": []}, 1),
    "malformed: 2 MB": (lambda *_: completion("x" * 2_000_000), 1),
    "http_400": (lambda *_: ("status", 400), 1),
    "http_401": (lambda *_: ("status", 401), 1),
    "http_404": (lambda *_: ("status", 404), 1),
    "http_429": (lambda *_: ("status", 429), 4),
    "http_500": (lambda *_: ("status", 500), 4),
    "http_302": (lambda *_: ("status", (302, {"Location": "http://127.0.0.1:9/"})), 1),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_that_can_be_read_are_read(name):
    with serving(ANSWERED[name]) as server:
        ledger = Ledger()
        asked = ask(client(server), TALK, FORM, ledger=ledger)
        assert asked.value == GOOD
        assert asked.reason is None
        assert len(ledger.lines) == len(server.bodies) == ledger.totals().calls
        assert ledger.lines[-1]["reason"] == "ok"


@pytest.mark.parametrize("name", ABSTAINED)
def test_each_fault_ends_in_its_reason(name):
    script, attempts = ABSTAINED[name]
    with serving(script) as server:
        ledger = Ledger()
        timeout = 0.1 if name.startswith("timeout") else 1.0
        asked = ask(client(server, timeout=timeout), TALK, FORM, ledger=ledger)
    reason = name.split(":")[0]
    assert (asked.value, asked.reason) == (None, reason)
    assert len(ledger.lines) == attempts
    # a busy machine may give up an attempt before the server has read it
    assert len(server.bodies) == attempts or (reason == "timeout" and 0 < len(server.bodies) <= attempts)
    told = ledger.lines[-1]["reason"]
    assert told == ("ok" if reason in ("unparsable", "schema", "truncated") else reason)


def test_a_closed_port_is_a_connection_error_that_costs_no_tokens():
    with serving(lambda *_: completion(good)) as server:
        pass
    ledger = Ledger(Budget(tokens=2000))
    asked = ask(client(server), TALK, FORM, ledger=ledger)
    assert asked.reason == "connection"
    assert ledger.totals().charged_tokens == 0 and ledger.totals().calls == 4


def test_the_repair_quotes_the_error():
    with serving(lambda body, _, n: completion(said({**GOOD, "answer": "Z"}))) as server:
        ask(client(server), TALK, FORM)
    assert len(server.bodies) == 2
    told = server.bodies[1]["messages"][-1]["content"]
    assert "answer: Input should be 'A', 'B' or 'C'" in told


def test_missing_usage_is_null_and_stays_charged():
    with serving(lambda *_: completion(good, usage=None)) as server:
        ledger = Ledger(Budget(tokens=100_000, money=1.0))
        ask(client(server, price=Price(1.0, 2.0)), TALK, FORM, ledger=ledger)
    totals = ledger.totals()
    assert totals.tokens_in is None and totals.money is None and totals.known_tokens_in == 0
    assert totals.charged_tokens > 512 and totals.charged_money > 0 and totals.estimated_calls == 1
    assert ledger.lines[0]["tokens_in"] is None


def test_reported_usage_replaces_the_reservation():
    with serving(ANSWERED["good"]) as server:
        ledger = Ledger(Budget(tokens=100_000, money=1.0))
        asked = ask(client(server, price=Price(1.0, 2.0)), TALK, FORM, ledger=ledger)
    totals = ledger.totals()
    assert (totals.charged_tokens, totals.tokens_in, totals.tokens_out) == (15, 10, 5)
    assert totals.money == pytest.approx(20e-6) and totals.charged_money == pytest.approx(20e-6)
    assert asked.cost()["tokens_in"] == 10 and asked.cost()["calls"] == 1


@pytest.mark.parametrize(
    ("limit", "calls"), [({"calls": 2}, 2), ({"tokens": 600}, 0), ({"money": 1e-6}, 0), ({"seconds": 0.0}, 0)]
)
def test_no_reservation_no_call(limit, calls):
    with serving(lambda *_: ("status", 500)) as server:
        ledger = Ledger(Budget(**limit))
        asked = ask(client(server, price=Price(1.0, 2.0)), TALK, FORM, ledger=ledger)
    assert asked.reason == "budget" and ledger.stopped_by == next(iter(limit))
    assert len(server.bodies) == calls


def test_time_left_of_the_budget_bounds_an_attempt_and_its_pauses():
    with serving(lambda *_: ("slow", 5)) as server:
        ledger = Ledger(Budget(seconds=0.2))
        asked = ask(client(server, timeout=30), TALK, FORM, ledger=ledger)
    assert asked.reason in ("timeout", "budget") and ledger.totals().seconds < 1.5


def test_pauses_are_jittered_doubled_capped_and_obey_retry_after():
    waits = []

    async def note(seconds):
        waits.append(seconds)

    with serving(lambda *_: ("status", 503)) as server:
        client(server, sleep=note, jitter=lambda: 1.0).complete(TALK)
    assert waits == [0.5, 1.0, 2.0]
    for header, expected in (("7", 7.0), ("3600", 30.0)):
        waits.clear()
        with serving(lambda *_, header=header: ("status", (429, {"Retry-After": header}))) as server:
            client(server, sleep=note, retries=1).complete(TALK)
        assert waits == [expected]
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_proxies_of_the_environment_are_ignored(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(ANSWERED["good"]) as server:
        assert ask(client(server), TALK, FORM).value == GOOD


def test_what_is_sent():
    with serving(ANSWERED["good"]) as server:
        ask(client(server, seed=7, token_field="max_completion_tokens"), TALK, FORM)
        ask(client(server, structured="json_object"), TALK, FORM)
        ask(client(server, structured="prompt"), TALK, FORM)
    first, second, third = server.bodies
    assert first["seed"] == 7 and first["max_completion_tokens"] == 512 and "max_tokens" not in first
    sent = first["response_format"]["json_schema"]
    assert sent["strict"] is True and sent["schema"]["additionalProperties"] is False
    assert second["response_format"] == {"type": "json_object"} and "seed" not in second
    assert "response_format" not in third and "JSON schema" in third["messages"][-1]["content"]


def test_keys_are_sent_and_stay_nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_API_KEY", "sk-secret-1")
    tape = tmp_path / "tape.jsonl"
    with serving(ANSWERED["good"]) as server:
        one = client(server, api_key="SOME_API_KEY", cassette=Cassette(tape))
        asked = ask(one, TALK, FORM)
        assert server.headers[0]["Authorization"] == "Bearer sk-secret-1"
        copied = pickle.loads(pickle.dumps(one))
        assert ask(copied, TALK, FORM).value == GOOD and copied.cassette.mode == "record"
        assert len(server.bodies) == 1  # the copy read the recording
    for text in (tape.read_text(), repr(one), repr(asked), repr(vars(one)), repr(pickle.dumps(one))):
        assert "sk-secret-1" not in text
    monkeypatch.delenv("SOME_API_KEY")
    with pytest.raises(PanelError, match="names an environment variable that is not set") as caught:
        client(server, api_key="SOME_API_KEY").complete(TALK, ledger=(ledger := Ledger()))
    assert "SOME_API_KEY" not in str(caught.value)
    assert (ledger.totals().charged_tokens, ledger.totals().estimated_calls) == (0, 0)  # nothing was sent


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:1/v1/chat/completions", "Cut that off"),
        ("http://me:pw@127.0.0.1:1/v1", "user name, password"),
        ("ftp://host/v1", "http or https"),
        ("host/v1", "http or https"),
        ("http://127.0.0.1:99999/v1", "Port out of range"),
        ("http://[::1/v1", "is no address"),
        ("http://127.0.0.1:1/v1#pw", "or fragment"),
    ],
)
def test_addresses_that_cannot_be_right(url, text):
    with pytest.raises(PanelError, match=text) as caught:
        ChatClient(url, "m")
    assert "pw" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "wrong", [{"retries": 4}, {"structured": "xml"}, {"token_field": "n"}, {"timeout": 0}, {"max_tokens": 0}]
)
def test_bad_parameters(wrong):
    with pytest.raises(PanelError, match=next(iter(wrong))):
        ChatClient("http://127.0.0.1:1/v1", "m", **wrong)


def test_recordings_are_apart_from_the_seed_and_replay_without_a_socket(tmp_path):
    tape = tmp_path / "tape.jsonl"
    with serving(lambda body, _, n: completion(good) if n else ("status", 404)) as server:
        first = client(server, cassette=Cassette(tape), name="here", seed=1)
        assert first.complete(TALK).reason == "http_404"
        assert first.complete(TALK).source == "cache"  # the same question in one run has one outcome
        again = client(server, cassette=Cassette(tape), name="here", seed=1)
        assert again.complete(TALK).text == good  # a failure is asked again by the next run
        assert again.complete(TALK, sample_id="2").source == "live"
        off = client(server, cassette=Cassette(tape, "off"), name="here", seed=1)
        assert off.complete(TALK).source == "live"
        reading = client(server, cassette=Cassette(tape, "read"), name="here", seed=1)
        assert reading.complete(TALK).source == "cache"
        size = tape.stat().st_size
        assert reading.complete(TALK, sample_id="3").source == "live" and tape.stat().st_size == size
        asked = len(server.bodies)
    ledger = Ledger(Budget(calls=0))
    replay = client(server, cassette=Cassette(tape, "replay"), name="here", seed=1)
    assert replay.complete(TALK, ledger=ledger).text == good
    assert len(server.bodies) == asked
    totals = ledger.totals()
    assert (totals.calls, totals.replays, totals.money) == (0, 1, 0.0)
    changed = copy.copy(replay)
    changed.seed = 2
    with pytest.raises(PanelError, match=r"nearest recording differs in seed \('1' recorded, '2' asked\)"):
        changed.complete(TALK)
    with pytest.raises(PanelError, match="only the endpoint name, the schema or sample_id differ"):
        replay.complete(TALK, sample_id="9")


def test_a_cassette_that_cannot_be_read(tmp_path):
    with pytest.raises(PanelError, match="is not there"):
        Cassette(tmp_path / "none", "replay")
    with pytest.raises(PanelError, match="cache must be one of"):
        Cassette(tmp_path / "none", "on")
    wrong = tmp_path / "wrong"
    wrong.write_text('{"cassette": 99}\n')
    with pytest.raises(PanelError, match="is no cassette of version 1"):
        Cassette(wrong)
    tape = tmp_path / "cut"
    with serving(ANSWERED["good"]) as server:
        client(server, cassette=Cassette(tape)).complete(TALK)
        tape.write_text(tape.read_text() + tape.read_text()[:60])
        assert client(server, cassette=Cassette(tape)).complete(TALK).source == "cache"
        assert tape.read_bytes().endswith(b"}\n")
    for other in (b"a note without a line end", b"\xff\xfe\n"):
        wrong.write_bytes(other)
        with pytest.raises(PanelError, match="is no cassette of version 1"):
            Cassette(wrong)
        assert wrong.read_bytes() == other  # what is no recording is not cut off
