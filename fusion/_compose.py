"""Pre-aggregators in front of rules: their base class, chains, and the way of a panel through them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, read_budget
from fusion._faults import Rule, Unclean
from fusion._mixing import Mixing, apply_mixing, in_range, mix_rows
from fusion._operator import Operator, Parameters
from fusion._run import combine, is_differentiable, run
from theory._exceptions import PanelError

if TYPE_CHECKING:
    from fusion._row import Row

# Distances and mixed rows of this many numbers are held beside the panel.
_BLOCK = 200_000


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


def join_budgets(name: str, budgets: list[Any]) -> tuple[Any, list[int]]:
    """Give the budget of a chain, and by how much each of its parts' exceeds it."""
    if not budgets:
        return None, []
    for budget in budgets:
        if isinstance(budget, int | np.integer):
            read_budget(budget, None)
    if all(budget == budgets[0] and not isinstance(budget, bool) for budget in budgets):
        return budgets[0], [0] * len(budgets)
    if not all(isinstance(budget, int | np.integer) and not isinstance(budget, bool) for budget in budgets):
        raise PanelError(
            f"the parts of {name} have n_byzantine {', '.join(map(repr, budgets))}. Give all the same share, "
            "or numbers: set_params(n_byzantine=...) sets them at once."
        )
    least = min(int(budget) for budget in budgets)
    return least, [int(budget) - least for budget in budgets]


def joint_scope(name: str, stages: tuple[Mixing, ...], rule: Rule | None) -> str:
    scopes = {stage.scope for stage in stages if stage.scope is not None}
    if rule is not None and not rule.coordinatewise:
        scopes.add(rule.scope)
    if len(scopes) > 1:
        raise PanelError(
            f"the parts of {name} differ in scope. Set scope='batch' or 'sample' in all of them."
        )
    return scopes.pop() if scopes else "sample"


def joint_center(name: str, stages: tuple[Mixing, ...]) -> Floats | None:
    centers = [stage.center for stage in stages if stage.center is not None]
    if any(not np.array_equal(center, centers[0]) for center in centers):
        raise PanelError(f"the clipping parts of {name} have different centers. Give all the same.")
    return centers[0] if centers else None


def spread_center(center: Floats | None, d: int) -> Floats | None:
    """Repeat the centre over the outputs, and over the samples where these stand side by side."""
    if center is None:
        return None
    if d % max(center.size, 1):
        raise PanelError(
            f"center has {center.size} numbers; the panel has {d} outputs. Give one for each, or one."
        )
    return np.full(d, center.item()) if center.size == 1 else np.tile(center, d // center.size)


def chain_rule(name: str, stages: tuple[Mixing, ...], rule: Rule) -> Rule:
    """Put the mixing of several stages in front of a rule's cores.

    Parameters
    ----------
    name : str
        Of the chain.
    stages : tuple of Mixing
        The first one is applied first.
    rule : Rule
        The rule behind them.

    Returns
    -------
    Rule
        Its cores see the specialists, and answer for the specialists.
    """
    budgets = [stage.n_byzantine for stage in stages if stage.n_byzantine is not None]
    budgets += [rule.n_byzantine] if rule.takes_budget else []
    budget, extra = join_budgets(name, budgets)
    if rule.pivot is not None and any(stage.needs == "nothing" for stage in stages):
        raise PanelError(
            f"{rule.name} trusts one specialist, which {name} mixes away. Leave the buckets out."
        )
    center = joint_center(name, stages)
    rest = iter(extra)
    ahead = [next(rest) if stage.n_byzantine is not None else 0 for stage in stages]
    last = next(rest) if rule.takes_budget else 0

    def minimum(f: int) -> int:
        needed = rule.minimum(f + last if rule.takes_budget else f)
        for stage, more in zip(reversed(stages), reversed(ahead), strict=True):
            needed = stage.minimum(f + more, needed)
        return needed

    def withstands(n: int) -> int:
        for stage in stages:
            n = stage.count(n)
        return rule.withstands(n)

    def mixed(
        rows: NDArray[Any], f: int, alpha: Floats | None
    ) -> tuple[Floats, Floats | None, Callable[[], NDArray[Any]]]:
        middle = spread_center(center, rows.shape[2])
        return mix_rows(rows, stages, tuple(f + more for more in ahead), alpha, middle)

    def weigh_block(rows: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
        matrix, beta, seen = mixed(rows, f, alpha)
        assert rule.weigh is not None
        ours = np.ascontiguousarray(seen())
        weights, marks = rule.weigh(ours, f + last, beta)
        bad = np.flatnonzero(np.zeros(0) if marks is None or not rule.euclidean else marks)
        if bad.size:
            # What a rule on distances cannot square, it is given at another scale.
            part = beta if beta is None or len(beta) == 1 else beta[bad]
            weights[bad] = rule.weigh(in_range(ours[bad]), f + last, part)[0]
        found: NDArray[Any] = np.matmul(weights[:, None], matrix)[:, 0]
        return found

    def columns(d: int, n_samples: int, n: int) -> range:
        # Outputs that are fused one by one need no more of the mixed panel at once.
        return range(0, d, max(1, _BLOCK // (n_samples * n)) if rule.coordinatewise else d)

    def fuse_block(rows: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
        matrix, beta, _ = mixed(rows, f, alpha)
        assert rule.fuse is not None
        middle = spread_center(center, rows.shape[2])
        steps = columns(rows.shape[2], *rows.shape[:2])
        parts = []
        for start in steps:
            some = slice(start, start + steps.step)
            about = None if middle is None else middle[some]
            parts.append(rule.fuse(apply_mixing(matrix, rows[:, :, some], about), f + last, beta)[0])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def share_block(rows: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
        matrix, beta, _ = mixed(rows, f, alpha)
        assert rule.share is not None
        ours = apply_mixing(matrix, rows, spread_center(center, rows.shape[2]))
        shares, _ = rule.share(ours, f + last, beta)
        found: NDArray[Any] = np.matmul(matrix.transpose(0, 2, 1), shares)
        return found

    def combine_block(rows: NDArray[Any], f: int, alpha: Floats | None) -> NDArray[Any]:
        weights = weigh_block(rows, f, alpha)
        total = weights.sum(axis=1)
        fused = np.where(
            total[:, None] == 0.0, 0.0, combine(rows, np.where(total[:, None] == 0.0, 1.0, weights))
        )
        wide = fused * total[:, None]
        middle = spread_center(center, rows.shape[2])
        assert middle is not None
        result: NDArray[Any] = (wide + (1.0 - total[:, None]) * middle).astype(rows.dtype)
        return result

    fuse = fuse_block if rule.fuse is not None else combine_block if center is not None else None
    return replace(
        rule,
        name=name,
        minimum=minimum,
        n_byzantine=budget,
        withstands=withstands,
        fuse=None if fuse is None else _in_blocks(fuse),
        weigh=None if rule.weigh is None else _in_blocks(weigh_block),
        share=None if rule.share is None else _in_blocks(share_block),
        coordinatewise=False,
        euclidean=False,
        signed=False,
        scope=joint_scope(name, stages, rule),
        gradient="linear" if center is None and rule.gradient == "linear" else "none",
    )


def _in_blocks(block: Any) -> Any:
    def core(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        n_samples, n, d = rows.shape
        step = max(1, _BLOCK // (n * max(n, d)))
        parts, marks = [], []
        for start in range(0, n_samples, step):
            some = slice(start, start + step)
            shared = alpha is None or alpha.shape[0] == 1
            marks.append(~np.isfinite(rows[some]).all(axis=(1, 2)))
            with np.errstate(invalid="ignore", over="ignore"):
                parts.append(block(rows[some], f, alpha if shared or alpha is None else alpha[some]))
        return np.concatenate(parts), np.concatenate(marks)

    return core
