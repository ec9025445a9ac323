"""Attention blocks of the mid operators: pre-norm, deterministic in evaluation, never fully masked."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from theory._exceptions import PanelError


class AttentionBlock(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual.

    Parameters
    ----------
    width : int
        Features of a token.
    n_heads : int
        Heads; a divisor of `width`.
    feedforward : int, optional
        Hidden features; twice `width` unless given.
    dropout : float, default 0
        On attention weights and on both residual branches.

    Notes
    -----
    ``4 w^2 + 4 w + 2 w r + r + w + 4 w`` parameters for width w and hidden r. The layers of torch are not used:
    their fused evaluation path gives NaN for fully masked rows where the other gives 0.
    """

    def __init__(self, width: int, n_heads: int, feedforward: int | None = None, dropout: float = 0.0):
        super().__init__()
        if n_heads < 1 or width % n_heads:
            raise PanelError(f"width {width} cannot be cut into {n_heads} heads. Use a divisor.")
        hidden = 2 * width if feedforward is None else feedforward
        self.n_heads = n_heads
        self.before = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, keep: Tensor, context: Tensor | None = None) -> Tensor:
        """Let tokens attend to a context, themselves unless given.

        Parameters
        ----------
        tokens : Tensor of shape (sample, token, width)
            Who asks.
        keep : Tensor of bool of shape (sample, context token)
            Who may be heard; at least one per sample.
        context : Tensor of shape (sample, context token, width), optional
            Who is heard.

        Returns
        -------
        Tensor of shape (sample, token, width)
        """
        n, t, width = tokens.shape
        asked = self.before(tokens)
        heard = asked if context is None else self.before(context)
        query_weight, other_weight = self.project.weight.split([width, 2 * width])
        query_bias, other_bias = self.project.bias.split([width, 2 * width])
        query = functional.linear(asked, query_weight, query_bias)
        key, value = functional.linear(heard, other_weight, other_bias).chunk(2, dim=-1)
        query, key, value = (
            part.reshape(n, part.shape[1], self.n_heads, -1).transpose(1, 2) for part in (query, key, value)
        )
        mixed = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=keep[:, None, None, :],
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        tokens = tokens + self.dropout(self.join(mixed.transpose(1, 2).reshape(n, t, width)))
        hidden = functional.gelu(self.widen(self.between(tokens)))
        return tokens + self.dropout(self.narrow(hidden))


def positions(times: Tensor, width: int) -> Tensor:
    """Encode times by sines and cosines; time 0 is 0, so that a vector is a sequence of one.

    Parameters
    ----------
    times : Tensor of shape (..., token)
        Token numbers, or real time stamps.
    width : int
        Features.

    Returns
    -------
    Tensor of shape (..., token, width)

    Notes
    -----
    ``p_2i = sin(t / 10000^(2i/width))``, ``p_2i+1 = cos(...) - 1``.
    """
    pairs = torch.arange(0, width, 2, dtype=times.dtype, device=times.device)
    angle = times[..., None] * torch.exp(pairs * (-math.log(10000.0) / width))
    waves = torch.stack([torch.sin(angle), torch.cos(angle) - 1.0], dim=-1).flatten(-2)
    return waves[..., :width]


def token_numbers(tokens: Tensor) -> Tensor:
    """Give 0, 1, 2, ... for the tokens of (sample, token, width), in their dtype."""
    return torch.arange(tokens.shape[1], dtype=tokens.dtype, device=tokens.device)


def masked_average(tokens: Tensor, keep: Tensor) -> Tensor:
    """Average (sample, token, width) over the tokens that are there; 0 where there is none."""
    share = keep.to(tokens.dtype)
    share = share / share.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("nt,ntw->nw", share, torch.where(keep[..., None], tokens, torch.zeros_like(tokens)))
