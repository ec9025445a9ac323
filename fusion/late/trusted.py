"""FLTrust: every specialist weighed by how far it points the way of a trusted one."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats
from fusion._faults import Rule, Unclean
from fusion._operator import Operator
from fusion._run import is_differentiable, ordered_sum, run, weigh
from fusion.late._about import lengths, products, row_sums
from fusion.late._choices import not_finite
from fusion.late._coordinates import blocks, widened
from theory._exceptions import BudgetError, FaultWarning, PanelError
from theory.panel import as_panel


def fltrust(
    panel: Any,
    *,
    pivot: int | str = 0,
    weights: Any = None,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average directions by their cosine with a trusted specialist's, at that one's length (FLTrust).

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said; updates or other vectors whose direction from 0 has a meaning.
    pivot : int or str, default 0
        The trusted specialist: its place, or its name. It sets length and direction and is not averaged.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist; multiplies its cosine.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault (the trusted specialist and one more suffice), NaN is an abstention, or
        an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults, or nobody who points the trusted way, raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype; sums are taken in float64.

    Raises
    ------
    BudgetError
        If fewer than two specialists are left, the trusted one is faulty, or no other one has a positive
        cosine with it.
    PanelError
        If the panel, the weights or the pivot cannot be read.

    Notes
    -----
    NaN is never averaged. With T_i = max(0, cos(x_i, x_0)) the answer is |x_0| times the T-weighted mean of
    x_i / |x_i|; a zero row has no direction and T = 0. Its weights T_i |x_0| / (|x_i| sum T) need not sum to 1;
    the support gives T_i / sum T. There is no certificate.

    References
    ----------
    Cao, Fang, Liu, Gong (2021), FLTrust: Byzantine-robust federated learning via trust bootstrapping,
    equations 2-5.

    Examples
    --------
    >>> fltrust([[2.0, 0.0], [5.0, 0.0], [0.0, 9.0], [-7.0, 0.0]])
    array([2., 0.])
    """
    return FLTrust(pivot=pivot)(panel, weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class FLTrust(Operator):
    """Trust by direction; see `fltrust`.

    Parameters
    ----------
    pivot : int or str, default 0
        The trusted specialist: its place, or its name.

    Examples
    --------
    >>> FLTrust().support([[2.0, 0.0], [5.0, 0.0], [0.0, 9.0], [-7.0, 0.0]])
    array([0., 1., 0., 0.])
    """

    name: ClassVar[str] = "fltrust"
    pivot: int | str = 0

    def _rule(self) -> Rule:
        return _fltrust_rule(self.pivot, "raise")

    def _run(self, panel: Any, what: Any, weights: Any, missing: str, excess: str) -> Any:
        values, _ = as_panel(panel.detach() if is_differentiable(panel) else panel)
        # An empty panel is asked about one sample of zeros, which point nowhere.
        rule = _fltrust_rule(self.pivot, excess if values.size else "nothing")
        return run(panel, rule, what, weights=weights, missing=missing, excess=excess)


def _fltrust_rule(pivot: Any, excess: str) -> Rule:
    if isinstance(pivot, bool) or not isinstance(pivot, int | np.integer | str):
        raise PanelError(f"pivot must be the place or the name of a specialist; got {pivot!r}. Use 0.")

    def trust(rows: NDArray[Any], alpha: Floats | None) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Give shares, a quarter of the lengths, and what is not finite."""
        found = products(rows)
        if found is not None:
            long = 0.25 * np.sqrt(found[0])
            cosine = found[1] / (16.0 * long * long[:, :1])
        else:
            long = lengths(rows, None)
            cosine = np.zeros(long.shape)
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                for part, columns in blocks(rows.shape):
                    unit = _units(rows[part, :, columns], long[part])
                    cosine[part] += row_sums(unit * unit[:, :1])
        unclean = not_finite(long)
        shares = np.clip(cosine, 0.0, 1.0) * (1.0 if alpha is None else alpha)
        shares[:, 0] = 0.0
        total = ordered_sum(shares, 1)
        void = ~unclean & ~(total > 0.0)
        if void.any():
            says = f"fltrust: nobody points the way of the trusted specialist in {int(void.sum())} samples"
            if excess == "raise":
                raise BudgetError(f"{says}. Choose another pivot, or use excess='nan'.")
            if excess == "nan":
                warnings.warn(f"{says}; they are NaN.", FaultWarning, stacklevel=8)
        with np.errstate(invalid="ignore", divide="ignore"):
            return shares / total[:, None], long, unclean

    def lengthened(shares: Floats, long: Floats) -> Floats:
        """Give the weights of the rows as they are, not of their directions."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return np.where(shares == 0.0, 0.0, shares * (long[:, :1] / long))

    def fuse(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        shares, long, unclean = trust(rows, alpha)
        out, lost = weigh(rows, lengthened(shares, long), divided=False)
        if not (lost & ~unclean).any():
            return out, unclean
        # Weights or parts of the sum left the range of the panel's numbers.
        for part, columns in blocks(rows.shape):
            with np.errstate(invalid="ignore", over="ignore"):
                unit = _units(rows[part, :, columns], long[part])
                way = ordered_sum(shares[part, :, None] * unit, 1)
                # Four times a quarter of the length: the quarter is finite for every finite row.
                out[part, columns] = 4.0 * (long[part, :1] * way)
        return out, unclean

    def weights(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        shares, long, unclean = trust(rows, alpha)
        return lengthened(shares, long), unclean

    def share(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        shares, _, unclean = trust(rows, alpha)
        return np.broadcast_to(shares[:, :, None], rows.shape).copy(), unclean

    return Rule(
        name="fltrust",
        minimum=lambda f: 2,
        withstands=lambda n: max(n - 2, 0),
        fuse=fuse,
        weigh=weights,
        share=share,
        gradient="twin",
        twin=("fltrust", {"pivot": int(pivot)}) if _is_place(pivot) else None,
        pivot=pivot if isinstance(pivot, str) else int(pivot),
    )


def _is_place(pivot: Any) -> bool:
    """Whether a pivot is a place; tensors name their specialists by their places."""
    return not isinstance(pivot, str) or pivot.isdecimal()


def _units(rows: NDArray[Any], long: Floats) -> NDArray[Any]:
    """Directions of the rows; 0 for a row of length 0."""
    scale = np.where(long > 0.0, long, 1.0)[:, :, None]
    return 0.25 * widened(rows) / scale
