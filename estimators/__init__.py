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
    "CallableSpecialist": "callable_specialist",
    "CircuitBreaker": "breaker",
    "CovarianceWeights": "weights",
    "Deadline": "panel_clock",
    "DecorrelatedSelection": "selection",
    "DynamicSelection": "dynamic",
    "FusedAnswer": "asked_fusion",
    "Gate": "gating",
    "GreedySelection": "selection",
    "OneVsRestCalibration": "calibration",
    "PanelAnswer": "panel_answer",
    "PanelAudit": "audit",
    "PanelExecutor": "execution",
    "PanelFusionClassifier": "panel_fusion",
    "PanelFusionRegressor": "panel_fusion",
    "PanelTransformer": "panel_transformer",
    "PrecomputedSpecialist": "precomputed",
    "RobustFusionClassifier": "ensemble",
    "RobustFusionRegressor": "ensemble",
    "SkillWeights": "weights",
    "Specialist": "specialists",
    "TemperatureScaling": "calibration",
    "TopSpecialists": "weights",
    "TruthInference": "truth",
    "Views": "views",
    "ask_and_fuse": "asked_fusion",
    "ask_panel": "execution",
    "fuse_answer": "asked_fusion",
    "learned_fusion_names": "fusions",
    "load_state": "state",
    "make_fusion": "team",
    "save_state": "state",
    "PanelTable": "readers.reader",
    "read_panel": "readers.reader",
    "LLMPanel": "datasets.llm_panels",
    "SixViewDigits": "datasets.mfeat",
    "llm_panel_names": "datasets.llm_panels",
    "load_llm_panel": "datasets.llm_panels",
    "load_mfeat": "datasets.mfeat",
    "Critic": "critic",
    "Adjudicator": "critic",
    "DeliberativeClassifier": "deliberation",
    "Escalation": "escalation",
    "DeliberativeRegressor": "deliberation_regression",
    "Deliberated": "deliberation_report",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from estimators.asked_fusion import FusedAnswer, ask_and_fuse, fuse_answer
    from estimators.audit import PanelAudit
    from estimators.breaker import CircuitBreaker
    from estimators.calibration import OneVsRestCalibration, TemperatureScaling
    from estimators.callable_specialist import CallableSpecialist
    from estimators.critic import Adjudicator, Critic
    from estimators.datasets.llm_panels import LLMPanel, llm_panel_names, load_llm_panel
    from estimators.datasets.mfeat import SixViewDigits, load_mfeat
    from estimators.deliberation import DeliberativeClassifier
    from estimators.deliberation_regression import DeliberativeRegressor
    from estimators.deliberation_report import Deliberated
    from estimators.dynamic import DynamicSelection
    from estimators.ensemble import RobustFusionClassifier, RobustFusionRegressor
    from estimators.escalation import Escalation
    from estimators.execution import PanelExecutor, ask_panel
    from estimators.fusions import learned_fusion_names
    from estimators.gating import Gate
    from estimators.panel_answer import PanelAnswer
    from estimators.panel_clock import Deadline
    from estimators.panel_fusion import PanelFusionClassifier, PanelFusionRegressor
    from estimators.panel_transformer import PanelTransformer
    from estimators.precomputed import PrecomputedSpecialist
    from estimators.readers.reader import PanelTable, read_panel
    from estimators.selection import DecorrelatedSelection, GreedySelection
    from estimators.specialists import Specialist
    from estimators.stacking import Arbiter
    from estimators.state import load_state, save_state
    from estimators.team import make_fusion
    from estimators.truth import TruthInference
    from estimators.views import Views
    from estimators.weights import CovarianceWeights, SkillWeights, TopSpecialists
