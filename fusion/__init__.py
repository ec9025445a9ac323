"""Operators that fuse a panel: early, mid, late and by deliberation."""

try:
    from theory._lazy import attach, check_siblings
except ImportError as error:
    raise ImportError(
        "the import name 'theory' belongs to another distribution than consilience. Uninstall that "
        "distribution, or use a virtual environment of its own."
    ) from error

check_siblings("fusion", __file__)

_EXPORTS: dict[str, str] = {}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)
