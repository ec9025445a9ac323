"""The terms of a pricing that every game shares, and the assembly of its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import read_groups
from theory._exceptions import PanelError
from theory.pricing.result import Prices

Floats = NDArray[np.float64]
_FITTED = (
    "errors on samples that specialists were fitted on make every price too high; pass cross_fitted=True "
    "once they are out-of-sample errors"
)


@dataclass(frozen=True)
class Terms:
    """Semivalue, quorum, interval and naming, as checked by `price`."""

    rule: str
    beta: tuple[float, float] | None
    quorum: int
    quantile: float
    per_sample: bool
    cross_fitted: bool
    names: tuple[str, ...] | None
    errors_wanted: bool = True

    def named(self, found: tuple[str, ...]) -> tuple[str, ...]:
        """Names given by the caller, else those found in the data."""
        if self.names is None:
            return found
        if len(self.names) != len(found):
            raise PanelError(f"names must be one per specialist ({len(found)}); got {len(self.names)}.")
        return self.names

    def reminder(self) -> tuple[str, ...]:
        """Say that fitted errors cannot be told from honest ones."""
        return () if self.cross_fitted else (_FITTED,)

    def check_quorum(self, n_specialists: int) -> None:
        """Refuse a quorum that the full panel misses."""
        if self.quorum > n_specialists:
            raise PanelError(
                f"quorum={self.quorum} is more than the {n_specialists} specialists: the panel would never "
                f"speak. Lower it to at most {n_specialists}."
            )


def read_v0_needed(v0: Any) -> float:
    """Read the loss of the empty panel as one number."""
    if v0 is None or isinstance(v0, str):
        raise PanelError(
            "give v0, the loss of the empty panel (prior variance, incumbent, chance): it shifts every price."
        )
    if np.ndim(v0) != 0 or not np.isfinite(v0):
        raise PanelError(f"v0 must be one finite number here; got {v0!r}. An array needs errors by sample.")
    return float(v0)


def read_v0(v0: Any, n: int) -> Floats:
    """Read the loss of the empty panel on every sample, shape (sample,)."""
    if v0 is None or isinstance(v0, str):
        read_v0_needed(v0)
    values = np.asarray(v0, dtype=np.float64)
    if values.shape not in ((), (n,)) or not np.isfinite(values).all():
        raise PanelError(f"v0 must be a finite number, or one per sample ({n}); got shape {values.shape}.")
    return np.broadcast_to(values, (n,))


def squared_deviations(table: Floats, groups: ArrayLike | None) -> Floats:
    """Sum of squared deviations of the per-sample prices, or of their sums within groups."""
    n = len(table)
    centred = table - table.mean(axis=0)
    codes = read_groups(groups, n)
    if codes is None:
        return np.asarray(np.einsum("ni,ni->i", centred, centred))
    g = int(codes.max()) + 1
    sums = np.zeros((g, table.shape[1]))
    np.add.at(sums, codes, centred)
    # Scaled so that dividing by n (n - 1) below gives the usual g / (g - 1) correction.
    return np.asarray((sums**2).sum(axis=0) * (g / (g - 1)) * ((n - 1) / n))


def mean_and_deviation(table: Floats, groups: ArrayLike | None, terms: Terms) -> tuple[Floats, Floats | None]:
    """Mean prices and, where standard errors are wanted, their squared deviations."""
    return table.mean(axis=0), squared_deviations(table, groups) if terms.errors_wanted else None


def assemble(
    terms: Terms,
    names: tuple[str, ...],
    game: str,
    value: Floats,
    total: float,
    v0: float,
    *,
    deviation: Floats | None = None,
    n: int | None = None,
    order_se: Floats | None = None,
    **more: Any,
) -> Prices:
    """Build the result: standard errors, interval, residual."""
    se = None
    warnings: tuple[str, ...] = more.pop("warnings", ())
    if deviation is not None and n is not None:
        if n > 1:
            se = np.sqrt(deviation / (n * (n - 1.0)))
        else:
            warnings += ("one sample: no standard error",)
    if order_se is not None:
        se = order_se if se is None else np.sqrt(se**2 + order_se**2)
    ci = None if se is None else np.stack([value - terms.quantile * se, value + terms.quantile * se])
    return Prices(
        value=value,
        se=se,
        ci=ci,
        names=names,
        rule=terms.rule,
        game=game,
        v0=v0,
        total=total,
        residual=total - float(value.sum()),
        n=n,
        warnings=warnings,
        **more,
    )
