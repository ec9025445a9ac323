"""Fuse before any model: bring views to the same samples and clock, to the same scale, side by side."""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "BlockScaling": "scaling",
    "Ragged": "ragged",
    "ScaledConcat": "scaling",
    "align_views": "alignment",
    "concat_views": "scaling",
    "pool_ragged": "ragged",
    "resample_stream": "alignment",
    "scale_blocks": "scaling",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from fusion.early.alignment import align_views, resample_stream
    from fusion.early.ragged import Ragged, pool_ragged
    from fusion.early.scaling import BlockScaling, ScaledConcat, concat_views, scale_blocks
