"""Reading and refusing arguments: the only validator module of `theory`."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._backends import from_array, kind_of
from theory._exceptions import PanelError
from theory.errors import _read as _read_values

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Relative to the mean diagonal; above the rounding of a matrix built in another order of summation.
_SYMMETRY = 1e-8
_INDEFINITE = 1e-8
# Standard errors hold fourth powers, which overflow a double just above this.
_LARGEST = 1e75


def check_choice(name: str, value: object, allowed: tuple[Any, ...]) -> None:
    """Refuse an option that is not one of the allowed ones."""
    if not any(value is option or value == option for option in allowed):
        options = ", ".join(repr(option) for option in allowed)
        raise PanelError(f"{name} must be one of {options}; got {value!r}.")


def read_count(name: str, value: Any, *, least: int = 0) -> int:
    """Read a whole number that is at least so large."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise PanelError(f"{name} must be a whole number >= {least}; got {value!r}.")
    return int(value)


def check_level(ci: float) -> float:
    """Return the normal quantile of a two-sided interval at level `ci`."""
    if not isinstance(ci, int | float | np.number) or not 0.0 < ci < 1.0:
        raise PanelError(
            f"ci is the level of the interval and lies between 0 and 1 (0.95 is usual); got {ci!r}."
        )
    return NormalDist().inv_cdf(0.5 + ci / 2.0)


def check_delta(delta: float) -> float:
    """Refuse a failure probability outside (0, 1)."""
    if not isinstance(delta, int | float | np.number) or not 0.0 < delta < 1.0:
        raise PanelError(f"delta is a probability between 0 and 1 (0.05 is usual); got {delta!r}.")
    return float(delta)


def matrix_value(matrix: Any) -> tuple[Floats, tuple[str, ...]]:
    """Read a (specialist, specialist) matrix and its names, without checking its values."""
    value = getattr(matrix, "value", None)
    names: tuple[str, ...] = ()
    if value is not None and hasattr(matrix, "names"):
        return np.asarray(value, dtype=np.float64), tuple(matrix.names)
    if kind_of(matrix) == "xarray":
        if matrix.ndim == 2 and matrix.dims[0] in matrix.coords:
            names = tuple(str(name) for name in matrix.coords[matrix.dims[0]].values.tolist())
    elif kind_of(matrix) == "pandas":
        names = tuple(str(name) for name in matrix.columns)
    elif kind_of(matrix) == "torch":
        matrix = matrix.detach().cpu().numpy()
    values = np.asarray(matrix)
    if values.dtype.kind not in "iubf":
        raise PanelError(f"a covariance matrix holds numbers; got dtype {values.dtype}.")
    return values.astype(np.float64, copy=False), names


def read_matrix(matrix: Any, *, what: str = "covariance") -> tuple[Floats, tuple[str, ...]]:
    """Read a symmetric positive semi-definite (specialist, specialist) matrix.

    A matrix that a caller of ours estimated and checked (an ``ErrorMatrix``) is checked again: the
    test is one Cholesky factorisation, and users may have changed the array.
    """
    values, names = matrix_value(matrix)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.shape[0] == 0:
        raise PanelError(
            f"the {what} must be a square (specialist, specialist) matrix; got shape {values.shape}. "
            "error_covariance(errors) makes one from a table of errors."
        )
    scale = float(np.trace(values)) / len(values)
    if not np.isfinite(scale) or not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise PanelError(f"the {what} holds {count} non-finite values. Estimate it again without them.")
    asymmetry = float(np.abs(values - values.T).max())
    if asymmetry > _SYMMETRY * max(abs(scale), np.finfo(float).tiny):
        raise PanelError(
            f"the {what} is not symmetric: entries differ from their mirror by up to {asymmetry:.3g}. "
            "Use (C + C.T) / 2 if that is rounding; if rows are samples, say given='errors'."
        )
    _refuse_indefinite(values, scale, what)
    return values, names or tuple(map(str, range(len(values))))


def _refuse_indefinite(values: Floats, scale: float, what: str) -> None:
    jittered = values.copy()
    jittered.flat[:: len(values) + 1] += _INDEFINITE * max(scale, np.finfo(float).tiny)
    try:
        # A Cholesky factorisation is several times cheaper than the eigenvalues, which only the message
        # needs.
        np.linalg.cholesky(jittered)
    except np.linalg.LinAlgError:
        smallest = float(np.linalg.eigvalsh(values)[0])
        raise PanelError(
            f"the {what} is indefinite: its smallest eigenvalue is {smallest:.3g}. Estimate it with "
            "error_covariance(errors, ...) and use shrink= there; if rows are samples, say given='errors'."
        ) from None


def is_matrix(source: Any, given: str) -> bool:
    """Decide whether a source is a (specialist, specialist) matrix or a table of errors."""
    check_choice("given", given, ("auto", "errors", "matrix"))
    if given != "auto":
        return given == "matrix"
    if hasattr(source, "value") and hasattr(source, "names"):
        return True
    kind = kind_of(source)
    if kind == "xarray":
        # (specialist, specialist_), or dims of the user's own; (time, specialist) is a table of errors.
        named = "specialist" in source.dims
        return (
            source.ndim == 2 and "sample" not in source.dims and (not named or "specialist_" in source.dims)
        )
    values = source.detach().cpu().numpy() if kind == "torch" else from_array(source)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.dtype.kind not in "iubf":
        return False
    scale = np.abs(values.diagonal()).max(initial=0.0)
    if bool(np.abs(values - values.T).max(initial=0.0) <= _SYMMETRY * scale):
        return True
    raise PanelError(
        f"a {len(values)} x {len(values)} array may be a matrix (but it is not symmetric) or as many samples "
        "as specialists. Say given='errors' if rows are samples; use (C + C.T) / 2 if it is a matrix."
    )


def read_weights(weights: ArrayLike | None, n_specialists: int) -> Floats:
    """Read weights over specialists that sum to 1; None means equal weights."""
    if weights is None:
        return np.full(n_specialists, 1.0 / n_specialists)
    values = np.asarray(getattr(weights, "value", weights), dtype=np.float64)
    if values.shape != (n_specialists,):
        raise PanelError(
            f"weights must be one number per specialist ({n_specialists}); got shape {values.shape}."
        )
    if not np.isfinite(values).all():
        raise PanelError(f"weights hold {int((~np.isfinite(values)).sum())} non-finite values.")
    total = float(values.sum())
    if abs(total - 1.0) > 1e-8:
        raise PanelError(
            f"weights must sum to 1; got {total:.6g}. Divide them by their sum if you mean shares."
        )
    return values


def read_sample_weight(sample_weight: ArrayLike | None, n: int) -> Floats | None:
    """Read non-negative weights over samples, scaled to mean 1."""
    if sample_weight is None:
        return None
    values = np.asarray(sample_weight, dtype=np.float64)
    if values.shape != (n,) or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise PanelError(
            f"sample_weight must be {n} finite numbers >= 0, not all zero; got shape {values.shape}. "
            "Give one weight per sample."
        )
    return np.asarray(values * (n / values.sum()))


def read_groups(groups: ArrayLike | None, n: int) -> Ints | None:
    """Read group labels of samples as codes 0, 1, ..."""
    if groups is None:
        return None
    codes = read_strata(groups, n, "groups")
    if codes.max() == 0:
        raise PanelError("groups hold one group only: no interval can be had from it. Leave groups out.")
    return codes


def read_strata(strata: ArrayLike, n: int, what: str = "strata") -> Ints:
    """Read one label per sample as codes 0, 1, ..."""
    values = np.asarray(strata)
    if values.shape != (n,):
        raise PanelError(f"{what} must be one label per sample ({n}); got shape {values.shape}.")
    try:
        codes: Ints = np.unique(values, return_inverse=True)[1].astype(np.int64)
    except TypeError as error:
        raise PanelError(f"{what} hold labels of different kinds ({error}). Turn all into text.") from error
    return codes


@dataclass(frozen=True)
class ErrorTable:
    """Errors read and checked: zero-filled values (sample, specialist, output) and who answered."""

    values: Floats
    answered: NDArray[np.bool_] | None
    names: tuple[str, ...]
    dropped: int = 0
    kept: NDArray[np.bool_] | None = None

    @property
    def n(self) -> int:
        """Number of samples."""
        return int(self.values.shape[0])


def read_errors(errors: Any, *, missing: str, least: int = 2) -> ErrorTable:
    """Read errors under a policy for missing answers.

    A specialist that misses one output of a sample counts as absent from that sample.
    """
    check_choice("missing", missing, ("raise", "abstain", "complete"))
    values, names, square = _read_values(errors, "raise" if missing == "raise" else "abstain")
    table = values[:, :, None] if values.ndim == 2 else values
    if not square < _LARGEST**2:  # NaN where one pass did not tell
        largest = max(float(np.nanmax(table, initial=0.0)), -float(np.nanmin(table, initial=0.0)))
    else:
        largest = 0.0
    if largest > _LARGEST:
        raise PanelError(
            f"errors reach {largest:.3g}: their squares and fourth powers overflow. Clip or transform the "
            "answers, or score them as right and wrong."
        )
    answered: NDArray[np.bool_] | None = None
    dropped = 0
    kept: NDArray[np.bool_] | None = None
    if missing != "raise" and np.isnan(square) and np.isnan(table).any():
        present: NDArray[np.bool_] = np.asarray(~np.isnan(table).any(axis=2))
        if missing == "complete":
            kept = np.asarray(present.all(axis=1))
            dropped = int((~kept).sum())
            table = table[kept]
        else:
            answered = present
            table = np.where(present[:, :, None], table, 0.0)
    if len(table) < least:
        raise PanelError(
            f"errors hold {len(table)} usable samples; at least {least} are needed. Give more samples"
            + (", or missing='abstain' to keep the incomplete ones." if dropped else ".")
        )
    return ErrorTable(table, answered, names, dropped, kept)


def read_truth(y: ArrayLike, n: int) -> Ints:
    """Read true label codes, one per sample."""
    truth = np.asarray(y)
    if truth.shape != (n,):
        raise PanelError(f"y must be one label code per sample ({n}); got shape {truth.shape}.")
    codes = truth.astype(np.int64) if truth.dtype.kind in "iubf" and np.isfinite(truth).all() else None
    if codes is None or not np.array_equal(codes, truth):
        raise PanelError("y must be whole numbers: the code of the right label of each sample.")
    if (codes < 0).any():
        raise PanelError(
            f"y holds {int((codes < 0).sum())} negative codes; leave out samples without a truth."
        )
    return codes


def read_options(n_options: ArrayLike | None, n: int, least: int) -> Ints:
    """Read how many options each sample had; None means as many as were seen."""
    values = np.asarray(max(least, 2) if n_options is None else n_options)
    if values.dtype.kind not in "iu" or values.shape not in ((), (n,)):
        raise PanelError(
            f"n_options must be one whole number, or one per sample ({n}); got dtype {values.dtype}, "
            f"shape {values.shape}."
        )
    options: Ints = np.broadcast_to(values.astype(np.int64), (n,))
    if (options < 2).any():
        raise PanelError(
            f"n_options must be at least 2; got {int(options.min())}. With one option nobody can err."
        )
    return options


def read_accuracies(accuracy: ArrayLike) -> Floats:
    """Read probabilities of being right, one per specialist."""
    values = np.atleast_1d(np.asarray(accuracy, dtype=np.float64))
    if (
        values.ndim != 1
        or not len(values)
        or not np.isfinite(values).all()
        or (values < 0).any()
        or (values > 1).any()
    ):
        raise PanelError(
            "accuracies must be one number in [0, 1] per specialist; got "
            f"{np.array2string(values, threshold=6)}."
        )
    return values


def read_zero_one(table: ArrayLike, what: str) -> Floats:
    """Read a (sample, specialist) table of zeros and ones."""
    values = np.asarray(table)
    if values.dtype.kind not in "iubf" or values.ndim != 2 or 0 in values.shape:
        raise PanelError(f"{what} must be a (sample, specialist) table of 0 and 1; got shape {values.shape}.")
    numbers = values.astype(np.float64)
    bad = (numbers != 0.0) & (numbers != 1.0)
    if bad.any():
        first = np.argwhere(bad)[0]
        raise PanelError(
            f"{what} must hold 0 and 1 only; got {numbers[tuple(first)]!r} (sample {first[0]}, specialist "
            f"{first[1]}). Score an abstention as not right, or leave the sample out."
        )
    return numbers


def refuse_correlation(rho: float, n_specialists: int) -> None:
    """Refuse a common correlation that no panel of this size can have."""
    least = -1.0 / (n_specialists - 1) if n_specialists > 1 else -np.inf
    if not (least - 1e-12 <= rho <= 1.0 + 1e-12):
        raise PanelError(
            f"rho must lie between -1/(M-1) = {least:.4g} and 1 for M = {n_specialists}; got {rho:.6g}. "
            "Raise rho, or use fewer specialists."
        )
