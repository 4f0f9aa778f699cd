"""The ops in plain torch, equation by equation: the specification that tests check against."""

from labelpenet.reference.attention import accumulate_boxes, project_attention
from labelpenet.reference.excitation import excitation_maps

__all__ = ["accumulate_boxes", "excitation_maps", "project_attention"]
