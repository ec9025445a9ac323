"""Methods that a subclass does not have although its base does."""

from __future__ import annotations

from collections.abc import Callable


def withhold(**instead: str) -> Callable[[type], type]:
    """Take methods of a base class away: `hasattr` is False, and asking for one says what to use.

    Parameters
    ----------
    **instead : str
        Name of a method to what does its work here.

    Returns
    -------
    callable
        A class decorator.
    """

    def change(owner: type) -> type:
        for name, use in instead.items():
            setattr(owner, name, _gone(name, use))
        return owner

    return change


def _gone(name: str, use: str) -> property:
    def gone(self: object) -> None:
        raise AttributeError(
            f"{type(self).__name__} has no {name}: a judge decides, not a fusion rule. Use {use}."
        )

    return property(gone, doc=f"Not here: use {use}.")
