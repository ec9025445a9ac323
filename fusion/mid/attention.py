"""Views that attend to each other: one transformer over all, or one stack per ordered pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from fusion.mid._blocks import AttentionBlock, masked_average, positions, token_numbers
from fusion.mid.operator import FusionOut, MidOperator


class ViewTransformerFusion(MidOperator):
    """Let all views attend to each other and read the answer at a token of its own.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.
    n_layers : int, default 2
        Attention blocks.
    n_heads : int, default 4
        Heads; a divisor of `width`.
    feedforward : int, optional
        Hidden features of a block; twice `width` unless given.
    dropout : float, default 0
        In the blocks.

    Notes
    -----
    Tokens are ``h_v + e_v`` (sequences: each token, with sines of its number). Absent views are masked; the
    answering token is always there. Pre-norm blocks need the final LayerNorm that comes with them here.

    References
    ----------
    .. [1] Vaswani et al., Attention is all you need, NeurIPS 2017.

    Examples
    --------
    >>> import torch
    >>> ViewTransformerFusion(8, 3)(torch.zeros(2, 3, 8)).fused.shape
    torch.Size([2, 8])
    """

    takes_tokens: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        n_views: int | Sequence[str],
        *,
        n_layers: int = 2,
        n_heads: int = 4,
        feedforward: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__(width, n_views)
        self.answer = nn.Parameter(torch.randn(width) * 0.02)
        self.codes = nn.Parameter(torch.randn(self.n_views, width) * 0.02)
        self.blocks = nn.ModuleList(
            AttentionBlock(width, n_heads, feedforward, dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(width)

    def _fuse(self, tokens: list[Tensor], keep: list[Tensor], present: Tensor) -> FusionOut:
        n = present.shape[0]
        own = self.answer.to(tokens[0].dtype).expand(n, 1, -1)
        coded = [
            cells + self.codes[v] + positions(token_numbers(cells), self.width)
            for v, cells in enumerate(tokens)
        ]
        flow = torch.cat([own, *coded], dim=1)
        heard = torch.cat([torch.ones_like(present[:, :1]), *keep], dim=1)
        for block in self.blocks:
            flow = block(flow, heard)
        pooled = torch.stack([masked_average(t, k) for t, k in zip(tokens, keep, strict=True)], dim=1)
        return self._out(self.norm(flow[:, 0]), pooled, None)


class CrossAttentionFusion(MidOperator):
    """Let each view attend to each other one, pair by pair.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.
    n_layers : int, default 1
        Blocks per ordered pair.
    n_heads : int, default 4
        Heads; a divisor of `width`.
    feedforward : int, optional
        Hidden features of a block; twice `width` unless given.
    dropout : float, default 0
        In the blocks.

    Notes
    -----
    ``V (V - 1)`` stacks: queries of a, keys and values of b and of a learned token that is never masked, so an
    absent b has an answer. Results are pooled over tokens, put side by side, passed through
    ``z + W_2 relu(W_1 z)`` and projected. Lengths may differ. With one view there is nothing to attend to.

    References
    ----------
    .. [1] Tsai et al., Multimodal transformer for unaligned multimodal language sequences, ACL 2019, section 3.

    Examples
    --------
    >>> import torch
    >>> fuse = CrossAttentionFusion(8, ["eye", "ear"])
    >>> fuse({"eye": torch.zeros(2, 5, 8), "ear": torch.zeros(2, 3, 8)}).fused.shape
    torch.Size([2, 8])
    """

    takes_tokens: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        n_views: int | Sequence[str],
        *,
        n_layers: int = 1,
        n_heads: int = 4,
        feedforward: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__(width, n_views)
        self.pairs = [(a, b) for a in range(self.n_views) for b in range(self.n_views) if a != b]
        self.stacks = nn.ModuleList(
            nn.ModuleList(AttentionBlock(width, n_heads, feedforward, dropout) for _ in range(n_layers))
            for _ in self.pairs
        )
        self.nobody = nn.Parameter(torch.randn(len(self.pairs), width) * 0.02)
        joint = max(len(self.pairs), 1) * width
        self.first = nn.Linear(joint, joint)
        self.second = nn.Linear(joint, joint)
        self.last = nn.Linear(joint, width)

    def _fuse(self, tokens: list[Tensor], keep: list[Tensor], present: Tensor) -> FusionOut:
        pooled = torch.stack([masked_average(t, k) for t, k in zip(tokens, keep, strict=True)], dim=1)
        placed = [cells + positions(token_numbers(cells), self.width) for cells in tokens]
        always = torch.ones_like(present[:, :1])
        parts = []
        for i, (a, b) in enumerate(self.pairs):
            nobody = self.nobody[i].to(placed[b].dtype).expand(present.shape[0], 1, -1)
            context = torch.cat([nobody, placed[b]], dim=1)
            heard = torch.cat([always, keep[b]], dim=1)
            flow = placed[a]
            for block in self.stacks[i]:
                flow = block(flow, heard, context)
            parts.append(masked_average(flow, keep[a]))
        joint = torch.cat(parts, dim=1) if parts else pooled[:, 0]
        joint = joint + self.second(torch.relu(self.first(joint)))
        return self._out(self.last(joint), pooled, None)
