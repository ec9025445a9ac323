"""What every operator owes to arrays: batches, threads, layouts, dtypes, dims, tensors, copies."""

from __future__ import annotations

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from contract import (
    LATE,
    ROWS,
    domain,
    every_case,
    nine,
    withstands,
)
from sklearn.base import clone

import fusion
from theory import BudgetError, FaultWarning, PanelError


@every_case
def test_batch_equals_loop_bit_for_bit(name, params):
    rng = np.random.default_rng(11)
    for shape in ((257, 9, 3), (70, 7, 33), (3, 9, 2000), (40, 9, 1), (3, 70, 4)):
        if shape[2] * dict(params).get("floor", 0) >= 1:
            continue  # so many outputs leave no room for this floor
        if name == "smea" and shape[1] > 25:
            continue  # a search over subsets
        panel = domain(name, rng.normal(size=shape))
        operator = nine(name, params)
        whole = operator(panel)
        loop = np.stack([operator(rows) for rows in panel])
        np.testing.assert_array_equal(whole, loop, err_msg=str(shape))
        np.testing.assert_array_equal(operator(panel[None])[0], whole)
        np.testing.assert_array_equal(operator(panel[1:]), whole[1:])


@every_case
def test_threads_change_no_bit(name, params):
    panel = domain(name, np.random.default_rng(19).normal(size=(2000, 9, 3)))
    operator = nine(name, params)
    expected = operator(panel)
    for workers in (2, 8):
        with ThreadPoolExecutor(workers) as pool:
            for fused in pool.map(operator, [panel] * 2 * workers):
                np.testing.assert_array_equal(fused, expected)


@every_case
def test_layouts_and_no_side_effects(name, params):
    rng = np.random.default_rng(12)
    panel = domain(name, rng.normal(size=(600, 9, 3)))
    operator = nine(name, params)
    before, expected = panel.copy(), operator(panel)
    np.testing.assert_array_equal(panel, before)
    frozen = panel.copy()
    frozen.flags.writeable = False
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    for same in (frozen, np.asfortranarray(panel), np.repeat(panel, 2, axis=0)[::2], panel.astype(">f8")):
        np.testing.assert_array_equal(operator(same), expected)
        operator.support(same)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    weights = np.linspace(1, 2, 9)
    weights.flags.writeable = False
    if not params and ROWS[name].accepts_weights:
        operator(frozen, weights=weights)
    faulty = frozen.copy()
    faulty[3, 1] = np.nan
    faulty.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FaultWarning)
        operator(faulty, excess="nan")
    assert np.isnan(faulty[3, 1]).all()


@every_case
def test_dtypes(name, params):
    panel = domain(name, np.random.default_rng(13).normal(size=(6, 9, 3)))
    operator = nine(name, params)
    for dtype in (np.float16, np.float32, np.float64, np.longdouble):
        fused = operator(panel.astype(dtype))
        assert fused.dtype == dtype
        near = {2: 5e-3, 4: 1e-5}.get(np.dtype(dtype).itemsize, 1e-12)
        np.testing.assert_allclose(fused.astype(float), operator(panel), rtol=near, atol=near)
    whole = np.eye(3, dtype=np.int32)[np.arange(9) % 3]
    assert operator(whole).dtype == np.float64
    assert operator(whole.astype(bool)).dtype == np.float64


@every_case
def test_zero_samples(name, params):
    operator = nine(name, params)
    for shape, expected in (((0, 9, 3), (0, 3)), ((2, 0, 9, 3), (2, 0, 3))):
        empty = np.zeros(shape, dtype=np.float32)
        assert operator(empty).shape == expected
        assert operator(empty).dtype == np.float32
        assert operator.support(empty).shape == shape[:-1]


@every_case
def test_dataarray_round_trip(name, params):
    xr = pytest.importorskip("xarray")
    panel = domain(name, np.random.default_rng(14).normal(size=(4, 9, 3)))
    names = [f"s{i}" for i in range(9)]
    array = xr.DataArray(
        panel,
        dims=("sample", "specialist", "output"),
        coords={
            "sample": list("abcd"),
            "specialist": names,
            "output": [10, 20, 30],
            "cost": ("specialist", np.arange(9)),
        },
        attrs={"unit": "m"},
        name="answers",
    )
    operator = nine(name, params)
    for given in (array, array.transpose("output", "sample", "specialist")):
        fused = operator(given)
        assert fused.dims == ("sample", "output")
        assert set(fused.coords) == {"sample", "output"}
        assert fused.attrs == {"unit": "m", "operator": name}
        np.testing.assert_array_equal(fused.values, operator(panel))
    support = operator.support(array)
    assert support.dims == ("sample", "specialist")
    assert "cost" in support.coords
    if not params and ROWS[name].accepts_weights:
        trust = xr.DataArray(np.arange(1.0, 10.0) + 5, dims="specialist", coords={"specialist": names})
        np.testing.assert_array_equal(operator(array, weights=trust), operator(panel, weights=trust.values))
        with pytest.raises(PanelError, match="the weights are for specialists"):
            operator(array, weights=trust[::-1])
    array = array.copy()
    array[2, 5:9] = np.nan
    with pytest.raises(
        BudgetError,
        match=r"in sample 2 \('s5', 's6', 's7', \.\.\.\)|'s5'" if name in ("mean",) else "sample 2",
    ):
        few = withstands(name) and not ROWS[name].takes_budget
        operator(array[:, 4:]) if few else operator(array)


@every_case
def test_what_each_specialist_contributed(name, params):
    xr = pytest.importorskip("xarray")
    panel = domain(name, np.random.default_rng(20).normal(size=(4, 9, 3)))
    operator, row = nine(name, params), ROWS[name]
    told = getattr(fusion, f"{name}_weights")
    options = operator.get_params()
    found = told(panel, **options)
    assert found.shape == (4, 9)
    np.testing.assert_array_equal(
        found, (operator.weights if row.returns_weights else operator.support)(panel)
    )
    if row.returns_weights:
        np.testing.assert_allclose(np.einsum("sn,sno->so", found, panel), operator(panel), atol=1e-12)
    elif name not in ("log_pool", "plurality_vote", "approval_vote", "borda_count"):
        np.testing.assert_allclose(found.sum(axis=1), 1.0)
    array = xr.DataArray(panel, dims=("day", "specialist", "output"), coords={"day": list("abcd")})
    labelled = told(array.transpose("output", "day", "specialist"), **options)
    assert labelled.dims == ("day", "specialist")
    assert labelled.day.values.tolist() == list("abcd")
    np.testing.assert_array_equal(labelled.values, found)
    if withstands(name):
        broken = panel.copy()
        broken[2, 4] = np.nan
        assert told(broken, **options)[2, 4] == 0
    with pytest.raises(TypeError, match="colour"):
        told(panel, colour=1, **options)


@every_case
def test_clone_pickle_copy_and_params(name, params):
    operator = nine(name, params)
    for other in (clone(operator), pickle.loads(pickle.dumps(operator)), copy.deepcopy(operator)):
        assert type(other) is type(operator)
        assert other.get_params() == operator.get_params()
        assert other is not operator
    assert repr(operator).startswith(type(operator).__name__ + "(")
    assert fusion.get_operator(operator) is operator
    with pytest.raises(PanelError, match="has no parameter 'colour'"):
        operator.set_params(colour=1)
    assert operator.row is ROWS[name]
    assert operator.scope == "sample"
    own = operator.get_params().get("n_byzantine", 0)
    assert operator.minimum() == ROWS[name].minimum(own, **params)
    panel = domain(name, np.random.default_rng(15).normal(size=(4, 9, 3)))
    options = {key: value for key, value in operator.get_params().items()}
    np.testing.assert_array_equal(ROWS[name].function(panel, **options), operator(panel))


@every_case
def test_torch_parity(name, params):
    torch = pytest.importorskip("torch")
    panel = domain(name, np.random.default_rng(16).normal(size=(6, 9, 3)))
    operator = nine(name, params)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        tensor = torch.as_tensor(panel).to(dtype)
        fused = operator(tensor)
        assert fused.dtype == dtype
        assert not fused.requires_grad
        # Against the panel before rounding: half-precision probabilities do not sum to 1 any more.
        same = operator(panel)
        np.testing.assert_allclose(
            fused.double().numpy(), same, atol={2: 3e-2, 4: 1e-5, 8: 0}[tensor.element_size()]
        )


@every_case
def test_torch_gradients(name, params):
    torch = pytest.importorskip("torch")
    panel = domain(name, np.random.default_rng(17).normal(size=(3, 9, 3)))
    operator = nine(name, params)
    for dtype in (torch.float64, torch.float32):
        tensor = torch.as_tensor(panel).to(dtype).requires_grad_()
        if not ROWS[name].differentiable:
            with pytest.raises(PanelError, match="has no gradient"):
                operator(tensor)
            continue
        fused = operator(tensor)
        assert fused.dtype == dtype
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        plain = operator(tensor.detach())
        np.testing.assert_allclose(fused.detach().numpy(), plain.numpy(), atol=tolerance)
        (gradient,) = torch.autograd.grad(fused.sum(), tensor)
        assert gradient.dtype == dtype
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0 or name == "log_pool"
    if not ROWS[name].differentiable:
        return
    if name == "log_pool":
        # Finite differences leave the simplex: logits are free.
        operator = operator.set_params(from_logits=True)
    exact = torch.as_tensor(panel).requires_grad_()
    assert torch.autograd.gradcheck(operator, (exact,), atol=1e-5)
    shared = np.linspace(1, 1.3, 9)
    if not params and ROWS[name].accepts_weights:
        assert torch.autograd.gradcheck(lambda x: operator(x, weights=shared), (exact,), atol=1e-5)
    if withstands(name):
        broken = torch.as_tensor(panel)
        broken[1, 4, 0] = torch.nan
        broken.requires_grad_()
        (gradient,) = torch.autograd.grad(operator(broken).sum(), broken)
        assert torch.isfinite(gradient).all()
        assert (gradient[1, 4] == 0).all()


@pytest.mark.parametrize("name", [name for name in LATE if "batch" in ROWS[name].scopes])
def test_batch_scope_is_one_choice_for_all(name):
    panel = np.random.default_rng(18).normal(size=(12, 9, 3))
    operator = nine(name).set_params(scope="batch")
    weights = operator.weights(panel)
    assert weights.shape == (12, 9)
    assert (weights == weights[0]).all()
    flat = panel.transpose(1, 0, 2).reshape(9, -1)
    single = nine(name)
    np.testing.assert_allclose(operator(panel), single(flat).reshape(12, 3), atol=1e-9)
    panel[5, 2] = np.nan
    assert np.isfinite(operator(panel)).all()
    assert (operator.weights(panel)[:, 2] == 0).all()
    with pytest.raises(PanelError, match="scope must be one of"):
        operator.set_params(scope="all")(panel)
