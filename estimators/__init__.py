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
    "AutoFusion": "choice",
    "CovarianceWeights": "weights",
    "Deadline": "panel_clock",
    "DecorrelatedSelection": "selection",
    "Defer": "deferral",
    "DynamicSelection": "dynamic",
    "FusedAnswer": "asked_fusion",
    "EscalationCurve": "escalation",
    "FusionResult": "result",
    "Gate": "gating",
    "GreedySelection": "selection",
    "OneVsRestCalibration": "calibration",
    "PanelAnswer": "panel_answer",
    "EarlyFusionClassifier": "early",
    "EarlyFusionRegressor": "early",
    "MidFusionClassifier": "mid.classifier",
    "MidFusionRegressor": "mid.regressor",
    "PanelAudit": "audit",
    "PanelExecutor": "execution",
    "PanelFusionClassifier": "panel_fusion",
    "PanelFusionRegressor": "panel_fusion",
    "PanelTransformer": "panel_transformer",
    "PrecomputedSpecialist": "precomputed",
    "RobustFusionClassifier": "ensemble",
    "RobustFusionRegressor": "ensemble_regressor",
    "SkillWeights": "weights",
    "Specialist": "specialists",
    "StageComparison": "stages.comparison",
    "TemperatureScaling": "calibration",
    "TopSpecialists": "weights",
    "TrackRecord": "online",
    "TruthInference": "truth",
    "Views": "views",
    "ask_and_fuse": "asked_fusion",
    "ask_panel": "execution",
    "fuse_answer": "asked_fusion",
    "RiskCoverage": "deferral",
    "escalation_curve": "escalation",
    "risk_coverage": "deferral",
    "alignment_score": "alignment",
    "compare_stages": "stages.comparison",
    "equal_budget_experiment": "stages.experiment",
    "learned_fusion_names": "fusions",
    "load_state": "state",
    "make_fusion": "team",
    "save_state": "state",
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
    "Critic": "critic",
    "Adjudicator": "critic",
    "DeliberativeClassifier": "deliberation",
    "Escalation": "deliberation_escalation",
    "DeliberativeRegressor": "deliberation_regression",
    "Deliberated": "deliberation_report",
    "DeliberatedNumbers": "deliberation_report",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from estimators.alignment import alignment_score
    from estimators.asked_fusion import FusedAnswer, ask_and_fuse, fuse_answer
    from estimators.audit import PanelAudit
    from estimators.breaker import CircuitBreaker
    from estimators.calibration import OneVsRestCalibration, TemperatureScaling
    from estimators.callable_specialist import CallableSpecialist
    from estimators.choice import AutoFusion
    from estimators.critic import Adjudicator, Critic
    from estimators.datasets.av_digits import AVDigits, load_av_digits
    from estimators.datasets.llm_panels import LLMPanel, llm_panel_names, load_llm_panel
    from estimators.datasets.mfeat import SixViewDigits, load_mfeat
    from estimators.datasets.view_tasks import ViewTask, load_view_task, view_task_names
    from estimators.deferral import Defer, RiskCoverage, risk_coverage
    from estimators.deliberation import DeliberativeClassifier
    from estimators.deliberation_escalation import Escalation
    from estimators.deliberation_regression import DeliberativeRegressor
    from estimators.deliberation_report import Deliberated, DeliberatedNumbers
    from estimators.dynamic import DynamicSelection
    from estimators.early import EarlyFusionClassifier, EarlyFusionRegressor
    from estimators.ensemble import RobustFusionClassifier
    from estimators.ensemble_regressor import RobustFusionRegressor
    from estimators.escalation import EscalationCurve, escalation_curve
    from estimators.execution import PanelExecutor, ask_panel
    from estimators.fusions import learned_fusion_names
    from estimators.gating import Gate
    from estimators.mid.classifier import MidFusionClassifier
    from estimators.mid.regressor import MidFusionRegressor
    from estimators.online import TrackRecord
    from estimators.panel_answer import PanelAnswer
    from estimators.panel_clock import Deadline
    from estimators.panel_fusion import PanelFusionClassifier, PanelFusionRegressor
    from estimators.panel_transformer import PanelTransformer
    from estimators.precomputed import PrecomputedSpecialist
    from estimators.readers.reader import PanelTable, read_panel
    from estimators.result import FusionResult
    from estimators.selection import DecorrelatedSelection, GreedySelection
    from estimators.specialists import Specialist
    from estimators.stacking import Arbiter
    from estimators.stages.comparison import StageComparison, compare_stages
    from estimators.stages.experiment import equal_budget_experiment
    from estimators.state import load_state, save_state
    from estimators.team import make_fusion
    from estimators.truth import TruthInference
    from estimators.views import Views
    from estimators.weights import CovarianceWeights, SkillWeights, TopSpecialists
