"""Fusion by deliberation: sealed proposals, critiques, bounded revision, adjudication, and their record."""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "Budget": "budget",
    "Ledger": "budget",
    "Totals": "budget",
    "Transcript": "transcript",
    "Verification": "verification",
    "read_transcript": "verification",
    "verify_transcript": "verification",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from fusion.deliberative.budget import Budget, Ledger, Totals
    from fusion.deliberative.transcript import Transcript
    from fusion.deliberative.verification import Verification, read_transcript, verify_transcript
