"""A trained cascade as one callable: a photo and its tags in, instance masks out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from labelpenet.config import Config
from labelpenet.copies import boxes_in, copy_of, enlarged
from labelpenet.data.compute import ComputeResult, compute_proposals
from labelpenet.data.entries import suggestion
from labelpenet.data.image_list import ListedImage
from labelpenet.data.images import as_image
from labelpenet.data.proposals import ProposalStore
from labelpenet.engines import Engine
from labelpenet.inference import Predictor
from labelpenet.models.cascade import load_checkpoint
from labelpenet.models.checkpoint import CheckpointError
from labelpenet.ops import selective_search
from labelpenet.ops._extension import without_cuda
from labelpenet.quality import with_agreement
from labelpenet.sample import Sample
from labelpenet.types import Dataset, Labelling
from labelpenet.views import autocast

Photo = np.ndarray | Image.Image | str | os.PathLike[str]
"""What `Labeler.label` takes for a photo."""


def propose(image: np.ndarray, config: Config) -> np.ndarray:
    """Selective search with the settings of a run: boxes [R, 4] float32, best ranked first."""
    settings = config.proposals
    copy = copy_of(image, config.longest)
    boxes = selective_search(
        torch.from_numpy(np.ascontiguousarray(copy)),
        preset=settings.preset,
        min_side=settings.min_side,
        seed=config.seed,
    )
    size, whole = ((one.shape[0], one.shape[1]) for one in (copy, image))
    return boxes_in(boxes[: settings.limit].numpy(), size, whole)


def store_proposals(
    images: Dataset | Sequence[ListedImage],
    path: Path,
    config: Config,
    *,
    engine: Engine = Engine.LOCAL,
    workers: int = 0,
    console: Console | None = None,
) -> ComputeResult:
    """compute_proposals by `propose`: the store's settings are what its boxes depend on."""
    settings = config.proposals
    return compute_proposals(
        images,
        path,
        propose=lambda image: propose(image, config),
        settings={
            "preset": settings.preset,
            "min_side": settings.min_side,
            "limit": settings.limit,
            "longest": config.longest,
            "seed": config.seed,
        },
        engine=engine,
        workers=workers,
        console=console,
    )


class Labeler:
    """Labels images with one checkpoint: `label` for photos of any form, a call for one array.

    Args:
        checkpoint: Written by training.
        device: Where the network runs: cpu, cuda or cuda:N.
        module: Which module answers, 1 to 4; None is the last trained one.
        use_tags: Whether an image's tags are taken as true: nothing else is found then. Without,
            the network guesses them.
        proposals: Stored proposals; an image that is not in it has its own computed, one of
            another size than stored is refused.
        agreement: Whether the other one of modules 3 and 4, where both are trained and one of them
            answers, finds its objects too: how far they agree is a figure of the labels' quality.
        overrides: `section.key=value` in place of the checkpoint's settings, such as thresholds.
        min_score: Objects of a lower score are left out, but for the best one of every known tag;
            None is the settings' `detection.paint_score`. Average precision wants them all: 0.

    Raises:
        CheckpointError: The file cannot be used, or `module` is not trained in it.
        ValueError: The device is unknown or not there, or `min_score` is no share.

    Example:
        An untrained cascade stands in for one that `labelpenet train` wrote.

        >>> import tempfile
        >>> from labelpenet.config import config_from_dict
        >>> from labelpenet.models.cascade import Cascade, save_checkpoint
        >>> settings = {"model": {"backbone": "tiny", "fc_width": 16}, "proposals": {"min_side": 8}}
        >>> path = Path(tempfile.mkdtemp()) / "module1.pt"
        >>> save_checkpoint(path, Cascade(config_from_dict(settings), ["cat", "dog"]), trained=1)
        >>> labeler = Labeler(path, "cpu")
        >>> photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        >>> (found,) = labeler.label([photo], tags=[["dog"]])
        >>> found.instances.masks.shape, [labeler.classes[i] for i in found.instances.labels]
        (torch.Size([1, 48, 64]), ['dog'])
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        *,
        module: int | None = None,
        use_tags: bool = True,
        proposals: ProposalStore | None = None,
        agreement: bool = True,
        overrides: Sequence[str] = (),
        min_score: float | None = None,
    ) -> None:
        checkpoint = Path(checkpoint)
        cascade, trained = load_checkpoint(checkpoint, overrides)
        if trained == 0 or (module is not None and not 1 <= module <= trained):
            has = f"modules 1 to {trained}" if trained else "no trained module"
            wanted = "one" if module is None else f"module {module}"
            raise CheckpointError(f"{checkpoint}: has {has}, asked for {wanted}")
        if cascade.config.train.precision == "bf16":
            cascade.round_weights()
        self.module = trained if module is None else module
        self.classes = cascade.classes
        self.config = cascade.config
        self.use_tags = use_tags
        self._other = 7 - self.module if agreement and self.module > 2 and trained == 4 else None
        self.proposals = proposals
        self.checkpoint = checkpoint
        self._traced: Container[str] = ()
        self.min_score = least_score(self.config, min_score)
        self.predictor = Predictor(cascade.to(usable_device(device)), self.min_score)

    def propose(self, image: np.ndarray, name: str, traced: bool) -> np.ndarray:
        """Stored or new proposals [R, 4] of an image; none where no module that answers reads them.

        Args:
            image: [H, W, 3] uint8.
            name: Finds stored ones.
            traced: Whether module 1 answers too.

        Raises:
            ValueError: Those stored under this name are of an image of another size.
        """
        if not (self.module == 1 or traced or self.config.detection.search_boxes):
            return np.zeros((0, 4), np.float32)
        if self.proposals is not None and name in self.proposals:
            size = self.proposals.size(name)
            if size != image.shape[:2]:  # another image of that name, or an earlier one
                expected, got = (f"{h} x {w}" for h, w in (image.shape[:2], size))
                raise ValueError(
                    f"{self.proposals.path}: proposals of {name!r}: expected those of an image of "
                    f"{expected} (height x width), got {got}"
                )
            return self.proposals[name]
        return propose(image, self.config)

    def with_trace(self, names: Container[str]) -> Labeler:
        """Gives module 1's attention and heat-map too, for these images (a second pass)."""
        self._traced = names
        return self

    def label(
        self,
        images: Iterable[Photo],
        tags: Iterable[Iterable[str | int] | None] | None = None,
    ) -> list[Labelling]:
        """Labels photos, each on its own.

        Args:
            images: Arrays [H, W, 3] uint8 RGB, pictures of Pillow, or paths and URLs. A picture and
                a file with an EXIF flag are turned as they are meant to be shown; masks and boxes
                are of the turned one.
            tags: For each photo the classes that are in it, as names or as indices into `classes`;
                nothing else is found then. None, or none for one photo, has them guessed.

        Returns:
            A Labelling for each photo: `instances` with masks [K, H, W] bool, boxes, labels, scores
            and quality, the best score first, and `maps`, pictures of the way there.

        Raises:
            TypeError: One photo instead of several, or something that is none.
            ValueError: An array of another shape, an unknown class, or tags for another number of
                photos.
            ImageError: A file that cannot be read.
        """
        if isinstance(images, (str, os.PathLike, np.ndarray, Image.Image)):
            raise TypeError(f"images: expected a list of photos, got one {type(images).__name__}")
        photos = list(images)
        every = [None] * len(photos) if tags is None else list(tags)
        if len(every) != len(photos):
            raise ValueError(
                f"tags: expected one entry for each of {len(photos)}, got {len(every)}"
            )
        known = [self._indices(one) for one in every]
        return [self(as_image(p), t) for p, t in zip(photos, known, strict=True)]

    def _indices(self, tags: Iterable[str | int] | None) -> tuple[int, ...]:
        """Class indices, sorted, without repeats; none where nothing is known."""
        if isinstance(tags, str):
            raise TypeError(f"tags: expected a list of classes for each photo, got {tags!r}")
        found = set()
        for tag in tags or ():
            if isinstance(tag, str):
                if tag not in self.classes:
                    hint = suggestion(tag, self.classes)
                    raise ValueError(f"tags: expected classes of the checkpoint, got {tag!r}{hint}")
                found.add(self.classes.index(tag))
            elif 0 <= tag < len(self.classes):
                found.add(int(tag))
            else:
                raise ValueError(f"tags: expected indices below {len(self.classes)}, got {tag}")
        return tuple(sorted(found))

    def __call__(self, image: np.ndarray, tags: tuple[int, ...], name: str = "") -> Labelling:
        """Labels one image [H, W, 3] uint8; `name` finds its stored proposals."""
        known = tags if self.use_tags and tags else None
        traced = name in self._traced
        boxes = self.propose(image, name, traced)
        with autocast(self.config, self.predictor.device):
            return self.answer(self.predictor.sample(image, boxes, known), traced)

    def answer(self, sample: Sample, traced: bool) -> Labelling:
        """What the modules that are asked say of an image that the trunk has seen.

        Args:
            sample: The image, with proposals where a module reads them, its views under the
                precision of the settings.
            traced: Give module 1's attention and heat-map too.
        """
        found = self.predictor.in_copy  # whole masks of a large photo take gigabytes
        result = found(sample, self.module)
        if self._other is not None:
            other = found(sample, self._other).instances
            result = dataclasses.replace(result, instances=with_agreement(result.instances, other))
        if traced and self.module > 1:
            result = dataclasses.replace(result, maps=found(sample, 1).maps | result.maps)
        return enlarged(result, sample.whole, sample.size)


def least_score(config: Config, asked: float | None) -> float:
    """The score below which objects are no labels: what was asked for, or the settings'."""
    if asked is None:
        return config.detection.paint_score
    if not 0 <= asked <= 1:
        raise ValueError(f"min_score: expected a number from 0 to 1, got {asked}")
    return asked


def usable_device(device: str | torch.device) -> torch.device:
    """The device, after a try: torch tells what is missing with errors of several types."""
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"device: expected cpu, cuda or cuda:N, got {device}: {why}") from None
    if found.type == "cuda" and (why := without_cuda()):
        raise ValueError(
            f"device: expected cpu, got {device}: labelpenet was built without CUDA ({why}); where "
            "nvcc is, install it anew with LABELPENET_CUDA=ON"
        )
    return found
