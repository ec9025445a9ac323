"""What every operator of the registry owes: one test per promise, run over all rows and their variants."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from contract import (
    LATE,
    ROWS,
    agrees,
    build,
    domain,
    every_case,
    every_row,
    largest_budget,
    panels,
)

import fusion
from fusion.attacks import attack_names, get_attack
from theory import PanelError


def test_every_operator_has_a_row_and_every_row_a_twin():
    classes = {
        thing
        for name in fusion.__all__
        if isinstance(thing := getattr(fusion, name), type)
        and issubclass(thing, fusion.Operator)
        and thing is not fusion.Operator
    }
    assert {row.operator for row in ROWS.values()} == {c for c in classes if c.stage == "late"}
    assert set(reference.TWINS) == set(LATE)
    for name, row in ROWS.items():
        assert row.operator.name == name
        assert row.function is getattr(fusion, name)
        assert row.takes_budget == ("n_byzantine" in row.operator().get_params())
        assert row.reference
        assert row.needs


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize(("n", "d"), [(5, 3), (6, 2), (11, 4), (3, 1)])
def test_equals_the_naive_twin(name, params, dtype, tolerance, n, d):
    for kind, panel in panels(name, n, d, seed=n):
        panel = panel.astype(dtype)
        for f in range(largest_budget(name, params, n) + 1 if ROWS[name].takes_budget else 1):
            if ROWS[name].minimum(f, **params) > n:
                continue
            fused = build(name, params, f)(panel)
            assert fused.dtype == dtype
            for s in range(len(panel)):
                assert agrees(name, params, panel[s], f, fused[s], tolerance), (kind, f, s)


@every_row
def test_weights_equal_the_naive_twin(name):
    if not ROWS[name].accepts_weights:
        panel = domain(name, np.random.default_rng(3).normal(size=(2, 7, 3)))
        with pytest.raises(PanelError, match="has no weighted form"):
            build(name, f=1)(panel, weights=[1, 2, 1, 1, 1, 1, 1])
        return
    rng = np.random.default_rng(3)
    for kind, panel in panels(name, 7, 3, seed=9):
        weights = rng.uniform(0.5, 1.5, size=(len(panel), 7))
        shared = weights[0]
        fused, each = build(name, f=2)(panel, weights=shared), build(name, f=2)(panel, weights=weights)
        for s in range(len(panel)):
            assert agrees(name, {}, panel[s], 2, fused[s], 1e-10, shared), (kind, s)
            assert agrees(name, {}, panel[s], 2, each[s], 1e-10, weights[s]), (kind, s)


@every_row
def test_weights_mean_what_they_say(name):
    """Equal weights are none; weight 0 removes a row; integer weights repeat rows."""
    rng = np.random.default_rng(4)
    panel = domain(name, rng.normal(size=(5, 8, 3)))
    operator = build(name, f=1)
    if name == "inverse_covariance_mean":
        return  # its weights come from the covariance
    np.testing.assert_array_equal(operator(panel, weights=np.full(8, 3.0)), operator(panel))
    near = {"rtol": 1e-9, "atol": 1e-9}
    dropped = operator(panel, weights=[1, 1, 0, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(dropped, operator(np.delete(panel, 2, axis=1)), **near)
    mixed = np.ones((5, 8))
    mixed[[0, 1, 3], [2, 4, 2]] = 0
    for s in range(5):
        kept = mixed[s] > 0
        np.testing.assert_allclose(operator(panel, weights=mixed)[s], operator(panel[s, kept]), **near)
    if ROWS[name].takes_budget or name == "fltrust":
        return  # a budget counts specialists, as a pivot does, and repeating one changes how many there are
    counts = [1, 2, 1, 3, 1, 1, 2, 1]
    repeated = operator(np.repeat(panel, counts, axis=1))
    np.testing.assert_allclose(operator(panel, weights=counts), repeated, rtol=1e-8, atol=1e-8)


@every_case
def test_support_and_weights(name, params):
    panel = domain(name, np.random.default_rng(5).normal(size=(4, 11, 3)))
    panel[1, 3] = panel[1, 4]
    operator = build(name, params, 2)
    for weights in (None, np.linspace(1, 2, 11)):
        if weights is not None and (not ROWS[name].accepts_weights or (params and name != "log_pool")):
            continue
        support = operator.support(panel, weights=weights)
        assert support.shape == (4, 11)
        assert support.min() >= 0
        np.testing.assert_allclose(support.sum(axis=-1), 1.0, rtol=1e-12)
        if ROWS[name].returns_weights:
            w = operator.weights(panel, weights=weights)
            fused = operator(panel, weights=weights)
            np.testing.assert_allclose(np.einsum("sn,snd->sd", w, panel), fused, atol=1e-12)
    if ROWS[name].coordinatewise and ROWS[name].domain == "real":
        column = panel[..., :1]
        by_support = np.einsum("sn,snd->sd", operator.support(column), column)
        np.testing.assert_allclose(by_support, operator(column), atol=1e-12)
    if not ROWS[name].returns_weights and operator._rule().weigh is None:
        with pytest.raises(PanelError, match=f"{name} gives no weights"):
            operator.weights(panel)


@every_case
def test_permutation(name, params):
    rng = np.random.default_rng(6)
    panel = domain(name, rng.normal(size=(200, 11, 3)))
    order = rng.permutation(11)
    operator = build(name, params, 2)
    shuffled = operator(panel[:, order])
    np.testing.assert_allclose(shuffled, operator(panel), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        operator.support(panel[:, order]), operator.support(panel)[:, order], atol=1e-7
    )


@every_case
def test_declared_equivariances(name, params):
    rng = np.random.default_rng(7)
    panel = rng.normal(size=(40, 11, 3))
    if name == "fltrust":
        panel = domain(name, panel)
    declared = ROWS[name].equivariances
    operator = build(name, params, 2)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = {
        "translation": lambda x: x + np.array([3.0, -5.0, 100.0]),
        "reflection": lambda x: -x,
        "rotation": lambda x: x @ rotation,
        "outputs": lambda x: x * np.array([1.0, 10.0, 0.1]) + np.array([0.0, 1.0, 2.0]),
    }
    for kind, move in moved.items():
        if kind in declared:
            np.testing.assert_allclose(
                operator(move(panel)), move(operator(panel)), rtol=1e-9, atol=1e-9, err_msg=kind
            )
    if "scale" in declared:
        for factor in (1e-30, 1e-3, 1e15, 1e100, 1e-160, 1e160):
            np.testing.assert_allclose(
                operator(panel * factor), operator(panel) * factor, rtol=1e-7, err_msg=factor
            )


def hostile(name, rng, n, f, d):
    """Honest rows of several shapes with every attack, the liars in random places."""
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
        yield (
            "apart",
            honest,
            honest.mean(axis=0) + 10.0 ** rng.integers(-1, 3, size=(f, 1)) * rng.normal(size=(f, d)),
        )


def violations(name, params, n, f, d, rng, rounds):
    kappa = ROWS[name].resilience(n, f, **params).value
    if not np.isfinite(kappa):
        return 0, 0
    operator = build(name, params, f)
    panels_, honest_, labels = [], [], []
    for _ in range(rounds):
        for attack, honest, lies in hostile(name, rng, n, f, d):
            place = rng.permutation(n)
            panels_.append(np.concatenate([honest, lies])[place])
            honest_.append(honest)
            labels.append(attack)
    fused, honest = operator(np.stack(panels_)), np.stack(honest_)
    assert np.isfinite(fused).all()
    centre = honest.mean(axis=1)
    variance = ((honest - centre[:, None]) ** 2).sum(axis=(1, 2)) / honest.shape[1]
    error = ((fused - centre) ** 2).sum(axis=1)
    # The residual of the geometric median, and rounding of the answers themselves.
    slack = 1e-9 * variance + 1e-24 * np.abs(honest).max(axis=(1, 2)) ** 2
    bad = error > kappa * variance * (1 + 1e-6) + slack
    assert not bad.any(), [(labels[i], n, f, error[i] / variance[i], kappa) for i in np.flatnonzero(bad)][:5]
    return len(panels_), int(bad.sum())


@every_case
def test_error_stays_within_the_certified_radius(name, params):
    rng = np.random.default_rng(8)
    if not np.isfinite(ROWS[name].resilience(11, 2, **params).value):
        assert ROWS[name].certificate == "none"
        return
    cases = 0
    for n in (3, 4, 5, 8, 11, 20):
        for f in range(1, (n - 1) // 2 + 1):
            if ROWS[name].minimum(f, **params) <= n:
                for d in (1, 2, 4):
                    cases += violations(name, params, n, f, d, rng, rounds=2)[0]
    assert cases >= 5_000


@pytest.mark.parametrize(
    ("name", "panel", "f"),
    [
        ("trimmed_mean", [1.0] * 2 + [0.0] * 6 + [1e9] * 2, 2),
        ("median", [1.0] * 4 + [0.0] * 4 + [1e9] * 2, 2),
    ],
)
def test_exact_certificates_are_attained(name, panel, f):
    """f honest rows at 1 and t at 0 (median: m at 1), the liars beyond: the bound holds with equality."""
    values = np.array(panel)[:, None]
    honest = values[:-f]
    # The top mean of the kept values is reached with the honest rows split where the proof splits them.
    best = 0.0
    for split in range(1, len(honest)):
        honest = np.where(np.arange(len(honest)) < split, 1.0, 0.0)[:, None]
        rows = np.concatenate([honest, np.full((f, 1), 1e9)])
        fused = build(name, f=f)(rows)
        best = max(best, float((fused[0] - honest.mean()) ** 2 / honest.var()))
    assert best == pytest.approx(ROWS[name].resilience(10, f).value, rel=1e-9)
