"""Docstrings: sections that match the signature, an example for every public name, examples that run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import sys
import textwrap
from dataclasses import fields, is_dataclass

import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate
from source_tree import PACKAGES, ROOT, export_tables, module_name, source_files

# The sections must be there and match; wording and blank lines are ruff's (pydocstyle) business.
SECTIONS = {
    "GL06": "unknown section",
    "GL07": "sections in the wrong order",
    "GL08": "no docstring",
    "SS01": "no summary",
    "SS02": "summary without a capital",
    "SS03": "summary without a period",
    "PR01": "parameter not documented",
    "PR02": "documented parameter does not exist",
    "PR03": "parameters in the wrong order",
    "PR04": "parameter without a type",
    "PR07": "parameter without a description",
    "PR10": "needs a space before the colon",
    "RT01": "no Returns section",
    "YD01": "no Yields section",
}
PARAMETERS = {"PR01", "PR02", "PR03", "PR04", "PR07", "PR10"}
TABLES = export_tables()
PUBLIC = sorted({f"{module}.{name}" for table in TABLES.values() for name, module in table.items()})
DOCTEST = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def load(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def split_names(entries: list) -> list[str]:
    """Return the names of numpydoc entries; `weights, support : ndarray` documents two."""
    return [name.strip().lstrip("*") for entry in entries for name in entry.name.split(",")]


def section_faults(name: str) -> list[str]:
    """Return what numpydoc objects to in the docstring of a public object and of its own methods."""
    thing = load(name)
    faults = []
    for target in [name, *(f"{name}.{method}" for method in own_methods(thing))]:
        codes = dict(SECTIONS)
        if target == name and documents_fields(thing):
            codes = {code: text for code, text in codes.items() if code not in PARAMETERS}
        if target != name and not takes_arguments(thing, target):
            codes = {code: text for code, text in codes.items() if code != "RT01"}
        faults += [f"{target}: {code} {text}" for code, text in validate(target)["errors"] if code in codes]
    return faults + field_faults(name, thing)


def own_methods(thing: object) -> list[str]:
    """Return public methods and properties that a class defines itself, inherited ones left out."""
    if not inspect.isclass(thing):
        return []
    return [
        name
        for name, member in vars(thing).items()
        if not name.startswith("_")
        and (callable(member) or isinstance(member, (property, classmethod, staticmethod)))
        and getattr(inspect.unwrap(getattr(member, "__func__", member)), "__module__", thing.__module__)
        == thing.__module__
        and not inspect.isclass(member)
    ]


def takes_arguments(thing: object, target: str) -> bool:
    """Return whether a method takes more than self; one that does not may be told in one line."""
    member = inspect.getattr_static(thing, target.rpartition(".")[2])
    if isinstance(member, property):
        return False
    return len(inspect.signature(getattr(member, "__func__", member)).parameters) > 1


def documents_fields(thing: object) -> bool:
    """Return whether a result class lists its fields as Attributes, as users never construct it."""
    return inspect.isclass(thing) and is_dataclass(thing) and bool(ClassDoc(thing)["Attributes"])


def field_faults(name: str, thing: object) -> list[str]:
    """Return fields of a dataclass that neither Attributes nor Parameters mention."""
    if not (inspect.isclass(thing) and is_dataclass(thing)):
        return []
    written = vars(thing).get("__doc__") or ""
    documented = set()
    if written:
        doc = ClassDoc(thing, config={"show_class_members": False})
        documented = {*split_names(doc["Attributes"]), *split_names(doc["Parameters"])}
    return [
        f"{name}: field {item.name} not documented"
        for item in fields(thing)
        if item.name not in documented and not item.name.startswith("_")
    ]


def raises_faults(name: str) -> list[str]:
    """Return a fault where a function raises in its own body and says nothing about it."""
    thing = load(name)
    functions = {name: thing} if inspect.isfunction(thing) else {}
    if inspect.isclass(thing):
        functions = {f"{name}.{key}": vars(thing)[key] for key in own_methods(thing)}
    faults = []
    for label, function in functions.items():
        function = inspect.unwrap(getattr(function, "__func__", function))
        if not inspect.isfunction(function):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        raises = [node for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None]
        if raises and "Raises\n" not in (inspect.getdoc(function) or ""):
            faults.append(f"{label}: raises, but has no Raises section")
    return faults


def example_faults(name: str) -> list[str]:
    """Return a fault where a public object shows no example that runs."""
    thing = load(name)
    if inspect.isclass(thing) and (issubclass(thing, BaseException) or documents_fields(thing)):
        return []  # errors and results are shown by the functions that raise and return them
    if not (inspect.isclass(thing) or callable(thing)):
        return []
    doc = thing.__doc__ or ""
    return [] if "Examples\n" in doc and ">>>" in doc else [f"{name}: no Examples section with a doctest"]


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring(name):
    faults = [*section_faults(name), *raises_faults(name), *example_faults(name)]
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("module", [module_name(path) for path in source_files()])
def test_examples_run(module):
    loaded = importlib.import_module(module)
    assert loaded.__doc__, f"{module} has no docstring"
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=DOCTEST, verbose=False)
    output: list[str] = []
    for test in finder.find(loaded, module):
        skipped = [example.source.strip() for example in test.examples if example.options.get(doctest.SKIP)]
        assert not skipped, f"{test.name} skips its own examples: {skipped}"
        runner.run(test, out=output.append)
    assert not runner.failures, "".join(output)


def test_readme_examples_run(tmp_path, monkeypatch):
    """The README's Python blocks, top to bottom in one namespace: a newcomer runs them first."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M
    )
    namespace: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"README.md, Python block {number}", "exec"), namespace)


def test_there_are_names_in_every_package():
    assert {name.split(".")[0] for name in PUBLIC} == set(PACKAGES)


def write_module(folder, monkeypatch, source: str) -> None:
    (folder / "badly_documented.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    sys.modules.pop("badly_documented", None)


def test_rules_can_fail(tmp_path, monkeypatch):
    write_module(
        tmp_path,
        monkeypatch,
        '''
        from dataclasses import dataclass

        def bare(panel): ...

        def wrong(panel, *, weights=None):
            """sum of things

            Parameters
            ----------
            panel
                What they said.
            weight : float
                Unknown.
            """
            if weights:
                raise ValueError("no")
            return 1

        @dataclass(frozen=True)
        class Result:
            """A result.

            Attributes
            ----------
            value : float
                The value.
            """

            value: float
            forgotten: float

            def method(self): ...
        ''',
    )
    assert "badly_documented.bare: GL08" in "".join(section_faults("badly_documented.bare"))
    faults = "\n".join(section_faults("badly_documented.wrong"))
    for code in ("SS02", "SS03", "PR01", "PR02", "PR04", "RT01"):
        assert code in faults, f"{code} not seen in {faults}"
    assert raises_faults("badly_documented.wrong")
    assert example_faults("badly_documented.wrong")
    faults = "\n".join(section_faults("badly_documented.Result"))
    assert "field forgotten not documented" in faults
    assert "Result.method: GL08" in faults
    assert "field value" not in faults
