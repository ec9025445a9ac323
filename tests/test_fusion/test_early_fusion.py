"""Views on the same samples, the same clock and the same scale, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.early import (
    Ragged,
    ScaledConcat,
    align_views,
    concat_views,
    pool_ragged,
    resample_stream,
    scale_blocks,
)
from theory import PanelError

RNG = np.random.default_rng(0)


def some_ragged(seed=0, n=12, d=3):
    rng = np.random.default_rng(seed)
    return Ragged.from_list([rng.normal(size=(rng.integers(0, 9), d)) for _ in range(n)], n_features=d)


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_ragged_cuts_like_a_list(seed):
    ragged = some_ragged(seed)
    listed = [part.copy() for part in ragged]
    rng = np.random.default_rng(seed)
    rows = rng.integers(-12, 12, size=7)
    for got, row in zip(ragged[rows], rows, strict=True):
        np.testing.assert_array_equal(got, listed[row])
    keep = rng.random(12) < 0.5
    assert [len(part) for part in ragged[keep]] == [len(p) for p, k in zip(listed, keep, strict=True) if k]
    assert [len(part) for part in ragged[2:9:3]] == [len(part) for part in listed[2:9:3]]
    np.testing.assert_array_equal(ragged[-1], listed[-1])


def test_ragged_pads_and_tells_where():
    ragged = some_ragged()
    padded, padding = ragged.pad()
    assert padded.shape[:2] == padding.shape
    for row, (part, values, gone) in enumerate(zip(ragged, padded, padding, strict=True)):
        np.testing.assert_array_equal(values[~gone], part, err_msg=str(row))
        assert (values[gone] == 0).all()
    with pytest.raises(PanelError, match="the longest sequence has"):
        ragged.pad(1)
    assert Ragged.from_list([[], []], n_features=2).pad()[0].shape == (2, 1, 2)


@given(st.integers(0, 10_000), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_pooling_agrees_with_a_loop(seed, n_segments):
    ragged = some_ragged(seed)
    ragged = Ragged(ragged.values + 1e4, ragged.offsets)
    got = pool_ragged(ragged, n_segments=n_segments)
    for row, part in zip(got, ragged, strict=True):
        if not len(part):
            assert np.isnan(row).all()
            continue
        cuts = np.array_split(part, n_segments) if n_segments else []
        means = [cut.mean(axis=0) if len(cut) else part.mean(axis=0) for cut in cuts]
        expected = np.concatenate([part.mean(axis=0), part.std(axis=0), *means, [len(part)]])
        np.testing.assert_allclose(row, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        (np.zeros((3, 2)), [0, 4], "end at 3"),
        (np.zeros((3, 2)), [1, 3], "start at 0"),
        (np.zeros((3, 2)), [0, 2, 1, 3], "falling"),
        (np.zeros(3), [0, 3], r"values of a Ragged are \(token, feature\)"),
        (np.zeros((3, 2)), [0.0, 3.0], "offsets are integers"),
    ],
)
def test_bad_offsets_are_refused(values, offsets, message):
    with pytest.raises(PanelError, match=message):
        Ragged(values, offsets)


def test_alignment_keeps_order_of_first_appearance():
    tables = {
        "a": ([5, 3, 9], np.array([[5.0], [3.0], [9.0]])),
        "b": ([9, 1, 5], np.array([[90], [10], [50]])),
    }
    ids, values, mask = align_views(tables, how="outer")
    assert ids.tolist() == [5, 3, 9, 1]
    np.testing.assert_array_equal(values["b"].ravel(), [50, np.nan, 90, 10])
    assert values["b"].dtype == np.float64
    assert mask["a"].tolist() == [True, True, True, False]
    inner, values, _ = align_views(tables)
    assert inner.tolist() == [5, 9]
    assert values["b"].dtype.kind == "i"
    assert align_views(tables, how="left")[0].tolist() == [5, 3, 9]


def test_alignment_of_texts_and_doubles():
    tables = {"a": (["x", "y", "x"], np.array(["p", "q", "r"]))}
    with pytest.raises(PanelError, match=r"view 'a': id 'x' occurs twice \(rows 0 and 2\)"):
        align_views(tables)
    ids, values, _ = align_views(tables, duplicates="first")
    assert (ids.tolist(), values["a"].tolist()) == (["x", "y"], ["p", "q"])
    outer = align_views({"a": (["x"], np.array(["p"])), "b": (["z"], np.array([1.0]))}, how="outer")
    assert outer[1]["a"].tolist() == ["p", None]
    with pytest.raises(PanelError, match="an id is NaN"):
        align_views({"a": ([np.nan], [1.0])})


def test_previous_on_its_own_grid_is_the_identity_and_linear_is_exact_on_lines():
    times = np.sort(RNG.uniform(0, 10, 30))
    values = RNG.normal(size=(30, 2))
    same, mask = resample_stream(values, times, times)
    np.testing.assert_array_equal(same, values)
    assert mask.all()
    grid = np.linspace(-1, 11, 57)
    line = np.outer(times, [2.0, -1.0]) + 3.0
    got, mask = resample_stream(line, times, grid, method="linear")
    inside = (grid >= times[0]) & (grid <= times[-1])
    np.testing.assert_array_equal(mask, inside)
    np.testing.assert_allclose(got[inside], np.outer(grid[inside], [2.0, -1.0]) + 3.0, rtol=0, atol=1e-12)
    assert np.isnan(got[~inside]).all()


def test_bins_lose_nothing_and_tolerance_masks():
    times, values = np.arange(20) * 0.3, RNG.normal(size=(20, 2))
    grid = np.array([0.0, 1.0, 2.5, 2.6, 6.5, 9.0])
    got, mask = resample_stream(values, times, grid, method="mean")
    bins = np.searchsorted(grid, times, side="right") - 1
    count = np.bincount(bins, minlength=6)
    np.testing.assert_array_equal(mask, count > 0)
    np.testing.assert_allclose(np.nansum(got * count[:, None], axis=0), values.sum(axis=0), rtol=1e-12)
    _, mask = resample_stream(values, times, [5.7, 6.5, 9.0], tolerance=1.0)
    assert mask.tolist() == [True, True, False]
    with pytest.raises(PanelError, match="knows no tolerance"):
        resample_stream(values, times, [5.7, 6.5], method="mean", tolerance=1.0)
    _, mask = resample_stream([[0.0], [1.0]], [0.0, 10.0], [5.0], method="linear", tolerance=1.0)
    assert not mask.any()


def test_clocks_must_rise():
    with pytest.raises(PanelError, match=r"stream 'imu': times not strictly increasing at 2. Sort"):
        resample_stream([[0.0]] * 3, [0.0, 1.0, 1.0], [0.5], name="imu")


def test_scaling_uses_present_rows_only_and_absent_blocks_are_the_mean():
    a = RNG.normal(3.0, 2.0, size=(40, 3))
    b = RNG.normal(size=(40, 2))
    b[::4] = np.nan
    joined = ScaledConcat().fit({"a": a, "b": b})
    out = joined.transform({"a": a, "b": b})
    assert out.shape == (40, 6)  # one mask column: only b was ever absent
    np.testing.assert_allclose(out[:, :3], (a - a.mean(axis=0)) / a.std(axis=0), rtol=1e-12)
    here = ~np.isnan(b[:, 0])
    np.testing.assert_allclose(
        out[here, 3:5], (b[here] - b[here].mean(axis=0)) / b[here].std(axis=0), rtol=1e-10
    )
    assert (out[~here, 3:5] == 0).all()
    np.testing.assert_array_equal(out[:, 5], here)
    np.testing.assert_array_equal(joined.transform({"a": a})[:, 3:], 0.0)


def test_scaling_with_weights_is_scaling_with_repetitions():
    a = RNG.normal(size=(10, 2))
    counts = RNG.integers(0, 4, size=10)
    weighted = scale_blocks({"a": a}, sample_weight=counts, block_scale="mfa")["a"]
    repeated = scale_blocks({"a": np.repeat(a, counts, axis=0)}, block_scale="mfa")["a"]
    np.testing.assert_allclose(weighted.centre, repeated.centre, rtol=0, atol=1e-14)
    np.testing.assert_allclose(weighted.spread, repeated.spread, rtol=1e-12)
    assert weighted.weight == pytest.approx(repeated.weight, rel=1e-12)


def test_first_component_of_a_factor_analysis_block_has_variance_one():
    a = RNG.normal(size=(200, 4)) @ RNG.normal(size=(4, 4))
    blocks = scale_blocks({"a": a}, block_scale="mfa")
    z = concat_views({"a": a}, blocks)
    assert np.linalg.norm(z / np.sqrt(200), 2) == pytest.approx(1.0, rel=1e-12)


def test_constant_features_are_left_alone_and_values_clipped():
    a = np.column_stack([np.full(5, 1e9), np.arange(5.0)])
    blocks = scale_blocks({"a": a})
    assert blocks["a"].spread[0] == 1.0
    out = concat_views({"a": [[1e9, 1e6]]}, blocks, clip=8.0)
    assert out.tolist() == [[0.0, 8.0]]


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (
            {"a": np.zeros((3, 1)), "b": np.zeros((2, 1))},
            r"views differ in samples: a 3, b 2. Use align_views",
        ),
        ({"a": np.array([[1.0, np.nan], [1.0, 2.0]])}, r"view 'a': 1 rows partly NaN \(first 0\). Impute"),
        ({"a": np.array([[1.0, np.inf], [1.0, 2.0]])}, r"view 'a': 1 rows not finite"),
        ({"a": np.full((2, 2), np.nan)}, "view 'a' is present in no sample"),
        ({"a": np.zeros(3)}, r"needed \(sample, feature\)"),
        ({}, "there is no view"),
    ],
)
def test_bad_views_are_refused(views, message):
    with pytest.raises(PanelError, match=message):
        scale_blocks(views)


def test_strange_views_at_transform_are_refused():
    joined = ScaledConcat().fit({"a": np.eye(3)})
    with pytest.raises(PanelError, match="unknown view 'b'; fitted: a"):
        joined.transform({"b": np.eye(3)})
    with pytest.raises(PanelError, match="view 'a' has 2 features; fitted with 3"):
        joined.transform({"a": np.zeros((1, 2))})
    with pytest.raises(PanelError, match="not fitted"):
        ScaledConcat().transform({"a": np.eye(3)})


def test_samples_that_are_not_there_are_refused_not_wrapped():
    ragged = Ragged.from_list([[[1.0]], [[2.0], [3.0]]])
    assert ragged[[-1]].values.ravel().tolist() == [2.0, 3.0]
    for key in ([-3], [2], [0, -3]):
        with pytest.raises(IndexError, match="of 2"):
            ragged[key]
    with pytest.raises(IndexError, match=r"a mask of shape \(1,\) for 2 samples"):
        ragged[np.array([True])]
