"""One row per operator: tests, the README's table, the benchmark, the audit and `get_operator` read it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from fusion import _resilience as certificates
from fusion._operator import Operator
from fusion._resilience import Coefficient, Resilience
from theory._exceptions import PanelError


@dataclass(frozen=True)
class Row:
    """What is known of an operator.

    Attributes
    ----------
    name : str
        The name for `get_operator`, and of the function in `fusion`.
    stage : str
        ``"early"``, ``"mid"``, ``"late"`` or ``"deliberative"``.
    home : str
        Module and class, as in ``"fusion.late.order:Median"``.
    needs : str
        Fewest specialists, in words.
    breakdown : str
        Share of specialists that may be arbitrary.
    certificate : str
        Resilience coefficient, in words.
    kappa : callable
        ``kappa(n, n_byzantine, **params)`` gives a `Resilience`.
    equivariances : frozenset of str
        Of translation, scale, positive_scale, rotation, reflection, outputs (each output by itself).
    cost : str
        Over one pass through the panel.
    scopes : tuple of str
        ``"sample"``, or also ``"batch"``.
    returns_weights : bool
        Whether the fused answer is ``weights @ panel``.
    coordinatewise : bool
        Whether outputs are fused one by one.
    takes_budget : bool
        Whether there is a parameter `n_byzantine`.
    domain : str
        ``"real"``, ``"probabilities"`` or ``"scores"``.
    reference : str
        Where it was defined.
    peers : mapping of str to str
        The operator's name in other libraries.
    variants : tuple of mapping
        Parameter sets beside the default that tests run too.
    """

    name: str
    stage: str
    home: str
    needs: str
    breakdown: str
    certificate: str
    kappa: Coefficient
    equivariances: frozenset[str]
    cost: str
    scopes: tuple[str, ...] = ("sample",)
    returns_weights: bool = False
    coordinatewise: bool = False
    takes_budget: bool = False
    domain: str = "real"
    reference: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[Mapping[str, Any], ...] = ()

    @property
    def operator(self) -> type[Operator]:
        """The class."""
        module, name = self.home.split(":")
        found: type[Operator] = getattr(import_module(module), name)
        return found

    @property
    def function(self) -> Callable[..., Any]:
        """The function of the same name."""
        found: Callable[..., Any] = getattr(import_module(self.home.split(":")[0]), self.name)
        return found

    def minimum(self, n_byzantine: int, **params: Any) -> int:
        """Give the fewest specialists for `n_byzantine` liars.

        Parameters
        ----------
        n_byzantine : int
            How many may be wrong in any way (papers write f).
        **params : object
            Parameters of the operator.

        Returns
        -------
        int
        """
        return self.operator(**params).minimum(n_byzantine)

    def resilience(self, n: int, n_byzantine: int, **params: Any) -> Resilience:
        """Give the resilience coefficient.

        Parameters
        ----------
        n : int
            Number of specialists.
        n_byzantine : int
            How many may be wrong in any way (papers write f).
        **params : object
            Parameters of the operator; those that do not matter are ignored.

        Returns
        -------
        Resilience
        """
        names = self.kappa.__code__.co_varnames[
            : self.kappa.__code__.co_argcount + self.kappa.__code__.co_kwonlyargcount
        ]
        return self.kappa(n, n_byzantine, **{key: value for key, value in params.items() if key in names})


_LINEAR = frozenset({"translation", "scale", "rotation", "reflection", "outputs"})
_ORDER = frozenset({"translation", "scale", "reflection", "outputs"})
_DISTANCE = frozenset({"translation", "scale", "rotation", "reflection"})

_ROWS = (
    Row(
        name="mean",
        stage="late",
        home="fusion.late.pools:Mean",
        needs="1",
        breakdown="0",
        certificate="none",
        kappa=certificates.no_resilience,
        equivariances=_LINEAR,
        cost="1 pass",
        returns_weights=True,
        coordinatewise=True,
        reference="Stone 1961",
        peers={"numpy": "mean", "scikit-learn": "VotingRegressor", "flower": "FedAvg"},
    ),
    Row(
        name="linear_pool",
        stage="late",
        home="fusion.late.pools:LinearPool",
        needs="1",
        breakdown="0",
        certificate="none",
        kappa=certificates.no_resilience,
        equivariances=_LINEAR,
        cost="1 pass",
        returns_weights=True,
        coordinatewise=True,
        reference="Stone 1961",
        peers={"scikit-learn": "VotingClassifier(voting='soft')"},
    ),
    Row(
        name="log_pool",
        stage="late",
        home="fusion.late.pools:LogPool",
        needs="1",
        breakdown="0",
        certificate="none",
        kappa=certificates.unknown_resilience,
        equivariances=frozenset(),
        cost="2 passes",
        coordinatewise=True,
        domain="probabilities",
        reference="Genest & Zidek 1986",
        variants=({"sharpness": 2.0, "floor": 1e-3},),
    ),
    Row(
        name="median",
        stage="late",
        home="fusion.late.order:Median",
        needs="1",
        breakdown="1/2",
        certificate="m/(N-m), m=(n-1)//2",
        kappa=certificates.median_resilience,
        equivariances=_ORDER,
        cost="network",
        coordinatewise=True,
        reference="Yin 2018",
        peers={"numpy": "median", "byzfl": "Median", "flower": "FedMedian"},
    ),
    Row(
        name="trimmed_mean",
        stage="late",
        home="fusion.late.order:TrimmedMean",
        needs="2f+1",
        breakdown="f/n",
        certificate="f/(n-2f)",
        kappa=certificates.trimmed_mean_resilience,
        equivariances=_ORDER,
        cost="network",
        coordinatewise=True,
        takes_budget=True,
        reference="Yin 2018",
        peers={"scipy": "stats.trim_mean", "byzfl": "TrMean", "flower": "FedTrimmedAvg"},
    ),
    Row(
        name="krum",
        stage="late",
        home="fusion.late.distance:Krum",
        needs="2f+1, or 2f+3",
        breakdown="f/n",
        certificate="(√(2N)+√f)²/(n-2f)",
        kappa=certificates.krum_resilience,
        equivariances=_DISTANCE,
        cost="n/2 passes",
        scopes=("sample", "batch"),
        returns_weights=True,
        takes_budget=True,
        reference="Blanchard 2017",
        peers={"byzfl": "Krum", "flower": "Krum (n-f-2)"},
        variants=({"neighbors": "n-f-2"},),
    ),
    Row(
        name="multi_krum",
        stage="late",
        home="fusion.late.distance:MultiKrum",
        needs="2f+1, or 2f+3",
        breakdown="f/n",
        certificate="f/N² (√t+(√(nN)+f)/√t)², t=n-2f",
        kappa=certificates.multi_krum_resilience,
        equivariances=_DISTANCE,
        cost="n/2 passes",
        scopes=("sample", "batch"),
        returns_weights=True,
        takes_budget=True,
        reference="Blanchard 2017",
        peers={"byzfl": "MultiKrum", "flower": "MultiKrum (n-f-2)"},
        variants=({"m": 2}, {"neighbors": "n-f-2"}),
    ),
    Row(
        name="geometric_median",
        stage="late",
        home="fusion.late.geometric:GeometricMedian",
        needs="1",
        breakdown="1/2",
        certificate="h/(N-h), h=n//2",
        kappa=certificates.geometric_median_resilience,
        equivariances=_DISTANCE,
        cost="n/2 passes and steps",
        scopes=("sample", "batch"),
        returns_weights=True,
        reference="Vardi & Zhang 2000; Pillutla 2022",
        peers={"byzfl": "GeometricMedian (3 steps)", "geom_median": "compute_geometric_median"},
    ),
    Row(
        name="plurality_vote",
        stage="late",
        home="fusion.late.votes:PluralityVote",
        needs="1",
        breakdown="by margin",
        certificate="none",
        kappa=certificates.unknown_resilience,
        equivariances=frozenset(),
        cost="1 pass",
        # Its weights are those of the ballots, not of the scores.
        returns_weights=False,
        domain="scores",
        reference="Nitzan & Paroush 1982",
        peers={"scikit-learn": "VotingClassifier(voting='hard')", "crowd-kit": "MajorityVote"},
    ),
)
_BY_NAME = {row.name: row for row in _ROWS}


def operator_names(stage: str | None = None) -> tuple[str, ...]:
    """Name the operators.

    Parameters
    ----------
    stage : str, optional
        Only those of one stage.

    Returns
    -------
    tuple of str
        In the order of the registry.

    Examples
    --------
    >>> "krum" in operator_names("late")
    True
    """
    return tuple(row.name for row in _ROWS if stage is None or row.stage == stage)


def operator_row(name: str) -> Row:
    """Give the registry row of an operator.

    Parameters
    ----------
    name : str
        One of `operator_names`.

    Returns
    -------
    Row

    Raises
    ------
    PanelError
        If there is no such operator.

    Examples
    --------
    >>> operator_row("trimmed_mean").resilience(10, 3).value
    0.75
    """
    if name not in _BY_NAME:
        raise PanelError(f"there is no operator {name!r}. Use one of {', '.join(_BY_NAME)}.")
    return _BY_NAME[name]


def get_operator(operator: str | Operator, **params: Any) -> Operator:
    """Give an operator by its name.

    Parameters
    ----------
    operator : str or Operator
        One of `operator_names`, or an operator, which passes through (as a copy if there are `params`).
    **params : object
        Parameters to set.

    Returns
    -------
    Operator

    Raises
    ------
    PanelError
        If the name or a parameter is unknown.

    Examples
    --------
    >>> get_operator("krum", n_byzantine=2)
    Krum(n_byzantine=2, neighbors='n-f-1', scope='sample')
    """
    if isinstance(operator, Operator):
        return copy.copy(operator).set_params(**params) if params else operator
    if not isinstance(operator, str):
        raise PanelError(
            f"an operator is a name or a fusion.Operator; got {operator!r}. Names: {', '.join(_BY_NAME)}."
        )
    return operator_row(operator).operator().set_params(**params)


def operator_table() -> str:
    """Print the registry as a markdown table.

    Returns
    -------
    str
        One line per operator.

    Examples
    --------
    >>> operator_table().splitlines()[0]
    '| operator | needs | breakdown | certified κ | weights | scope | cost | reference |'
    """
    lines = [
        "| operator | needs | breakdown | certified κ | weights | scope | cost | reference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.name}` | {row.needs} | {row.breakdown} | {row.certificate} | "
        f"{'weights' if row.returns_weights else 'support'} | {', '.join(row.scopes)} | {row.cost} | {row.reference} |"
        for row in _ROWS
    ]
    return "\n".join(lines)
