"""Labels as LabelMe's JSON, one file beside each photo."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from labelpenet.files import atomic_write
from labelpenet.labeling.export_photos import PhotoFolder, photo_name
from labelpenet.labeling.labels import LabelledImage, Labels
from labelpenet.safe_path import make_file_path

# the version of LabelMe that brought shapes of type mask
_VERSION = "5.3.0"


def write_labelme(labels: Labels, out: Path, photos: PhotoFolder) -> None:
    """Writes NAME.json with a `mask` shape for each object: exact, with parts and holes.

    Objects without a pixel are left out; a box alone becomes a rectangle. Scores are in the
    descriptions. LabelMe opens a file only where its photo lies beside it.

    Raises:
        OutputError: A file cannot be written.
    """
    for image in labels:
        photos.add(image)
        data: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": _shapes(image, labels.classes),
            "imagePath": PurePosixPath(photo_name(image)).name,
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        with atomic_write(make_file_path(out, image.name, ".json")) as file:
            json.dump(data, file, indent=1)


def _shapes(image: LabelledImage, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    instances = image.instances()
    shapes = []
    for i, label in enumerate(instances.labels.tolist()):
        if instances.masks is None:
            x1, y1, x2, y2 = instances.boxes[i].double().tolist()
            shape = {"shape_type": "rectangle", "points": [[x1, y1], [x2, y2]], "mask": None}
        else:
            mask = instances.masks[i].numpy()
            if not mask.any():
                continue
            shape = _mask_shape(mask)
        description = f"score {instances.scores[i]:.4f}"
        common = {"label": classes[label], "group_id": None, "flags": {}}
        shapes.append(common | {"description": description} | shape)
    return shapes


def _mask_shape(mask: np.ndarray) -> dict[str, Any]:
    """A mask [H, W] as a PNG of its tight box, whose corners are pixels, both of them inside."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = (int(v) for v in (ys[0], ys[-1], xs[0], xs[-1]))
    cut = mask[top : bottom + 1, left : right + 1]
    png = io.BytesIO()
    Image.fromarray(cut.astype(np.uint8)).save(png, format="PNG")
    return {
        "shape_type": "mask",
        "points": [[left, top], [right, bottom]],
        "mask": base64.b64encode(png.getvalue()).decode("ascii"),
    }
