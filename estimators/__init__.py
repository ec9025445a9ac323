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
    "Arbiter": "stacking",
    "CovarianceWeights": "weights",
    "DecorrelatedSelection": "selection",
    "DynamicSelection": "dynamic",
    "EarlyFusionClassifier": "early",
    "EarlyFusionRegressor": "early",
    "Gate": "gating",
    "GreedySelection": "selection",
    "OneVsRestCalibration": "calibration",
    "MidFusionClassifier": "mid.classifier",
    "MidFusionRegressor": "mid.regressor",
    "PanelAudit": "audit",
    "RobustFusionClassifier": "ensemble",
    "RobustFusionRegressor": "ensemble",
    "SkillWeights": "weights",
    "Specialist": "specialists",
    "StageComparison": "stages.comparison",
    "TemperatureScaling": "calibration",
    "TopSpecialists": "weights",
    "TruthInference": "truth",
    "Views": "views",
    "alignment_score": "alignment",
    "compare_stages": "stages.comparison",
    "equal_budget_experiment": "stages.experiment",
    "learned_fusion_names": "fusions",
    "make_fusion": "team",
    "PanelTable": "readers.reader",
    "read_panel": "readers.reader",
    "AVDigits": "datasets.av_digits",
    "LLMPanel": "datasets.llm_panels",
    "SixViewDigits": "datasets.mfeat",
    "ViewTask": "datasets.view_tasks",
    "llm_panel_names": "datasets.llm_panels",
    "load_llm_panel": "datasets.llm_panels",
    "load_av_digits": "datasets.av_digits",
    "load_mfeat": "datasets.mfeat",
    "load_view_task": "datasets.view_tasks",
    "view_task_names": "datasets.view_tasks",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from estimators.alignment import alignment_score
    from estimators.audit import PanelAudit
    from estimators.calibration import OneVsRestCalibration, TemperatureScaling
    from estimators.datasets.av_digits import AVDigits, load_av_digits
    from estimators.datasets.llm_panels import LLMPanel, llm_panel_names, load_llm_panel
    from estimators.datasets.mfeat import SixViewDigits, load_mfeat
    from estimators.datasets.view_tasks import ViewTask, load_view_task, view_task_names
    from estimators.dynamic import DynamicSelection
    from estimators.early import EarlyFusionClassifier, EarlyFusionRegressor
    from estimators.ensemble import RobustFusionClassifier, RobustFusionRegressor
    from estimators.fusions import learned_fusion_names
    from estimators.gating import Gate
    from estimators.mid.classifier import MidFusionClassifier
    from estimators.mid.regressor import MidFusionRegressor
    from estimators.readers.reader import PanelTable, read_panel
    from estimators.selection import DecorrelatedSelection, GreedySelection
    from estimators.specialists import Specialist
    from estimators.stacking import Arbiter
    from estimators.stages.comparison import StageComparison, compare_stages
    from estimators.stages.experiment import equal_budget_experiment
    from estimators.team import make_fusion
    from estimators.truth import TruthInference
    from estimators.views import Views
    from estimators.weights import CovarianceWeights, SkillWeights, TopSpecialists
