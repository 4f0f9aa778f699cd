"""The report of labels: a page that opens from the disk, with every image to look through."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from rich.console import Console

from labelpenet.data.images import load_image
from labelpenet.files import atomic_write, writing
from labelpenet.labeling import LabelledImage, Labels, open_labels
from labelpenet.progress import track
from labelpenet.report.gallery_data import BINS, image_data, pick, script_json
from labelpenet.report.overlay import PALETTE
from labelpenet.report.pictures import find_pictures, save_thumbnail

PAGE = "index.html"
MOST = 5000
"""Images that a page shows, unless told otherwise."""

_READERS = 4  # decoding leaves Python's lock


def write_report(
    labels: Path,
    *,
    images: Path | None = None,
    most: int = MOST,
    figures: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Path:
    """Makes the page of a labelling job: `index.html` and `pictures/` beside the labels.

    It shows counts and histograms over all images and up to `most` of them to look through, each
    with its objects to switch on and off and, where the job stored them, the pictures of the way to
    the masks. Nothing is loaded from elsewhere; a name or class from the labels is text there and
    never a path or markup. A thumbnail that is there is kept, so that a second call is quick.

    Args:
        labels: A label store, or a COCO file; the page goes into its folder.
        images: The folder of the photos, where the labels have relative names. Photos of a COCO
            file that lie elsewhere are not shown.
        most: How many images are shown: first those with pictures of the way, then the worst and
            the best by quality, then others evenly spread.
        figures: Shown on top, by name; a nested mapping becomes a table.
        console: Where progress goes; None is silent.

    Returns:
        The page.

    Raises:
        ValueError: No labels, damaged ones, or a negative `most`.
        OutputError: A file cannot be written.

    Example:
        >>> import tempfile
        >>> from labelpenet.labeling.coco import write_labels
        >>> from labelpenet.types import Instances
        >>> path = Path(tempfile.mkdtemp()) / "labels.json"
        >>> write_labels(path, ["cat"], {"a": Instances.empty(3, 4)}, {"a": (3, 4)})
        >>> write_report(path).name
        'index.html'
    """
    if most < 0:
        raise ValueError(f"most: expected at least 0, got {most}")
    out = labels if labels.is_dir() else labels.parent
    opened = open_labels(labels)
    counts, chosen = pick(opened, out, most)
    base = images or Path()
    with ThreadPoolExecutor(_READERS) as pool:
        drawn = pool.map(lambda image: _draw(out, opened, base, image), chosen)
        rows = list(track(drawn, "report", len(chosen), console))
    values = figures or {}
    html = _template().render(
        classes=opened.classes,
        counts=counts,
        ranked=sorted(
            ((label, n) for label, n in enumerate(counts.classes) if n), key=lambda row: -row[1]
        ),
        charts=[("Scores of the objects", counts.scores), ("Their quality", counts.qualities)],
        bins=BINS,
        shown=len(rows),
        errors=_lines(out / "errors.jsonl"),
        figures={k: v for k, v in values.items() if not isinstance(v, Mapping)},
        tables={k: v for k, v in values.items() if isinstance(v, Mapping)},
        data=_page_data(opened.classes, rows),
        script=(script := _resource("gallery.js")),
        style=_resource("gallery.css"),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / PAGE, binary=True) as file:
        file.write(html.encode("utf-8", "replace"))  # a name may hold bytes that no UTF-8 has
    return out / PAGE


def _draw(out: Path, labels: Labels, base: Path, image: LabelledImage) -> str:
    """The data of one image, its thumbnail made where it is missing and the photo is there."""
    pictures = find_pictures(out, image.name)
    if pictures is None:
        with suppress(ValueError):  # no such photo, or it may not be read
            photo = load_image(labels.photo(image, base))
            if photo.shape[:2] == (image.height, image.width):
                save_thumbnail(out, image.name, photo)
                pictures = find_pictures(out, image.name)
    return image_data(image, pictures)


def _page_data(classes: Iterable[str], rows: list[str]) -> str:
    """What the script reads: classes, colours, images."""
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in PALETTE.tolist()]
    head = script_json({"classes": list(classes), "colors": colors})
    return f'{head[:-1]},"images":[\n' + ",\n".join(rows) + "\n]}"


def _lines(path: Path) -> int:
    """Lines of a file; 0 where there is none."""
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


def _resource(name: str) -> str:
    return files("labelpenet.report").joinpath(name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = _figure
    return environment.from_string(_resource("gallery.html.j2"))


def _figure(value: object) -> str:
    """A figure as text: `0.417`, `1,234`, a dash where there is no number."""
    if isinstance(value, float):
        return "–" if value != value else f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
