"""The house rules, read off the source: layers, no circles, lazy heavyweights, sizes, names, no leftovers.

Each rule is a function from source to a list of faults, and each is shown a bad snippet it must object to.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from source_tree import ROOT, Import, export_tables, imports, module_name, source_files

MAX_LINES = 500
MAX_PUBLIC_FUNCTIONS = 10  # the house says "about 8"

FORBIDDEN = {
    "theory": {"fusion", "estimators", "sklearn", "joblib", "tests"},
    "fusion": {"estimators", "sklearn", "joblib", "tests"},
    "estimators": {"tests"},
}
# What a plain `import theory, fusion` must not load, so what no file there loads at its top.
HEAVY = {"scipy", "xarray", "pandas", "sklearn", "tqdm"}
# Extras: nobody may need them for importing the library.
EXTRAS = {"matplotlib", "jinja2", "httpx", "pydantic", "dask", "zarr", "pyarrow", "h5netcdf"}
TORCH_FILES = (
    "fusion.mid",
    "fusion._torch",
    "estimators.torch_specialist",
    "estimators.mid",
)
FORBIDDEN_NAMES = {"util", "utils", "core", "base", "common", "helper", "helpers", "misc"}
LEFTOVERS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|\bNotImplementedError\b")
MACHINE_PATHS = re.compile(r"(?<![\w.:/])/(?:home|root|work|Users|mnt|opt|tmp)/\w|[A-Z]:\\\\Users")
TEXT_FILES = ("*.py", "*.md", "*.toml", "*.txt", "*.yaml", "*.html", "*.css", "Makefile", "run")


def _in(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def _is_kernel_file(module: str) -> bool:
    return "_kernels" in module.split(".")


def layer_faults(module: str, found: list[Import]) -> list[str]:
    """Imports, at any depth, of a floor above."""
    forbidden = FORBIDDEN[module.split(".")[0]]
    return [f"line {item.line}: imports {item.module}" for item in found if item.distribution in forbidden]


def heavy_faults(module: str, found: list[Import]) -> list[str]:
    """Imports that make `import package` slow or need an extra."""
    package = module.split(".")[0]
    faults = []
    for item in found:
        name = item.distribution
        if name in {"numba", "llvmlite"} and not item.type_checking and not _is_kernel_file(module):
            faults.append(f"line {item.line}: {name} belongs in _kernels files only")
        if not item.at_top:
            continue
        if name == "torch" and not _in(module, TORCH_FILES):
            faults.append(
                f"line {item.line}: torch at the top; only torch files may (import it in the function)"
            )
        if name in EXTRAS:
            faults.append(
                f"line {item.line}: {name} at the top, but it is an extra (import it in the function)"
            )
        if name in HEAVY and package != "estimators":
            faults.append(f"line {item.line}: {name} at the top of {package} (import it in the function)")
    return faults


def private_sklearn_faults(module: str, found: list[Import]) -> list[str]:
    """Private scikit-learn names outside the one file that may hold them."""
    if module == "estimators._compat":
        return []
    return [
        f"line {item.line}: private {item.module}:{item.name}; go through estimators/_compat.py"
        for item in found
        if item.distribution == "sklearn"
        and any(part.startswith("_") for part in [*item.module.split("."), item.name or ""])
    ]


def numba_faults(source: str) -> list[str]:
    """Decorators that crash (numba #4807, #10128) or forget NaN (fastmath flags nnan, ninf, fast)."""
    tree = ast.parse(source)
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and getattr(node, "value", None) is not None:
                assigned.setdefault(target.id, []).append(node.value)
    faults = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        for item in call.keywords:
            values = [item.value, *assigned.get(getattr(item.value, "id", ""), [])]
            constants = {
                part.value for value in values for part in ast.walk(value) if isinstance(part, ast.Constant)
            }
            bad = {
                "parallel": True in constants,
                "fastmath": bool({True, "fast", "nnan", "ninf"} & constants),
                "cache": True in constants and name in {"guvectorize", "vectorize"},
            }.get(str(item.arg), False)
            if bad and name in {"njit", "jit", "guvectorize", "vectorize"}:
                faults.append(f"line {call.lineno}: {name} with {item.arg}")
    return faults


def text_faults(text: str) -> list[str]:
    """Paths of somebody's machine."""
    return [
        f"line {number}: {line.strip()[:80]}"
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]


def leftover_faults(source: str) -> list[str]:
    """Marks of unfinished work."""
    return [
        f"line {number}: {line.strip()[:80]}"
        for number, line in enumerate(source.splitlines(), 1)
        if LEFTOVERS.search(line)
    ]


def name_faults(path: Path) -> list[str]:
    """Modules whose name says nothing; `_base` is the one room the plan names so."""
    return [
        f"{part!r} says nothing about what is in it"
        for part in path.with_suffix("").parts
        if part.lstrip("_") in FORBIDDEN_NAMES and part != "_base"
    ]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """One circle per strongly connected part of an import graph."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> None:
        if node in path:
            circle = path[path.index(node) :]
            if not any(set(circle) == set(other) for other in found):
                found.append(circle)
        elif node not in done:
            for target in sorted(graph.get(node, ())):
                visit(target, [*path, node])
            done.add(node)

    for start in sorted(graph):
        visit(start, [])
    return found


def import_graph(
    sources: dict[str, tuple[str, bool]], tables: dict[str, dict[str, str]]
) -> dict[str, set[str]]:
    """Edges from a module to the modules its top-level imports load; lazy exports are followed.

    `sources` maps a module to its text and whether it is a package. Parents are not counted: importing a
    submodule always runs them first.
    """
    graph: dict[str, set[str]] = {}
    for module, (source, is_package) in sources.items():
        edges = set()
        for item in imports(source, module=module, is_package=is_package):
            if not item.at_top:
                continue
            target = item.module
            if item.name is not None:
                target = tables.get(target, {}).get(item.name, target)
                if f"{item.module}.{item.name}" in sources:
                    target = f"{item.module}.{item.name}"
            if target in sources and target != module:
                edges.add(target)
        graph[module] = edges
    return graph


def public_functions(source: str, exported: set[str]) -> list[str]:
    """Exported functions that a module defines at its top level."""
    return [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name in exported
    ]


def _report(check: Callable[[Path], list[str]], paths: list[Path]) -> None:
    faults = [f"{path.relative_to(ROOT)}: {fault}" for path in paths for fault in check(path)]
    assert not faults, "\n" + "\n".join(faults)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _imports(path: Path) -> list[Import]:
    return imports(_read(path), module=module_name(path), is_package=path.name == "__init__.py")


def test_there_is_something_to_check():
    names = {module_name(path) for path in source_files()}
    assert {"theory", "fusion", "estimators", "theory.panel"} <= names


def test_layers():
    _report(lambda path: layer_faults(module_name(path), _imports(path)), source_files())


def test_heavy_imports_are_lazy():
    _report(lambda path: heavy_faults(module_name(path), _imports(path)), source_files())


def test_private_sklearn_only_in_compat():
    _report(lambda path: private_sklearn_faults(module_name(path), _imports(path)), source_files())


def test_numba_decorators():
    _report(lambda path: numba_faults(_read(path)), source_files())


def test_no_circles():
    sources = {module_name(path): (_read(path), path.name == "__init__.py") for path in source_files()}
    found = circles(import_graph(sources, export_tables()))
    assert not found, "\n" + "\n".join(" -> ".join([*circle, circle[0]]) for circle in found)


def test_file_sizes():
    def check(path: Path) -> list[str]:
        n_lines = len(_read(path).splitlines())
        return [f"{n_lines} lines; split it by concept below {MAX_LINES}"] if n_lines > MAX_LINES else []

    _report(check, source_files(tests=True))


def test_module_names():
    _report(lambda path: name_faults(path.relative_to(ROOT)), source_files(tests=True))


def test_few_public_functions_a_file():
    exported: dict[str, set[str]] = {}
    for table in export_tables().values():
        for name, module in table.items():
            exported.setdefault(module, set()).add(name)

    def check(path: Path) -> list[str]:
        names = public_functions(_read(path), exported.get(module_name(path), set()))
        too_many = len(names) > MAX_PUBLIC_FUNCTIONS
        return [f"{len(names)} public functions: {', '.join(names)}"] if too_many else []

    _report(check, source_files())


def test_no_leftovers():
    _report(
        lambda path: leftover_faults(_read(path)),
        [p for p in source_files(tests=True) if p != Path(__file__)],
    )


def test_no_machine_paths():
    folders = ["theory", "fusion", "estimators", "tests", "notebooks", ".ci"]
    paths = [path for folder in folders for glob in TEXT_FILES for path in (ROOT / folder).rglob(glob)]
    paths += [path for glob in TEXT_FILES for path in ROOT.glob(glob)]
    _report(lambda path: text_faults(_read(path)), [path for path in paths if path != Path(__file__)])


def test_test_folders_shadow_nothing():
    tests = ROOT / "tests"
    assert not [name for name in ("theory", "fusion", "estimators") if (tests / name).exists()]
    assert not list(tests.rglob("__init__.py")), "test folders are no packages: file names are unique instead"
    names = [path.name for path in tests.rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (layer_faults, "theory.panel", "def f():\n    from fusion import mean"),
        (layer_faults, "theory.panel", "from estimators.audit import PanelAudit"),
        (layer_faults, "theory.panel", "def f():\n    return import_module('fusion.late')"),
        (layer_faults, "theory.panel", "if TYPE_CHECKING:\n    import fusion.late.order"),
        (layer_faults, "fusion.late.order", "class A:\n    import estimators"),
        (layer_faults, "fusion.late.order", "def f():\n    import sklearn.metrics"),
        (layer_faults, "fusion.late.order", "from ...estimators import audit"),
        (heavy_faults, "fusion.late.order", "import torch"),
        (heavy_faults, "estimators.audit", "try:\n    import torch\nexcept ImportError:\n    pass"),
        (heavy_faults, "fusion.late.order", "def f():\n    import numba"),
        (heavy_faults, "estimators.audit", "import matplotlib.pyplot as plt"),
        (heavy_faults, "theory.correlation", "from scipy.stats import norm"),
        (heavy_faults, "theory.correlation", "with a:\n    import xarray"),
        (private_sklearn_faults, "estimators.audit", "def f():\n    from sklearn.utils._tags import Tags"),
        (private_sklearn_faults, "estimators.audit", "from sklearn.utils import _safe_indexing"),
    ],
)
def test_rules_on_imports_can_fail(rule, module, source):
    assert rule(module, imports(source, module=module))


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (heavy_faults, "theory.correlation", "def f():\n    import scipy.stats\n    import torch"),
        (heavy_faults, "theory.correlation", "if TYPE_CHECKING:\n    import xarray\n    import torch"),
        (heavy_faults, "fusion._torch.order", "import torch"),
        (heavy_faults, "fusion._kernels.order", "from numba import njit"),
        (layer_faults, "estimators.audit", "from fusion import mean\nimport theory"),
        (private_sklearn_faults, "estimators._compat", "from sklearn.utils._tags import Tags"),
        (private_sklearn_faults, "estimators.audit", "from sklearn.base import clone"),
    ],
)
def test_rules_on_imports_can_pass(rule, module, source):
    assert not rule(module, imports(source, module=module))


@pytest.mark.parametrize(
    "code",
    [
        "@njit(parallel=True)\ndef f(x): ...",
        "@numba.njit(cache=True, fastmath=True)\ndef f(x): ...",
        "@njit(fastmath={'nnan', 'contract'})\ndef f(x): ...",
        "flags = True if quick else False\ng = njit(fastmath=flags)(f)",
        "@guvectorize(['f8'], '()', cache=True)\ndef f(x): ...",
    ],
)
def test_numba_rule_can_fail(code):
    assert numba_faults(code)
    assert not numba_faults("@njit(cache=True, nogil=True, fastmath={'contract'})\ndef f(x): ...")
    assert not numba_faults("flags: Any = {'reassoc'} if quick else False\ng = njit(fastmath=flags)(f)")


def test_circle_rule_can_fail():
    sources = {
        "theory": ("from theory._lazy import attach", True),
        "theory._lazy": ("import sys", False),
        "theory.a": ("from theory import g", False),  # a lazy export, resolved through the table
        "theory.b": ("from . import a\ndef g(): pass", False),
        "theory.c": ("def f():\n    from theory import a", False),
    }
    graph = import_graph(sources, {"theory": {"g": "theory.b"}})
    assert graph["theory.a"] == {"theory.b"}
    assert circles(graph) == [["theory.a", "theory.b"]]
    sources["theory.a"] = ("def f():\n    from theory import g", False)
    assert circles(import_graph(sources, {"theory": {"g": "theory.b"}})) == []


def test_rules_on_text_can_fail():
    mark = "TO" + "DO"
    assert leftover_faults(f"x = 1  # {mark}: later")
    assert not leftover_faults("todos = 1")
    assert text_faults("cache = '/" + "home/somebody/x'")
    assert not text_faults("see https://example.org/home/page and docs/home/plan")
    assert name_faults(Path("theory/_utils.py"))
    assert name_faults(Path("fusion/common/order.py"))
    assert not name_faults(Path("estimators/_base.py"))
    assert public_functions("def f(): ...\ndef g(): ...\ndef _h(): ...", {"f", "_h"}) == ["f", "_h"]
