"""What lying specialists may say: given the honest rows of a panel, each attack gives the others.

Every function takes ``honest`` of shape (..., honest specialist, output) and returns the lies, of shape
(..., n_byzantine, output); stack them with ``numpy.concatenate([honest, lies], axis=-2)``. Nothing is drawn
from the global random state and no input is changed.
"""

from collections.abc import Callable

from fusion.attacks._honest import Lies
from fusion.attacks.crashes import constant, infinite, nan_fault
from fusion.attacks.labels import label_permutation, runner_up
from fusion.attacks.shifts import a_little_is_enough, colluders, gaussian, inner_product, mimic, sign_flip

ATTACKS: dict[str, Callable[..., Lies]] = {
    attack.__name__: attack
    for attack in (
        sign_flip,
        inner_product,
        a_little_is_enough,
        colluders,
        mimic,
        constant,
        gaussian,
        nan_fault,
        infinite,
        label_permutation,
        runner_up,
    )
}

__all__ = ["ATTACKS", *ATTACKS]
