"""Images, labels, ground truth and proposals, as files have them."""

from labelpenet.data.compute import ComputeResult, compute_proposals
from labelpenet.data.datasets import check_for_training, list_dataset, load_dataset
from labelpenet.data.entries import DatasetError
from labelpenet.data.image_list import ImageList, ListedImage, list_images
from labelpenet.data.images import MAX_PIXELS, ImageError, image_size, load_image
from labelpenet.data.proposal_parts import ImageFailure
from labelpenet.data.proposals import ProposalError, Proposals, ProposalStore, write_proposals
from labelpenet.data.scenes import voc_palette, write_scenes
from labelpenet.data.synthetic import SCENE_CLASSES, Scene, SceneSettings, render_scene
from labelpenet.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    clip_boxes,
    flip_boxes,
    flip_image,
    flip_masks,
    normalize,
    resize_image,
    resized_shape,
    scale_boxes,
    to_tensor,
)
from labelpenet.data.truth_coco import coco_truth
from labelpenet.data.truth_voc import voc_truth
from labelpenet.data.voc import VOC_CLASSES

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MAX_PIXELS",
    "SCENE_CLASSES",
    "VOC_CLASSES",
    "ComputeResult",
    "DatasetError",
    "ImageError",
    "ImageFailure",
    "ImageList",
    "ListedImage",
    "ProposalError",
    "ProposalStore",
    "Proposals",
    "Scene",
    "SceneSettings",
    "check_for_training",
    "clip_boxes",
    "coco_truth",
    "compute_proposals",
    "flip_boxes",
    "flip_image",
    "flip_masks",
    "image_size",
    "list_dataset",
    "list_images",
    "load_dataset",
    "load_image",
    "normalize",
    "render_scene",
    "resize_image",
    "resized_shape",
    "scale_boxes",
    "to_tensor",
    "voc_palette",
    "voc_truth",
    "write_proposals",
    "write_scenes",
]
