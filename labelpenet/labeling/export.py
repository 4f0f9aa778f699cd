"""Exports of a label file to the formats that annotation and training tools read."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from labelpenet.files import writing
from labelpenet.labeling import open_labels
from labelpenet.labeling.export_coco import write_coco
from labelpenet.labeling.export_voc import write_voc
from labelpenet.labeling.export_yolo import write_yolo
from labelpenet.safe_path import check_image_name


class ExportFormat(str, Enum):
    """What `export` can write.

    - `voc`: palette PNGs in SegmentationClass and SegmentationObject, XML in Annotations. Where
      objects overlap, the one with the best score is on top; the best 254 of an image have masks.
    - `yolo`: YOLO-seg text, one polygon per object. Parts and holes are joined by bridges one
      pixel wide (see `contours.joined_outline`); scores are lost.
    - `coco`: COCO JSON with polygons, which lose the holes, and an exact copy with RLE.
    """

    VOC = "voc"
    YOLO = "yolo"
    COCO = "coco"


_WRITERS = {
    ExportFormat.VOC: write_voc,
    ExportFormat.YOLO: write_yolo,
    ExportFormat.COCO: write_coco,
}


def export(labels_json: Path, out: Path, format: ExportFormat | str) -> int:
    """Writes a label file in another format.

    An image named `a/b` becomes `a/b.xml`, `a/b.png` or `a/b.txt` in the format's folders.

    Args:
        labels_json: A label file that `label_images` or `write_labels` wrote, or any COCO file.
        out: The folder to write; made where it is missing. Files of an earlier export with the
            same names are replaced.
        format: `voc`, `yolo` or `coco`.

    Returns:
        The number of images written.

    Raises:
        ValueError: An unknown format, a bad label file, more classes than the format has room
            for, or an image name that leads out of the folder.
        OutputError: A file cannot be written.

    Example:
        >>> import tempfile, torch
        >>> from labelpenet.labeling.coco import write_labels
        >>> from labelpenet.types import Instances
        >>> out = Path(tempfile.mkdtemp())
        >>> masks = torch.ones((1, 2, 4), dtype=torch.bool)
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 2.0]])
        >>> found = Instances(box, torch.tensor([0]), torch.tensor([0.9]), masks)
        >>> write_labels(out / "labels.json", ["cat"], {"a/b": found}, {"a/b": (2, 4)})
        >>> export(out / "labels.json", out / "yolo", "yolo")
        1
        >>> (out / "yolo" / "labels" / "a" / "b.txt").read_text().strip()
        '0 0.125 0.25 0.125 0.75 0.875 0.75 0.875 0.25'
    """
    try:
        writer = _WRITERS[ExportFormat(format)]
    except ValueError:
        known = ", ".join(f.value for f in ExportFormat)
        raise ValueError(f"format: expected one of {known}, got {format!r}") from None
    labels = open_labels(labels_json)
    for image in labels:
        check_image_name(image.name)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    writer(labels, out)
    return len(labels)
