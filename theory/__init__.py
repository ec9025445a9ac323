"""What a panel of specialists and its errors are: correlation, variance, bounds, prices."""

from typing import TYPE_CHECKING

from theory._lazy import attach, check_siblings

check_siblings("theory", __file__)

_EXPORTS = {
    "PanelError": "_exceptions",
    "BudgetError": "_exceptions",
    "NotVerifiedError": "_exceptions",
    "FaultWarning": "_exceptions",
    "as_panel": "panel",
    "as_errors": "errors",
    "as_labels": "labels",
    "encode_labels": "labels",
    "panel_errors": "errors",
    "stack_specialists": "alignment",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from theory._exceptions import BudgetError, FaultWarning, NotVerifiedError, PanelError
    from theory.alignment import stack_specialists
    from theory.errors import as_errors, panel_errors
    from theory.labels import as_labels, encode_labels
    from theory.panel import as_panel
