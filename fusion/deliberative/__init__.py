"""Deliberation: sealed proposals, critiques, bounded revision and a judge that never proposed.

Evidence is created by skill, by critics that see more than the votes, and by checked quotes; exchange alone
creates none. Every function takes arrays of shape (..., specialist, output).
"""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "Budget": "budget",
    "Decision": "decision",
    "Deliberation": "debate",
    "Delphi": "popularity",
    "Heard": "debate",
    "Ledger": "budget",
    "PredictionMarket": "orders",
    "Protocol": "presets",
    "Quarantine": "watch",
    "Revision": "listening",
    "SelfConsistency": "popularity",
    "Temperature": "adjudication",
    "Totals": "budget",
    "Transcript": "transcript",
    "Verification": "verification",
    "adjudicate": "adjudication",
    "cap_revision": "revision",
    "complete_graph": "revision",
    "confidence_weight": "presets",
    "decide_action": "decision",
    "decide_number": "decision",
    "deliberate": "debate",
    "delphi": "popularity",
    "evidence_pool": "revision",
    "fit_temperature": "adjudication",
    "friedkin_johnsen": "revision",
    "from_log_odds": "odds",
    "influence_bound": "adjudication",
    "log_odds": "odds",
    "option_features": "critics",
    "peer_agreement": "watch",
    "prediction_market": "orders",
    "proposed_options": "critics",
    "protocol": "presets",
    "protocol_names": "presets",
    "quarantine": "watch",
    "read_transcript": "verification",
    "regime": "presets",
    "render_html": "reader",
    "render_text": "reader",
    "self_consistency": "popularity",
    "skill_influence": "listening",
    "skill_weights": "critics",
    "soften_votes": "odds",
    "specialist_features": "critics",
    "surprisingly_popular": "popularity",
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
    from fusion.deliberative.debate import Deliberation, Heard, deliberate
    from fusion.deliberative.decision import Decision, decide_action, decide_number
    from fusion.deliberative.listening import Revision, skill_influence
    from fusion.deliberative.odds import from_log_odds, log_odds, soften_votes
    from fusion.deliberative.orders import PredictionMarket, prediction_market
    from fusion.deliberative.popularity import (
        Delphi,
        SelfConsistency,
        delphi,
        self_consistency,
        surprisingly_popular,
    )
    from fusion.deliberative.presets import Protocol, confidence_weight, protocol, protocol_names, regime
    from fusion.deliberative.reader import render_html, render_text
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
