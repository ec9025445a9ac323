"""Files as panels: every format against the same small panel, a naive reader, and files that are wrong."""

from __future__ import annotations

import csv
import importlib.util

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import estimators.readers.table_files as table_files
from estimators import load_llm_panel, read_panel
from estimators.datasets._archives import DATA
from theory import PanelError, panel_errors

WORDS = [["cat", "dog", "cat"], ["dog", "", "cat"], ["owl", "cat", "dog"], ["dog", "dog", "owl"]]
GOLD = ["cat", "dog", "dog", "dog"]
NAMES = ("ann", "bob", "cyd")
CLASSES = ("cat", "dog", "owl")
CODES = [[0, 1, 0], [1, -1, 0], [2, 0, 1], [1, 1, 2]]
TRUTH = [0, 1, 1, 1]
IDS = ["q1", "q2", "q3", "q4"]


def wide() -> pd.DataFrame:
    frame = pd.DataFrame(WORDS, columns=NAMES)
    return frame.assign(item=IDS, gold=GOLD)[["item", *NAMES, "gold"]]


def long() -> pd.DataFrame:
    rows = [
        {"question": IDS[i], "model": NAMES[k], "answer": WORDS[i][k], "cost": i + k, "truth": GOLD[i]}
        for i in range(4)
        for k in range(3)
        if WORDS[i][k]
    ]
    return pd.DataFrame(rows)


def write(folder, name: str, text: str):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def check_words(table):
    assert table.task == "labels"
    assert table.names == NAMES
    assert table.classes == CLASSES
    assert table.panel.dtype == table.y.dtype == np.int64
    np.testing.assert_array_equal(table.panel, CODES)
    np.testing.assert_array_equal(table.y, TRUTH)
    np.testing.assert_array_equal(table.sample_ids, IDS)


@pytest.fixture(params=["arrow", "pandas"])
def backend(request, monkeypatch):
    """CSV with pyarrow, and without it."""
    if request.param == "pandas":
        real = importlib.util.find_spec
        monkeypatch.setattr(table_files, "find_spec", lambda name: None if name == "pyarrow" else real(name))
    return request.param


def test_wide_csv(tmp_path, backend):
    wide().to_csv(tmp_path / "p.csv", index=False)
    table = read_panel(tmp_path / "p.csv")
    check_words(table)
    assert table.source.endswith("p.csv")
    assert "1 empty cell read as an abstention" in table.notes
    assert "truth read from the column 'gold'" in table.notes
    errors = panel_errors(table.panel, table.y, kind="zero_one")
    np.testing.assert_array_equal(errors.mean(axis=0), [0.25, 0.75, 0.5])


def test_long_csv(tmp_path, backend):
    long().to_csv(tmp_path / "p.csv", index=False)
    table = read_panel(tmp_path / "p.csv")
    check_words(table)
    assert any("1 of 12 pairs of sample and specialist have no row" in note for note in table.notes)
    assert "columns not used: cost" in table.notes


def test_long_csv_in_any_order_of_rows(tmp_path, backend):
    frame = long()
    expected = {(row.question, row.model): row.answer for row in frame.itertuples()}
    frame.sample(frac=1.0, random_state=3).to_csv(tmp_path / "p.csv", index=False)
    table = read_panel(tmp_path / "p.csv")
    for i, sample in enumerate(table.sample_ids):
        for k, name in enumerate(table.names):
            code = table.panel[i, k]
            assert expected.get((sample, name), "") == ("" if code < 0 else table.classes[code])


@pytest.mark.parametrize(("name", "options"), [
    ("p.tsv", {"sep": "\t"}), ("p.csv", {"sep": ";"}), ("p.csv.gz", {}), ("p.csv", {"encoding": "utf-8-sig"}),
])  # fmt: skip
def test_separators_compression_and_byte_order_mark(tmp_path, backend, name, options):
    wide().to_csv(tmp_path / name, index=False, **options)
    check_words(read_panel(tmp_path / name))


def test_parquet(tmp_path):
    wide().replace("", None).to_parquet(tmp_path / "p.parquet")
    check_words(read_panel(tmp_path / "p.parquet"))
    categories = wide().astype(dict.fromkeys(NAMES, "category"))
    categories.to_parquet(tmp_path / "c.parquet")
    check_words(read_panel(tmp_path / "c.parquet"))


def test_npz_of_texts(tmp_path):
    np.savez(tmp_path / "p.npz", answers=np.array(WORDS), gold=np.array(GOLD), specialist=NAMES, sample=IDS)
    check_words(read_panel(tmp_path / "p.npz"))


def test_netcdf_of_codes_in_any_order_of_dims(tmp_path):
    dataset = xr.Dataset(
        {"vote": (("specialist", "sample"), np.array(CODES).T), "right": ("sample", TRUTH)},
        coords={"specialist": list(NAMES), "sample": IDS},
    )
    dataset.to_netcdf(tmp_path / "p.nc")
    table = read_panel(tmp_path / "p.nc", truth="right")
    np.testing.assert_array_equal(table.panel, CODES)
    np.testing.assert_array_equal(table.y, TRUTH)
    assert table.names == NAMES
    assert table.classes == ("0", "1", "2")
    np.testing.assert_array_equal(table.sample_ids, IDS)


def test_netcdf_with_other_dim_names(tmp_path):
    dataset = xr.Dataset(
        {"a": (("case", "rater"), CODES), "b": (("case", "rater"), CODES), "gold": ("case", TRUTH)}
    )
    dataset.to_netcdf(tmp_path / "p.nc")
    table = read_panel(tmp_path / "p.nc", sample="case", specialist="rater", answer="b")
    np.testing.assert_array_equal(table.panel, CODES)
    with pytest.raises(PanelError, match="several variables over case and rater: a, b"):
        read_panel(tmp_path / "p.nc", sample="case", specialist="rater")
    with pytest.raises(PanelError, match=r"no dim 'sample' \(samples\)"):
        read_panel(tmp_path / "p.nc")


@pytest.mark.parametrize("name", ["mmlupro", "gsm8k"])
def test_shipped_panels_keep_their_codes(name):
    panel = load_llm_panel(name)
    table = read_panel(DATA / "llm_panels" / f"{name}.npz")
    np.testing.assert_array_equal(table.panel, panel.answers)
    np.testing.assert_array_equal(table.y, panel.gold)
    np.testing.assert_array_equal(table.n_options, panel.n_options)
    assert table.names == tuple(panel.specialist)
    assert len(table.classes) > table.y.max()
    assert any("abstentions" in note for note in table.notes)
    assert any("none of the options" in note for note in table.notes) == panel.open


def test_specialists_are_chosen_and_ordered(tmp_path):
    wide().to_csv(tmp_path / "w.csv", index=False)
    long().to_csv(tmp_path / "l.csv", index=False)
    for name in ("w.csv", "l.csv"):
        table = read_panel(tmp_path / name, specialists=["cyd", "ann"])
        assert table.names == ("cyd", "ann")
        np.testing.assert_array_equal(table.panel, np.array(CODES)[:, [2, 0]])


def test_other_column_names(tmp_path):
    frame = long().rename(columns={"question": "frage", "model": "wer", "answer": "was", "truth": "richtig"})
    frame.to_csv(tmp_path / "l.csv", index=False)
    options = {"sample": "frage", "specialist": "wer", "answer": "was", "truth": "richtig"}
    check_words(read_panel(tmp_path / "l.csv", **options))


# -- truth from elsewhere


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_truth_file_is_joined_by_sample(tmp_path, kind):
    wide().drop(columns="gold").to_csv(tmp_path / "p.csv", index=False)
    truth = pd.DataFrame({"item": [*IDS, "q9"], "answer": [*GOLD, "cat"]}).sample(frac=1.0, random_state=1)
    path = tmp_path / f"t.{kind}"
    if kind == "npz":
        np.savez(path, sample=truth["item"].to_numpy(str), gold=truth["answer"].to_numpy(str))
    else:
        getattr(truth, f"to_{kind}")(path, index=False)
    table = read_panel(tmp_path / "p.csv", truth=path)
    check_words(table)
    assert any("joined by sample; 1 truths there have no answers here" in note for note in table.notes)


def test_truth_file_with_number_samples(tmp_path):
    """Sample 7 is 7 in one file and 7.0 in the other, as pandas writes it beside a gap."""
    write(tmp_path, "p.csv", "id,a,b\n7,x,y\n8,y,y\n")
    write(tmp_path, "t.csv", "id,truth\n8.0,y\n7.0,x\n")
    np.testing.assert_array_equal(read_panel(tmp_path / "p.csv", truth=tmp_path / "t.csv").y, [0, 1])


def test_truth_file_without_samples_is_matched_by_row(tmp_path):
    wide().drop(columns=["gold", "item"]).to_csv(tmp_path / "p.csv", index=False)
    write(tmp_path, "t.csv", "whatever\n" + "\n".join(GOLD) + "\n")
    table = read_panel(tmp_path / "p.csv", truth=tmp_path / "t.csv")
    np.testing.assert_array_equal(table.y, TRUTH)
    assert any("matched by row" in note for note in table.notes)
    write(tmp_path, "t.csv", "whatever\ncat\n")
    with pytest.raises(PanelError, match=r"1 truths and p\.csv 4 samples"):
        read_panel(tmp_path / "p.csv", truth=tmp_path / "t.csv")


def test_truth_left_over_in_the_panel_is_no_specialist(tmp_path):
    wide().to_csv(tmp_path / "p.csv", index=False)
    write(tmp_path, "t.csv", "item,truth\n" + "".join(f"{i},{g}\n" for i, g in zip(IDS, GOLD, strict=True)))
    table = read_panel(tmp_path / "p.csv", truth=tmp_path / "t.csv")
    assert table.names == NAMES
    assert any("'gold' looks like a truth and is not read as a specialist" in note for note in table.notes)


def test_truth_file_with_gaps_and_doubles(tmp_path):
    wide().drop(columns="gold").to_csv(tmp_path / "p.csv", index=False)
    write(tmp_path, "t.csv", "item,truth\nq1,cat\nq2,dog\nq4,dog\n")
    with pytest.raises(PanelError, match=r"t\.csv has no truth for 1 of 4 samples: q3"):
        read_panel(tmp_path / "p.csv", truth=tmp_path / "t.csv")
    write(tmp_path, "t.csv", "item,truth\nq1,cat\nq1,dog\n")
    with pytest.raises(PanelError, match="names samples more than once: q1"):
        read_panel(tmp_path / "p.csv", truth=tmp_path / "t.csv")
    write(tmp_path, "t.csv", "item,u,v\nq1,cat,1\n")
    with pytest.raises(PanelError, match=r"no column of truths among item, u, v; .*truth_column"):
        read_panel(tmp_path / "p.csv", truth=tmp_path / "t.csv")


# -- tasks


def test_numbers(tmp_path, backend):
    write(tmp_path, "p.csv", "a,b,y\n1.5,2.25,2\n,0.5,1\n-3e2,NaN,0.125\n")
    table = read_panel(tmp_path / "p.csv")
    assert (table.task, table.classes) == ("numbers", None)
    np.testing.assert_array_equal(table.panel, [[[1.5], [2.25]], [[np.nan], [0.5]], [[-300], [np.nan]]])
    np.testing.assert_array_equal(table.y, [[2], [1], [0.125]])
    assert "2 empty cells read as abstentions" in table.notes
    errors = panel_errors(table.panel[:1], table.y[:1], kind="residual")
    np.testing.assert_array_equal(np.ravel(errors), [-0.5, 0.25])


def test_whole_numbers_are_labels_unless_many_or_told(tmp_path, backend):
    write(tmp_path, "p.csv", "a,b,y\n9,10,10\n10,9,9\n10,,9\n")
    table = read_panel(tmp_path / "p.csv")
    assert (table.task, table.classes) == ("labels", ("9", "10"))
    np.testing.assert_array_equal(table.panel, [[0, 1], [1, 0], [1, -1]])
    assert any("2 distinct values: read as labels" in note for note in table.notes)
    assert read_panel(tmp_path / "p.csv", task="numbers").panel.dtype == np.float64
    rows = "".join(f"{i},{i + 1},{i}\n" for i in range(60))
    write(tmp_path, "q.csv", "a,b,y\n" + rows)
    table = read_panel(tmp_path / "q.csv")
    assert table.task == "numbers"
    assert any("61 distinct values: read as numbers" in note for note in table.notes)
    assert read_panel(tmp_path / "q.csv", task="labels").classes == tuple(str(i) for i in range(61))


def test_minus_one_abstains_only_where_the_truth_never_says_it(tmp_path, backend):
    write(tmp_path, "p.csv", "a,b,y\n1,-1,1\n0,1,0\n")
    table = read_panel(tmp_path / "p.csv")
    np.testing.assert_array_equal(table.panel, [[1, -1], [0, 1]])
    assert any("-1 is read as an abstention" in note for note in table.notes)
    write(tmp_path, "p.csv", "a,b,y\n1,-1,1\n-1,1,-1\n")
    table = read_panel(tmp_path / "p.csv")
    assert table.classes == ("-1", "1")
    np.testing.assert_array_equal(table.panel, [[1, 0], [0, 1]])


def test_one_text_column_makes_all_of_them_text(tmp_path, backend):
    write(tmp_path, "p.csv", "a,b,y\n01,x,01\n02,01,x\n")
    table = read_panel(tmp_path / "p.csv")
    assert table.classes == ("01", "02", "x")
    np.testing.assert_array_equal(table.panel, [[0, 2], [1, 0]])


def test_booleans_and_dates_stay_as_written(tmp_path, backend):
    write(tmp_path, "p.csv", "a,b,y\ntrue,false,true\nfalse,false,false\n")
    assert read_panel(tmp_path / "p.csv").classes == ("false", "true")
    write(tmp_path, "d.csv", "a,b,y\n2020-01-02,2020-1-3,2020-01-02\n2020-1-3,2020-1-3,2020-1-3\n")
    assert read_panel(tmp_path / "d.csv").classes == ("2020-01-02", "2020-1-3")


def test_na_is_a_label_in_text_unless_told(tmp_path, backend):
    write(tmp_path, "p.csv", "a,b,y\nDE,NA,DE\nNA,NA,NA\nDE,DE,DE\n")
    table = read_panel(tmp_path / "p.csv")
    assert table.classes == ("DE", "NA")
    assert any("NA taken as a label; name it in abstain" in note for note in table.notes)
    write(tmp_path, "q.csv", "a,b,y\nDE,NA,DE\nFR,NA,FR\nDE,DE,DE\n")
    table = read_panel(tmp_path / "q.csv", abstain=["NA"])
    np.testing.assert_array_equal(table.panel, [[0, -1], [1, -1], [0, 0]])
    assert "2 answers of NA read as abstentions" in table.notes
    with pytest.raises(PanelError, match="NA cannot mean an abstention, as the truth names it"):
        read_panel(tmp_path / "p.csv", abstain=["NA"])


def test_blanks_around_labels_do_not_count(tmp_path, backend):
    write(tmp_path, "p.csv", 'a,b,y\n cat,"dog ",cat\ndog,  ,dog\n')
    table = read_panel(tmp_path / "p.csv")
    assert table.classes == ("cat", "dog")
    np.testing.assert_array_equal(table.panel, [[0, 1], [1, -1]])


def test_quoted_commas_and_line_breaks(tmp_path, backend):
    write(tmp_path, "p.csv", 'a,b,y\n"x, y","x, y","x, y"\n"two\nlines",z,z\n')
    assert read_panel(tmp_path / "p.csv").classes == ("two\nlines", "x, y", "z")


def test_probabilities_in_a_long_table(tmp_path, backend):
    rng = np.random.default_rng(0)
    cube = rng.dirichlet(np.ones(3), size=(4, 2))
    rows = [
        {"item": i, "model": f"m{k}", "truth": CLASSES[i % 3]}
        | {f"p_{name}": cube[i, k, c] for c, name in enumerate(CLASSES)}
        for i in range(4)
        for k in range(2)
        if (i, k) != (2, 1)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "p.csv", index=False)
    table = read_panel(tmp_path / "p.csv")
    assert (table.task, table.classes) == ("probabilities", CLASSES)
    cube[2, 1] = np.nan
    np.testing.assert_allclose(table.panel, cube, rtol=1e-12)
    np.testing.assert_array_equal(table.y, [0, 1, 2, 0])
    explicit = read_panel(tmp_path / "p.csv", probabilities=["p_owl", "p_cat", "p_dog"])
    assert explicit.classes == ("owl", "cat", "dog")
    np.testing.assert_array_equal(explicit.panel, table.panel[..., [2, 0, 1]])


def test_probability_of_class_one_in_a_wide_table(tmp_path):
    write(tmp_path, "p.csv", "a,b,y\n0.9,0.25,1\n0.5,,0\n")
    table = read_panel(tmp_path / "p.csv")
    assert (table.task, table.classes) == ("probabilities", ("0", "1"))
    np.testing.assert_allclose(table.panel, [[[0.1, 0.9], [0.75, 0.25]], [[0.5, 0.5], [np.nan, np.nan]]])
    np.testing.assert_array_equal(table.y, [1, 0])
    assert any("read as probabilities of the class 1" in note for note in table.notes)


@pytest.mark.parametrize("suffix", ["npz", "nc"])
def test_probabilities_in_array_files(tmp_path, suffix):
    cube = np.random.default_rng(1).dirichlet(np.ones(3), size=(5, 2)).astype(np.float32)
    path, y = tmp_path / f"p.{suffix}", np.array([0, 2, 1, 1, 0])
    if suffix == "npz":
        np.savez(path, panel=cube, y=y, classes=CLASSES, specialist=["a", "b"])
    else:
        xr.Dataset(
            {"panel": (("sample", "specialist", "output"), cube), "y": ("sample", y)},
            coords={"specialist": ["a", "b"], "output": list(CLASSES)},
        ).to_netcdf(path)
    table = read_panel(path)
    assert (table.task, table.classes, table.names) == ("probabilities", CLASSES, ("a", "b"))
    np.testing.assert_array_equal(table.panel, cube.astype(np.float64))
    np.testing.assert_array_equal(table.y, y)
    assert "the truth is read as codes into the classes" in table.notes
    assert "answers are float32 in the file, float64 here" in table.notes


def test_numbers_with_several_outputs(tmp_path):
    rng = np.random.default_rng(2)
    cube, y = rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 2))
    np.savez(tmp_path / "p.npz", panel=cube, y=y)
    table = read_panel(tmp_path / "p.npz")
    assert table.task == "numbers"
    assert table.names == ("0", "1", "2")
    np.testing.assert_array_equal(table.panel, cube)
    np.testing.assert_array_equal(table.y, y)


# -- a naive reader


def naive(path) -> tuple[list[list[str]], list[str]]:
    with open(path, newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    return [row[1:-1] for row in rows], [row[-1] for row in rows]


LABEL = st.sampled_from(["", "a", "b", "B", "ä", "10", "9", "x y", "nan", "-1", "true"])


@given(st.lists(st.tuples(LABEL, LABEL, LABEL.filter(bool)), min_size=2, max_size=12))
def test_wide_texts_like_a_naive_reader(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("h") / "p.csv"
    # The first row makes sure that something varies, meets the truth, and is text.
    rows = [("word", "other", "word"), *rows]
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [["id", "s", "t", "truth"], *[[f"i{i}", *row] for i, row in enumerate(rows)]]
        )
    table = read_panel(path)
    answers, truth = naive(path)
    decoded = [["" if code < 0 else table.classes[code] for code in row] for row in table.panel.tolist()]
    assert decoded == answers
    assert [table.classes[code] for code in table.y] == truth
    assert list(table.classes) == sorted(table.classes)


@given(st.lists(st.tuples(*[st.floats(-1e9, 1e9)] * 3), min_size=2, max_size=10))
def test_wide_numbers_like_a_naive_reader(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("h") / "p.csv"
    rows = [(0.5, 1.5, 2.5), (1.5, 0.5, 0.0), *rows]
    with open(path, "w", newline="") as stream:
        csv.writer(stream).writerows(
            [["id", "s", "t", "truth"], *[[i, *map(repr, row)] for i, row in enumerate(rows)]]
        )
    table = read_panel(path)
    answers, truth = naive(path)
    np.testing.assert_array_equal(table.panel[..., 0], np.array(answers, dtype=float))
    np.testing.assert_array_equal(table.y[:, 0], np.array(truth, dtype=float))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_million_by_fifty(tmp_path, kind):
    """Seen: 5.0 s for CSV, 2.9 s for Parquet on two cores, peak 1.6 GiB; the bar is for a busy machine."""
    from time import process_time

    import pyarrow as pa
    import pyarrow.csv as arrow_csv
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    letters = np.array(list("ABCDE"))
    codes = rng.integers(0, 5, (1_000_000, 51)).astype(np.int8)
    columns = {"sample": pa.array(np.arange(len(codes)))}
    columns |= {f"m{k}": pa.array(letters[codes[:, k]]) for k in range(50)} | {
        "truth": pa.array(letters[codes[:, 50]])
    }
    path = tmp_path / f"p.{kind}"
    (arrow_csv.write_csv if kind == "csv" else pq.write_table)(pa.table(columns), path)
    start = process_time()
    table = read_panel(path)
    assert process_time() - start < 30
    np.testing.assert_array_equal(table.panel, codes[:, :50])
    np.testing.assert_array_equal(table.y, codes[:, 50])
