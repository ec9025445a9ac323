"""What a speaker may do: a closed set, read from untrusted fields; and a table that executes, if a guard allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from theory._exceptions import PanelError


@dataclass(frozen=True)
class Propose:
    """Name an option, with a stated confidence.

    Parameters
    ----------
    answer : str or int
        The option.
    confidence : float
        In [0, 1]; only a feature.

    Examples
    --------
    >>> Propose("B", 0.8).answer
    'B'
    """

    answer: str | int
    confidence: float


@dataclass(frozen=True)
class Critique:
    """Say of a proposal or claim what a quote shows.

    Parameters
    ----------
    target : int
        Record or proposal that it is about.
    verdict : str
        "supported", "refuted" or "unknown".
    p_right : float
        Probability that the target is right.
    quote : str
        What shows it, to be checked against the source.

    Examples
    --------
    >>> Critique(3, "refuted", 0.1).verdict
    'refuted'
    """

    target: int
    verdict: str
    p_right: float
    quote: str = ""


@dataclass(frozen=True)
class Revise:
    """Change to another proposed option, because of critiques that are named.

    Parameters
    ----------
    answer : str or int
        The new option.
    because : tuple of int
        Critiques that moved it.

    Examples
    --------
    >>> Revise("C", (4,)).because
    (4,)
    """

    answer: str | int
    because: tuple[int, ...] = ()


@dataclass(frozen=True)
class Abstain:
    """Say nothing, and why.

    Parameters
    ----------
    reason : str
        Why.

    Examples
    --------
    >>> Abstain("unparsable").reason
    'unparsable'
    """

    reason: str


@dataclass(frozen=True)
class Escalate:
    """Ask a further stage.

    Parameters
    ----------
    stage : int
        The stage to ask.

    Examples
    --------
    >>> Escalate(1).stage
    1
    """

    stage: int


@dataclass(frozen=True)
class Defer:
    """Hand the sample over.

    Parameters
    ----------
    reason : str
        Why.

    Examples
    --------
    >>> Defer("nobody answered").reason
    'nobody answered'
    """

    reason: str


@dataclass(frozen=True)
class Adjudicate:
    """Give the verdict, with the records that justify it.

    Parameters
    ----------
    probs : tuple of float
        Verdict; sums to 1.
    record_ids : tuple of int
        Records that justify it.

    Examples
    --------
    >>> Adjudicate((0.9, 0.1), (0, 1)).record_ids
    (0, 1)
    """

    probs: tuple[float, ...]
    record_ids: tuple[int, ...] = ()


Action = Propose | Critique | Revise | Abstain | Escalate | Defer | Adjudicate
_FIELDS: dict[str, tuple[type, dict[str, Callable[[Any], bool]], frozenset[str]]] = {}


def _share(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0.0 <= value <= 1.0


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _answer(value: Any) -> bool:
    return isinstance(value, str) or _count(value)


def _ids(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_count, value))


def _shares(value: Any) -> bool:
    whole = isinstance(value, list | tuple) and len(value) > 0 and all(map(_share, value))
    return whole and abs(sum(value) - 1.0) <= 1e-6


def _verdict(value: Any) -> bool:
    return value in ("supported", "refuted", "unknown")


def _text(value: Any) -> bool:
    return isinstance(value, str)


_FIELDS.update(
    {
        "propose": (Propose, {"answer": _answer, "confidence": _share}, frozenset()),
        "critique": (
            Critique,
            {"target": _count, "verdict": _verdict, "p_right": _share, "quote": _text},
            frozenset({"quote"}),
        ),
        "revise": (Revise, {"answer": _answer, "because": _ids}, frozenset({"because"})),
        "abstain": (Abstain, {"reason": _text}, frozenset()),
        "escalate": (Escalate, {"stage": _count}, frozenset()),
        "defer": (Defer, {"reason": _text}, frozenset()),
        "adjudicate": (Adjudicate, {"probs": _shares, "record_ids": _ids}, frozenset({"record_ids"})),
    }
)


def read_action(fields: Any) -> Action:
    """Read an action from untrusted fields; anything that is none becomes an abstention.

    Parameters
    ----------
    fields : mapping
        ``action``, the name in lower case, and the fields of that action; no others.

    Returns
    -------
    Action
        `Abstain` with a reason where a field is missing, unknown or out of range.

    Examples
    --------
    >>> read_action({"action": "propose", "answer": "B", "confidence": 0.8})
    Propose(answer='B', confidence=0.8)
    >>> read_action({"action": "transfer", "amount": 10})
    Abstain(reason="unknown action 'transfer'")
    """
    if not isinstance(fields, Mapping):
        return Abstain(f"no action: {type(fields).__name__}")
    name = fields.get("action")
    if not isinstance(name, str) or name not in _FIELDS:
        return Abstain(f"unknown action {str(name)[:40]!r}")
    kind, checks, optional = _FIELDS[name]
    given = {key: value for key, value in fields.items() if key != "action"}
    extra = sorted(map(str, set(given) - set(checks)))
    absent = sorted(set(checks) - optional - set(given))
    if extra or absent:
        return Abstain(f"{name}: unknown fields {extra}, missing {absent}")
    bad = sorted(key for key, value in given.items() if not checks[key](value))
    if bad:
        return Abstain(f"{name}: out of range: {bad}")
    action: Action = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
    return action


class ActionTable:
    """Effects by name, each behind a guard: the only way from a verdict to the world.

    Parameters
    ----------
    table : mapping of str to (guard, handler)
        ``guard(payload, record_ids)`` says whether it may happen; ``handler(payload, record_ids)`` does it.

    Raises
    ------
    PanelError
        If an entry is no pair of callables.

    Examples
    --------
    >>> table = ActionTable({"log": (lambda payload, ids: bool(ids), lambda payload, ids: f"{payload} by {ids}")})
    >>> table.execute("log", "moved 3", record_ids=(7,))
    'moved 3 by (7,)'
    """

    def __init__(self, table: Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]]):
        for name, pair in table.items():
            if not isinstance(pair, tuple) or len(pair) != 2 or not all(map(callable, pair)):
                raise PanelError(f"action {name!r} needs a pair (guard, handler) of callables; got {pair!r}.")
        self._table = dict(table)

    def execute(self, name: str, payload: Any, *, record_ids: tuple[int, ...]) -> Any:
        """Do one thing, if its guard allows.

        Parameters
        ----------
        name : str
            Of the effect.
        payload : object
            For guard and handler.
        record_ids : tuple of int
            Records of the transcript that justify it; not empty.

        Returns
        -------
        object
            What the handler gives.

        Raises
        ------
        PanelError
            If the name is unknown, nothing justifies it, or the guard refuses; the handler did not run.
        """
        if name not in self._table:
            raise PanelError(f"no effect is called {name!r}; there are {sorted(self._table)}.")
        if not record_ids:
            raise PanelError(f"{name!r} needs the records that justify it: record_ids of a decision.")
        guard, handler = self._table[name]
        if guard(payload, record_ids) is not True:
            raise PanelError(f"the guard of {name!r} refused {payload!r}. Nothing was done.")
        return handler(payload, record_ids)
