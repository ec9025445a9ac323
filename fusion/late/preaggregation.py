"""Pre-aggregators: what makes liars harmless, or at least small, before a rule sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fusion._compose import PreAggregator
from fusion._mixed_panel import run_mixing
from fusion._mixing import Mixing
from fusion.late._mixers import adaptive, buckets, clipping, neighbors


def nearest_neighbor_mixing(
    panel: Any,
    *,
    n_byzantine: int | float,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Replace each specialist by the mean of the n - f specialists nearest to it, itself included.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: each row is then the mean of the nearest weight 1 - b, where b is the
        weight of the `n_byzantine` heaviest; the last specialist counts in part.
    scope : {"sample", "batch"}, default "sample"
        Neighbours by the distances within each sample, or by distances summed over all samples.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault and uses up the budget, NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., specialist, output)
        The mixed panel, in the panel's kind and dtype; NaN where a specialist was absent.

    Raises
    ------
    BudgetError
        If there are fewer than 2 n_byzantine + 1 specialists, or more faults than n_byzantine.
    PanelError
        If the panel, the weights or an option cannot be read.

    Notes
    -----
    NaN never enters a mean; the row of a faulty specialist comes out as NaN, so that the rule behind counts
    it too. Ties: the first specialist. Linear in the panel as long as no neighbour changes. A rule
    with coefficient kappa has at most 8f/(n-f) (kappa + 1) behind it, which for the trimmed mean is worse
    than alone: mixing helps on typical heterogeneous panels, not in the worst case.

    References
    ----------
    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan (2023), Fixing by mixing, algorithm 2, lemma 1.

    Examples
    --------
    >>> nearest_neighbor_mixing([[0.0], [1.0], [2.0], [90.0]], n_byzantine=1)[:, 0]
    array([ 1.,  1.,  1., 31.])
    """
    stage = neighbors(n_byzantine, scope)
    return run_mixing(panel, (stage,), weights=weights, missing=missing, excess=excess)


def bucketing(
    panel: Any,
    *,
    size: int = 2,
    rng: int | np.random.Generator = 0,
    weights: Any = None,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Average random groups of specialists.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    size : int, default 2
        Specialists in a group; the last group may be smaller.
    rng : int or numpy.random.Generator, default 0
        Draws one permutation per call, the same for all samples. A number draws the same one in every
        call, which a liar may know.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: groups are weighted means, and weigh the sum of their members for the
        rule behind. Without weights all groups weigh the same, also a smaller last one.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault, of which there may be none here, NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., group, output)
        ceil(n / size) groups, in the panel's kind and dtype. Where absences leave fewer, NaN at the end.

    Raises
    ------
    BudgetError
        If a row is not finite; in a chain the rule behind says how many may be.
    PanelError
        If the panel, the weights or an option cannot be read.

    Notes
    -----
    NaN never enters a mean. f liars spoil up to f groups, so the rule behind needs 2f < ceil(n / size).
    There is no certificate against all panels, because the promise holds on average over the permutations.

    References
    ----------
    Karimireddy, He, Jaggi (2022), Byzantine-robust learning on heterogeneous datasets via bucketing,
    algorithm 1.

    Examples
    --------
    >>> bucketing([[0.0], [1.0], [2.0], [3.0], [4.0]], size=5)
    array([[2.]])
    """
    stage = buckets(size, rng)
    return run_mixing(panel, (stage,), weights=weights, missing=missing, excess=excess)


def clip_norms(
    panel: Any,
    *,
    radius: float,
    center: Any = 0.0,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Shorten every specialist's answer to a given length.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    radius : float
        Longest distance from the centre that stays.
    center : float or array-like of shape (output,), default 0.0
        Where lengths are measured from.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Only says who is absent (weight 0); lengths do not depend on it.
    scope : {"sample", "batch"}, default "sample"
        Lengths within each sample, or over all samples.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault, of which there may be none here, NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., specialist, output)
        center + (x - center) min(1, radius / |x - center|), in the panel's kind and dtype.

    Raises
    ------
    BudgetError
        If a row is not finite; in a chain the rule behind says how many may be.
    PanelError
        If the radius is not positive, or the panel, the centre, the weights or an option cannot be read.

    Notes
    -----
    NaN never enters. Answers within the radius come back bit by bit. The input is not changed. A chain's
    weights sum to less than 1 where answers were clipped; what is missing is the centre's.

    References
    ----------
    Karimireddy, He, Jaggi (2021), Learning from history for Byzantine robust optimization.

    Examples
    --------
    >>> clip_norms([[3.0, 4.0], [0.3, 0.4]], radius=1.0)
    array([[0.6, 0.8],
           [0.3, 0.4]])
    """
    stage = clipping(radius, center, scope)
    return run_mixing(panel, (stage,), weights=weights, missing=missing, excess=excess)


def adaptive_clipping(
    panel: Any,
    *,
    n_byzantine: int | float,
    center: Any = 0.0,
    weights: Any = None,
    scope: str = "sample",
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Clip the longest answers to the length of the longest that is left (ARC).

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        What the specialists said.
    n_byzantine : int or float
        How many specialists may be wrong in any way (papers write f), or a share of them in [0, 1/2).
        The k = floor(2 f (n - f) / n) longest answers are clipped.
    center : float or array-like of shape (output,), default 0.0
        Where lengths are measured from.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Trust in each specialist: the longest answers of weight up to 2b(1-b) are clipped, where b is the
        weight of the `n_byzantine` heaviest.
    scope : {"sample", "batch"}, default "sample"
        Lengths within each sample, or over all samples.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is a fault and uses up the budget, NaN is an abstention, or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., specialist, output)
        The clipped panel, in the panel's kind and dtype; NaN where a specialist was absent.

    Raises
    ------
    BudgetError
        If there are fewer than 2 n_byzantine + 1 specialists, or more faults than n_byzantine.
    PanelError
        If the panel, the centre, the weights or an option cannot be read.

    Notes
    -----
    NaN never enters; the row of a faulty specialist comes out as NaN. Equal lengths are not shortened. The
    input is not changed. The weighted form is ours; with equal weights it is the published one.

    References
    ----------
    Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan (2025), Adaptive gradient clipping for robust
    federated learning, algorithm 2, theorem 3.2.

    Examples
    --------
    >>> adaptive_clipping([[1.0], [2.0], [3.0], [90.0]], n_byzantine=1)[:, 0]
    array([1., 2., 3., 3.])
    """
    stage = adaptive(n_byzantine, center, scope)
    return run_mixing(panel, (stage,), weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class NearestNeighborMixing(PreAggregator):
    """Nearest-neighbour mixing (NNM); see `nearest_neighbor_mixing`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    scope : {"sample", "batch"}, default "sample"
        Neighbours of each sample for itself, or one choice for all.

    Examples
    --------
    >>> from fusion import TrimmedMean
    >>> (NearestNeighborMixing(1) >> TrimmedMean(1))([[0.0], [1.0], [2.0], [90.0]])
    array([1.])
    """

    name: ClassVar[str] = "nearest_neighbor_mixing"
    n_byzantine: int | float = 1
    scope: str = "sample"

    def _mixings(self) -> tuple[Mixing, ...]:
        return (neighbors(self.n_byzantine, self.scope),)


@dataclass(eq=False)
class Bucketing(PreAggregator):
    """Random groups; see `bucketing`.

    Parameters
    ----------
    size : int, default 2
        Specialists in a group.
    rng : int or numpy.random.Generator, default 0
        Draws the permutation.

    Examples
    --------
    >>> from fusion import Median
    >>> (Bucketing(size=1) >> Median())([[0.0], [1.0], [90.0]])
    array([1.])
    """

    name: ClassVar[str] = "bucketing"
    size: int = 2
    rng: int | np.random.Generator = 0

    def _mixings(self) -> tuple[Mixing, ...]:
        return (buckets(self.size, self.rng),)


@dataclass(eq=False)
class ClipNorms(PreAggregator):
    """Clipping to a fixed length; see `clip_norms`.

    Parameters
    ----------
    radius : float, default 1.0
        Longest distance from the centre that stays.
    center : float or array-like of shape (output,), default 0.0
        Where lengths are measured from.
    scope : {"sample", "batch"}, default "sample"
        Lengths within each sample, or over all samples.

    Examples
    --------
    >>> from fusion import Mean
    >>> (ClipNorms(radius=1.0) >> Mean())([[0.5], [0.3], [90.0]])
    array([0.6])
    """

    name: ClassVar[str] = "clip_norms"
    radius: float = 1.0
    center: Any = 0.0
    scope: str = "sample"

    def _mixings(self) -> tuple[Mixing, ...]:
        return (clipping(self.radius, self.center, self.scope),)


@dataclass(eq=False)
class AdaptiveClipping(PreAggregator):
    """Adaptive clipping (ARC); see `adaptive_clipping`.

    Parameters
    ----------
    n_byzantine : int or float, default 1
        How many specialists may be wrong in any way (papers write f), or a share of them.
    center : float or array-like of shape (output,), default 0.0
        Where lengths are measured from.
    scope : {"sample", "batch"}, default "sample"
        Lengths within each sample, or over all samples.

    Examples
    --------
    >>> from fusion import Mean
    >>> (AdaptiveClipping(1) >> Mean())([[1.0], [2.0], [3.0], [90.0]])
    array([2.25])
    """

    name: ClassVar[str] = "adaptive_clipping"
    n_byzantine: int | float = 1
    center: Any = 0.0
    scope: str = "sample"

    def _mixings(self) -> tuple[Mixing, ...]:
        return (adaptive(self.n_byzantine, self.center, self.scope),)
