"""Deliberation: sealed proposals, critiques, bounded revision and a judge that never proposed.

Evidence is created by skill, by critics that see more than the votes, and by checked quotes; exchange alone
creates none. Every function takes arrays of shape (..., specialist, output).
"""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "Budget": "budget",
    "Decision": "decision",
    "Ledger": "budget",
    "Quarantine": "watch",
    "Revision": "listening",
    "Temperature": "adjudication",
    "Totals": "budget",
    "Transcript": "transcript",
    "Verification": "verification",
    "adjudicate": "adjudication",
    "cap_revision": "revision",
    "complete_graph": "revision",
    "decide_action": "decision",
    "evidence_pool": "revision",
    "fit_temperature": "adjudication",
    "friedkin_johnsen": "revision",
    "from_log_odds": "odds",
    "influence_bound": "adjudication",
    "log_odds": "odds",
    "option_features": "critics",
    "peer_agreement": "watch",
    "proposed_options": "critics",
    "quarantine": "watch",
    "read_transcript": "verification",
    "skill_influence": "listening",
    "skill_weights": "critics",
    "soften_votes": "odds",
    "specialist_features": "critics",
    "topology": "topologies",
    "total_influence": "revision",
    "verify_transcript": "verification",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from fusion.deliberative.adjudication import Temperature, adjudicate, fit_temperature, influence_bound
    from fusion.deliberative.budget import Budget, Ledger, Totals
    from fusion.deliberative.critics import (
        option_features,
        proposed_options,
        skill_weights,
        specialist_features,
    )
    from fusion.deliberative.decision import Decision, decide_action
    from fusion.deliberative.listening import Revision, skill_influence
    from fusion.deliberative.odds import from_log_odds, log_odds, soften_votes
    from fusion.deliberative.revision import (
        cap_revision,
        complete_graph,
        evidence_pool,
        friedkin_johnsen,
        total_influence,
    )
    from fusion.deliberative.topologies import topology
    from fusion.deliberative.transcript import Transcript
    from fusion.deliberative.verification import Verification, read_transcript, verify_transcript
    from fusion.deliberative.watch import Quarantine, peer_agreement, quarantine
