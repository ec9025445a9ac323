"""Many questions on one event loop: bounds, ledgers, recordings, cancellation, and the bridge from plain calls."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import threading
import time

import numpy as np
import pytest
from chat_server import GOOD, completion, hostile, serving

from estimators import PanelExecutor
from estimators.background import private_loop, start_coroutine
from estimators.calling import call_many
from estimators.chat import Cassette, ChatClient, ChatSpecialist, Price
from estimators.chat.asking import ask_in_form
from estimators.chat.schemas import letters, proposal_form
from fusion.deliberative import Budget, Ledger
from theory import PanelError

FORM = proposal_form(letters(3))
good = json.dumps(GOOD)


def talk(text):
    return [{"role": "system", "content": "Answer."}, {"role": "user", "content": text}]


def client(server, **parameters):
    return ChatClient(server.url, "m", **{"timeout": 2.0, "retries": 0, "name": "here", **parameters})


def answered(*_):
    return completion(good)


async def many(server, questions, ledger, **parameters):
    async with client(server, **parameters) as one:
        asked = [ask_in_form(one, talk(text), FORM, ledger=ledger) for text in questions]
        return await asyncio.gather(*asked)


def test_a_thousand_questions_on_one_loop_to_a_hostile_endpoint(tmp_path):
    questions = [f"question {k}" for k in range(1000)]
    with serving(hostile) as server:
        ledger = Ledger(Budget(calls=1100, tokens=10**8))
        tape = Cassette(tmp_path / "tape")
        first = asyncio.run(many(server, questions, ledger, cassette=tape, timeout=1.5))
        n_bodies = len(server.bodies)
        totals = ledger.totals()
        # A request that timed out on a busy machine may not have reached the server, and is counted all the same.
        assert n_bodies <= totals.calls == len(ledger.lines) == 1100 and totals.stopped_by == "calls"
        again = Ledger(Budget(calls=0))
        replay = Cassette(tmp_path / "tape", "replay")
        second = asyncio.run(many(server, questions, again, cassette=replay))
        assert len(server.bodies) == n_bodies and again.totals().calls == 0
    assert {asked.reason for asked in first} == {
        None, "timeout", "unparsable", "schema", "http_404", "http_429", "http_500", "budget",
    }  # fmt: skip
    assert all((asked.value is None) == (asked.reason is not None) for asked in first)
    assert [(one.value, one.reason, one.detail) for one in first] == [
        (one.value, one.reason, one.detail) for one in second
    ]
    costs = [one.cost() | {"seconds": 0.0} for one in first]
    assert costs == [one.cost() | {"seconds": 0.0} for one in second]


@pytest.mark.parametrize("bound", [1, 5])
def test_no_more_requests_at_a_time_than_allowed(bound):
    lock, running, most = threading.Lock(), [0], [0]

    def script(*_):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.03)
        with lock:
            running[0] -= 1
        return completion(good)

    with serving(script) as server:
        asyncio.run(many(server, map(str, range(20)), Ledger(), max_concurrency=bound))
    assert min(bound, 2) <= most[0] <= bound


def test_a_budget_is_never_passed_by_64_coroutines():
    with serving(lambda body, _, n: completion(good, usage=None) if n % 3 else completion(good)) as server:
        ledger = Ledger(Budget(tokens=60_000, money=0.1))
        most = []

        async def watch():
            while True:
                most.append((ledger.totals().charged_tokens, ledger.totals().charged_money))
                await asyncio.sleep(0)

        async def main():
            watching = asyncio.ensure_future(watch())
            found = await many(server, map(str, range(300)), ledger, price=Price(1.0, 1.0))
            watching.cancel()
            return found

        reasons = {asked.reason for asked in asyncio.run(main())}
    totals = ledger.totals()
    assert max(tokens for tokens, _ in most) <= 60_000 and max(money for _, money in most) <= 0.1
    assert (
        totals.calls == len(server.bodies) and totals.stopped_by == "tokens" and reasons == {None, "budget"}
    )


@pytest.mark.parametrize("awaited_first", [True, False])
def test_recordings_of_one_kind_of_call_replay_in_the_other(awaited_first, tmp_path):
    questions = [f"question {k}" for k in range(20)]

    def plainly(one, ledger):
        return [one.complete(talk(text), ledger=ledger) for text in questions]

    async def awaiting(one, ledger):
        async with one:
            return await asyncio.gather(
                *[one.complete_async(talk(text), ledger=ledger) for text in questions]
            )

    kinds = [lambda one, ledger: asyncio.run(awaiting(one, ledger)), plainly]
    record, replay = kinds if awaited_first else kinds[::-1]
    with serving(hostile) as server:
        first = record(client(server, cassette=Cassette(tmp_path / "t")), Ledger())
        n_bodies = len(server.bodies)
        ledger = Ledger(Budget(calls=0))
        second = replay(client(server, cassette=Cassette(tmp_path / "t", "replay")), ledger)
        assert len(server.bodies) == n_bodies
    assert [one.recorded() for one in first] == [one.recorded() for one in second]
    assert {one.source for one in second} == {"replay"} and ledger.totals().replays == 20


def test_a_cancelled_attempt_stays_charged_and_is_not_recorded(tmp_path):
    with serving(lambda *_: ("slow", 20)) as server:
        ledger = Ledger(Budget(tokens=10_000))
        one = client(server, cassette=Cassette(tmp_path / "t"), timeout=30.0)

        async def main():
            async with one:
                task = asyncio.ensure_future(one.complete_async(talk("q"), ledger=ledger))
                while not server.bodies:
                    await asyncio.sleep(0.005)
                charged = ledger.totals().charged_tokens
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return charged

        charged = asyncio.run(main())
    totals = ledger.totals()
    assert totals.charged_tokens == charged > 512
    assert (totals.calls, totals.estimated_calls, totals.tokens_in) == (1, 1, None)
    assert [line["reason"] for line in ledger.lines] == ["cancelled"]
    assert not (tmp_path / "t").exists()


def test_who_gives_up_waiting_ends_no_turn_of_others(tmp_path):
    release = threading.Event()

    def script(*_):
        release.wait(5)
        return completion(good)

    with serving(script) as server:
        one = client(server, cassette=Cassette(tmp_path / "t"), timeout=10.0)

        async def main():
            async with one:
                same = [asyncio.ensure_future(one.complete_async(talk("q"))) for _ in range(4)]
                while not server.bodies:
                    await asyncio.sleep(0.005)
                same[2].cancel()  # waits for its turn
                await asyncio.sleep(0.02)
                release.set()
                return await asyncio.gather(*same, return_exceptions=True)

        replies = asyncio.run(main())
    assert isinstance(replies.pop(2), asyncio.CancelledError)
    assert [reply.source for reply in replies] == ["live", "cache", "cache"] and len(server.bodies) == 1


def test_a_cancelled_turn_passes_to_the_next_also_on_another_loop(tmp_path):
    with serving(lambda body, _, n: ("slow", 20) if n == 0 else completion(good)) as server:
        tape = Cassette(tmp_path / "t")
        one = client(server, cassette=tape, timeout=30.0)
        found = []

        async def main():
            async with one:
                first = asyncio.ensure_future(one.complete_async(talk("q")))
                while not server.bodies:
                    await asyncio.sleep(0.005)
                other = threading.Thread(target=lambda: found.append(one.complete(talk("q"))))
                other.start()
                await asyncio.sleep(0.05)
                first.cancel()
                await asyncio.to_thread(other.join)

        asyncio.run(main())
        one.close()
    assert [reply.text for reply in found] == [good] and tape._asking == {}


def test_an_ended_budget_of_time_cancels_nothing_that_is_not_there():
    with serving(lambda *_: ("slow", 20)) as server:
        ledger = Ledger(Budget(seconds=0.3))
        begun = time.monotonic()
        found = asyncio.run(many(server, map(str, range(40)), ledger, timeout=30.0, max_concurrency=8))
        assert time.monotonic() - begun < 10.0
    assert {asked.reason for asked in found} == {"timeout", "budget"} and ledger.stopped_by == "seconds"
    assert ledger.totals().calls == len(ledger.lines) == 8


def test_plain_calls_work_inside_a_running_loop():
    with serving(answered) as server:
        chat = ChatSpecialist(server.url, "m", classes=["a", "b", "c"], retries=0).fit(["q"], ["a"])

        async def notebook():
            one = client(server)
            assert one.complete(talk("q")).text == good
            assert chat.predict(["x", "y"]).tolist() == ["a", "a"]
            assert [answer.label for answer in await chat.answers_async(["x", "y"])] == ["a", "a"]
            await chat.model_.asker.client.close_async()
            return [answer.label for answer in chat.answers(["z"])]

        assert asyncio.run(notebook()) == ["a"]
        # A private loop that waited for itself would never end.
        own = client(server)

        async def waits_for_itself():
            return own.complete(talk("q"))

        with pytest.raises(PanelError, match="ends in _async"):
            start_coroutine(waits_for_itself(), private_loop()).result(timeout=10)


def test_coroutines_of_specialists_are_members_of_an_executor():
    with serving(answered) as server:
        chat = ChatSpecialist(server.url, "m", classes=["a", "b", "c"], retries=0).fit(["q"], ["a"])

        async def asked(x):
            return (await chat.answers_async([x]))[0].label

        with PanelExecutor(
            {"awaited": asked, "plain": lambda x: "b"}, classes=["a", "b", "c"], deadline=5.0
        ) as team:
            answer = team.ask("question")
    assert np.asarray(answer.panel).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


def test_an_error_of_one_question_ends_the_others(tmp_path):
    with serving(answered) as server:
        chat = ChatSpecialist(
            server.url, "m", classes=["a", "b", "c"], cache="record", cassette=tmp_path / "t", retries=0
        )
        chat.fit(["q"], ["a"]).answers(["q 1"])
        chat.set_params(cache="replay").fit(["q"], ["a"])
        with pytest.raises(PanelError, match="nearest recording differs in messages"):
            chat.answers(["q 1", "q 2"])
        assert [answer.source for answer in chat.answers(["q 1"])] == ["replay"]


def test_connections_are_closed_and_none_is_shared_between_loops():
    with serving(answered) as server:
        one = client(server)

        async def main(one):
            async with one:
                await asyncio.gather(*[one.complete_async(talk(str(k))) for k in range(8)])

        for _ in range(
            3
        ):  # each run has a loop of its own; a socket left open is a ResourceWarning, an error here
            asyncio.run(main(one))
        one.complete(talk("plain"))
        http = [http for line in one._connections._lines.values() for http in line.opened]
        del one
        gc.collect()
        end = time.monotonic() + 5.0
        while not http[0].is_closed and time.monotonic() < end:
            time.sleep(0.01)
        assert len(http) == 1 and http[0].is_closed
        other = client(server)
        other.complete(talk("plain"))
        http = next(iter(other._connections._lines.values())).opened[:]
        other.close()
        assert len(http) == 1 and http[0].is_closed and other.complete(talk("again")).text == good


def test_an_interrupt_cancels_what_is_under_way():
    cancelled = threading.Event()

    async def hang(_):
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(KeyboardInterrupt):
            call_many(hang, [0, 1], max_concurrency=2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert cancelled.wait(5.0)


def test_32_threads_share_a_client_and_a_budget():
    with serving(answered) as server:
        one, ledger, replies = client(server), Ledger(Budget(calls=100)), []

        def work():
            replies.extend(one.complete(talk("q"), ledger=ledger).reason for _ in range(5))

        threads = [threading.Thread(target=work) for _ in range(32)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert len(server.bodies) == 100 == replies.count(None) and replies.count("budget") == 60


@pytest.mark.parametrize("key", ["sk-1\n", "sk-ü", "sk 1\t", " sk-12345678 "])
def test_a_key_that_no_header_takes_is_refused_without_being_quoted(key):
    with serving(answered) as server:
        with pytest.raises(PanelError, match="no header takes") as caught:
            client(server, api_key=lambda: key).complete(talk("q"))
        assert key.strip() not in str(caught.value) and server.bodies == []


def test_a_function_that_gives_no_key_in_time_is_a_time_out():
    with serving(answered) as server:
        ledger = Ledger()
        one = client(server, api_key=lambda: time.sleep(0.5), timeout=0.05)
        assert one.complete(talk("q"), ledger=ledger).reason == "timeout" == ledger.lines[0]["reason"]
        assert server.bodies == []


def test_a_key_itself_is_no_name_and_an_echo_of_it_is_masked(tmp_path):
    with pytest.raises(PanelError, match="no name of an environment variable") as caught:
        ChatClient("http://127.0.0.1:1/v1", "m", api_key="sk-secret-1")
    assert "sk-secret" not in str(caught.value)

    def echo(_, headers, __):
        return completion(f"You sent {headers['Authorization']}")

    with serving(echo) as server:
        one = client(server, api_key=lambda: "sk-secret-1", cassette=Cassette(tmp_path / "t"))
        assert one.complete(talk("q")).text == "You sent Bearer [API key]"
    assert "sk-secret" not in (tmp_path / "t").read_text()


def test_what_cannot_be_sent_or_is_not_to_be():
    with serving(answered) as server:
        with pytest.raises(PanelError, match="lone surrogates"):
            client(server).complete(talk("\ud800"))
        client(server, temperature=None).complete(talk("q"))
        assert "temperature" not in server.bodies[0]
        assert server.headers[0]["Accept-Encoding"] == "identity"
    with pytest.raises(PanelError, match="temperature must be"):
        client(server, temperature=float("nan"))


def test_compressed_replies_are_not_unpacked():
    import gzip

    packed = gzip.compress(json.dumps(completion(good)).encode())
    with serving(lambda *_: ("packed", packed)) as server:
        assert client(server).complete(talk("q")).reason == "malformed"
