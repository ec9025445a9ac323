"""From any panel to a mixed panel, and from there to a rule that does not run on plain rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, check_choice, read_budget, read_weights
from fusion._chain import join_budgets, joint_center, joint_scope, spread_center
from fusion._faults import Call, Rule, Unclean, answer
from fusion._mixing import Mixing, apply_mixing, mix_rows
from fusion._run import is_differentiable
from theory._exceptions import PanelError
from theory.panel import Wrap, as_panel

if TYPE_CHECKING:
    from fusion._compose import PreAggregator
    from fusion._operator import Operator

_BLOCK = 200_000


class _Mixer:
    """One panel on its way through pre-aggregators."""

    def __init__(
        self, panel: Any, stages: tuple[Mixing, ...], *, weights: Any, missing: str, excess: str
    ) -> None:
        check_choice("missing", missing, ("fault", "abstain", "raise"))
        check_choice("excess", excess, ("raise", "nan"))
        self.name = " >> ".join(stage.name for stage in stages)
        self.stages, self.missing, self.excess = stages, missing, excess
        self.center = joint_center(self.name, stages)
        self.values, self.wrap = as_panel(panel)
        *batch, n, d = self.values.shape
        self.batch = tuple(batch)
        table = np.ascontiguousarray(self.values.reshape(-1, n, d))
        self.table = table.astype(np.float32) if table.dtype == np.float16 else table
        self.alpha = read_weights(weights, self.batch, self.wrap.names)
        self.scope = joint_scope(self.name, stages, None)
        self.asked = self.table
        if self.scope == "batch":
            if self.alpha is not None and self.alpha.shape[0] > 1:
                raise PanelError(
                    "scope='batch' mixes all samples alike; weights must have shape (specialist,)."
                )
            self.asked = np.ascontiguousarray(self.table.transpose(1, 0, 2)).reshape(1, n, -1)
        self.n_rows = n
        for stage in stages:
            self.n_rows = stage.count(self.n_rows)
        self.shrinks = any(stage.count(n) != n or stage.needs == "nothing" for stage in stages)

    def ask(self, kind: str) -> NDArray[Any]:
        """Give mixed rows (sample, row, output), or matrices (sample, row, specialist)."""
        n, d = self.asked.shape[1:]
        width = self.n_rows * d if kind == "fused" else self.n_rows
        rule = self._rule(kind)
        asked, alpha, batch = self.asked, self.alpha, self.batch
        if asked.size == 0:
            asked, alpha, batch = np.zeros((1, n, max(d, 1)), dtype=asked.dtype), None, (1,)
            width = self.n_rows * asked.shape[2] if kind == "fused" else self.n_rows
        f = read_budget(rule.n_byzantine, n) if rule.takes_budget else 0
        call = Call(rule, asked, alpha, f, self.wrap.names, batch, self.missing, self.excess, width)
        core = rule.fuse if kind == "fused" else rule.share
        assert core is not None
        found = answer(call, core, "fused" if kind == "fused" else "shares")
        if self.asked.size == 0:
            return np.zeros((len(self.asked), self.n_rows, d if kind == "fused" else n), dtype=found.dtype)
        if kind == "fused":
            return self._in_place(found.reshape(len(self.asked), self.n_rows, d))
        return self._in_place(np.ascontiguousarray(found.transpose(0, 2, 1)), empty=0.0)

    def _rule(self, kind: str) -> Rule:
        budgets = [stage.n_byzantine for stage in self.stages if stage.n_byzantine is not None]
        budget, extra = join_budgets(self.name, budgets)
        rest = iter(extra)
        ahead = [next(rest) if stage.n_byzantine is not None else 0 for stage in self.stages]

        def minimum(f: int) -> int:
            needed = 1
            for stage, more in zip(reversed(self.stages), reversed(ahead), strict=True):
                needed = stage.minimum(f + more, needed)
            return needed

        def core(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
            n_samples, n, d = rows.shape
            middle = spread_center(self.center, d)
            out = (
                np.zeros((n_samples, self.n_rows, d), dtype=rows.dtype)
                if kind == "fused"
                else np.zeros((n_samples, n, self.n_rows))
            )
            step = max(1, _BLOCK // (n * max(n, d)))
            for start in range(0, n_samples, step):
                some = slice(start, start + step)
                shared = alpha is None or alpha.shape[0] == 1
                with np.errstate(invalid="ignore", over="ignore"):
                    matrix, _, _ = mix_rows(
                        rows[some],
                        self.stages,
                        tuple(f + more for more in ahead),
                        alpha if shared or alpha is None else alpha[some],
                        middle,
                    )
                    if kind == "fused":
                        mixed = apply_mixing(matrix, rows[some], middle)
                        if mixed.shape == out.shape:
                            # One long sample: as large as the panel, and not copied.
                            out = mixed
                        else:
                            out[some, : matrix.shape[1]] = mixed
                    else:
                        out[some, :, : matrix.shape[1]] = matrix.transpose(0, 2, 1)
            marks = ~np.isfinite(rows).all(axis=(1, 2))
            return (out.reshape(n_samples, -1) if kind == "fused" else out), marks

        return Rule(self.name, minimum, budget, fuse=core, share=core, scope=self.scope)

    def _in_place(self, mixed: NDArray[Any], empty: float = np.nan) -> NDArray[Any]:
        """Put the rows of a sample with absent specialists where these specialists are."""
        present: NDArray[np.bool_] = np.asarray(np.isfinite(self.asked).all(axis=2))
        if self.alpha is not None:
            present = np.asarray(present & (self.alpha != 0.0))
        for s in np.flatnonzero(~present.all(axis=1)):
            left = int(present[s].sum())
            if not np.isfinite(mixed[s]).all() and np.isnan(mixed[s]).all():
                continue  # beyond the budget
            rows = mixed[s].copy()
            mixed[s] = empty
            for stage in self.stages:
                left = stage.count(left)
            places = np.arange(left) if self.shrinks else np.flatnonzero(present[s])
            mixed[s, places] = rows[: len(places)]
        return mixed

    def panel(self, mixed: NDArray[Any]) -> Any:
        """Give mixed rows back in the panel's kind."""
        if self.scope == "batch":
            mixed = mixed[0].reshape(self.n_rows, len(self.table), -1).transpose(1, 0, 2)
        d = self.values.shape[-1]
        whole = np.ascontiguousarray(mixed).reshape(*self.batch, self.n_rows, d)
        return _restored(self.wrap, whole.astype(self.values.dtype, copy=False), self.n_rows, self.name)


def _restored(wrap: Wrap, mixed: NDArray[Any], n_rows: int, name: str) -> Any:
    if wrap.kind != "xarray":
        return wrap(mixed)
    from xarray import DataArray

    like = wrap.like.transpose(*wrap.dims)
    whole = n_rows == wrap.n_specialists
    coords = {key: coord for key, coord in like.coords.items() if whole or wrap.dims[-2] not in coord.dims}
    return DataArray(
        mixed, dims=wrap.dims, coords=coords, attrs=dict(like.attrs) | {"operator": name}, name=like.name
    )


def run_mixing(panel: Any, stages: tuple[Mixing, ...], *, weights: Any, missing: str, excess: str) -> Any:
    """Mix a panel.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Whatever `theory.as_panel` reads.
    stages : tuple of Mixing
        The first one is applied first.
    weights, missing, excess
        As in the public functions.

    Returns
    -------
    array, shape (..., row, output)
        In the panel's kind and dtype; NaN where a specialist was absent.
    """
    if is_differentiable(panel):
        from fusion._torch.mixing import mix_with_gradient

        return mix_with_gradient(panel, stages, weights=weights, missing=missing, excess=excess)
    mixer = _Mixer(panel, stages, weights=weights, missing=missing, excess=excess)
    return mixer.panel(mixer.ask("fused"))


def mixing_matrices(
    panel: Any, stages: tuple[Mixing, ...], *, weights: Any, missing: str, excess: str
) -> Floats:
    """Give the matrices (..., row, specialist) of `run_mixing`."""
    if is_differentiable(panel):
        panel = panel.detach()
    mixer = _Mixer(panel, stages, weights=weights, missing=missing, excess=excess)
    found = mixer.ask("shares")
    if mixer.scope == "batch":
        found = np.broadcast_to(found, (len(mixer.table), *found.shape[1:]))
    matrices: Floats = np.ascontiguousarray(found).reshape(*mixer.batch, *found.shape[1:])
    return matrices


def run_through(
    pre: tuple[PreAggregator, ...],
    rule: Operator,
    panel: Any,
    what: Any,
    *,
    weights: Any,
    missing: str,
    excess: str,
) -> Any:
    """Mix a panel, then hand it to an operator that does more than run its rule.

    Parameters
    ----------
    pre : tuple of pre-aggregators
        The first one is applied first.
    rule : Operator
        Fuses the mixed panel.
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    what : {"fused", "weights", "support"}
        What is wanted.
    weights, missing, excess
        As in the public functions.

    Returns
    -------
    array of the panel's kind
        Shape (..., output), or (..., specialist).
    """
    stages = tuple(mixing for part in pre for mixing in part._mixings())
    options = {"weights": weights, "missing": missing, "excess": excess}
    mixed = run_mixing(panel, stages, **options)
    # Faults were charged in front; only a rule with a budget of its own has to count them again.
    missing = "fault" if missing != "abstain" and rule._rule().takes_budget else "abstain"
    matrices = None
    if weights is not None or what != "fused":
        matrices = mixing_matrices(panel, stages, **options)
    trust = None
    if weights is not None:
        values, wrap = as_panel(panel.detach() if is_differentiable(panel) else panel)
        alpha = read_weights(weights, values.shape[:-2], wrap.names)
        assert matrices is not None
        trust = None if alpha is None else _carried(stages, matrices, alpha, values.shape[:-2])
    if what == "fused":
        return rule._run(mixed, "fused", trust, missing, excess)
    values, wrap = as_panel(mixed.detach() if is_differentiable(mixed) else mixed)
    found = rule._run(values, what, trust, missing, excess)
    assert matrices is not None
    mapped = np.matmul(np.asarray(found)[..., None, :], matrices)[..., 0, :]
    _, outer = as_panel(panel.detach() if is_differentiable(panel) else panel)
    return outer.weights(mapped, operator=f"{' >> '.join(part.name for part in pre)} >> {rule.name}")


def _carried(stages: tuple[Mixing, ...], matrices: Floats, alpha: Floats, batch: tuple[int, ...]) -> Floats:
    """Weights of the mixed rows: those of the specialists, or sums of them over buckets."""
    n = alpha.shape[-1]
    whole = np.broadcast_to(alpha, (int(np.prod(batch, dtype=int)), n)).reshape(*batch, n)
    if not any(stage.needs == "nothing" for stage in stages):
        return whole
    if len(stages) > 1:
        raise PanelError("weights behind bucketing and another pre-aggregator need a rule on plain answers.")
    carried: Floats = np.where(matrices > 0.0, whole[..., None, :], 0.0).sum(axis=-1)
    return carried
