"""The command line: every kind of file gives the same audit, every bad one a single line."""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from estimators import PanelAudit, llm_panel_names, load_llm_panel
from estimators.cli import main
from theory import FaultWarning, difficulty_panel

QUICK = ["--liars", "0", "--quiet"]


@pytest.fixture
def run(capsys):
    """Return a function that runs the command line and gives its exit code, output and error lines."""

    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return call


@pytest.fixture(scope="module")
def labels():
    """Return label codes (120, 4), one abstention, and their truth."""
    simulated = difficulty_panel(120, 4, accuracy=0.7, rho=0.3, n_options=3, seed=0)
    answers = np.array(simulated.answers)
    answers[5, 2] = -1
    return answers, np.asarray(simulated.y)


NAMES = ["ann", "bob", "cleo", "dan"]


def write(folder, kind, answers, y):
    """Write the same panel as a file of some kind."""
    words = np.array(["cat", "dog", "emu", ""])
    wide = pd.DataFrame(words[answers], columns=NAMES)
    wide.insert(0, "item", [f"q{i}" for i in range(len(y))])
    wide["truth"] = words[y]
    file = Path(folder) / {"wide": "w.csv", "long": "l.csv", "gzip": "w.csv.gz"}.get(kind, f"p.{kind}")
    if kind in ("wide", "gzip"):
        wide.to_csv(file, index=False)
    elif kind == "parquet":
        wide.to_parquet(file)
    elif kind == "long":
        melted = wide.melt(id_vars=["item", "truth"], var_name="specialist", value_name="answer")
        melted.sample(frac=1.0, random_state=0).sort_values(
            "item", key=lambda c: c.str[1:].astype(int), kind="stable"
        )[["item", "specialist", "answer", "truth"]].to_csv(file, index=False)
    elif kind == "npz":
        np.savez(file, answers=answers, truth=y, specialist=np.array(NAMES))
    else:
        data = xr.Dataset(
            {"answers": (("specialist", "sample"), answers.T), "truth": ("sample", y)},
            coords={"specialist": NAMES},
        )
        data.to_netcdf(file)
    return file


# --- good input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wide", "long", "gzip", "parquet", "npz", "nc"])
def test_every_kind_of_file_gives_the_figures_of_the_array(run, tmp_path, labels, kind):
    answers, y = labels
    file = write(tmp_path, kind, answers, y)
    code, output, errors = run("audit", file, "--json", "-", *QUICK)
    assert (code, errors) == (0, [])
    found = json.loads(output)
    audit = PanelAudit(task="labels", n_byzantine=(), random_state=0).fit(answers, y, names=NAMES)
    by_name = {row["name"]: row for row in found["specialists"]}
    assert set(by_name) == set(NAMES)
    for i, name in enumerate(NAMES):
        assert by_name[name]["score"] == pytest.approx(audit.scores_.loc[name, "score"])
        assert by_name[name]["price"] == pytest.approx(audit.prices_.value[i], abs=1e-12)
    assert found["prices"]["sum"] == pytest.approx(found["prices"]["total"], abs=1e-12)
    assert found["error_correlation"]["mean"] == pytest.approx(audit.error_correlation_.rho_mean)
    board = {row["rule"]: row["score"] for row in found["leaderboard"]}
    assert board["plurality_vote"] == pytest.approx(audit.leaderboard_.loc["plurality_vote", "score"])
    assert found["n_samples"] == 120 and found["title"] == file.name and found["notes"]


def test_numbers_and_probabilities(run, tmp_path):
    rng = np.random.default_rng(0)
    y = rng.normal(size=80)
    table = pd.DataFrame(y[:, None] + rng.normal(size=(80, 3)) * [0.3, 0.6, 1.0], columns=["a", "b", "c"])
    table.assign(truth=y).to_csv(tmp_path / "numbers.csv", index=False)
    code, output, errors = run("audit", tmp_path / "numbers.csv", "--json", "-", *QUICK)
    assert (code, errors) == (0, [])
    found = json.loads(output)
    assert found["task"] == "numbers"
    scores = {row["name"]: row["score"] for row in found["specialists"]}
    assert scores["a"] == pytest.approx(1 - ((table["a"] - y) ** 2).mean() / y.var())
    cube = rng.dirichlet(np.ones(3), size=(60, 4))
    np.savez(tmp_path / "cube.npz", panel=cube, truth=np.arange(60) % 3)
    code, output, _ = run("audit", tmp_path / "cube.npz", "--json", "-", *QUICK)
    assert code == 0 and json.loads(output)["task"] == "probabilities"


def test_truth_in_another_file(run, tmp_path, labels):
    answers, y = labels
    wide = pd.read_csv(write(tmp_path, "wide", answers, y))
    wide.drop(columns="truth").to_csv(tmp_path / "answers.csv", index=False)
    wide[["item", "truth"]].rename(columns={"truth": "right"})[::-1].to_csv(
        tmp_path / "gold.csv", index=False
    )
    whole = run("audit", tmp_path / "w.csv", "--json", "-", *QUICK)[1]
    apart = run(
        "audit", tmp_path / "answers.csv", "--truth", tmp_path / "gold.csv", "--truth-column", "right",
        "--json", "-", *QUICK,
    )[1]  # fmt: skip
    whole, apart = json.loads(whole), json.loads(apart)
    for key in ("specialists", "leaderboard", "error_correlation"):
        assert whole[key] == apart[key]


def test_options_reach_the_audit(run, tmp_path, labels):
    file = write(tmp_path, "wide", *labels)
    code, output, _ = run(
        "audit", file, "--json", "-", "--quiet", "--liars", "1", "--withstand", "1", "--specialists", "dan, ann,cleo",
        "--max-samples", "100", "--cv", "2", "--seed", "3",
    )  # fmt: skip
    found = json.loads(output)
    assert code == 0
    assert [row["name"] for row in found["specialists"]] == ["dan", "ann", "cleo"]
    assert found["n_samples"] == 100
    assert {row["n_byzantine"] for row in found["robustness"]} == {0, 1}
    worst = {}
    for row in found["robustness"]:
        if row["n_byzantine"] == 1:
            worst[row["rule"]] = min(row["worst"], worst.get(row["rule"], 1.0))
    assert worst[found["recommended"]] == max(worst.values())


def test_tables_go_to_the_terminal_and_files_where_they_are_told(run, tmp_path, labels):
    file = write(tmp_path, "wide", *labels)
    page, data = tmp_path / "page.html", tmp_path / "data.json"
    code, output, errors = run("audit", file, "--liars", "1", "--html", page, "--json", data)
    assert (code, errors) == (0, [])
    for text in (
        "w.csv", "- truth read from the column 'truth'", "best single specialist", "plurality", "best fused, out of fold",
        "mean error correlation rho", "effective number of specialists", "1 + (M-1) rho", "sum of prices", "arbiter",
        "What each specialist is worth", "with liars", "Recommendation", f"Report: {page}", "Audited in",
    ):  # fmt: skip
        assert text in output, text
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "truth read from the column" in page.read_text(encoding="utf-8")
    assert json.loads(data.read_text(encoding="utf-8"))["recommended"]
    assert run("audit", file, *QUICK)[:2] == (0, "")


def test_the_same_run_gives_the_same_json(run, tmp_path, labels):
    file = write(tmp_path, "npz", *labels)
    first, second = (run("audit", file, "--json", "-", "--liars", "1", "--quiet")[1] for _ in range(2))
    assert first == second


def test_a_panel_of_language_models_as_a_file(run, root):
    file = root / "estimators" / "datasets" / "data" / "llm_panels" / "mathl5.npz"
    code, output, errors = run("audit", file, "--json", "-", *QUICK)
    assert (code, errors) == (0, [])
    found, panel = json.loads(output), load_llm_panel("mathl5")
    for row, name, column in zip(found["specialists"], panel.specialist, panel.answers.T, strict=True):
        assert row["name"] == str(name)
        assert row["score"] == pytest.approx((column == panel.gold).mean())


@pytest.mark.parametrize("name", ["cruxeval", "digits"])
def test_demo(run, name, tmp_path):
    code, output, _ = run("demo", "--panel", name, "--liars", "0", "--html", tmp_path / "demo.html")
    assert code == 0
    assert "What each specialist is worth" in output
    assert (tmp_path / "demo.html").stat().st_size < 1_000_000


def test_demo_falls_back_to_the_digits_where_no_panel_is_shipped(run, monkeypatch):
    def nowhere(name):
        raise FileNotFoundError("not here")

    monkeypatch.setattr("estimators.datasets.load_llm_panel", nowhere)
    code, output, _ = run("demo", "--liars", "0")
    assert code == 0 and output.startswith("Handwritten digits")


def test_every_panel_can_be_named():
    assert set(llm_panel_names()) == {"mmlupro", "cruxeval", "mathl5", "gsm8k"}


def test_warnings_are_notes_of_one_line(run, tmp_path, labels, monkeypatch):
    def audit(self, *args, **kwargs):
        warnings.warn("something\nodd", FaultWarning, stacklevel=1)
        raise KeyboardInterrupt

    monkeypatch.setattr("estimators.audit.PanelAudit.fit", audit)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, output, errors = run("audit", write(tmp_path, "npz", *labels))
    assert (code, output) == (130, "")
    assert errors == ["consilience: note: something odd", "consilience: stopped"]


def test_out_of_memory_says_what_to_do(run, tmp_path, labels, monkeypatch):
    def audit(self, *args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("estimators.audit.PanelAudit.fit", audit)
    code, _, errors = run("audit", write(tmp_path, "npz", *labels))
    assert code == 2
    assert errors == [
        "consilience: error: out of memory; lower --max-samples, or give fewer specialists with --specialists."
    ]


# --- bad input: exit code 2, one line ----------------------------------------------------------------

HEAD = "item,ann,bob,truth\n"
ROWS = "1,a,b,a\n2,b,b,b\n3,a,a,a\n4,b,a,b\n5,a,a,b\n"
BAD_FILES = {
    "no truth": (
        "item,ann,bob\n1,a,b\n2,b,b\n3,a,a\n",
        [],
        "has no truth: none of item, ann, bob looks like one. Name .* with --truth NAME, or",
    ),
    "truth of another name": (
        HEAD + ROWS,
        ["--truth", "gold"],
        "has no column 'gold'.*It has item, ann, bob, truth",
    ),
    "unknown specialist": (HEAD + ROWS, ["--specialists", "ann,zoe"], "has no column 'zoe'"),
    "unknown column": (HEAD + ROWS, ["--layout", "long", "--specialist", "model"], "has no column 'model'"),
    "samples twice": (
        HEAD + ROWS + "5,a,a,b\n",
        [],
        "more than once in the column 'item': 5. .* with --sample COLUMN",
    ),
    "pair twice": (
        "item,specialist,answer,truth\n1,ann,a,a\n1,ann,b,a\n1,bob,a,a\n2,ann,a,b\n2,bob,b,b\n",
        [],
        r"more than once, the first is \(sample 1, specialist ann\)",
    ),
    "one specialist": (
        "item,ann,truth\n1,a,a\n2,b,b\n3,a,b\n4,b,b\n",
        [],
        r"one specialist only \(ann\); a panel needs at least two",
    ),
    "all answers equal": (
        "item,ann,bob,truth\n1,a,a,a\n2,a,a,b\n3,a,a,a\n4,a,a,b\n",
        [],
        "all specialists give the same answer on all 4 samples",
    ),
    "NaN in the truth": (HEAD + ROWS + "6,a,b,\n", [], "the truth of 1 of 6 samples is empty"),
    "NaN in a number's truth": (
        "ann,bob,truth\n1.5,2.5,1.0\n2.5,1.5,nan\n0.5,1.0,2.0\n3.5,1.0,2.5\n",
        [],
        "the truth of 1 of 4 samples",
    ),
    "infinite answers": (
        "ann,bob,truth\n1.5,inf,1.0\n2.5,1.5,2.0\n0.5,1.0,2.0\n3.5,1.0,2.5\n",
        [],
        "the panel holds infinite answers",
    ),
    "nobody answered": (
        "item,ann,bob,truth\n1,,a,a\n2,,b,b\n3,,a,b\n4,,b,b\n",
        [],
        "specialist 'ann' answered nothing",
    ),
    "no rows": (HEAD, [], "no rows below its header"),
    "too few samples": (HEAD + "1,a,b,a\n2,b,a,b\n", [], "at least 4 samples"),
    "empty": ("", [], "is empty"),
    "ragged": (HEAD + "1,a,b,a\n2,b\n3,a,b,a,c,d\n", [], "cannot be read"),
    "other labels": (
        "item,ann,bob,truth\n1,a,b,x\n2,b,a,y\n3,a,a,x\n4,b,b,y\n",
        [],
        "ever named a label of the truth.* with --truth.$",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_end_in_one_line(run, tmp_path, case):
    text, options, match = BAD_FILES[case]
    file = tmp_path / "panel.csv"
    file.write_text(text)
    code, output, errors = run("audit", file, "--liars", "0", *options)
    assert (code, output) == (2, ""), (output, errors)
    assert len(errors) == 1 and errors[0].startswith("consilience: error: ")
    assert re.search(match, errors[0]), errors[0]
    assert len(errors[0]) < 400


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["audit", "nowhere.csv"], "there is no file nowhere.csv"),
        (["audit", "panel.xyz"], "cannot tell what kind of file"),
        (
            ["audit", "{file}", "--html", "no/such/folder/page.html"],
            r"--html: there is no folder .*Make it first",
        ),
        (["audit", "{file}", "--json", "{folder}"], "--json: .* cannot be written"),
        (["audit", "{file}", "--cv", "1"], "--cv: must be at least 2; got 1"),
        (["audit", "{file}", "--cv", "five"], "'five' is no whole number"),
        (["audit", "{file}", "--liars", "-1"], "--liars: (must be at least 0; got -1|expected one argument)"),
        (["audit", "{file}", "--liars", "1,many"], "'many' is no whole number"),
        (["audit", "{file}", "--max-samples", "3"], "at least 4"),
        (["audit", "{file}", "--task", "poetry"], "invalid choice: 'poetry'"),
        (["audit"], "required: panel"),
        (["demo", "--panel", "iris"], "invalid choice: 'iris'"),
        (["dance"], "invalid choice: 'dance'"),
        ([], "required: command"),
    ],
)
def test_bad_arguments_end_in_one_line(run, tmp_path, arguments, match, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "panel.csv"
    file.write_text(HEAD + ROWS)
    code, output, errors = run(*(part.format(file=file, folder=tmp_path) for part in arguments))
    assert (code, output) == (2, "")
    assert len(errors) == 1
    assert re.search(match, errors[0]), errors[0]


def test_a_missing_extra_is_named_before_the_work(run, tmp_path, labels, monkeypatch):
    file = write(tmp_path, "npz", *labels)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, output, errors = run("audit", file, "--html", tmp_path / "page.html")
    assert (code, output) == (2, "")
    assert errors == [
        "consilience: error: --html needs matplotlib and jinja2: pip install 'consilience[report]'"
    ]


# --- as a process ------------------------------------------------------------------------------------


def process(*arguments, folder):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    return subprocess.run(
        [sys.executable, "-m", "estimators.cli", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip


def test_as_a_process(tmp_path, labels):
    file = write(tmp_path, "wide", *labels)
    done = process("audit", file.name, "--json", "-", "--liars", "1", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["task"] == "labels"
    done = process("audit", "gone.csv", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "consilience: error: there is no file gone.csv.\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a shell with pipes")
def test_a_reader_that_goes_away_is_no_crash(tmp_path, labels):
    file = write(tmp_path, "wide", *labels)
    command = f"{sys.executable} -m estimators.cli audit {file} --liars 0 | head -n 1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout == "w.csv\n"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_million_rows_of_fifty_specialists(run, tmp_path):
    rng = np.random.default_rng(0)
    n, y = 10**6, rng.integers(0, 4, 10**6)
    easy = rng.random(n) < 0.3
    columns = {
        f"m{j:02d}": np.where(rng.random(n) < 0.5 + 0.4 * easy, y, rng.integers(0, 4, n)).astype(np.int8)
        for j in range(50)
    }
    pd.DataFrame(columns | {"truth": y}).to_parquet(tmp_path / "big.parquet")
    code, output, errors = run("audit", tmp_path / "big.parquet", "--json", "-", *QUICK)
    assert code == 0, errors
    found = json.loads(output)
    assert found["n_samples"] == 50_000
    assert any("50,000 samples drawn at random from 1,000,000" in text for text in found["warnings"])
    assert len(found["specialists"]) == 50
