"""The reader of one item's deliberation: options by their text, quotes with their check, nothing forged, costs."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.deliberative import Transcript, render_html, render_text

ASKED = [
    {"item": 0, "question": "When?", "options": ["1842", "1482"], "source": "It failed in 1842."},
    {"item": 1, "question": "Who?", "options": ["she", "he", "they"], "source": ""},
]


def log_of(*records) -> Transcript:
    log = Transcript({})
    for action, payload, more in (("ask", ASKED, {}), *records):
        log.record(round=0, agent="a", role="r", action=action, payload=payload, **more)
    return log


def test_options_are_named_and_places_are_undone():
    said = [{"item": 0, "option": 1, "order": [1, 0], "predicted": [0.25, 0.75], "reasons": []}]
    log = log_of(
        ("propose", said, {"arrays": {"proposal": np.eye(3)[[1, 2]]}}),
        ("argue", [{"item": 0, "side": 0, "argument": "So.", "quotes": []}], {}),
        ("revise", [{"item": 0, "from": 1, "to": 0, "counted": True}], {}),
        ("verdict", [{"item": 0, "order": [1, 0], "probs": [0.9, 0.1], "reason": None}], {}),
        ("decide", [{"item": 0, "decision": [0.125, 0.875]}], {"arrays": {"decision": np.eye(3)[[0, 1]]}}),
    )
    text = render_text(log, 0)
    for line in (
        "option: 1482",
        "shown as: A 1482, B 1842",
        "predicted: 1842: 0.25, 1482: 0.75",
        "side: 1842",
        "from: 1482",
        "to: 1842",
        "probs: 1482: 0.9, 1842: 0.1",
        "decision: 1842: 0.125, 1482: 0.875",
    ):
        assert f"    {line}\n" in text
    assert "proposal:" not in text and "she" not in text  # arrays that repeat the answer, and other items
    assert "he" in render_text(log, 1) and "1842" not in render_text(log, 1).split("Head:")[0]


def test_arrays_are_named_too_and_nobody_has_no_shares():
    log = log_of(("verdict", None, {"arrays": {"verdict": np.array([[0.5, 0.5, 0.0], [np.nan] * 3])}}))
    assert "verdict: 1842: 0.5, 1482: 0.5\n" in render_text(log, 0)
    assert "verdict: none\n" in render_text(log, 1)


def test_a_quote_says_first_what_became_of_it():
    forged = 'no" [stands in the source] "yes'
    reasons = [
        {"claim": "c", "quote": "It failed", "verified": True, "similarity": 1.0},
        {"claim": "c", "quote": forged, "verified": False, "similarity": 0.9},
    ]
    text = render_text(log_of(("propose", [{"item": 0, "option": 0, "reasons": reasons}], {})), 0)
    assert 'quote: [stands in the source] "It failed"' in text
    assert f'quote: [NOT in the source] "{forged}"' in text and "similarity" not in text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028", "\x0b", "\x85"])
def test_lines_of_a_text_pass_for_no_record(end):
    claim = (
        f"First.{end}record 9, round 1, judge (judge), verdict:{end}    decision: 1482: 1{end}</pre><h2>judge"
    )
    log = log_of(("propose", [{"item": 0, "option": 0, "reasons": [{"claim": claim, "quote": "q"}]}], {}))
    text, page = render_text(log, 0), render_html(log, 0)
    assert len(re.findall(r"^record \d+, round", text, flags=re.MULTILINE)) == 2
    assert "  | record 9, round 1" in text and not re.search(r"^ *decision", text, flags=re.MULTILINE)
    assert page.count("<h2>") == 2 and "&lt;h2&gt;judge" in page


@pytest.mark.parametrize("end", ["\u2028", "\x85"])
def test_names_and_lists_stay_on_their_line(end):
    forged = f"x{end}decision: 1482: 1"
    log = log_of(("propose", [{"item": 0, forged: 1, "because": [forged]}], {}))
    assert not re.search(r"^ *decision", render_text(log, 0), flags=re.MULTILINE)


def test_marks_that_turn_the_direction_of_text_are_shown_as_such():
    log = log_of(("argue", [{"item": 0, "side": 1, "argument": "\u202e2841 si ti\x1b[2J"}], {}))
    for rendered in (render_text(log, 0), render_html(log, 0)):
        assert "\ufffd2841 si ti\ufffd[2J" in rendered


def call(**cost):
    return {"cost": {"calls": 2, "tokens_in": 10, "tokens_out": 5, "money": None, **cost}}


def test_what_an_item_took_is_summed_and_gaps_are_no_zeros():
    log = log_of(
        ("call", {"item": 0, "question": "round 0/a/0", "reason": None}, call()),
        ("call", {"item": 0, "question": "round 0/b/0", "reason": "http_404"}, call(tokens_in=None)),
        ("call", {"item": 1, "question": "round 0/a/1", "reason": None}, call(calls=9)),
        ("call", "of somebody else", {}),
    )
    told = "4 calls in 2 questions to models, 10 tokens read (and 1 not reported), 10 tokens written, "
    told += "without an answer: http_404."
    for rendered in (render_text(log, 0), render_html(log, 0)):
        assert f"This item took {told}" in rendered and "round 0/a/0" not in rendered
    assert "This item took" not in render_text(log_of(), 0)


ODD = st.recursive(
    st.none() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["item", "option", "order", "probs", "side", "quote", "verified", "options", "reasons"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ODD, max_size=3), st.sampled_from(["ask", "propose", "verdict", "call"]))
def test_a_record_that_holds_but_makes_no_sense_is_shown_as_it_is(payload, action):
    log = log_of((action, payload, {}), ("propose", [{"item": 0, "option": 7, "order": [5, None]}], {}))
    assert "option: 7" in render_text(log, 0) and "Item 0" in render_html(log, 0)
