"""Pictures of results: one function per result object, matplotlib loaded only when one is called.

Every function takes the result and optionally an ``ax`` to draw into, and returns the axes; nothing is shown or
saved. Install matplotlib with the extra ``report``.
"""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "agreement": "matrices",
    "attack_table": "payments",
    "bias_variance": "decompositions",
    "bound": "bounds",
    "clearing": "markets",
    "clones": "matrices",
    "consistency": "bounds",
    "decomposition": "decompositions",
    "effective_numbers": "decompositions",
    "error_matrix": "matrices",
    "escape": "payments",
    "information": "specialists",
    "label_free": "specialists",
    "market": "markets",
    "pair_tests": "matrices",
    "prices": "specialists",
    "settlement": "payments",
    "variance_report": "specialists",
    "vote": "markets",
    "wealth": "payments",
    "weighting": "decompositions",
    "weights": "specialists",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from theory.plots.bounds import bound, consistency
    from theory.plots.decompositions import bias_variance, decomposition, effective_numbers, weighting
    from theory.plots.markets import clearing, market, vote
    from theory.plots.matrices import agreement, clones, error_matrix, pair_tests
    from theory.plots.payments import attack_table, escape, settlement, wealth
    from theory.plots.specialists import information, label_free, prices, variance_report, weights
