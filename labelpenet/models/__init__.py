"""The networks: backbones, the modules of the paper on one trunk, and the checkpoints of them."""

from labelpenet.models.cascade import Cascade, load_checkpoint, save_checkpoint
from labelpenet.models.checkpoint import CheckpointError
from labelpenet.models.weights import WeightsError

__all__ = ["Cascade", "CheckpointError", "WeightsError", "load_checkpoint", "save_checkpoint"]
