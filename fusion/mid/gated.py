"""Views that weigh each other: gates, and one view that conditions another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fusion.mid._masked import masked_mean, masked_softmax
from fusion.mid.operator import FusionOut, MidOperator
from theory._exceptions import PanelError


class GatedFusion(MidOperator):
    """Weigh the views by gates that look at all of them.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.
    gate : {"softmax", "sigmoid", "scalar"}, default "softmax"
        Softmax over the views per feature; independent gates in (0, 1) per feature, as in the paper; or
        one softmax weight per view from a score of that view alone.

    Raises
    ------
    PanelError
        If the gate is unknown.

    Notes
    -----
    ``fused = sum_v z_v * tanh(W_v h_v)``. An absent view has weight 0. Nothing protects the gates: a lying
    view can take all the weight.

    References
    ----------
    .. [1] Arevalo et al., Gated multimodal units, 2017, equations 3 to 5.

    Examples
    --------
    >>> import torch
    >>> out = GatedFusion(4, 3)(torch.ones(2, 3, 4))
    >>> out.fused.shape, out.weights.sum(dim=1).allclose(torch.ones(2))
    (torch.Size([2, 4]), True)
    """

    def __init__(
        self,
        width: int,
        n_views: int | Sequence[str],
        *,
        gate: Literal["softmax", "sigmoid", "scalar"] = "softmax",
    ):
        super().__init__(width, n_views)
        if gate not in ("softmax", "sigmoid", "scalar"):
            raise PanelError(f"gate is 'softmax', 'sigmoid' or 'scalar'; got {gate!r}.")
        self.gate = gate
        self.values = nn.ModuleList(nn.Linear(width, width) for _ in range(self.n_views))
        if gate == "scalar":
            self.scores = nn.ModuleList(nn.Linear(width, 1) for _ in range(self.n_views))
        else:
            self.scores = nn.ModuleList([nn.Linear(self.n_views * width, self.n_views * width)])

    def _fuse_vectors(self, views: Tensor, present: Tensor) -> FusionOut:
        value = torch.stack([torch.tanh(layer(views[:, v])) for v, layer in enumerate(self.values)], dim=1)
        if self.gate == "scalar":
            score = torch.stack([layer(views[:, v]) for v, layer in enumerate(self.scores)], dim=1)
        else:
            score = self.scores[0](views.flatten(1)).reshape(views.shape)
        here = present[..., None]
        z = torch.sigmoid(score) * here if self.gate == "sigmoid" else masked_softmax(score, here, dim=1)
        fused = (z * torch.where(here, value, torch.zeros_like(value))).sum(dim=1)
        return self._out(fused, views, z.mean(dim=-1))


class FiLMFusion(MidOperator):
    """Let the other views scale and shift the features of one.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views (at least two), or their names in order.
    base : int, default 0
        Position of the view that is scaled and shifted.

    Raises
    ------
    PanelError
        If there is one view only, or no such base.

    Notes
    -----
    ``fused = (1 + g(c)) * h_base + b(c)``, c the mean of the other present views; g and b start at zero, so
    the untrained operator is the identity on the base. Without any condition it stays that; an absent
    base is replaced by a learned one.

    References
    ----------
    .. [1] Perez et al., FiLM: visual reasoning with a general conditioning layer, AAAI 2018, equation 2.

    Examples
    --------
    >>> import torch
    >>> FiLMFusion(2, 2)(torch.tensor([[[1.0, 2.0], [5.0, 5.0]]])).fused.tolist()
    [[1.0, 2.0]]
    """

    needs_views: ClassVar[int] = 2

    def __init__(self, width: int, n_views: int | Sequence[str], *, base: int = 0):
        super().__init__(width, n_views)
        if not 0 <= base < self.n_views:
            raise PanelError(f"base is the position of a view, 0 to {self.n_views - 1}; got {base}.")
        self.base = base
        self.scale = nn.Linear(width, width)
        self.shift = nn.Linear(width, width)
        for layer in (self.scale, self.shift):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.learned_base = nn.Parameter(torch.zeros(width))

    def _fuse_vectors(self, views: Tensor, present: Tensor) -> FusionOut:
        others = [v for v in range(self.n_views) if v != self.base]
        condition = masked_mean(views[:, others], present[:, others])
        told = present[:, others].any(dim=1, keepdim=True)
        base = torch.where(present[:, [self.base]], views[:, self.base], self.learned_base.to(views.dtype))
        scaled = (1.0 + self.scale(condition)) * base + self.shift(condition)
        return self._out(torch.where(told, scaled, base), views, None)
