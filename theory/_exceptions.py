"""The library's own errors and warnings."""

from __future__ import annotations


class PanelError(ValueError):
    """A panel, truth or parameter does not have the form that was needed."""


class BudgetError(ValueError):
    """Too few specialists, or too many faults, for the number of liars to be withstood."""


class QuorumError(BudgetError):
    """Too few specialists answered in time."""


class StateError(ValueError):
    """A saved state cannot be read: damaged, of another format, version or class, or not trusted."""


class NotVerifiedError(RuntimeError):
    """A record or certificate did not pass its check."""


class FaultWarning(UserWarning):
    """The library went on, but a specialist failed or a promise was weakened."""
