"""The kernels as functions on torch tensors; each can be used without the rest of the package."""

from labelpenet.ops.boxes import box_iou
from labelpenet.ops.nms import nms, nms_groups
from labelpenet.ops.roi_pool import roi_pool

__all__ = ["box_iou", "nms", "nms_groups", "roi_pool"]
