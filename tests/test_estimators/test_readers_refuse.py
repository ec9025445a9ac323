"""Files that are wrong end in one clear line; what is odd but possible is a note."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

import estimators.readers.table_files as table_files
from estimators import read_panel
from theory import PanelError

WORDS = [["cat", "dog", "cat"], ["dog", "", "cat"], ["owl", "cat", "dog"], ["dog", "dog", "owl"]]
GOLD = ["cat", "dog", "dog", "dog"]
NAMES = ("ann", "bob", "cyd")
CODES = [[0, 1, 0], [1, -1, 0], [2, 0, 1], [1, 1, 2]]
TRUTH = [0, 1, 1, 1]


def write(folder, name: str, text: str):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


WRONG = {
    "no truth": (
        "a,b\nx,y\ny,y\n",
        {},
        r"has no truth: none of a, b looks like one.*truth=NAME",
    ),
    "unknown truth": (
        "a,b,y\nx,y,x\n",
        {"truth": "yy"},
        r"has no column 'yy' \(truth, or a file\).*mean 'y'|It has a, b, y",
    ),
    "unknown specialist": (
        "ann,bob,y\nx,y,x\n",
        {"specialists": ["ann", "rob"]},
        r"no column 'rob'.*Did you mean 'bob'\?",
    ),
    "other case": (
        "ann,bob,y\nx,y,x\n",
        {"specialists": ["Ann", "bob"]},
        r"no column 'Ann'.*Did you mean 'ann'\?",
    ),
    "unknown sample": (
        "id,a,b,y\n1,x,y,x\n",
        {"sample": "ident"},
        r"no column 'ident' \(samples\)",
    ),
    "one specialist": (
        "id,a,y\n1,x,x\n2,y,x\n",
        {},
        r"one specialist only \(a\); a panel needs at least two",
    ),
    "no specialist": (
        "id,y\n1,x\n",
        {},
        r"no columns of specialists",
    ),
    "duplicate item": (
        "id,a,b,y\n1,x,y,x\n1,x,y,x\n2,x,x,x\n",
        {},
        r"1 samples come more than once .*'id': 1",
    ),
    "duplicate pair": (
        "id,model,answer,y\n1,a,x,x\n1,a,y,x\n1,b,y,x\n",
        {},
        r"1 pairs .* more than once, the first is \(sample 1, specialist a\) with 2 rows",
    ),
    "two truths": (
        "id,model,answer,y\n1,a,x,x\n1,b,y,y\n",
        {},
        r"sample 1 has several values in the column 'y'",
    ),
    "empty truth": (
        "id,a,b,y\nq,x,y,x\nr,x,x,\n",
        {},
        r"truth of 1 of 2 samples is empty or not finite, first of sample r",
    ),
    "NaN truth": (
        "a,b,y\n1.5,2.5,NaN\n1.5,2,3\n",
        {},
        r"truth of 1 of 2 samples is empty or not finite",
    ),
    "infinite truth": (
        "a,b,y\n1.5,2.5,inf\n1.5,2,3\n",
        {},
        r"truth of 1 of 2 samples is empty or not finite",
    ),
    "nothing varies": (
        "a,b,y\nx,x,x\nx,x,x\n",
        {},
        r"same answer on all 2 samples; nothing varies",
    ),
    "no answers": (
        "a,b,y\n,,x\n,,y\n",
        {},
        r"no specialist ever answered",
    ),
    "foreign labels": (
        "a,b,y\nA,B,0\nB,A,1\n",
        {},
        r"no specialist ever named a label of the truth\. The truth has '0', '1', the answers have 'A', 'B'",
    ),
    "text as numbers": (
        "a,b,y\nA,1,0\n2,1,1\n",
        {"task": "numbers"},
        r"task='numbers' needs numbers, but 'a' holds text, e\.g\. '(A|2)'",
    ),
    "twice a column": (
        "a,a,y\nx,y,x\n",
        {},
        r"more than one column called a",
    ),
    "header only": (
        "a,b,y\n",
        {},
        r"has no rows below its header",
    ),
    "blank": (
        "\n\n",
        {},
        r"is empty; the first line must name the columns",
    ),
    "ragged": (
        "a,b,y\nx,y,x\nx,y\n",
        {},
        r"cannot be read: .*3 columns",
    ),
    "truth as specialist": (
        "a,b,y\nx,y,x\n",
        {"specialists": ["a", "y"]},
        r"'y' is the truth and cannot be a specialist",
    ),
    "long without samples": (
        "model,answer,y\na,x,x\n",
        {"layout": "long"},
        r"no column of samples .*sample=COLUMN",
    ),
    "long without answers": (
        "id,model,y\n1,a,x\n",
        {"layout": "long"},
        r"no column of answers .*answer=COLUMN",
    ),
    "empty specialist": (
        "id,model,answer,y\n1,,x,x\n1,b,y,x\n",
        {},
        r"1 rows are empty in the column 'model'",
    ),
    "not probabilities": (
        "id,model,p_x,p_y,y\n1,a,-0.5,1.5,x\n1,b,0.5,0.5,x\n",
        {},
        r"2 answers lie outside \[0, 1\], e\.g\. -0\.5",
    ),
    "class without column": (
        "id,model,p_x,p_y,y\n1,a,0.5,0.5,z\n1,b,0.4,0.6,z\n",
        {},
        r"truth names z, for which .* classes are x, y",
    ),
    "text as probability": (
        "id,model,p_x,p_y,y\n1,a,high,0.5,x\n1,b,0.4,0.6,x\n",
        {},
        r"column 'p_x' of probabilities holds text, e\.g\. '(high|0\.4)'",
    ),
    "task": (
        "a,b,y\nx,y,x\n",
        {"task": "ranking"},
        r"task must be one of labels, probabilities, numbers; got 'ranking'",
    ),
    "layout": (
        "a,b,y\nx,y,x\n",
        {"layout": "tall"},
        r"layout must be 'long' or 'wide'",
    ),
    "abstain": (
        "a,b,y\nx,y,x\n",
        {"abstain": "x"},
        r"abstain takes a list of labels; got 'x'",
    ),
}


@pytest.mark.parametrize(("text", "options", "match"), WRONG.values(), ids=WRONG)
def test_wrong_csv_ends_in_one_clear_line(tmp_path, text, options, match):
    path = write(tmp_path, "p.csv", text)
    with pytest.raises(PanelError, match=match) as caught:
        read_panel(path, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_wrong_files_end_in_one_clear_line(tmp_path):
    missing = tmp_path / "none.csv"
    with pytest.raises(PanelError, match=r"there is no file .*none\.csv"):
        read_panel(missing)
    with pytest.raises(PanelError, match=r"p\.xlsx: cannot tell what kind of file .*needed is \.csv"):
        read_panel(write(tmp_path, "p.xlsx", "x"))
    for name in ("p.csv", "p.npz", "p.parquet", "p.nc"):
        with pytest.raises(PanelError, match=r"is empty \(0 bytes\)"):
            read_panel(write(tmp_path, name, ""))
    for name in ("q.npz", "q.parquet", "q.nc"):
        with pytest.raises(PanelError, match=rf"{name} cannot be read: \S"):
            read_panel(write(tmp_path, name, "no such format"))
    (tmp_path / "latin.csv").write_bytes("a,b,y\nä,x,x\nx,x,x\n".encode("latin-1"))
    with pytest.raises(PanelError, match=r"latin\.csv cannot be read: \S"):
        read_panel(tmp_path / "latin.csv")
    with gzip.open(tmp_path / "cut.csv.gz", "wb") as stream:
        stream.write(b"a,b,y\n" + b"x,y,x\n" * 1000)
    (tmp_path / "cut.csv.gz").write_bytes((tmp_path / "cut.csv.gz").read_bytes()[:40])
    with pytest.raises(PanelError, match=r"cannot be read|no rows"):
        read_panel(tmp_path / "cut.csv.gz")


def test_wrong_array_files_end_in_one_clear_line(tmp_path):
    def saved(**arrays):
        np.savez(tmp_path / "p.npz", **arrays)
        return tmp_path / "p.npz"

    answers, gold = np.array(CODES), np.array(TRUTH)
    with pytest.raises(PanelError, match=r"holds pickled objects; save texts as numpy str arrays"):
        read_panel(saved(answers=np.array(WORDS, dtype=object), gold=np.array(GOLD)))
    with pytest.raises(PanelError, match=r"has no answers: it holds gold"):
        read_panel(saved(gold=gold))
    with pytest.raises(PanelError, match=r"has no truth"):
        read_panel(saved(answers=answers))
    with pytest.raises(PanelError, match=r"no array 'panels' \(answers\)"):
        read_panel(saved(answers=answers, gold=gold), answer="panels")
    with pytest.raises(PanelError, match=r"the truth has 3 entries .* shape \(4, 3\).* 4 were needed"):
        read_panel(saved(answers=answers, gold=gold[:3]))
    with pytest.raises(PanelError, match=r"specialist has 2 entries .* axis 1, so 3 were needed"):
        read_panel(saved(answers=answers, gold=gold, specialist=["a", "b"]))
    with pytest.raises(PanelError, match=r"several specialists are called a"):
        read_panel(saved(answers=answers, gold=gold, specialist=["a", "b", "a"]))
    with pytest.raises(PanelError, match=r"answers have shape \(4,\)"):
        read_panel(saved(answers=gold, gold=gold))
    with pytest.raises(
        PanelError, match=r"1 answers are no code below n_options, e\.g\. 2 of cyd at sample 3"
    ):
        read_panel(saved(answers=answers, gold=gold, n_options=[3, 3, 3, 2], specialist=NAMES))
    with pytest.raises(PanelError, match=r"the truth 5 of sample 0 is no code up to n_options \(3\)"):
        read_panel(saved(answers=answers, gold=gold + np.array([5, 0, 0, 0]), n_options=[3, 3, 3, 3]))
    with pytest.raises(PanelError, match=r"answers have 2 outputs and the truth 1"):
        read_panel(saved(panel=np.random.default_rng(0).normal(size=(4, 3, 2)), y=gold))
    np.save(tmp_path / "bare.npz.npy", answers)
    (tmp_path / "bare.npz.npy").rename(tmp_path / "bare.npz")
    with pytest.raises(PanelError, match="one bare array"):
        read_panel(tmp_path / "bare.npz")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    pd.DataFrame(WORDS, columns=NAMES).assign(gold=GOLD).to_parquet(tmp_path / "p.parquet")
    monkeypatch.setattr(table_files, "find_spec", lambda name: None)
    with pytest.raises(PanelError, match=r"needs pyarrow: pip install 'consilience\[report\]'"):
        read_panel(tmp_path / "p.parquet")


def test_what_is_odd_but_possible_is_a_note(tmp_path):
    def notes(text: str) -> str:
        return " | ".join(read_panel(write(tmp_path, "p.csv", text)).notes)

    assert "all specialists give equal answers on every sample" in notes("a,b,y\nx,x,x\nz,z,x\n")
    assert "the truth is the same on all samples" in notes("a,b,y\nx,z,x\nz,z,x\n")
    assert "never answers: c" in notes("a,b,c,y\nx,z,,x\nz,z,,z\n")
    assert "never names a label of the truth: topic" in notes("a,b,topic,y\nx,z,math,x\nz,z,law,z\n")
    assert "1 samples have a truth that no specialist ever names: w" in notes("a,b,y\nx,z,w\nz,z,z\n")
    assert "1 answers are infinite" in notes("a,b,y\n1.5,inf,1\n2.5,2,2\n")
    assert "2 rows of probabilities do not sum to 1 (one sums to 0.5)" in notes(
        "id,model,p_x,p_y,y\n1,a,0.25,0.25,x\n1,b,0.5,0.7,x\n2,a,0.5,0.5,y\n2,b,1,0,y\n"
    )
