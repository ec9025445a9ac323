"""A judge that cannot favour a place: every option stands once in each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.chat.asking import Asked
from estimators.chat.room import Job, Room, origin, talk
from estimators.chat.schemas import letters, verdict_form

Brief = Callable[[int, dict[int, str]], str]


@dataclass(frozen=True)
class Verdicts:
    """What a judge says about each question.

    Attributes
    ----------
    proba : ndarray of float64, shape (item, option)
        Mean over the orders; NaN rows where it abstains, 0 at options that a question does not have.
    reasons : list of str or None
        Why it abstains.
    position_bias : ndarray of float64, shape (item,)
        Mean |P(one order) - P(another)| over pairs of orders and options; NaN where it abstains.
    record : int
        Number of its record.
    """

    proba: NDArray[np.float64]
    reasons: list[str | None]
    position_bias: NDArray[np.float64]
    record: int


def cyclic_orders(order: Sequence[int]) -> list[tuple[int, ...]]:
    """Shift an order so that each option stands once in each place.

    Parameters
    ----------
    order : sequence of int
        Options.

    Returns
    -------
    list of tuple of int
        As many as options; for two options these are both orders.

    Examples
    --------
    >>> cyclic_orders((2, 0, 1))
    [(2, 0, 1), (0, 1, 2), (1, 2, 0)]
    """
    return [tuple(order[shift:]) + tuple(order[:shift]) for shift in range(len(order))]


def average_orders(
    verdicts: Sequence[Sequence[float]], orders: Sequence[Sequence[int]]
) -> tuple[NDArray[np.float64], float]:
    """Average verdicts over orders, and say how much they depend on the order.

    Parameters
    ----------
    verdicts : sequence of sequence of float
        Probabilities by place, for each order.
    orders : sequence of sequence of int
        Which option stood in each place.

    Returns
    -------
    proba : ndarray of float64, shape (option,)
        A judge that always takes one place gives exactly 1 / k.
    position_bias : float
        Mean |P(one order) - P(another)| over pairs of orders and options.

    Examples
    --------
    >>> average_orders([[1.0, 0.0], [1.0, 0.0]], [(0, 1), (1, 0)])
    (array([0.5, 0.5]), 1.0)
    """
    table = np.zeros((len(orders), len(orders[0])))
    for row, verdict, order in zip(table, verdicts, orders, strict=True):
        row[list(order)] = verdict
    pairs = np.triu_indices(len(orders), 1)
    return table.mean(axis=0), float(np.abs(table[pairs[0]] - table[pairs[1]]).mean())


def judge_blind(
    room: Room, judge: str, round: int, brief: Brief, cites: Sequence[int], *, source: bool = True
) -> Verdicts:
    """Let a judge give probabilities for each question, in all cyclic orders, and record it.

    Parameters
    ----------
    room : Room
        Questions and agents.
    judge : str
        Who judges.
    round : int
        Of the record.
    brief : callable
        Writes what the judge sees of an item, from validated fields: it gets the item and the letter of each
        option.
    cites : sequence of int
        Records that the judge reads.
    source : bool
        Whether the judge sees the sources too.

    Returns
    -------
    Verdicts
        An item is judged only if all its orders are answered: a part of them would favour places.
    """
    jobs = []
    for item in range(len(room.items)):
        for shift, order in enumerate(cyclic_orders(room.order(item, judge))):
            names = letters(len(order))
            more = brief(item, dict(zip(order, names, strict=True)))
            messages = talk(
                "You judge, and you have proposed nothing. Give each option, proposed or not, the probability "
                "that it is right.",
                room.show(item, order, more, source=source),
            )
            sample_id = f"judge/{judge}/{round}/{item}/{shift}"
            jobs.append(Job(item, judge, messages, verdict_form(names), sample_id, order))
    answers = room.ask(jobs, round=round, role="judge")
    proba, reasons, bias = _gather(room, jobs, answers)
    seq = room.log.record(
        round=round,
        agent=judge,
        role="judge",
        action="verdict",
        payload=_payload(jobs, answers),
        arrays={"verdict": proba, "position_bias": bias},
        cites=cites,
        **origin(answers),
    )
    return Verdicts(proba, reasons, bias, seq)


def _gather(
    room: Room, jobs: Sequence[Job], answers: Sequence[Asked]
) -> tuple[NDArray[np.float64], list[str | None], NDArray[np.float64]]:
    n_items = len(room.items)
    proba, bias = np.full((n_items, room.width), np.nan), np.full(n_items, np.nan)
    reasons: list[str | None] = [None] * n_items
    by_item: dict[int, list[tuple[Job, Asked]]] = {}
    for job, asked in zip(jobs, answers, strict=True):
        by_item.setdefault(job.item, []).append((job, asked))
    for item, pairs in by_item.items():
        reasons[item] = next((asked.reason for _, asked in pairs if asked.value is None), None)
        if reasons[item] is None:
            verdicts = [list((asked.value or {})["probs"].values()) for _, asked in pairs]
            orders = [job.order for job, _ in pairs]
            proba[item] = 0.0
            proba[item, : len(orders[0])], bias[item] = average_orders(verdicts, orders)
    return proba, reasons, bias


def _payload(jobs: Sequence[Job], answers: Sequence[Asked]) -> list[dict[str, Any]]:
    return [
        {
            "item": job.item,
            "order": list(job.order),
            "probs": None if asked.value is None else list(asked.value["probs"].values()),
            "reason": asked.reason,
        }
        for job, asked in zip(jobs, answers, strict=True)
    ]
