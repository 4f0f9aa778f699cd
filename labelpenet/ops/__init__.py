"""The kernels as functions on torch tensors; each can be used without the rest of the package."""

from labelpenet.ops.attention import accumulate_boxes, project_attention
from labelpenet.ops.boxes import box_iou
from labelpenet.ops.dense_crf import (
    BilateralKernel,
    GaussianKernel,
    Normalization,
    dense_crf,
    unary_from_probability,
)
from labelpenet.ops.excitation import PositiveWeights, excitation_maps, positive_weights
from labelpenet.ops.matching import contour, matching_scores, region_sums
from labelpenet.ops.nms import nms, nms_groups, nms_owners
from labelpenet.ops.peaks import find_peaks
from labelpenet.ops.roi_pool import roi_pool
from labelpenet.ops.selective_search import (
    RegionMasks,
    selective_search,
    selective_search_regions,
)

__all__ = [
    "BilateralKernel",
    "GaussianKernel",
    "Normalization",
    "PositiveWeights",
    "RegionMasks",
    "accumulate_boxes",
    "box_iou",
    "contour",
    "dense_crf",
    "excitation_maps",
    "find_peaks",
    "matching_scores",
    "nms",
    "nms_groups",
    "nms_owners",
    "positive_weights",
    "project_attention",
    "region_sums",
    "roi_pool",
    "selective_search",
    "selective_search_regions",
    "unary_from_probability",
]
