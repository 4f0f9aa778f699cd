"""Labels as plain COCO JSON, once with polygons and once with RLE."""

from __future__ import annotations

from pathlib import Path

from labelpenet.files import atomic_write
from labelpenet.labeling.contours import edge_outlines
from labelpenet.labeling.entries import Entry, make_entry, write_entries
from labelpenet.labeling.labels import LabelledImage, Labels


def write_coco(labels: Labels, out: Path) -> None:
    """Writes polygons.json, whose outlines lose the holes of masks, and rle.json, which is exact.

    Polygons run along the pixel edges: pycocotools fills them to exactly the mask with its holes
    filled. An empty mask has no polygon and stays RLE.

    Raises:
        OutputError: A file cannot be written.
    """
    images = [
        {"name": i.name, "file_name": i.file_name, "height": i.height, "width": i.width}
        for i in labels
    ]
    for name, with_polygons in (("rle.json", False), ("polygons.json", True)):
        entries = (_entry(image, len(labels.classes), with_polygons) for image in labels)
        with atomic_write(out / name) as file:
            write_entries(file, labels.classes, images, entries)


def _entry(image: LabelledImage, class_count: int, with_polygons: bool) -> Entry:
    instances = image.instances()
    size = (image.height, image.width)
    module = image.module
    entry = make_entry(image.name, image.file_name, size, instances, class_count, module)
    for i, annotation in enumerate(entry["annotations"]):
        if with_polygons and instances.masks is not None and annotation["area"]:
            outlines = edge_outlines(instances.masks[i].numpy())
            annotation["segmentation"] = [outline.reshape(-1).tolist() for outline in outlines]
    return entry
