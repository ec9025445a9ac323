"""Methods that a subclass does not have although its base does."""

from __future__ import annotations


def withheld(name: str, instead: str) -> property:
    """Give a class attribute that is not there: `hasattr` is False, and asking for it says what to use.

    Parameters
    ----------
    name : str
        Of the method of the base class.
    instead : str
        What does its work here.

    Returns
    -------
    property
    """

    def gone(self: object) -> None:
        raise AttributeError(
            f"{type(self).__name__} has no {name}: a judge decides, not a fusion rule. Use {instead}."
        )

    return property(gone)
