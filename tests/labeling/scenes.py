"""Small labellings for the tests of the output side."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from labelpenet.data.entries import Entry, Listing
from labelpenet.labeling import open_labels
from labelpenet.types import Instances, Labelling

STEADY = settings(max_examples=40)
JOB = {"checkpoint": "abc", "settings": {"crf": {"iterations": 5}, "seed": 0}}


def tight_boxes(masks: torch.Tensor) -> torch.Tensor:
    boxes = torch.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        ys, xs = torch.nonzero(mask, as_tuple=True)
        if len(ys):
            corners = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            box.copy_(torch.stack(corners).to(torch.float32))
    return boxes


def from_masks(masks, labels=None, scores=None) -> Instances:
    masks = torch.as_tensor(np.asarray(masks), dtype=torch.bool)
    count = len(masks)
    labels = torch.zeros(count) if labels is None else torch.as_tensor(labels)
    scores = torch.linspace(1, 0.1, count) if scores is None else torch.as_tensor(scores)
    return Instances(tight_boxes(masks), labels.to(torch.int64), scores.to(torch.float32), masks)


@st.composite
def instances(draw, class_count=3, max_side=12, max_count=4):
    """Any masks (empty and overlapping ones too), any scores, boxes that need not be tight."""
    height, width = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    count = draw(st.integers(0, max_count))
    masks = draw(hnp.arrays(bool, (count, height, width)))
    unit = st.floats(0, 1, width=32)
    scores = draw(hnp.arrays(np.float32, (count,), elements=unit))
    labels = draw(hnp.arrays(np.int64, (count,), elements=st.integers(0, class_count - 1)))
    sides = st.floats(0, 1000, width=32)
    corners = np.sort(draw(hnp.arrays(np.float32, (count, 2, 2), elements=sides)), axis=1)
    return Instances(
        torch.from_numpy(corners.reshape(count, 4).copy()),
        torch.from_numpy(labels),
        torch.from_numpy(scores),
        torch.from_numpy(masks),
    )


CLASSES = ("cat", "<b>dog</b>")


def listing(folder, count=5, classes=CLASSES):
    """Makes images a/0.png, a/1.png, ... with every class as tags; gives a maker of listings."""
    (folder / "a").mkdir(parents=True)
    for i in range(count):
        Image.fromarray(picture(i)).save(folder / "a" / f"{i:02}.png")

    def make() -> Listing:
        entries = (
            Entry(f"a/{i:02}", folder / "a" / f"{i:02}.png", classes, f"line {i}")
            for i in range(count)
        )
        return Listing(folder, classes, entries)

    return make


def picture(number) -> np.ndarray:
    """An 8 x 10 picture that depends on the number."""
    return np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)


@dataclass(frozen=True)
class FakeLabeler:
    """A maker of labelers that label with `label`; it travels to workers.

    The first one to label a/07 dies over it, where there is a file to note that in.
    """

    deaths: Path | None = None

    def __call__(self):
        return FakePhotoLabeler(self.deaths)


@dataclass(frozen=True)
class FakePhotoLabeler:
    """See FakeLabeler."""

    deaths: Path | None

    def propose(self, image, name, traced):
        return np.zeros((0, 4), np.float32)

    def __call__(self, photos):
        for photo in photos:
            if photo.name == "a/07" and self.deaths is not None and not self.deaths.exists():
                self.deaths.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return [label(photo.image, photo.tags, photo.name) for photo in photos]


def files(out) -> dict[str, bytes]:
    """Every file of a folder, by its path there."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def label(image, tags, name) -> Labelling:
    """One object per tag: where the colour channel of its class is bright."""
    masks = np.stack([image[:, :, tag] > 128 for tag in tags])
    scores = [0.9 - 0.1 * tag for tag in tags]
    heat = torch.from_numpy(image[:, :, 0] / np.float32(255))
    return Labelling(from_masks(masks, list(tags), scores), 4, {"attention": heat})


def same(a: Instances, b: Instances) -> bool:
    masks = (a.masks is None) == (b.masks is None)
    if masks and a.masks is not None:
        masks = torch.equal(a.masks, b.masks)
    return (
        masks
        and torch.equal(a.boxes, b.boxes)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.scores, b.scores)
    )


def read_labels(path):
    """Classes, instances by name and sizes by name, of labels that are few."""
    labels = open_labels(path)
    found = {image.name: image.instances() for image in labels}
    sizes = {image.name: (image.height, image.width) for image in labels}
    assert len(labels) == len(found)
    return labels.classes, found, sizes


class Each:
    """A maker of labelers that ask a function about each photo, and note its name."""

    def __init__(self, function) -> None:
        self.function, self.seen = function, []

    def propose(self, image, name, traced):
        return np.zeros((0, 4), np.float32)

    def __call__(self, photos=None):
        if photos is None:
            return self
        self.seen.extend(photo.name for photo in photos)
        return [self.function(photo.image, photo.tags, photo.name) for photo in photos]


def each(function=label):
    """Such a maker, and the names that it will have been asked about."""
    make = Each(function)
    return make, make.seen


def errors(out) -> list[dict]:
    return [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]


_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def save_photo(path: Path, upright: np.ndarray, flag: int) -> None:
    """Writes a photo of which a viewer that knows the orientation flag shows `upright`."""
    picture = Image.fromarray(upright)
    if flag > 1:
        picture = picture.transpose(_BACK[flag])
    exif = Image.Exif()
    exif[0x0112] = flag
    quality = {"quality": 95} if path.suffix == ".jpg" else {"lossless": True}
    picture.save(path, exif=exif, **quality)
