"""What every certificate owes: no panel outside it, and panels on it where it is called exact."""

from __future__ import annotations

from math import isfinite

import numpy as np
import pytest
from contract import CASES, LATE, ROWS, build, every_case, every_row

import fusion
from fusion.attacks import attack_names, get_attack

CERTIFIED = [name for name in LATE if isfinite(ROWS[name].resilience(11, 2).value)]
# A search over subsets, whose work grows with their number; beyond this many its rows are left out.
SUBSETS = {"minimum_variance_averaging": 20_000, "smea": 5_000}


def hostile(rng, n, f, d):
    """Honest rows of several shapes with every attack."""
    for honest in (
        rng.normal(size=(n - f, d)),
        rng.normal(size=(n - f, d)) * np.array([1e-6, 1e6, 1, 1])[:d] + 50,
        np.where(np.arange(n - f)[:, None] < f, 1.0, 0.0) * np.ones(d) + 1e-9 * rng.normal(size=(n - f, d)),
        rng.standard_cauchy(size=(n - f, d)),
        rng.integers(0, 2, size=(n - f, d)).astype(float),
    ):
        for attack in attack_names():
            lies = get_attack(attack)(honest, f, rng=rng)
            yield attack, honest, lies
        far = honest.mean(axis=0) + rng.normal(size=d) * 10.0 ** rng.integers(-2, 31)
        yield "far", honest, np.repeat(far[None], f, axis=0)
        away = 10.0 ** rng.integers(-1, 3, size=(f, 1))
        yield "apart", honest, honest.mean(axis=0) + away * rng.normal(size=(f, d))


def places(name, rng, n, f):
    """Put the liars anywhere, also first; but a rule that trusts the first specialist is owed an honest one."""
    place = rng.permutation(n)
    return np.roll(place, -int(np.argmax(place < n - f))) if name == "monna" else place


def ratios(operator, panel, honest, spectral=False):
    """Squared error of the answers over the variance of the honest, and what rounding may add."""
    fused = operator(panel)
    assert np.isfinite(fused).all()
    centre = honest.mean(axis=1)
    about = honest - centre[:, None]
    variance = (about**2).sum(axis=(1, 2)) / honest.shape[1]
    if spectral:
        variance = np.linalg.eigvalsh(np.einsum("snd,sne->sde", about, about))[:, -1] / honest.shape[1]
    error = ((fused - centre) ** 2).sum(axis=1)
    # The residual of the geometric median, and rounding of the answers themselves.
    slack = 1e-9 * variance + 1e-24 * np.abs(honest).max(axis=(1, 2)) ** 2
    return error, variance, slack


def check(name, params, n, f, d, rng, rounds):
    """Count panels, none of which may err beyond the certificate."""
    kappa = ROWS[name].resilience(n, f, **params).value
    if not np.isfinite(kappa) or ROWS[name].minimum(f, **params) > n:
        return 0
    panels, honest, labels = [], [], []
    for _ in range(rounds):
        for attack, rows, lies in hostile(rng, n, f, d):
            panels.append(np.concatenate([rows, lies])[places(name, rng, n, f)])
            honest.append(rows)
            labels.append(attack)
    operator = build(name, params, f)
    error, variance, slack = ratios(operator, np.stack(panels), np.stack(honest), spectral=name == "smea")
    bad = np.flatnonzero(error > kappa * variance * (1 + 1e-6) + slack)
    assert not bad.size, [(labels[i], n, f, error[i] / variance[i], kappa) for i in bad[:5]]
    return len(panels)


def too_many_subsets(name, n, f):
    return name in SUBSETS and np.prod([(n - i) / (i + 1) for i in range(f)]) > SUBSETS[name]


@every_case
def test_error_stays_within_the_certified_radius(name, params):
    rng = np.random.default_rng(8)
    if not np.isfinite(ROWS[name].resilience(11, 2, **params).value):
        assert ROWS[name].certificate == "none" or params
        return
    cases = 0
    for n in (3, 4, 5, 8, 11, 20):
        for f in range(1, (n - 1) // 2 + 1):
            if too_many_subsets(name, n, f):
                continue
            for d in (1, 2, 4):
                cases += check(name, params, n, f, d, rng, rounds=1)
    assert cases >= 1_500


@pytest.mark.slow
@every_case
def test_no_panel_leaves_the_certificate(name, params):
    """Every budget of 5, 11, 20 and 51 specialists against every attack."""
    rng = np.random.default_rng(88)
    if not np.isfinite(ROWS[name].resilience(11, 2, **params).value):
        return
    cases = 0
    for n in (5, 11, 20, 51):
        for f in range(1, (n - 1) // 2 + 1):
            if too_many_subsets(name, n, f):
                continue
            for d in (1, 2, 4):
                cases += check(name, params, n, f, d, rng, rounds=1 if name in SUBSETS else 3)
    assert cases >= (3_000 if name in SUBSETS else 20_000)


@pytest.mark.slow
@every_case
@pytest.mark.parametrize(("n", "f", "d"), [(5, 1, 1), (5, 2, 2), (11, 3, 2), (11, 5, 1)])
def test_climbing_does_not_leave_the_certificate(name, params, n, f, d):
    """Honest rows and liars moved at random for as long as the error over the variance grows."""
    kappa = ROWS[name].resilience(n, f, **params).value
    if not np.isfinite(kappa) or ROWS[name].minimum(f, **params) > n:
        return
    rng = np.random.default_rng(89)
    operator, many = build(name, params, f), 64
    panel = rng.normal(size=(many, n, d)) * 10.0 ** rng.integers(0, 2, size=(many, 1, 1))
    error, variance, _ = ratios(operator, panel, panel[:, : n - f], name == "smea")
    best = error / variance
    for _ in range(150):
        step = 10.0 ** rng.uniform(-4, 0.5, size=(many, 1, 1)) * rng.normal(size=panel.shape)
        trial = panel + step * (rng.random(size=(many, n, 1)) < 0.4)
        error, variance, slack = ratios(operator, trial, trial[:, : n - f], name == "smea")
        bad = np.flatnonzero(error > kappa * variance * (1 + 1e-6) + slack)
        assert not bad.size, (error[bad] / variance[bad], kappa)
        better = error / variance > best
        panel[better], best[better] = trial[better], (error / variance)[better]
    assert best.max() > 0.2 * kappa or ROWS[name].resilience(n, f, **params).kind != "exact"


def attained(name, n, f):
    """Error over variance on the panel that the proof of an exact certificate names."""
    honest, t, h = n - f, n - 2 * f, n // 2
    if name in ("trimmed_mean", "median", "winsorized_mean"):
        # The honest values that err most are the isotonic regression of the rank weights; liars beyond them.
        shares = build(name, f=f).support(np.arange(float(n))[:, None])
        rows = np.array(_isotonic(shares[:honest] - 1 / honest))[:, None]
        lies = np.full((f, 1), 1e9)
    elif name == "geometric_median":
        away = 1e-4 * np.where(np.arange(h) % 2, 1.0, -1.0) * (n % 2 == 0)
        rows = np.concatenate([np.stack([np.zeros(h), away], 1), np.tile([1.0, 0.0], (honest - h, 1))])
        lies = np.tile([1e6, 0.0], (f, 1))
    else:
        rows = np.concatenate([np.zeros(t), np.ones(f)])[:, None]
        lies = np.full((f, 1), 1e-6 - 1)
    error, variance, _ = ratios(build(name, f=f), np.concatenate([rows, lies])[None], rows[None])
    return float(error[0] / variance[0])


def _isotonic(values):
    levels = []
    for value in values:
        levels.append([value])
        while len(levels) > 1 and np.mean(levels[-2]) >= np.mean(levels[-1]):
            levels[-2:] = [levels[-2] + levels[-1]]
    return [np.mean(level) for level in levels for _ in level]


@every_row
@pytest.mark.parametrize(("n", "f"), [(5, 1), (5, 2), (10, 3), (11, 2), (20, 4)])
def test_exact_certificates_are_attained(name, n, f):
    found = ROWS[name].resilience(n, f)
    if found.kind != "exact":
        return
    suprema = ("geometric_median", "smea", "minimum_variance_averaging")
    assert attained(name, n, f) == pytest.approx(found.value, rel=1e-3 if name in suprema else 1e-9)


def test_what_is_certified():
    assert {"exact", "bound", "none"} == {ROWS[name].resilience(11, 2).kind for name in LATE}
    exact = {name for name in LATE if ROWS[name].resilience(11, 2).kind == "exact"}
    assert exact == {
        "trimmed_mean",
        "median",
        "winsorized_mean",
        "geometric_median",
        "smea",
        "minimum_variance_averaging",
    }
    assert len(CASES) > len(CERTIFIED) >= 13


@every_row
def test_no_liars_means_the_mean(name):
    """Where a rule with f = 0 promises no error at all, it is the mean."""
    if ROWS[name].domain != "real" or not ROWS[name].takes_budget:
        return
    panel = np.abs(np.random.default_rng(90).normal(size=(20, 7, 3)))
    fused = build(name, f=0)(panel)
    if ROWS[name].resilience(7, 0).value == 0.0:
        np.testing.assert_allclose(fused, fusion.mean(panel), rtol=1e-12)
    else:
        assert np.abs(fused - panel.mean(axis=1)).max() > 1e-3
