"""The geometric median: the point of least summed distance."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, check_choice
from fusion._faults import Rule, Unclean, cached_rule
from fusion._operator import Operator
from fusion._run import run
from fusion.late._distances import (
    LANES_UP_TO,
    centred_gram,
    out_of_range,
    square_distances,
    unclean_distances,
)
from theory._exceptions import FaultWarning, PanelError

# Weiszfeld steps in lanes before Newton takes over; isotropic panels need about ten.
_LANE_STEPS = 32
# Distances are never taken for less.
_AT_A_ROW = 1e-150
# How often the medoid is looked for from a better one: a lie may hide a lesser lie, and that one the others.
_MEDOID_ROUNDS = 4
_STEP_SIZES = (1.0, 0.5, 0.2, 0.05, 0.01)


def geometric_median(
    panel: Any,
    *,
    weights: Any = None,
    scope: str = "sample",
    tol: float | None = None,
    max_iter: int = 100,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Find the point whose summed distance to the specialists is least.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist; multiplies its distance.
    scope : {"sample", "batch"}, default "sample"
        One set of weights per sample, or one for all samples by distances over all of them.
    tol : float, optional
        Largest residual, the length of the weighted sum of unit vectors: 1e-10, or 1e-6 in float32 and below.
    max_iter : int, default 100
        Newton steps for samples that the plain steps did not settle.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault (up to (n-1)//2 of them are removed), NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., output)
        In the panel's kind and dtype.

    Raises
    ------
    BudgetError
        If more than (n-1)//2 rows of a sample are not finite.
    PanelError
        If the panel, the weights or an option cannot be read.

    Warns
    -----
    FaultWarning
        If a sample did not reach `tol`; the message says the largest residual.

    Notes
    -----
    NaN is never used. Where a specialist's answer alone is the minimiser, it is returned exactly. If the
    answers lie on a line and the minimiser is a segment, some point of it is returned; with one output, the
    median. With h = n//2 and N = n - f the squared error against the mean of any N honest specialists is at
    most h/(N-h) times their variance.

    References
    ----------
    Vardi and Zhang (2000), The multivariate L1-median, equations 2.6-2.7. Pillutla, Kakade, Harchaoui (2022),
    Robust aggregation for federated learning.

    Examples
    --------
    >>> geometric_median([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    array([4., 5., 6.])
    """
    rule = _geometric_rule(scope, tol, max_iter)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class GeometricMedian(Operator):
    """Geometric median; see `geometric_median`.

    Parameters
    ----------
    tol : float, optional
        Largest residual.
    max_iter : int, default 100
        Newton steps.
    scope : {"sample", "batch"}, default "sample"
        One set of weights per sample, or one for all.

    Examples
    --------
    >>> GeometricMedian()([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    array([0., 0.])
    """

    name: ClassVar[str] = "geometric_median"
    tol: float | None = None
    max_iter: int = 100
    scope: str = "sample"

    def _rule(self) -> Rule:
        return _geometric_rule(self.scope, self.tol, self.max_iter)


@cached_rule
def _geometric_rule(scope: str, tol: float | None, max_iter: int) -> Rule:
    check_choice("scope", scope, ("sample", "batch"))
    if tol is not None and not 0.0 < tol < 1.0:
        raise PanelError(f"tol must lie in (0, 1); got {tol!r}. Use None for 1e-10 (float32: 1e-6).")
    if isinstance(max_iter, bool) or not isinstance(max_iter, int | np.integer) or max_iter < 1:
        raise PanelError(f"max_iter must be a whole number >= 1; got {max_iter!r}. Use 100.")

    def weigh(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        return _weights(rows, alpha, tol, max_iter)

    return Rule(
        name="geometric_median",
        withstands=lambda n: max(n - 1, 0) // 2,
        weigh=weigh,
        euclidean=True,
        scope=scope,
        gradient="newton",
    )


def _weights(
    rows: NDArray[Any], alpha: Floats | None, tol: float | None, max_iter: int
) -> tuple[Floats, Unclean]:
    n_samples, n, d = rows.shape
    single = rows.dtype == np.float32
    accepted = tol if tol is not None else (1e-6 if single else 1e-10)
    aim = accepted if single else min(accepted, 1e-13)
    mass = np.full((1, n), 1.0 / n) if alpha is None else np.ascontiguousarray(alpha)
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    unclean = np.zeros(n_samples, dtype=bool)
    if d == 1 or n == 1:
        return _on_a_line(rows, alpha), out_of_range(rows)
    weights = np.empty((n_samples, n))
    residual = np.full(n_samples, np.inf)
    square: Floats | None = None
    if n <= LANES_UP_TO[0] and d <= LANES_UP_TO[1]:
        from fusion._kernels.compiled import core
        from fusion._kernels.geometric import GEOMETRIC_WEIGHTS, geometric_weights
        from fusion._kernels.networks import comparators

        marks = unclean.view(np.uint8)
        pairs = comparators(n, (n - 1) // 2, n // 2 + 1)
        kernel = core(geometric_weights, GEOMETRIC_WEIGHTS, rows.dtype, work=max(rows.size, 64 * n * d) * 60)
        kernel(rows, mass, pairs, aim, _LANE_STEPS, weights, residual, marks)
    else:
        square = square_distances(rows)
        unclean = unclean_distances(rows, square)
    hard = np.flatnonzero(~(residual <= accepted) & ~unclean)
    worst = 0.0
    step = max(1, min(4096, 1_000_000 // (n * n)))
    for start in range(0, hard.size, step):
        part = hard[start : start + step]
        shares = np.broadcast_to(mass, (n_samples, n))[part]
        block = rows if len(part) == n_samples else rows[part]
        distances = square_distances(block) if square is None else square[part]
        found, rest = _newton(block, distances, shares, accepted, max_iter)
        better = rest < residual[part]
        weights[part[better]] = found[better]
        worst = max(worst, float(np.minimum(rest, residual[part]).max()))
    weights[unclean] = 0.0
    if worst > accepted:
        warnings.warn(
            f"geometric_median stopped after max_iter={max_iter} with a residual of {worst:.3g} > "
            f"tol={accepted:g}. Raise max_iter, or accept it with tol.",
            FaultWarning,
            stacklevel=8,
        )
    return weights, unclean


def _on_a_line(rows: NDArray[Any], alpha: Floats | None) -> Floats:
    from fusion.late.order import _median_share

    shares, _ = _median_share(rows[:, :, :1] if rows.shape[1] == 1 else rows, 0, alpha)
    weights: Floats = shares[:, :, 0]
    return weights


def _newton(
    rows: NDArray[Any], square: Floats, alpha: Floats, tol: float, max_iter: int
) -> tuple[Floats, Floats]:
    """Weights by Newton steps on Gram matrices about the medoid, safeguarded by Weiszfeld steps."""
    n_samples, n, _ = rows.shape
    square[:, np.arange(n), np.arange(n)] = 0.0
    length = np.sqrt(square)
    medoid = np.argmin((length * alpha[:, None, :]).sum(axis=2), axis=1)
    gram = np.empty((n_samples, n, n))
    moved = np.arange(n_samples)
    for remaining in reversed(range(_MEDOID_ROUNDS)):
        part = rows if moved.size == n_samples else rows[moved]
        gram[moved] = about = centred_gram(part, medoid[moved], square[moved])
        # One far liar hides the differences between honest sums; summed differences from one honest row show them:
        # |x_i - x_j| - |x_j - c| = (|x_i - c|^2 - 2 (x_i - c)(x_j - c)) / (|x_i - x_j| + |x_j - c|).
        own = np.einsum("sii->si", about)
        reach = length[moved] + np.sqrt(own)[:, None, :]
        gain = (own[:, :, None] - 2.0 * about) / np.where(reach > 0.0, reach, 1.0)
        best = np.argmin((gain * alpha[moved][:, None, :]).sum(axis=2), axis=1)
        # Copies of the medoid, and rows no better than it within rounding, are no reason to look again.
        at = np.arange(moved.size)
        mine = (gain[at, medoid[moved]] * alpha[moved]).sum(axis=1)
        less = (gain[at, best] * alpha[moved]).sum(axis=1) < mine - 1e-12 * np.sqrt(own[at, best])
        moved = moved[less]
        if not moved.size or not remaining:
            break
        medoid[moved] = best[less]
    weights = np.zeros((n_samples, n))
    residual = np.full(n_samples, np.inf)
    reach = np.sqrt(np.maximum(np.einsum("sii->si", gram), 0.0))
    copies = reach == 0.0
    held = np.where(copies, alpha, 0.0).sum(axis=1)
    near = np.where(copies, 0.0, alpha / np.where(copies, 1.0, reach))
    force = np.sqrt(np.maximum(np.einsum("si,sij,sj->s", near, gram, near), 0.0))
    # What is left of the pull at a row, once the row itself holds back, is the residual there.
    settled = force <= held + tol
    weights[settled] = np.where(copies, alpha / held[:, None], 0.0)[settled]
    residual[settled] = 0.0
    open_ = np.flatnonzero(~settled)
    if not open_.size:
        return weights, residual
    stay = (held / np.where(force > 0.0, force, 1.0))[:, None]
    total = near.sum(axis=1, keepdims=True)
    start = (1.0 - stay) * near / np.where(total > 0.0, total, 1.0) + stay * np.where(
        copies, alpha, 0.0
    ) / held[:, None]
    weights[open_] = start[open_]
    for _ in range(max_iter):
        g, v, a = gram[open_], weights[open_], alpha[open_]
        distance, gv, vgv = _distances(g, v)
        omega = a / distance
        total = omega.sum(axis=1, keepdims=True)
        plain = omega / total
        delta = plain - v
        rho = total[:, 0] * np.sqrt(np.maximum(np.einsum("si,sij,sj->s", delta, g, delta), 0.0))
        # At a row that is not the answer (rounding may lead there) nothing can be said.
        rho[(distance <= _AT_A_ROW).any(axis=1)] = np.inf
        residual[open_] = rho
        done = rho <= tol
        with np.errstate(invalid="ignore", over="ignore"):
            cosine = g - gv[:, :, None] - gv[:, None, :] + vgv[:, None, None]
            cosine /= distance[:, :, None] * distance[:, None, :]
            system = np.eye(n) * total[:, :, None] - omega[:, :, None] * cosine
            c = _solve(system, a)
            push = c / distance
            newton = push - v * push.sum(axis=1, keepdims=True)
            best, (value, scale) = plain, _objective(g, plain, a)
            # Shorter steps matter where rows are nearly on a line and the objective nearly flat along it. Near
            # the end the objective no longer tells the two apart, and the full Newton step is the better one.
            for size in _STEP_SIZES:
                trial = v + size * newton
                reached, _ = _objective(g, trial, a)
                use = np.isfinite(trial).all(axis=1) & (
                    reached <= value + scale * (1e-13 if size == 1.0 else -1e-13)
                )
                best = np.where(use[:, None], trial, best)
                value = np.where(use, reached, value)
        weights[open_] = np.where(done[:, None], plain, best)
        open_ = open_[~done]
        if not open_.size:
            break
    return weights, residual


def _solve(system: Floats, right: Floats) -> Floats:
    """Solve one system per sample; NaN where it is singular, whatever the others are."""
    try:
        found = np.asarray(np.linalg.solve(system, right[:, :, None])[:, :, 0], dtype=np.float64)
    except np.linalg.LinAlgError:
        if len(system) == 1:
            return np.full(right.shape, np.nan)
        parts = (_solve(system[s : s + 1], right[s : s + 1]) for s in range(len(system)))
        found = np.concatenate(list(parts)).astype(np.float64, copy=False)
    return found


def _objective(gram: Floats, weights: Floats, alpha: Floats) -> tuple[Floats, Floats]:
    """Give the summed distance less that of the medoid, and the size of its terms: far rows hide no near ones."""
    own = np.einsum("sii->si", gram)
    distance, gv, vgv = _distances(gram, weights)
    reach = distance + np.sqrt(np.maximum(own, 0.0))
    gain = alpha * (vgv[:, None] - 2.0 * gv) / np.where(reach > 0.0, reach, 1.0)
    return gain.sum(axis=1), np.abs(gain).sum(axis=1)


def _distances(gram: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    gv = np.einsum("sij,sj->si", gram, weights)
    vgv = np.einsum("si,si->s", weights, gv)
    square = np.einsum("sii->si", gram) - 2.0 * gv + vgv[:, None]
    return np.sqrt(np.maximum(square, _AT_A_ROW**2)), gv, vgv
