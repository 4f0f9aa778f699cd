"""Labels as YOLO-seg text files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from labelpenet.files import write_lines, writing
from labelpenet.labeling.contours import joined_outline
from labelpenet.labeling.export_photos import PhotoFolder
from labelpenet.labeling.labels import LabelledImage, Labels
from labelpenet.safe_path import make_file_path


def write_yolo(labels: Labels, out: Path, photos: PhotoFolder) -> None:
    """Writes labels/*.txt, classes.txt and a data.yaml that names images/, the photos' folder.

    A line is `class x1 y1 x2 y2 ...`: a polygon through the centres of the border pixels,
    divided by the size of the image, so that a reader that rounds down to pixels and fills the
    polygon with its line (as YOLO trainers do) gets the mask. Objects without a pixel have no
    line; an image without objects has an empty file; a box alone becomes its rectangle. A label
    lies where readers look for it: the last folder `images` of its photo's path is `labels`.

    Raises:
        OutputError: A file cannot be written.
    """
    for image in labels:
        photos.add(image)
        *folders, last = ["images", *image.name.split("/")]
        folders[len(folders) - 1 - folders[::-1].index("images")] = "labels"
        path = make_file_path(out / folders[0], "/".join([*folders[1:], last]), ".txt")
        with writing(path):
            path.write_bytes("".join(_lines(image)).encode("ascii"))
    write_lines(out / "classes.txt", labels.classes)
    # lone surrogates have no place in UTF-8
    names = {
        i: name.encode("utf-8", "replace").decode("utf-8") for i, name in enumerate(labels.classes)
    }
    # without `path`, which ultralytics takes relative to the working directory
    data = {"train": "images", "val": "images", "names": names}
    path = out / "data.yaml"
    with writing(path):
        path.write_bytes(yaml.safe_dump(data, allow_unicode=True, sort_keys=False).encode("utf-8"))


def _lines(image: LabelledImage) -> list[str]:
    instances = image.instances()
    size = np.array([image.width, image.height], dtype=np.float64)
    lines = []
    for i, label in enumerate(instances.labels.tolist()):
        if instances.masks is None:
            x1, y1, x2, y2 = instances.boxes[i].double().tolist()
            points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        else:
            points = joined_outline(instances.masks[i].numpy()) + 0.5
        if len(points):
            numbers = np.clip(points / size, 0, 1).reshape(-1).tolist()
            lines.append(f"{label} {' '.join(f'{v:.8g}' for v in numbers)}\n")
    return lines
