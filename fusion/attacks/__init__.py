"""What lying specialists may say: given the honest rows of a panel, each attack gives the others.

Every function takes ``honest`` of shape (..., honest specialist, output) and returns the lies, of shape
(..., n_byzantine, output); stack them with ``numpy.concatenate([honest, lies], axis=-2)``. Nothing is drawn
from the global random state and no input is changed.
"""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "a_little_is_enough": "shifts",
    "attack_names": "_table",
    "bit_flip": "machines",
    "colluders": "shifts",
    "constant": "crashes",
    "gaussian": "shifts",
    "get_attack": "_table",
    "infinite": "crashes",
    "inner_product": "shifts",
    "label_permutation": "labels",
    "mimic": "shifts",
    "min_max": "searched",
    "min_sum": "searched",
    "nan_fault": "crashes",
    "optimal": "searched",
    "pivot": "machines",
    "runner_up": "labels",
    "sign_flip": "shifts",
    "stale": "machines",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from fusion.attacks._table import attack_names, get_attack
    from fusion.attacks.crashes import constant, infinite, nan_fault
    from fusion.attacks.labels import label_permutation, runner_up
    from fusion.attacks.machines import bit_flip, pivot, stale
    from fusion.attacks.searched import min_max, min_sum, optimal
    from fusion.attacks.shifts import a_little_is_enough, colluders, gaussian, inner_product, mimic, sign_flip
