"""Rules on tensors that require gradients: the same values, with the derivative of the rule.

Who is chosen is worked out without gradients, by the rules themselves; the answer is then a sum of the
specialists' answers times constants, except for the geometric median, which moves with all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fusion._arguments import read_budget, read_weights
from fusion._run import run
from fusion._torch import twins
from theory._exceptions import PanelError

if TYPE_CHECKING:
    from fusion._faults import Rule
    from fusion.late.pools import LogPool


def fuse_with_gradient(panel: Any, rule: Rule, *, weights: Any, missing: str, excess: str) -> Any:
    """Fuse a tensor that requires gradients.

    Parameters
    ----------
    panel : torch.Tensor, shape (..., specialist, output)
        Requires gradients.
    rule : Rule
        The rule with its parameters.
    weights, missing, excess
        As in the public functions.

    Returns
    -------
    torch.Tensor, shape (..., output)
        The value the rule gives for the detached panel, with the rule's derivative. Where values tie, the
        specialists that share a place share its derivative.

    Raises
    ------
    PanelError
        If the rule has no useful derivative.
    """
    if rule.gradient == "none":
        raise PanelError(
            f"{rule.name} has no gradient here. Pass panel.detach(), or use a rule whose operator_row(name)"
            ".differentiable is True."
        )
    plain = panel.detach()
    options = {"weights": weights, "missing": missing, "excess": excess}
    value = run(plain, rule, "fused", **options)
    if rule.gradient == "twin" or (rule.twin is not None and panel.device.type != "cpu" and weights is None):
        if rule.scope == "batch" and panel.shape[:-2].numel() > 1:
            raise PanelError(
                f"{rule.name} with scope='batch' has no gradient here. Use scope='sample', or "
                "reshape the panel to (specialist, sample * output)."
            )
        moving = _twin(panel, rule, weights, missing)
        return _with_derivative(value, torch.where(torch.isfinite(moving), moving, 0.0).to(panel.dtype))
    if rule.gradient == "newton":
        return _geometric(panel, rule, value, options)
    # Shares are kept in float64 and used in the panel's dtype, or its gradients would change dtype.
    shares = _tensor(run(plain, rule, "shares", **options), panel).reshape(panel.shape)
    return _with_derivative(value, (shares * _heard(panel, shares)).sum(dim=-2))


def fuse_in_place(panel: Any, rule: Rule, *, weights: Any) -> Any | None:
    """Fuse a finite tensor on its own device.

    Parameters
    ----------
    panel : torch.Tensor, shape (..., specialist, output)
        Carries no gradients.
    rule : Rule
        Has a twin.
    weights : object
        As in the public functions; anything but None is left to the processor.

    Returns
    -------
    torch.Tensor of shape (..., output), or None
        None where faults, weights, a batch scope or too few specialists ask for the policy on the processor.
    """
    if weights is not None or rule.scope == "batch" or not panel.is_floating_point() or panel.dim() < 2:
        return None
    if not panel.numel() or not bool(torch.isfinite(panel).all()):
        return None
    n = panel.shape[-2]
    f = read_budget(rule.n_byzantine, n) if rule.takes_budget else 0
    if n < rule.minimum(f) or (rule.most is not None and rule.most > n):
        return None
    fused = _twin(panel, rule, None, "fault").to(panel.dtype)
    return fused if bool(torch.isfinite(fused).all()) else None


def _twin(panel: Any, rule: Rule, weights: Any, missing: str) -> Any:
    """Run the rule's twin; absent rows have weight 0 there, and faults use up the budget."""
    if rule.twin is None:
        raise PanelError(
            f"{rule.name} trusts pivot={rule.pivot!r}; a tensor's specialists have places. Give one."
        )
    name, options = rule.twin
    alpha = _mass(panel, weights)
    plain = panel.detach()
    heard = alpha > 0
    present = heard & torch.isfinite(plain).all(dim=-1)
    lost = heard & torch.isinf(plain).any(dim=-1) if missing == "abstain" else heard & ~present
    n = panel.shape[-2]
    f = read_budget(rule.n_byzantine, n) if rule.takes_budget else 0
    # More faults than the budget were refused already, or are NaN.
    left = (f - lost.sum(dim=-1)).clamp(min=0)
    alpha = torch.where(present, alpha, torch.zeros_like(alpha))
    alpha = alpha / alpha.sum(dim=-1, keepdim=True)
    rows = torch.where(present.unsqueeze(-1), panel, torch.zeros_like(panel)).double()
    return getattr(twins, name)(rows, alpha, left, **options)


def _geometric(panel: Any, rule: Rule, value: Any, options: dict[str, Any]) -> Any:
    """One differentiable Newton step from the solution, its matrix held fixed."""
    plain = panel.detach()
    chosen = run(plain, rule, "weights", **options).double()
    n, d = panel.shape[-2:]
    if d == 1 or rule.scope == "batch":
        if rule.scope == "batch" and d * max(panel.shape[:-2].numel(), 1) > 1:
            raise PanelError(
                "geometric_median with scope='batch' has no gradient here. Use scope='sample', or "
                "reshape the panel to (specialist, sample * output)."
            )
        shares = chosen.unsqueeze(-1).to(panel.dtype).expand(panel.shape)
        return _with_derivative(value, (shares * _heard(panel, shares)).sum(dim=-2))
    alpha = _mass(panel, options["weights"])
    # Absent rows have weight 0 in the solution, and so do the others where one row is the solution.
    present = torch.isfinite(plain).all(dim=-1) & (alpha > 0)
    alpha = torch.where(present, alpha, torch.zeros_like(alpha))
    rows = torch.where(present.unsqueeze(-1), panel, torch.zeros_like(panel)).double()
    fixed = rows.detach()
    solution = (chosen.unsqueeze(-1) * fixed).sum(dim=-2)
    gap = rows - solution.unsqueeze(-2)
    with torch.no_grad():
        at_row = (chosen > 0) & (
            gap.detach().abs().amax(dim=-1) <= 1e-14 * fixed.abs().amax(dim=(-1, -2), keepdim=True)[..., 0]
        )
        single = at_row.any(dim=-1)
        length = gap.detach().norm(dim=-1)
        usable = present & (length > 0)
        omega = torch.where(
            usable, alpha / torch.where(usable, length, torch.ones_like(length)), torch.zeros_like(alpha)
        )
        unit = torch.where(
            usable.unsqueeze(-1),
            gap.detach() / torch.where(usable, length, torch.ones_like(length)).unsqueeze(-1),
            0.0,
        )
        total = omega.sum(dim=-1)
        # (total I - U' diag(omega) U)^-1 b by the matrix inversion lemma: n by n, whatever the outputs.
        root = omega.sqrt().unsqueeze(-1) * unit
        small = (
            total[..., None, None] * torch.eye(n, dtype=torch.float64, device=panel.device) - root @ root.mT
        )
    safe = torch.where(usable.unsqueeze(-1), gap, torch.ones_like(gap))
    pull = torch.where(
        usable.unsqueeze(-1),
        alpha.unsqueeze(-1) * safe / safe.norm(dim=-1, keepdim=True),
        torch.zeros_like(gap),
    ).sum(dim=-2)
    inverse = torch.linalg.pinv(small, hermitian=True)
    inner = inverse @ (root @ pull.unsqueeze(-1))
    step = (pull + (root.mT @ inner).squeeze(-1)) / torch.where(
        total > 0, total, torch.ones_like(total)
    ).unsqueeze(-1)
    picked = (chosen.unsqueeze(-1) * rows).sum(dim=-2)
    moving = torch.where(single.unsqueeze(-1), picked, step)
    return _with_derivative(value, moving.to(panel.dtype))


def _mass(panel: Any, weights: Any) -> Any:
    n = panel.shape[-2]
    alpha = read_weights(weights, tuple(panel.shape[:-2]), tuple(map(str, range(n))))
    if alpha is None:
        return torch.full(panel.shape[:-1], 1.0 / n, dtype=torch.float64, device=panel.device)
    tensor = torch.as_tensor(alpha, dtype=torch.float64, device=panel.device)
    return tensor.expand(-1, n).broadcast_to((max(panel.shape[:-2].numel(), 1), n)).reshape(panel.shape[:-1])


def _tensor(values: Any, like: Any) -> Any:
    return torch.as_tensor(np.ascontiguousarray(values)).to(device=like.device, dtype=like.dtype)


def _heard(panel: Any, shares: Any) -> Any:
    """Hide the answers that count nothing: 0 times NaN would be NaN in both directions."""
    return torch.where(shares == 0, torch.zeros_like(panel), panel)


def _with_derivative(value: Any, moving: Any) -> Any:
    return value + (moving - moving.detach())


def log_pool_with_gradient(panel: Any, pool: LogPool, *, weights: Any, missing: str, excess: str) -> Any:
    """Pool probabilities or logits that require gradients.

    Parameters
    ----------
    panel : torch.Tensor, shape (..., specialist, output)
        Checked already.
    pool : LogPool
        Its parameters.
    weights, missing, excess
        As in the public functions.

    Returns
    -------
    torch.Tensor, shape (..., output)
    """
    wide = panel.double()
    logs = wide if pool.from_logits else torch.log((1.0 - panel.shape[-1] * pool.floor) * wide + pool.floor)
    if pool.rule is not None:
        centre = logs.mean(dim=-1, keepdim=True)
        logs = logs - torch.where(torch.isfinite(centre), centre, torch.zeros_like(centre))
    pooled = fuse_with_gradient(logs, pool._rule(), weights=weights, missing=missing, excess=excess)
    return torch.softmax(pool.sharpness * pooled, dim=-1).to(panel.dtype)


def simplex_with_gradient(fused: Any) -> Any:
    """Project rows onto the probability simplex, differentiably.

    Parameters
    ----------
    fused : torch.Tensor, shape (..., output)
        Requires gradients.

    Returns
    -------
    torch.Tensor, shape (..., output)
    """
    if not torch.isfinite(fused).all():
        raise PanelError("project_to_simplex got non-finite values. Drop those samples first.")
    wide = fused.double()
    wide = wide - wide.amax(dim=-1, keepdim=True).detach()
    ordered = torch.sort(wide, dim=-1, descending=True).values
    places = torch.arange(1, fused.shape[-1] + 1, dtype=torch.float64, device=fused.device)
    level = (1.0 - torch.cumsum(ordered, dim=-1)) / places
    last = ((ordered + level) > 0).sum(dim=-1, keepdim=True) - 1
    return torch.clamp(wide + torch.gather(level, -1, last), min=0.0).to(fused.dtype)
