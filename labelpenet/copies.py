"""Large photos are looked at as smaller copies, and what is found there is laid over the photo.

Networks see a photo no larger than the settings say. Selective search and the dense CRF have
reaches in pixels that suit photos of that size, and take time and memory by the pixel: a phone's
photo of 12 megapixels would cost a minute and gigabytes.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import torch
from torch import Tensor

from labelpenet.types import Instances, Labelling


def copy_of(image: np.ndarray, longest: int) -> np.ndarray:
    """The image [H, W, 3] uint8, its longer side at most `longest`; itself where it is.

    Example:
        >>> copy_of(np.zeros((300, 400, 3), np.uint8), 200).shape
        (150, 200, 3)
    """
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    copy: np.ndarray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return copy


def boxes_in(boxes: np.ndarray, size: tuple[int, int], other: tuple[int, int]) -> np.ndarray:
    """Boxes [R, 4] of an image of one size (height, width) in a copy of it of another size.

    Example:
        >>> boxes_in(np.array([[0, 10, 40, 30]]), (300, 400), (150, 200)).tolist()
        [[0.0, 5.0, 20.0, 15.0]]
    """
    if size == other:
        return boxes
    factors = other[1] / size[1], other[0] / size[0]
    scaled: np.ndarray = (boxes * np.array(factors * 2)).astype(np.float32)
    return scaled


def enlarged(found: Labelling, size: tuple[int, int], copy: tuple[int, int]) -> Labelling:
    """What was found in a copy of some size (height, width), in the frame of the image.

    Args:
        found: Boxes, masks [K, h, w] and pictures [h, w] of the copy.
        size: Of the image.
        copy: Of the copy; where it is the image's, nothing changes.
    """
    if size == copy:
        return found
    instances = found.instances
    masks = instances.masks
    if masks is not None:
        whole = np.empty((len(instances), *size), bool)
        for target, mask in zip(whole, masks.cpu().numpy(), strict=True):
            target[:] = _resized(mask.astype(np.uint8) * 255, size) >= 128
        masks = torch.from_numpy(whole)
    boxes = boxes_in(instances.boxes.detach().cpu().numpy(), copy, size)
    laid = Instances(
        torch.from_numpy(boxes), instances.labels, instances.scores, masks, instances.quality
    )
    maps: dict[str, Tensor] = {
        name: torch.from_numpy(_resized(one.numpy(), size)) for name, one in found.maps.items()
    }
    return dataclasses.replace(found, instances=laid, maps=maps)


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized: np.ndarray = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized
