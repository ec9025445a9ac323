"""Budgets and transcripts: limits that hold under threads, chains that show every change, a reader."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.deliberative import (
    Budget,
    Ledger,
    Transcript,
    read_transcript,
    render_html,
    render_text,
    verify_transcript,
)
from theory import BudgetError, NotVerifiedError, PanelError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("aäb1", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def small(path=None, **parameters) -> Transcript:
    """Two sealed proposals, revealed, and a critique with an array."""
    log = Transcript({"agents": ["a", "b"], "seed": 0}, path, **parameters)
    seals = [
        log.commit(round=0, agent=name, payload=[{"option": k}], arrays={"proposal": np.eye(2)[[k]]})
        for k, name in enumerate("ab")
    ]
    shown = [
        log.reveal(seq, cost={"calls": 1, "tokens_in": None, "seconds": 0.25}, model="m") for seq in seals
    ]
    log.record(
        round=1, agent="a", role="critic", action="critique", payload=[{"item": 0, "p": 0.5}], cites=shown
    )
    return log


def test_a_transcript_holds_and_is_read_back(tmp_path):
    with small(tmp_path / "t.jsonl") as log:
        log.save_arrays(tmp_path / "t.npz")
    found = verify_transcript(tmp_path / "t.jsonl", head=log.head, arrays=tmp_path / "t.npz")
    assert found and found.n_verified == 5 and found.head == log.head and found.reason == ""
    assert verify_transcript(log, head=log.head, arrays=log.arrays)
    back = read_transcript(tmp_path / "t.jsonl", head=log.head, arrays=tmp_path / "t.npz")
    assert back.records == log.records and back.head == log.head
    assert all((back.arrays[name] == array).all() for name, array in log.arrays.items())
    assert [record["t_logical"] for record in log.records] == [0, 0, 1, 1, 2]
    copied = pickle.loads(pickle.dumps(log))
    assert copied.records == log.records and verify_transcript(copied, head=log.head)


def test_every_flipped_byte_of_the_file_is_found(tmp_path):
    path, flipped = tmp_path / "t.jsonl", tmp_path / "f.jsonl"
    with small(path) as log:
        pass
    content = path.read_bytes()
    lines = content.count(b"\n", 0, 0)
    rng = np.random.default_rng(0)
    for place in range(len(content)):
        lines = content.count(b"\n", 0, place)
        for bit in (1, 1 << int(rng.integers(1, 8))):
            flipped.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            found = verify_transcript(flipped, head=log.head)
            assert not found and found.break_at <= lines - 1, (place, found)
            assert found.n_verified == max(found.break_at, 0)


def test_every_flipped_byte_of_the_arrays_is_found(tmp_path):
    log = small(tmp_path / "t.jsonl")
    log.close()
    for digest, array in log.arrays.items():
        for place in range(array.nbytes):
            raw = bytearray(array.tobytes())
            raw[place] ^= 1
            changed = np.frombuffer(bytes(raw)).reshape(array.shape)
            assert not verify_transcript(log, arrays={**log.arrays, digest: changed})
        assert not verify_transcript(log, arrays={**log.arrays, digest: array.astype(np.float32)})
        assert not verify_transcript(log, arrays={**log.arrays, digest: array.T.copy()})
    found = verify_transcript(log, arrays={})
    assert found.break_at == 2 and "not among the arrays" in found.reason


def cut_line(lines):
    return lines[:-1]


def swap(lines):
    return [*lines[:4], lines[5], lines[4]]


def drop(lines):
    return [*lines[:3], *lines[4:]]


def double(lines):
    return [*lines, lines[-1]]


@pytest.mark.parametrize("change", [cut_line, swap, drop, double])
def test_lines_cut_swapped_dropped_or_doubled(tmp_path, change):
    path = tmp_path / "t.jsonl"
    with small(path) as log:
        pass
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    found = verify_transcript(path, head=log.head)
    assert not found
    if change is cut_line:  # only a head kept elsewhere shows a tail that was cut off
        assert "kept elsewhere" in found.reason and verify_transcript(path)
    with pytest.raises(NotVerifiedError, match=f"breaks at record {found.break_at}"):
        read_transcript(path, head=log.head)


def test_a_key_seals_against_an_owner_who_rewrites_all(tmp_path):
    key = b"held elsewhere"
    log = small(key=key)
    assert verify_transcript(log, key=key)
    assert not verify_transcript(log) and not verify_transcript(log, key=b"another")
    assert "held elsewhere" not in json.dumps(log.records)
    rewritten = small()
    assert verify_transcript(rewritten) and not verify_transcript(rewritten, key=key)
    assert b"held elsewhere" not in pickle.dumps(log)


def test_time_and_source_change_no_hash_but_are_sealed():
    one, two = Transcript({}), Transcript({})
    same = {"round": 0, "agent": "a", "role": "r", "action": "x"}
    one.record(**same, cost={"seconds": 0.5, "calls": 1})
    two.record(**same, cost={"seconds": 9.0, "calls": 1}, source="replay")
    assert one.head == two.head and one.records[0]["seal"] != two.records[0]["seal"]
    one.records[0]["source"] = "cache"
    assert "seal" in verify_transcript(one).reason


def test_a_replay_with_the_nonces_has_the_same_hashes():
    log = small()
    assert small(nonces=log).head == log.head != small().head


def test_sealed_proposals():
    log = Transcript({"agents": ["a", "b"]})
    first = log.commit(round=0, agent="a", payload="B")
    assert list(log.records[0]["payload"]) == ["commit"] and log.records[0]["arrays"] == []
    with pytest.raises(PanelError, match=r"round 0 is shared before \['b'\] committed"):
        log.reveal(first)
    with pytest.raises(PanelError, match="'a' has committed in round 0 already"):
        log.commit(round=0, agent="a", payload="C")
    second = log.commit(round=0, agent="b", payload="C")
    log.reveal(first)
    with pytest.raises(PanelError, match="can no longer commit"):
        log.commit(round=0, agent="c", payload="D")
    with pytest.raises(PanelError, match="no sealed proposal"):
        log.reveal(first)
    log.reveal(second)
    assert verify_transcript(log)
    # The same letters have other commitments in another run: they cannot be looked up.
    other = Transcript({"agents": ["a", "b"]})
    other.commit(round=0, agent="a", payload="B")
    assert other.records[0]["payload"] != log.records[0]["payload"]


@pytest.mark.parametrize(
    ("records", "text"),
    [
        (
            [("a", "commit", {"commit": "0"}, ()), ("a", "reveal", {"nonce": "00", "proposal": 1}, (0,))],
            "not the one",
        ),
        ([("a", "reveal", {"nonce": "00", "proposal": 1}, ())], "no proposal that its agent committed"),
        (
            [("a", "commit", {"commit": "0"}, ()), ("b", "reveal", {"nonce": "00", "proposal": 1}, (0,))],
            "its agent",
        ),
        ([("a", "commit", {}, ()), ("a", "reveal", {"nonce": "xx", "proposal": 1}, (0,))], "it is no record"),
    ],
)
def test_chains_that_hold_but_tell_no_true_sealed_round(records, text):
    log = Transcript({})
    for agent, action, payload, cites in records:
        log.record(round=0, agent=agent, role="proposer", action=action, payload=payload, cites=cites)
    assert text in verify_transcript(log).reason


@given(JSON)
def test_any_json_is_recorded_and_verifies(payload):
    log = Transcript({})
    log.record(round=0, agent="a", role="r", action="x", payload=payload)
    assert verify_transcript(log, head=log.head)
    assert json.loads(json.dumps(log.records[0])) == log.records[0]


def test_a_payload_changed_later_changes_no_record():
    payload = {"inner": [1]}
    array = np.zeros(2)
    log = Transcript({})
    log.record(round=0, agent="a", role="r", action="x", payload=payload, arrays={"z": array})
    payload["inner"].append(2)
    array[0] = 1.0
    assert verify_transcript(log, arrays=log.arrays) and log.records[0]["payload"] == {"inner": [1]}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"payload": float("nan")}, "without NaN"),
        ({"payload": {"a": np.zeros(2)}}, "Give arrays in arrays="),
        ({"payload": {1: "a"}}, "keys must be text"),
        ({"payload": "\ud800"}, "must be JSON"),
        ({"cites": [0]}, "only records before it"),
        ({"cites": [-1]}, "only records before it"),
        ({"source": "guess"}, "source must be one of"),
        ({"cost": {"seconds": float("inf")}}, "seconds must be a finite number"),
        ({"arrays": {"a": np.array([None])}}, "holds objects"),
    ],
)
def test_records_that_are_refused_leave_the_chain_as_it_was(wrong, text):
    log = Transcript({})
    with pytest.raises(PanelError, match=text):
        log.record(**{"round": 0, "agent": "a", "role": "r", "action": "x", **wrong})
    assert log.records == [] and verify_transcript(log)


def test_a_file_is_never_continued(tmp_path):
    (tmp_path / "t").write_text("")
    with pytest.raises(PanelError, match="never continued"):
        Transcript({}, tmp_path / "t")
    assert verify_transcript(tmp_path / "t").break_at == -1
    (tmp_path / "z").write_bytes(b"PK no zip")
    with pytest.raises(PanelError, match="is no npz"):
        verify_transcript(small(), arrays=tmp_path / "z")


def test_records_of_many_threads_form_one_chain(tmp_path):
    log = Transcript({}, tmp_path / "t")
    work = [
        threading.Thread(
            target=lambda k=k: [log.record(round=k, agent=str(k), role="r", action="x") for _ in range(50)]
        )
        for k in range(8)
    ]
    [thread.start() for thread in work]
    [thread.join() for thread in work]
    log.close()
    assert verify_transcript(tmp_path / "t", head=log.head).n_verified == 400


WRITER = """
import sys
from fusion.deliberative import Transcript
log = Transcript({"seed": 0}, sys.argv[1])
k = 0
while True:
    log.record(round=0, agent="a", role="r", action="x", payload={"k": k, "text": "x" * (k % 997)})
    k += 1
"""


def test_a_killed_run_leaves_a_prefix_that_verifies(tmp_path, root):
    path = tmp_path / "t.jsonl"
    env = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], env=env) as process:
        end = time.monotonic() + 30
        while (not path.exists() or path.stat().st_size < 200_000) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    content = path.read_bytes()
    found = verify_transcript(path)
    assert found.n_verified == content.count(b"\n") - 1 > 100
    assert found.ok == content.endswith(b"\n")
    path.write_bytes(content[: content.rindex(b"\n") - 5])  # as if it had died within a line
    cut = verify_transcript(path)
    assert not cut and cut.n_verified == content.count(b"\n") - 2 and "cut off" in cut.reason


def test_the_reader_shows_one_item_and_says_what_is_proved(tmp_path):
    log = Transcript({})
    payload = [{"answer": "<script>alert(1)</script>\x1b[2J"}, {"answer": "other item"}]
    log.record(
        round=0,
        agent="a",
        role="proposer",
        action="propose",
        payload=payload,
        arrays={"p": np.array([[0.25], [0.75]])},
    )
    log.record(round=1, agent="j", role="judge", action="verdict", payload=[{"item": 1, "probs": [0.5]}])
    text, page = render_text(log, 0, head=log.head), render_html(log, 0)
    assert "<script>" not in page and "&lt;script&gt;" in page and "http" not in page
    assert "\x1b" not in text and "0.25" in text and "other item" not in text and "0.75" not in text
    assert "other item" in render_text(log, 1) and "verdict" in render_text(log, 1)
    assert "does not prove that the named model answered" in text.replace("\n", " ")
    assert "kept elsewhere: 2 records" in text
    log.records[0]["payload"][0]["answer"] = "changed"
    assert "BROKEN at record 0" in render_text(log, 0) and 'class="broken"' in render_html(log, 0)
    with pytest.raises(PanelError, match="speaks of item 7"):
        render_text(log, 7)


def test_a_ledger_never_passes_a_limit_under_32_threads():
    ledger = Ledger(Budget(calls=500, tokens=10_000, money=5.0))
    most = [0.0, 0.0]

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(100):
            tokens, money = int(rng.integers(1, 100)), float(rng.random() / 50)
            ticket = ledger.reserve(tokens=tokens, money=money)
            totals = ledger.totals()
            most[0], most[1] = max(most[0], totals.charged_tokens), max(most[1], totals.charged_money)
            if ticket is not None:
                used = int(rng.integers(0, tokens + 1))
                known = rng.random() < 0.8
                ledger.reconcile(
                    ticket,
                    tokens_in=used if known else None,
                    tokens_out=0 if known else None,
                    money=money * used / tokens if known else None,
                )

    threads = [threading.Thread(target=work, args=(k,)) for k in range(32)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    totals = ledger.totals()
    assert most[0] <= 10_000 and most[1] <= 5.0 + 1e-9 and totals.calls <= 500
    assert totals.calls == len(ledger.lines) and totals.stopped_by is not None
    assert totals.tokens_in is None and totals.estimated_calls > 0
    assert totals.known_tokens_in == sum(line["tokens_in"] or 0 for line in ledger.lines)


def test_what_is_not_known_is_null_and_stays_charged():
    ledger = Ledger(Budget(tokens=100))
    ticket = ledger.reserve(tokens=60, label="a")
    assert ledger.reserve(tokens=60) is None and ledger.stopped_by == "tokens"
    ledger.reconcile(ticket, reason="timeout", seconds=2.0)
    totals = ledger.totals()
    assert (totals.tokens_in, totals.tokens_out, totals.charged_tokens, totals.estimated_calls) == (
        None,
        None,
        60,
        1,
    )
    assert ledger.lines == [
        {
            "ticket": 0,
            "label": "a",
            "reason": "timeout",
            "source": "live",
            "tokens_in": None,
            "tokens_out": None,
            "money": None,
            "seconds": 2.0,
        }
    ]
    with pytest.raises(PanelError, match="ticket 0 is not open"):
        ledger.reconcile(ticket)


def test_more_than_was_reserved_shows_as_an_overrun():
    ledger = Ledger(Budget(tokens=100))
    ledger.reconcile(ledger.reserve(tokens=10), tokens_in=40, tokens_out=5)
    assert ledger.totals().overrun_tokens == 35 and ledger.totals().charged_tokens == 45


def test_time_and_rounds():
    now = [0.0]
    ledger = Ledger(Budget(seconds=10.0, rounds=2), clock=lambda: now[0])
    assert ledger.start_round() and ledger.start_round() and not ledger.start_round()
    assert ledger.stopped_by == "rounds" and ledger.totals().rounds == 2
    now[0] = 9.0
    assert ledger.time_left() == 1.0 and ledger.reserve() is not None
    now[0] = 10.0
    assert ledger.reserve() is None and ledger.stopped_by == "rounds" and ledger.time_left() == 0.0
    assert pickle.loads(pickle.dumps(Ledger(Budget(calls=1)))).reserve() == 0


def test_free_answers_are_counted_apart():
    ledger = Ledger(Budget(calls=0))
    ledger.free(source="cache", label="a")
    ledger.free(source="replay", reason="http_404")
    totals = ledger.totals()
    assert (totals.calls, totals.cache_hits, totals.replays, totals.money, totals.tokens_in) == (
        0,
        1,
        1,
        0.0,
        0,
    )
    assert ledger.lines[1]["reason"] == "http_404"
    with pytest.raises(PanelError, match="'cache' or 'replay'"):
        ledger.free(source="live")


@pytest.mark.parametrize(
    "limit",
    [{"calls": -1}, {"tokens": 1.5}, {"money": float("nan")}, {"seconds": "9"}, {"rounds": True}],
)
def test_limits_that_are_none(limit):
    with pytest.raises(BudgetError, match=f"{next(iter(limit))} must be"):
        Budget(**limit)
    assert Budget(calls=3).spare(calls=3, tokens=10**9) == {}
