"""The kernels as functions on torch tensors; each can be used without the rest of the package."""

from labelpenet.ops.attention import accumulate_boxes, project_attention
from labelpenet.ops.excitation import PositiveWeights, excitation_maps, positive_weights

__all__ = [
    "PositiveWeights",
    "accumulate_boxes",
    "excitation_maps",
    "positive_weights",
    "project_attention",
]
