"""What every operator of the registry owes: one test per promise, run over all rows and their variants."""

from __future__ import annotations

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
from sklearn.base import clone

import fusion
from fusion.attacks import attack_names, get_attack
from theory import BudgetError, FaultWarning, PanelError

LATE = fusion.operator_names("late")
ROWS = {name: fusion.operator_row(name) for name in LATE}
CASES = [(name, params) for name in LATE for params in ({}, *ROWS[name].variants)]
IDS = [f"{name}{dict(params) or ''}" for name, params in CASES]
every_case = pytest.mark.parametrize(("name", "params"), CASES, ids=IDS)
every_row = pytest.mark.parametrize("name", LATE)


def build(name, params=None, f=None):
    operator = fusion.get_operator(name, **dict(params or {}))
    return operator.set_params(n_byzantine=f) if f is not None and ROWS[name].takes_budget else operator


def largest_budget(name, params, n):
    return max(f for f in range(n) if f == 0 or (ROWS[name].minimum(f, **params) <= n and 2 * f < n))


def domain(name, panel):
    """Bring random numbers into the rule's domain."""
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
    yield "huge offset", domain(name, normal + 1e7)
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
    panel = domain(name, rng.normal(size=(5, 7, 3)))
    operator = build(name, f=1)
    np.testing.assert_array_equal(operator(panel, weights=np.full(7, 3.0)), operator(panel))
    near = {"rtol": 1e-9, "atol": 1e-9}
    dropped = operator(panel, weights=[1, 1, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(dropped, operator(np.delete(panel, 2, axis=1)), **near)
    mixed = np.ones((5, 7))
    mixed[[0, 1, 3], [2, 4, 2]] = 0
    for s in range(5):
        kept = mixed[s] > 0
        np.testing.assert_allclose(operator(panel, weights=mixed)[s], operator(panel[s, kept]), **near)
    if ROWS[name].takes_budget:
        return  # a budget counts specialists, and repeating one changes how many there are
    counts = [1, 2, 1, 3, 1, 1, 2]
    repeated = operator(np.repeat(panel, counts, axis=1))
    np.testing.assert_allclose(operator(panel, weights=counts), repeated, rtol=1e-8, atol=1e-8)


@every_case
def test_support_and_weights(name, params):
    panel = domain(name, np.random.default_rng(5).normal(size=(4, 9, 3)))
    panel[1, 3] = panel[1, 4]
    operator = build(name, params, 2)
    for weights in (None, np.linspace(1, 2, 9)):
        if weights is not None and params and name != "log_pool":
            continue
        support = operator.support(panel, weights=weights)
        assert support.shape == (4, 9)
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
    if not ROWS[name].returns_weights and name != "plurality_vote":
        with pytest.raises(PanelError, match=f"{name} gives no weights"):
            operator.weights(panel)


@every_case
def test_permutation(name, params):
    rng = np.random.default_rng(6)
    panel = domain(name, rng.normal(size=(200, 9, 3)))
    order = rng.permutation(9)
    operator = build(name, params, 2)
    shuffled = operator(panel[:, order])
    np.testing.assert_allclose(shuffled, operator(panel), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        operator.support(panel[:, order]), operator.support(panel)[:, order], atol=1e-7
    )


@every_case
def test_declared_equivariances(name, params):
    rng = np.random.default_rng(7)
    panel = rng.normal(size=(40, 9, 3))
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


@every_case
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf, "cell"])
def test_a_fault_is_a_removed_row(name, params, fault):
    panel = domain(name, np.random.default_rng(9).normal(size=(300, 9, 3)))
    broken = panel.copy()
    broken[::3, 4] = np.nan if fault == "cell" else fault
    if fault == "cell":
        broken[::3, 4, :2] = panel[::3, 4, :2]
    operator = build(name, params, 2)
    withstands = ROWS[name].takes_budget or name in ("median", "geometric_median")
    if not withstands:
        with pytest.raises(
            BudgetError, match=r"1 of 9 specialists gave non-finite answers in sample 0 \('4'\)"
        ):
            operator(broken)
        with pytest.warns(FaultWarning, match="100 of 300 samples"):
            fused = operator(broken, excess="nan")
        assert np.isnan(fused[::3]).all()
    else:
        fused = operator(broken)
        fewer = build(name, params, 1)
        np.testing.assert_array_equal(fused[::3], fewer(np.delete(panel[::3], 4, axis=1)))
        assert (operator.support(broken)[::3, 4] == 0).all()
    untouched = np.arange(300) % 3 != 0
    np.testing.assert_array_equal(fused[untouched], operator(panel)[untouched])
    with pytest.raises(PanelError, match="specialist '4' gave a non-finite answer in sample 0"):
        operator(broken, missing="raise")


@every_case
def test_abstention(name, params):
    panel = domain(name, np.random.default_rng(10).normal(size=(30, 9, 3)))
    operator = build(name, params, 2)
    silent = panel.copy()
    silent[4, [0, 7]] = np.nan
    fused = operator(silent, missing="abstain")
    np.testing.assert_array_equal(fused[4], operator(np.delete(panel[4], [0, 7], axis=0)))
    np.testing.assert_array_equal(np.delete(fused, 4, axis=0), np.delete(operator(panel), 4, axis=0))
    silent[6] = np.nan
    with pytest.raises(BudgetError, match="no specialist answered in sample 6"):
        operator(silent, missing="abstain")
    with pytest.warns(FaultWarning, match="1 of 30 samples"):
        assert np.isnan(operator(silent, missing="abstain", excess="nan")[6]).all()
    partly = panel.copy()
    partly[2, 3, 1] = np.nan
    if not ROWS[name].coordinatewise:
        with pytest.raises(PanelError, match="specialist '3' answered only some outputs in sample 2"):
            operator(partly, missing="abstain")
    elif ROWS[name].domain == "real":
        fused = operator(partly, missing="abstain")
        np.testing.assert_array_equal(fused[2, 1], operator(np.delete(panel[2], 3, axis=0))[1])
        np.testing.assert_array_equal(fused[2, [0, 2]], operator(panel[2])[[0, 2]])
        np.testing.assert_allclose(operator.support(partly, missing="abstain").sum(axis=-1), 1.0)


@every_case
def test_bad_budgets_say_the_way_out(name, params):
    row = ROWS[name]
    if not row.takes_budget:
        return
    least = row.minimum(2, **params)
    panel = np.zeros((4, least - 1, 2))
    words = f"{name} with n_byzantine=2 needs at least {least} specialists; got {least - 1}. Lower n_byzantine to 1"
    with pytest.raises(BudgetError, match=words):
        build(name, params, 2)(panel)
    with pytest.raises(BudgetError, match=words):
        build(name, params, 2)(panel[:0])
    ok = np.zeros((4, least, 2))
    build(name, params, 2)(ok)
    np.testing.assert_array_equal(build(name, params, 2.0 / least)(ok), 0.0)
    for wrong, says in (
        (True, "must be a whole number"),
        (-1, "not be negative"),
        (0.5, "share"),
        ("2", "whole number"),
    ):
        with pytest.raises(PanelError, match=says):
            build(name, params, wrong)(ok)
    broken = ok.copy()
    broken[2, :3, 0] = np.nan
    with pytest.raises(
        BudgetError, match=r"3 of \d+ specialists .* in sample 2 \('0', '1', '2'\); n_byzantine=2 allows 2"
    ):
        build(name, params, 2)(broken)
    with pytest.raises(
        (BudgetError, PanelError),
        match=r"heaviest specialists hold 0\.\d+ of the weight|has no weighted form",
    ):
        build(name, params, 2)(ok, weights=[100, 100] + [1] * (least - 2))


@every_row
def test_bad_input(name):
    operator = build(name)
    panel = np.full((2, 5, 3), 1 / 3)
    with pytest.raises(PanelError, match="axes"):
        operator(np.zeros(4))
    with pytest.raises(PanelError, match="complex"):
        operator(np.zeros((2, 5, 3), dtype=complex))
    with pytest.raises(PanelError, match="ragged"):
        operator([[[1.0, 2.0], [1.0]]])
    with pytest.raises(PanelError, match="shape"):
        operator(panel, weights=[1, 2])
    with pytest.raises(PanelError, match="positive sum"):
        operator(panel, weights=np.zeros(5))
    with pytest.raises(PanelError, match="specialist '1' is nan"):
        operator(panel, weights=[1, np.nan, 1, 1, 1])
    with pytest.raises(PanelError, match="missing must be one of"):
        operator(panel, missing="drop")
    with pytest.raises(PanelError, match="excess must be one of"):
        operator(panel, excess="drop")
    if name not in ("mean", "linear_pool", "log_pool"):
        with pytest.raises(PanelError, match=r"specialist '0' is -1\.0"):
            operator(panel, weights=[-1, 1, 1, 1, 1])


@every_case
def test_batch_equals_loop_bit_for_bit(name, params):
    rng = np.random.default_rng(11)
    for shape in ((257, 9, 3), (70, 7, 33), (3, 9, 2000), (40, 9, 1), (3, 70, 4)):
        if shape[2] * dict(params).get("floor", 0) >= 1:
            continue  # so many outputs leave no room for this floor
        panel = domain(name, rng.normal(size=shape))
        operator = build(name, params, 2)
        whole = operator(panel)
        loop = np.stack([operator(rows) for rows in panel])
        np.testing.assert_array_equal(whole, loop, err_msg=str(shape))
        np.testing.assert_array_equal(operator(panel[None])[0], whole)
        np.testing.assert_array_equal(operator(panel[1:]), whole[1:])


@every_case
def test_threads_change_no_bit(name, params):
    panel = domain(name, np.random.default_rng(19).normal(size=(2000, 9, 3)))
    operator = build(name, params, 2)
    expected = operator(panel)
    for workers in (2, 8):
        with ThreadPoolExecutor(workers) as pool:
            for fused in pool.map(operator, [panel] * 2 * workers):
                np.testing.assert_array_equal(fused, expected)


@every_case
def test_layouts_and_no_side_effects(name, params):
    rng = np.random.default_rng(12)
    panel = domain(name, rng.normal(size=(600, 9, 3)))
    operator = build(name, params, 2)
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
    if not params:
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
    operator = build(name, params, 2)
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
    operator = build(name, params, 2)
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
    operator = build(name, params, 2)
    for given in (array, array.transpose("output", "sample", "specialist")):
        fused = operator(given)
        assert fused.dims == ("sample", "output")
        assert set(fused.coords) == {"sample", "output"}
        assert fused.attrs == {"unit": "m", "operator": name}
        np.testing.assert_array_equal(fused.values, operator(panel))
    support = operator.support(array)
    assert support.dims == ("sample", "specialist")
    assert "cost" in support.coords
    if not params:
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
        operator(array[:, 4:], weights=None) if name in ("median", "geometric_median") else operator(array)


@every_case
def test_clone_pickle_copy_and_params(name, params):
    operator = build(name, params, 2)
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
    assert operator.minimum() == ROWS[name].minimum(2 if ROWS[name].takes_budget else 0, **params)
    panel = domain(name, np.random.default_rng(15).normal(size=(4, 9, 3)))
    options = {key: value for key, value in operator.get_params().items()}
    np.testing.assert_array_equal(ROWS[name].function(panel, **options), operator(panel))


@every_case
def test_torch_parity(name, params):
    torch = pytest.importorskip("torch")
    panel = domain(name, np.random.default_rng(16).normal(size=(6, 9, 3)))
    operator = build(name, params, 2)
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
    operator = build(name, params, 2)
    for dtype in (torch.float64, torch.float32):
        tensor = torch.as_tensor(panel).to(dtype).requires_grad_()
        if name == "plurality_vote":
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
    if name == "plurality_vote":
        return
    if name == "log_pool":
        # Finite differences leave the simplex: logits are free.
        operator = operator.set_params(from_logits=True)
    exact = torch.as_tensor(panel).requires_grad_()
    assert torch.autograd.gradcheck(operator, (exact,), atol=1e-5)
    shared = np.linspace(1, 1.3, 9)
    if not params:
        assert torch.autograd.gradcheck(lambda x: operator(x, weights=shared), (exact,), atol=1e-5)
    if ROWS[name].takes_budget or name in ("median", "geometric_median"):
        broken = torch.as_tensor(panel)
        broken[1, 4, 0] = torch.nan
        broken.requires_grad_()
        (gradient,) = torch.autograd.grad(operator(broken).sum(), broken)
        assert torch.isfinite(gradient).all()
        assert (gradient[1, 4] == 0).all()


@pytest.mark.parametrize("name", [name for name in LATE if "batch" in ROWS[name].scopes])
def test_batch_scope_is_one_choice_for_all(name):
    panel = np.random.default_rng(18).normal(size=(12, 9, 3))
    operator = build(name, f=2).set_params(scope="batch")
    weights = operator.weights(panel)
    assert weights.shape == (12, 9)
    assert (weights == weights[0]).all()
    flat = panel.transpose(1, 0, 2).reshape(9, -1)
    single = build(name, f=2)
    np.testing.assert_allclose(operator(panel), single(flat).reshape(12, 3), atol=1e-9)
    panel[5, 2] = np.nan
    assert np.isfinite(operator(panel)).all()
    assert (operator.weights(panel)[:, 2] == 0).all()
    with pytest.raises(PanelError, match="scope must be one of"):
        operator.set_params(scope="all")(panel)
