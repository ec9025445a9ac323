"""Protocols: who speaks, how often, who hears whom, what is shared, when it stops and who decides."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fusion.deliberative.topologies import TOPOLOGIES
from theory._exceptions import PanelError

_SHARE = ("nothing", "answers", "arguments", "critiques", "summary")
_AGGREGATE = ("judge", "adjudicator", "plurality", "confidence", "median", "surprisingly_popular")
_STOP = ("rounds", "unanimity", "quorum", "stable", "no_evidence", "price", "budget")


@dataclass(frozen=True)
class Protocol:
    """A way to deliberate; `protocol` gives the named ones, ``dataclasses.replace`` changes them.

    Parameters
    ----------
    name : str
        For records.
    roles : tuple of str
        Who takes part beside the proposers.
    rounds : int
        Rounds of exchange after the sealed round 0, from 0 to 8.
    topology : str
        Who hears whom; see `topology`.
    share : {"nothing", "answers", "arguments", "critiques", "summary"}
        What is heard.
    stop : tuple of str
        Rules that end it early: "unanimity", "quorum" (of effective votes),
        "stable" (shares move by less than ``tolerance`` twice), "no_evidence", "price", "budget".
    aggregate : str
        Who decides: a "judge" or "adjudicator", "plurality", a vote by "confidence", the "median", or
        "surprisingly_popular".
    orders : int
        Orders in which a judge reads the options; 2 averages both.
    n_proposers : int, optional
        How many propose; all by default.
    opposed : bool
        Whether proposers are assigned different options.
    tolerance : float
        Of "stable", in total variation (for the median: relative change of the interquartile range).
    quorum : float
        Share of effective votes, in (0, 1].
    confidence : {"fitted", "stated"}
        Of a vote by confidence: learned where there are labels, or ReConcile's steps of what was stated. Talk
        without labels has the stated one in any case.

    Raises
    ------
    PanelError
        If a parameter is out of range.

    Examples
    --------
    >>> Protocol("own", rounds=2, share="answers", aggregate="plurality").worst_case_calls(5)
    15
    """

    name: str
    roles: tuple[str, ...] = ()
    rounds: int = 0
    topology: str = "broadcast"
    share: str = "nothing"
    stop: tuple[str, ...] = ("rounds",)
    aggregate: str = "adjudicator"
    orders: int = 1
    n_proposers: int | None = None
    opposed: bool = False
    tolerance: float = 0.01
    quorum: float = 0.5
    confidence: str = "fitted"

    def __post_init__(self) -> None:
        if isinstance(self.rounds, bool) or not 0 <= self.rounds <= 8:
            raise PanelError(f"rounds is a whole number from 0 to 8; got {self.rounds!r}.")
        for what, value, allowed in (
            ("topology", self.topology, TOPOLOGIES),
            ("share", self.share, _SHARE),
            ("aggregate", self.aggregate, _AGGREGATE),
            ("confidence", self.confidence, ("fitted", "stated")),
        ):
            if value not in allowed:
                raise PanelError(f"{what} must be one of {allowed}; got {value!r}.")
        unknown = sorted(set(self.stop) - set(_STOP))
        if unknown:
            raise PanelError(f"stop rules are {_STOP}; got {unknown}.")
        if self.rounds and self.share == "nothing":
            raise PanelError(
                f"{self.rounds} rounds in which nothing is shared change nothing. Set share or rounds=0."
            )
        if self.orders not in (1, 2) or not 0.0 < self.quorum <= 1.0 or not self.tolerance >= 0.0:
            raise PanelError("orders is 1 or 2, quorum lies in (0, 1] and tolerance is >= 0.")

    def worst_case_calls(self, n_specialists: int) -> int:
        """Count the calls of one sample if nothing stops early and nothing is retried.

        Parameters
        ----------
        n_specialists : int
            Proposers at hand.

        Returns
        -------
        int
            Proposals, exchanges, critiques and readings by the judge.
        """
        m = n_specialists if self.n_proposers is None else min(n_specialists, self.n_proposers)
        calls = m * (1 + self.rounds)
        calls += sum(max(self.rounds, 1) for role in self.roles if role in ("critic", "facilitator"))
        if "asking judge" in self.roles:
            calls += self.rounds
        return calls + self.orders * (self.aggregate in ("judge", "adjudicator"))


_PRESETS = {
    row.name: row
    for row in (
        Protocol("naive", ("judge",), aggregate="judge", n_proposers=0),
        Protocol("expert_judge", ("judge",), share="nothing", aggregate="judge"),
        Protocol(
            "consultancy", ("judge",), 3, "line", "arguments", aggregate="judge", n_proposers=1, opposed=True
        ),
        Protocol(
            "debate",
            ("judge",),
            3,
            "star",
            "arguments",
            aggregate="judge",
            orders=2,
            n_proposers=2,
            opposed=True,
        ),
        Protocol(
            "interactive_debate",
            ("judge", "asking judge"),
            3,
            "star",
            "arguments",
            aggregate="judge",
            orders=2,
            n_proposers=2,
            opposed=True,
        ),
        Protocol("self_consistency", aggregate="plurality"),
        Protocol("mixture_of_agents", ("judge",), 3, "layered", "answers", aggregate="judge"),
        Protocol("reconcile", (), 3, "broadcast", "arguments", ("rounds", "unanimity"), "confidence"),
        Protocol("delphi", ("facilitator",), 4, "hub", "summary", ("rounds", "stable"), "median"),
        Protocol("surprisingly_popular", aggregate="surprisingly_popular"),
        Protocol("critique_revise", ("critic", "judge"), 1, "broadcast", "critiques"),
    )
}


def protocol(name: str) -> Protocol:
    """Give a named protocol.

    Parameters
    ----------
    name : str
        One of "naive", "expert_judge", "consultancy", "debate", "interactive_debate", "self_consistency",
        "mixture_of_agents", "reconcile", "delphi", "surprisingly_popular" and "critique_revise".

    Returns
    -------
    Protocol

    Raises
    ------
    PanelError
        If no protocol has that name.

    Notes
    -----
    "self_consistency", one model asked k times, is the baseline at equal calls for everything else.

    References
    ----------
    Khan et al. (2024), Debating with more persuasive LLMs leads to more truthful answers, section 3 (debate,
    consultancy); Chen et al. (2023), ReConcile; Prelec et al. (2017), A solution to the single-question
    crowd wisdom problem.

    Examples
    --------
    >>> protocol("debate").worst_case_calls(9)
    10
    """
    if name not in _PRESETS:
        raise PanelError(f"protocol must be one of {tuple(_PRESETS)}; got {name!r}.")
    return _PRESETS[name]


def protocol_names() -> tuple[str, ...]:
    """List the named protocols.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> "debate" in protocol_names()
    True
    """
    return tuple(_PRESETS)


def regime(name: str) -> Protocol:
    """Give the protocol of a regime: how specialists stand to each other.

    Parameters
    ----------
    name : {"competition", "collaboration", "coordination"}
        Opposed debaters before a judge who reads both orders and stops when no verified evidence is new;
        critics on declared views, and a revision only if it earns its place; no talk, but escalation and a
        decision by cost.

    Returns
    -------
    Protocol

    Raises
    ------
    PanelError
        If the name is unknown.

    Examples
    --------
    >>> regime("coordination").rounds, regime("competition").orders
    (0, 2)
    """
    presets = {
        "competition": replace(_PRESETS["debate"], stop=("rounds", "no_evidence", "budget")),
        "collaboration": replace(_PRESETS["critique_revise"], stop=("rounds", "stable", "budget")),
        "coordination": Protocol("escalation", ("judge",), stop=("price", "budget")),
    }
    if name not in presets:
        raise PanelError(f"regime must be one of {tuple(presets)}; got {name!r}.")
    return presets[name]


def confidence_weight(confidence: float) -> float:
    """Weigh a vote by stated confidence as ReConcile does, for comparison with published results.

    Parameters
    ----------
    confidence : float
        In [0, 1]; NaN, not stated, weighs .1.

    Returns
    -------
    float
        .1 up to .6, .3 below .8, .5 below .9, .8 below 1, and 1.

    Raises
    ------
    PanelError
        If it lies outside [0, 1].

    References
    ----------
    Chen et al. (2023), ReConcile, section 3.2.

    Examples
    --------
    >>> [confidence_weight(c) for c in (0.6, 0.7, 0.8, 0.95, 1.0)]
    [0.1, 0.3, 0.5, 0.8, 1.0]
    """
    if math.isnan(confidence):
        return 0.1
    if not 0.0 <= confidence <= 1.0:
        raise PanelError(f"a confidence lies in [0, 1]; got {confidence!r}. Divide percents by 100.")
    if confidence <= 0.6:
        return 0.1
    return 0.3 if confidence < 0.8 else 0.5 if confidence < 0.9 else 0.8 if confidence < 1.0 else 1.0
