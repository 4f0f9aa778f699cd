"""A labelled image as a row of the store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labelpenet.data.image_list import ListedImage
from labelpenet.labeling.entries import check_instances, quality_rows
from labelpenet.labeling.store import Row
from labelpenet.rle import encode_masks
from labelpenet.types import Labelling


def make_row(
    image: ListedImage,
    size: tuple[int, int],
    labelling: Labelling,
    classes: Sequence[str],
    *,
    scale: float,
    min_quality: float,
    config: str,
) -> Row:
    """Checks the labels of an image and encodes its masks.

    Args:
        image: Of which source.
        size: (height, width) of the image.
        labelling: What was found.
        classes: Class names.
        scale: Of the copy that was labelled.
        min_quality: Objects of a lower overall quality are left out and counted.
        config: Hash of the job's settings.

    Raises:
        ValueError: Shapes that do not agree, or a number out of range.
        TypeError: Not Instances.
    """
    check_instances(labelling.instances, size, len(classes))
    instances = labelling.instances
    count = len(instances)
    if instances.quality is not None:
        quality_rows(instances.quality, count)  # refuses impossible figures
        if min_quality > 0:
            kept = ~(instances.quality.overall() < min_quality)  # true for NaN
            instances = instances.select(kept)
    boxes = instances.boxes.detach().cpu().numpy().astype(np.float32)
    masks = None if instances.masks is None else instances.masks.cpu().numpy()
    codes = None if masks is None else encode_masks(masks)
    figures: list[dict[str, float | None]] = [{} for _ in range(len(instances))]
    if instances.quality is not None:
        figures = quality_rows(instances.quality, len(instances))
    objects = []
    for i, label in enumerate(instances.labels.tolist()):
        quality = dict(figures[i])
        objects.append(
            {
                "label": label,
                "class": classes[label],
                "score": float(instances.scores[i]),
                **dict(zip(("x1", "y1", "x2", "y2"), boxes[i].tolist(), strict=True)),
                "mask": None if codes is None else codes[i]["counts"],
                "area": None if masks is None else int(np.count_nonzero(masks[i])),
                "quality": quality.pop("overall", None),
                **quality,
            }
        )
    return {
        "image": image.name,
        "source": str(image.path),
        "height": size[0],
        "width": size[1],
        "tags": list(image.labels),
        "module": labelling.module,
        "scale": scale,
        "filtered": count - len(instances),
        "objects": objects,
        "config": config,
    }
