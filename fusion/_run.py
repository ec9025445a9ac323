"""From any panel to a rule's answer and back: the one way into every late rule."""

from __future__ import annotations

import sys
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import check_choice, read_budget, read_weights
from fusion._faults import Call, Rule, answer
from fusion._vectors import whole_vectors
from theory._exceptions import BudgetError, PanelError
from theory.panel import as_panel

What = Literal["fused", "weights", "support", "shares"]


def is_differentiable(panel: Any) -> bool:
    """Say whether a panel is a tensor whose gradients must not be lost."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(panel, torch.Tensor) and bool(panel.requires_grad)


def _is_elsewhere(panel: Any) -> bool:
    """Say whether a panel is a tensor on another device than the processor NumPy runs on."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(panel, torch.Tensor) and panel.device.type != "cpu"


def run(panel: Any, rule: Rule, what: What, *, weights: Any, missing: str, excess: str) -> Any:
    """Answer one call of a late rule in the kind of array that came in.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Whatever `theory.as_panel` reads.
    rule : Rule
        The rule with its parameters.
    what : {"fused", "weights", "support", "shares"}
        What is wanted; "shares" (sample, specialist, output) stays a plain array.
    weights, missing, excess
        As in the public functions.

    Returns
    -------
    array of the panel's kind
    """
    if weights is None and missing == "fault" and excess == "raise" and type(panel) is np.ndarray:
        fused = _one_small(panel, rule) if what == "fused" else None
        if fused is not None:
            return fused
    check_choice("missing", missing, ("fault", "abstain", "raise"))
    check_choice("excess", excess, ("raise", "nan"))
    if is_differentiable(panel):
        if what == "fused":
            from fusion._torch.gradients import fuse_with_gradient

            return fuse_with_gradient(panel, rule, weights=weights, missing=missing, excess=excess)
        # Who is chosen is piecewise constant: there is no gradient to lose.
        panel = panel.detach()
    if what == "fused" and rule.twin is not None and _is_elsewhere(panel):
        from fusion._torch.gradients import fuse_in_place

        fused = fuse_in_place(panel, rule, weights=weights)
        if fused is not None:
            return fused
    values, wrap = as_panel(panel)
    *batch, n, d = values.shape
    table = np.ascontiguousarray(values.reshape(-1, n, d))
    if table.dtype == np.float16:
        table = table.astype(np.float32)
    f = read_budget(rule.n_byzantine, n) if rule.takes_budget else 0
    if rule.most is not None and rule.most > n:
        raise BudgetError(
            f"{rule.name} with m={rule.most} needs as many specialists; got {n}. Lower m, or leave it out."
        )
    alpha = read_weights(weights, tuple(batch), wrap.names, signed=rule.signed)
    asked = table
    if rule.scope == "batch":
        if alpha is not None and alpha.shape[0] > 1:
            raise PanelError("scope='batch' gives one weight vector; weights must have shape (specialist,).")
        asked = np.ascontiguousarray(table.transpose(1, 0, 2)).reshape(1, n, -1)
    call = Call(rule, asked, alpha, f, wrap.names, tuple(batch), missing, excess)
    if asked.size == 0:
        call = _with_one_sample(call)
    result = _answer(call, what)
    if asked.size == 0:
        result = result[:0]
    if what == "fused":
        if rule.weigh is not None and rule.fuse is None:
            result = combine(table, result)
        result = result.reshape(*batch, d).astype(values.dtype, copy=False)
        return wrap(result, operator=rule.name)
    if what == "shares":
        return result if rule.scope == "sample" else result.reshape(n, -1, d).transpose(1, 0, 2)
    if rule.scope == "batch" and asked.size:
        result = np.broadcast_to(result, (table.shape[0], n))
    return wrap.weights(np.ascontiguousarray(result).reshape(*batch, n), operator=rule.name)


def _one_small(panel: NDArray[Any], rule: Rule) -> NDArray[Any] | None:
    """Fuse one small finite sample without what batches, faults and other kinds of arrays need; None if it is not."""
    core = rule.fuse or rule.weigh
    if (
        panel.ndim != 2
        or not 0 < panel.size < 4096
        or panel.dtype not in (np.float64, np.float32)
        or not panel.flags.c_contiguous
        or rule.pivot is not None
        or core is None
    ):
        return None
    n = panel.shape[0]
    f = read_budget(rule.n_byzantine, n) if rule.takes_budget else 0
    if rule.minimum(f) > n or (rule.most is not None and rule.most > n):
        return None
    rows = panel[None]
    result, unclean = core(rows, f, None)
    if unclean is not None and unclean[0]:
        return None
    if rule.fuse is None:
        result, lost = weigh(rows, result)
        if lost[0]:
            return None
    fused: NDArray[Any] = result[0]
    return fused


def _with_one_sample(call: Call) -> Call:
    """Ask an empty panel's question about zeros: too few specialists are refused all the same."""
    _, n, d = call.values.shape
    values = np.zeros((1, n, max(d, 1)), dtype=call.values.dtype)
    alpha = None if call.alpha is None or not len(call.alpha) else call.alpha[:1]
    return Call(call.rule, values, alpha, call.n_byzantine, call.names, (1,), call.missing, call.excess)


def _answer(call: Call, what: What) -> NDArray[Any]:
    rule = call.rule
    if what == "fused" and rule.fuse is not None:
        return answer(call, rule.fuse, "fused")
    if rule.weigh is not None and (what in ("fused", "weights") or rule.share is None):
        result = answer(call, rule.weigh, "weights")
        return np.broadcast_to(result[:, :, None], call.values.shape) if what == "shares" else result
    if what == "weights" or rule.share is None:
        raise PanelError(
            f"{rule.name} gives no weights: each output is fused by itself. Use .support for what each "
            "specialist weighed."
        )
    shares = answer(call, rule.share, "shares")
    return shares if what == "shares" else shares.mean(axis=2)


def combine(table: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[Any]:
    """Weigh the rows of every sample; rows of weight 0 are never read.

    Parameters
    ----------
    table : ndarray, shape (sample, specialist, output)
        Panel, C-contiguous.
    weights : ndarray of float64, shape (1 or sample, specialist)
        Need not sum to 1: the sum is divided by theirs, except where it is 0 or NaN.

    Returns
    -------
    ndarray, shape (sample, output), dtype of `table`
    """
    return weigh(table, weights)[0]


def weigh(
    table: NDArray[Any], weights: NDArray[np.float64], *, divided: bool = True
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Do what `combine` does, and mark the samples whose result is not finite; sums unless `divided`."""
    n_samples, n, d = table.shape
    fused: NDArray[Any]
    if table.dtype not in (np.float32, np.float64) or table.size < 4096:
        wide = np.result_type(table.dtype, np.float64)
        if n_samples == 1 and np.count_nonzero(weights) == 1:
            one = int(np.argmax(weights[0] != 0.0))
            weight = float(weights[0, one])
            # Adding 0 turns -0 into 0, as a sum that starts from it does.
            fused = table[:, one] + table.dtype.type(0.0)
            if weight != 1.0:
                with np.errstate(over="ignore", invalid="ignore"):
                    part = weight * table[:, one].astype(wide, copy=False) + 0.0
                    fused = (part / weight if divided else part).astype(table.dtype)
            return fused, ~np.isfinite(fused).all(axis=1)
        divisor = ordered_sum(weights, 1) if divided else np.ones(len(weights))
        silent = weights == 0.0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if table.size < 4096:
                parts = weights[:, :, None] * table
                if silent.any():
                    parts = np.where(silent[:, :, None], 0.0, parts)
                total = ordered_sum(parts, 1)
            else:
                total = np.zeros((n_samples, d), dtype=wide)
                for i in range(n):
                    total += np.where(silent[:, i, None], 0.0, weights[:, i, None] * table[:, i])
            fused = (total / divisor[:, None]).astype(table.dtype)
        return fused, ~np.isfinite(fused).all(axis=1)
    from fusion._kernels.weighing import weigh_rows_of

    kernel = weigh_rows_of(table.dtype)
    shared = int(weights.shape[0] == 1)
    flat = np.ascontiguousarray(weights).reshape(-1)

    def some(first: int, panel: Any, out: Any, marks: Any, begin: int, end: int) -> None:
        kernel(
            panel, flat if shared else flat[first * n :], shared, int(divided), out, marks, d, begin, end, n
        )

    return whole_vectors(table, some)


def ordered_sum(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Add along an axis from first to last, as a compiled loop would: the same bits for any shape."""
    if values.size <= 4096 and values.size and values.dtype.kind == "f":
        last = (slice(None),) * axis + (-1,)
        # Adding 0 turns -0 into 0, as starting from it does below.
        sums: NDArray[Any] = np.add.accumulate(values, axis=axis)[last] + 0.0
        return sums
    moved = np.moveaxis(values, axis, 0)
    total = np.zeros(moved.shape[1:], dtype=values.dtype)
    for part in moved:
        total = total + part
    return total
