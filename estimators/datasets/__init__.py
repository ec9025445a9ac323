"""Real data inside: the six-view digits, and four panels of language-model answers."""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "LLMPanel": "llm_panels",
    "SixViewDigits": "mfeat",
    "llm_panel_names": "llm_panels",
    "load_llm_panel": "llm_panels",
    "load_mfeat": "mfeat",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from estimators.datasets.llm_panels import LLMPanel, llm_panel_names, load_llm_panel
    from estimators.datasets.mfeat import SixViewDigits, load_mfeat
