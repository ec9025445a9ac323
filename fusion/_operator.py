"""The class side of every rule: parameters that can be cloned, pickled and searched."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fusion._arguments import read_budget
from theory._exceptions import PanelError

if TYPE_CHECKING:
    from fusion._faults import Rule
    from fusion._row import Row


@dataclass(eq=False)
class Parameters:
    """What rules and pre-aggregators have in common: a name, and fields that can be read and set by name."""

    name: ClassVar[str] = ""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give the parameters by name, as scikit-learn's clone and grid search ask for them.

        Parameters
        ----------
        deep : bool, default True
            Accepted for scikit-learn's sake; only chains hold other operators.

        Returns
        -------
        dict
            Parameter name to value.
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Parameters
        ----------
        **params : object
            New values.

        Returns
        -------
        Operator or pre-aggregator
            The object itself.

        Raises
        ------
        PanelError
            If a name is unknown.
        """
        known = [field.name for field in fields(self)]
        for key, value in params.items():
            if key not in known:
                raise PanelError(
                    f"{type(self).__name__} has no parameter {key!r}; it has "
                    f"{', '.join(known) if known else 'none'}."
                )
            setattr(self, key, value)
        return self


@dataclass(eq=False)
class Operator(Parameters):
    """A fusion rule with its parameters.

    Attributes
    ----------
    name : str
        Name in the registry.
    stage : str
        ``"early"``, ``"mid"``, ``"late"`` or ``"deliberative"``.
    scope : str
        ``"sample"``: each sample for itself; ``"batch"``: one set of weights for all.
    """

    name: ClassVar[str] = ""
    stage: ClassVar[str] = "late"
    scope = "sample"

    def __call__(self, panel: Any, weights: Any = None, missing: str = "fault", excess: str = "raise") -> Any:
        """Fuse a panel.

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
        array of shape (..., output)
            In the panel's kind and dtype.
        """
        return self._run(panel, "fused", weights, missing, excess)

    def weights(self, panel: Any, weights: Any = None, missing: str = "fault", excess: str = "raise") -> Any:
        """Give the weights for which ``weights @ panel`` is the fused answer.

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
        array of shape (..., specialist)
            float64, or the dtype of a tensor.

        Raises
        ------
        PanelError
            If the rule fuses each output by itself and so has no such weights.
        """
        return self._run(panel, "weights", weights, missing, excess)

    def support(self, panel: Any, weights: Any = None, missing: str = "fault", excess: str = "raise") -> Any:
        """Say what each specialist weighed, averaged over the outputs.

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
        array of shape (..., specialist)
            Sums to 1.
        """
        return self._run(panel, "support", weights, missing, excess)

    def minimum(self, n_byzantine: int | None = None) -> int:
        """Give the fewest specialists the rule accepts.

        Parameters
        ----------
        n_byzantine : int, optional
            How many may be wrong in any way (papers write f); the rule's own budget unless given.

        Returns
        -------
        int

        Raises
        ------
        PanelError
            If the own budget is a share: it needs a panel to become a number.
        """
        own = getattr(self, "n_byzantine", 0) if n_byzantine is None else n_byzantine
        return self._rule().minimum(read_budget(own, None))

    @property
    def row(self) -> Row:
        """The registry row."""
        from fusion._registry import operator_row

        return operator_row(self.name)

    def _rule(self) -> Rule:
        raise PanelError(f"{type(self).__name__} is no rule by itself. Use one of fusion.operator_names().")

    def _run(self, panel: Any, what: Any, weights: Any, missing: str, excess: str) -> Any:
        from fusion._run import run

        return run(panel, self._rule(), what, weights=weights, missing=missing, excess=excess)
