"""Early fusion of raw token streams: every token of every view attends before anything is summarised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fusion.mid._blocks import AttentionBlock, masked_average, positions, token_numbers
from fusion.mid.operator import FusionOut, MidOperator
from theory._exceptions import BudgetError, PanelError


class StreamAttention(MidOperator):
    """Attend over the raw tokens of all views at their real times.

    Parameters
    ----------
    width : int
        Features inside.
    n_views : int or sequence of str
        How many streams, or their names in order.
    in_features : sequence of int, optional
        Features of a token of each stream; `width` of all unless given.
    n_layers : int, default 2
        Attention blocks (per ordered pair if pairwise).
    n_heads : int, default 4
        Heads; a divisor of `width`.
    attend : {"joint", "pairwise"}, default "joint"
        All tokens together, read at a token of its own; or each stream to each other one.
    max_tokens : int, default 4096
        Most tokens of a sample.
    feedforward : int, optional
        Hidden features of a block; twice `width` unless given.
    dropout : float, default 0
        In the blocks.

    Raises
    ------
    PanelError
        If shapes do not fit.
    BudgetError
        If a sample has more tokens than `max_tokens`.

    Notes
    -----
    Token ``W_v x_{v,t} + e_v + p(t)``, p of the time stamp, so clocks may differ. The cost is quadratic in all tokens.
    There is no auxiliary head and nothing protects against a lying stream.

    References
    ----------
    .. [1] Tsai et al., Multimodal transformer for unaligned multimodal language sequences, ACL 2019.

    Examples
    --------
    >>> import torch
    >>> fuse = StreamAttention(8, 2, in_features=(3, 5))
    >>> fuse([torch.zeros(2, 6, 3), torch.zeros(2, 4, 5)]).fused.shape
    torch.Size([2, 8])
    """

    takes_tokens: ClassVar[bool] = True
    reads_raw: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        n_views: int | Sequence[str],
        *,
        in_features: Sequence[int] | None = None,
        n_layers: int = 2,
        n_heads: int = 4,
        attend: Literal["joint", "pairwise"] = "joint",
        max_tokens: int = 4096,
        feedforward: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__(width, n_views)
        if attend not in ("joint", "pairwise"):
            raise PanelError(f"attend is 'joint' or 'pairwise'; got {attend!r}.")
        inside = (width,) * self.n_views if in_features is None else tuple(in_features)
        if len(inside) != self.n_views:
            raise PanelError(f"in_features has {len(inside)} entries for {self.n_views} streams.")
        self.in_features, self.max_tokens, self.n_heads = inside, max_tokens, n_heads
        self.embed = nn.ModuleList(nn.Linear(d, width) for d in inside)
        self.codes = nn.Parameter(torch.randn(self.n_views, width) * 0.02)
        self.pairs = (
            [(a, b) for a in range(self.n_views) for b in range(self.n_views) if a != b]
            if attend == "pairwise"
            else []
        )
        self.answer = nn.Parameter(torch.randn(max(len(self.pairs), 1), width) * 0.02)
        self.stacks = nn.ModuleList(
            nn.ModuleList(AttentionBlock(width, n_heads, feedforward, dropout) for _ in range(n_layers))
            for _ in range(max(len(self.pairs), 1))
        )
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(len(self.pairs) * width, width) if self.pairs else None

    def forward(self, views: Any, mask: Any = None, padding: Any = None, times: Any = None) -> FusionOut:
        """Fuse raw streams.

        Parameters
        ----------
        views : list or dict of Tensor of shape (sample, token, in_features_v)
            The streams; (sample, in_features_v) is a stream of one token, None one that is absent.
        mask : Tensor of bool of shape (sample, specialist), or dict of (sample,), optional
            True where the stream is present.
        padding : list or dict of Tensor of bool of shape (sample, token), optional
            True where a token is only padding.
        times : list or dict of Tensor of shape (sample, token), optional
            Time stamps; the tokens' numbers unless given.

        Returns
        -------
        FusionOut

        Raises
        ------
        PanelError
            If shapes do not fit.
        BudgetError
            If a sample has more tokens than `max_tokens`.
        """
        listed = self._listed(views)
        clocks = self._listed(times) if times is not None else [None] * self.n_views
        pads = self._listed(padding) if padding is not None else [None] * self.n_views
        masks = self._mask(mask)
        like = next((view for view in listed if view is not None), None)
        if like is None:
            raise PanelError("no view holds anything. Give at least one tensor.")
        embedded: list[Tensor | None] = []
        for v, view in enumerate(listed):
            if view is None:
                embedded.append(None)
                continue
            cells = view.unsqueeze(1) if view.dim() == 2 else view
            if cells.dim() != 3 or cells.shape[-1] != self.in_features[v]:
                raise PanelError(
                    f"stream {self._name(v)!r} has shape {tuple(view.shape)}; needed (sample, token, "
                    f"{self.in_features[v]})."
                )
            gone = torch.isnan(cells).all(dim=-1)
            if pads[v] is not None:
                gone = gone | pads[v]
            if masks is not None and masks[v] is not None:
                gone = gone | ~masks[v][:, None]
            pads[v] = gone
            clean = torch.where(gone[..., None], torch.zeros_like(cells), cells)
            clock = clocks[v]
            times_v = token_numbers(clean) if clock is None else clock.to(clean.dtype)
            times_v = torch.where(gone, torch.zeros_like(times_v), times_v)
            embedded.append(self.embed[v](clean) + self.codes[v] + positions(times_v, self.width))
        total = sum(cells.shape[1] for cells in embedded if cells is not None)
        if total > self.max_tokens:
            megabytes = total * total * like.element_size() / 1e6
            raise BudgetError(
                f"{total} tokens exceed max_tokens={self.max_tokens} ({megabytes:.0f} MB per sample and head). Use "
                "BottleneckFusion or pool_ragged."
            )
        return super().forward(embedded, mask, pads)

    def _fuse(self, tokens: list[Tensor], keep: list[Tensor], present: Tensor) -> FusionOut:
        n = present.shape[0]
        pooled = torch.stack([masked_average(t, k) for t, k in zip(tokens, keep, strict=True)], dim=1)
        always = torch.ones_like(present[:, :1])
        if self.last is None:
            flow = torch.cat([self.answer[:1].to(tokens[0].dtype).expand(n, 1, -1), *tokens], dim=1)
            heard = torch.cat([always, *keep], dim=1)
            for block in self.stacks[0]:
                flow = block(flow, heard)
            return self._out(self.norm(flow[:, 0]), pooled, None)
        parts = []
        for i, (a, b) in enumerate(self.pairs):
            nobody = self.answer[i].to(tokens[b].dtype).expand(n, 1, -1)
            context = torch.cat([nobody, tokens[b]], dim=1)
            heard = torch.cat([always, keep[b]], dim=1)
            flow = tokens[a]
            for block in self.stacks[i]:
                flow = block(flow, heard, context)
            parts.append(masked_average(self.norm(flow), keep[a]))
        return self._out(self.last(torch.cat(parts, dim=1)), pooled, None)
