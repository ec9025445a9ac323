"""What the contract tests share: every rule of the registry, its panels and its naive twin."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import fusion

LATE = fusion.operator_names("late")
ROWS = {name: fusion.operator_row(name) for name in LATE}
CASES = [(name, params) for name in LATE for params in ({}, *ROWS[name].variants)]
IDS = [f"{name}{dict(params) or ''}" for name, params in CASES]
every_case = pytest.mark.parametrize(("name", "params"), CASES, ids=IDS)
every_row = pytest.mark.parametrize("name", LATE)


def build(name, params=None, f=None):
    operator = fusion.get_operator(name, **dict(params or {}))
    return operator.set_params(n_byzantine=f) if f is not None and ROWS[name].takes_budget else operator


def nine(name, params=None, faults=0):
    """Build a rule for the nine specialists of most panels, or for those left after faults."""
    f = 2 if not ROWS[name].takes_budget or ROWS[name].minimum(2, **dict(params or {})) <= 9 else 1
    return build(name, params, f - faults)


def largest_budget(name, params, n):
    return max(f for f in range(n) if f == 0 or (ROWS[name].minimum(f, **params) <= n and 2 * f < n))


def withstands(name):
    """Whether faulty rows can be done without."""
    row = ROWS[name]
    return row.takes_budget or row.operator()._rule().withstands(9) > 0


def domain(name, panel):
    """Bring random numbers into the rule's domain."""
    if name == "fltrust":
        return (np.abs(panel) + 1).astype(panel.dtype)  # somebody must point the trusted way
    if ROWS[name].domain != "probabilities":
        return panel
    wide = panel.astype(np.float64)
    shares = np.exp(np.clip(wide - wide.max(axis=-1, keepdims=True), -600, 0))
    return (shares / shares.sum(axis=-1, keepdims=True)).astype(panel.dtype)


def panels(name, n, d, seed=0, samples=6):
    """Random, tied, duplicated, huge-offset and degenerate panels of n specialists."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(samples, n, d))
    twice = normal.copy()
    twice[:, n // 2 :] = normal[:, : n - n // 2]
    yield "random", domain(name, normal)
    yield "tied", domain(name, rng.integers(0, 3, size=(samples, n, d)).astype(float))
    yield "duplicated", domain(name, twice)
    yield "huge offset", domain(name, normal + 1e8)
    yield "all equal", domain(name, np.repeat(normal[:, :1], n, axis=1))
    yield "heavy tailed", domain(name, rng.standard_cauchy(size=(samples, n, d)) * 100)


def twin(name, params, rows, f, weights=None):
    options = {key: value for key, value in dict(params).items() if key != "scope"}
    if ROWS[name].takes_budget:
        options["n_byzantine"] = f
    return reference.TWINS[name](np.asarray(rows, dtype=np.float64), weights=weights, **options)


def agrees(name, params, rows, f, fused, tolerance, weights=None):
    """Compare with the twin; where scores tie or minimisers form a segment, compare what is minimised."""
    wide = np.asarray(rows, dtype=np.float64)
    spread = np.abs(wide - np.median(wide, axis=0)).max() or 1.0
    expected = twin(name, params, rows, f, weights)
    scale = spread + (0 if tolerance < 1e-6 else np.abs(wide).max())
    # Rounding of the answer itself, which a huge offset makes visible.
    near = tolerance * scale + 4 * np.finfo(rows.dtype).eps * np.abs(wide).max()
    if np.abs(fused - expected).max() <= near:
        return True
    if name in ("krum", "multi_krum"):
        neighbors = dict(params).get("neighbors", "n-f-1")
        scores = reference.krum_scores(wide, f, neighbors, weights)
        ties = np.sort(scores)
        gap = np.diff(ties) <= 1e-5 * np.maximum(ties[1:], 1e-300)
        if name == "multi_krum":
            return bool(gap.any())
        return scores[np.argmin(np.abs(wide - fused).max(axis=1))] <= ties[0] * (1 + 1e-5)
    if name == "geometric_median":
        alpha = reference.normalised(weights, len(wide))
        mine, best = (reference.summed_distance(point, wide, alpha) for point in (fused, expected))
        return mine <= best + tolerance * scale
    return False
