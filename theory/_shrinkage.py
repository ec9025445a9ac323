"""Shrinkage of an error matrix towards a target: the formulas of Ledoit-Wolf and of OAS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError

Floats = NDArray[np.float64]


def shrink_matrix(
    matrix: Floats, n: float, shrink: str | float | None, *, fourth: Floats | None, third: Floats | None
) -> tuple[Floats, float]:
    """Return (1 - a) S + a F and the intensity a.

    `fourth` is the mean of u_ij^2 and `third` the mean of u_ii u_ij, where u_ij is the product of
    the errors of i and j on one sample.
    """
    if shrink is None:
        return matrix, 0.0
    if isinstance(shrink, int | float | np.number) and not isinstance(shrink, bool):
        amount = float(shrink)
        if not 0.0 <= amount <= 1.0:
            raise PanelError(
                f"shrink is an intensity between 0 and 1, or the name of a target; got {shrink!r}."
            )
        target = constant_correlation_target(matrix)[0]
    elif shrink == "constant_correlation" and fourth is not None and third is not None:
        target, amount = _constant_correlation(matrix, n, fourth, third)
    elif shrink == "identity" and fourth is not None:
        target, amount = _identity(matrix, n, fourth)
    elif shrink == "oas":
        target, amount = _oas(matrix, n)
    else:
        raise PanelError(
            "shrink must be None, 'constant_correlation', 'identity', 'oas' or a number in [0, 1]; "
            f"got {shrink!r}."
        )
    return (1.0 - amount) * matrix + amount * target, amount


def constant_correlation_target(matrix: Floats) -> tuple[Floats, float]:
    """Return F with the variances of S and one common correlation, and that correlation."""
    m = len(matrix)
    sd = np.sqrt(matrix.diagonal())
    outer = sd[:, None] * sd[None, :]
    off = ~np.eye(m, dtype=bool) & (outer > 0)
    r = float((matrix[off] / outer[off]).mean()) if off.any() else 0.0
    target = r * outer
    np.fill_diagonal(target, matrix.diagonal())
    return target, r


def _constant_correlation(matrix: Floats, n: float, fourth: Floats, third: Floats) -> tuple[Floats, float]:
    target, r = constant_correlation_target(matrix)
    gap = float(((target - matrix) ** 2).sum())
    if gap <= 1e-24 * float((matrix**2).sum()):
        return target, 0.0
    pi = fourth - matrix**2
    variance = matrix.diagonal()
    theta = third - variance[:, None] * matrix
    ratio = np.divide(
        variance[None, :], variance[:, None], out=np.zeros_like(matrix), where=variance[:, None] > 0
    )
    z = theta * np.sqrt(ratio)
    q = float(np.trace(pi)) + r * (float(z.sum()) - float(np.trace(z)))
    return target, float(np.clip((float(pi.sum()) - q) / (n * gap), 0.0, 1.0))


def _identity(matrix: Floats, n: float, fourth: Floats) -> tuple[Floats, float]:
    m = len(matrix)
    target = np.eye(m) * (float(np.trace(matrix)) / m)
    d2 = float(((matrix - target) ** 2).sum()) / m
    if d2 <= 0.0:
        return target, 0.0
    b2 = (float(fourth.sum()) - float((matrix**2).sum())) / (n * m)
    return target, float(np.clip(b2, 0.0, d2)) / d2


def _oas(matrix: Floats, n: float) -> tuple[Floats, float]:
    m = len(matrix)
    trace = float(np.trace(matrix))
    target = np.eye(m) * (trace / m)
    square = float((matrix**2).sum())
    below = (n + 1.0) * (square - trace**2 / m)
    return target, 1.0 if below <= 0.0 else min(1.0, (square + trace**2) / below)
