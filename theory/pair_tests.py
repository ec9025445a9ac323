"""Which pairs of specialists err together: tests of correlation 0 over all pairs at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_choice, check_delta, read_errors, read_groups
from theory._exceptions import PanelError
from theory._moments import kept, moments_of, standardise
from theory._results import add_warnings, labelled

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairTests:
    """Tests that the errors of two specialists are uncorrelated, one per pair.

    Attributes
    ----------
    correlation : ndarray of shape (n_specialists, n_specialists)
        Correlations of errors.
    p_value : ndarray, same shape
        Two-sided p-values of correlation 0; NaN on the diagonal.
    p_adjusted : ndarray, same shape
        The smallest false discovery rate at which the pair is still found.
    found : ndarray of bool, same shape
        Pairs found correlated at ``fdr``.
    n_found, n_pairs : int
        Pairs found, pairs tested.
    fdr : float
        Expected share of false finds among the finds.
    dependence : str
        What was assumed of the tests' dependence.
    names : tuple of str
        Names of the specialists.
    n : int
        Samples.
    warnings : tuple of str
        What a reader should know before using the tests.
    """

    correlation: Floats
    p_value: Floats
    p_adjusted: Floats
    found: NDArray[np.bool_]
    n_found: int
    n_pairs: int
    fdr: float
    dependence: str
    names: tuple[str, ...]
    n: int
    warnings: tuple[str, ...] = ()

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset with the dims specialist and specialist_."""
        keys = ("correlation", "p_value", "p_adjusted", "found")
        return labelled({key: getattr(self, key) for key in keys}, self.names, {"fdr": self.fdr, "n": self.n})

    def summary(self) -> str:
        """Return the count of finds and the strongest pairs as text."""
        lines = [
            f"{self.n_found} of {self.n_pairs} pairs err together (false discovery rate {self.fdr:g}, "
            f"{self.n} samples)"
        ]
        i, j = np.nonzero(np.triu(self.found, 1))
        order = np.argsort(-np.abs(self.correlation[i, j]), kind="stable")[:10]
        lines += [
            f"  {self.names[i[k]]} - {self.names[j[k]]}  {self.correlation[i[k], j[k]]:+.3f}  "
            f"(p {self.p_value[i[k], j[k]]:.1g})"
            for k in order
        ]
        return add_warnings(lines, self.warnings)


def correlated_pairs(
    errors: Any,
    *,
    fdr: float = 0.05,
    dependence: Literal["positive", "any"] = "positive",
    groups: ArrayLike | None = None,
    missing: Literal["raise", "complete"] = "raise",
) -> PairTests:
    """Find the pairs of specialists whose errors are correlated, with the false discovery rate held.

    Parameters
    ----------
    errors : array-like, DataFrame or DataArray
        Shape (sample, specialist) or (sample, specialist, output).
    fdr : float
        Expected share of false finds among the finds.
    dependence : {"positive", "any"}
        Benjamini-Hochberg holds when the tests are independent or positively dependent;
        Benjamini-Yekutieli holds always and finds less.
    groups : array-like of shape (sample,), optional
        Labels of samples that belong together.
    missing : {"raise", "complete"}
        Refuse NaN, or use the samples that all answered.

    Returns
    -------
    PairTests
        Every pair's p-value and whether it is found.

    Raises
    ------
    PanelError
        On non-finite errors, fewer than three samples, or one specialist.

    Notes
    -----
    With z the standardised errors the statistic is sum z_i z_j over the root of sum (z_i z_j)^2: near
    r sqrt(n) for independent errors, and valid where uncorrelated errors are not independent (a shared
    scale), on which r sqrt(n) alone finds pairs that are not there. Under groups z_i z_j is
    summed within them first. The law is normal for large n. Not to be correlated is not to be
    independent, and no find proves no absence.

    References
    ----------
    Benjamini and Hochberg, *Controlling the false discovery rate*, 1995; Benjamini and Yekutieli, 2001.

    Examples
    --------
    >>> import numpy as np
    >>> e = np.random.default_rng(0).normal(size=(400, 4))
    >>> e[:, 1] += e[:, 0]
    >>> tests = correlated_pairs(e)
    >>> tests.n_found, bool(tests.found[0, 1])
    (1, True)
    """
    check_delta(fdr)
    check_choice("dependence", dependence, ("positive", "any"))
    check_choice("missing", missing, ("raise", "complete"))
    table = read_errors(errors, missing=missing, least=3)
    m = table.values.shape[1]
    if m < 2:
        raise PanelError("one specialist has no pair to test. Give two or more.")
    group = None if groups is None else read_groups(kept(groups, table), table.n)
    moments = moments_of(table, None, center=True)
    r = standardise(moments.matrix)
    scale = np.sqrt(np.where(np.isnan(r.diagonal()), np.nan, moments.matrix.diagonal()))
    z = moments.centred / scale[None, :, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        root = _root_sum(z, group)
        statistic = (moments.matrix * table.n / scale[:, None] / scale[None, :]) / root
    # Errors that never meet (products all 0 up to rounding) are uncorrelated; NaN stays where an error never varies.
    statistic[root <= 1e-12] = 0.0
    from scipy.special import ndtr

    p_value = 2.0 * ndtr(-np.abs(statistic))
    np.fill_diagonal(p_value, np.nan)
    upper = np.triu_indices(m, 1)
    tested = p_value[upper]
    known = ~np.isnan(tested)
    adjusted = np.full(len(tested), np.nan)
    adjusted[known] = _adjusted(tested[known], dependence == "any")
    matrix = np.full((m, m), np.nan)
    matrix[upper] = adjusted
    matrix.T[upper] = adjusted
    found = np.nan_to_num(matrix, nan=1.0) <= fdr
    notes: tuple[str, ...] = ()
    if not known.all():
        notes = (f"{int((~known).sum())} pairs were not tested: a specialist's errors never vary",)
    if table.dropped:
        notes += (f"{table.dropped} samples were left out: not all answered them",)
    return PairTests(
        correlation=r,
        p_value=p_value,
        p_adjusted=matrix,
        found=found,
        n_found=int(found[upper].sum()),
        n_pairs=int(known.sum()),
        fdr=float(fdr),
        dependence=dependence,
        names=table.names,
        n=table.n,
        warnings=notes,
    )


def _root_sum(z: Floats, group: NDArray[np.int64] | None) -> Floats:
    """Root of the sum over samples, or groups, of (z_i z_j)^2."""
    n, m, outputs = z.shape
    if group is None and outputs == 1:
        square = z[:, :, 0] ** 2
        return np.asarray(np.sqrt(square.T @ square))
    order = np.arange(n) if group is None else np.argsort(group, kind="stable")
    codes = order if group is None else group[order]
    total = np.zeros((m, m))
    cuts = np.flatnonzero(np.diff(codes)) + 1
    for rows in np.split(order, cuts):
        product = np.einsum("nio,njo->ij", z[rows], z[rows])
        total += product**2
    return np.asarray(np.sqrt(total))


def _adjusted(p: Floats, any_dependence: bool) -> Floats:
    """Step-up adjusted p-values: the running minimum, from the largest down, of p_(k) K / k."""
    size = len(p)
    if size == 0:
        return p
    factor = float((1.0 / np.arange(1, size + 1)).sum()) if any_dependence else 1.0
    order = np.argsort(p, kind="stable")
    stepped = p[order] * size * factor / np.arange(1, size + 1)
    running = np.minimum.accumulate(stepped[::-1])[::-1]
    out = np.empty(size)
    out[order] = np.minimum(running, 1.0)
    return out
