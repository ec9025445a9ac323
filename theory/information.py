"""How many nats about the truth each specialist adds to those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_level, read_groups, read_matrix, read_truth
from theory._exceptions import PanelError
from theory._influence import standard_error
from theory._results import add_warnings, labelled, with_interval
from theory.labels import as_labels

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]
_MOST = 4
_FLOOR = 1e-12


@dataclass(frozen=True, eq=False)
class InformationChain:
    """Information about the truth, in nats: what each specialist adds to those before it.

    Attributes
    ----------
    value : float
        Information of all together, the sum of ``chain``.
    chain : ndarray of shape (n_specialists,)
        What each adds, in the order of ``names``. It depends on that order.
    names : tuple of str
        Names, in the order in which specialists join.
    method : str
        How the numbers were had.
    assume : str
        What was assumed.
    exact : bool
        False for estimates from samples.
    precision : ndarray of shape (n_specialists,) or None
        Normal errors: p = 1'C^-1 1 of the specialists so far; 1 / p is the variance of their best mean.
    se : ndarray of shape (n_specialists,) or None
        Standard errors of ``chain``.
    ci : ndarray of shape (2, n_specialists) or None
        Intervals of ``chain``; not clipped at 0.
    value_se : float or None
        Standard error of ``value``.
    n : int or None
        Samples behind an estimate.
    warnings : tuple of str
        What a reader should know before using the numbers.
    """

    value: float
    chain: Floats
    names: tuple[str, ...]
    method: str
    assume: str
    exact: bool
    precision: Floats | None = None
    se: Floats | None = None
    ci: Floats | None = None
    value_se: float | None = None
    n: int | None = None
    warnings: tuple[str, ...] = ()

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset over specialist, in the order of joining."""
        variables = {
            "information": self.chain, "standard_error": self.se, "ci": self.ci, "precision": self.precision
        }  # fmt: skip
        return labelled(variables, self.names, {"value": self.value, "method": self.method, "n": self.n})

    def summary(self) -> str:
        """Return the chain as text, in the order of joining."""
        lines = [f"information about the truth {self.value:.4f} nats ({self.method}; assumes {self.assume})"]
        width = max(len(name) for name in self.names)
        for i, name in enumerate(self.names):
            interval = None if self.ci is None else self.ci[:, i]
            lines.append(f"  {name:<{width}}  {with_interval(float(self.chain[i]), interval, 4)}")
        return add_warnings(lines, self.warnings)


def gaussian_information(
    matrix: Any, *, prior_variance: float, order: Sequence[int] | None = None
) -> InformationChain:
    """Compute the information of specialists with normal errors about a normal truth.

    Answers are x_i = y + e_i. With p(S) = 1'C_SS^-1 1, I(S) = ln(1 + prior_variance p(S)) / 2. The same scalar p gives
    the variance 1 / p of the best mean and the Bhattacharyya exponent shift^2 p / 8.

    Parameters
    ----------
    matrix : ErrorMatrix, array-like or DataArray of shape (specialist, specialist)
        Covariance of errors. A second moment treats bias as noise.
    prior_variance : float
        Variance of the truth, > 0.
    order : sequence of int, optional
        Order in which specialists join; as they stand by default.

    Returns
    -------
    InformationChain
        Exact for the matrix given.

    Raises
    ------
    PanelError
        If the matrix is singular (copies), the variance is not positive, or the order is no permutation.

    Notes
    -----
    p_k - p_{k-1} = z_k^2 with L z = 1 and C = LL' in that order. A matrix estimated from few samples overstates p:
    shrink it.

    Examples
    --------
    >>> alike = gaussian_information([[1.0, 0.8], [0.8, 1.0]], prior_variance=1.0)
    >>> alike.chain.round(3)
    array([0.347, 0.027])
    """
    values, names = read_matrix(matrix)
    m = len(values)
    found = getattr(matrix, "kind", "covariance")
    if found == "correlation":
        raise PanelError("information needs a covariance; got a correlation. Use error_covariance(errors).")
    if not (np.isfinite(prior_variance) and prior_variance > 0):
        raise PanelError(f"prior_variance must be a finite number > 0; got {prior_variance!r}.")
    at = _read_order(order, m)
    permuted = values[np.ix_(at, at)]
    try:
        root = np.linalg.cholesky(permuted)
    except np.linalg.LinAlgError:
        root = np.zeros_like(permuted)
    if (root.diagonal() ** 2 <= 1e-12 * permuted.diagonal()).any():
        raise PanelError(
            "the matrix is singular: some specialist is a copy or a combination of others, and their difference would "
            "carry endless information. Use error_covariance(errors, shrink='constant_correlation')."
        )
    z = np.empty(m)
    for k in range(m):
        z[k] = (1.0 - root[k, :k] @ z[:k]) / root[k, k]
    precision = np.cumsum(z**2)
    below = np.concatenate([[0.0], precision[:-1]])
    # log1p of the ratio keeps digits where a specialist adds little.
    chain = 0.5 * np.log1p(prior_variance * z**2 / (1.0 + prior_variance * below))
    return InformationChain(
        value=float(0.5 * np.log1p(prior_variance * precision[-1])),
        chain=chain,
        names=tuple(names[i] for i in at),
        method="closed form",
        assume="normal truth and errors, independent of each other",
        exact=True,
        precision=precision,
        warnings=("from a second moment: bias counts as noise",) if found == "second_moment" else (),
    )


def _read_order(order: Sequence[int] | None, m: int) -> list[int]:
    if order is None:
        return list(range(m))
    at = [int(i) for i in order]
    if sorted(at) != list(range(m)):
        raise PanelError(f"order must name each of the {m} specialists once, by position; got {list(order)}.")
    return at


def information_chain(
    answers: Any, y: ArrayLike, *, order: Sequence[int] | None = None, ci: float = 0.95
) -> InformationChain:
    """Estimate I(Y; X_i | X_<i) of label answers from counts, for up to four specialists.

    Parameters
    ----------
    answers : array-like, DataFrame or DataArray of shape (sample, specialist)
        Label codes; an abstention (-1) is an answer of its own. At most four specialists: the number of
        cells grows as the power of their number, and empty cells make every estimate too high.
    y : array-like of int, shape (sample,)
        True codes.
    order : sequence of int, optional
        Order in which specialists join; as they stand by default.
    ci : float
        Level of the intervals.

    Returns
    -------
    InformationChain
        Plug-in estimates with the Miller-Madow correction, (cells - 1) / (2 n) per entropy.

    Raises
    ------
    PanelError
        On more than four specialists, or shapes that do not fit.

    Notes
    -----
    Standard errors are those of the pointwise information; they do not hold the bias that is left, which the
    warnings name where a cell holds few samples. At 0 information the normal interval is too narrow.

    References
    ----------
    Miller, *Note on the bias of information estimates*, 1955.

    Examples
    --------
    >>> y = [0, 0, 1, 1] * 50
    >>> chain = information_chain([[v, 0] for v in y], y).chain
    >>> bool(abs(chain[0] - 0.693) < 0.01), bool(abs(chain[1]) < 0.01)
    (True, True)
    """
    quantile = check_level(ci)
    codes, names = as_labels(answers)
    if codes.ndim != 2:
        raise PanelError(f"answers need the axes (sample, specialist); got shape {codes.shape}.")
    n, m = codes.shape
    if m > _MOST:
        raise PanelError(
            f"counts of {m} specialists' joint answers are too sparse: at most {_MOST}. Use v_information with a fitted "
            "fuser, or price(..., game='plurality')."
        )
    if n < 2:
        raise PanelError(f"two or more samples are needed; got {n}.")
    truth = read_truth(y, n)
    at = _read_order(order, m)
    chain, pointwise, cells = np.zeros(m), np.zeros((n, m + 1)), 1
    before = 0.0
    joint = np.zeros(n, dtype=np.int64)
    log_y, entropy_y, _ = _entropy(truth)
    for k, i in enumerate(at):
        joint = np.unique(np.stack([joint, codes[:, i]]), axis=1, return_inverse=True)[1].reshape(n)
        log_x, entropy_x, _ = _entropy(joint)
        both = np.unique(np.stack([joint, truth]), axis=1, return_inverse=True)[1].reshape(n)
        log_xy, entropy_xy, cells = _entropy(both)
        information = entropy_y + entropy_x - entropy_xy
        chain[k], before = information - before, information
        pointwise[:, k + 1] = log_xy - log_x - log_y
    added = np.diff(pointwise, axis=1)
    se = added.std(axis=0, ddof=1) / np.sqrt(n)
    notes: tuple[str, ...] = ()
    if cells > n / 5:
        notes = (f"{cells} cells for {n} samples: fewer than 5 a cell, and the estimate is still biased",)
    return InformationChain(
        value=float(chain.sum()),
        chain=chain,
        names=tuple(names[i] for i in at),
        method="plug-in, Miller-Madow",
        assume="independent samples, cells well filled",
        exact=False,
        se=se,
        ci=np.stack([chain - quantile * se, chain + quantile * se]),
        value_se=float(pointwise[:, -1].std(ddof=1) / np.sqrt(n)),
        n=n,
        warnings=notes,
    )


def _entropy(codes: NDArray[np.int64]) -> tuple[Floats, float, int]:
    """Log frequency of every sample's cell, corrected entropy, number of cells."""
    _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    share = counts / len(codes)
    entropy = float(-(share * np.log(share)).sum()) + (len(counts) - 1) / (2.0 * len(codes))
    return np.log(share)[inverse.reshape(len(codes))], entropy, len(counts)


def v_information(
    probabilities: ArrayLike,
    y: ArrayLike,
    *,
    prior: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
    ci: float = 0.95,
) -> InformationChain:
    """Measure what each specialist adds to a family of fusers: the fall of their log loss, cross-fitted.

    The k-th term is the log loss of the fuser fitted on the first k - 1 specialists minus that of the fuser fitted on
    the first k: information that this family can use, which may be less than there is, and negative when the
    larger fuser overfits. It is never clipped.

    Parameters
    ----------
    probabilities : array-like of shape (step, sample, class)
        ``probabilities[k]``: class probabilities of the fuser of the first k + 1 specialists, on samples it was
        not fitted on.
    y : array-like of int, shape (sample,)
        True codes.
    prior : array-like of shape (class,) or (sample, class), optional
        Probabilities of the fuser that hears nobody. Default: each sample gets the class shares of the others,
        half a sample added per class.
    names : sequence of str, optional
        Names of the specialists, in the order of joining.
    groups : array-like of shape (sample,), optional
        Labels of samples that belong together.
    ci : float
        Level of the intervals.

    Returns
    -------
    InformationChain
        Terms with standard errors sd / sqrt(n).

    Raises
    ------
    PanelError
        If rows are no probabilities or shapes do not fit.

    Notes
    -----
    Averaged over all orders the terms are the Shapley values of the log-loss game: `price` with ``game="callable"``.
    Probabilities below 1e-12 at the truth are raised to it, with a warning. Standard errors describe the
    samples, not the fitting of the fusers.

    References
    ----------
    Xu et al., *A theory of usable information under computational constraints*, 2020.

    Examples
    --------
    >>> steps = [[[0.7, 0.3], [0.3, 0.7]], [[0.9, 0.1], [0.1, 0.9]]]
    >>> v_information(steps, [0, 1], prior=[0.5, 0.5]).chain.round(3)
    array([0.336, 0.251])
    """
    quantile = check_level(ci)
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 3 or 0 in p.shape or p.shape[1] < 2 or p.shape[2] < 2:
        raise PanelError(
            f"probabilities need the axes (step, sample, class), two or more samples and classes; got shape {p.shape}."
        )
    steps, n, k = p.shape
    _check_rows(p, "probabilities")
    truth = read_truth(y, n)
    if truth.max() >= k:
        raise PanelError(f"y holds code {truth.max()}, but there are {k} classes.")
    labels = tuple(str(i) for i in range(steps)) if names is None else tuple(str(name) for name in names)
    if len(labels) != steps:
        raise PanelError(f"names must be one per step ({steps}); got {len(labels)}.")
    group = read_groups(groups, n)
    if prior is None:
        counts = np.bincount(truth, minlength=k) + 0.5
        others = (counts[truth] - 1.0) / (n - 1.0 + 0.5 * k)
    else:
        given = np.asarray(prior, dtype=np.float64)
        if given.shape not in ((k,), (n, k)):
            raise PanelError(f"prior must have shape {(k,)} or {(n, k)}; got {given.shape}.")
        _check_rows(given, "prior")
        others = np.broadcast_to(given, (n, k))[np.arange(n), truth]
    at_truth = np.concatenate([others[None], p[:, np.arange(n), truth]])
    low = int((at_truth < _FLOOR).sum())
    notes: tuple[str, ...] = ()
    if low:
        notes = (
            f"{low} probabilities of the truth below {_FLOOR:g} were raised to it; a fuser was certain and wrong",
        )
    loss = -np.log(np.maximum(at_truth, _FLOOR))
    added = loss[:-1] - loss[1:]
    chain = added.mean(axis=1)
    se = np.array([standard_error(row - row.mean(), None, group) for row in added])
    whole = loss[0] - loss[-1]
    return InformationChain(
        value=float(chain.sum()),
        chain=chain,
        names=labels,
        method="cross-fitted log losses",
        assume="fusers not fitted on these samples",
        exact=False,
        se=se,
        ci=np.stack([chain - quantile * se, chain + quantile * se]),
        value_se=standard_error(whole - whole.mean(), None, group),
        n=n,
        warnings=notes,
    )


def _check_rows(values: Floats, what: str) -> None:
    if (
        not np.isfinite(values).all()
        or (values < 0).any()
        or (np.abs(values.sum(axis=-1) - 1.0) > 1e-3).any()
    ):
        raise PanelError(f"{what} must be finite, >= 0, with rows that sum to 1. Normalise them first.")
