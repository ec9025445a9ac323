"""Real data inside: digits of six views, digits seen and heard, and four panels of language-model answers."""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "AVDigits": "av_digits",
    "LLMPanel": "llm_panels",
    "SixViewDigits": "mfeat",
    "ViewTask": "view_tasks",
    "llm_panel_names": "llm_panels",
    "load_av_digits": "av_digits",
    "load_llm_panel": "llm_panels",
    "load_mfeat": "mfeat",
    "load_view_task": "view_tasks",
    "view_task_names": "view_tasks",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from estimators.datasets.av_digits import AVDigits, load_av_digits
    from estimators.datasets.llm_panels import LLMPanel, llm_panel_names, load_llm_panel
    from estimators.datasets.mfeat import SixViewDigits, load_mfeat
    from estimators.datasets.view_tasks import ViewTask, load_view_task, view_task_names
