"""The public names are data: the export tables, `__all__`, the types seen by mypy, and the stored list agree.

After a wanted change: `make public-api`, then commit tests/public_api.txt with it.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import re
from pathlib import Path

import pytest
from source_tree import PACKAGES, ROOT, export_tables, imports, module_name, source_files

STORED = ROOT / "tests" / "public_api.txt"
TABLES = export_tables()


def signature(thing: object) -> str:
    """Return the parameters without annotations; an exception's are no part of the interface."""
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return ""
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except (TypeError, ValueError):
        return ""
    bare = inspect.Signature(
        [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    )
    return re.sub(r" at 0x[0-9a-f]+", "", str(bare))


def public_api() -> list[str]:
    """Return a line per public name: where it lives, what it is called, what it takes."""
    lines = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        lines += [f"{package}.{name}{signature(getattr(module, name))}" for name in module.__all__]
    return lines


@pytest.mark.parametrize("package", TABLES)
def test_all_is_the_sorted_table(package):
    module = importlib.import_module(package)
    assert module.__all__ == sorted(TABLES[package])
    assert dir(module) == module.__all__
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        module.no_such_name  # noqa: B018


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package, table in TABLES.items() for name in table]
)
def test_every_name_resolves_to_where_the_table_says(package, name):
    thing = getattr(importlib.import_module(package), name)
    assert not name.startswith("_")
    home = getattr(thing, "__module__", None)
    if home is not None and (inspect.isclass(thing) or inspect.isfunction(thing)):
        assert home == TABLES[package][name], f"{package}.{name} is defined in {home}"


@pytest.mark.parametrize("package", TABLES)
def test_type_checkers_see_the_same_names(package):
    path = ROOT.joinpath(*package.split("."), "__init__.py")
    found = imports(path.read_text(encoding="utf-8"), module=package, is_package=True)
    seen = {item.name: item.module for item in found if item.type_checking}
    assert seen == TABLES[package], (
        f"{package}/__init__.py: the imports under TYPE_CHECKING and _EXPORTS differ in "
        f"{sorted(set(seen.items()) ^ set(TABLES[package].items()))}"
    )


def hidden_names(module: str, source: str, exported: set[str]) -> list[str]:
    """Return public-looking functions and classes of a public module that no table exports.

    Only in theory and fusion, where what files share lives in underscored modules. The rooms of estimators
    hand parts to each other, and there the export table alone says what is public.
    """
    if module.split(".")[0] == "estimators" or any(part.startswith("_") for part in module.split(".")):
        return []
    defined = (
        f"{module}.{node.name}"
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
    )
    return [name for name in defined if name not in exported]


def test_public_looking_names_are_exported():
    exported = {f"{module}.{name}" for table in TABLES.values() for name, module in table.items()}
    hidden = [
        name
        for path in source_files()
        for name in hidden_names(module_name(path), path.read_text(encoding="utf-8"), exported)
    ]
    assert not hidden, f"export these, or give them an underscore: {', '.join(hidden)}"


def test_hidden_names_can_be_found():
    source = "def f(): ...\ndef _g(): ...\nclass H: ..."
    assert hidden_names("theory.x", source, {"theory.x.f"}) == ["theory.x.H"]
    assert hidden_names("theory._x", source, set()) == []
    assert hidden_names("estimators.x", source, set()) == []


def test_no_name_twice_in_two_packages():
    places: dict[str, set[str]] = {}
    for table in TABLES.values():
        for name, module in table.items():
            # The actions of a deliberation are a room of their own so that theirs may be called Defer, too.
            if not module.startswith("fusion.actions"):
                places.setdefault(name, set()).add(module)
    assert not {name: homes for name, homes in places.items() if len(homes) > 1}


def test_public_api_is_the_stored_one():
    stored = STORED.read_text(encoding="utf-8").splitlines() if STORED.exists() else []
    changes = [line for line in difflib.unified_diff(stored, public_api(), "stored", "now", lineterm="", n=0)]
    assert not changes, "the public names changed; if that is wanted: make public-api\n" + "\n".join(changes)


def test_layout_of_signatures():
    def example(panel: list[float], *, n_byzantine: int = 1) -> None: ...

    assert signature(example) == "(panel, *, n_byzantine=1)"
    assert signature(ValueError) == ""


if __name__ == "__main__":
    Path(STORED).write_text("\n".join(public_api()) + "\n", encoding="utf-8")
