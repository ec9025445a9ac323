"""Subsets, nearest ones, spectral rules and their kin beyond the contract: values by hand, extremes, definitions."""

from __future__ import annotations

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
import reference
from contract import LATE, ROWS, build, withstands
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import fusion
from fusion import Caf, FLTrust, MinimumDiameterAveraging, Monna, Smea, get_operator
from theory import BudgetError, FaultWarning, PanelError

# Flipped bits can make one; arithmetic with it raises a flag that a quiet NaN does not.
SIGNALLING = np.array([0x7FF0000000000001], dtype=np.uint64).view(np.float64)[0]
ROBUST = [name for name in LATE if withstands(name) and ROWS[name].domain == "real"]
ROWS_123 = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
MIDDLE, FIRST_TWO = [4.0, 5.0, 6.0], [2.5, 3.5, 4.5]
BY_HAND = {
    "geometric_median": MIDDLE,
    "median": MIDDLE,
    "medoid": MIDDLE,
    "trimmed_mean": MIDDLE,
    "winsorized_mean": MIDDLE,
    # The outer values of each output tie and share the second place: (4 + (1 + 7) / 2) / 2.
    "mean_around_median": MIDDLE,
    "phocas": MIDDLE,
    "krum": [1.0, 2.0, 3.0],
    "multi_krum": FIRST_TWO,
    "minimum_diameter_averaging": FIRST_TWO,
    "minimum_variance_averaging": FIRST_TWO,
    "smea": FIRST_TWO,
    "monna": FIRST_TWO,
    "aksel": FIRST_TWO,
    "cge": FIRST_TWO,
    # One step takes all weight off both ends: the mean that is remembered is the first.
    "caf": MIDDLE,
    # The two outer rows have the same projection, the middle one none: the first two are kept.
    "dnc": FIRST_TWO,
    "centered_clipping": MIDDLE,
    "mean": MIDDLE,
    "inverse_covariance_mean": MIDDLE,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_values_by_hand(name):
    np.testing.assert_allclose(build(name, f=1)(ROWS_123), BY_HAND[name], rtol=1e-14)


def test_fltrust_by_hand():
    panel = [[3.0, 4.0], [6.0, 8.0], [4.0, 3.0], [-3.0, -4.0]]
    # Cosines 1, 24/25, 0: 5 (1 (.6, .8) + .96 (.8, .6)) / 1.96.
    expected = 5 * (np.array([0.6, 0.8]) + 0.96 * np.array([0.8, 0.6])) / 1.96
    np.testing.assert_allclose(FLTrust()(panel), expected, rtol=1e-14)
    np.testing.assert_allclose(FLTrust().weights(panel) @ panel, expected, rtol=1e-14)
    np.testing.assert_allclose(FLTrust().support(panel), [0, 1 / 1.96, 0.96 / 1.96, 0], rtol=1e-14)


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf, SIGNALLING, 1e30, 1e200, "cell"])
@pytest.mark.parametrize("place", [1, 6])
def test_one_broken_row(name, fault, place):
    """One bad row: the answer is finite and inside the certificate, and the row is not followed."""
    row = ROWS[name]
    rng = np.random.default_rng(2)
    panel = 1 + rng.random(size=(40, 11, 4))
    honest = np.delete(panel, place, axis=1)
    panel[:, place] = np.nan if fault == "cell" else fault
    if fault == "cell":
        panel[:, place, :3] = 1.0
    if fault in (1e30, 1e200):
        panel[:, place] *= rng.choice([-1.0, 1.0], size=(40, 4))
    operator = build(name, f=2)
    fused = operator(panel)
    assert np.isfinite(fused).all()
    centre = honest.mean(axis=1)
    variance = ((honest - centre[:, None]) ** 2).sum(axis=(1, 2)) / 10
    kappa = row.resilience(11, 1).value
    if row.takes_budget:
        kappa = min(row.resilience(11, 2).value, row.resilience(10, 1).value) * 2 + 1
    assert (((fused - centre) ** 2).sum(axis=1) <= min(max(kappa, 1.0), 50.0) * variance + 1e-12).all()


@pytest.mark.parametrize("far", [[1e3], [1e8], [1e30], [1e3, 1e8, 1e30], [1e30, -1e30, 1e30], [1e300, 1e308]])
@pytest.mark.parametrize("d", [1, 3, 300])
def test_caf_ends_on_rows_of_any_size(far, d):
    """Public implementations loop for ever here: their maximum includes rows that weigh nothing any more."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(11, d))
    honest = rows.copy()
    rows[: len(far)] = np.array(far)[:, None] * rng.choice([-1.0, 1.0], size=(len(far), d))
    honest = rows[len(far) :]
    operator = Caf(len(far))
    weights = operator.weights(rows)
    assert (weights[: len(far)] <= 1e-300).all()
    variance = ((honest - honest.mean(axis=0)) ** 2).sum() / len(honest)
    assert ((operator(rows) - honest.mean(axis=0)) ** 2).sum() <= 2 * variance
    np.testing.assert_allclose(Caf(0)(honest), honest.mean(axis=0), rtol=1e-12)


def test_caf_stops_after_as_many_steps_as_rows(monkeypatch):
    calls = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: calls.append(1) or eigh(matrix))
    rows = 10.0 ** np.arange(0, 27)[:, None] * np.array([[1.0, -1.0]])
    assert np.isfinite(Caf(13)(rows)).all()
    assert 2 <= len(calls) <= 27


def diameter(rows):
    return max(((a - b) ** 2).sum() for a, b in combinations(rows, 2))


@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(3, 9), st.integers(1, 3)),
        elements=st.integers(-2, 2).map(float),
    ),
    st.integers(1, 4),
)
def test_subsets_equal_brute_force_on_ties(rows, f):
    f = min(f, (len(rows) - 1) // 2)
    for name in ("minimum_diameter_averaging", "minimum_variance_averaging", "smea"):
        fused = build(name, f=f)(rows)
        np.testing.assert_allclose(fused, reference.TWINS[name](rows, f), atol=1e-12, err_msg=name)


def test_subsets_of_many():
    """Against all 1,820 subsets of 16 with 4 liars, and against planted clusters where there are too many."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(16, 3))
    rows[:4] += 1.0
    kept = [list(c) for c in combinations(range(16), 12)]
    covariances = np.stack([np.cov(rows[c].T, bias=True) for c in kept])
    least = int(np.argmin(np.linalg.eigvalsh(covariances)[:, -1]))
    np.testing.assert_allclose(Smea(4)(rows), rows[kept[least]].mean(axis=0), rtol=1e-12)
    traces = np.trace(covariances, axis1=1, axis2=2)
    expected = rows[kept[int(np.argmin(traces))]].mean(axis=0)
    np.testing.assert_allclose(fusion.minimum_variance_averaging(rows, n_byzantine=4), expected, rtol=1e-12)
    planted = rng.normal(size=(100, 50))
    planted[:30] += 2.0 * np.sqrt(50)
    weights = MinimumDiameterAveraging(30).weights(planted)
    np.testing.assert_array_equal(np.flatnonzero(weights), np.arange(30, 100))


def test_a_search_that_is_too_long_names_caf():
    rows = np.random.default_rng(5).normal(size=(25, 20))
    for name in ("smea", "minimum_variance_averaging"):
        with pytest.raises(
            BudgetError, match=rf"{name} with n_byzantine=12 searched max_nodes=50 .* use caf"
        ):
            get_operator(name, n_byzantine=12, max_nodes=50)(rows)
        with pytest.raises(PanelError, match="max_nodes must be"):
            get_operator(name, max_nodes=0)(rows)


def test_pivots():
    rng = np.random.default_rng(6)
    panel = 2 + rng.random(size=(30, 7, 3))
    xr = pytest.importorskip("xarray")
    names = list("abcdefg")
    array = xr.DataArray(panel, dims=("sample", "specialist", "output"), coords={"specialist": names})
    for operator in (Monna(2, pivot=4), FLTrust(pivot=4)):
        by_name = type(operator)(**{**operator.get_params(), "pivot": "e"})
        np.testing.assert_array_equal(by_name(array).values, operator(panel))
        moved = operator.set_params(pivot=0)(panel[:, [4, 0, 1, 2, 3, 5, 6]])
        np.testing.assert_allclose(moved, by_name(array).values, rtol=1e-14)
        broken = array.copy()
        broken[3, 4] = np.nan
        with pytest.raises(
            BudgetError, match="trusts specialist 'e', which gave no finite answer in sample 3"
        ):
            by_name(broken)
        with pytest.warns(FaultWarning):
            assert np.isnan(by_name(broken, excess="nan")[3]).all()
        broken[3, 4], broken[3, 0] = 2.0, np.nan
        kept = by_name.support(broken).values
        assert kept[3, 0] == 0
        np.testing.assert_allclose(kept.sum(axis=1), 1.0)
        with pytest.raises(PanelError, match="trusts pivot='z'; the panel holds"):
            operator.set_params(pivot="z")(array)
        with pytest.raises(PanelError, match="trusts pivot=7"):
            operator.set_params(pivot=7)(panel)
        with pytest.raises(PanelError, match="pivot must be the place or the name"):
            operator.set_params(pivot=True)(panel)
        with pytest.raises(PanelError, match="whose weight is 0"):
            operator.set_params(pivot=1)(panel, weights=[1, 0, 1, 1, 1, 1, 1])


def test_fltrust_needs_somebody_who_agrees():
    panel = np.array([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    with pytest.raises(BudgetError, match="nobody points the way of the trusted specialist in 1 samples"):
        FLTrust()(panel)
    with pytest.warns(FaultWarning, match="nobody points the way"):
        fused = FLTrust()(panel, excess="nan")
    np.testing.assert_array_equal(fused, [[np.nan, np.nan], [1.0, 0.0]])


def test_bulyan_needs_4f_plus_3():
    panel = np.zeros((10, 2))
    with pytest.raises(BudgetError, match="bulyan with n_byzantine=2 needs at least 11 specialists; got 10"):
        fusion.bulyan(panel, n_byzantine=2)
    with pytest.raises(BudgetError, match="krum with n_byzantine=2 needs at least 7 specialists; got 6"):
        fusion.krum(panel[:6], n_byzantine=2, neighbors="n-f-2")


def test_dnc_draws_outputs():
    rng = np.random.default_rng(7)
    panel = rng.normal(size=(5, 9, 400))
    panel[:, :2] += 3.0
    drawn = get_operator("dnc", n_byzantine=2, n_coordinates=50, n_iter=3)
    kept = drawn.weights(panel) > 0
    assert not kept[:, :2].any()
    assert (drawn.weights(panel) == drawn.weights(panel)).all()
    other = get_operator("dnc", n_byzantine=2, n_coordinates=50, n_iter=3, seed=1)
    assert other(panel).shape == (5, 400)
    assert get_operator("dnc", n_byzantine=2, filter_factor=1.5).weights(panel)[0].astype(bool).sum() == 6
    flat = rng.normal(size=(3, 400)) * np.eye(3).repeat(134, axis=1)[:, :400]
    with pytest.raises(BudgetError, match="keeps no specialist in some samples"):
        get_operator("dnc", n_byzantine=1, filter_factor=2.0, n_coordinates=1, n_iter=30)(flat)
    with pytest.raises(PanelError, match="filter_factor must be"):
        get_operator("dnc", filter_factor=0.0)(panel)
    with pytest.raises(PanelError, match="n_iter must be"):
        get_operator("dnc", n_iter=0)(panel)


def test_medoid_beside_a_far_liar():
    """Sums of distances all round to that to the liar; the honest differences decide all the same."""
    rng = np.random.default_rng(8)
    for d in (2, 300):
        rows = rng.normal(size=(8, d))
        far = np.concatenate([rows, np.full((1, d), 1e25)])
        # So far away, the liar's distance differs by the projection on its direction.
        direction = np.full(d, 1 / np.sqrt(d))
        apart = np.linalg.norm(rows[:, None] - rows[None], axis=2).sum(axis=1) - rows @ direction
        assert fusion.Medoid().weights(far).argmax() == apart.argmin()


def test_large_offsets_do_not_change_the_choice():
    rng = np.random.default_rng(9)
    offset = rng.normal(0, 10, size=300)
    spread = 1e-4 * rng.normal(size=(10, 300))
    spread[:2] += 2e-4
    rows = (offset + spread).astype(np.float32)
    exact = rows.astype(np.float64) - rows[5].astype(np.float64)
    for name in (
        "minimum_diameter_averaging",
        "minimum_variance_averaging",
        "smea",
        "medoid",
        "caf",
        "aksel",
    ):
        near = build(name, f=2).weights(exact)
        np.testing.assert_allclose(build(name, f=2).weights(rows), near, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", [name for name in LATE if ROWS[name].domain == "real"])
@pytest.mark.parametrize("shape", [(11, 200_000), (20_000, 11, 10)], ids=["one vector", "batch"])
def test_memory_stays_below_one_and_a_half_panels(name, shape):
    if name in ("smea", "minimum_variance_averaging") and len(shape) == 3:
        shape = (6_000, *shape[1:])  # the search is long; blocks of 6 MB outgrow smaller panels
    panel = 1 + np.random.default_rng(10).random(size=shape)
    operator = build(name, f=2)
    operator(panel[..., :10] if len(shape) == 2 else panel[:64])  # compiles
    operator(panel[..., :5000] if len(shape) == 2 else panel[:2000])
    tracemalloc.start()
    fused = operator(panel)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 1.5 * panel.nbytes + fused.nbytes, peak / panel.nbytes
