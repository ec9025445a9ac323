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
    if name in ("bulyan", "minimum_diameter_averaging"):
        # Picks by one neighbour, and subsets with the same widest pair, always tie: the order decides.
        assert "can depend on the order of the" in ROWS[name].operator.__doc__ + ROWS[name].function.__doc__
        return
    expected, support = operator(panel), operator.support(panel)[:, order]
    if "pivot" in operator.get_params():
        operator.set_params(pivot=int(np.flatnonzero(order == 0)[0]))
    np.testing.assert_allclose(operator(panel[:, order]), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(operator.support(panel[:, order]), support, atol=1e-7)


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
