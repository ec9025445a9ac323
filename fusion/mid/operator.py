"""What every mid operator takes and gives: views, which of them are present, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from fusion.mid._masked import clean
from theory._exceptions import PanelError


class FusionOut(NamedTuple):
    """What a mid operator gives.

    Parameters
    ----------
    fused : Tensor of shape (sample, out_features)
        The fused embedding; rows without any view are finite and mean nothing.
    views : Tensor of shape (sample, specialist, width)
        What auxiliary heads read: each view's own embedding, 0 where it is absent.
    weights : Tensor of shape (sample, specialist), or None
        How much each view counted, where the operator can say.
    aux_loss : Tensor of shape ()
        What the operator adds to the loss in training; 0 in evaluation.
    n_removed : Tensor of shape (sample,), int64
        Views that were present but not finite and so were left out.

    Examples
    --------
    >>> import torch
    >>> from fusion.mid import MeanFusion
    >>> MeanFusion(2, 2)(torch.ones(3, 2, 2)).fused.shape
    torch.Size([3, 2])
    """

    fused: Tensor
    views: Tensor
    weights: Tensor | None
    aux_loss: Tensor
    n_removed: Tensor


class MidOperator(nn.Module):
    """Fuse the embeddings of several views.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.

    Attributes
    ----------
    out_features : int
        Features of the fused embedding.
    emits : int
        What an encoder must give, in multiples of `width`.
    takes_tokens : bool
        Whether sequences (sample, token, width) are read token by token; they are averaged otherwise.
    reads_raw : bool
        Whether it takes raw views, of other widths, and so needs no encoders.

    Raises
    ------
    PanelError
        If the widths or names do not fit.

    Examples
    --------
    >>> from fusion.mid import GatedFusion
    >>> GatedFusion(8, ["eye", "ear"]).view_names
    ('eye', 'ear')
    """

    emits: ClassVar[int] = 1
    takes_tokens: ClassVar[bool] = False
    reads_raw: ClassVar[bool] = False
    needs_views: ClassVar[int] = 1

    def __init__(self, width: int, n_views: int | Sequence[str]):
        super().__init__()
        names = None if isinstance(n_views, Integral) else tuple(cast(Sequence[str], n_views))
        count = int(n_views) if isinstance(n_views, Integral) else len(cast(Sequence[str], n_views))
        if width < 1 or count < self.needs_views:
            raise PanelError(
                f"{type(self).__name__} needs width >= 1 and at least {self.needs_views} views; got {width} and {count}."
            )
        if names is not None and len(set(names)) != len(names):
            raise PanelError(f"view names occur twice: {names}.")
        self.width = width
        self.n_views = count
        self.view_names: tuple[str, ...] | None = names
        self.out_features = width

    def breakdown(self, n_present: int) -> int:
        """Say how many views may hold anything at all while the fused embedding stays bounded.

        Parameters
        ----------
        n_present : int
            Views that are present.

        Returns
        -------
        int
        """
        return 0

    def forward(self, views: Any, mask: Any = None, padding: Any = None) -> FusionOut:
        """Fuse.

        Parameters
        ----------
        views : Tensor of shape (sample, specialist, width), or list or dict of Tensor
            One embedding per view, (sample, width) or (sample, token, width); None or a missing key is a
            view absent everywhere. An operator whose `emits` is 2 needs twice the width.
        mask : Tensor of bool of shape (sample, specialist), or dict of (sample,), optional
            True where the view is present. A row that holds nothing but NaN is absent in any case.
        padding : list or dict of Tensor of bool of shape (sample, token), optional
            True where a token is only padding. A sequence of nothing but padding is an absent view.

        Returns
        -------
        FusionOut

        Raises
        ------
        PanelError
            If shapes or names do not fit.
        """
        if isinstance(views, Tensor) and padding is None and not self.takes_tokens:
            return self._fuse_vectors(*self._read_stack(views, mask))
        return self._fuse(*self._read(views, mask, padding, (self.width * self.emits,) * self.n_views))

    def _read_stack(self, views: Tensor, mask: Any) -> tuple[Tensor, Tensor]:
        """Read (sample, specialist, width) without cutting it up."""
        width = self.width * self.emits
        if views.dim() != 3 or views.shape[1:] != (self.n_views, width):
            raise PanelError(
                f"a tensor of views is (sample, {self.n_views}, feature) with {width} features; got shape "
                f"{tuple(views.shape)}."
            )
        # A row of nothing but NaN begins with NaN: one feature tells whether the others need a look.
        gone = torch.isnan(views[..., 0])
        if torch.compiler.is_compiling() or bool(gone.any()):
            gone = torch.isnan(views).all(dim=-1)
        present = ~gone
        masks = self._mask(mask)
        if masks is not None:
            for v, own in enumerate(masks):
                if own is not None:
                    present[:, v] &= own.to(views.device)
        return clean(views, present), present

    def _read(
        self, views: Any, mask: Any, padding: Any, widths: Sequence[int]
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Give tokens (sample, token, width_v), which of them are there, and which views are."""
        listed = self._listed(views)
        padded = self._listed(padding) if padding is not None else [None] * self.n_views
        masks = self._mask(mask)
        like = next((view for view in listed if view is not None), None)
        if like is None:
            raise PanelError("no view holds anything. Give at least one tensor.")
        tokens, keep, present = [], [], []
        for v, (view, pad) in enumerate(zip(listed, padded, strict=True)):
            width = widths[v]
            if view is None:
                view = like.new_zeros(like.shape[0], width)
                here = torch.zeros(like.shape[0], dtype=torch.bool, device=like.device)
            else:
                here = torch.ones(view.shape[0], dtype=torch.bool, device=view.device)
            if view.dim() not in (2, 3) or view.shape[0] != like.shape[0] or view.shape[-1] != width:
                raise PanelError(
                    f"view {self._name(v)!r} has shape {tuple(view.shape)}; needed ({like.shape[0]}, {width}) or "
                    f"({like.shape[0]}, token, {width})."
                )
            cells = view.unsqueeze(1) if view.dim() == 2 else view
            used = torch.ones(cells.shape[:2], dtype=torch.bool, device=cells.device) if pad is None else ~pad
            used = used & ~torch.isnan(cells).all(dim=-1)
            here = here & used.any(dim=1)
            if masks is not None and masks[v] is not None:
                here = here & masks[v].to(cells.device)
            used = used & here[:, None]
            # The content of what is not there must not reach a product: 0 * NaN is NaN, in gradients too.
            tokens.append(torch.where(used[..., None], cells, torch.zeros_like(cells)))
            keep.append(used)
            present.append(here)
        return tokens, keep, torch.stack(present, dim=1)

    def _fuse(self, tokens: list[Tensor], keep: list[Tensor], present: Tensor) -> FusionOut:
        stacked = torch.stack([_pool(t, k) for t, k in zip(tokens, keep, strict=True)], dim=1)
        return self._fuse_vectors(stacked, present)

    def _fuse_vectors(self, views: Tensor, present: Tensor) -> FusionOut:
        raise PanelError(f"{type(self).__name__} fuses nothing by itself. Use one of fusion.mid.")

    def _out(
        self, fused: Tensor, views: Tensor, weights: Tensor | None, *, aux_loss: Tensor | None = None
    ) -> FusionOut:
        loss = fused.new_zeros(()) if aux_loss is None else aux_loss
        none = torch.zeros(fused.shape[0], dtype=torch.int64, device=fused.device)
        return FusionOut(fused, views, weights, loss, none)

    def _name(self, v: int) -> str:
        return self.view_names[v] if self.view_names else str(v)

    def _listed(self, views: Any) -> list[Any]:
        if isinstance(views, Mapping):
            names = self.view_names or (tuple(views) if len(views) == self.n_views else None)
            if names is None:
                raise PanelError(
                    f"{len(views)} views for an operator built for {self.n_views}; build it with their names, "
                    "n_views=[...], if some may be absent."
                )
            unknown = [name for name in views if name not in names]
            if unknown:
                raise PanelError(f"unknown view {unknown[0]!r}; fitted: {', '.join(names)}.")
            return [views.get(name) for name in names]
        if isinstance(views, Tensor):
            if views.dim() != 3 or views.shape[1] != self.n_views:
                raise PanelError(
                    f"a tensor of views is (sample, {self.n_views}, feature); got shape {tuple(views.shape)}."
                )
            return list(views.unbind(dim=1))
        listed = list(views)
        if len(listed) != self.n_views:
            raise PanelError(f"{len(listed)} views for an operator built for {self.n_views}.")
        return listed

    def _mask(self, mask: Any) -> list[Any] | None:
        if mask is None:
            return None
        if isinstance(mask, np.ndarray):
            mask = torch.as_tensor(mask)
        if isinstance(mask, Tensor) and (mask.dim() != 2 or mask.shape[1] != self.n_views):
            raise PanelError(f"a mask is (sample, {self.n_views}); got shape {tuple(mask.shape)}.")
        listed = list(mask.unbind(dim=1)) if isinstance(mask, Tensor) else self._listed(mask)
        return [None if part is None else part.bool() for part in listed]


def _pool(tokens: Tensor, keep: Tensor) -> Tensor:
    """Average the tokens that are there; 0 where there is none."""
    if tokens.shape[1] == 1:
        return tokens[:, 0]
    count = keep.sum(dim=1, keepdim=True).clamp(min=1)
    return tokens.sum(dim=1) / count.to(tokens.dtype)
