"""What the report of a labelling job shows: figures over every image, and the images picked out."""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from labelpenet.labeling.labels import LabelledImage, LabelledObject, Labels
from labelpenet.report.outlines import UNITS, mask_path, ring_path
from labelpenet.report.pictures import Pictures, picture_stem, pictured_stems, thumbnail_size

BINS = 20
"""Of the histograms of scores and of qualities, over [0, 1]."""

EXTREMES = 100
"""Images of the worst and of the best labels that are shown before others, so many of each."""

_FIGURES = ("peak_support", "crf_change", "agreement", "score_margin")


@dataclass
class Figures:
    """Counts over all images.

    Attributes:
        images: With labels, with or without objects.
        classes: Objects of each class.
        scores: Objects by score, in BINS equal bins.
        qualities: Objects by overall quality, in BINS equal bins; those without are not counted.
    """

    images: int = 0
    classes: list[int] = field(default_factory=list)
    scores: list[int] = field(default_factory=lambda: [0] * BINS)
    qualities: list[int] = field(default_factory=lambda: [0] * BINS)

    @property
    def objects(self) -> int:
        """Objects of all classes."""
        return sum(self.classes)

    def add(self, image: LabelledImage) -> None:
        """Counts one image."""
        self.images += 1
        for one in image.objects:
            self.classes[one.label] += 1
            self.scores[_bin(one.score)] += 1
            quality = overall(one)
            if quality is not None:
                self.qualities[_bin(quality)] += 1


def overall(one: LabelledObject) -> float | None:
    """The overall quality of an object, as `labelpenet.types.Quality.overall`; None if unknown.

    Example:
        >>> box = (0.0, 0.0, 1.0, 1.0)
        >>> overall(LabelledObject(0, 0.9, box, None, {"crf_change": 0.5, "score_margin": 1.0}))
        0.75
    """
    known = [(k, v) for k in _FIGURES if (v := one.quality.get(k)) is not None]
    if not known:
        return None
    return sum((1 + v) / 2 if k == "score_margin" else v for k, v in known) / len(known)


def image_quality(image: LabelledImage) -> float | None:
    """The least overall quality of an image's objects; None where none is known."""
    known = [q for one in image.objects if (q := overall(one)) is not None]
    return min(known, default=None)


def pick(labels: Labels, out: Path, most: int) -> tuple[Figures, list[LabelledImage]]:
    """Counts all images and picks those to show, in the order of the source.

    All of them where they are few. Otherwise `most`: first those with pictures of the way to their
    masks, then the worst and the best by quality in turn, then others evenly spread.
    """
    figures = Figures(classes=[0] * len(labels.classes))
    count = len(labels)
    stems = pictured_stems(out) if count > most else frozenset()
    pictured: dict[int, LabelledImage] = {}
    even: dict[int, LabelledImage] = {}
    extremes: dict[int, list[tuple[float, int, LabelledImage]]] = {1: [], -1: []}
    for i, image in enumerate(labels):
        figures.add(image)
        if count <= most or (i + 1) * most // count > i * most // count:
            even[i] = image
        if picture_stem(image.name) in stems:
            pictured[i] = image
        quality = image_quality(image)
        if quality is not None:
            for sign, heap in extremes.items():
                heapq.heappush(heap, (-sign * quality, i, image))
                if len(heap) > EXTREMES:
                    heapq.heappop(heap)
    worst, best = (sorted(heap, reverse=True) for heap in extremes.values())
    in_turn = {i: image for pair in zip(worst, best, strict=True) for _, i, image in pair}
    chosen = dict(islice((pictured | in_turn).items(), most))
    rest = [i for i in even if i not in chosen]
    room = min(most - len(chosen), len(rest))
    chosen |= {i: even[i] for i in (rest[k * len(rest) // room] for k in range(room))}
    return figures, [chosen[i] for i in sorted(chosen)]


def image_data(image: LabelledImage, pictures: Pictures | None) -> str:
    """One image for the page, as JSON that may stand in a script element.

    Keys are short, since there are thousands: name, size [height, width] of the photo and, in units
    of the paths, of the drawing, module, tags, least quality; thumbnail, larger photo and stages,
    where there are any; objects as [class, score, quality, figures, path].
    """
    drawing = thumbnail_size(image.height, image.width)
    masks = image.instances().masks
    scale = UNITS * np.array([drawing[1] / image.width, drawing[0] / image.height])
    objects = []
    for i, one in enumerate(image.objects):
        mask = None if masks is None else masks[i].numpy()
        path = _box_path(one.box, scale) if mask is None else mask_path(mask, drawing)
        figures = [_rounded(one.quality.get(name)) for name in _FIGURES]
        objects.append([one.label, _rounded(one.score), _rounded(overall(one)), figures, path])
    data: dict[str, Any] = {
        "n": image.name,
        "z": [image.height, image.width],
        "v": [UNITS * side for side in drawing],
        "m": image.module,
        "g": list(image.tags),
        "q": _rounded(image_quality(image)),
        "o": objects,
    }
    if pictures is not None:
        data |= {"t": pictures.thumbnail, "p": pictures.photo, "s": pictures.stages}
    return script_json(data)


def script_json(data: Mapping[str, Any] | list[Any]) -> str:
    r"""JSON without a character that could end a script element, and in ASCII.

    Example:
        >>> script_json({"n": "</script>"})
        '{"n":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _box_path(box: tuple[float, ...], scale: np.ndarray) -> str:
    x1, y1, x2, y2 = box
    return ring_path(np.array([[x1, y1], [x1, y2], [x2, y2], [x2, y1]]) * scale)


def _bin(value: float) -> int:
    return min(int(value * BINS), BINS - 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
