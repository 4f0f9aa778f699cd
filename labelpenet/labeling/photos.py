"""Labelling several photos at once, and again at a smaller size where memory does not suffice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from labelpenet.copies import boxes_in, copy_of, enlarged
from labelpenet.icn.labeler import IcnLabeler
from labelpenet.labeler import Labeler
from labelpenet.types import Labelling
from labelpenet.views import View, autocast

SCALES = (0.5, 0.25)
"""Sizes at which a photo is tried that does not fit into memory."""


class Photo(NamedTuple):
    """A photo on its way.

    Attributes:
        name: As in ImageRecord.
        image: [H, W, 3] uint8.
        tags: Class indices.
        traced: Whether pictures of the way to the masks are wanted.
        proposals: [R, 4] float32.
    """

    name: str
    image: np.ndarray
    tags: tuple[int, ...]
    traced: bool
    proposals: np.ndarray


class PhotoLabeler(Protocol):
    """Labels photos; `propose` is called by several threads, a call by one."""

    def propose(self, image: np.ndarray, name: str, traced: bool) -> np.ndarray:
        """The proposals [R, 4] of a photo; none where they are not needed."""
        ...

    def __call__(self, photos: Sequence[Photo]) -> list[Labelling]:
        """The labels of each photo."""
        ...


class CascadeLabeler:
    """Labels photos with a cascade: one pass of the trunk for all modules that are asked.

    Args:
        labeler: The cascade, and what is asked of it.
    """

    def __init__(self, labeler: Labeler) -> None:
        self._labeler = labeler

    def propose(self, image: np.ndarray, name: str, traced: bool) -> np.ndarray:
        """Stored proposals or new ones, where a module reads them."""
        return self._labeler.propose(image, name, traced)

    @torch.no_grad()
    def __call__(self, photos: Sequence[Photo]) -> list[Labelling]:
        """The labels of each photo."""
        predictor = self._labeler.predictor
        every = predictor.views([photo.image for photo in photos])
        with autocast(predictor.config, predictor.device):
            return [self._label(photo, views) for photo, views in zip(photos, every, strict=True)]

    def _label(self, photo: Photo, views: Sequence[View]) -> Labelling:
        labeler = self._labeler
        tags = photo.tags if labeler.use_tags and photo.tags else None
        sample = labeler.predictor.sample(photo.image, photo.proposals, tags, views)
        return labeler.answer(sample, photo.traced)


class IcnPhotoLabeler:
    """Labels photos with an ICN, which finds its own segments.

    Args:
        labeler: The ICN, and what is asked of it.
    """

    def __init__(self, labeler: IcnLabeler) -> None:
        self._labeler = labeler

    def propose(self, image: np.ndarray, name: str, traced: bool) -> np.ndarray:
        """None."""
        return np.zeros((0, 4), np.float32)

    def __call__(self, photos: Sequence[Photo]) -> list[Labelling]:
        """The labels of each photo."""
        return [self._labeler(photo.image, photo.tags, photo.name) for photo in photos]


def label_photos(labeler: PhotoLabeler, photos: Sequence[Photo]) -> list[Labelling | Exception]:
    """The labels of each photo, or what it raised; all at once, one by one where that fails."""
    if len(photos) > 1:
        try:
            return [_checked(one) for one in labeler(photos)]
        except Exception:  # each is asked alone then: one of them is to blame, or all need memory
            pass
    return [_label_alone(labeler, photo) for photo in photos]


def label_smaller(labeler: PhotoLabeler, photo: Photo, scale: float) -> Labelling | Exception:
    """The labels of a photo from a smaller copy, in the frame of the photo itself.

    The pictures of the way there are left out. Returns what was raised, where something was.
    """
    longest = max(1, round(max(photo.image.shape[:2]) * scale))
    image = copy_of(photo.image, longest)
    whole, size = ((one.shape[0], one.shape[1]) for one in (photo.image, image))
    boxes = boxes_in(photo.proposals, whole, size)
    small = photo._replace(image=image, proposals=boxes, traced=False)
    found = _label_alone(labeler, small)
    return found if isinstance(found, Exception) else enlarged(found, whole, size)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, of the machine or of a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _label_alone(labeler: PhotoLabeler, photo: Photo) -> Labelling | Exception:
    try:
        (found,) = labeler([photo])
        return _checked(found)
    except Exception as error:  # a bad image must not stop the job
        return error


def _checked(found: object) -> Labelling:
    if not isinstance(found, Labelling):
        raise TypeError(f"labeler: expected a Labelling, got {type(found).__name__}")
    return found
