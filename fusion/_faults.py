"""The fault policy: who is heard in which sample, and what a rule is then asked.

A rule's core sees only finite panels. It runs on everything at once and marks the samples it should not
have been given; only those are looked at again, grouped by how many specialists are left in them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, wraps
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, read_budget
from theory._exceptions import BudgetError, FaultWarning, PanelError

Rows = NDArray[Any]
Flags = NDArray[np.bool_]
Unclean = Flags | None
# Sample, and output where one output stands for itself.
Place = tuple[int, int | None]
# (rows (sample, specialist, output), n_byzantine, alpha (1 or sample, specialist) or None) -> result, unclean
Core = Callable[[Rows, int, Floats | None], tuple[Rows, Unclean]]
Kind = Literal["fused", "weights", "shares"]


@dataclass(frozen=True)
class Rule:
    """One call of a rule, as the fault policy sees it.

    Attributes
    ----------
    name : str
        Name in the registry.
    minimum : callable
        Fewest specialists as a function of the number of liars.
    most : int or None
        How many specialists are asked for, whatever the faults: a panel must have as many.
    n_byzantine : int, float or None
        As the user gave it; None where the rule takes none.
    withstands : callable
        For rules without `n_byzantine`: non-finite rows that n specialists can do without.
    fuse, weigh, share : Core or None
        Fused answers (sample, output); weights (sample, specialist); share of each specialist in each output.
    coordinatewise : bool
        Whether outputs are fused one by one, so that a partly missing row can be used.
    euclidean : bool
        Whether the rule depends on distances only, up to a common power of two.
    signed : bool
        Whether negative weights make sense.
    scope : str
        ``"sample"`` or ``"batch"``.
    gradient : str
        ``"linear"``: shares times answers; ``"newton"``: geometric median; ``"twin"``: that of the twin;
        ``"none"``: there is none.
    twin : (str, mapping) or None
        Function of `fusion._torch.twins` that is the rule on tensors, and its options.
    pivot : int, str or None
        A specialist that is trusted: place or name. The cores see it as row 0, and never without it.
    """

    name: str
    minimum: Callable[[int], int] = lambda f: 1
    n_byzantine: Any = None
    withstands: Callable[[int], int] = lambda n: 0
    fuse: Core | None = None
    weigh: Core | None = None
    share: Core | None = None
    coordinatewise: bool = False
    euclidean: bool = False
    signed: bool = False
    scope: str = "sample"
    gradient: str = "linear"
    twin: tuple[str, Mapping[str, Any]] | None = None
    pivot: int | str | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        # A rule that needs more specialists for more liars has a budget; None would mean to trust everyone.
        if self.n_byzantine is None and self.minimum(1000) > self.minimum(0):
            read_budget(None, None)

    @property
    def takes_budget(self) -> bool:
        """Whether the rule has a parameter `n_byzantine`."""
        return self.n_byzantine is not None


def cached_rule(make: Callable[..., Rule]) -> Callable[..., Rule]:
    """Keep the rules of the last parameters: a small panel is fused in the time it takes to make one."""
    kept = lru_cache(maxsize=64, typed=True)(make)

    @wraps(make)
    def rule(*parameters: Any) -> Rule:
        try:
            hash(parameters)
        except TypeError:
            return make(*parameters)
        return kept(*parameters)

    return rule


@dataclass(frozen=True)
class Call:
    """A panel of three axes and everything that decides who is heard in it."""

    rule: Rule
    values: Rows
    alpha: Floats | None
    n_byzantine: int
    names: tuple[str, ...]
    batch: tuple[int, ...]
    missing: str
    excess: str
    # Length of a fused row where it is not that of an answer.
    width: int | None = None

    def where(self, sample: int) -> str:
        """Say where a sample is, in the words of the batch shape."""
        if not self.batch or self.rule.scope == "batch":
            return "the panel"
        place = np.unravel_index(sample, self.batch)
        return f"sample {place[0]}" if len(place) == 1 else f"sample {tuple(int(i) for i in place)}"


def refuse_too_few(rule: Rule, f: int, n: int) -> None:
    """Raise when a rule is given fewer specialists than its budget needs."""
    needed = rule.minimum(f)
    if n >= needed:
        return
    lower = next((g for g in range(f - 1, -1, -1) if rule.minimum(g) <= n), None)
    way_out = "Add specialists" if lower is None else f"Lower n_byzantine to {lower}, or add a specialist"
    budget = f" with n_byzantine={f}" if rule.takes_budget else ""
    raise BudgetError(f"{rule.name}{budget} needs at least {needed} specialists; got {n}. {way_out}.")


def answer(call: Call, core: Core, kind: Kind) -> Rows:
    """Run a core under the fault policy.

    Parameters
    ----------
    call : Call
        The panel and the policy.
    core : callable
        What to run on finite panels.
    kind : {"fused", "weights", "shares"}
        Shape of the result: (sample, output), (sample, specialist) or (sample, specialist, output).

    Returns
    -------
    ndarray
        Zero for absent specialists; NaN for samples beyond the budget with ``excess="nan"``.

    Raises
    ------
    BudgetError, PanelError
        As the policy says.
    """
    n_samples, n, d = call.values.shape
    d = d if call.width is None else call.width
    alpha = call.alpha
    if call.rule.pivot is not None and call.rule.pivot != 0:
        return _pivot_first(call, core, kind)
    if call.rule.pivot == 0 and alpha is not None and not alpha[:, 0].all():
        raise PanelError(
            f"{call.rule.name} trusts specialist {call.names[0]!r}, whose weight is 0. Choose another pivot."
        )
    if alpha is not None and alpha.shape[0] == 1 and not alpha.all():
        kept = alpha[0] != 0.0
        names = tuple(name for name, keep in zip(call.names, kept, strict=True) if keep)
        values = np.ascontiguousarray(call.values[:, kept])
        result = answer(replace(call, values=values, alpha=_unequal(alpha[:, kept]), names=names), core, kind)
        if kind == "fused":
            return result
        full = np.zeros((n_samples, n, *result.shape[2:]), dtype=result.dtype)
        full[:, kept] = result
        return full
    refuse_too_few(call.rule, call.n_byzantine, n)
    if alpha is not None and not alpha.all():
        special = np.arange(n_samples)
        shape = {"fused": (n_samples, d), "weights": (n_samples, n), "shares": (n_samples, n, d)}[kind]
        dtype = call.values.dtype if kind == "fused" else np.dtype(np.float64)
        result = np.zeros(shape, dtype=dtype)
    else:
        result, unclean = core(call.values, call.n_byzantine, alpha)
        special = np.zeros(0, dtype=np.intp) if unclean is None else np.flatnonzero(unclean)
    # In slices: a panel with one liar in every sample would otherwise be held several times over.
    step = max(1, 2_000_000 // max(n * d, 1))
    lost = 0
    for start in range(0, special.size, step):
        rows = special[start : start + step]
        result[rows], beyond = _heard_again(call, core, kind, rows)
        lost += beyond
    if lost:
        warnings.warn(
            f"{call.rule.name}: {lost} of {n_samples} samples had more faults or absences than the budget "
            "allows; they are NaN.",
            FaultWarning,
            stacklevel=5,
        )
    return result


def _pivot_first(call: Call, core: Core, kind: Kind) -> Rows:
    """Answer with the trusted row in front, and put the specialists back in their places."""
    pivot, names = call.rule.pivot, call.names
    if isinstance(pivot, str):
        if pivot not in names:
            raise PanelError(f"{call.rule.name} trusts pivot={pivot!r}; the panel holds {names}.")
        pivot = names.index(pivot)
    if pivot is None or not 0 <= pivot < len(names):
        raise PanelError(
            f"{call.rule.name} trusts pivot={pivot!r}; it must be the place of a specialist, "
            f"0..{len(names) - 1}, or its name."
        )
    order = np.argsort(np.arange(len(names)) != pivot, kind="stable")
    moved = replace(
        call,
        rule=replace(call.rule, pivot=0),
        values=np.ascontiguousarray(call.values[:, order]),
        alpha=None if call.alpha is None else call.alpha[:, order],
        names=tuple(names[i] for i in order),
    )
    result = answer(moved, core, kind)
    return result if kind == "fused" else result[:, np.argsort(order)]


def _unequal(alpha: Floats) -> Floats | None:
    """Give weights, or None where all are equal: equal weights are none."""
    return None if bool((alpha == alpha[:, :1]).all()) else alpha


def _heard_again(call: Call, core: Core, kind: Kind, rows: NDArray[np.intp]) -> tuple[Rows, int]:
    values = call.values[rows]
    alpha = None
    if call.alpha is not None:
        alpha = np.broadcast_to(call.alpha, (call.values.shape[0], len(call.names)))[rows]
    silent: Flags = np.zeros(values.shape[:2], dtype=bool) if alpha is None else np.asarray(alpha == 0.0)
    nan, infinite = np.isnan(values), np.isinf(values)
    if call.missing == "raise" and ((nan | infinite) & ~silent[:, :, None]).any():
        sample, i, _ = np.argwhere((nan | infinite) & ~silent[:, :, None])[0]
        raise PanelError(
            f"specialist {call.names[i]!r} gave a non-finite answer in {call.where(int(rows[sample]))}. "
            "Clean the panel, or use missing='fault' or 'abstain'."
        )
    fault: Flags = np.asarray(infinite.any(axis=2))
    partial: Flags = np.zeros(len(rows), dtype=bool)
    if call.missing == "abstain":
        whole = nan.all(axis=2)
        partly = nan.any(axis=2) & ~whole & ~fault & ~silent
        silent = silent | whole
        partial = np.asarray(partly.any(axis=1))
        if partial.any() and (not call.rule.coordinatewise or kind == "weights"):
            sample, i = np.argwhere(partly)[0]
            who = (
                f"specialist {call.names[i]!r} answered only some outputs in {call.where(int(rows[sample]))}"
            )
            raise PanelError(
                f"{who}; its weight differs between outputs. Use .support."
                if call.rule.coordinatewise
                else f"{who}; {call.rule.name} needs whole rows. Use a coordinate rule, or make the row all NaN."
            )
    else:
        fault = fault | nan.any(axis=2)
    if call.rule.euclidean:
        values, overflowing = rescale(values, ~(fault | silent))
        fault = fault | overflowing
    places: list[Place] = [(int(row), None) for row in rows]
    plain = np.flatnonzero(~partial)
    result, lost = _grouped(
        call,
        core,
        kind,
        values[plain],
        fault[plain],
        silent[plain],
        _rows(alpha, plain),
        [places[p] for p in plain],
    )
    if not partial.any():
        return result, lost
    full = np.zeros((len(rows), *result.shape[1:]), dtype=result.dtype)
    full[plain] = result
    some = np.flatnonzero(partial)
    d = values.shape[2]
    columns = values[some].transpose(0, 2, 1).reshape(-1, len(call.names), 1)
    quiet = (silent[some][:, None, :] | nan[some].transpose(0, 2, 1)).reshape(-1, len(call.names))
    places = [(int(row), o) for row in rows[some] for o in range(d)]
    result, more = _grouped(
        call,
        core,
        kind,
        columns,
        np.repeat(fault[some], d, axis=0),
        quiet,
        _rows(alpha, np.repeat(some, d)),
        places,
    )
    full[some] = np.moveaxis(result.reshape(len(some), d, *result.shape[1:])[..., 0], 1, -1)
    return full, lost + more


def _rows(alpha: Floats | None, index: NDArray[np.intp]) -> Floats | None:
    return None if alpha is None else alpha[index]


def _grouped(
    call: Call,
    core: Core,
    kind: Kind,
    values: Rows,
    fault: Flags,
    silent: Flags,
    alpha: Floats | None,
    places: list[Place],
) -> tuple[Rows, int]:
    """Remove faulty and silent rows, and run samples with equally many rows left together."""
    g, n, d = values.shape
    d = d if call.width is None else call.width
    fault = fault & ~silent
    faults, voters = fault.sum(axis=1), (~silent).sum(axis=1)
    present = ~(fault | silent)
    left = present.sum(axis=1)
    rule = call.rule
    if rule.takes_budget:
        allowed = np.full(g, call.n_byzantine)
        budget = call.n_byzantine - faults
    else:
        allowed = np.array([rule.withstands(int(v)) for v in voters], dtype=np.intp)
        budget = np.zeros(g, dtype=np.intp)
    needed = np.array([rule.minimum(max(int(f), 0)) for f in budget], dtype=np.intp)
    beyond = (faults > allowed) | (left < needed)
    if rule.pivot is not None:
        beyond |= ~present[:, 0]
    if beyond.any() and call.excess == "raise":
        first = int(np.flatnonzero(beyond)[0])
        trusted = rule.pivot is None or bool(present[first, 0])
        raise BudgetError(
            _too_many(call, places[first], fault[first], int(allowed[first]), int(left[first]), trusted)
        )
    dtype = values.dtype if kind == "fused" else np.dtype(np.float64)
    shape = {"fused": (g, d), "weights": (g, n), "shares": (g, n, d)}[kind]
    result = np.zeros(shape, dtype=dtype)
    result[beyond] = np.nan
    fine = np.flatnonzero(~beyond)
    for m, f in sorted({(int(left[i]), int(budget[i])) for i in fine}):
        index = fine[(left[fine] == m) & (budget[fine] == f)]
        order = np.argsort(~present[index], axis=1, kind="stable")[:, :m]
        rows = np.ascontiguousarray(np.take_along_axis(values[index], order[:, :, None], axis=1))
        weights = None
        if alpha is not None:
            weights = np.take_along_axis(alpha[index], order, axis=1)
            weights = _unequal(weights / weights.sum(axis=1, keepdims=True))
        part, _ = core(rows, f, weights)
        if kind == "fused":
            result[index] = part if np.isfinite(part).all() else _rescued(core, rows, f, weights, part)
        else:
            scattered = np.zeros((len(index), n, *part.shape[2:]))
            into = order if part.ndim == 2 else order[:, :, None]
            np.put_along_axis(scattered, into, part, axis=1)
            result[index] = scattered
    return result, len({places[i][0] for i in np.flatnonzero(beyond)})


def _rescued(core: Core, rows: Rows, f: int, alpha: Floats | None, part: Rows) -> Rows:
    """Repeat on smaller numbers what overflowed on finite ones."""
    exponent = int(rows.shape[1]).bit_length() + 1
    again, _ = core(np.ldexp(rows, -exponent), f, alpha)
    return np.where(np.isfinite(part), part, np.ldexp(again, exponent))


def rescale(values: Rows, finite: Flags) -> tuple[Rows, Flags]:
    """Bring samples of extreme magnitude to about 1; find rows whose squared norm still overflows."""
    overflowing = np.zeros(values.shape[:2], dtype=bool)
    if values.dtype == np.float32:
        return values, overflowing
    clean = np.where(finite[:, :, None], values, 0.0)
    peak = np.abs(clean).max(axis=(1, 2), initial=0.0)
    extreme = np.flatnonzero((peak > 1e140) | ((peak < 1e-120) & (peak > 0.0)))
    if not extreme.size:
        return values, overflowing
    values = values.copy()
    for s in extreme:
        rows = np.flatnonzero(finite[s])
        block = values[s, rows] * 0.25
        block = block - np.median(block, axis=0)
        reach = np.abs(block).max(axis=1)
        scale = float(np.median(reach)) or float(reach.max())
        exponent = int(np.frexp(scale)[1])
        with np.errstate(over="ignore"):
            block = np.ldexp(block, -exponent)
            overflowing[s, rows] = ~(np.square(block).sum(axis=1) < 1e300)
        values[s, rows] = block
    return values, overflowing


def _too_many(call: Call, place: Place, fault: Flags, allowed: int, left: int, trusted: bool) -> str:
    sample, output = place
    where = call.where(sample) + ("" if output is None else f", output {output}")
    rule, n = call.rule, len(call.names)
    count = int(fault.sum())
    if count > allowed:
        who = [repr(call.names[i]) for i in np.flatnonzero(fault)]
        listed = ", ".join(who[:3]) + (", ..." if len(who) > 3 else "")
        allows = (
            f"n_byzantine={call.n_byzantine} allows {allowed}. Raise n_byzantine"
            if rule.takes_budget
            else f"{rule.name} withstands {allowed}. Use a robust rule"
            + (" with a larger panel" if allowed else "")
        )
        abstain = "" if call.missing == "abstain" else " use missing='abstain',"
        return (
            f"{count} of {n} specialists gave non-finite answers in {where} ({listed}); "
            f"{allows},{abstain} or excess='nan'."
        )
    if left == 0:
        return f"no specialist answered in {where}. Drop it, or use excess='nan'."
    if not trusted:
        return (
            f"{rule.name} trusts specialist {call.names[0]!r}, which gave no finite answer in {where}. "
            "Choose another pivot, or use excess='nan'."
        )
    budget = f" with n_byzantine={call.n_byzantine}" if rule.takes_budget else ""
    needed = rule.minimum(call.n_byzantine - count if rule.takes_budget else 0)
    return (
        f"{rule.name}{budget} needs at least {needed} finite answers; {where} has {left}. "
        "Lower n_byzantine, or use excess='nan'."
    )
