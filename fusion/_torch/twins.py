"""Rules as tensor arithmetic on the tensor's own device, differentiable where who is chosen does not change.

Each takes finite rows (..., specialist, output) of float64, weights (..., specialist) that sum to 1 with 0 for
who is absent, and the number of liars in each sample. Distances are taken from differences: nothing cancels.
"""

from __future__ import annotations

from typing import Any

import torch


def mean(rows: Any, alpha: Any, f: Any) -> Any:
    """Give the weighted mean."""
    return (alpha.unsqueeze(-1) * rows).sum(dim=-2)


def median(rows: Any, alpha: Any, f: Any) -> Any:
    """Give the weighted median of every output; the mean of two where they share the middle."""
    values, mass = _ranked(rows, alpha)
    reached = mass.cumsum(dim=-2)
    low = (reached >= 0.5 - 1e-12).to(torch.uint8).argmax(dim=-2, keepdim=True)
    halved = torch.gather(reached, -2, low) <= 0.5 + 1e-12
    high = torch.where(halved, (low + 1).clamp(max=rows.shape[-2] - 1), low)
    return (0.5 * torch.gather(values, -2, low) + 0.5 * torch.gather(values, -2, high)).squeeze(-2)


def trimmed_mean(rows: Any, alpha: Any, f: Any) -> Any:
    """Give the mean between the trimmed weights of every output."""
    trim = heaviest(alpha, f)[..., None, None]
    values, mass = _ranked(rows, alpha)
    reached = mass.cumsum(dim=-2)
    kept = (torch.minimum(reached, 1.0 - trim) - torch.maximum(reached - mass, trim)).clamp(min=0.0)
    return (torch.where(kept > 0, values, torch.zeros_like(values)) * kept).sum(dim=-2) / kept.sum(dim=-2)


def krum(rows: Any, alpha: Any, f: Any, *, less: int = 0, m: int | None = 1) -> Any:
    """Average the m rows of least score (all but f if None), present rows of equal weight."""
    square = squares(rows.detach())
    present = alpha > 0
    infinite = torch.full_like(square, torch.inf)
    n = rows.shape[-2]
    own = torch.eye(n, dtype=torch.bool, device=rows.device)
    others = torch.where(present[..., None, :] & ~own, square, infinite).sort(dim=-1).values
    count = (present.sum(dim=-1) - f - 1 - less)[..., None, None]
    places = torch.arange(n, device=rows.device)
    scores = torch.where(places < count, others, torch.zeros_like(others)).sum(dim=-1)
    order = torch.where(present, scores, infinite[..., 0]).argsort(dim=-1, stable=True)
    wanted = (
        present.sum(dim=-1, keepdim=True) - f[..., None] if m is None else torch.full_like(order[..., :1], m)
    )
    share = (places < wanted).to(rows.dtype) / wanted
    return mean(rows, torch.zeros_like(alpha).scatter(-1, order, share), f)


def fltrust(rows: Any, alpha: Any, f: Any, *, pivot: int) -> Any:
    """Average directions by their cosine with the trusted row's, at its length."""
    long = _length(rows)
    unit = rows / torch.where(long > 0, long, torch.ones_like(long)).unsqueeze(-1)
    cosine = (unit * unit[..., pivot : pivot + 1, :]).sum(dim=-1).clamp(min=0.0)
    other = torch.ones_like(alpha)
    other[..., pivot] = 0.0
    share = alpha * cosine * other
    share = share / share.sum(dim=-1, keepdim=True)
    return long[..., pivot, None] * (share.unsqueeze(-1) * unit).sum(dim=-2)


def centered_clipping(rows: Any, alpha: Any, f: Any, *, start: Any, radius: float | None, n_iter: int) -> Any:
    """Step towards every row, no step longer than a radius; from the median if `start` is None."""
    point = median(rows, alpha, f)
    if start is not None:
        point = torch.zeros_like(point) + torch.as_tensor(start, dtype=rows.dtype, device=rows.device)
    longest = None if radius is None else torch.full_like(alpha[..., :1], radius)
    for _ in range(n_iter):
        gap = rows - point.unsqueeze(-2)
        apart = _length(gap)
        if longest is None:
            order = torch.where(alpha > 0, apart.detach(), torch.inf).argsort(dim=-1, stable=True)
            reached = torch.gather(alpha, -1, order).cumsum(dim=-1)
            place = (reached >= 0.5 - 1e-12).to(torch.uint8).argmax(dim=-1, keepdim=True)
            longest = torch.gather(apart, -1, torch.gather(order, -1, place))
        inside = apart <= longest
        factor = torch.where(
            inside, torch.ones_like(apart), longest / torch.where(inside, torch.ones_like(apart), apart)
        )
        point = point + ((alpha * factor).unsqueeze(-1) * gap).sum(dim=-2)
    return point


def caf(rows: Any, alpha: Any, f: Any) -> Any:
    """Take weight from rows far along the direction of most variance; the mean where that was least."""
    count = (alpha > 0).sum(dim=-1).to(rows.dtype)
    left = count[..., None] * alpha
    stop = count * (1.0 - 2.0 * heaviest(alpha, f)) * (1.0 + 1e-12)
    best, least = mean(rows, alpha, f), torch.full_like(stop, torch.inf)
    n = rows.shape[-2]
    for _ in range(n):
        active = left.detach().sum(dim=-1) > stop
        if not active.any():
            break
        share = left / left.sum(dim=-1, keepdim=True)
        middle = mean(rows, share, f)
        about = rows - middle.unsqueeze(-2)
        gram = about @ about.mT
        root = _root(share)
        matrix = root.unsqueeze(-1) * gram * root.unsqueeze(-2)
        with torch.no_grad():
            values, vectors = torch.linalg.eigh(matrix)
            top, first = values[..., -1], vectors[..., -1]
            apart = top.unsqueeze(-1) - values
            # Directions that share the eigenvalue have no derivative of their own.
            near = apart <= 1e-12 * top.unsqueeze(-1).abs()
            inverse = (
                vectors * torch.where(near, 0.0, 1.0 / torch.where(near, 1.0, apart)).unsqueeze(-2)
            ) @ vectors.mT
        # One Newton step of the eigenvector, its matrix held fixed: the value as found, with its derivative.
        moving = ((matrix - matrix.detach()) @ first.unsqueeze(-1)).squeeze(-1)
        along = first + (inverse @ moving.unsqueeze(-1)).squeeze(-1)
        better = active & (top < least)
        best = torch.where(better.unsqueeze(-1), middle, best)
        least = torch.where(better, top, least)
        reach = (gram @ (root * along).unsqueeze(-1)).squeeze(-1)
        size = torch.where(left.detach() > 0, reach.detach().abs(), torch.zeros_like(reach))
        far = size.argmax(dim=-1, keepdim=True)
        moves = active & (top > 0) & (size.amax(dim=-1) > 0)
        longest = torch.where(
            moves.unsqueeze(-1), torch.gather(reach, -1, far), torch.ones_like(reach[..., :1])
        )
        part = 1.0 - (reach / longest) ** 2
        # The farthest row is left with nothing at all, not with what rounding makes of it.
        part = torch.where(torch.arange(n, device=rows.device) == far, torch.zeros_like(part), part)
        left = torch.where(moves.unsqueeze(-1), left * part, left)
        stop = torch.where(moves, stop, torch.full_like(stop, torch.inf))
    return best


def heaviest(alpha: Any, f: Any) -> Any:
    """Sum the f largest weights of every sample."""
    ordered = alpha.sort(dim=-1, descending=True).values
    places = torch.arange(alpha.shape[-1], device=alpha.device)
    return torch.where(places < f[..., None], ordered, torch.zeros_like(ordered)).sum(dim=-1)


def squares(rows: Any) -> Any:
    """Give the squared distance of every pair, one row against all at a time."""
    return torch.stack(
        [(rows - rows[..., i : i + 1, :]).square().sum(dim=-1) for i in range(rows.shape[-2])], dim=-1
    )


def _ranked(rows: Any, alpha: Any) -> tuple[Any, Any]:
    absent = (alpha == 0).unsqueeze(-1)
    values, order = torch.where(absent, torch.inf, rows).sort(dim=-2, stable=True)
    return values, torch.gather(alpha.unsqueeze(-1).expand(rows.shape), -2, order)


def _length(gap: Any) -> Any:
    """Give lengths whose derivative at 0 is 0, where the norm has none."""
    some = (gap != 0).any(dim=-1, keepdim=True)
    long = torch.where(some, gap, torch.ones_like(gap)).norm(dim=-1)
    return torch.where(some[..., 0], long, torch.zeros_like(long))


def _root(share: Any) -> Any:
    some = share > 0
    return torch.where(some, torch.where(some, share, torch.ones_like(share)).sqrt(), torch.zeros_like(share))
