"""What trains a mid fusion besides its loss, and what tells a view that disagrees with the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from theory._exceptions import PanelError


def view_dropout(mask: Tensor, p: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Make present views absent at random, never all of them.

    Parameters
    ----------
    mask : Tensor of bool of shape (sample, specialist)
        Present views.
    p : float
        Probability that a present view is dropped, in [0, 1).
    generator : torch.Generator, optional
        Of the draws; torch's global one unless given.

    Returns
    -------
    Tensor of bool of shape (sample, specialist)
        Present and kept. Where none would be left, one present view, drawn uniformly, is. With V present views each
        is kept with probability ``1 - p + p^V / V``.

    Raises
    ------
    PanelError
        If p is out of range.

    Examples
    --------
    >>> import torch
    >>> view_dropout(torch.ones(2, 3, dtype=torch.bool), 0.0).all()
    tensor(True)
    """
    if not 0 <= p < 1:
        raise PanelError(f"view_dropout is at least 0 and below 1; got {p}.")
    if p == 0:
        return mask
    drawn = torch.rand(mask.shape, generator=generator, device=mask.device)
    kept = mask & (drawn >= p)
    # Given that all were dropped, their draws are uniform below p: the largest is one of them at random.
    saved = torch.where(mask, drawn, torch.full_like(drawn, -1.0)).argmax(dim=1, keepdim=True)
    nothing = ~kept.any(dim=1, keepdim=True)
    return kept | (torch.zeros_like(mask).scatter(1, saved, True) & nothing & mask)


def auxiliary_loss(losses: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Average each view's loss over the samples that have it, and add the views.

    Parameters
    ----------
    losses : Tensor of shape (sample, specialist)
        Loss of each view's own head.
    mask : Tensor of bool of shape (sample, specialist)
        Present views.
    weight : Tensor of shape (sample,), optional
        Of the samples.

    Returns
    -------
    Tensor of shape ()

    Examples
    --------
    >>> import torch
    >>> auxiliary_loss(torch.tensor([[1.0, 5.0], [3.0, 9.0]]), torch.tensor([[True, True], [True, False]]))
    tensor(7.)
    """
    share = mask.to(losses.dtype) if weight is None else mask.to(losses.dtype) * weight[:, None]
    kept = torch.where(mask, losses, torch.zeros_like(losses))
    total = share.sum(dim=0)
    return ((kept * share).sum(dim=0) / torch.where(total > 0, total, torch.ones_like(total))).sum()


def consistency_score(probabilities: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Say how far the most deviant view is from the others.

    Parameters
    ----------
    probabilities : Tensor of shape (sample, specialist, output)
        What each view's own head says.
    mask : Tensor of bool of shape (sample, specialist)
        Present views.

    Returns
    -------
    score : Tensor of shape (sample,)
        Largest Jensen-Shannon divergence between a view and the mean of the other present ones, in
        ``[0, ln 2]``; NaN where fewer than two views are present.
    view : Tensor of int64 of shape (sample,)
        Which view it is; the first of equals. With two views both deviate equally: nobody can say who lies.

    Examples
    --------
    >>> import torch
    >>> p = torch.tensor([[[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]])
    >>> score, view = consistency_score(p, torch.ones(1, 3, dtype=torch.bool))
    >>> int(view), round(float(score), 3)
    (2, 0.368)
    """
    here = mask[..., None].to(probabilities.dtype)
    clean = torch.where(mask[..., None], probabilities, torch.zeros_like(probabilities))
    count = here.sum(dim=1, keepdim=True)
    others = (clean.sum(dim=1, keepdim=True) - clean) / (count - 1).clamp(min=1)
    middle = 0.5 * (clean + others)
    divergence = (_entropy(middle) - 0.5 * (_entropy(clean) + _entropy(others))).clamp(
        min=0.0, max=math.log(2.0)
    )
    divergence = torch.where(mask, divergence, torch.full_like(divergence, -1.0))
    score, view = divergence.max(dim=1)
    view = (divergence == score[:, None]).to(torch.int8).argmax(dim=1)
    enough = mask.sum(dim=1) >= 2
    return torch.where(enough, score, torch.full_like(score, torch.nan)), view


def consistency_gate(score: Tensor, view: Tensor, mask: Tensor, threshold: float) -> Tensor:
    """Mask the deviant view of samples whose score is above a threshold.

    Parameters
    ----------
    score, view : Tensor of shape (sample,)
        Of `consistency_score`.
    mask : Tensor of bool of shape (sample, specialist)
        Present views.
    threshold : float
        Fires above it.

    Returns
    -------
    Tensor of bool of shape (sample, specialist)
        The mask to fuse again with. Samples with two views or fewer are left alone.

    Examples
    --------
    >>> import torch
    >>> everybody = torch.ones(1, 3, dtype=torch.bool)
    >>> consistency_gate(torch.tensor([0.5]), torch.tensor([2]), everybody, 0.3)
    tensor([[ True,  True, False]])
    """
    fires = (score > threshold) & (mask.sum(dim=1) >= 3)
    return mask & ~(torch.zeros_like(mask).scatter(1, view[:, None], True) & fires[:, None])


def blend_weights(start: Sequence[tuple[float, float]], now: Sequence[tuple[float, float]]) -> list[float]:
    """Weigh the heads by how well they generalise for how much they overfit.

    Parameters
    ----------
    start, now : sequence of (float, float)
        Training and validation loss of each head, at the start and now.

    Returns
    -------
    list of float
        Sum to 1; proportional to the gain G in validation loss over the squared growth O of the gap between
        validation and training loss. Equal if nobody gained.

    References
    ----------
    .. [1] Wang et al., What makes training multi-modal classification networks hard?, CVPR 2020, equation 6.

    Examples
    --------
    >>> blend_weights([(2.0, 2.0), (2.0, 2.0)], [(1.0, 1.5), (1.0, 2.5)])
    [1.0, 0.0]
    """
    raw = []
    for (train_0, valid_0), (train, valid) in zip(start, now, strict=True):
        overfit = max((valid - train) - (valid_0 - train_0), 1e-4)
        raw.append(max(valid_0 - valid, 0.0) / overfit**2)
    total = sum(raw)
    return [part / total for part in raw] if total > 0 else [1.0 / len(raw)] * len(raw)


def gradient_scales(logits: Tensor, target: Tensor, mask: Tensor, *, alpha: float = 0.3) -> Tensor:
    """Slow down the encoders of views that are far ahead of the others.

    Parameters
    ----------
    logits : Tensor of shape (sample, specialist, output)
        Of each view's own head.
    target : Tensor of int64 of shape (sample,)
        The truth.
    mask : Tensor of bool of shape (sample, specialist)
        Present views.
    alpha : float, default 0.3
        How strongly.

    Returns
    -------
    Tensor of shape (specialist,)
        ``1 - tanh(alpha r_v)`` where ``r_v > 1``, else 1; r is the view's mean probability of the truth over the
        mean of the others'.

    References
    ----------
    .. [1] Peng et al., Balanced multimodal learning via on-the-fly gradient modulation, CVPR 2022, equation 10.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[[9.0, 0.0], [0.0, 0.0]]])
    >>> gradient_scales(logits, torch.tensor([0]), torch.ones(1, 2, dtype=torch.bool)).tolist()[1]
    1.0
    """
    with torch.no_grad():
        truth = target[:, None, None].expand(-1, logits.shape[1], 1)
        right = torch.softmax(logits, dim=2).gather(2, truth)[..., 0]
        count = mask.sum(dim=0)
        skill = (right * mask).sum(dim=0) / count.clamp(min=1)
        seen = count > 0
        others = (skill.sum() - skill) / (seen.sum() - 1).clamp(min=1)
        ratio = skill / others.clamp(min=1e-12)
        ahead = (ratio > 1) & seen & (seen.sum() > 1)
        return torch.where(ahead, 1.0 - torch.tanh(alpha * ratio), torch.ones_like(ratio))


def _entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(dim=-1)
