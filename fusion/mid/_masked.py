"""Means, softmaxes and losses over what is there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def masked_mean(views: Tensor, present: Tensor) -> Tensor:
    """Average the present views, (sample, specialist, width) to (sample, width); 0 without any."""
    share = present.to(views.dtype)
    share = share / share.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("nv,nvw->nw", share, views)


def side_by_side(views: Tensor, present: Tensor) -> Tensor:
    """Flatten (sample, specialist, width) and append the mask; absent views are 0 already."""
    return torch.cat([views.flatten(1), present.to(views.dtype)], dim=1)


def masked_softmax(score: Tensor, keep: Tensor, *, dim: int) -> Tensor:
    """Softmax over what is there; 0 everywhere where nothing is."""
    low = torch.where(keep, score, torch.full_like(score, torch.finfo(score.dtype).min))
    z = torch.softmax(low, dim=dim)
    return torch.where(keep, z, torch.zeros_like(z))


def row_losses(scores: Tensor, target: Tensor) -> Tensor:
    """Give cross-entropy for class numbers, squared error for numbers, per row of (..., output)."""
    if target.dtype == torch.int64:
        flat = functional.cross_entropy(scores.flatten(0, -2), target.flatten(), reduction="none")
        return flat.reshape(target.shape)
    losses: Any = (scores - target).square().mean(dim=-1)
    return losses
