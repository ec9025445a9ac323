"""The README's generated parts are what the code says, and its figures are those of the shipped data."""

import sys
from pathlib import Path

import pytest

from fusion import operator_names, operator_table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
readme = pytest.importorskip("readme")

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def between(mark):
    return TEXT.split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0]


def test_operator_table_is_the_registry():
    assert between("operators").strip() == operator_table().strip(), "run python tests/benchmarks/readme.py"


def test_every_operator_is_timed():
    for name in operator_names("late"):
        assert f"| `{name}` |" in between("bench:fusion"), (
            "run python tests/benchmarks/bench_fusion.py --readme"
        )


def test_theory_is_timed():
    assert "np.mean" in between("bench:theory"), "run python tests/benchmarks/bench_theory.py --readme"


def test_learned_fusions_are_timed():
    for peer in ("AutoGluon", "crowd-kit", "DESlib"):
        assert peer in between("bench:estimators"), "run python tests/benchmarks/bench_estimators.py --readme"


@pytest.mark.slow
def test_demo_figures_are_those_of_the_shipped_data():
    assert between("demo").strip() == readme.demo().strip(), "run python tests/benchmarks/readme.py"


def test_fill_replaces_only_between_its_marks(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n", encoding="utf-8")
    readme.fill("x", "new\\1", page)
    assert page.read_text(encoding="utf-8") == "a\n<!-- x -->\nnew\\1\n<!-- /x -->\nb\n"
    with pytest.raises(SystemExit, match="no marks"):
        readme.fill("y", "", page)
