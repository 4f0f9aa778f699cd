"""Exports of labels to the formats that annotation and training tools read."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TypeVar

from labelpenet.files import writing
from labelpenet.labeling import open_labels
from labelpenet.labeling.export_coco import write_coco
from labelpenet.labeling.export_labelme import write_labelme
from labelpenet.labeling.export_photos import PhotoFolder, Photos
from labelpenet.labeling.export_voc import write_voc
from labelpenet.labeling.export_yolo import write_yolo
from labelpenet.safe_path import check_image_name

_Choice = TypeVar("_Choice", bound=Enum)


class ExportFormat(str, Enum):
    """What `export` can write.

    - `coco`: COCO JSON with RLE, exact, and a copy with polygons, which lose the holes. CVAT
      ("COCO 1.0"), FiftyOne (`COCODetectionDataset`), datumaro and pycocotools open it.
    - `voc`: palette PNGs in SegmentationClass and SegmentationObject, XML in Annotations. Where
      objects overlap, the one with more score to a pixel of its mask is in front; the best 254
      of an image have masks.
    - `yolo`: YOLO-seg text, one polygon per object. Parts and holes are joined by bridges one
      pixel wide (see `contours.joined_outline`); scores are lost.
    - `labelme`: LabelMe's JSON beside each photo, with exact masks.
    """

    COCO = "coco"
    VOC = "voc"
    YOLO = "yolo"
    LABELME = "labelme"


_WRITERS = {
    ExportFormat.COCO: (write_coco, "images"),
    ExportFormat.VOC: (write_voc, "JPEGImages"),
    ExportFormat.YOLO: (write_yolo, "images"),
    ExportFormat.LABELME: (write_labelme, "."),
}
"""Of each format what writes it, and the folder where it expects the photos."""


def export(
    labels: Path,
    out: Path,
    format: ExportFormat | str,
    *,
    photos: Photos | str = Photos.COPY,
    images: Path | None = None,
) -> int:
    """Writes labels in another format, with the photos where the format expects them.

    An image named `a/b` becomes `a/b.xml`, `a/b.png` or `a/b.txt` in the format's folders. Masks
    are of the photos as they are shown: where one has an orientation flag, the export has it
    upright, so that readers that ignore such flags see the same pixels.

    Args:
        labels: A label store, a file that `write_labels` wrote, or any COCO file.
        out: The folder to write; made where it is missing. Files of an earlier export with the
            same names are replaced.
        format: `coco`, `voc`, `yolo` or `labelme`.
        photos: `copy`, `link` or `none`, see `Photos`.
        images: The folder of the photos, where the labels have relative names. Those of a COCO
            file have to stay in it.

    Returns:
        The number of images written.

    Raises:
        ValueError: An unknown format, bad labels, more classes than the format has room for, an
            image name that leads out of the folder, or a photo that is not there, is none, or
            lies outside of a COCO file's folder of photos.
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
        >>> export(out / "labels.json", out / "yolo", "yolo", photos="none")
        1
        >>> (out / "yolo" / "labels" / "a" / "b.txt").read_text().strip()
        '0 0.125 0.25 0.125 0.75 0.875 0.75 0.875 0.25'
    """
    writer, folder = _WRITERS[_member(ExportFormat, "format", format)]
    how = _member(Photos, "photos", photos)
    opened = open_labels(labels)
    for image in opened:
        check_image_name(image.name)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    writer(opened, out, PhotoFolder(out / folder, how, opened, images))
    return len(opened)


def _member(kind: type[_Choice], argument: str, value: object) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise ValueError(f"{argument}: expected one of {known}, got {value!r}") from None
