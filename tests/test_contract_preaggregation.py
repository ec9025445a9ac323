"""What every pre-aggregator of the registry owes, and what a chain of it with any rule owes."""

from __future__ import annotations

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference_mixing
from contract import LATE, ROWS, domain, panels
from sklearn.base import clone

import fusion
from theory import BudgetError, FaultWarning, PanelError

NAMES = fusion.operator_names(kind="pre-aggregator")
PRE = {name: fusion.operator_row(name) for name in NAMES}
CASES = [(name, params) for name in NAMES for params in ({}, *PRE[name].variants)]
CASES += [("clip_norms", {"center": [0.5, -1.0, 2.0]}), ("adaptive_clipping", {"center": 1.0})]
every_pre = pytest.mark.parametrize(
    ("name", "params"), CASES, ids=[f"{name}{dict(params) or ''}" for name, params in CASES]
)
every_name = pytest.mark.parametrize("name", NAMES)


def build(name, params=None, f=None):
    part = fusion.get_pre_aggregator(name, **dict(params or {}))
    return part.set_params(n_byzantine=f) if f is not None and PRE[name].takes_budget else part


def twin(name, params, rows, f, weights=None):
    options = dict(params) | ({"n_byzantine": f} if PRE[name].takes_budget else {})
    return reference_mixing.TWINS[name](np.asarray(rows, dtype=float), weights=weights, **options)


def fits(params, d):
    return np.size(params.get("center", 0.0)) in (1, d)


def test_rows_classes_functions_and_twins_belong_together():
    assert set(reference_mixing.TWINS) == set(NAMES)
    assert not set(NAMES) & set(fusion.operator_names())
    for name, row in PRE.items():
        assert row.kind == "pre-aggregator"
        assert row.operator.name == name
        assert row.operator is getattr(fusion, row.operator.__name__)
        assert row.function is getattr(fusion, name)
        assert row.takes_budget == ("n_byzantine" in row.operator().get_params())
        assert row.scopes == (("sample", "batch") if "scope" in row.operator().get_params() else ("sample",))
        assert fusion.operator_table("pre-aggregator").count(f"| `{name}` |") == 1
        with pytest.raises(
            PanelError, match=f"{name} fuses nothing by itself. Add a rule: '{name} >> median'"
        ):
            fusion.get_operator(name)
    with pytest.raises(PanelError, match=r"there is no pre-aggregator 'nnm'\. Use one of nearest_neighbor"):
        fusion.get_pre_aggregator("nnm")


@every_pre
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize(("n", "d"), [(5, 3), (6, 2), (11, 4), (3, 1), (70, 3)])
def test_equals_the_naive_twin(name, params, dtype, tolerance, n, d):
    if not fits(params, d):
        return
    for kind, panel in panels("mean", n, d, seed=n, samples=4):
        panel = panel.astype(dtype)
        for f in range((n - 1) // 2 + 1)[:6] if PRE[name].takes_budget else (0,):
            mixed = build(name, params, f)(panel)
            assert mixed.dtype == dtype
            for s in range(len(panel)):
                expected = twin(name, params, panel[s], f)
                assert mixed[s].shape == expected.shape
                scale = np.abs(panel[s].astype(float)).max() or 1.0
                np.testing.assert_allclose(
                    mixed[s], expected, atol=tolerance * scale, err_msg=f"{kind} {f} {s}"
                )


@every_pre
def test_weights_equal_the_naive_twin_and_mean_what_they_say(name, params):
    rng = np.random.default_rng(3)
    for _, panel in panels("mean", 7, 3, seed=9):
        weights = rng.uniform(0.5, 1.5, size=(len(panel), 7))
        part = build(name, params, 2)
        each, shared = part(panel, weights=weights), part(panel, weights=weights[0])
        for s in range(len(panel)):
            near = {"atol": 1e-9 * np.abs(panel[s]).max()}
            np.testing.assert_allclose(each[s], twin(name, params, panel[s], 2, weights[s]), **near)
            np.testing.assert_allclose(shared[s], twin(name, params, panel[s], 2, weights[0]), **near)
        np.testing.assert_array_equal(part(panel, weights=np.full(7, 3.0)), part(panel))
        dropped = part(panel, weights=[1, 1, 0, 1, 1, 1, 1])
        fewer = part(np.delete(panel, 2, axis=1))
        left = np.flatnonzero(~np.isnan(dropped[0]).any(axis=1))
        assert len(left) == fewer.shape[1]
        np.testing.assert_array_equal(dropped[:, left], fewer)


@every_pre
def test_the_matrix_is_what_is_mixed(name, params):
    panel = np.random.default_rng(4).normal(size=(5, 9, 3))
    for weights in (None, np.linspace(1, 1.5, 9)):
        part = build(name, params, 2)
        matrix, mixed = part.mixing(panel, weights=weights), part(panel, weights=weights)
        assert matrix.shape == (*mixed.shape[:-1], 9)
        assert matrix.min() >= 0
        assert (matrix.sum(axis=-1) <= 1 + 1e-12).all()
        center = np.broadcast_to(params.get("center", 0.0), (3,))
        np.testing.assert_allclose(
            matrix @ panel + (1 - matrix.sum(axis=-1, keepdims=True)) * center, mixed, atol=1e-12
        )
        if "lengths" not in (stage.needs for stage in part._mixings()):
            np.testing.assert_allclose(matrix.sum(axis=-1), 1.0)


@every_pre
def test_declared_equivariances_and_permutation(name, params):
    rng = np.random.default_rng(7)
    panel = rng.normal(size=(40, 9, 3))
    part = build(name, params, 2)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = {
        "translation": lambda x: x + np.array([3.0, -5.0, 100.0]),
        "reflection": lambda x: -x,
        "rotation": lambda x: x @ rotation,
        "outputs": lambda x: x * np.array([1.0, 10.0, 0.1]) + np.array([0.0, 1.0, 2.0]),
    }
    declared = PRE[name].equivariances
    if "center" not in params:
        for kind, move in moved.items():
            if kind in declared:
                np.testing.assert_allclose(part(move(panel)), move(part(panel)), rtol=1e-9, atol=1e-9)
        if "scale" in declared:
            for factor in (1e-30, 1e-3, 1e15, 1e100, 1e-160, 1e160, 1e-300):
                np.testing.assert_allclose(part(panel * factor), part(panel) * factor, rtol=1e-7)
        assert ("scale" in declared) == np.allclose(part(panel * 3), part(panel) * 3)
        assert ("translation" in declared) == np.allclose(part(panel + 3), part(panel) + 3)
    if name != "bucketing":
        order = rng.permutation(9)
        np.testing.assert_allclose(part(panel[:, order]), part(panel)[:, order], atol=1e-12)


@every_pre
def test_extreme_numbers(name, params):
    """Far rows stay far, nothing overflows on the way, the others are mixed as without them."""
    panel = np.random.default_rng(5).normal(size=(4, 9, 3))
    part = build(name, params, 1)
    for lie in (1e30, 1e155, 1e300, 1.7e308):
        far = panel.copy()
        far[:, 0] = lie
        mixed = part(far)
        assert np.isfinite(mixed).all()
        if name == "nearest_neighbor_mixing":
            np.testing.assert_allclose(mixed[:, 1:], build(name, params, 0)(panel[:, 1:]), atol=1e-12)
        if name == "adaptive_clipping":
            # One is clipped, to the length of the longest of the others.
            about = np.broadcast_to(params.get("center", 0.0), (3,))
            np.testing.assert_array_equal(mixed[:, 1:], panel[:, 1:])
            longest = np.linalg.norm(panel[:, 1:] - about, axis=-1).max(axis=1)
            np.testing.assert_allclose(np.linalg.norm(mixed[:, 0] - about, axis=-1), longest)


@every_pre
@pytest.mark.parametrize("fault", [np.nan, np.inf, "cell"])
def test_a_fault_is_a_removed_row(name, params, fault):
    panel = np.random.default_rng(9).normal(size=(30, 9, 3))
    broken = panel.copy()
    broken[::3, 4] = np.nan if fault == "cell" else fault
    if fault == "cell":
        broken[::3, 4, :2] = panel[::3, 4, :2]
    part = build(name, params, 2)
    if not PRE[name].takes_budget:
        says = r"1 of 9 specialists gave non-finite answers in sample 0 \('4'\)"
        with pytest.raises(BudgetError, match=says):
            part(broken)
        with pytest.warns(FaultWarning, match="10 of 30 samples"):
            mixed = part(broken, excess="nan")
        assert np.isnan(mixed[::3]).all()
    else:
        mixed = part(broken)
        assert np.isnan(mixed[::3, 4]).all()
        fewer = build(name, params, 1)(np.delete(panel[::3], 4, axis=1))
        np.testing.assert_array_equal(np.delete(mixed[::3], 4, axis=1), fewer)
        assert (part.mixing(broken)[::3, 4] == 0).all()
        assert (part.mixing(broken)[::3, :, 4] == 0).all()
        worse = broken.copy()
        worse[3, :3, 0] = np.nan
        with pytest.raises(BudgetError, match=r"4 of 9 .* in sample 3 .*n_byzantine=2 allows 2"):
            part(worse)
    untouched = np.arange(30) % 3 != 0
    np.testing.assert_array_equal(mixed[untouched], part(panel)[untouched])
    with pytest.raises(PanelError, match="specialist '4' gave a non-finite answer in sample 0"):
        part(broken, missing="raise")
    silent = panel.copy()
    silent[4, [0, 7]] = np.nan
    some = part(silent, missing="abstain")
    rest = part(np.delete(panel[4], [0, 7], axis=0))
    np.testing.assert_array_equal(some[4][~np.isnan(some[4]).all(axis=1)], rest)


@every_pre
def test_arrays(name, params):
    rng = np.random.default_rng(11)
    part = build(name, params, 2)
    for shape in ((257, 9, 3), (3, 70, 3)):
        panel = rng.normal(size=shape)
        before, whole = panel.copy(), part(panel)
        np.testing.assert_array_equal(panel, before)
        np.testing.assert_array_equal(whole, np.stack([part(rows) for rows in panel]))
        np.testing.assert_array_equal(part(panel[None])[0], whole)
        np.testing.assert_array_equal(part(panel[1:]), whole[1:])
        frozen = panel.copy()
        frozen.flags.writeable = False
        for same in (frozen, np.asfortranarray(panel), np.repeat(panel, 2, axis=0)[::2], panel.astype(">f8")):
            np.testing.assert_array_equal(part(same), whole)
        with ThreadPoolExecutor(4) as pool:
            for mixed in pool.map(part, [panel] * 8):
                np.testing.assert_array_equal(mixed, whole)
    panel = rng.normal(size=(4, 9, 3))
    for dtype in (np.float16, np.float32, np.longdouble):
        mixed = part(panel.astype(dtype))
        assert mixed.dtype == dtype
        np.testing.assert_allclose(
            mixed.astype(float), part(panel), atol=1e-2 if dtype == np.float16 else 1e-5
        )
    assert part(np.eye(3, dtype=int)[np.arange(9) % 3]).dtype == np.float64
    n_rows = part(panel).shape[1]
    assert part(np.zeros((0, 9, 3), dtype=np.float32)).shape == (0, n_rows, 3)
    assert part.mixing(np.zeros((2, 0, 9, 3))).shape == (2, 0, n_rows, 9)
    with pytest.raises(PanelError, match="axes"):
        part(np.zeros(4))
    with pytest.raises(PanelError, match="shape"):
        part(panel, weights=[1, 2])
    with pytest.raises(PanelError, match="missing must be one of"):
        part(panel, missing="drop")


@every_pre
def test_dataarrays_and_tensors(name, params):
    xr, torch = pytest.importorskip("xarray"), pytest.importorskip("torch")
    panel = np.random.default_rng(14).normal(size=(4, 9, 3))
    part = build(name, params, 2)
    array = xr.DataArray(
        panel,
        dims=("sample", "specialist", "output"),
        coords={"sample": list("abcd"), "specialist": [f"s{i}" for i in range(9)], "output": [1, 2, 3]},
        attrs={"unit": "m"},
    )
    mixed = part(array.transpose("output", "sample", "specialist"))
    assert mixed.dims == ("sample", "specialist", "output")
    assert ("specialist" in mixed.coords) == (name != "bucketing")
    assert mixed.attrs == {"unit": "m", "operator": name}
    np.testing.assert_array_equal(mixed.values, part(panel))
    for dtype, near in ((torch.float64, 0), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)):
        tensor = part(torch.as_tensor(panel).to(dtype))
        assert tensor.dtype == dtype
        np.testing.assert_allclose(tensor.double().numpy(), part(panel), atol=near)
    exact = torch.as_tensor(panel).requires_grad_()
    assert torch.autograd.gradcheck(part, (exact,), atol=1e-5)
    if PRE[name].takes_budget:
        broken = torch.as_tensor(panel).clone()
        broken[1, 4, 0] = torch.nan
        broken.requires_grad_()
        rows = part(broken)
        (gradient,) = torch.autograd.grad(rows[~torch.isnan(rows)].sum(), broken)
        assert torch.isfinite(gradient).all()
        assert (gradient[1, 4] == 0).all()


@every_pre
def test_clone_pickle_and_params(name, params):
    part = build(name, params, 2)
    panel = np.random.default_rng(15).normal(size=(4, 9, 3))
    for other in (clone(part), pickle.loads(pickle.dumps(part)), copy.deepcopy(part)):
        assert type(other) is type(part)
        assert other.get_params() == part.get_params()
        np.testing.assert_array_equal(other(panel), part(panel))
    np.testing.assert_array_equal(PRE[name].function(panel, **part.get_params()), part(panel))
    assert fusion.get_pre_aggregator(part) is part
    with pytest.raises(PanelError, match="has no parameter 'colour'"):
        part.set_params(colour=1)


@pytest.mark.parametrize("name", [name for name in NAMES if "batch" in PRE[name].scopes])
def test_batch_scope_mixes_all_samples_alike(name):
    panel = np.random.default_rng(18).normal(size=(12, 9, 3))
    part = build(name, {"scope": "batch"}, 2)
    matrix = part.mixing(panel)
    assert (matrix == matrix[0]).all()
    flat = panel.transpose(1, 0, 2).reshape(9, -1)
    np.testing.assert_allclose(part(panel), build(name, f=2)(flat).reshape(9, 12, 3).transpose(1, 0, 2))
    with pytest.raises(PanelError, match="scope must be one of"):
        part.set_params(scope="all")(panel)


@every_name
@pytest.mark.parametrize("rule", LATE)
def test_a_chain_with_any_rule_is_the_rule_on_the_mixed_panel(name, rule):
    operator = fusion.get_operator(rule)
    f = 1
    if ROWS[rule].takes_budget:
        operator.set_params(n_byzantine=f)
    if rule in ("monna", "fltrust") and name == "bucketing":
        with pytest.raises(PanelError, match=r"trusts one specialist, which .* mixes away"):
            fusion.compose(build(name), operator)(np.zeros((15, 2)))
        return
    part = build(name, {"radius": 2.0} if name == "clip_norms" else {}, f)
    chain = part >> operator
    panel = domain(rule, np.random.default_rng(20).normal(size=(6, 15, 3)))
    if (
        ROWS[rule].domain == "probabilities"
        and "clipping" in name + PRE[name].reference + "clip"
        and ("clip" in name)
    ):
        panel = domain(rule, np.zeros((6, 15, 3)))  # clipped probabilities no longer sum to 1; these stay
    mixed = part(panel)
    fused = chain(panel)
    np.testing.assert_allclose(fused, operator(mixed), atol=1e-8)
    support = chain.support(panel)
    assert support.shape == (6, 15)
    assert support.min() >= 0
    expected = (operator.support(mixed)[:, None] @ part.mixing(panel))[:, 0]
    np.testing.assert_allclose(support, expected, atol=1e-6)
    if chain.row.returns_weights:
        np.testing.assert_allclose(np.einsum("sn,snd->sd", chain.weights(panel), panel), fused, atol=1e-8)
    if not ROWS[rule].takes_budget and not PRE[name].takes_budget:
        return
    broken = panel.copy()
    broken[2, 3] = np.nan
    fewer = part.get_params() if "n_byzantine" not in part.get_params() else {"n_byzantine": 0}
    lesser = build(name, {"radius": 2.0} if name == "clip_norms" else {}).set_params(**fewer) >> copy.copy(
        operator
    )
    if ROWS[rule].takes_budget:
        lesser.set_params(n_byzantine=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FaultWarning)
        if rule in ("log_pool", "fltrust") or lesser.minimum() > 14:
            return
        np.testing.assert_array_equal(chain(broken)[2], lesser(np.delete(panel[2], 3, axis=0)))
