"""Scikit-learn objects: wrap specialists, fit, predict, audit, price; the command line."""

from typing import TYPE_CHECKING

try:
    from theory._lazy import attach, check_siblings
except ImportError as error:
    raise ImportError(
        "the import name 'theory' belongs to another distribution than consilience. Uninstall that "
        "distribution, or use a virtual environment of its own."
    ) from error

check_siblings("estimators", __file__)

_EXPORTS: dict[str, str] = {
    "LLMPanel": "datasets.llm_panels",
    "SixViewDigits": "datasets.mfeat",
    "llm_panel_names": "datasets.llm_panels",
    "load_llm_panel": "datasets.llm_panels",
    "load_mfeat": "datasets.mfeat",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from estimators.datasets.llm_panels import LLMPanel, llm_panel_names, load_llm_panel
    from estimators.datasets.mfeat import SixViewDigits, load_mfeat
