"""The plain ways to join embeddings: side by side, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fusion.mid._masked import side_by_side, weighted_sum
from fusion.mid.operator import FusionOut, MidOperator
from theory._exceptions import PanelError


class ConcatFusion(MidOperator):
    """Put the embeddings side by side, with one column per view that says whether it is there.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.

    Notes
    -----
    The mask columns matter: without them an absent view and an embedding of zeros are the same.

    References
    ----------
    .. [1] Ngiam et al., Multimodal deep learning, ICML 2011.

    Examples
    --------
    >>> import torch
    >>> ConcatFusion(2, 2)(torch.ones(1, 2, 2), mask=torch.tensor([[True, False]])).fused
    tensor([[1., 1., 0., 0., 1., 0.]])
    """

    def __init__(self, width: int, n_views: int | Sequence[str]):
        super().__init__(width, n_views)
        self.out_features = self.n_views * (width + 1)

    def _fuse_vectors(self, views: Tensor, present: Tensor) -> FusionOut:
        return self._out(side_by_side(views, present), views, None)


class MeanFusion(MidOperator):
    """Average the embeddings of the views that are present: the default, and hard to beat.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.
    pool : {"mean", "sum", "max"}, default "mean"
        How the present embeddings are put together.
    feature_sampling : bool, default False
        In training each feature is taken from one present view, drawn at random; evaluation is the
        expectation, the masked mean (EmbraceNet). Needs ``pool="mean"``.

    Raises
    ------
    PanelError
        If the pool is unknown, or features are to be sampled with another pool than the mean.

    Notes
    -----
    With embeddings of unit scale (a LayerNorm without learned scale) f wrong views of k move the mean by
    at most ``2 f sqrt(width) / k``.

    References
    ----------
    .. [1] Choi & Lee, EmbraceNet, Information Fusion 51, 2019.

    Examples
    --------
    >>> import torch
    >>> views = torch.tensor([[[1.0], [3.0], [100.0]]])
    >>> MeanFusion(1, 3)(views, mask=torch.tensor([[True, True, False]])).fused
    tensor([[2.]])
    """

    def __init__(
        self,
        width: int,
        n_views: int | Sequence[str],
        *,
        pool: Literal["mean", "sum", "max"] = "mean",
        feature_sampling: bool = False,
    ):
        super().__init__(width, n_views)
        if pool not in ("mean", "sum", "max"):
            raise PanelError(f"pool is 'mean', 'sum' or 'max'; got {pool!r}.")
        if feature_sampling and pool != "mean":
            raise PanelError(f"feature_sampling needs pool='mean'; got {pool!r}.")
        self.pool = pool
        self.feature_sampling = feature_sampling

    def _fuse_vectors(self, views: Tensor, present: Tensor) -> FusionOut:
        share = present.to(views.dtype)
        share = share / share.sum(dim=1, keepdim=True).clamp(min=1)
        if self.pool == "max":
            low = views.masked_fill(~present[..., None], -torch.inf).amax(dim=1)
            fused = torch.where(present.any(dim=1, keepdim=True), low, torch.zeros_like(low))
            return self._out(fused, views, None)
        if self.feature_sampling and self.training:
            safe = torch.where(present.any(dim=1, keepdim=True), share, torch.ones_like(share))
            drawn = torch.multinomial(safe, views.shape[-1], replacement=True)
            return self._out(views.gather(1, drawn[:, None, :])[:, 0], views, share)
        fused = weighted_sum(share, views) if self.pool == "mean" else views.sum(dim=1)
        return self._out(fused, views, share)
