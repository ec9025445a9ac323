"""What a panel of specialists and its errors are: correlation, variance, bounds, prices."""

from typing import TYPE_CHECKING

from theory._lazy import attach, check_siblings

check_siblings("theory", __file__)

_EXPORTS = {
    "PanelError": "_exceptions",
    "BudgetError": "_exceptions",
    "NotVerifiedError": "_exceptions",
    "QuorumError": "_exceptions",
    "StateError": "_exceptions",
    "FaultWarning": "_exceptions",
    "Wrap": "panel",
    "as_panel": "panel",
    "as_errors": "errors",
    "as_labels": "labels",
    "encode_labels": "labels",
    "panel_errors": "errors",
    "stack_specialists": "alignment",
    "ErrorMatrix": "correlation",
    "error_covariance": "correlation",
    "error_correlation": "correlation",
    "StreamingErrors": "streaming",
    "PairTests": "pair_tests",
    "correlated_pairs": "pair_tests",
    "LabelFreeAccuracy": "label_free",
    "accuracy_without_labels": "label_free",
    "price": "pricing.price",
    "Baseline": "pricing.baseline",
    "AttackTable": "pricing.attacks",
    "EscapeCurve": "pricing.attacks",
    "escape_curve": "pricing.attacks",
    "exaggeration_factor": "pricing.attacks",
    "replication_test": "pricing.attacks",
    "Settlement": "pricing.settlement",
    "deposit_needed": "pricing.settlement",
    "settle": "pricing.settlement",
    "wager": "pricing.settlement",
    "Clearing": "pricing.markets",
    "KellyPool": "pricing.markets",
    "LogMarket": "pricing.markets",
    "clear_uniform_price": "pricing.markets",
    "kelly_pool": "pricing.markets",
    "log_market": "pricing.markets",
    "Prices": "pricing.result",
    "Clones": "pricing.clones",
    "find_clones": "pricing.clones",
    "Newcomer": "variance",
    "VarianceReport": "variance",
    "diversification_ratio": "variance",
    "ensemble_variance": "variance",
    "newcomer_helps": "variance",
    "panel_beta": "variance",
    "variance_curve": "variance",
    "BiasVarianceCovariance": "bias_variance",
    "DiversityDecomposition": "decompositions",
    "VoteGain": "decompositions",
    "bias_variance_covariance": "bias_variance",
    "diversity_decomposition": "decompositions",
    "vote_gain": "decompositions",
    "InformationChain": "information",
    "gaussian_information": "information",
    "information_chain": "information",
    "v_information": "information",
    "Ambiguity": "diversity",
    "EffectiveNumber": "diversity",
    "ambiguity": "diversity",
    "effective_number": "diversity",
    "SimulatedAnswers": "simulate",
    "SimulatedPanel": "simulate",
    "correlated_panel": "simulate",
    "difficulty_panel": "simulate",
    "WeightingVerdict": "weights",
    "Weights": "weights",
    "is_weighting_worth_it": "weights",
    "min_variance_weights": "weights",
    "bhattacharyya": "bounds.bhattacharyya",
    "Bound": "bounds.result",
    "certificate": "bounds.certificates",
    "chernoff": "bounds.chernoff",
    "Consistency": "bounds.consistency",
    "consistency_bound": "bounds.consistency",
    "vote_bounds": "bounds.voting",
    "vote_error": "bounds.voting",
    "Agreement": "agreement",
    "error_agreement": "agreement",
    "BudgetSuggestion": "bounds.robustness",
    "certified_radius": "bounds.robustness",
    "SettledBudget": "bounds.partial",
    "partial_panel_bound": "bounds.partial",
    "settle_budget": "bounds.partial",
    "resilience_lower_bound": "bounds.robustness",
    "subset_resilience": "bounds.partial",
    "suggest_n_byzantine": "bounds.robustness",
    "Score": "collective",
    "group_accuracy": "collective",
    "calibration": "collective",
    "hypothesis_diversity": "collective",
    "conflict_resolution": "collective",
    "herding_index": "collective",
    "oracle_gap": "collective",
    "cost_per_correct": "collective",
    "PolyaExchange": "simulate",
    "polya_exchange": "simulate",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from theory._exceptions import (
        BudgetError,
        FaultWarning,
        NotVerifiedError,
        PanelError,
        QuorumError,
        StateError,
    )
    from theory.agreement import Agreement, error_agreement
    from theory.alignment import stack_specialists
    from theory.bias_variance import BiasVarianceCovariance, bias_variance_covariance
    from theory.bounds.bhattacharyya import bhattacharyya
    from theory.bounds.certificates import certificate
    from theory.bounds.chernoff import chernoff
    from theory.bounds.consistency import Consistency, consistency_bound
    from theory.bounds.partial import SettledBudget, partial_panel_bound, settle_budget, subset_resilience
    from theory.bounds.result import Bound
    from theory.bounds.robustness import (
        BudgetSuggestion,
        certified_radius,
        resilience_lower_bound,
        suggest_n_byzantine,
    )
    from theory.bounds.voting import vote_bounds, vote_error
    from theory.collective import (
        Score,
        calibration,
        conflict_resolution,
        cost_per_correct,
        group_accuracy,
        herding_index,
        hypothesis_diversity,
        oracle_gap,
    )
    from theory.correlation import ErrorMatrix, error_correlation, error_covariance
    from theory.decompositions import (
        DiversityDecomposition,
        VoteGain,
        diversity_decomposition,
        vote_gain,
    )
    from theory.diversity import Ambiguity, EffectiveNumber, ambiguity, effective_number
    from theory.errors import as_errors, panel_errors
    from theory.information import (
        InformationChain,
        gaussian_information,
        information_chain,
        v_information,
    )
    from theory.label_free import LabelFreeAccuracy, accuracy_without_labels
    from theory.labels import as_labels, encode_labels
    from theory.pair_tests import PairTests, correlated_pairs
    from theory.panel import Wrap, as_panel
    from theory.pricing.attacks import (
        AttackTable,
        EscapeCurve,
        escape_curve,
        exaggeration_factor,
        replication_test,
    )
    from theory.pricing.baseline import Baseline
    from theory.pricing.clones import Clones, find_clones
    from theory.pricing.markets import (
        Clearing,
        KellyPool,
        LogMarket,
        clear_uniform_price,
        kelly_pool,
        log_market,
    )
    from theory.pricing.price import price
    from theory.pricing.result import Prices
    from theory.pricing.settlement import Settlement, deposit_needed, settle, wager
    from theory.simulate import (
        PolyaExchange,
        SimulatedAnswers,
        SimulatedPanel,
        correlated_panel,
        difficulty_panel,
        polya_exchange,
    )
    from theory.streaming import StreamingErrors
    from theory.variance import (
        Newcomer,
        VarianceReport,
        diversification_ratio,
        ensemble_variance,
        newcomer_helps,
        panel_beta,
        variance_curve,
    )
    from theory.weights import WeightingVerdict, Weights, is_weighting_worth_it, min_variance_weights
