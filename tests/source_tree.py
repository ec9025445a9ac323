"""The library's source as data: files, imports and export tables, read with ast and never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("theory", "fusion", "estimators")


@dataclass(frozen=True)
class Import:
    """One imported module: where, what, and whether importing the file loads it."""

    line: int
    module: str
    name: str | None
    at_top: bool
    type_checking: bool

    @property
    def distribution(self) -> str:
        """First component of the module's name."""
        return self.module.split(".")[0]


def source_files(*, tests: bool = False) -> list[Path]:
    """Return the Python files of the three packages, and of the tests and notebooks if asked."""
    folders = [*PACKAGES, "tests", "notebooks"] if tests else list(PACKAGES)
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """Return the dotted name of a file below the root."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, *, module: str = "", is_package: bool = False) -> list[Import]:
    """Return every import of a source text, relative ones resolved against ``module``."""
    return list(_walk(ast.parse(source).body, module, is_package, at_top=True, type_checking=False))


def _walk(
    body: list[ast.stmt], module: str, is_package: bool, *, at_top: bool, type_checking: bool
) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, None, at_top, type_checking)
        elif isinstance(node, ast.ImportFrom):
            target = _absolute(node, module, is_package)
            for alias in node.names:
                yield Import(node.lineno, target, alias.name, at_top, type_checking)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _walk(node.body, module, is_package, at_top=False, type_checking=type_checking)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _walk(node.body, module, is_package, at_top=False, type_checking=True)
            yield from _walk(node.orelse, module, is_package, at_top=at_top, type_checking=type_checking)
        else:
            blocks = [getattr(node, field, []) for field in ("body", "orelse", "finalbody")]
            blocks += [part.body for part in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]]
            for block in blocks:
                yield from _walk(block, module, is_package, at_top=at_top, type_checking=type_checking)
            for call in (
                part for part in ast.walk(node) if isinstance(part, ast.Call) and not _has_body(node)
            ):
                loaded = _import_module_argument(call)
                if loaded is not None:
                    yield Import(node.lineno, loaded, None, at_top, type_checking)


def _has_body(node: ast.stmt) -> bool:
    return bool(getattr(node, "body", None))


def _import_module_argument(call: ast.Call) -> str | None:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if called in {"import_module", "__import__"} and call.args and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    return None


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def export_table(init_source: str) -> dict[str, str]:
    """Return the literal ``_EXPORTS`` of a package's ``__init__``; empty if it has none."""
    for node in ast.parse(init_source).body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign):
            target = node.targets[0]
        if isinstance(target, ast.Name) and target.id == "_EXPORTS":
            return ast.literal_eval(node.value)
    return {}


def export_tables() -> dict[str, dict[str, str]]:
    """Return public name to full module name, for every package and subpackage that has a table."""
    tables = {}
    for path in source_files():
        if path.name == "__init__.py":
            package = module_name(path)
            table = export_table(path.read_text(encoding="utf-8"))
            if table or package in PACKAGES:
                tables[package] = {name: f"{package}.{module}" for name, module in table.items()}
    return tables
