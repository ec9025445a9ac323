"""What each rule promises: |F - m_S|^2 <= kappa V for every set S of n - f honest specialists.

m_S is the mean of S and V its mean squared distance to it. These are the formulas that registry rows refer to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    kind : {"exact", "bound", "literature", "none"}
        Attained, or come near to at will, by some panels; proved but perhaps not attained; published and not
        proved again here; no promise.
    """

    value: float
    kind: Literal["exact", "bound", "literature", "none"]


NOTHING = Resilience(inf, "none")
Coefficient = Callable[..., Resilience]


def _within(n: int, f: int) -> bool:
    return n >= 1 and 0 <= 2 * f < n


def trimmed_mean_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give f / (n - 2f), which no rule can beat."""
    f = n_byzantine
    return Resilience(f / (n - 2 * f), "exact") if _within(n, f) else NOTHING


def rank_weights_resilience(shares: Sequence[float], n_byzantine: int) -> Resilience:
    """Give the coefficient of a rule that weighs the sorted values of each output.

    Parameters
    ----------
    shares : sequence of float
        Non-negative weight of each rank, the lowest value first; sums to 1, and 0 on the `n_byzantine` outer
        ranks of each side.
    n_byzantine : int
        How many specialists may be wrong in any way (papers write f).

    Returns
    -------
    Resilience
        N |iso(a - 1/N)|^2 over the N lowest ranks, iso the isotonic regression: the liars all lie above, and
        the honest values that err most are a projection on the cone of sorted vectors. Or all below.
    """
    honest = len(shares) - n_byzantine
    worst = 0.0
    for side in (list(shares), list(shares)[::-1]):
        levels: list[tuple[float, int]] = []
        for share in side[:honest]:
            levels.append((share - 1.0 / honest, 1))
            # Adjacent violators are pooled: levels must not fall.
            while len(levels) > 1 and levels[-2][0] >= levels[-1][0]:
                (low, many), (high, more) = levels[-2], levels[-1]
                levels[-2:] = [((low * many + high * more) / (many + more), many + more)]
        worst = max(worst, honest * sum(level * level * many for level, many in levels))
    return Resilience(worst, "exact")


def winsorized_mean_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give the coefficient of the rank weights 0, ..., (f+1)/n, 1/n, ..., 1/n, (f+1)/n, ..., 0."""
    f = n_byzantine
    if not _within(n, f):
        return NOTHING
    shares = [0.0] * f + [1.0 / n] * (n - 2 * f) + [0.0] * f
    shares[f] += f / n
    shares[n - 1 - f] += f / n
    return rank_weights_resilience(shares, f)


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


def least_spread_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give 4f / (n - 2f), approached by t honest rows at 0, f at 1 and the liars just inside -1."""
    f = n_byzantine
    return Resilience(4 * f / (n - 2 * f), "exact") if _within(n, f) else NOTHING


def phocas_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give 4f / (n - 2f)."""
    f = n_byzantine
    return Resilience(4 * f / (n - 2 * f), "bound") if _within(n, f) else NOTHING


def around_median_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give 4f / (N - m) with m = (n-1)//2, for the mean around the median and for Aksel."""
    f = n_byzantine
    return Resilience(4 * f / (n - f - (n - 1) // 2), "bound") if _within(n, f) else NOTHING


def least_diameter_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give (sqrt(2f^2/N) + sqrt(f/t))^2."""
    f, honest, t = n_byzantine, n - n_byzantine, n - 2 * n_byzantine
    return Resilience((sqrt(2 * f * f / honest) + sqrt(f / t)) ** 2, "bound") if _within(n, f) else NOTHING


def medoid_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give 2 (N/t)^2."""
    f = n_byzantine
    return Resilience(2 * ((n - f) / (n - 2 * f)) ** 2, "bound") if _within(n, f) else NOTHING


def monna_resilience(n: int, n_byzantine: int) -> Resilience:
    """Give 4f, for a trusted specialist that is honest."""
    f = n_byzantine
    return Resilience(4.0 * f, "bound") if _within(n, f) else NOTHING


def bulyan_resilience(n: int, n_byzantine: int, *, variant: str = "krum") -> Resilience:
    """Promise nothing, unless nobody lies and all are picked."""
    return NOTHING if variant != "krum" else no_resilience(n, n_byzantine)


def no_resilience(n: int, n_byzantine: int) -> Resilience:
    """Promise nothing, unless nobody lies."""
    return Resilience(0.0, "exact") if n_byzantine == 0 else NOTHING


def unknown_resilience(n: int, n_byzantine: int) -> Resilience:
    """Promise nothing: the rule's answer is no average of the specialists'."""
    return NOTHING
