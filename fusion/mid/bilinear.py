"""Products of views: the full outer product, and its low-rank form that is never built."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusion.mid.operator import FusionOut, MidOperator
from theory._exceptions import PanelError

_MAX_CELLS = 8000


def tensor_fusion(views: Sequence[Tensor]) -> Tensor:
    """Give the outer product of all views, each with a 1 in front.

    Parameters
    ----------
    views : sequence of Tensor of shape (sample, features_v)
        The embeddings.

    Returns
    -------
    Tensor of shape (sample, prod(features_v + 1))
        In C order of the views.

    Raises
    ------
    PanelError
        If the product has more than 8000 cells, or the views differ in samples.

    References
    ----------
    .. [1] Zadeh et al., Tensor fusion network, EMNLP 2017, equation 3.

    Examples
    --------
    >>> import torch
    >>> tensor_fusion([torch.tensor([[2.0]]), torch.tensor([[3.0]])])
    tensor([[1., 3., 2., 6.]])
    """
    cells = math.prod(view.shape[1] + 1 for view in views)
    if cells > _MAX_CELLS:
        raise PanelError(
            f"the outer product of {len(views)} views has {cells} cells; at most {_MAX_CELLS}. Use LowRankFusion."
        )
    if len({view.shape[0] for view in views}) > 1:
        raise PanelError(f"views differ in samples: {[view.shape[0] for view in views]}.")
    product = views[0].new_ones(views[0].shape[0], 1)
    for view in views:
        ones = view.new_ones(view.shape[0], 1)
        product = (product[:, :, None] * torch.cat([ones, view], dim=1)[:, None, :]).flatten(1)
    return product


class LowRankFusion(MidOperator):
    """Multiply the views, feature by feature, in a sum of `rank` products.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.
    rank : int, default 4
        Products that are summed.

    Raises
    ------
    PanelError
        If the rank is below 1.

    Notes
    -----
    ``fused = LayerNorm(sum_r a_r prod_v W_v^r [1; h_v] + b)``: the outer product of all ``[1; h_v]``, contracted
    with a tensor of that rank. The factor of an absent view is 1. At the start the product has mean 1
    and variance ``2^V - 1``, hence the LayerNorm. A lying view multiplies everything: the least robust operator
    of all.

    References
    ----------
    .. [1] Liu et al., Efficient low-rank multimodal fusion, ACL 2018, equation 6.

    Examples
    --------
    >>> import torch
    >>> fuse = LowRankFusion(8, 3)
    >>> fuse(torch.zeros(5, 3, 8)).fused.shape, len(list(fuse.parameters()))
    (torch.Size([5, 8]), 5)
    """

    def __init__(self, width: int, n_views: int | Sequence[str], *, rank: int = 4):
        super().__init__(width, n_views)
        if rank < 1:
            raise PanelError(f"rank is at least 1; got {rank}.")
        self.rank = rank
        # One parameter of all views: factors in a plain list would never be trained, moved or saved.
        factors = torch.randn(self.n_views, width + 1, rank, width) / math.sqrt(width + 1)
        factors[:, 0] = 1.0
        self.factors = nn.Parameter(factors)
        self.mixing = nn.Parameter(torch.full((rank,), 1.0 / rank))
        self.bias = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)

    def contract(self, views: Tensor, present: Tensor) -> Tensor:
        """Give the sum of products, before the LayerNorm.

        Parameters
        ----------
        views : Tensor of shape (sample, specialist, width)
            Embeddings, 0 where absent.
        present : Tensor of bool of shape (sample, specialist)
            Which are there.

        Returns
        -------
        Tensor of shape (sample, width)
        """
        flat = self.factors.flatten(2)
        terms = torch.baddbmm(flat[:, :1], views.transpose(0, 1), flat[:, 1:])
        terms = torch.where(present.T[..., None], terms, torch.ones_like(terms))
        product = terms[0]
        for term in terms[1:]:
            product = product * term
        return (
            torch.einsum("r,nrw->nw", self.mixing, product.unflatten(1, (self.rank, self.width))) + self.bias
        )

    def _fuse_vectors(self, views: Tensor, present: Tensor) -> FusionOut:
        return self._out(self.norm(self.contract(views, present)), views, None)
