"""What the cue-propagation network learns from: pseudo labels, or instances of a saliency set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from rich.console import Console
from torch import Tensor

from labelpenet.config import Config
from labelpenet.copies import copy_of
from labelpenet.data import load_dataset
from labelpenet.data.images import load_image
from labelpenet.data.transforms import flip_image, resize_image, resized_shape, to_tensor
from labelpenet.evaluation.files import dataset_truth
from labelpenet.icn.cues import at_size, find_cues, match, propose_segments, union_of_best
from labelpenet.icn.model import Icn
from labelpenet.icn.network import scaled
from labelpenet.icn.store import Lesson, LessonStore
from labelpenet.progress import track
from labelpenet.training.examples import Example
from labelpenet.types import Dataset, ImageRecord


class Teacher:
    """Makes the lessons of one run.

    Args:
        icn: Its classifier is trained.
        config: Says whether there is a saliency set, and how response maps find segments.
        dataset: The training images, for their tags.
    """

    def __init__(self, icn: Icn, config: Config, dataset: Dataset) -> None:
        self.icn = icn
        self.config = config
        self.records: Sequence[ImageRecord] = dataset.records
        self._teach: Callable[[ImageRecord], list[Lesson]] = self._pseudo_labels
        if config.icn.saliency is not None:
            salient = load_dataset(config.icn.saliency)
            truth = dataset_truth(config.icn.saliency, salient)

            def from_truth(record: ImageRecord) -> list[Lesson]:
                known = truth.get(record.name)
                if known is None or known.masks is None:
                    return []
                return self._salient_instances(record, torch.from_numpy(known.masks))

            self.records, self._teach = salient.records, from_truth

    def lessons(self, console: Console | None = None) -> Iterator[tuple[str, list[Lesson]]]:
        """Each image's, with its name."""
        self.icn.eval()
        for record in track(self.records, "pseudo labels", len(self.records), console):
            yield record.name, self._teach(record)

    def _pseudo_labels(self, record: ImageRecord) -> list[Lesson]:
        """Every peak of a tag, with the union of the segments that match its response map best."""
        image = load_image(record.path)
        copy = copy_of(image, self.config.longest)
        cues = find_cues(self.icn.classifier, copy, self.config, record.labels)
        _, regions = propose_segments(copy, self.config)
        if len(cues.maps) == 0 or len(regions) == 0:
            return []
        matching = self.config.icn.matching
        scores = match(cues.maps, regions, matching)
        masks = [union_of_best(row, regions, matching.union) for row in scores]
        return self._at_network_size(cues.labels, cues.maps, torch.stack(masks), image.shape)

    def _salient_instances(self, record: ImageRecord, masks: Tensor) -> list[Lesson]:
        """Each salient instance with the response map of the highest IoU (3.2)."""
        image = load_image(record.path)
        copy = copy_of(image, self.config.longest)
        cues = find_cues(self.icn.classifier, copy, self.config, None)
        maps = cues.maps
        if len(maps) == 0 or len(masks) == 0:
            return []
        flat = at_size(maps, (masks.shape[1], masks.shape[2])).cpu().flatten(1)
        inside = masks.flatten(1).float() @ flat.T
        either = masks.flatten(1).sum(1)[:, None] + flat.sum(1) - inside
        iou, best = (inside / either.clamp(min=1)).max(1)
        seen = iou > 0
        labels = torch.full((int(seen.sum()),), -1)
        return self._at_network_size(labels, maps[best[seen]], masks[seen], image.shape)

    def _at_network_size(
        self, labels: Tensor, cues: Tensor, masks: Tensor, photo: Sequence[int]
    ) -> list[Lesson]:
        """Lessons of the size at which the network sees a photo [H, W, 3]."""
        shorter = self.config.icn.size
        size, _ = resized_shape(photo[0], photo[1], shorter, 3 * shorter)
        small = scaled(at_size(cues, size)).cpu()
        shapes = at_size(masks.float(), size) >= 0.5
        return [
            Lesson(int(label), cue, shape)
            for label, cue, shape in zip(labels, small, shapes, strict=True)
            if bool(shape.any())
        ]


def drawn(store: LessonStore, example: Example) -> tuple[Tensor, Tensor]:
    """One of an image's lessons, as the example sees the image."""
    name = example.record.name
    index = int(torch.randint(store.count(name), (1,), generator=example.generator))
    lesson = store.lesson(name, index)
    cue, mask = lesson.cue, lesson.mask
    return (cue.flip(1), mask.flip(1)) if example.flipped else (cue, mask)


def load_at_network_size(
    record: ImageRecord, config: Config, generator: torch.Generator
) -> Example:
    """An image at the network's size, flipped by chance."""
    shorter = config.icn.size
    image, scale = resize_image(to_tensor(load_image(record.path)), shorter, 3 * shorter)
    flipped = config.train.flip and bool(torch.rand(1, generator=generator) < 0.5)
    return Example(record, flip_image(image) if flipped else image, scale, flipped, generator)
