"""What each rule promises: |F - m_S|^2 <= kappa V for every set S of n - f honest specialists.

m_S is the mean of S and V its mean squared distance to it. These are the formulas that registry rows refer to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal


@dataclass(frozen=True, slots=True)
class Resilience:
    """A resilience coefficient and how it is known.

    Attributes
    ----------
    value : float
        kappa; infinite where nothing is promised.
    kind : {"exact", "bound", "none"}
        Attained by some panel; proved but perhaps not attained; no promise.
    """

    value: float
    kind: Literal["exact", "bound", "none"]


NOTHING = Resilience(inf, "none")
Coefficient = Callable[..., Resilience]


def _within(n: int, f: int) -> bool:
    return n >= 1 and 0 <= 2 * f < n


def trimmed_mean_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give f / (n - 2f), which no rule can beat."""
    f = n_byzantine
    return Resilience(f / (n - 2 * f), "exact") if _within(n, f) else NOTHING


def median_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give m / (n - f - m) with m = (n-1)//2."""
    m = (n - 1) // 2
    return Resilience(m / (n - n_byzantine - m), "exact") if _within(n, n_byzantine) else NOTHING


def geometric_median_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give h / (n - f - h) with h = n//2."""
    h = n // 2
    left = n - n_byzantine - h
    return Resilience(h / left, "exact") if _within(n, n_byzantine) and left > 0 else NOTHING


def krum_resilience(n: int, n_byzantine: int, *, neighbors: str = "n-f-1") -> Resilience:
    """Give (sqrt(2N) + sqrt(f))^2 / t; with n-f-2 neighbours from n = 2f+3 on."""
    f, honest, t = n_byzantine, n - n_byzantine, n - 2 * n_byzantine
    if not _within(n, f):
        return NOTHING
    if neighbors == "n-f-1":
        return Resilience((sqrt(2 * honest) + sqrt(f)) ** 2 / t, "bound")
    if t < 3:
        return NOTHING
    return Resilience((sqrt(2 * honest * (honest - 2) / (honest - 1)) + sqrt(f + 1)) ** 2 / (t - 1), "bound")


def multi_krum_resilience(
    n: int, n_byzantine: int, *, neighbors: str = "n-f-1", m: int | None = None
) -> Resilience:
    """Give f/N^2 (sqrt(t) + (sqrt(nN) + f)/sqrt(t))^2 for m = N; Krum's for fewer; nothing for more."""
    f, honest, t = n_byzantine, n - n_byzantine, n - 2 * n_byzantine
    if not _within(n, f) or (m is not None and m > honest):
        return NOTHING
    if neighbors != "n-f-1" or (m is not None and m < honest):
        return krum_resilience(n, f, neighbors=neighbors)
    return Resilience(f / honest**2 * (sqrt(t) + (sqrt(n * honest) + f) / sqrt(t)) ** 2, "bound")


def no_resilience(n: int, n_byzantine: int) -> Resilience:
    """Promise nothing, unless nobody lies."""
    return Resilience(0.0, "exact") if n_byzantine == 0 else NOTHING


def unknown_resilience(n: int, n_byzantine: int) -> Resilience:
    """Promise nothing: the rule's answer is no average of the specialists'."""
    return NOTHING
