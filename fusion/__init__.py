"""Operators that fuse a panel: early, mid, late and by deliberation."""

from typing import TYPE_CHECKING

try:
    from theory._lazy import attach, check_siblings
except ImportError as error:
    raise ImportError(
        "the import name 'theory' belongs to another distribution than consilience. Uninstall that "
        "distribution, or use a virtual environment of its own."
    ) from error

check_siblings("fusion", __file__)

_EXPORTS = {
    "AdaptiveClipping": "late.preaggregation",
    "Aksel": "late.nearest",
    "ApprovalVote": "late.ballots",
    "BordaCount": "late.ballots",
    "Bucketing": "late.preaggregation",
    "Bulyan": "late.bulyan",
    "Caf": "late.spectral",
    "CenteredClipping": "late.clipping",
    "Cge": "late.nearest",
    "ClipNorms": "late.preaggregation",
    "Dnc": "late.spectral",
    "FLTrust": "late.trusted",
    "GeometricMedian": "late.geometric",
    "InverseCovarianceMean": "late.inverse_covariance",
    "Krum": "late.distance",
    "LinearPool": "late.pools",
    "LogPool": "late.pools",
    "Mean": "late.pools",
    "MeanAroundMedian": "late.order_means",
    "Median": "late.order",
    "Medoid": "late.nearest",
    "MinimumDiameterAveraging": "late.subsets",
    "MinimumVarianceAveraging": "late.subsets",
    "Monna": "late.nearest",
    "MultiKrum": "late.distance",
    "NearestNeighborMixing": "late.preaggregation",
    "Operator": "_operator",
    "Phocas": "late.order_means",
    "PluralityVote": "late.votes",
    "Resilience": "_resilience",
    "Robustness": "_robustness",
    "Row": "_row",
    "Smea": "late.subsets",
    "TrimmedMean": "late.order",
    "WinsorizedMean": "late.order_means",
    "adaptive_clipping": "late.preaggregation",
    "aksel": "late.nearest",
    "aksel_weights": "late.contributions",
    "approval_vote": "late.ballots",
    "approval_vote_weights": "late.contributions",
    "borda_count": "late.ballots",
    "borda_count_weights": "late.contributions",
    "bucketing": "late.preaggregation",
    "bulyan": "late.bulyan",
    "bulyan_weights": "late.contributions",
    "caf": "late.spectral",
    "caf_weights": "late.contributions",
    "cap_weights": "_arguments",
    "centered_clipping": "late.clipping",
    "centered_clipping_weights": "late.contributions",
    "certified_faults": "late.ballots",
    "cge": "late.nearest",
    "cge_weights": "late.contributions",
    "clip_norms": "late.preaggregation",
    "compose": "_compose",
    "decide": "late.votes",
    "dnc": "late.spectral",
    "dnc_weights": "late.contributions",
    "fltrust": "late.trusted",
    "fltrust_weights": "late.contributions",
    "geometric_median": "late.geometric",
    "geometric_median_weights": "late.contributions",
    "get_operator": "_registry",
    "get_pre_aggregator": "_registry",
    "inverse_covariance_mean": "late.inverse_covariance",
    "inverse_covariance_mean_weights": "late.contributions",
    "krum": "late.distance",
    "krum_weights": "late.contributions",
    "linear_pool": "late.pools",
    "linear_pool_weights": "late.contributions",
    "log_pool": "late.pools",
    "log_pool_weights": "late.contributions",
    "mean": "late.pools",
    "mean_around_median": "late.order_means",
    "mean_around_median_weights": "late.contributions",
    "mean_weights": "late.contributions",
    "median": "late.order",
    "median_weights": "late.contributions",
    "medoid": "late.nearest",
    "medoid_weights": "late.contributions",
    "minimum_diameter_averaging": "late.subsets",
    "minimum_diameter_averaging_weights": "late.contributions",
    "minimum_variance_averaging": "late.subsets",
    "minimum_variance_averaging_weights": "late.contributions",
    "monna": "late.nearest",
    "monna_weights": "late.contributions",
    "multi_krum": "late.distance",
    "multi_krum_weights": "late.contributions",
    "nearest_neighbor_mixing": "late.preaggregation",
    "operator_names": "_registry",
    "operator_row": "_registry",
    "operator_table": "_registry",
    "phocas": "late.order_means",
    "phocas_weights": "late.contributions",
    "plurality_vote": "late.votes",
    "plurality_vote_weights": "late.contributions",
    "project_to_simplex": "late.votes",
    "resilience": "_robustness",
    "robustness": "_robustness",
    "smea": "late.subsets",
    "smea_weights": "late.contributions",
    "threads": "_threads",
    "trimmed_mean": "late.order",
    "trimmed_mean_weights": "late.contributions",
    "vote_shares": "late.votes",
    "vote_weights": "late.votes",
    "warm_up": "_warm",
    "winsorized_mean": "late.order_means",
    "winsorized_mean_weights": "late.contributions",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from fusion._arguments import cap_weights
    from fusion._compose import compose
    from fusion._operator import Operator
    from fusion._registry import (
        get_operator,
        get_pre_aggregator,
        operator_names,
        operator_row,
        operator_table,
    )
    from fusion._resilience import Resilience
    from fusion._robustness import Robustness, resilience, robustness
    from fusion._row import Row
    from fusion._threads import threads
    from fusion._warm import warm_up
    from fusion.late.ballots import ApprovalVote, BordaCount, approval_vote, borda_count, certified_faults
    from fusion.late.bulyan import Bulyan, bulyan
    from fusion.late.clipping import CenteredClipping, centered_clipping
    from fusion.late.contributions import (
        aksel_weights,
        approval_vote_weights,
        borda_count_weights,
        bulyan_weights,
        caf_weights,
        centered_clipping_weights,
        cge_weights,
        dnc_weights,
        fltrust_weights,
        geometric_median_weights,
        inverse_covariance_mean_weights,
        krum_weights,
        linear_pool_weights,
        log_pool_weights,
        mean_around_median_weights,
        mean_weights,
        median_weights,
        medoid_weights,
        minimum_diameter_averaging_weights,
        minimum_variance_averaging_weights,
        monna_weights,
        multi_krum_weights,
        phocas_weights,
        plurality_vote_weights,
        smea_weights,
        trimmed_mean_weights,
        winsorized_mean_weights,
    )
    from fusion.late.distance import Krum, MultiKrum, krum, multi_krum
    from fusion.late.geometric import GeometricMedian, geometric_median
    from fusion.late.inverse_covariance import InverseCovarianceMean, inverse_covariance_mean
    from fusion.late.nearest import Aksel, Cge, Medoid, Monna, aksel, cge, medoid, monna
    from fusion.late.order import Median, TrimmedMean, median, trimmed_mean
    from fusion.late.order_means import (
        MeanAroundMedian,
        Phocas,
        WinsorizedMean,
        mean_around_median,
        phocas,
        winsorized_mean,
    )
    from fusion.late.pools import LinearPool, LogPool, Mean, linear_pool, log_pool, mean
    from fusion.late.preaggregation import (
        AdaptiveClipping,
        Bucketing,
        ClipNorms,
        NearestNeighborMixing,
        adaptive_clipping,
        bucketing,
        clip_norms,
        nearest_neighbor_mixing,
    )
    from fusion.late.spectral import Caf, Dnc, caf, dnc
    from fusion.late.subsets import (
        MinimumDiameterAveraging,
        MinimumVarianceAveraging,
        Smea,
        minimum_diameter_averaging,
        minimum_variance_averaging,
        smea,
    )
    from fusion.late.trusted import FLTrust, fltrust
    from fusion.late.votes import (
        PluralityVote,
        decide,
        plurality_vote,
        project_to_simplex,
        vote_shares,
        vote_weights,
    )
