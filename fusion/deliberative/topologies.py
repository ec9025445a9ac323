"""Who hears whom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fusion.deliberative._reading import Floats
from fusion.deliberative.revision import complete_graph
from theory._exceptions import PanelError

TOPOLOGIES = ("broadcast", "ring", "hub", "star", "line", "sparse", "layered")


def topology(name: str, n: int, *, k: int = 2, seed: int = 0, layers: Sequence[int] | None = None) -> Floats:
    """Give the weights with which each specialist hears the others.

    Parameters
    ----------
    name : {"broadcast", "ring", "hub", "star", "line", "sparse", "layered"}
        All peers alike; the two neighbours; one summary of all others; member 0 only (who hears all);
        the one before; k random peers; the layer before.
    n : int
        Specialists, at least 2.
    k : int, default 2
        Peers of each in ``"sparse"``; each is heard by as many.
    seed : int, default 0
        Of the order in which ``"sparse"`` seats the specialists.
    layers : sequence of int, optional
        Sizes of the layers of ``"layered"``, which sum to n.

    Returns
    -------
    ndarray of float64, shape (specialist, specialist_)
        Row i: how far i hears each; rows sum to 1, diagonal 0. Rows are 0 for those who hear nobody
        (the first of a line, the first layer): give them susceptibility 0.

    Raises
    ------
    PanelError
        If the name is unknown or sizes do not fit.

    Notes
    -----
    Broadcast, hub, ring and sparse are doubly stochastic, so that equal susceptibilities leave the log pool as
    it was; star, line and layered are not, and the pool drifts to those who are heard.

    Examples
    --------
    >>> topology("ring", 4)[0].tolist()
    [0.0, 0.5, 0.0, 0.5]
    """
    if isinstance(n, bool) or n < 2:
        raise PanelError(f"a topology needs n >= 2 specialists; got {n!r}.")
    if name in ("broadcast", "hub"):
        return complete_graph(n)
    w = np.zeros((n, n))
    seats = np.arange(n)
    if name == "ring":
        w[seats, (seats + 1) % n] += 0.5
        w[seats, (seats - 1) % n] += 0.5
    elif name == "star":
        w[1:, 0] = 1.0
        w[0, 1:] = 1.0 / (n - 1)
    elif name == "line":
        w[seats[1:], seats[:-1]] = 1.0
    elif name == "sparse":
        if not 1 <= k <= n - 1:
            raise PanelError(f"sparse needs 1 <= k <= n - 1 = {n - 1}; got {k!r}.")
        order = np.random.default_rng(seed).permutation(n)
        for shift in range(1, k + 1):
            w[order, order[(seats + shift) % n]] = 1.0 / k
    elif name == "layered":
        if layers is None or sum(layers) != n or min(layers) < 1 or len(layers) < 2:
            raise PanelError(f"layered needs two or more positive layers that sum to {n}; got {layers!r}.")
        ends = np.cumsum(layers)
        for begin, middle, end in zip([0, *ends[:-2]], ends[:-1], ends[1:], strict=True):
            w[middle:end, begin:middle] = 1.0 / (middle - begin)
    else:
        raise PanelError(
            f"topology must be one of {TOPOLOGIES}; got {name!r}. Or give the weights themselves."
        )
    return w
