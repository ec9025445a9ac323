"""Views that exchange information only through a few shared tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from fusion.mid._blocks import AttentionBlock, masked_average, positions, token_numbers
from fusion.mid._masked import masked_mean
from fusion.mid.operator import FusionOut, MidOperator
from theory._exceptions import PanelError


class BottleneckFusion(MidOperator):
    """Give each view its own transformer, and all of them a few shared tokens to talk through.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.
    n_layers : int, default 3
        Blocks of each view.
    fusion_layer : int or None, default 1
        First block that sees the shared tokens; at most ``n_layers - 2``. None: views never exchange
        anything, and their embeddings are averaged at the end.
    n_bottleneck : int, default 4
        Shared tokens.
    n_heads : int, default 4
        Heads; a divisor of `width`.
    feedforward : int, optional
        Hidden features of a block; twice `width` unless given.
    dropout : float, default 0
        In the blocks.

    Raises
    ------
    PanelError
        If the views would never exchange information.

    Notes
    -----
    From `fusion_layer` on every view runs its block on ``[X_v; b]`` with the same incoming b, and the next b is the
    mean over present views of what came out. The first such block reads a constant b and the last b is
    read by nobody: below two of them there is no exchange. Costs ``sum (T_v + B)^2`` attention
    pairs where joint attention costs ``(sum T_v)^2``. The fused embedding is the mean of the views' own,
    so a shared linear head averages their scores.

    References
    ----------
    .. [1] Nagrani et al., Attention bottlenecks for multimodal fusion, NeurIPS 2021, equations 8 and 9.

    Examples
    --------
    >>> import torch
    >>> fuse = BottleneckFusion(8, 2)
    >>> fuse([torch.zeros(2, 6, 8), torch.zeros(2, 3, 8)]).fused.shape
    torch.Size([2, 8])
    """

    takes_tokens: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        n_views: int | Sequence[str],
        *,
        n_layers: int = 3,
        fusion_layer: int | None = 1,
        n_bottleneck: int = 4,
        n_heads: int = 4,
        feedforward: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__(width, n_views)
        if n_bottleneck < 1 or n_layers < 1:
            raise PanelError(f"n_layers and n_bottleneck are at least 1; got {n_layers} and {n_bottleneck}.")
        if fusion_layer is not None and not 0 <= fusion_layer <= n_layers - 2:
            raise PanelError(
                f"n_layers={n_layers}, fusion_layer={fusion_layer} never exchanges information between views. "
                "Set fusion_layer <= n_layers-2."
            )
        self.fusion_layer = n_layers if fusion_layer is None else fusion_layer
        self.shared = (
            nn.Parameter(torch.randn(n_bottleneck, width) * 0.02) if fusion_layer is not None else None
        )
        self.towers = nn.ModuleList(
            nn.ModuleList(AttentionBlock(width, n_heads, feedforward, dropout) for _ in range(n_layers))
            for _ in range(self.n_views)
        )
        self.norm = nn.LayerNorm(width)

    def _fuse(self, tokens: list[Tensor], keep: list[Tensor], present: Tensor) -> FusionOut:
        n = present.shape[0]
        flows = [cells + positions(token_numbers(cells), self.width) for cells in tokens]
        # An absent view has no token to attend to; its first stands in and is read by nobody.
        first = [
            torch.cat([used[:, :1] | ~used.any(dim=1, keepdim=True), used[:, 1:]], dim=1) for used in keep
        ]
        n_layers = len(self.towers[0])
        for layer in range(min(self.fusion_layer, n_layers)):
            flows = [self.towers[v][layer](flow, first[v]) for v, flow in enumerate(flows)]
        if self.shared is not None:
            shared = self.shared.to(flows[0].dtype).expand(n, -1, -1)
            always = torch.ones(shared.shape[:2], dtype=torch.bool, device=present.device)
            share = present.to(flows[0].dtype)
            share = share / share.sum(dim=1, keepdim=True).clamp(min=1)
            for layer in range(self.fusion_layer, n_layers):
                told = []
                for v, flow in enumerate(flows):
                    both = self.towers[v][layer](
                        torch.cat([flow, shared], dim=1), torch.cat([keep[v], always], dim=1)
                    )
                    flows[v] = both[:, : flow.shape[1]]
                    told.append(both[:, flow.shape[1] :])
                shared = torch.einsum("nv,nvbw->nbw", share, torch.stack(told, dim=1))
        pooled = torch.stack(
            [masked_average(self.norm(flow), used) for flow, used in zip(flows, keep, strict=True)], dim=1
        )
        return self._out(masked_mean(pooled, present), pooled, None)
