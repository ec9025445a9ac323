"""Pre-aggregators in front of rules: their base class, chains, and the way of a panel through them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fusion._arguments import Floats
from fusion._chain import chain_rule
from fusion._faults import Rule
from fusion._mixing import Mixing
from fusion._operator import Operator, Parameters
from fusion._run import is_differentiable, run
from theory._exceptions import PanelError

if TYPE_CHECKING:
    from fusion._row import Row


@dataclass(eq=False)
class PreAggregator(Parameters):
    """What stands in front of a rule: it turns a panel into another panel.

    Attributes
    ----------
    name : str
        Name in the registry.
    """

    name: ClassVar[str] = ""
    stage: ClassVar[str] = "late"

    def __call__(self, panel: Any, weights: Any = None, missing: str = "fault", excess: str = "raise") -> Any:
        """Mix a panel.

        Parameters
        ----------
        panel : array-like of shape (..., specialist, output)
            What the specialists said.
        weights : array-like of shape (specialist,) or (..., specialist), optional
            Trust in each specialist.
        missing : {"fault", "abstain", "raise"}, default "fault"
            What a non-finite answer is.
        excess : {"raise", "nan"}, default "raise"
            What too many of them do.

        Returns
        -------
        array of shape (..., row, output)
            In the panel's kind and dtype; NaN where a specialist was absent.
        """
        from fusion._mixed_panel import run_mixing

        return run_mixing(panel, self._mixings(), weights=weights, missing=missing, excess=excess)

    def mixing(
        self, panel: Any, weights: Any = None, missing: str = "fault", excess: str = "raise"
    ) -> Floats:
        """Say which specialists each mixed row consists of.

        Parameters
        ----------
        panel : array-like of shape (..., specialist, output)
            What the specialists said.
        weights : array-like of shape (specialist,) or (..., specialist), optional
            Trust in each specialist.
        missing : {"fault", "abstain", "raise"}, default "fault"
            What a non-finite answer is.
        excess : {"raise", "nan"}, default "raise"
            What too many of them do.

        Returns
        -------
        ndarray of float64, shape (..., row, specialist)
            ``mixing @ panel`` is the mixed panel; rows of a clipping pre-aggregator leave the rest to its
            centre. Rows of absent specialists are 0.
        """
        from fusion._mixed_panel import mixing_matrices

        return mixing_matrices(panel, self._mixings(), weights=weights, missing=missing, excess=excess)

    def __rshift__(self, other: Any) -> Any:
        """Put this in front of a rule, a chain or another pre-aggregator."""
        if not isinstance(other, PreAggregator | Operator):
            return NotImplemented
        return _joined(self, other)

    def _mixings(self) -> tuple[Mixing, ...]:
        raise PanelError(
            f"{type(self).__name__} mixes nothing by itself. Use one of "
            'fusion.operator_names(kind="pre-aggregator").'
        )


@dataclass(eq=False)
class Sequence(PreAggregator):
    """Pre-aggregators one after the other.

    Parameters
    ----------
    pre : tuple of pre-aggregators
        The first one is applied first.
    """

    pre: tuple[PreAggregator, ...] = ()

    def _mixings(self) -> tuple[Mixing, ...]:
        return tuple(mixing for stage in self.pre for mixing in stage._mixings())


@dataclass(eq=False)
class Chain(Operator):
    """A rule behind pre-aggregators; made by `compose`.

    Parameters
    ----------
    pre : tuple of pre-aggregators
        The first one is applied first.
    rule : Operator
        Fuses what comes out of them.

    Attributes
    ----------
    name : str
        The names of the parts, joined by `` >> ``.
    """

    pre: tuple[PreAggregator, ...] = ()
    rule: Operator = field(default_factory=Operator)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The names of the parts, joined by `` >> ``."""
        return " >> ".join(part.name for part in (*self.pre, self.rule))

    @property
    def scope(self) -> str:  # type: ignore[override]
        """``"batch"`` if the parts choose once for all samples."""
        return self._rule().scope

    @property
    def n_byzantine(self) -> Any:
        """The smallest budget of the parts; 0 where none has one."""
        budget = self._rule().n_byzantine
        return 0 if budget is None else budget

    @property
    def row(self) -> Row:
        """A registry row put together from those of the parts."""
        from fusion._chain_row import chain_row

        return chain_row(self)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give the parameters by name.

        Parameters
        ----------
        deep : bool, default True
            Also those of the parts, as ``trimmed_mean__n_byzantine``; parts of the same name are numbered
            from the second on: ``nearest_neighbor_mixing_2__n_byzantine``.

        Returns
        -------
        dict
            Parameter name to value.
        """
        params: dict[str, Any] = {"pre": self.pre, "rule": self.rule}
        if deep:
            for prefix, part in self._parts().items():
                params |= {f"{prefix}__{key}": value for key, value in part.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Parameters
        ----------
        **params : object
            ``pre``, ``rule``, ``part__parameter``, or ``n_byzantine`` for all parts that have one.

        Returns
        -------
        Chain
            The chain itself; its parts are changed in place.

        Raises
        ------
        PanelError
            If a name is unknown.
        """
        for key in ("pre", "rule"):
            if key in params:
                setattr(self, key, params.pop(key))
        parts = self._parts()
        for key, value in params.items():
            prefix, _, inner = key.partition("__")
            if key == "n_byzantine":
                for part in parts.values():
                    if key in part.get_params():
                        part.set_params(n_byzantine=value)
            elif inner and prefix in parts:
                parts[prefix].set_params(**{inner: value})
            else:
                known = ", ".join(self.get_params())
                raise PanelError(f"the chain {self.name} has no parameter {key!r}; it has {known}.")
        return self

    def flat(self) -> tuple[PreAggregator, ...]:
        """Give the pre-aggregators, sequences taken apart."""
        return tuple(part for stage in self.pre for part in _flat(stage))

    def mixings(self) -> tuple[Mixing, ...]:
        """Give what the pre-aggregators do."""
        return tuple(mixing for part in self.pre for mixing in part._mixings())

    def copy(self) -> Chain:
        """Copy the chain and its parts."""
        return copy.deepcopy(self)

    def __copy__(self) -> Chain:
        """Copy the parts too: set_params on a copy must not change this chain's."""
        return copy.deepcopy(self)

    def _parts(self) -> dict[str, Parameters]:
        named: dict[str, Parameters] = {}
        for part in (*self.pre, self.rule):
            same = sum(other.name == part.name for other in named.values())
            named[part.name if not same else f"{part.name}_{same + 1}"] = part
        return named

    def _rule(self) -> Rule:
        return chain_rule(self.name, self.mixings(), self.rule._rule())

    def _run(self, panel: Any, what: Any, weights: Any, missing: str, excess: str) -> Any:
        own = type(self.rule)._run is not Operator._run
        inner = self.rule._rule()
        rule = self._rule()
        smooth = is_differentiable(panel) and what == "fused"
        if not own and not (smooth and (inner.gradient != "linear" or rule.gradient != "linear")):
            return run(panel, rule, what, weights=weights, missing=missing, excess=excess)
        from fusion._mixed_panel import run_through

        return run_through(self.pre, self.rule, panel, what, weights=weights, missing=missing, excess=excess)


def _flat(part: PreAggregator) -> tuple[PreAggregator, ...]:
    return (
        tuple(inner for stage in part.pre for inner in _flat(stage))
        if isinstance(part, Sequence)
        else (part,)
    )


def compose(*parts: Any) -> Chain:
    """Put pre-aggregators in front of a rule.

    Parameters
    ----------
    *parts : pre-aggregators, then one operator
        Each an object or a registry name. ``NearestNeighborMixing(2) >> TrimmedMean(2)`` does the same.

    Returns
    -------
    Operator
        Runs the pre-aggregators in the order given, then the rule. Its ``weights`` and ``support`` are those
        of the specialists themselves: w = A'w' for mixed rows A panel. Parameters have nested names, such
        as ``trimmed_mean__n_byzantine``; ``n_byzantine`` sets all budgets at once.

    Raises
    ------
    PanelError
        If the last part is no operator or another one is no pre-aggregator; when it is run, if budgets,
        scopes or centres of the parts do not fit together.

    Notes
    -----
    A non-finite answer is a fault of its specialist: it is removed before anything is mixed, and every
    budget in the chain shrinks by one. NaN never enters a mixture.

    For large panels only distances between specialists are computed, once; a chain of rules on distances
    then works on n numbers per specialist instead of all outputs.

    References
    ----------
    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan (2023), Fixing by mixing, algorithm 2.

    Examples
    --------
    >>> chain = compose("nearest_neighbor_mixing", "trimmed_mean").set_params(n_byzantine=1)
    >>> chain.name
    'nearest_neighbor_mixing >> trimmed_mean'
    >>> chain([[0.0], [1.0], [2.0], [90.0]])
    array([1.])
    """
    from fusion._registry import get_operator, get_pre_aggregator

    if not parts:
        raise PanelError("compose needs pre-aggregators and a rule; got nothing. Use compose('median').")
    *first, last = parts
    joined: Any = last if isinstance(last, PreAggregator) else get_operator(last)
    if not isinstance(joined, Operator):
        raise PanelError(
            f"the last part of a chain fuses; {joined.name} does not. Add a rule, such as 'median'."
        )
    for part in reversed(first):
        joined = _joined(get_pre_aggregator(part), joined)
    chain: Chain = joined if isinstance(joined, Chain) else Chain((), joined)
    return chain


def _joined(first: PreAggregator, other: PreAggregator | Operator) -> Sequence | Chain:
    pre = first.pre if isinstance(first, Sequence) else (first,)
    if isinstance(other, Chain):
        return Chain((*pre, *other.pre), other.rule)
    if isinstance(other, Operator):
        return Chain(pre, other)
    return Sequence((*pre, *(other.pre if isinstance(other, Sequence) else (other,))))
