"""The result of pricing: what every specialist is worth, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theory._results import add_warnings, labelled

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prices:
    """What every specialist is worth: the loss it takes away from the panel.

    Attributes
    ----------
    value : ndarray of shape (n_specialists,)
        Prices, in units of the loss; positive earns, negative costs.
    se : ndarray or None
        Standard errors, over samples and, for sampled prices, over permutations.
    ci : ndarray of shape (2, n_specialists) or None
        Normal intervals.
    names : tuple of str
        Names of the specialists.
    rule : str
        The semivalue: ``"shapley"``, ``"banzhaf"``, ``"leave_one_out"``, ``"solo"`` or ``"beta"``.
    game : str
        What a coalition is worth; one of the games of `price`.
    v0 : float
        Loss of the empty panel.
    total : float
        v0 minus the loss of the full panel.
    residual : float
        total minus the sum of prices: 0 for Shapley values up to rounding.
    exact : bool
        Whether all coalitions were accounted for.
    method : str
        How: closed form, enumeration or permutations.
    n : int or None
        Samples used, None where a matrix or a function was priced.
    n_evaluations : int
        Coalitions whose loss was computed; 0 for closed forms.
    seed : int or None
        Seed of the permutations.
    per_sample : ndarray of shape (sample, specialist) or None
        Prices sample by sample, on request; their mean is ``value``.
    parts : mapping of str to ndarray, or None
        Mean game: ``own``, ``with_others``, ``crowd``, ``reference``; they sum to ``value``.
    exaggeration : float or None
        Mean game under squared error: a specialist gains most by shifting its answer by minus this
        factor times the mean error it expects of the others. 0 would be truthful.
    clusters : ndarray of shape (n_specialists,) or None
        Cluster of every specialist when quotient prices were asked for.
    warnings : tuple of str
        What a reader should know before using the numbers.
    """

    value: Floats
    se: Floats | None
    ci: Floats | None
    names: tuple[str, ...]
    rule: str
    game: str
    v0: float
    total: float
    residual: float
    exact: bool
    method: str
    n: int | None = None
    n_evaluations: int = 0
    seed: int | None = None
    per_sample: Floats | None = None
    parts: Mapping[str, Floats] | None = None
    exaggeration: float | None = None
    clusters: NDArray[np.int64] | None = None
    warnings: tuple[str, ...] = ()

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset over specialist: value, standard error, interval, parts."""
        variables: dict[str, Any] = {
            "value": self.value,
            "standard_error": self.se,
            "ci": self.ci,
            "per_sample": self.per_sample,
            "cluster": self.clusters,
        }
        variables.update({f"part_{key}": part for key, part in (self.parts or {}).items()})
        attrs = {
            "rule": self.rule,
            "game": self.game,
            "v0": self.v0,
            "total": self.total,
            "residual": self.residual,
            "exact": int(self.exact),
            "method": self.method,
            "n": self.n,
            "n_evaluations": self.n_evaluations,
            "seed": self.seed,
            "exaggeration": self.exaggeration,
        }
        return labelled(variables, self.names, attrs)

    def summary(self) -> str:
        """Return the prices as text, dearest first."""
        lines = [
            f"{self.rule} prices of the {self.game} game ({self.method}): the panel takes the loss from "
            f"{self.v0:.4g} to {self.v0 - self.total:.4g}"
        ]
        width = max(len(name) for name in self.names)
        for i in np.argsort(-self.value, kind="stable"):
            line = f"  {self.names[i]:<{width}}  {self.value[i]:+.5f}"
            if self.ci is not None:
                line += f"  [{self.ci[0, i]:+.5f}, {self.ci[1, i]:+.5f}]"
            lines.append(line)
        if self.exaggeration is not None:
            lines.append(f"exaggeration factor {self.exaggeration:.3g} (0 is truthful)")
        return add_warnings(lines, self.warnings)
