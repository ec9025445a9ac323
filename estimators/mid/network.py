"""Encoders, operator and heads as one module."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from estimators.mid.reading import ViewReader
from fusion.mid import FusionOut, MidOperator, get_mid_operator
from theory import PanelError

BOTTLENECK_TOKENS = 4


class NetworkOut(NamedTuple):
    """Scores of the fused embedding and of each view.

    Attributes
    ----------
    scores : Tensor of shape (sample, output)
        Logits, or standardised numbers.
    view_scores : Tensor of shape (sample, specialist, output), or None
        Of the auxiliary heads.
    mask : Tensor of bool of shape (sample, specialist)
        Views that took part.
    fusion : FusionOut
        What the operator gave.
    """

    scores: Tensor
    view_scores: Tensor | None
    mask: Tensor
    fusion: FusionOut


class VectorEncoder(nn.Module):
    """Two layers and a LayerNorm: ``d w + w + w w' + w' + 2 w'`` parameters.

    Parameters
    ----------
    n_features : int
        Features in.
    width : int
        Features out, of each token.
    hidden : int
        Features between.
    dropout : float
        Behind the first layer.
    n_tokens : int, default 1
        Tokens that a vector is turned into.
    normalise : bool, default True
        Whether a LayerNorm ends it.
    """

    def __init__(
        self,
        n_features: int,
        width: int,
        hidden: int,
        dropout: float,
        n_tokens: int = 1,
        *,
        normalise: bool = True,
    ):
        super().__init__()
        self.n_tokens, self.out_features = n_tokens, width
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, n_tokens * width)
        )
        # A precision must stay free of the others, so the operator that reads one gets no LayerNorm.
        self.norm = nn.LayerNorm(width) if normalise else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        """Encode (sample, ..., feature) to (sample, ..., width), or to (sample, token, width)."""
        out = self.layers(values)
        if self.n_tokens > 1 and out.dim() == 2:
            out = out.reshape(len(out), self.n_tokens, self.out_features)
        return self.norm(out)


class Adapter(nn.Module):
    """Bring somebody else's encoder to the common width.

    Parameters
    ----------
    encoder : nn.Module
        With an attribute ``out_features``.
    width : int
        Features out.
    """

    def __init__(self, encoder: nn.Module, width: int):
        super().__init__()
        if not hasattr(encoder, "out_features"):
            raise PanelError(f"encoder {type(encoder).__name__} needs an attribute out_features.")
        self.encoder = encoder
        self.project = nn.Linear(int(encoder.out_features), width)
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor) -> Tensor:
        """Encode."""
        return self.norm(self.project(self.encoder(values)))


@dataclass(frozen=True)
class NetworkPlan:
    """Everything needed to build a network again.

    Attributes
    ----------
    fusion : object
        Name, module or callable ``(width, n_views) -> module``.
    fusion_params : mapping
        Of a named operator.
    encoders : object
        ``"mlp"``, or a mapping of view names to modules.
    head : {"linear", "mlp"}
        Of the fused embedding.
    aux_heads : {"shared", "own", None}
        Of the views.
    dropout : float
        Of the encoders.
    n_outputs : int
        Of the heads.
    readers : tuple of ViewReader
        The views.
    """

    fusion: Any
    fusion_params: Mapping[str, Any]
    encoders: Any
    head: str
    aux_heads: str | None
    dropout: float
    n_outputs: int
    readers: tuple[ViewReader, ...]

    def build(self, width: int, hidden: int | None = None) -> MidNetwork:
        """Build the network.

        Parameters
        ----------
        width : int
            Features of an embedding.
        hidden : int, optional
            Features between the layers of an encoder; `width` unless given.

        Returns
        -------
        MidNetwork
        """
        return MidNetwork(self, width, width if hidden is None else hidden)


class MidNetwork(nn.Module):
    """Encode each view, fuse, and score.

    Parameters
    ----------
    plan : NetworkPlan
        What to build.
    width, hidden : int
        Sizes.
    """

    def __init__(self, plan: NetworkPlan, width: int, hidden: int):
        super().__init__()
        names = [reader.name for reader in plan.readers]
        self.fusion = build_operator(plan.fusion, width, names, plan)
        emitted = width * self.fusion.emits
        self.encoders = nn.ModuleList()
        if not self.fusion.reads_raw:
            tokens = BOTTLENECK_TOKENS if plan.fusion == "bottleneck" else 1
            given = plan.encoders if isinstance(plan.encoders, Mapping) else {}
            for reader in plan.readers:
                own = given.get(reader.name)
                if isinstance(own, nn.Module):
                    self.encoders.append(Adapter(copy.deepcopy(own), emitted))
                else:
                    count = 1 if reader.is_sequence else tokens
                    self.encoders.append(
                        VectorEncoder(
                            reader.n_features,
                            emitted,
                            hidden,
                            plan.dropout,
                            count,
                            normalise=self.fusion.emits == 1,
                        )
                    )
        out = self.fusion.out_features
        self.head = (
            nn.Linear(out, plan.n_outputs)
            if plan.head == "linear"
            else nn.Sequential(nn.Linear(out, width), nn.GELU(), nn.Linear(width, plan.n_outputs))
        )
        shared = plan.aux_heads == "shared" and out == width and not self.fusion.reads_raw
        self.shares_head = shared
        own_heads = plan.aux_heads is not None and not shared and not self.fusion.reads_raw
        self.aux_heads = nn.ModuleList(nn.Linear(width, plan.n_outputs) for _ in (names if own_heads else []))

    @property
    def has_view_scores(self) -> bool:
        """Whether views are scored by themselves."""
        return self.shares_head or len(self.aux_heads) > 0

    def forward(self, views: Sequence[Tensor], mask: Tensor, padding: Sequence[Tensor | None]) -> NetworkOut:
        """Score samples.

        Parameters
        ----------
        views : list of Tensor of shape (sample, feature) or (sample, token, feature)
            Inputs; what stands where a view is absent does not matter.
        mask : Tensor of bool of shape (sample, specialist)
            Present views.
        padding : list of Tensor of bool of shape (sample, token), or None
            Ends of sequences.

        Returns
        -------
        NetworkOut
        """
        # What stands where a view is absent is finite (`scaled` puts its mean there), so encoders may see it: the
        # operator gives it no weight, and its gradient is 0 times something finite.
        encoded = list(views)
        if self.encoders:
            encoded = [encoder(values) for encoder, values in zip(self.encoders, views, strict=True)]
        pads = [pad if e.dim() == 3 else None for e, pad in zip(encoded, padding, strict=True)]
        together = (
            not self.fusion.takes_tokens and not self.fusion.reads_raw and all(e.dim() == 2 for e in encoded)
        )
        if together:
            stacked = torch.stack(encoded, dim=1) * mask[..., None]
            out = self.fusion._fuse_vectors(stacked, mask)
        else:
            out = self.fusion(encoded, mask, pads)
        scores = self.head(out.fused)
        view_scores = None
        if self.shares_head:
            view_scores = self.head(out.views)
        elif len(self.aux_heads):
            view_scores = torch.stack([head(out.views[:, v]) for v, head in enumerate(self.aux_heads)], dim=1)
        return NetworkOut(scores, view_scores, mask, out)


def build_operator(fusion: Any, width: int, names: list[str], plan: NetworkPlan) -> MidOperator:
    """Build the operator from its name, a module or a callable.

    Parameters
    ----------
    fusion : str, nn.Module or callable
        A module is copied, so that the caller's own is never trained.
    width : int
        Features of an embedding.
    names : list of str
        Views.
    plan : NetworkPlan
        For further parameters.

    Returns
    -------
    MidOperator

    Raises
    ------
    PanelError
        If it is none.
    """
    if isinstance(fusion, str):
        params = dict(plan.fusion_params)
        if fusion in ("stream_attention", "monolith"):
            params.setdefault("in_features", tuple(reader.n_features for reader in plan.readers))
        return get_mid_operator(fusion, width, names, **params)
    built = copy.deepcopy(fusion) if isinstance(fusion, nn.Module) else fusion(width, names)
    if not isinstance(built, MidOperator):
        raise PanelError(f"fusion gave a {type(built).__name__}; needed is a fusion.mid.MidOperator.")
    if built.n_views != len(names):
        raise PanelError(
            f"fusion is built for {built.n_views} views; there are {len(names)}: {', '.join(names)}."
        )
    return built
