"""Lazy exports (PEP 562) and the check that the three packages belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PACKAGES = ("theory", "fusion", "estimators")


def attach(package: str, exports: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the module-level ``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    package : str
        Import name of the package.
    exports : mapping of str to str
        Public name to the submodule (relative, without leading dot) that holds it.

    Returns
    -------
    getattr, dir : callables
        To be bound to ``__getattr__`` and ``__dir__`` in the package's ``__init__``.
    """

    def lazy_getattr(name: str) -> Any:
        if name in exports:
            return getattr(import_module(f"{package}.{exports[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def lazy_dir() -> list[str]:
        return sorted(exports)

    return lazy_getattr, lazy_dir


def check_siblings(package: str, file: str) -> None:
    """Raise when another distribution owns the import name of one of our packages.

    Parameters
    ----------
    package : str
        Import name of the package that is being imported.
    file : str
        Its ``__file__``.

    Raises
    ------
    ImportError
        If a sibling is missing or lies in another folder.
    """
    home = Path(file).resolve().parent.parent
    for sibling in _PACKAGES:
        if sibling == package:
            continue
        spec = find_spec(sibling)
        origin = None if spec is None else spec.origin
        if origin is None:
            raise ImportError(
                f"consilience is incomplete: package {sibling!r} is missing beside {package!r} in {home}. "
                "Reinstall with: pip install --force-reinstall consilience"
            )
        if Path(origin).resolve().parent.parent != home:
            raise ImportError(
                f"the import name {sibling!r} belongs to another distribution ({origin}); consilience needs its "
                f"own {sibling!r} in {home}. Uninstall that distribution (find it with: "
                f"pip show -f NAME), or use a virtual environment of its own."
            )
