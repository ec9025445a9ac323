"""The attacks by name, for tests, benchmarks and the audit."""

from __future__ import annotations

from collections.abc import Callable

from fusion.attacks import crashes, labels, machines, searched, shifts
from fusion.attacks._honest import Lies
from theory._exceptions import PanelError

_ATTACKS: dict[str, Callable[..., Lies]] = {
    attack.__name__: attack
    for attack in (
        shifts.sign_flip,
        shifts.inner_product,
        shifts.a_little_is_enough,
        shifts.colluders,
        shifts.mimic,
        shifts.gaussian,
        searched.min_max,
        searched.min_sum,
        searched.optimal,
        crashes.constant,
        crashes.nan_fault,
        crashes.infinite,
        machines.stale,
        machines.bit_flip,
        machines.pivot,
        labels.label_permutation,
        labels.runner_up,
    )
}


def attack_names() -> tuple[str, ...]:
    """Name the attacks.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> "mimic" in attack_names()
    True
    """
    return tuple(_ATTACKS)


def get_attack(name: str) -> Callable[..., Lies]:
    """Give an attack by its name.

    Parameters
    ----------
    name : str
        One of `attack_names`.

    Returns
    -------
    callable
        ``attack(honest, n_byzantine, *, rng=None, ...)``.

    Raises
    ------
    PanelError
        If there is no such attack.

    Examples
    --------
    >>> get_attack("sign_flip")([[1.0], [3.0]], 1)
    array([[-2.]])
    """
    if name not in _ATTACKS:
        raise PanelError(f"there is no attack {name!r}. Use one of {', '.join(_ATTACKS)}.")
    return _ATTACKS[name]
