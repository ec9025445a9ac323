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
    "panel_errors": "panel",
    "stack_specialists": "panel",
}
__all__ = sorted(_EXPORTS)  # noqa: PLE0605

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from theory._exceptions import BudgetError, FaultWarning, NotVerifiedError, PanelError
    from theory.panel import as_panel, panel_errors, stack_specialists
