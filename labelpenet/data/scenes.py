"""Synthetic scenes as a PASCAL VOC folder, so that the readers of real data read them."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from PIL import Image

from labelpenet.data.segmentation import box_of
from labelpenet.data.synthetic import SCENE_CLASSES, Scene, SceneSettings, render_scene

_QUALITY = 95  # of the JPEG files


def write_scenes(
    folder: str | os.PathLike[str],
    count: int,
    *,
    seed: int,
    test_count: int | None = None,
    size: tuple[int, int] = (128, 128),
    settings: SceneSettings | None = None,
) -> Path:
    """Writes a dataset of synthetic scenes.

    The folder has the layout of VOC: JPEGImages, ImageSets/Main with the lists of the splits
    `train` and `test`, Annotations, and for the test scenes SegmentationClass, SegmentationObject
    and ImageSets/Segmentation. The image-level labels of the training scenes, which are all that
    training is meant to see, are in train.csv too. A scene depends on seed and number only, not on
    how many there are.

    Args:
        folder: Where to; absent or empty. It appears when it is whole.
        count: Training scenes, at least 1.
        seed: At least 0. The same gives the same scenes.
        test_count: Test scenes; a quarter of `count` by default.
        size: (height, width) in pixels, at least 32 each.
        settings: What the scenes look like.

    Returns:
        The folder.

    Raises:
        ValueError: A number is out of range, or the folder holds something.

    Example:
        >>> import tempfile
        >>> from labelpenet.data import load_dataset
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     folder = write_scenes(f"{parent}/scenes", 4, seed=0, size=(64, 64))
        ...     dataset = load_dataset(folder, split="train")
        >>> len(dataset), dataset.classes
        (4, ('box', 'disk', 'star'))
    """
    folder = Path(folder)
    tests = count // 4 if test_count is None else test_count
    for name, value, least in (("count", count, 1), ("test_count", tests, 0), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder: expected an absent or empty folder, {folder} holds something")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    try:
        for part, (split, number) in enumerate((("train", count), ("test", tests))):
            _write_split(temporary, split, number, [seed, part], size, settings)
        if folder.exists():
            folder.rmdir()
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write_split(
    root: Path,
    split: str,
    count: int,
    seed: list[int],
    size: tuple[int, int],
    settings: SceneSettings | None,
) -> None:
    with_masks = split == "test"
    present: dict[str, set[int]] = {}
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name = f"{split}_{number:06d}"
        scene = render_scene([*seed, number], size, settings)
        image = Image.fromarray(scene.image)
        image.save(root / "JPEGImages" / f"{name}.jpg", quality=_QUALITY, subsampling=0)
        ElementTree.ElementTree(_annotation(name, scene, with_masks)).write(
            root / "Annotations" / f"{name}.xml", encoding="utf-8"
        )
        if with_masks:
            objects = np.arange(1, len(scene.labels) + 1)
            _write_palette(root / "SegmentationClass" / f"{name}.png", scene, scene.labels + 1)
            _write_palette(root / "SegmentationObject" / f"{name}.png", scene, objects)
        present[name] = set(scene.labels.tolist())
    _write_lists(root, split, present)


def _write_lists(root: Path, split: str, present: dict[str, set[int]]) -> None:
    main = root / "ImageSets" / "Main"
    names = "".join(f"{name}\n" for name in present)
    (main / f"{split}.txt").write_text(names)
    for index, label in enumerate(SCENE_CLASSES):
        flags = [f"{name} {1 if index in labels else -1:2d}\n" for name, labels in present.items()]
        (main / f"{label}_{split}.txt").write_text("".join(flags))
    if split == "train":
        with (root / "train.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("image", "labels"))
            for name, labels in present.items():
                words = " ".join(SCENE_CLASSES[label] for label in sorted(labels))
                writer.writerow((f"JPEGImages/{name}.jpg", words))
    else:
        (root / "ImageSets" / "Segmentation").mkdir()
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(names)


def _annotation(name: str, scene: Scene, segmented: bool) -> Element:
    """VOC's annotation: boxes count pixels from 1 and include the last one."""
    root = Element("annotation")
    SubElement(root, "filename").text = f"{name}.jpg"
    shape = SubElement(root, "size")
    for key, value in zip(("height", "width", "depth"), scene.image.shape, strict=True):
        SubElement(shape, key).text = str(value)
    SubElement(root, "segmented").text = str(int(segmented))
    for label, mask in zip(scene.labels, scene.masks, strict=True):
        element = SubElement(root, "object")
        SubElement(element, "name").text = SCENE_CLASSES[label]
        SubElement(element, "difficult").text = "0"
        box = SubElement(element, "bndbox")
        x1, y1, x2, y2 = (int(value) for value in box_of(mask))
        corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
        for key, value in corners.items():
            SubElement(box, key).text = str(value)
    return root


def _write_palette(path: Path, scene: Scene, values: np.ndarray) -> None:
    """The masks as one palette image, pixels of mask i having values[i]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.zeros(scene.image.shape[:2], np.uint8)
    for value, mask in zip(values, scene.masks, strict=True):
        numbers[mask] = value
    image = Image.fromarray(numbers)
    image.putpalette(voc_palette().tobytes())
    image.save(path)


def voc_palette() -> np.ndarray:
    """VOC's colours of classes and objects: [256, 3] uint8.

    The bits of a number, from the lowest, go in turn to red, green and blue, from their highest bit
    down.

    Source: `VOClabelcolormap.m` of the VOC devkit.

    Example:
        >>> voc_palette()[[0, 1, 2, 15, 255]].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128], [224, 224, 192]]
    """
    numbers = np.arange(256)[:, None]
    palette = np.zeros((256, 3), int)
    for bit in range(8):
        palette |= ((numbers >> np.array([0, 1, 2])) & 1) << (7 - bit)
        numbers = numbers >> 3
    return palette.astype(np.uint8)
