"""Typed actions of a deliberation, read from untrusted fields, and the one table that has effects."""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "Abstain": "typed",
    "ActionTable": "typed",
    "Adjudicate": "typed",
    "Critique": "typed",
    "Defer": "typed",
    "Escalate": "typed",
    "Propose": "typed",
    "Revise": "typed",
    "read_action": "typed",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from fusion.actions.typed import (
        Abstain,
        ActionTable,
        Adjudicate,
        Critique,
        Defer,
        Escalate,
        Propose,
        Revise,
        read_action,
    )
