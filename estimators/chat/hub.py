"""The turns of a Delphi round in text: a summary without names, reasons of those who stand apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from estimators.chat.room import Job, Room, Said, material, origin, talk
from estimators.chat.schemas import argument_form, letters
from estimators.chat.turns import BY_TEXT, argument


def summarise(
    room: Room, said: dict[str, list[Said]], *, which: Sequence[int], round: int, cites: Sequence[int]
) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """Sum up how the answers are distributed, without names; no model is asked.

    Parameters
    ----------
    room : Room
        Questions and transcript.
    said : dict of str to list of Said
        By agent.
    which : sequence of int
        Items.
    round : int
        Of the record.
    cites : sequence of int
        Records of the answers.

    Returns
    -------
    summaries : dict of int to dict
        By item: heads of each option; quartiles of the stated confidence.
    records : list of int
        Number of the record.
    """
    found = {}
    for item in which:
        there = [answers[item] for answers in said.values() if answers[item].option is not None]
        heads = [
            sum(one.option == option for one in there) for option in range(len(room.items[item].options))
        ]
        stated = np.quantile([one.confidence or 0.0 for one in there], (0.25, 0.5, 0.75)).tolist()
        found[item] = {"heads": heads, "confidence": stated}
    seq = room.log.record(
        round=round,
        agent="protocol",
        role="facilitator",
        action="summarise",
        payload=[{"item": item, **one} for item, one in found.items()],
        cites=cites,
    )
    return found, [seq]


def justify(
    room: Room,
    said: dict[str, list[Said]],
    summaries: dict[int, dict[str, Any]],
    *,
    round: int,
    word_limit: int,
    cites: Sequence[int],
) -> tuple[dict[int, list[tuple[int, str]]], list[int], dict[int, list[str]]]:
    """Let those whose answer is named less often than another say why they hold it.

    Parameters
    ----------
    room : Room
        Questions and agents.
    said : dict of str to list of Said
        By agent.
    summaries : dict of int to dict
        From :func:`summarise`.
    round : int
        Of the records.
    word_limit : int
        Words of a justification that count.
    cites : sequence of int
        Record of the summaries.

    Returns
    -------
    reasons : dict of int to list of (int, str)
        By item, in the order of the options: option, and what was said for it.
    records : list of int
        Their numbers.
    quotes : dict of int to list of str
        Verified ones, by item.
    """
    jobs, sides = [], []
    for name, answers in said.items():
        for item, summary in summaries.items():
            mine = answers[item]
            if mine.option is None or summary["heads"][mine.option] == max(summary["heads"]):
                continue
            names = dict(zip(mine.order, letters(len(mine.order)), strict=True))
            ask = (
                f"You answered {names[mine.option]}, which fewer of you named. Justify it in at most {word_limit} "
                f"words, with quotes from the source; {BY_TEXT}."
            )
            text = room.show(item, mine.order, told_summary(summary, [], names))
            jobs.append(
                Job(
                    item, name, talk(ask, text), argument_form(), f"justify/{round}/{name}/{item}", mine.order
                )
            )
            sides.append(mine.option)
    answers = room.ask(jobs, round=round, role="proposer")
    reasons: dict[int, list[tuple[int, str]]] = {item: [] for item in summaries}
    quotes: dict[int, list[str]] = {item: [] for item in summaries}
    records = []
    for name in said:
        payload, heard = [], []
        for job, side, asked in zip(jobs, sides, answers, strict=True):
            if job.agent != name:
                continue
            heard.append(asked)
            argued: dict[str, Any] = {}
            if asked.value is not None:
                text, kept, argued = argument(room, job.item, asked.value, word_limit)
                reasons[job.item].append((side, text))
                quotes[job.item] += kept
            payload.append({"item": job.item, "side": side, **argued, "reason": asked.reason})
        if heard:
            records.append(
                room.log.record(
                    round=round,
                    agent=name,
                    role="proposer",
                    action="justify",
                    payload=payload,
                    cites=cites,
                    **origin(heard),
                )
            )
    return {item: sorted(told) for item, told in reasons.items()}, records, quotes


def told_summary(summary: dict[str, Any], reasons: Sequence[tuple[int, str]], names: dict[int, str]) -> str:
    """Write a summary for a reader, with the justifications of answers that are named less often."""
    low, middle, high = summary["confidence"]
    by_letter = sorted(names, key=names.__getitem__)
    lines = [f"{names[option]}: named by {summary['heads'][option]}" for option in by_letter]
    lines.append(f"stated confidence: median {middle:.2f}, quartiles {low:.2f} and {high:.2f}")
    lines += [
        f"For {names[option]}: {text}" for option, text in sorted(reasons, key=lambda one: names[one[0]])
    ]
    return "Answers of all, without names:\n" + material("\n".join(lines))
