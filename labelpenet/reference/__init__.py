"""The ops in plain torch, equation by equation: the specification that tests check against."""

from labelpenet.reference.nms import nms_groups
from labelpenet.reference.roi_pool import roi_pool

__all__ = ["nms_groups", "roi_pool"]
