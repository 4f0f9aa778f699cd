"""The kernels as functions on torch tensors; each can be used without the rest of the package."""

from labelpenet.ops.selective_search import (
    RegionMasks,
    selective_search,
    selective_search_regions,
)

__all__ = ["RegionMasks", "selective_search", "selective_search_regions"]
