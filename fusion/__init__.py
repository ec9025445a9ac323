"""Operators that fuse a panel: early, mid, late and by deliberation."""

from typing import TYPE_CHECKING

try:
    from theory._lazy import attach, check_siblings
except ImportError as error:
    raise ImportError(
        "the import name 'theory' belongs to another distribution than consilience. Uninstall that "
        "distribution, or use a virtual environment of its own."
    ) from error

check_siblings("fusion", __file__)

_EXPORTS = {
    "GeometricMedian": "late.geometric",
    "Krum": "late.distance",
    "LinearPool": "late.pools",
    "LogPool": "late.pools",
    "Mean": "late.pools",
    "Median": "late.order",
    "MultiKrum": "late.distance",
    "Operator": "_operator",
    "PluralityVote": "late.votes",
    "Resilience": "_resilience",
    "Row": "_row",
    "TrimmedMean": "late.order",
    "cap_weights": "_arguments",
    "decide": "late.votes",
    "geometric_median": "late.geometric",
    "get_operator": "_registry",
    "krum": "late.distance",
    "linear_pool": "late.pools",
    "log_pool": "late.pools",
    "mean": "late.pools",
    "median": "late.order",
    "multi_krum": "late.distance",
    "operator_names": "_registry",
    "operator_row": "_registry",
    "operator_table": "_registry",
    "plurality_vote": "late.votes",
    "project_to_simplex": "late.votes",
    "threads": "_threads",
    "trimmed_mean": "late.order",
    "vote_shares": "late.votes",
    "vote_weights": "late.votes",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from fusion._arguments import cap_weights
    from fusion._operator import Operator
    from fusion._registry import get_operator, operator_names, operator_row, operator_table
    from fusion._resilience import Resilience
    from fusion._threads import threads
    from fusion._row import Row
    from fusion.late.distance import Krum, MultiKrum, krum, multi_krum
    from fusion.late.geometric import GeometricMedian, geometric_median
    from fusion.late.order import Median, TrimmedMean, median, trimmed_mean
    from fusion.late.pools import LinearPool, LogPool, Mean, linear_pool, log_pool, mean
    from fusion.late.votes import (
        PluralityVote,
        decide,
        plurality_vote,
        project_to_simplex,
        vote_shares,
        vote_weights,
    )
