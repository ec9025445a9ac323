"""Experts: a few chosen by a gate, and the product of what each view believes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.mid._masked import side_by_side
from fusion.mid.operator import FusionOut, MidOperator
from theory._exceptions import PanelError


class MixtureOfExpertsFusion(MidOperator):
    """Send each sample to the few experts that a gate chooses, and add those that see everything.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.
    n_experts : int, default 4
        Experts to choose from, two-layer networks on the embeddings side by side.
    top_k : int, default 2
        Experts that a sample is sent to.
    n_shared : int, default 1
        Experts that see every sample.
    hidden : int, optional
        Hidden features of an expert; `width` unless given.
    balance : {"switch", "cv2", None}, default "switch"
        What keeps the gate from sending everything to one expert, in training only: the product of routed
        share and mean gate, or the squared variation of the gates' sums.
    alpha : float, default 0.01
        Weight of the balance.
    z_loss : float, default 1e-3
        Weight of the mean squared log-sum-exp of the gate's scores.

    Raises
    ------
    PanelError
        If numbers are out of range or the balance is unknown.

    Notes
    -----
    Ties go to the lower index. No expert has a capacity limit: with one a sample's answer would depend on its
    batch. The mask is part of the input. With ``top_k = n_experts`` it is the dense mixture.

    References
    ----------
    .. [1] Fedus et al., Switch transformers, JMLR 23, 2022, equations 4 to 6.
    .. [2] Shazeer et al., Outrageously large neural networks, ICLR 2017, equation 7.

    Examples
    --------
    >>> import torch
    >>> fuse = MixtureOfExpertsFusion(8, 2).train()
    >>> bool(fuse(torch.randn(4, 2, 8)).aux_loss > 0), float(fuse.eval()(torch.randn(4, 2, 8)).aux_loss)
    (True, 0.0)
    """

    def __init__(
        self,
        width: int,
        n_views: int | Sequence[str],
        *,
        n_experts: int = 4,
        top_k: int = 2,
        n_shared: int = 1,
        hidden: int | None = None,
        balance: Literal["switch", "cv2"] | None = "switch",
        alpha: float = 0.01,
        z_loss: float = 1e-3,
    ):
        super().__init__(width, n_views)
        if not 1 <= top_k <= n_experts or n_shared < 0:
            raise PanelError(
                f"needed 1 <= top_k <= n_experts and n_shared >= 0; got {top_k}, {n_experts}, {n_shared}."
            )
        if balance not in ("switch", "cv2", None):
            raise PanelError(f"balance is 'switch', 'cv2' or None; got {balance!r}.")
        joint = self.n_views * (width + 1)
        inner = width if hidden is None else hidden
        self.top_k, self.balance, self.alpha, self.z_loss = top_k, balance, alpha, z_loss
        self.gate = nn.Linear(joint, n_experts)
        self.experts = nn.ModuleList(_expert(joint, inner, width) for _ in range(n_experts))
        self.shared = nn.ModuleList(_expert(joint, inner, width) for _ in range(n_shared))

    def _fuse_vectors(self, views: Tensor, present: Tensor) -> FusionOut:
        joint = side_by_side(views, present)
        score = self.gate(joint)
        order = torch.sort(score, dim=1, descending=True, stable=True).indices
        routed = torch.zeros_like(score, dtype=torch.bool).scatter(1, order[:, : self.top_k], True)
        chosen = torch.softmax(score.masked_fill(~routed, -torch.inf), dim=1)
        said = torch.stack([expert(joint) for expert in self.experts], dim=1)
        fused = torch.einsum("ne,new->nw", chosen, said)
        for expert in self.shared:
            fused = fused + expert(joint)
        loss = self._balance(score, chosen, routed) if self.training else None
        return self._out(fused, views, None, aux_loss=loss)

    def _balance(self, score: Tensor, chosen: Tensor, routed: Tensor) -> Tensor:
        loss = self.z_loss * torch.logsumexp(score, dim=1).square().mean()
        if self.balance == "switch":
            share = routed.to(score.dtype).mean(dim=0) / self.top_k
            loss = (
                loss + self.alpha * score.shape[1] * (share * torch.softmax(score, dim=1).mean(dim=0)).sum()
            )
        elif self.balance == "cv2":
            mass = chosen.sum(dim=0)
            loss = loss + self.alpha * mass.var(correction=0) / mass.mean().square()
        return loss


class ProductOfExpertsFusion(MidOperator):
    """Combine what each view believes, weighted by how precisely it believes it.

    Parameters
    ----------
    width : int
        Features of the fused embedding; encoders give twice as many, mean and raw precision.
    n_views : int or sequence of str
        How many views, or their names in order.
    max_precision : float, default 100
        Cap on the precision of one view: an infinite one would remove all others.
    prior_precision : float, default 1
        Of the prior, whose mean is 0.

    Raises
    ------
    PanelError
        If a precision is not positive.

    Notes
    -----
    ``mu = sum l_v mu_v / (l_0 + sum l_v)`` with ``l = softplus(raw)``: the mean of the product of Gaussian
    densities. An absent view drops out exactly. A confident liar wins.

    References
    ----------
    .. [1] Wu & Goodman, Multimodal generative models for scalable weakly-supervised learning, NeurIPS 2018.

    Examples
    --------
    >>> import torch
    >>> fuse = ProductOfExpertsFusion(1, 2)
    >>> fuse(torch.tensor([[[4.0, 50.0], [0.0, -50.0]]])).fused.round(decimals=2)
    tensor([[3.9200]])
    """

    emits: ClassVar[int] = 2

    def __init__(
        self,
        width: int,
        n_views: int | Sequence[str],
        *,
        max_precision: float = 100.0,
        prior_precision: float = 1.0,
    ):
        super().__init__(width, n_views)
        if not max_precision > 0 or not prior_precision > 0:
            raise PanelError(f"precisions are positive; got {max_precision} and {prior_precision}.")
        self.max_precision = max_precision
        self.prior_precision = prior_precision

    def _fuse_vectors(self, views: Tensor, present: Tensor) -> FusionOut:
        mean, raw = views.chunk(2, dim=-1)
        precision = functional.softplus(raw).clamp(max=self.max_precision)
        precision = torch.where(present[..., None], precision, torch.zeros_like(precision))
        share = precision / (self.prior_precision + precision.sum(dim=1, keepdim=True))
        return self._out((share * mean).sum(dim=1), mean, share.mean(dim=-1))


def _expert(inside: int, hidden: int, outside: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inside, hidden), nn.GELU(), nn.Linear(hidden, outside))
