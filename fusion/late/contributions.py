"""What each specialist contributed to each fused answer: one function per late rule."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fusion._registry import operator_row
from fusion.late.ballots import approval_vote, borda_count
from fusion.late.bulyan import bulyan
from fusion.late.clipping import centered_clipping
from fusion.late.distance import krum, multi_krum
from fusion.late.geometric import geometric_median
from fusion.late.inverse_covariance import inverse_covariance_mean
from fusion.late.nearest import aksel, cge, medoid, monna
from fusion.late.order import median, trimmed_mean
from fusion.late.order_means import mean_around_median, phocas, winsorized_mean
from fusion.late.pools import linear_pool, log_pool, mean
from fusion.late.spectral import caf, dnc
from fusion.late.subsets import minimum_diameter_averaging, minimum_variance_averaging, smea
from fusion.late.trusted import fltrust
from fusion.late.votes import plurality_vote

_PANEL = "[[1.0, 2.0], [1.5, 2.0], [2.5, 2.0], [90.0, -90.0]]"
_SHARES = "[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]"
_SUMMARY = """Say what each specialist contributed to the answers of `{name}`.

"""
_RETURNS = """Returns
-------
array of shape (..., specialist)
    {what} float64, or the dtype of a tensor; a DataArray keeps its batch dims and coordinates.

"""
_WEIGHTS = "``weights @ panel`` is what `{name}` gives: what ``{operator}(...).weights(panel)`` says."
_SUPPORT = "Shares averaged over the outputs, which sum to 1: what ``{operator}(...).support(panel)`` says."
_NOTES = """Notes
-----
NaN is never weighed: who is faulty or absent in a sample contributes 0 to it. Ties as in `{name}`.

Examples
--------
>>> {name}_weights({call}).round(3)
{result}
"""


def _contributions(rule: Callable[..., Any], call: str, result: str) -> Callable[..., Any]:
    """Make the function from the one that fuses, its parameters and what it raises."""
    row = operator_row(rule.__name__)
    name, operator = row.name, row.operator.__name__

    def contributions(
        panel: Any, *, weights: Any = None, missing: str = "fault", excess: str = "raise", **parameters: Any
    ) -> Any:
        # Binding refuses what the rule does not take, or needs and was not given.
        inspect.signature(rule).bind(panel, **parameters)
        made = row.operator(**parameters)
        told = made.weights if row.returns_weights else made.support
        return told(panel, weights=weights, missing=missing, excess=excess)

    if rule.__doc__ is not None:  # python -OO drops docstrings
        parts = inspect.cleandoc(rule.__doc__)
        taken = parts[parts.index("Parameters\n---") : parts.index("Returns\n---")]
        raised = parts[parts.index("Raises\n---") :]
        raised = raised[: raised.index("\n\n") + 2]
        what = (_WEIGHTS if row.returns_weights else _SUPPORT).format(name=name, operator=operator)
        contributions.__doc__ = (
            _SUMMARY.format(name=name)
            + taken
            + _RETURNS.format(what=what)
            + raised
            + _NOTES.format(name=name, call=call, result=result)
        )
    contributions.__name__ = contributions.__qualname__ = f"{name}_weights"
    contributions.__signature__ = inspect.signature(rule)  # type: ignore[attr-defined]
    return contributions


mean_weights = _contributions(mean, _PANEL, "array([0.25, 0.25, 0.25, 0.25])")
linear_pool_weights = _contributions(linear_pool, _PANEL, "array([0.25, 0.25, 0.25, 0.25])")
inverse_covariance_mean_weights = _contributions(
    inverse_covariance_mean, f"{_PANEL}, covariance=None", "array([0.25, 0.25, 0.25, 0.25])"
)
log_pool_weights = _contributions(log_pool, _SHARES, "array([0.333, 0.333, 0.333])")
median_weights = _contributions(median, _PANEL, "array([0.167, 0.417, 0.417, 0.   ])")
trimmed_mean_weights = _contributions(
    trimmed_mean, f"{_PANEL}, n_byzantine=1", "array([0.167, 0.417, 0.417, 0.   ])"
)
winsorized_mean_weights = _contributions(
    winsorized_mean, f"{_PANEL}, n_byzantine=1", "array([0.167, 0.417, 0.417, 0.   ])"
)
mean_around_median_weights = _contributions(
    mean_around_median, f"{_PANEL}, n_byzantine=1", "array([0.333, 0.333, 0.333, 0.   ])"
)
phocas_weights = _contributions(phocas, f"{_PANEL}, n_byzantine=1", "array([0.333, 0.333, 0.333, 0.   ])")
krum_weights = _contributions(krum, f"{_PANEL}, n_byzantine=1", "array([0., 1., 0., 0.])")
multi_krum_weights = _contributions(
    multi_krum, f"{_PANEL}, n_byzantine=1", "array([0.333, 0.333, 0.333, 0.   ])"
)
bulyan_weights = _contributions(
    bulyan,
    "[[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [1e6]], n_byzantine=1",
    "array([0.   , 0.333, 0.333, 0.333, 0.   , 0.   , 0.   ])",
)
minimum_diameter_averaging_weights = _contributions(
    minimum_diameter_averaging, f"{_PANEL}, n_byzantine=1", "array([0.333, 0.333, 0.333, 0.   ])"
)
minimum_variance_averaging_weights = _contributions(
    minimum_variance_averaging, f"{_PANEL}, n_byzantine=1", "array([0.333, 0.333, 0.333, 0.   ])"
)
smea_weights = _contributions(smea, f"{_PANEL}, n_byzantine=1", "array([0.333, 0.333, 0.333, 0.   ])")
caf_weights = _contributions(caf, f"{_PANEL}, n_byzantine=1", "array([0.332, 0.333, 0.335, 0.   ])")
dnc_weights = _contributions(dnc, f"{_PANEL}, n_byzantine=1", "array([0.333, 0.333, 0.333, 0.   ])")
monna_weights = _contributions(monna, f"{_PANEL}, n_byzantine=1", "array([0.333, 0.333, 0.333, 0.   ])")
aksel_weights = _contributions(aksel, f"{_PANEL}, n_byzantine=1", "array([0.333, 0.333, 0.333, 0.   ])")
cge_weights = _contributions(cge, f"{_PANEL}, n_byzantine=1", "array([0.333, 0.333, 0.333, 0.   ])")
geometric_median_weights = _contributions(geometric_median, _PANEL, "array([0., 1., 0., 0.])")
medoid_weights = _contributions(medoid, _PANEL, "array([0., 1., 0., 0.])")
centered_clipping_weights = _contributions(centered_clipping, _PANEL, "array([0.187, 0.406, 0.406, 0.001])")
fltrust_weights = _contributions(
    fltrust, "[[2.0, 0.0], [5.0, 0.0], [0.0, 9.0], [-7.0, 0.0]]", "array([0., 1., 0., 0.])"
)
plurality_vote_weights = _contributions(plurality_vote, _SHARES, "array([0.333, 0.333, 0.333])")
approval_vote_weights = _contributions(approval_vote, _SHARES, "array([0.333, 0.333, 0.333])")
borda_count_weights = _contributions(borda_count, _SHARES, "array([0.333, 0.333, 0.333])")
