"""Pre-aggregators on tensors that require gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fusion._mixed_panel import mixing_matrices, run_mixing
from theory._exceptions import PanelError

if TYPE_CHECKING:
    from fusion._mixing import Mixing


def mix_with_gradient(
    panel: Any, stages: tuple[Mixing, ...], *, weights: Any, missing: str, excess: str
) -> Any:
    """Mix a tensor that requires gradients.

    Parameters
    ----------
    panel : torch.Tensor, shape (..., specialist, output)
        Requires gradients.
    stages : tuple of Mixing
        The first one is applied first.
    weights, missing, excess
        As in the public functions.

    Returns
    -------
    torch.Tensor, shape (..., row, output)
        The value for the detached panel, with its derivative: that of the mixture with the neighbours or
        groups held fixed, and that of clipping, which moves with the length it clips to.

    Raises
    ------
    PanelError
        If clipping measures lengths over a batch, or weights would have to pass from groups to what is behind.
    """
    if len(stages) > 1:
        if weights is not None and any(stage.needs == "nothing" for stage in stages[:-1]):
            raise PanelError("weights behind bucketing and another pre-aggregator have no gradient here.")
        for stage in stages:
            panel = mix_with_gradient(panel, (stage,), weights=weights, missing=missing, excess=excess)
        return panel
    (stage,) = stages
    plain = panel.detach()
    options = {"weights": weights, "missing": missing, "excess": excess}
    value = run_mixing(plain, stages, **options)
    found = mixing_matrices(plain, stages, **options)
    matrix = torch.as_tensor(found).to(device=panel.device, dtype=panel.dtype)
    # 0 times NaN would be NaN in both directions.
    heard = torch.where((matrix != 0).any(dim=-2).unsqueeze(-1), panel, torch.zeros_like(panel))
    moving = _clipped(heard, matrix, stage) if stage.needs == "lengths" else matrix @ heard
    return value + (moving - moving.detach())


def _clipped(panel: Any, matrix: Any, stage: Mixing) -> Any:
    if stage.scope == "batch":
        raise PanelError(f"{stage.name} with scope='batch' has no gradient here. Use scope='sample'.")
    center = torch.as_tensor(stage.center).to(device=panel.device, dtype=panel.dtype)
    share = torch.diagonal(matrix, dim1=-2, dim2=-1)
    clipped = share < 1
    gap = panel - center
    # Lengths of 0 have no derivative and are never clipped, unless to 0.
    some = (gap != 0).any(dim=-1, keepdim=True)
    length = torch.where(some, gap, torch.ones_like(gap)).norm(dim=-1)
    if stage.radius is None:
        present = share > 0
        left = torch.where(present & ~clipped & some[..., 0], length, torch.zeros_like(length))
        radius = left.amax(dim=-1, keepdim=True)
    else:
        radius = torch.full_like(length, stage.radius)
    factor = torch.where(clipped, radius / length, torch.ones_like(length))
    return center + factor.unsqueeze(-1) * gap
