"""What the registry holds of each operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from fusion._operator import Operator
from fusion._resilience import Coefficient, Resilience


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
    accepts_weights : bool
        Whether specialists can be given different weights.
    differentiable : bool
        Whether tensors that require gradients get them.
    domain : str
        ``"real"``, ``"probabilities"`` or ``"scores"``.
    reference : str
        Where it was defined.
    peers : mapping of str to str
        The operator's name in other libraries.
    variants : tuple of mapping
        Parameter sets beside the default that tests run too.
    kind : str
        ``"rule"``: fuses; ``"pre-aggregator"``: turns a panel into another one.
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
    accepts_weights: bool = True
    differentiable: bool = True
    domain: str = "real"
    reference: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[Mapping[str, Any], ...] = ()
    kind: str = "rule"

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
