"""Which protocol a classifier deliberates by, and what goes with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from estimators.critic import Adjudicator, Critic
from estimators.hearing import Hearing
from estimators.meeting import Meaning, Meeting
from estimators.protocol_debate import Debate
from estimators.protocol_judges import Consultant, Layers, OwnView, WithSource
from estimators.protocol_votes import ConfidenceVote, Plurality, PopularSurprise, Rounds
from fusion.deliberative.presets import Protocol, protocol
from fusion.deliberative.topologies import topology
from theory import PanelError

_VOTES = {
    "plurality": "self_consistency",
    "confidence": "reconcile",
    "median": "delphi",
    "surprisingly_popular": "surprisingly_popular",
}
_EARLY = {"disagreement": "unanimity", "expected_gain": "price"}


def numeric_meaning(plan: Protocol) -> str:
    """Say which of the named protocols a protocol amounts to for specialists that speak once.

    Parameters
    ----------
    plan : Protocol
        By its structure, not its name.

    Returns
    -------
    str
        A name of `fusion.deliberative.protocol_names`.

    Examples
    --------
    >>> from fusion.deliberative import regime
    >>> numeric_meaning(regime("competition")), numeric_meaning(regime("coordination"))
    ('debate', 'critique_revise')
    """
    if plan.aggregate in _VOTES:
        return _VOTES[plan.aggregate]
    if plan.n_proposers == 0:
        return "naive"
    if plan.n_proposers == 1:
        return "consultancy"
    if plan.opposed:
        return "interactive_debate" if "asking judge" in plan.roles else "debate"
    if plan.topology == "layered":
        return "mixture_of_agents"
    return "expert_judge" if plan.aggregate == "judge" and plan.rounds == 0 else "critique_revise"


class Bench:
    """What a deliberating classifier convenes: the protocol, its critics, and hearings of its kind.

    Parameters
    ----------
    owner : DeliberativeClassifier
        With its parameters.

    Raises
    ------
    PanelError
        If the protocol is none, or a parameter does not go with it.
    """

    def __init__(self, owner: Any):
        plan = protocol(owner.protocol) if isinstance(owner.protocol, str) else owner.protocol
        if not isinstance(plan, Protocol):
            raise PanelError(
                f"protocol must be a name or a fusion.deliberative.Protocol; got {plan!r}. Names: protocol_names()."
            )
        self.plan, self.kind = plan, numeric_meaning(plan)
        self.adjudicator = owner.adjudicator or Adjudicator()
        self.critics: list[tuple[str, Critic]] = list(owner.critics)
        sees = any(critic.view is not None for _, critic in self.critics)
        if self.kind in ("naive", "expert_judge") and not sees:
            self.critics.append(("source", Critic(view=slice(None))))
        self._check(owner)

    def _check(self, owner: Any) -> None:
        name, kind = self.plan.name, self.kind
        if owner.revision is not None and kind != "critique_revise":
            raise PanelError(
                f"nobody revises in {name!r}: revision= goes with protocol='critique_revise'. Leave one of them out."
            )
        if owner.revision is not None and self.plan.rounds == 0:
            raise PanelError(
                f"{name!r} has no round in which anybody could revise. Set rounds=1, or leave revision= out."
            )
        if owner.escalation is not None and kind in ("naive", "consultancy"):
            raise PanelError(
                f"{name!r} asks {'nobody' if kind == 'naive' else 'one specialist'}, so nothing escalates. Leave "
                "escalation= out, or use protocol='critique_revise'."
            )
        rule = None if owner.escalation is None else owner.escalation.rule
        if "price" in self.plan.stop and rule != "expected_gain":
            raise PanelError(
                f"{name!r} stops by price: give escalation=Escalation(stages, rule='expected_gain', price=...), which "
                "weighs gains against prices."
            )
        if rule == "disagreement" and (owner.escalation.threshold, owner.escalation.rate) != (None, None):
            raise PanelError(
                "options differ or not, so rule='disagreement' has no threshold or rate here. Leave them out, or use "
                "rule='confidence'."
            )
        expected = {"naive": 0, "consultancy": 1, "debate": 2, "interactive_debate": 2}.get(kind)
        if self.plan.n_proposers not in (None, expected):
            raise PanelError(
                f"{name!r} takes {self.plan.n_proposers} proposers; numeric specialists all propose there. Set "
                "n_proposers=None and drop specialists."
            )
        if "quorum" in self.plan.stop:
            raise PanelError(
                f"{name!r} stops at a quorum, which ends talk; these specialists speak once. Leave it out of stop, or "
                "give escalation= a rule that measures it."
            )

    def hearing(self, seed: int) -> Any:
        """Give an unfitted hearing of the protocol's kind.

        Parameters
        ----------
        seed : int
            For estimators without a seed.

        Returns
        -------
        Hearing or Meeting
        """
        if self.kind == "critique_revise":
            return Hearing(self.critics, self.adjudicator, seed=seed)
        return Meeting(self._meaning(seed), self.adjudicator)

    def _meaning(self, seed: int) -> Meaning:
        plan, critics, judge = self.plan, self.critics, self.adjudicator
        if self.kind == "self_consistency":
            return Plurality()
        if self.kind == "surprisingly_popular":
            return PopularSurprise()
        if self.kind == "reconcile":
            return ConfidenceVote(plan.confidence, seed=seed)
        if self.kind == "delphi":
            return Rounds(plan, critics, seed=seed)
        if self.kind == "naive":
            return OwnView(critics, seed=seed)
        if self.kind == "expert_judge":
            return WithSource(critics, judge, seed=seed)
        if self.kind == "consultancy":
            return Consultant(critics, judge, seed=seed)
        if self.kind == "mixture_of_agents":
            return Layers(max(plan.rounds, 1), critics, judge, seed=seed)
        return Debate(plan, critics, judge, seed=seed)

    def heard(self, stages: list[list[int]]) -> list[list[int]]:
        """Give the stages that have a say: none before a judge alone."""
        return [[]] if self.kind == "naive" else stages

    def asked(self, stages: list[list[int]], last: Any, order: Any) -> list[list[int]]:
        """Give the stages that are asked once all is fitted: the consultant alone in a consultancy."""
        return [[int(order[last.meaning.chosen_])]] if self.kind == "consultancy" else stages


def check_topology(given: Any, m: int) -> None:
    """Refuse what is no topology, whether a revision uses it or not.

    Parameters
    ----------
    given : str or array-like
        A name, or weights (specialist, specialist_).
    m : int
        Specialists.

    Raises
    ------
    PanelError
        If the name is unknown or needs layers, or the weights do not fit.
    """
    if isinstance(given, str):
        topology(given, max(m, 3))
        return
    w = np.asarray(given, dtype=np.float64)
    if w.shape != (m, m):
        raise PanelError(f"topology must have shape {(m, m)}; got {w.shape}.")
    sums = w.sum(axis=1)
    good = np.isfinite(w).all() and (w >= 0.0).all() and not w.diagonal().any()
    if not good or not ((np.abs(sums - 1.0) < 1e-6) | (sums == 0.0)).all():
        raise PanelError("topology: rows are weights >= 0 that sum to 1 (or to 0), with a diagonal of 0.")


def stopping_rules(owner: Any, last: Any, reached: Any) -> dict[str, float]:
    """Say which share of the training rows each stop rule ended.

    Parameters
    ----------
    owner : DeliberativeClassifier
        With its stages.
    last : Hearing or Meeting
        Fitted.
    reached : ndarray of int, shape (sample,)
        Last stage of each row.

    Returns
    -------
    dict of str to float
    """
    if len(owner._stages) > 1:
        early = float((reached < len(owner._stages) - 1).mean()) if len(reached) else 0.0
        rule = owner.escalation.rule
        return {
            _EARLY.get(rule, str(rule)) if isinstance(rule, str) else "callable": early,
            "rounds": 1.0 - early,
        }
    if isinstance(last, Meeting):
        return last.stopped_by_
    settled = owner._revised and owner.revision.mode == "average" and owner.revision.rounds is None
    return {"stable" if settled else "rounds": 1.0}
