"""The turns of protocols in text: arguing, critique, revision, sharing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from estimators.chat.quotes import check_quote
from estimators.chat.room import Job, Room, Said, material, origin, plain_line, talk
from estimators.chat.schemas import argument_form, critique_form, letters, question_form, revision_form

# Letters differ between readers: what one says about "A" would be about another option to each of them.
BY_TEXT = "name options by their text, never by their letter"


def proposed(said: dict[str, list[Said]], item: int) -> list[int]:
    """Give the options that somebody proposed for an item, in the order of their numbers."""
    return sorted({one[item].option for one in said.values()} - {None})  # type: ignore[type-var]


def shared(said: dict[str, list[Said]], item: int, names: dict[int, str]) -> str:
    """Write the answers to an item, grouped and without names, with verified reasons only.

    Parameters
    ----------
    said : dict of str to list of Said
        By agent.
    item : int
        Which question.
    names : dict of int to str
        Letter of each option for this reader.

    Returns
    -------
    str
    """
    lines = []
    for option in proposed(said, item):
        group = [one[item] for one in said.values() if one[item].option == option]
        told = ", ".join(f"{one.confidence:.2f}" for one in group)
        lines.append(f"{names[option]}: said by {len(group)}, stated confidence {told}")
        for one in group:
            lines += [
                f"  - {plain_line(reason['claim'])[:300]} {checked_quote(reason['quote'][:300])}"
                for reason in one.reasons
                if reason["verified"]
            ]
    return "Answers of others:\n" + material("\n".join(lines) or "none")


def argue(
    room: Room,
    sides: dict[str, list[int]],
    history: list[dict[str, dict[int, str]]],
    *,
    which: Sequence[int],
    round: int,
    word_limit: int,
    cites: Sequence[int],
    questions: Mapping[int, str] | None = None,
) -> tuple[list[int], dict[int, list[str]]]:
    """Let each agent argue for the option it was given; all of them at once.

    Parameters
    ----------
    room : Room
        Questions and agents.
    sides : dict of str to list of int
        Option of each item, by agent.
    history : list of dict
        Arguments of earlier rounds, by agent and item; this round's are appended.
    which : sequence of int
        Items that are argued about.
    round : int
        Of the records.
    word_limit : int
        Words of an argument that count; what was cut off is recorded.
    cites : sequence of int
        Records that the arguments answer.
    questions : mapping of int to str, optional
        What the judge asked about items.

    Returns
    -------
    records : list of int
        Their numbers.
    quotes : dict of int to list of str
        Verified ones, by item.
    """
    jobs = []
    for name in sides:
        for item in which:
            order = room.order(item, name)
            names = dict(zip(order, letters(len(order)), strict=True))
            before = [
                f"For {names[sides[other][item]]}: {turn[other][item]}" for turn in history for other in sides
            ]
            more = "Arguments so far:\n" + material("\n".join(before) or "none")
            if questions and questions[item]:
                more += "\n\nThe judge asks:\n" + material(questions[item])
            ask = (
                f"Argue that the answer is {names[sides[name][item]]}, in at most {word_limit} words, with quotes "
                f"from the source; {BY_TEXT}."
            )
            jobs.append(
                Job(
                    item,
                    name,
                    talk(ask, room.show(item, order, more)),
                    argument_form(),
                    f"argue/{round}/{name}/{item}",
                    order,
                )
            )
    answers = room.ask(jobs, round=round, role="debater")
    turn: dict[str, dict[int, str]] = {name: {} for name in sides}
    records, found = [], {item: list[str]() for item in which}
    for name in sides:
        mine = [(job, asked) for job, asked in zip(jobs, answers, strict=True) if job.agent == name]
        payload: list[dict[str, Any]] = []
        for job, asked in mine:
            said = asked.value or {"argument": "", "quotes": []}
            turn[name][job.item], kept, argued = argument(room, job.item, said, word_limit)
            found[job.item] += kept
            payload.append(
                {"item": job.item, "side": sides[name][job.item], **argued, "reason": asked.reason}
            )
        records.append(
            room.log.record(
                round=round,
                agent=name,
                role="debater",
                action="argue",
                payload=payload,
                cites=cites,
                **origin([asked for _, asked in mine]),
            )
        )
    history.append(turn)
    return records, found


def argument(
    room: Room, item: int, said: dict[str, Any], word_limit: int
) -> tuple[str, list[str], dict[str, Any]]:
    """Read what somebody argued.

    Parameters
    ----------
    room : Room
        Questions with their sources.
    item : int
        Which question.
    said : dict
        argument and quotes.
    word_limit : int
        Words that count.

    Returns
    -------
    text : str
        For readers: cut, on one line, with its verified quotes.
    quotes : list of str
        Those.
    payload : dict
        For the record: all of it, with what was cut off and what the checks found.
    """
    words = said["argument"].split()
    checks = [(quote, check_quote(quote, room.source(item))) for quote in said["quotes"]]
    kept = [quote for quote, check in checks if check.verified]
    text = plain_line(" ".join(words[:word_limit]))
    text += "".join(f" {checked_quote(quote)}" for quote in kept)
    told = [
        {"quote": quote, "verified": check.verified, "similarity": round_(check.similarity)}
        for quote, check in checks
    ]
    cut = max(0, len(words) - word_limit)
    return text, kept, {"argument": said["argument"], "words_cut": cut, "quotes": told}


def inquire(
    room: Room,
    judge: str,
    brief: Callable[[int, dict[int, str]], str],
    *,
    which: Sequence[int],
    round: int,
    word_limit: int,
    cites: Sequence[int],
) -> tuple[dict[int, str], list[int]]:
    """Let the judge, who does not see the source, ask one question about each item.

    Parameters
    ----------
    room : Room
        Questions and agents.
    judge : str
        Who asks.
    brief : callable
        Writes the arguments so far, from the item and the letter of each option.
    which : sequence of int
        Items that it may ask about.
    round : int
        Of the record.
    word_limit : int
        Words of a question that are passed on.
    cites : sequence of int
        Records of the arguments.

    Returns
    -------
    questions : dict of int to str
        By item; "" where the judge asks nothing.
    records : list of int
        Number of the record.
    """
    jobs = []
    for item in which:
        order = room.order(item, judge)
        more = brief(item, dict(zip(order, letters(len(order)), strict=True)))
        text = room.show(item, order, more, source=False)
        ask = f"You judge. Ask those who argue one question, in at most {word_limit} words; {BY_TEXT}."
        jobs.append(Job(item, judge, talk(ask, text), question_form(), f"inquire/{round}/{item}", order))
    answers = room.ask(jobs, round=round, role="judge")
    said = {
        job.item: (one.value or {"question": ""})["question"] for job, one in zip(jobs, answers, strict=True)
    }
    passed = {item: plain_line(" ".join(text.split()[:word_limit])) for item, text in said.items()}
    payload = [
        {"item": item, "question": text, "reason": one.reason}
        for (item, text), one in zip(said.items(), answers, strict=True)
    ]
    seq = room.log.record(
        round=round,
        agent=judge,
        role="judge",
        action="inquire",
        payload=payload,
        cites=cites,
        **origin(answers),
    )
    return passed, [seq]


def critique(
    room: Room,
    said: dict[str, list[Said]],
    critics: Sequence[str],
    *,
    which: Sequence[int],
    round: int,
    cites: Sequence[int],
) -> tuple[dict[int, list[dict[str, Any]]], list[int]]:
    """Let critics assess each distinct answer on its own.

    Parameters
    ----------
    room : Room
        Questions and agents.
    said : dict of str to list of Said
        Sealed proposals.
    critics : sequence of str
        Who assesses.
    which : sequence of int
        Items that are assessed.
    round : int
        Of the records.
    cites : sequence of int
        Records of the proposals.

    Returns
    -------
    critiques : dict of int to list of dict
        By item: id, critic, option, verdict, p_right, quote, verified.
    records : list of int
        Their numbers.
    """
    jobs, targets = [], []
    for name in critics:
        for item in which:
            order = room.order(item, name)
            names = dict(zip(order, letters(len(order)), strict=True))
            for option in proposed(said, item):
                ask = f"Assess the answer {names[option]}: supported, refuted or unknown, with the quote that shows it."
                text = room.show(item, order, shared(said, item, names))
                form = critique_form((names[option],))
                sample_id = f"critique/{round}/{name}/{item}/{option}"
                jobs.append(Job(item, name, talk(ask, text), form, sample_id, order))
                targets.append(option)
    answers = room.ask(jobs, round=round, role="critic")
    found: dict[int, list[dict[str, Any]]] = {item: [] for item in which}
    records = []
    for name in critics:
        payload = []
        mine = [k for k, job in enumerate(jobs) if job.agent == name]
        for k in mine:
            asked, item = answers[k], jobs[k].item
            entry: dict[str, Any] = {"item": item, "option": targets[k], "reason": asked.reason}
            if asked.value is not None:
                check = check_quote(asked.value["quote"], room.source(item))
                entry.update(
                    id=f"c{len(found[item])}",
                    critic=name,
                    verdict=asked.value["verdict"],
                    p_right=float(asked.value["p_right"]),
                    quote=asked.value["quote"],
                    verified=check.verified,
                    similarity=round_(check.similarity),
                )
                found[item].append(entry)
            payload.append(entry)
        records.append(
            room.log.record(
                round=round,
                agent=name,
                role="critic",
                action="critique",
                payload=payload,
                cites=cites,
                **origin([answers[k] for k in mine]),
            )
        )
    return found, records


def revise(
    room: Room,
    said: dict[str, list[Said]],
    critiques: dict[int, list[dict[str, Any]]],
    *,
    round: int,
    cites: Sequence[int],
) -> tuple[dict[str, list[Said]], list[int]]:
    """Let proposers keep their answer, or change to a proposed one because of critiques.

    Parameters
    ----------
    room : Room
        Questions and agents.
    said : dict of str to list of Said
        Proposals.
    critiques : dict of int to list of dict
        From :func:`critique`; only these items are revised.
    round : int
        Of the records.
    cites : sequence of int
        Records of the critiques.

    Returns
    -------
    said : dict of str to list of Said
        A change counts only if a critique that it names has a verified quote.
    records : list of int
        Their numbers; changes that do not count are in them.
    """
    jobs = []
    for name, answers in said.items():
        for item in critiques:
            mine = answers[item]
            if mine.option is None or not critiques[item]:
                continue
            names = dict(zip(mine.order, letters(len(mine.order)), strict=True))
            ids = tuple(entry["id"] for entry in critiques[item])
            ask = f"You answered {names[mine.option]}. Keep it, or change to another proposed answer because of critiques."
            text = room.show(item, mine.order, told_critiques(critiques[item], names))
            form = revision_form(tuple(names[option] for option in proposed(said, item)), ids)
            jobs.append(Job(item, name, talk(ask, text), form, f"revise/{round}/{name}/{item}", mine.order))
    asked = room.ask(jobs, round=round, role="proposer")
    revised = {name: list(answers) for name, answers in said.items()}
    records = []
    for name in said:
        payload, costs = [], []
        for job, one in zip(jobs, asked, strict=True):
            if job.agent != name:
                continue
            costs.append(one)
            entry: dict[str, Any] = {"item": job.item, "reason": one.reason, "counted": False}
            if one.value is not None:
                entry.update(action=one.value["action"], because=one.value["because"])
                if one.value["action"] == "change_to":
                    before = said[name][job.item]
                    option = job.order[letters(len(job.order)).index(one.value["change_to"])]
                    verified = {item["id"] for item in critiques[job.item] if item["verified"]}
                    entry.update(
                        {"from": before.option, "to": option, "counted": bool(verified & {*entry["because"]})}
                    )
                    if entry["counted"]:
                        revised[name][job.item] = Said(option, before.confidence, [], None, before.order)
            payload.append(entry)
        records.append(
            room.log.record(
                round=round,
                agent=name,
                role="proposer",
                action="revise",
                payload=payload,
                arrays={"revision": room.votes({name: revised[name]})[:, 0]},
                cites=cites,
                **origin(costs),
            )
        )
    return revised, records


def told_critiques(critiques: list[dict[str, Any]], names: dict[int, str]) -> str:
    """Write critiques for a reader: their validated fields, and quotes that stand in the source."""
    lines = [
        f"{entry['id']}: {names[entry['option']]} is {entry['verdict']}, p_right {entry['p_right']:.2f}, "
        + (checked_quote(entry["quote"]) if entry["verified"] else "its quote is not in the source")
        for entry in critiques
    ]
    return "Critiques:\n" + material("\n".join(lines) or "none")


def checked_quote(quote: str) -> str:
    """Write a quote that stands in the source, on one line, in brackets that no free text has."""
    return f'[verified quote: "{" ".join(quote.split())}"]'


def round_(value: float) -> float:
    """Round a similarity for the record: six digits."""
    return round(value, 6)
