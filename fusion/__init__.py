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
    "approval_vote": "late.ballots",
    "borda_count": "late.ballots",
    "bucketing": "late.preaggregation",
    "bulyan": "late.bulyan",
    "caf": "late.spectral",
    "cap_weights": "_arguments",
    "centered_clipping": "late.clipping",
    "certified_faults": "late.ballots",
    "cge": "late.nearest",
    "clip_norms": "late.preaggregation",
    "compose": "_compose",
    "decide": "late.votes",
    "dnc": "late.spectral",
    "fltrust": "late.trusted",
    "geometric_median": "late.geometric",
    "get_operator": "_registry",
    "get_pre_aggregator": "_registry",
    "inverse_covariance_mean": "late.inverse_covariance",
    "krum": "late.distance",
    "linear_pool": "late.pools",
    "log_pool": "late.pools",
    "mean": "late.pools",
    "mean_around_median": "late.order_means",
    "median": "late.order",
    "medoid": "late.nearest",
    "minimum_diameter_averaging": "late.subsets",
    "minimum_variance_averaging": "late.subsets",
    "monna": "late.nearest",
    "multi_krum": "late.distance",
    "nearest_neighbor_mixing": "late.preaggregation",
    "operator_names": "_registry",
    "operator_row": "_registry",
    "operator_table": "_registry",
    "phocas": "late.order_means",
    "plurality_vote": "late.votes",
    "project_to_simplex": "late.votes",
    "resilience": "_robustness",
    "robustness": "_robustness",
    "smea": "late.subsets",
    "threads": "_threads",
    "trimmed_mean": "late.order",
    "vote_shares": "late.votes",
    "vote_weights": "late.votes",
    "warm_up": "_warm",
    "winsorized_mean": "late.order_means",
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
