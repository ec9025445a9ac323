"""Fuse embeddings: one encoder per view, one of these modules behind them.

Every operator is a plain ``torch.nn.Module`` built from numbers and names,
``forward(views, mask=None, padding=None)`` gives a `FusionOut`. An absent view (mask False, a row of
nothing but NaN, a sequence without tokens) never touches a value or a gradient.
"""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "BottleneckFusion": "bottleneck",
    "ConcatFusion": "concat",
    "CrossAttentionFusion": "attention",
    "FiLMFusion": "gated",
    "FusionOut": "operator",
    "GatedFusion": "gated",
    "LowRankFusion": "bilinear",
    "MeanFusion": "concat",
    "MidOperator": "operator",
    "MidRow": "_rows",
    "MixtureOfExpertsFusion": "experts",
    "MonolithFusion": "monolith",
    "ProductOfExpertsFusion": "experts",
    "RobustFusion": "robust",
    "StreamAttention": "streams",
    "ViewTransformerFusion": "attention",
    "auxiliary_loss": "training",
    "blend_weights": "training",
    "consistency_gate": "training",
    "consistency_score": "training",
    "fit_width": "budget",
    "get_mid_operator": "_rows",
    "gradient_scales": "training",
    "mid_operator_names": "_rows",
    "mid_operator_row": "_rows",
    "mid_operator_table": "_rows",
    "param_count": "budget",
    "tensor_fusion": "bilinear",
    "view_dropout": "training",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from fusion.mid._rows import (
        MidRow,
        get_mid_operator,
        mid_operator_names,
        mid_operator_row,
        mid_operator_table,
    )
    from fusion.mid.attention import CrossAttentionFusion, ViewTransformerFusion
    from fusion.mid.bilinear import LowRankFusion, tensor_fusion
    from fusion.mid.bottleneck import BottleneckFusion
    from fusion.mid.budget import fit_width, param_count
    from fusion.mid.concat import ConcatFusion, MeanFusion
    from fusion.mid.experts import MixtureOfExpertsFusion, ProductOfExpertsFusion
    from fusion.mid.gated import FiLMFusion, GatedFusion
    from fusion.mid.monolith import MonolithFusion
    from fusion.mid.operator import FusionOut, MidOperator
    from fusion.mid.robust import RobustFusion
    from fusion.mid.streams import StreamAttention
    from fusion.mid.training import (
        auxiliary_loss,
        blend_weights,
        consistency_gate,
        consistency_score,
        gradient_scales,
        view_dropout,
    )
