"""Reading a panel with its truth: every form that is taken, and every refusal in its words."""

import numpy as np
import pandas as pd
import pytest
from xarray import DataArray

from estimators.table import read_table
from theory import PanelError

CODES = np.array([[0, 1, 2], [1, 1, -1], [2, 0, 2], [0, 0, 0], [1, 2, 1]])
Y = np.array([0, 1, 2, 0, 1])
PROBA = np.random.default_rng(0).dirichlet(np.ones(3), size=(5, 3))
NUMBERS = np.arange(15.0).reshape(5, 3) / 7


def read(panel, y=Y, **more):
    return read_table(panel, y, **more)[0]


def test_label_codes():
    table = read(CODES)
    assert (table.task, table.kind, table.names) == ("labels", "classification", ("0", "1", "2"))
    assert table.panel.shape == (5, 3, 3) and table.n_options is None and table.classes is None
    assert np.isnan(table.panel[1, 2]).all()
    np.testing.assert_array_equal(table.panel[0], np.eye(3))
    assert read(CODES.tolist()).panel.shape == (5, 3, 3)
    assert read(CODES, np.array([0, 1, 2, 0, 7])).panel.shape == (5, 3, 8)  # a truth that nobody named


def test_options_per_sample():
    table = read(CODES, n_options=[3, 3, 4, 3, 3])
    assert table.panel.shape == (5, 3, 4) and table.n_options.tolist() == [3, 3, 4, 3, 3]
    assert table.option_counts is table.n_options and read(CODES).option_counts == 3
    assert read(CODES, n_options=5).n_options.tolist() == [5] * 5


def test_words():
    words = np.array(["cat", "dog", "eel"], dtype=object)[CODES]
    words[1, 2] = None
    truth = np.array(["cat", "dog", "eel"])[Y]
    for panel in (words, words.tolist(), pd.DataFrame(words)):
        table = read(panel, truth)
        np.testing.assert_array_equal(table.panel, read(CODES).panel)
        np.testing.assert_array_equal(table.y, Y)
        assert table.classes.tolist() == ["cat", "dog", "eel"] and table.task == "labels"
    assert read(words, ["newt", *truth[1:]]).classes.tolist() == ["cat", "dog", "eel", "newt"]
    flags = read(CODES % 2 == 0, Y == 0)
    assert flags.task == "labels" and flags.classes.tolist() == [False, True]


def test_numbers_in_boxes_stay_numbers():
    assert read(NUMBERS.astype(object), Y.astype(object) + 0.5).task == "numbers"
    assert read(CODES.astype(object), Y.astype(object)).task == "labels"


def test_dataframe_and_dataarray_are_read_by_name():
    frame = pd.DataFrame(CODES, columns=["ann", "bob", "cyd"])
    assert read(frame).names == ("ann", "bob", "cyd")
    assert read(frame, names=["x", "y", "z"]).names == ("x", "y", "z")
    array = DataArray(PROBA, dims=("sample", "specialist", "output"), coords={"specialist": list("abc")})
    turned = read(array.transpose("output", "specialist", "sample"))
    np.testing.assert_array_equal(turned.panel, PROBA)
    assert turned.names == ("a", "b", "c")
    flat = DataArray(CODES.T, dims=("specialist", "sample"))
    np.testing.assert_array_equal(read(flat).panel, read(CODES).panel)


def test_named_outputs_are_matched_by_name():
    for labels in (["cat", "dog", "eel"], [10, 20, 30], [1, 2, 3], [-1, 0, 1], [2, 1, 0]):
        array = DataArray(PROBA, dims=("sample", "specialist", "output"), coords={"output": labels})
        table = read(array, np.array(labels)[Y])
        np.testing.assert_array_equal(table.y, Y)
        np.testing.assert_array_equal(table.panel, PROBA)
    columns = pd.MultiIndex.from_product([["a", "b", "c"], ["x", "y", "z"]])
    frame = pd.DataFrame(PROBA.reshape(5, 9), columns=columns)
    table = read(frame, np.array(["x", "y", "z"])[Y])
    np.testing.assert_array_equal(table.y, Y)
    assert table.names == ("a", "b", "c")
    with pytest.raises(
        PanelError, match=r"y holds \['w'\], which are no outputs of the panel; its outputs are"
    ):
        read(frame, list("xyzxw"))


def test_tasks_are_told_apart():
    assert read(PROBA).task == "probabilities"
    assert read(PROBA.astype(np.float32)).panel.dtype == np.float64
    assert read(NUMBERS, Y + 0.5).task == "numbers"
    assert read(NUMBERS[:, :, None], Y + 0.5).y.shape == (5, 1)
    assert read(PROBA, np.ones((5, 3)) * np.arange(5)[:, None]).task == "numbers"
    assert read(CODES, task="numbers").task == "numbers"
    whole = np.where(CODES < 0, np.nan, CODES)
    with pytest.raises(
        PanelError, match=r"labels with gaps, or counts\? Say task='labels' or task='numbers'"
    ):
        read(whole)
    np.testing.assert_array_equal(read(whole, task="labels").panel, read(CODES).panel)
    assert read(whole, task="numbers").task == "numbers"


def test_gaps():
    gaps = PROBA.copy()
    gaps[0, 1] = np.nan
    table = read(gaps)
    assert np.isnan(table.panel[0, 1]).all() and table.notes == ()
    partly = PROBA.copy()
    partly[2, 0] = [0.4, np.nan, 0.6]
    table = read(partly)
    assert table.panel[2, 0].tolist() == [0.4, 0.0, 0.6]
    assert table.notes == ("1 answers lack some outputs; what a specialist cannot name has probability 0.",)
    numbers = np.random.default_rng(0).normal(size=(5, 3, 2))
    numbers[1, 2, 0] = np.nan
    table = read(numbers, np.arange(10.0).reshape(5, 2))
    assert np.isnan(table.panel[1, 2]).all() and "count as abstentions" in table.notes[0]
    assert "The truth is the same for all samples" in read(CODES, np.zeros(5, dtype=int)).notes[0]


def test_rows_keep_everything_together():
    table = read(CODES, n_options=[3, 3, 4, 3, 3], groups=list("aabbc"))
    part = table.rows([2, 4])
    assert (
        part.y.tolist() == [2, 1] and part.n_options.tolist() == [4, 3] and part.groups.tolist() == ["b", "c"]
    )
    np.testing.assert_array_equal(part.panel, table.panel[[2, 4]])


def test_a_long_panel_is_drawn_with_its_truth():
    codes = np.repeat(np.arange(50)[:, None], 3, axis=1)
    table, given = read_table(
        codes,
        np.arange(50),
        n_options=np.arange(50) + 1,
        groups=np.arange(50),
        max_samples=10,
        random_state=0,
    )
    assert given == 50 and len(table.y) == 10 and (np.diff(table.y) > 0).all()
    np.testing.assert_array_equal(table.panel[:, 0].argmax(axis=1), table.y)
    np.testing.assert_array_equal(table.n_options, table.y + 1)
    np.testing.assert_array_equal(table.groups, table.y)


def test_input_is_not_changed():
    for panel in (CODES, PROBA, NUMBERS):
        before = panel.copy()
        panel.setflags(write=False)
        read(panel, Y if panel is not NUMBERS else Y + 0.5)
        np.testing.assert_array_equal(panel, before)


WRONG = {
    "no axis": (lambda: read([1, 2, 3]), r"must be \(sample, specialist\[, output\]\); got shape \(3,\)"),
    "empty": (lambda: read(np.zeros((0, 3))), r"got shape \(0, 3\)"),
    "ragged": (lambda: read([[1, 2], [1]]), "its rows differ"),
    "dims": (lambda: read(DataArray(PROBA, dims=("a", "b", "output"))), "needs the dim 'specialist'"),
    "dataset": (lambda: read(DataArray(CODES, name="p").to_dataset()), "pick one variable"),
    "series": (lambda: read(pd.Series(Y)), "a Series is one specialist"),
    "task": (lambda: read(CODES, task="ranks"), "task must be"),
    "lengths": (lambda: read(CODES, Y[:4]), "panel has 5 samples, y has 4"),
    "group lengths": (lambda: read(CODES, groups=[1, 2]), r"groups must be one label per sample \(5\)"),
    "group gaps": (lambda: read(CODES, groups=[1, 2, None, 1, 2]), "groups holds missing values"),
    "few": (lambda: read(CODES[:3], Y[:3]), "at least 4 samples"),
    "one": (lambda: read(CODES[:, :1]), "this panel has one"),
    "names": (lambda: read(CODES, names=["a"]), r"one per specialist \(3\); got 1"),
    "same names": (lambda: read(CODES, names=["a", "b", "a"]), "'a' occurs twice"),
    "missing truth": (lambda: read(CODES, [0, 1, -1, 0, 1]), "missing label codes"),
    "truth below": (lambda: read(CODES, [0, 1, -2, 0, 1]), "labels must be >= 0"),
    "two truths": (lambda: read(CODES, np.stack([Y, Y], axis=1), task="labels"), "one label per sample"),
    "foreign truth": (lambda: read(PROBA, [0, 1, 2, 3, 0]), "y holds code 3, but the panel has 3 outputs"),
    "words as truth": (lambda: read(PROBA, list("abcab")), "the panel's outputs have no names"),
    "words and codes": (lambda: read(CODES, list("abcab")), "cannot be put in one order"),
    "missing word": (lambda: read(CODES.astype(str), ["a", "", "b", "a", "b"]), "1 missing values"),
    "options of words": (lambda: read(CODES.astype(str), Y.astype(str), n_options=3), "belongs to label codes"),
    "options of proba": (lambda: read(PROBA, n_options=3), "belongs to label codes"),
    "half options": (lambda: read(CODES, n_options=2.5), "n_options must be whole numbers >= 1"),
    "option lengths": (lambda: read(CODES, n_options=[3, 3]), "one for each of 5"),
    "code beyond": (lambda: read(CODES, n_options=2), "sample 0 has 2 options, but specialist 2 said code 2"),
    "truth beyond": (lambda: read(CODES % 2, n_options=2), "Count a 'none of these' option"),
    "labels with outputs": (lambda: read(PROBA, task="labels"), r"labels must be \(sample, specialist\)"),
    "half labels": (lambda: read(NUMBERS, task="labels"), "whole numbers"),
    "wide": (lambda: read(np.abs(CODES) * 10**8, Y * 10**8), "too many votes to hold"),
    "proba in 2-D": (lambda: read(NUMBERS, task="probabilities"), "For two classes stack"),
    "sums": (lambda: read(PROBA * 2), "15 answers are no probabilities .first: sample 0, specialist 0, sum 2."),
    "negative": (lambda: read(PROBA - [0.9, -0.9, 0.0]), "are no probabilities"),
    "infinite": (lambda: read(np.full((5, 3, 2), np.inf)), "infinite answers"),
    "infinite numbers": (lambda: read(np.full((5, 3), np.inf), Y + 0.5), "inf never"),
    "text": (lambda: read(CODES.astype(str), Y + 0.5, task="numbers"), "needs numbers; the panel holds"),
    "text truth": (lambda: read(NUMBERS, list("abcab"), task="numbers"), "y must hold numbers"),
    "gaps in truth": (lambda: read(NUMBERS, [0.5, 1, np.nan, 2, np.inf]), "2 non-finite values"),
    "outputs of truth": (lambda: read(NUMBERS, np.ones((5, 2))), "the panel has 1 outputs, y has shape"),
    "dates": (lambda: read(CODES, Y.astype("M8[D]")), "y must be"),
    "silent": (lambda: read(np.where([[0, 1, 0]], -1, CODES)), "specialist '1' answered nothing. Leave it out"),
    "max_samples": (lambda: read(CODES, max_samples=3), "max_samples must be at least 4"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_refusals(case):
    call, text = WRONG[case]
    with pytest.raises(PanelError, match=text):
        call()
