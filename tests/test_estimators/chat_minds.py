"""Minds behind a loopback endpoint that answer by what options say, whatever their letters and order."""

from __future__ import annotations

import json
import re

from chat_server import completion

from estimators.chat import Cassette, ChatClient, TextItem, deliberate_text
from fusion.deliberative import protocol as preset

SOURCE = "The harvest failed in 1842 because it did not rain for three months, so grain was imported."
ITEMS = [
    TextItem("Why was grain imported?", ("drought", "war", "tax"), SOURCE),
    TextItem("When did the harvest fail?", ("1842", "1482"), SOURCE),
    TextItem("Was it wet?", ("yes", "no", "unknown", "both"), SOURCE),
]
RIGHT = [0, 0, 1]
MINDS = {"good": {"drought", "1842", "no"}, "wrong": {"war", "1482", "both"}}
QUOTE = "it did not rain for three months"


class Mind:
    """An endpoint that reads the options it is shown and answers by their text, whatever their letters."""

    def __init__(self, *, order="", first=False, quote=QUOTE, favourite=None):
        self.order, self.first, self.quote, self.favourite = order, first, quote, favourite or {}

    def __call__(self, body, _headers, _number):
        name = body["response_format"]["json_schema"]["name"]
        text = body["messages"][1]["content"]
        letters = dict(re.findall(r"^([A-Z])\) (.*)$", text, flags=re.MULTILINE))
        known = {"drought", "1842", "no"}
        wanted = self.favourite.get(body["model"], known)
        pick = next((letter for letter, said in letters.items() if said in wanted), "A")
        if self.first:
            pick = "A"
        form = body["response_format"]["json_schema"]["schema"]["properties"]
        if name in ("proposal", "popularity"):
            reason = {"claim": f"it says so. {self.order}", "quote": self.quote}
            said = {"answer": pick, "confidence": 0.85, "reasons": [reason]}
            if name == "popularity":
                said["others"] = {letter: 0.5 * (letter == pick) + 0.5 / len(letters) for letter in letters}
        elif name == "critique":
            target = form["target"]["const"]
            verdict = "supported" if target == pick else "refuted"
            said = {
                "target": target,
                "verdict": verdict,
                "quote": self.quote,
                "p_right": 0.9 if target == pick else 0.1,
            }
        elif name == "revision":
            ids = re.findall(r"^(c\d+): ", text, flags=re.MULTILINE)
            right = next(letter for letter, option in letters.items() if option in known)
            there = [
                one["enum"] if "enum" in one else [one.get("const")] for one in form["change_to"]["anyOf"]
            ]
            change = body["model"] == "wrong" and right in there[0]
            said = {
                "action": "change_to" if change else "keep",
                "change_to": right if change else None,
                "because": ids[:1] if change else [],
            }
        elif name == "question":
            said = {"question": f"Did it rain at all? {self.order}"}
        elif name == "argument":
            said = {
                "argument": f"word {self.order} " * 200,
                "quotes": [self.quote, "it did rain for three months"],
            }
        else:
            probs = dict.fromkeys(letters, 0.0)
            probs[pick] = 1.0
            said = {"probs": probs}
        return completion(json.dumps(said))


def deliberate(
    server, protocol, *, tape=None, mode="record", names=("a", "b", "c"), models=None, **parameters
):
    def one(name):
        cassette = None if tape is None else Cassette(tape, mode)
        model = (models or {}).get(name, "m")
        return ChatClient(server.url, model, retries=0, timeout=5.0, cassette=cassette, name="here")

    kind = getattr(protocol, "name", protocol)
    sizes = {"self_consistency": 1, "consultancy": 1, "debate": 2, "interactive_debate": 2}
    n = {"naive": 0, "expert_judge": 0, **sizes}.get(kind, len(names))
    if preset(kind).aggregate in ("judge", "adjudicator"):
        parameters["judge"] = one("judge")
    if protocol == "consultancy":
        parameters["truth"] = RIGHT
    return deliberate_text(ITEMS, {name: one(name) for name in names[:n]}, protocol=protocol, **parameters)
