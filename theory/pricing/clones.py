"""Near copies: finding them, and prices that copying cannot raise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import read_errors, read_groups
from theory._exceptions import PanelError
from theory._moments import kept
from theory._results import add_warnings, labelled
from theory.correlation import error_correlation

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Clones:
    """Specialists whose errors move together more than a threshold.

    Attributes
    ----------
    labels : ndarray of int, shape (n_specialists,)
        Cluster of every specialist, numbered by first appearance.
    clusters : tuple of tuples of str
        Names of the members of every cluster of two or more.
    correlation, lower : ndarray of shape (n_specialists, n_specialists)
        Error correlations and the lower ends of their intervals, which were compared with the threshold.
    threshold : float
        What counts as a copy.
    names : tuple of str
        Names of the specialists.
    warnings : tuple of str
        What a reader should know before using the clusters.
    """

    labels: Ints
    clusters: tuple[tuple[str, ...], ...]
    correlation: Floats
    lower: Floats
    threshold: float
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset with the dims specialist and specialist_."""
        variables = {"cluster": self.labels, "correlation": self.correlation, "lower": self.lower}
        return labelled(variables, self.names, {"threshold": self.threshold})

    def summary(self) -> str:
        """Return the clusters as text."""
        lines = [f"{len(self.clusters)} clusters of copies above an error correlation of {self.threshold:g}"]
        lines += ["  " + ", ".join(cluster) for cluster in self.clusters]
        return add_warnings(lines, self.warnings)


def find_clones(
    errors: Any,
    *,
    threshold: float = 0.95,
    ci: float = 0.95,
    groups: ArrayLike | None = None,
    missing: Literal["raise", "abstain", "complete"] = "raise",
) -> Clones:
    """Find groups of specialists whose errors are nearly the same.

    Two specialists are linked when the interval of their error correlation lies above the
    threshold; clusters are what links connect (single linkage).

    Parameters
    ----------
    errors : array-like, DataFrame or DataArray
        Shape (sample, specialist) or (sample, specialist, output).
    threshold : float
        Correlation above which two specialists count as copies, in (-1, 1).
    ci : float
        Level of the interval.
    groups : array-like of shape (sample,), optional
        Labels of samples that belong together.
    missing : {"raise", "abstain", "complete"}
        As in `error_correlation`.

    Returns
    -------
    Clones
        Its ``labels`` serve as ``clusters=`` of `price`.

    Raises
    ------
    PanelError
        If the threshold lies outside (-1, 1), or the errors cannot be used.

    Notes
    -----
    A copier who adds enough noise stays below any threshold, and honest look-alikes are merged at a
    low one: neither error can be removed, only traded. Equal errors of right and wrong count for as much as
    there are of them: the lower end of a perfect correlation on k wrong (or, if rarer, right) answers is
    ((1 - ci) / 2)^(1/k), so that the defaults need 72 of them. A specialist whose errors never vary has no
    correlation and is linked to nobody.

    Examples
    --------
    >>> import numpy as np
    >>> e = np.random.default_rng(0).normal(size=(200, 3))
    >>> e[:, 2] = e[:, 0]
    >>> find_clones(e).clusters
    (('0', '2'),)
    """
    if not -1.0 < threshold < 1.0:
        raise PanelError(f"threshold is a correlation between -1 and 1 (0.95 is usual); got {threshold!r}.")
    result = error_correlation(errors, ci=ci, groups=groups, missing=missing)
    assert result.ci is not None
    lower = _by_chance(errors, result.ci[0], result.value, missing, groups, (1.0 - ci) / 2.0)
    linked = np.nan_to_num(lower, nan=-np.inf) > threshold
    labels = _connected(linked)
    clusters = tuple(
        tuple(result.names[i] for i in np.flatnonzero(labels == label))
        for label in range(int(labels.max()) + 1)
        if np.count_nonzero(labels == label) > 1
    )
    return Clones(labels, clusters, result.value, lower, float(threshold), result.names, result.warnings)


def _by_chance(
    errors: Any, lower: Floats, value: Floats, missing: str, groups: ArrayLike | None, tail: float
) -> Floats:
    """Give perfect correlations of values that repeat the lower end that their number supports.

    Two good specialists that share their only error correlate perfectly. If each of the k samples that are
    not of the commonest value agrees with probability c, all of them do so with c^k.
    """
    pairs = np.argwhere(np.triu(np.nan_to_num(value) >= 1.0 - 1e-12, 1))
    if not len(pairs):
        return lower
    table = read_errors(errors, missing=missing)
    group = None if groups is None else read_groups(kept(groups, table), table.n)
    lower = lower.copy()
    for i, j in pairs:
        rows = slice(None) if table.answered is None else table.answered[:, i] & table.answered[:, j]
        _, which, counts = np.unique(table.values[rows, i], axis=0, return_inverse=True, return_counts=True)
        if 2 * len(counts) > len(which):
            continue  # numbers that hardly repeat are not equal by chance
        told = which.ravel() != np.argmax(counts)
        k = int(told.sum()) if group is None else len(np.unique(group[rows][told]))
        lower[i, j] = lower[j, i] = min(lower[i, j], tail ** (1.0 / k))
    return lower


def _connected(linked: NDArray[np.bool_]) -> Ints:
    labels = np.full(len(linked), -1, dtype=np.int64)
    count = 0
    for start in range(len(linked)):
        if labels[start] >= 0:
            continue
        labels[start] = count
        queue = [start]
        while queue:
            for j in np.flatnonzero(linked[queue.pop()] & (labels < 0)):
                labels[j] = count
                queue.append(int(j))
        count += 1
    return labels
