"""Labels in the layout of PASCAL VOC's devkit."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image

from labelpenet.data.scenes import voc_palette
from labelpenet.files import write_lines, writing
from labelpenet.labeling.export_photos import PhotoFolder, photo_name
from labelpenet.labeling.labels import LabelledImage, Labels
from labelpenet.overlap import front_first
from labelpenet.safe_path import make_file_path
from labelpenet.types import Instances

# 0 is background and 255 void, in the classes and in the objects
_MOST = 254


def write_voc(labels: Labels, out: Path, photos: PhotoFolder) -> None:
    """Writes SegmentationClass, SegmentationObject, Annotations, ImageSets and the class names.

    The objects of an XML are in the order of their scores. Value n of an object PNG is the n-th of
    them, value n of a class PNG the n-th class; where objects overlap, both show the one in front
    (see `labelpenet.overlap.front_first`). Images without masks get the XML alone. The names
    are in classes.txt, and with their colours in labelmap.txt, which CVAT and datumaro read.

    Raises:
        ValueError: More than 254 classes.
        OutputError: A file cannot be written.
    """
    if len(labels.classes) > _MOST:
        raise ValueError(f"classes: VOC has room for {_MOST}, got {len(labels.classes)}")
    palette = voc_palette().tobytes()
    for image in labels:
        photos.add(image)
        instances = image.instances()
        instances = instances.select(torch.argsort(-instances.scores, stable=True))
        path = make_file_path(out / "Annotations", image.name, ".xml")
        with writing(path):
            path.write_bytes(_annotation(image, instances, labels.classes))
        for folder, indices in _index_maps(instances).items():
            picture = Image.fromarray(indices)
            picture.putpalette(palette)
            path = make_file_path(out / folder, image.name, ".png")
            with writing(path):
                picture.save(path, format="PNG")
    names = [image.name for image in labels]
    for task in ("Main", "Segmentation"):
        write_lines(out / "ImageSets" / task / "all.txt", names)
    write_lines(out / "classes.txt", labels.classes)
    write_lines(out / "labelmap.txt", _label_map(labels.classes))


def _index_maps(instances: Instances) -> dict[str, np.ndarray]:
    if instances.masks is None:
        return {}
    masks = instances.masks.numpy()
    classes = np.zeros(masks.shape[1:], dtype=np.uint8)
    objects = np.zeros(masks.shape[1:], dtype=np.uint8)
    for i in reversed(front_first(instances.scores.numpy()[:_MOST], masks[:_MOST])):
        classes[masks[i]] = int(instances.labels[i]) + 1
        objects[masks[i]] = i + 1
    return {"SegmentationClass": classes, "SegmentationObject": objects}


def _label_map(classes: tuple[str, ...]) -> list[str]:
    """Lines of name:r,g,b:parts:actions; what would read as something else becomes a blank.

    Of names that would read alike, such as a class called background, later ones end in `_`.
    """
    colors = voc_palette()
    lines = ["# label:color_rgb:parts:actions"]
    taken = set()
    for name, (red, green, blue) in zip(("background", *classes), colors, strict=False):
        plain = re.sub(r"^#|:", " ", name)
        while plain.strip() in taken:
            plain += "_"
        taken.add(plain.strip())
        lines.append(f"{plain}:{red},{green},{blue}::")
    return lines


def _annotation(image: LabelledImage, instances: Instances, classes: tuple[str, ...]) -> bytes:
    root = ElementTree.Element("annotation")
    _add(root, "filename", photo_name(image))
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        _add(size, key, str(value))
    _add(root, "segmented", str(int(instances.masks is not None)))
    for label, score, box in zip(
        instances.labels.tolist(), instances.scores.tolist(), instances.boxes.numpy(), strict=True
    ):
        node = ElementTree.SubElement(root, "object")
        _add(node, "name", classes[label])
        for key, text in (("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
            _add(node, key, text)
        _add(node, "score", f"{score:.4f}")
        # 0-based continuous with an exclusive end to 1-based inclusive pixels
        limit = np.array([image.width, image.height])
        low = np.clip(np.floor(box[:2]) + 1, 1, limit)
        high = np.clip(np.ceil(box[2:]), low, limit)
        corners = ElementTree.SubElement(node, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), (*low, *high), strict=True):
            _add(corners, key, str(int(value)))
    ElementTree.indent(root, "\t")
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    # XML 1.0 has no way at all to write the other characters
    allowed = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    ElementTree.SubElement(parent, tag).text = allowed
