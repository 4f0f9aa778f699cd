"""The report of a labelling job: one static page that opens from the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import cv2
import jinja2
import numpy as np
import torch

from labelpenet.files import atomic_write, writing
from labelpenet.labeling.entries import quality_rows
from labelpenet.report.overlay import draw_instances, draw_map, instance_color
from labelpenet.types import Instances, Labelling

if TYPE_CHECKING:
    from labelpenet.labeling.summary import LabelSummary

PICTURES = "pictures"
PAGE = "index.html"

_SIDE = 320
_QUALITY = 82


class Picture(TypedDict):
    """One thumbnail of a row: its caption, file below the report's folder, and size."""

    title: str
    file: str
    width: int
    height: int


class Found(TypedDict):
    """One object of a row: class index, score, and figures of its quality by name."""

    label: int
    score: float
    quality: dict[str, float | None]


class Row(TypedDict):
    """One image of the page, as plain JSON values."""

    name: str
    height: int
    width: int
    module: int
    pictures: list[Picture]
    objects: list[Found]


class ReportBuilder:
    """Collects images while a job runs and writes `index.html` at its end.

    Thumbnails go to `pictures/` under names made from a hash of the image's name, so that no name
    can leave the folder and a job that resumes writes the same files.

    Args:
        out_dir: The folder of the report; made when the first file is written.
        classes: Class names.

    Example:
        >>> import tempfile
        >>> from labelpenet.labeling.summary import LabelSummary
        >>> report = ReportBuilder(Path(tempfile.mkdtemp()), ["cat"])
        >>> report.add("a/b", np.zeros((3, 4, 3), np.uint8), Labelling(Instances.empty(3, 4), 4))
        >>> page = report.finish(LabelSummary(images=1, instances=0, errors=0, seconds=0.5))
        >>> page.name, "a/b" in page.read_text()
        ('index.html', True)
    """

    def __init__(self, out_dir: Path, classes: Sequence[str]):
        self._out = out_dir
        self._classes = tuple(classes)
        self._rows: list[Row] = []

    def add(self, name: str, image: np.ndarray, labelling: Labelling) -> None:
        """Adds an image, [H, W, 3] uint8, with its maps and objects; Raises as `make_row`."""
        self.add_row(self.make_row(name, image, labelling))

    def make_row(self, name: str, image: np.ndarray, labelling: Labelling) -> Row:
        """Writes the thumbnails of one image and returns its row, which `add_row` takes.

        Raises:
            TypeError: The image is not uint8.
            ValueError: A map or mask has another size than the image.
            OutputError: A picture cannot be written.
        """
        instances = labelling.instances
        small = _resize(image)
        shown = [("photo", small)]
        for title, values in labelling.maps.items():
            if tuple(values.shape) != image.shape[:2]:
                wanted, came = list(image.shape[:2]), list(values.shape)
                raise ValueError(f"maps[{title!r}]: expected {wanted}, got {came}")
            shown.append((title, draw_map(small, _resize(values.detach().cpu().float().numpy()))))
        resized = _resize_instances(instances, image)
        shown.append(("result", draw_instances(small, resized, self._classes)))
        return Row(
            name=name,
            height=int(image.shape[0]),
            width=int(image.shape[1]),
            module=labelling.module,
            pictures=[self._save(name, i, *picture) for i, picture in enumerate(shown)],
            objects=[
                Found(label=label, score=round(score, 4), quality=quality)
                for label, score, quality in zip(
                    instances.labels.tolist(),
                    instances.scores.tolist(),
                    _qualities(instances),
                    strict=True,
                )
            ],
        )

    def add_row(self, row: Row) -> None:
        """Adds a row that `make_row` returned, in this or an earlier run."""
        self._rows.append(row)

    def finish(self, summary: LabelSummary, evaluation: Mapping[str, Any] | None = None) -> Path:
        """Writes the page and returns its path.

        Args:
            summary: Figures of the job.
            evaluation: Figures by name; a nested mapping becomes a table.

        Raises:
            ValueError: The figures are of another number of classes.
            OutputError: The page cannot be written.
        """
        if len(summary.class_counts) not in (0, len(self._classes)):
            wanted, came = len(self._classes), len(summary.class_counts)
            raise ValueError(f"summary.class_counts: expected {wanted} classes, got {came}")
        figures = evaluation or {}
        html = _template().render(
            classes=self._classes,
            rows=self._rows,
            summary=summary,
            counts=_ranked(summary.class_counts),
            bars=_bars(summary.score_counts),
            figures={k: v for k, v in figures.items() if not isinstance(v, Mapping)},
            tables={k: v for k, v in figures.items() if isinstance(v, Mapping)},
        )
        with writing(self._out):
            self._out.mkdir(parents=True, exist_ok=True)
        path = self._out / PAGE
        with atomic_write(path, binary=True) as file:
            # a name may hold bytes that no UTF-8 has
            file.write(html.encode("utf-8", "replace"))
        return path

    def _save(self, name: str, index: int, title: str, picture: np.ndarray) -> Picture:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        file = f"{PICTURES}/{digest}-{index}.webp"
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        _, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
        path = self._out / file
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.tobytes())
        return Picture(title=title, file=file, width=picture.shape[1], height=picture.shape[0])


def _qualities(instances: Instances) -> list[dict[str, float | None]]:
    """The figures of each object; nothing where none is known."""
    if instances.quality is None:
        return [{} for _ in range(len(instances))]
    rows = quality_rows(instances.quality, len(instances))
    return [
        {name: None if value is None else round(value, 4) for name, value in row.items()}
        for row in rows
    ]


def _resize(image: np.ndarray) -> np.ndarray:
    """`image`, [H, W] or [H, W, 3], with its longer side at the size of a thumbnail."""
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized: np.ndarray = cv2.resize(image, size, interpolation=how)
    return resized


def _resize_instances(instances: Instances, image: np.ndarray) -> Instances:
    height, width = _resize(image).shape[:2]
    scale = torch.tensor([width / image.shape[1], height / image.shape[0]] * 2)
    masks = None
    if instances.masks is not None:
        if instances.masks.shape[1:] != image.shape[:2]:
            wanted, came = list(image.shape[:2]), list(instances.masks.shape[1:])
            raise ValueError(f"masks: expected {wanted}, got {came}")
        small = np.empty((len(instances), height, width), dtype=bool)
        for i, mask in enumerate(instances.masks.cpu().numpy()):
            small[i] = _resize(mask.astype(np.float32)) >= 0.5
        masks = torch.from_numpy(small)
    boxes = instances.boxes.detach().cpu() * scale
    return Instances(boxes, instances.labels, instances.scores, masks)


def _ranked(counts: Sequence[int]) -> list[tuple[int, int, float]]:
    """(class, count, count / largest), the most frequent first, without the classes not found."""
    largest = max(counts, default=0)
    found = [(label, count, count / largest) for label, count in enumerate(counts) if count]
    return sorted(found, key=lambda row: -row[1])


def _bars(counts: Sequence[int]) -> list[tuple[float, float, int, float]]:
    """(from, to, count, count / largest) of each bin of the score histogram."""
    largest = max(counts, default=0)
    n = len(counts)
    return [(i / n, (i + 1) / n, c, c / largest if largest else 0.0) for i, c in enumerate(counts)]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = _figure
    environment.globals["color"] = lambda i: "#{:02x}{:02x}{:02x}".format(*instance_color(i))
    source = files("labelpenet.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _figure(value: object) -> str:
    """A figure as text: `0.417`, `1,234`, a dash where there is no number."""
    if isinstance(value, float):
        return "–" if value != value else f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
