"""The shape law: every kind of array becomes a panel and comes back; labels decide, never positions."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import PanelError, as_errors, as_labels, as_panel, encode_labels, panel_errors, stack_specialists

torch = pytest.importorskip("torch")


def labelled(values, dims=("sample", "specialist", "output")):
    coords = {"specialist": ["a", "b", "c"], "cost": ("specialist", [1.0, 2.0, 3.0]), "sample": [10, 20]}
    return xr.DataArray(
        values, dims=("sample", "specialist", "output"), coords=coords, attrs={"unit": "m"}
    ).transpose(*dims)


VALUES = np.arange(12.0).reshape(2, 3, 2)


@pytest.mark.parametrize(
    "dims",
    [
        ("sample", "specialist", "output"),
        ("output", "sample", "specialist"),
        ("specialist", "output", "sample"),
    ],
)
def test_dataarray_is_read_by_name_and_comes_back_without_the_specialist_axis(dims):
    values, wrap = as_panel(labelled(VALUES, dims))
    assert np.array_equal(values, VALUES)
    assert wrap.names == ("a", "b", "c")
    fused = wrap(values.mean(axis=-2), "mean")
    assert fused.dims == ("sample", "output")
    assert set(fused.coords) == {"sample"}
    assert fused.attrs == {"unit": "m", "operator": "mean"}
    weights = wrap.weights(values.mean(axis=-1))
    assert weights.dims == ("sample", "specialist")
    assert weights.cost.values.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_floating_dtypes_stay_and_are_not_copied(dtype):
    panel = VALUES.astype(dtype)
    values, _ = as_panel(panel)
    assert values.dtype == dtype
    assert np.shares_memory(values, panel)


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, bool])
def test_integers_and_bools_become_float64(dtype):
    assert as_panel(VALUES.astype(dtype))[0].dtype == np.float64


def test_readonly_strided_and_byteswapped_input_is_read_and_not_changed():
    panel = VALUES.astype(">f8")[::-1]
    panel.flags.writeable = False
    values, _ = as_panel(panel)
    assert values.dtype.isnative
    assert np.array_equal(values, VALUES[::-1])


def test_tensor_comes_back_with_its_dtype_and_gradients_are_never_dropped_silently():
    tensor = torch.tensor(VALUES, dtype=torch.float32)
    values, wrap = as_panel(tensor)
    back = wrap(values.mean(axis=-2))
    assert back.dtype == torch.float32
    assert torch.equal(back, tensor.mean(-2))
    half = torch.ones(3, 2, dtype=torch.bfloat16)
    assert as_panel(half)[1](np.ones(2)).dtype == torch.bfloat16
    with pytest.raises(PanelError, match="carries gradients"):
        as_panel(tensor.requires_grad_())


def test_tables_of_one_or_two_levels():
    flat = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    values, wrap = as_panel(flat)
    assert values.shape == (2, 2, 1)
    assert wrap.names == ("a", "b")
    columns = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", "y"), ("b", "x")])
    two = pd.DataFrame([[1.0, 2.0, 3.0, 4.0]], columns=columns)
    assert as_panel(two)[0].tolist() == [[[1.0, 2.0], [4.0, 3.0]]]  # by label, not by position


@pytest.mark.parametrize(
    ("panel", "text"),
    [
        (np.ones(3), r"axes \(..., specialist, output\)"),
        (np.ones((2, 0, 3)), "at least one specialist"),
        (np.ones((2, 3), dtype=complex), "real and imaginary"),
        (np.array([["a", "b"]]), "holds numbers"),
        ([[1.0, 2.0], [3.0]], "ragged"),
        ([np.ones((4, 2)), np.ones((4, 2))], "specialist-first.*stack_specialists"),
        (xr.DataArray(np.ones((2, 3)), dims=("sample", "member")), r"panel.rename\(member='specialist'\)"),
        (xr.Dataset({"p": ("sample", [1.0])}), "pick one variable"),
    ],
)
def test_bad_panels_are_refused_with_the_way_out(panel, text):
    with pytest.raises(PanelError, match=text):
        as_panel(panel)


def test_other_dim_names_can_be_given():
    array = xr.DataArray(np.ones((2, 3)), dims=("class", "member"))
    assert as_panel(array, dims=("member", "class"))[0].shape == (3, 2)
    with pytest.raises(PanelError, match="Leave it out"):
        as_panel(np.ones((2, 3)), dims=("a", "b"))


def test_labels_read_codes_and_refuse_fractions():
    codes, names = as_labels(pd.DataFrame({"x": [0.0, np.nan], "y": [2.0, 1.0]}))
    assert codes.tolist() == [[0, 2], [-1, 1]]
    assert names == ("x", "y")
    with pytest.raises(PanelError, match="whole numbers"):
        as_labels([[0.5]])
    with pytest.raises(PanelError, match=">= 0, or -1"):
        as_labels([[-2]])
    with pytest.raises(PanelError, match="encode_labels"):
        as_labels([["a"]])


@pytest.mark.parametrize("missing", [None, float("nan"), "", pd.NA])
def test_words_become_shared_codes_and_missing_words_abstain(missing):
    said = np.array([["dog", missing], ["cat", "dog"]], dtype=object)
    codes, truth, classes, _ = encode_labels(said, ["dog", "emu"])
    assert codes.tolist() == [[1, -1], [0, 1]]
    assert truth.tolist() == [1, 2]
    assert classes.tolist() == ["cat", "dog", "emu"]
    with pytest.raises(PanelError, match="missing values"):
        encode_labels(said, ["dog", missing])


def test_labels_of_mixed_kinds_are_refused():
    with pytest.raises(PanelError, match="different kinds"):
        encode_labels(np.array([["a", 1]], dtype=object), ["a"])


def test_errors_of_all_kinds_by_hand():
    assert panel_errors([[1.0, 3.0]], [2.0], kind="residual").tolist() == [[-1.0, 1.0]]
    assert panel_errors([[[1.0, 5.0]]], [[2.0, 3.0]], kind="residual").tolist() == [[[-1.0, 2.0]]]
    wrong = panel_errors([[0, -1], [1, 1]], [0, 1], kind="zero_one")
    assert wrong.tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert np.isnan(panel_errors([[0, -1]], [0], kind="zero_one", abstain="nan")[0, 1])
    brier = panel_errors([[[0.8, 0.2]]], [1], kind="probability")
    assert np.allclose(brier, [[[0.8, -0.8]]])


def test_errors_keep_labels_of_a_dataarray():
    errors = panel_errors(labelled(VALUES), np.zeros((2, 2)), kind="residual")
    assert errors.dims == ("sample", "specialist", "output")
    assert errors.specialist.values.tolist() == ["a", "b", "c"]
    single = panel_errors(labelled(VALUES).isel(output=[0]), np.zeros(2), kind="residual")
    assert single.dims == ("sample", "specialist")


@pytest.mark.parametrize(
    ("panel", "y", "kind", "text"),
    [
        ([[1.0, 2.0]], [np.nan], "residual", "non-finite"),
        ([[1.0, 2.0]], [1.0, 2.0], "residual", "1 samples, y has shape"),
        ([[[0.5, 0.5]]], [2], "probability", "label code 2, but the panel has 2 outputs"),
        ([[0, 1]], [-1], "zero_one", "missing label codes"),
        ([[0, 1]], [0], "mystery", "kind must be"),
        ([[[np.inf, 1.0]]], [[0.0, 0.0]], "residual", "infinite"),
    ],
)
def test_errors_refuse_bad_truths(panel, y, kind, text):
    with pytest.raises(PanelError, match=text):
        panel_errors(panel, y, kind=kind)


def test_nonfinite_errors_are_named():
    with pytest.raises(PanelError, match=r"2 non-finite values \(first: sample 0, specialist 'b'\)"):
        as_errors(pd.DataFrame({"a": [1.0, 2.0], "b": [np.nan, np.inf]}))
    with pytest.raises(PanelError, match="inf never"):
        as_errors([[np.inf, 1.0]], missing="abstain")
    values, _ = as_errors([[np.nan, 1.0]], missing="abstain")
    assert np.isnan(values[0, 0])


# --- alignment by label ---------------------------------------------------------------------------


def test_stacking_is_sample_first_and_reorders_by_label():
    a = pd.DataFrame([[0.9, 0.1], [0.2, 0.8]], columns=["cat", "dog"], index=["s1", "s2"])
    b = pd.DataFrame([[0.7, 0.3], [0.6, 0.4]], columns=["dog", "cat"], index=["s2", "s1"])
    panel = stack_specialists({"a": a, "b": b})
    assert panel.dims == ("sample", "specialist", "output")
    assert panel.sel(sample="s1", specialist="b", output="cat") == 0.4
    assert panel.sel(sample="s2", specialist="b", output="cat") == 0.3


def test_classes_that_only_some_name_are_refused_or_placed_as_asked():
    answers = {"a": np.array([[0.5, 0.5]]), "b": np.array([[0.1, 0.2, 0.7]])}
    classes = {"a": [0, 1], "b": [0, 1, 2]}
    with pytest.raises(PanelError, match=r"extra outputs \[2\] and lacks \[\].*outputs='union'"):
        stack_specialists(answers, classes=classes)
    union = stack_specialists(answers, classes=classes, outputs="union")
    assert np.isnan(union.sel(specialist="a", output=2).item())
    both = stack_specialists(answers, classes=classes, outputs="intersection")
    assert both.output.values.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("answers", "more", "text"),
    [
        ([np.ones((2, 2)), np.ones((2, 3))], {}, "without labels to match by"),
        ([np.ones((2, 2)), np.ones((3, 2))], {}, "answered 3 samples"),
        (
            [pd.DataFrame(np.ones((1, 2)), columns=["a", "b"]), np.ones((1, 2))],
            {},
            "do not name their outputs",
        ),
        (
            {"a": np.ones((1, 2))},
            {"classes": {"a": ["x", "x"]}},
            "output 'x' occurs 2 times in specialist 'a'",
        ),
        ({"a": np.ones((1, 2))}, {"classes": {"z": ["x"]}}, "no specialists"),
        ({"a": np.ones((1, 2))}, {"outputs": "all"}, "outputs must be"),
        ([], {}, "at least one specialist"),
        (
            {"a": pd.Series([1.0], index=["s"]), "b": pd.Series([1.0], index=["t"])},
            {},
            r"lacks \[s\] and adds \[t\]",
        ),
    ],
)
def test_stacking_refuses_what_does_not_fit(answers, more, text):
    with pytest.raises(PanelError, match=text):
        stack_specialists(answers, **more)


@settings(max_examples=50, deadline=None)
@given(st.permutations(list("abcd")), st.permutations(list("abcd")), st.integers(1, 4))
def test_stacking_never_depends_on_the_order_of_columns(first, second, n):
    truth = np.random.default_rng(n).random((n, 4))
    table = pd.DataFrame(truth, columns=list("abcd"))
    panel = stack_specialists({"x": table[first], "y": table[second]})
    assert np.array_equal(panel.sel(specialist="x").values, panel.sel(specialist="y").values)
