"""Robust mid fusion: the late rules on embeddings, row by row, with absent and broken views left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fusion.mid._masked import masked_mean
from fusion.mid.operator import FusionOut, MidOperator
from theory._exceptions import BudgetError, PanelError

RULES = ("mean", "median", "trimmed_mean", "geometric_median", "krum")
_STEPS = 100
# Above so many cells a network of whole columns takes a third of the time of torch.sort; below, one call is cheaper.
_NETWORK_CELLS, _NETWORK_VIEWS = 1 << 14, 16


class RobustFusion(MidOperator):
    """Fuse embeddings by a rule that bounds what wrong views can do.

    Parameters
    ----------
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.
    rule : {"median", "trimmed_mean", "geometric_median", "krum", "mean"}, default "median"
        The rule of evaluation.
    n_byzantine : int, default 1
        How many views of a sample may be wrong in any way (papers write f).
    train_rule : str, optional
        The rule of training; `rule` unless given. ``"mean"`` trains faster and costs nothing measurable.
    on_shortfall : {"reduce", "raise"}, default "reduce"
        Samples with k views have ``min(f, (k-1)//2)`` liars at most (Krum: ``(k-3)//2``); or that is an error.

    Raises
    ------
    PanelError
        If a rule is unknown or the budget negative.

    Notes
    -----
    The embeddings must share a space: end encoders in a LayerNorm and train one shared head. A present
    embedding that is not finite is a crash fault: left out, counted in `n_removed`, charged to the
    budget. The median averages the two middle values. In every coordinate the median and the trimmed mean stay
    between honest values while ``2 f < k``; the geometric median stays within ``2 (k-f)/(k-2f)`` honest radii of the
    honest mean. Gradients: those of the chosen values; of the geometric median by the implicit function
    theorem.

    References
    ----------
    .. [1] Yin et al., Byzantine-robust distributed learning, ICML 2018.
    .. [2] Pillutla et al., Robust aggregation for federated learning, 2022.

    Examples
    --------
    >>> import torch
    >>> views = torch.tensor([[[1.0], [2.0], [1e6]]])
    >>> RobustFusion(1, 3)(views).fused
    tensor([[2.]])
    """

    def __init__(
        self,
        width: int,
        n_views: int | Sequence[str],
        *,
        rule: str = "median",
        n_byzantine: int = 1,
        train_rule: str | None = None,
        on_shortfall: Literal["reduce", "raise"] = "reduce",
    ):
        super().__init__(width, n_views)
        if isinstance(n_byzantine, bool) or not isinstance(n_byzantine, int) or n_byzantine < 0:
            raise PanelError(f"n_byzantine is a number of views, 0 or more; got {n_byzantine!r}.")
        if on_shortfall not in ("reduce", "raise"):
            raise PanelError(f"on_shortfall is 'reduce' or 'raise'; got {on_shortfall!r}.")
        self.n_byzantine = n_byzantine
        self.on_shortfall = on_shortfall
        self.train_rule = None if train_rule is None else _checked(train_rule)
        self.rule = _checked(rule)

    def set_rule(self, rule: str) -> None:
        """Change the rule of evaluation after training.

        Parameters
        ----------
        rule : {"median", "trimmed_mean", "geometric_median", "krum", "mean"}
            The new rule.

        Raises
        ------
        PanelError
            If it is unknown.
        """
        self.rule = _checked(rule)

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
        if self.rule == "mean":
            return 0
        if self.rule in ("median", "geometric_median"):
            return max((n_present - 1) // 2, 0)
        return max(min(self.n_byzantine, (n_present - (3 if self.rule == "krum" else 1)) // 2), 0)

    def _fuse_vectors(self, views: Tensor, present: Tensor) -> FusionOut:
        rule = self.train_rule if self.training and self.train_rule is not None else self.rule
        # A sum that is finite has finite terms; only one that is not needs a look at each.
        sound = torch.isfinite(views.detach().sum(dim=-1))
        removed = torch.zeros(len(views), dtype=torch.int64, device=views.device)
        if not bool(sound.all()):
            sound = torch.isfinite(views).all(dim=-1)
            removed = (present & ~sound).sum(dim=1)
            views = torch.where(sound[..., None], views, torch.zeros_like(views))
            present = present & sound
        if bool((removed > self.n_byzantine).any()):
            row = int((removed > self.n_byzantine).nonzero()[0])
            raise BudgetError(
                f"sample {row}: {int(removed[row])} present views are not finite, but n_byzantine={self.n_byzantine}. "
                "Raise it, or mask them."
            )
        count = present.sum(dim=1)
        asked = self.n_byzantine - removed
        budget = torch.minimum(asked, ((count - (3 if rule == "krum" else 1)) // 2).clamp(min=0))
        if self.on_shortfall == "raise" and rule != "mean":
            self._check(rule, asked, count)
        fused, weights = _robust_rule(rule, views, present, budget)
        return FusionOut(fused, views, weights, fused.new_zeros(()), removed)

    def _check(self, rule: str, asked: Tensor, count: Tensor) -> None:
        needed = 2 * asked + (3 if rule == "krum" else 1)
        short = (count < needed) & (count > 0)
        if bool(short.any()):
            other = "use median (3) or " if rule == "krum" else ""
            raise BudgetError(
                f"{rule} with n_byzantine={self.n_byzantine} needs {int(needed.max())} present views; "
                f"{int(short.sum())} rows have fewer. Lower n_byzantine, {other}on_shortfall='reduce'."
            )


def _robust_rule(rule: str, views: Tensor, present: Tensor, budget: Tensor) -> tuple[Tensor, Tensor | None]:
    """Fuse the present views of each sample by a robust rule.

    Parameters
    ----------
    rule : str
        One of `RULES`.
    views : Tensor of shape (sample, specialist, width)
        Finite; what is not present does not matter.
    present : Tensor of bool of shape (sample, specialist)
        Which take part.
    budget : Tensor of int of shape (sample,)
        Wrong views per sample (papers write f); below half of those present.

    Returns
    -------
    fused : Tensor of shape (sample, width)
        0 for samples without any view.
    weights : Tensor of shape (sample, specialist), or None
        None for rules that go feature by feature.
    """
    if rule == "mean":
        share = present.to(views.dtype)
        return masked_mean(views, present), share / share.sum(dim=1, keepdim=True).clamp(min=1)
    if rule == "krum":
        weights = _krum_choice(views.detach(), present, budget)
        return torch.einsum("nv,nvw->nw", weights, views), weights
    if rule == "geometric_median":
        return _geometric_median(views, present)
    count = present.sum(dim=1)
    # Absent views sort to the end; ranks cut ... count-cut-1 are averaged: the middle one or two for the median.
    far = torch.where(present, 0.0, torch.inf).to(views.dtype)
    moved = views + far[..., None]  # views are finite: a sum is five times faster than where
    if rule == "median":
        return _median(moved, count), None
    ordered = moved.sort(dim=1).values
    rank = torch.arange(views.shape[1], device=views.device)
    used = (rank >= budget[:, None]) & (rank < (count - budget)[:, None])
    share = used.to(views.dtype) / used.sum(dim=1, keepdim=True).clamp(min=1).to(views.dtype)
    heard = torch.where(used[..., None], ordered, torch.zeros_like(ordered))
    return torch.einsum("nv,nvw->nw", share, heard), None


def _median(views: Tensor, count: Tensor) -> Tensor:
    """Average the two middle ranks of each row, what is absent being infinite; 0 where nothing is there."""
    n, n_views, width = views.shape
    low, high = ((count - 1) // 2).clamp(min=0), (count // 2).clamp(max=n_views - 1)
    if n * width < _NETWORK_CELLS or n_views > _NETWORK_VIEWS or views.requires_grad:
        ordered = views.sort(dim=1).values
        rows = torch.arange(n, device=views.device)
        middle = 0.5 * (ordered[rows, low] + ordered[rows, high])
    else:
        columns = _sorted_columns(list(views.unbind(dim=1)))
        first, second = columns[0], columns[0]
        for rank in range(1, n_views):
            first = torch.where((low == rank)[:, None], columns[rank], first)
            second = torch.where((high == rank)[:, None], columns[rank], second)
        middle = 0.5 * (first + second)
    return torch.where((count > 0)[:, None], middle, torch.zeros_like(middle))


def _sorted_columns(columns: list[Tensor]) -> list[Tensor]:
    """Sort views feature by feature with Batcher's network: whole columns compared at once."""
    n = len(columns)
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    a, b = i + j, i + j + k
                    if a // (2 * p) == b // (2 * p):
                        low, high = (
                            torch.minimum(columns[a], columns[b]),
                            torch.maximum(columns[a], columns[b]),
                        )
                        columns[a], columns[b] = low, high
            k //= 2
        p *= 2
    return columns


def _krum_choice(views: Tensor, present: Tensor, budget: Tensor) -> Tensor:
    """One-hot weights of the view with the nearest neighbours; ties go to the lowest index."""
    gaps = (views[:, :, None, :] - views[:, None, :, :]).square().sum(dim=-1)
    both = (
        present[:, :, None]
        & present[:, None, :]
        & ~torch.eye(views.shape[1], dtype=torch.bool, device=views.device)
    )
    ordered = gaps.masked_fill(~both, torch.inf).sort(dim=2).values
    neighbours = (present.sum(dim=1) - budget - 1).clamp(min=0)
    rank = torch.arange(views.shape[1], device=views.device)
    counted = (rank < neighbours[:, None])[:, None, :] & torch.isfinite(ordered)
    score = torch.where(counted, ordered, torch.zeros_like(ordered)).sum(dim=2)
    score = score.masked_fill(~present, torch.inf)
    best = torch.argmin(score, dim=1)  # the first of equals, as torch promises for min with indices on CPU
    best = (score == score.gather(1, best[:, None])).to(torch.int8).argmax(dim=1)
    chosen = torch.zeros_like(score).scatter(1, best[:, None], 1.0)
    return chosen * present.any(dim=1, keepdim=True)


def _geometric_median(views: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise the sum of distances by Weiszfeld's steps (Vardi-Zhang); the gradient is implicit."""
    fixed = views.detach().double()
    here = present.double()
    tolerance = 1e-14 if views.dtype == torch.float64 else 1e-7
    with torch.no_grad():
        centre = masked_mean(fixed, present)
        scale = (fixed - centre[:, None]).abs().amax(dim=(1, 2)).clamp(min=torch.finfo(torch.float64).tiny)
        inverse = torch.zeros_like(here)
        for _ in range(_STEPS):
            length = (fixed - centre[:, None]).norm(dim=-1)
            near = (length <= 1e-12 * scale[:, None]) & present
            inverse = torch.where(present & ~near, 1.0 / length.clamp(min=1e-300), torch.zeros_like(length))
            total = inverse.sum(dim=1, keepdim=True)
            target = torch.einsum("nv,nvw->nw", inverse, fixed) / total.clamp(min=1e-300)
            pull = torch.einsum("nv,nvw->nw", inverse, fixed - centre[:, None]).norm(dim=-1)
            held = (near.sum(dim=1) / pull.clamp(min=1e-300)).clamp(max=1.0)
            held = torch.where(near.any(dim=1), held, torch.zeros_like(held))
            moved = torch.where(total > 0, held[:, None] * centre + (1 - held[:, None]) * target, centre)
            step = (moved - centre).abs().amax(dim=1)
            centre = moved
            if bool((step <= tolerance * scale).all()):
                break
        # A view that is the solution has no direction of its own: the gradient goes to it alone.
        length = (fixed - centre[:, None]).norm(dim=-1)
        near = (length <= 1e-9 * scale[:, None]) & present
        single = near.any(dim=1)
        inverse = torch.where(present & ~near, 1.0 / length.clamp(min=1e-300), torch.zeros_like(length))
        pinned = near.double() / near.sum(dim=1, keepdim=True).clamp(min=1)
        weights = torch.where(
            single[:, None], pinned, inverse / inverse.sum(dim=1, keepdim=True).clamp(min=1e-300)
        )
    if not views.requires_grad:
        return centre.to(views.dtype), weights.to(views.dtype)
    with torch.no_grad():
        unit = (fixed - centre[:, None]) * inverse[..., None]
        eye = torch.eye(views.shape[-1], dtype=torch.float64, device=views.device)
        total = inverse.sum(dim=1)
        bend = total[:, None, None] * eye - torch.einsum("nv,nvi,nvj->nij", inverse, unit, unit)
        # Of two views every point between is a solution; the one given is their mean, and so is its gradient.
        single = single | (present.sum(dim=1) <= 2)
        bend = torch.where(single[:, None, None] | (total == 0)[:, None, None], eye, bend)
        bend = bend + 1e-12 * total.clamp(min=1.0)[:, None, None] * eye
    # d(centre) = H^-1 sum_i (I - u_i u_i') / r_i dx_i: the linear map of each view's displacement.
    wide = torch.where(present[..., None], views, torch.zeros_like(views)).double()
    along = wide - wide.detach()
    across = along - unit * (unit * along).sum(dim=-1, keepdim=True)
    push = torch.einsum("nv,nvw->nw", inverse, across)
    free = torch.linalg.solve(bend, push[..., None])[..., 0]
    stuck = torch.einsum("nv,nvw->nw", weights, along)
    moving = torch.where(single[:, None], stuck, free)
    return (centre + moving).to(views.dtype), weights.to(views.dtype)


def _checked(rule: str) -> str:
    if rule not in RULES:
        raise PanelError(f"rule is one of {', '.join(RULES)}; got {rule!r}.")
    return rule
