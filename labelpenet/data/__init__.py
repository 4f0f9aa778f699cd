"""Images, labels, ground truth and proposals, as files have them."""

from labelpenet.data.compute import ComputeResult, ImageFailure, compute_proposals
from labelpenet.data.datasets import check_for_training, load_dataset
from labelpenet.data.entries import DatasetError
from labelpenet.data.images import MAX_PIXELS, ImageError, image_size, load_image
from labelpenet.data.proposals import ProposalError, Proposals, ProposalStore, write_proposals
from labelpenet.data.voc import VOC_CLASSES

__all__ = [
    "MAX_PIXELS",
    "VOC_CLASSES",
    "ComputeResult",
    "DatasetError",
    "ImageError",
    "ImageFailure",
    "ProposalError",
    "ProposalStore",
    "Proposals",
    "check_for_training",
    "compute_proposals",
    "image_size",
    "load_dataset",
    "load_image",
    "write_proposals",
]
