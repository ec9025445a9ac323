"""From text to fields: the first object, strict forms, quotes that stand word for word in the source."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators.chat import Cassette, check_quote
from estimators.chat.cassette import request_key
from estimators.chat.quotes import fold_text
from estimators.chat.reading import ReadingError, clean_text, read_object
from estimators.chat.schemas import (
    critique_form,
    form_schema,
    letters,
    need_extra,
    proposal_form,
    read_form,
    revision_form,
    verdict_form,
)
from estimators.chat.wire import Price, most_tokens, next_pause, read_reply, retry_after
from theory import PanelError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


BEFORE = st.sampled_from(["", "```json\n", "Sure: ", "<think>{</think>"])


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), BEFORE)
def test_an_object_is_read_whatever_its_strings_hold(value, before):
    assert read_object(before + json.dumps(value) + "\n``` and {more}") == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": "}"}', {"a": "}"}),
        (r'{"a": "\"}"}', {"a": '"}'}),
        ('{"a": "<think>"}', {"a": "<think>"}),
        ('<THINK>{"a": 1}</THINK>{"a": 2}', {"a": 2}),
        ('<thinking>one</thinking><think>{"a": 1}</think> {"a": {"b": {}}}', {"a": {"b": {}}}),
    ],
)
def test_what_is_read(text, expected):
    assert read_object(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('<think>{"a": 1}', "thought does not end"),
        ('{"a": {"b": 1}', "does not end"),
        ('{"a": "}', "does not end"),
        ("{'a': 1}", "is broken"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": {"b": 1, "b": 1}}', "'b' is there twice"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_read(text, told):
    with pytest.raises(ReadingError, match=told) as caught:
        read_object(text)
    assert caught.value.status == "unparsable"


GOOD = {"answer": "A", "confidence": 0.5, "reasons": [{"claim": "c", "quote": "q"}]}


@pytest.mark.parametrize(
    ("form", "value", "told"),
    [
        (proposal_form(letters(2)), {**GOOD, "answer": "C"}, "answer"),
        (proposal_form(letters(2)), {**GOOD, "confidence": 1.01}, "confidence"),
        (proposal_form(letters(2)), {**GOOD, "confidence": "0.5"}, "confidence"),
        (proposal_form(letters(2)), {**GOOD, "weight": 9}, "weight"),
        (proposal_form(letters(2)), {**GOOD, "reasons": GOOD["reasons"] * 6}, "reasons"),
        (proposal_form(letters(2)), {"answer": "A"}, "confidence"),
        (
            critique_form(("A",)),
            {"target": "B", "verdict": "supported", "quote": "", "p_right": 1.0},
            "target",
        ),
        (critique_form(("A",)), {"target": "A", "verdict": "maybe", "quote": "", "p_right": 1.0}, "verdict"),
        (
            revision_form(("A",), ("c0",)),
            {"action": "keep", "change_to": "A", "because": []},
            "null with keep",
        ),
        (
            revision_form(("A",), ("c0",)),
            {"action": "change_to", "change_to": None, "because": []},
            "must be an",
        ),
        (
            revision_form(("A",), ("c0",)),
            {"action": "change_to", "change_to": "B", "because": []},
            "change_to",
        ),
        (revision_form(("A",), ("c0",)), {"action": "keep", "change_to": None, "because": ["c1"]}, "because"),
        (verdict_form(letters(2)), {"probs": {"A": 0.5, "B": 0.47}}, "sum is 0.97"),
        (verdict_form(letters(2)), {"probs": {"A": 1.5, "B": -0.5}}, "probs"),
        (verdict_form(letters(2)), {"probs": {"A": 1.0}}, "probs.B"),
    ],
)
def test_forms_refuse(form, value, told):
    with pytest.raises(ReadingError, match=told) as caught:
        read_form(form, value)
    assert caught.value.status == "schema"


def test_forms_accept_and_renormalise_a_little():
    assert read_form(proposal_form(letters(2)), GOOD) == GOOD
    read = read_form(verdict_form(letters(2)), {"probs": {"A": 0.5, "B": 0.49}})["probs"]
    assert sum(read.values()) == pytest.approx(1.0, abs=1e-15) and read["A"] == pytest.approx(0.5 / 0.99)
    schema = form_schema(verdict_form(letters(2)))
    assert schema["additionalProperties"] is False and schema["required"] == ["probs"]
    assert letters(28)[-3:] == ("Z", "AA", "AB")
    with pytest.raises(ImportError, match=r"pip install 'consilience\[llm\]'"):
        need_extra("no_such_module")


SOURCE = "In 1842 the harvest did not fail in the north, although it rained “little” there all summer long."


@pytest.mark.parametrize(
    ("quote", "verified"),
    [
        ("the harvest did not fail in the north", True),
        ("The  Harvest did\nnot fail", True),
        ('it rained "little" there', True),
        ("the harvest did fail in the north, although it rained little there all summer", False),
        ("did not fail", True),
        ("not fail in", False),  # 11 characters
        ("", False),
        ("the harvest did not fail ... all summer long", False),
    ],
)
def test_quotes_are_checked_word_for_word(quote, verified):
    assert check_quote(quote, SOURCE).verified is verified


def test_similarity_is_high_without_the_not_and_counts_nothing():
    check = check_quote(SOURCE.replace("not ", ""), SOURCE)
    assert not check.verified and check.similarity > 0.95
    assert check_quote("", SOURCE).similarity == 0.0


@given(st.text(min_size=12), st.text(), st.text())
def test_what_is_copied_is_verified(quote, before, after):
    folded = fold_text(quote)

    if len(folded) >= 12 and folded in fold_text(before + quote + after):
        assert check_quote(quote, before + quote + after).verified


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "malformed"),
        (b'{"choices": null}', "malformed"),
        (b'{"choices": [{"message": null}]}', "malformed"),
        (b'{"choices": [{"message": {"content": 5}}]}', "malformed"),
        (b'{"choices": [{"message": {"content": "x"}}], "usage": 3}', "malformed"),
        (b"[" * 100_000, "malformed"),
        (b'{"choices": [{"message": {"content": "x"}}]}', None),
        (b'{"choices": [{"message": {"content": "x", "refusal": ""}}], "usage": null}', None),
    ],
)
def test_replies(content, reason):
    assert read_reply(content)["reason"] == reason


def test_usage_is_null_unless_it_is_a_count():
    for usage in (
        {},
        {"prompt_tokens": -1, "completion_tokens": "5"},
        {"prompt_tokens": True},
        {"total_tokens": 5},
    ):
        reply = {"choices": [{"message": {"content": "x"}}], "usage": usage}
        read = read_reply(json.dumps(reply).encode())
        assert (read["tokens_in"], read["tokens_out"]) == (None, None)


def test_lone_surrogates_become_text():
    reply = b'{"choices": [{"message": {"content": "a\\ud800b"}}]}'
    assert read_reply(reply)["text"] == "a?b"
    assert clean_text("ä") == "ä"


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=40), max_size=4))
def test_a_prompt_never_has_more_tokens_than_its_bound(texts):
    messages = [{"role": "user", "content": text} for text in texts]
    # A byte-level vocabulary has a token for a byte or more; templates add a handful for each message.
    most = sum(len(text.encode()) + 8 for text in texts)
    assert most_tokens({"messages": messages}) >= most


def test_statuses_and_prices():
    statuses = range(200, 600)
    again = [code for code in statuses if next_pause(f"http_{code}", 0, None, lambda: 1.0) is not None]
    assert again == [408, 425, 429, *range(500, 600)]
    assert [next_pause("timeout", k, None, lambda: 1.0) for k in (0, 3, 9)] == [0.5, 4.0, 30.0]
    assert next_pause("malformed", 0, 1.0, lambda: 1.0) is next_pause(None, 0, 1.0, lambda: 1.0) is None
    assert Price(2.0, 10.0, "2026-01-01").of(1_000_000, 500_000) == 7.0
    assert retry_after(None) is None and retry_after("-5") == 0.0


def test_keys_of_recordings_depend_on_everything_but_the_order_of_fields():
    body = {"model": "m", "seed": 1}
    key = request_key(body, "here", schema={"a": 1}, sample_id="s")
    assert key == request_key({"seed": 1, "model": "m"}, "here", schema={"a": 1}, sample_id="s")
    others = [
        request_key({**body, "seed": 2}, "here", schema={"a": 1}, sample_id="s"),
        request_key(body, "there", schema={"a": 1}, sample_id="s"),
        request_key(body, "here", schema={"a": 2}, sample_id="s"),
        request_key(body, "here", schema={"a": 1}, sample_id="t"),
    ]
    assert len({key, *others}) == 5
    assert re.fullmatch("[0-9a-f]{64}", key)


def test_a_replay_from_an_empty_cassette(tmp_path):
    (tmp_path / "empty").write_text("")
    with pytest.raises(PanelError, match="it is empty"):
        Cassette(tmp_path / "empty", "replay").find("key", {"model": "m"})


def test_the_extra_is_needed_only_when_something_is_asked(root):
    code = (
        "import sys, estimators.chat.deliberation, estimators.chat.specialist as s\n"
        "s.ChatSpecialist('http://127.0.0.1:1/v1', 'm', classes=['a', 'b']).client()\n"
        "assert not {'httpx', 'pydantic'} & set(sys.modules), 'the extra is loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)})
