"""Rows of the pre-aggregators, and the row that a chain puts together from those of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from fusion import _resilience as certificates
from fusion._resilience import NOTHING, Resilience
from fusion._row import Row

if TYPE_CHECKING:
    from fusion._compose import Chain

_ALL = frozenset({"translation", "scale", "rotation", "reflection"})


def mixed_resilience(n: int, n_byzantine: int, *, inner: Resilience = NOTHING) -> Resilience:
    """Give 8f/(n-f) (kappa + 1) for a rule with coefficient kappa behind nearest-neighbour mixing."""
    if not isfinite(inner.value) or 2 * n_byzantine >= n:
        return NOTHING
    if n_byzantine == 0:
        return inner
    return Resilience(8.0 * n_byzantine / (n - n_byzantine) * (inner.value + 1.0), "bound")


def clipped_resilience(n: int, n_byzantine: int, *, inner: Resilience = NOTHING) -> Resilience:
    """Give kappa + 2f/(n-2f) for a rule with coefficient kappa behind adaptive clipping."""
    if not isfinite(inner.value) or 2 * n_byzantine >= n:
        return NOTHING
    if n_byzantine == 0:
        return inner
    return Resilience(inner.value + 2.0 * n_byzantine / (n - 2 * n_byzantine), "literature")


PRE_AGGREGATOR_ROWS = (
    Row(
        name="nearest_neighbor_mixing",
        stage="late",
        kind="pre-aggregator",
        home="fusion.late.preaggregation:NearestNeighborMixing",
        needs="2f+1",
        breakdown="the rule's",
        certificate="8f/(n-f) (κ+1)",
        kappa=mixed_resilience,
        equivariances=_ALL,
        cost="n/2 passes, n for the panel",
        scopes=("sample", "batch"),
        returns_weights=True,
        takes_budget=True,
        reference="Allouah 2023",
        peers={"byzfl": "NNM", "byzpy": "NearestNeighborMixing"},
    ),
    Row(
        name="bucketing",
        stage="late",
        kind="pre-aggregator",
        home="fusion.late.preaggregation:Bucketing",
        needs="size (k-1) + 1 for a rule that needs k",
        breakdown="the rule's of n/size",
        certificate="none",
        kappa=certificates.unknown_resilience,
        equivariances=_ALL | {"outputs"},
        cost="1 pass",
        returns_weights=True,
        reference="Karimireddy 2022",
        peers={"byzfl": "Bucketing"},
        variants=({"size": 3},),
    ),
    Row(
        name="clip_norms",
        stage="late",
        kind="pre-aggregator",
        home="fusion.late.preaggregation:ClipNorms",
        needs="1",
        breakdown="the rule's",
        certificate="none",
        kappa=certificates.unknown_resilience,
        equivariances=frozenset({"rotation", "reflection"}),
        cost="2 passes",
        scopes=("sample", "batch"),
        returns_weights=True,
        reference="Karimireddy 2021",
        peers={"byzfl": "Clipping"},
        variants=({"radius": 2.5},),
    ),
    Row(
        name="adaptive_clipping",
        stage="late",
        kind="pre-aggregator",
        home="fusion.late.preaggregation:AdaptiveClipping",
        needs="2f+1",
        breakdown="the rule's",
        certificate="κ+2f/(n-2f)",
        kappa=clipped_resilience,
        equivariances=frozenset({"scale", "rotation", "reflection"}),
        cost="2 passes",
        scopes=("sample", "batch"),
        returns_weights=True,
        takes_budget=True,
        reference="Allouah 2025",
        peers={"byzfl": "ARC"},
    ),
)
_BY_NAME = {row.name: row for row in PRE_AGGREGATOR_ROWS}


@dataclass(frozen=True)
class ChainRow(Row):
    """The row of a chain.

    Attributes
    ----------
    build : callable
        Gives the chain.
    """

    build: Callable[..., Chain] = field(kw_only=True)

    @property
    def operator(self) -> Any:
        """What builds the chain."""
        return self.build

    @property
    def function(self) -> Callable[..., Any]:
        """Fuses a panel; takes the parameters by their nested names."""

        def fuse(
            panel: Any, *, weights: Any = None, missing: str = "fault", excess: str = "raise", **params: Any
        ) -> Any:
            return self.build(**params)(panel, weights=weights, missing=missing, excess=excess)

        return fuse


def chain_row(chain: Chain) -> Row:
    """Put together the row of a chain.

    Parameters
    ----------
    chain : Chain
        Pre-aggregators and a rule.

    Returns
    -------
    Row
        With the resilience coefficient of the parts behind each other: from the rule outwards, each
        pre-aggregator turns the coefficient of what is behind it into that of both.
    """
    parts = [_BY_NAME[part.name] for part in chain.flat()]
    last = chain.rule.row
    params = {key: value for key, value in chain.rule.get_params().items() if key != "n_byzantine"}
    budgeted = last.takes_budget or any(row.takes_budget for row in parts)
    equivariances = last.equivariances
    for row in parts:
        equivariances = equivariances & row.equivariances

    def kappa(n: int, n_byzantine: int) -> Resilience:
        sizes = [n]
        for stage in chain.mixings():
            sizes.append(stage.count(sizes[-1]))
        # A rule behind buckets sees fewer rows, and nothing is promised there.
        found = last.resilience(sizes[-1], n_byzantine, **params)
        for row, size in zip(reversed(parts), reversed(sizes[:-1]), strict=True):
            found = row.resilience(size, n_byzantine, inner=found)
        return found

    return ChainRow(
        name=chain.name,
        stage="late",
        home="fusion._compose:Chain",
        needs=", ".join(row.needs for row in (*parts, last)),
        breakdown=last.breakdown,
        certificate=" of ".join(row.certificate for row in (*parts, last)),
        kappa=kappa,
        equivariances=equivariances,
        cost=" + ".join(row.cost for row in (*parts, last)),
        scopes=tuple(scope for scope in last.scopes if last.coordinatewise or scope == chain.scope),
        returns_weights=last.returns_weights and not last.coordinatewise,
        coordinatewise=False,
        takes_budget=budgeted,
        accepts_weights=last.accepts_weights,
        differentiable=last.differentiable,
        domain=last.domain,
        reference="; ".join(row.reference for row in (*parts, last)),
        build=lambda **params: chain.copy().set_params(**params),
    )
