"""The arm every fusion must be compared with: one network on all raw features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusion.mid.operator import FusionOut, MidOperator
from theory._exceptions import PanelError


class MonolithFusion(MidOperator):
    """Put raw features side by side, with the mask, and run two hidden layers over them.

    Parameters
    ----------
    width : int
        Features of the hidden layers.
    n_views : int or sequence of str
        How many views, or their names in order.
    in_features : sequence of int, optional
        Raw features of each view; `width` of all unless given.
    dropout : float, default 0
        Behind the first layer.

    Raises
    ------
    PanelError
        If shapes do not fit.

    Notes
    -----
    An absent view is 0, the mean of standardised features, and its mask column says so. Nothing is specialised:
    what separate encoders gain must be gained over this network at the same number of parameters.

    References
    ----------
    .. [1] Shukor et al., Scaling laws for native multimodal models, 2025.

    Examples
    --------
    >>> import torch
    >>> MonolithFusion(8, 2, in_features=(3, 5))([torch.zeros(4, 3), torch.zeros(4, 5)]).fused.shape
    torch.Size([4, 8])
    """

    reads_raw: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        n_views: int | Sequence[str],
        *,
        in_features: Sequence[int] | None = None,
        dropout: float = 0.0,
    ):
        super().__init__(width, n_views)
        self.in_features = (width,) * self.n_views if in_features is None else tuple(in_features)
        if len(self.in_features) != self.n_views:
            raise PanelError(f"in_features has {len(self.in_features)} entries for {self.n_views} views.")
        self.layers = nn.Sequential(
            nn.Linear(sum(self.in_features) + self.n_views, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
        )

    def forward(self, views: Any, mask: Any = None, padding: Any = None) -> FusionOut:
        """Fuse raw views.

        Parameters
        ----------
        views : list or dict of Tensor of shape (sample, in_features_v) or (sample, token, in_features_v)
            The views; sequences are averaged, None is absent.
        mask : Tensor of bool of shape (sample, specialist), or dict of (sample,), optional
            True where the view is present.
        padding : list or dict of Tensor of bool of shape (sample, token), optional
            True where a token is only padding.

        Returns
        -------
        FusionOut
            Its `views` are empty: nothing was encoded by itself.
        """
        tokens, keep, present = self._read(views, mask, padding, self.in_features)
        pooled = []
        for cells, used in zip(tokens, keep, strict=True):
            count = used.sum(dim=1, keepdim=True).clamp(min=1)
            pooled.append(cells.sum(dim=1) / count.to(cells.dtype))
        joined = torch.cat([*pooled, present.to(pooled[0].dtype)], dim=1)
        return self._out(self.layers(joined), joined.new_zeros(len(joined), self.n_views, 0), None)

    def _fuse_vectors(self, views: Tensor, present: Tensor) -> FusionOut:
        return self.forward(views, present)
