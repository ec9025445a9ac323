"""Panels and their truth from files: tables (CSV, Parquet) and arrays (npz, NetCDF)."""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "PanelTable": "reader",
    "read_panel": "reader",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from estimators.readers.reader import PanelTable, read_panel
