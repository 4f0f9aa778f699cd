"""The ops and metrics in plain torch and numpy, equation by equation: what tests compare with."""

from labelpenet.reference.attention import accumulate_boxes, project_attention
from labelpenet.reference.dense_crf import dense_crf_exact, dense_crf_lattice
from labelpenet.reference.excitation import excitation_maps
from labelpenet.reference.matching import contour, matching_scores, region_sums
from labelpenet.reference.nms import nms_groups
from labelpenet.reference.peaks import find_peaks
from labelpenet.reference.roi_pool import roi_pool

__all__ = [
    "accumulate_boxes",
    "contour",
    "dense_crf_exact",
    "dense_crf_lattice",
    "excitation_maps",
    "find_peaks",
    "matching_scores",
    "nms_groups",
    "project_attention",
    "region_sums",
    "roi_pool",
]
