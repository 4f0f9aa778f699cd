"""What an evaluation found, and how it is shown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from labelpenet.evaluation.matching import Matching, PerClass

DASH = "–"
_CLASSES_SHOWN = 6  # columns that fit a terminal of 80 characters


@dataclass(frozen=True)
class Evaluation:
    """Every figure of a dataset, in [0, 1]; a class without ground truth is nan, out of all means.

    A figure is None where its inputs were not given: masks for mask AP and ABO, masks and semantic
    truth for IoU, image scores for classification.

    Attributes:
        classes: Names, without background.
        images: How many there were.
        mask_images: Those with true masks, which mask AP and ABO are taken over.
        semantic_images: Those with a true semantic map, which IoU is taken over.
        box_ap: VOC box AP at IoU > 0.5, area.
        box_ap_11point: The same with 11 points.
        corloc: Correct localisation.
        mask_ap: By matching (BEST, GREEDY), then by IoU threshold (0.25, 0.5, 0.75).
        abo: Average best overlap of masks; `.mean` is the mean over classes.
        abo_per_object: Its mean over all objects.
        iou: Of semantic maps, background first; `.mean` is mIoU.
        classification_ap: Of image-level scores, area.
        classification_ap_11point: The same with 11 points.
    """

    classes: tuple[str, ...]
    images: int
    mask_images: int
    semantic_images: int
    box_ap: PerClass
    box_ap_11point: PerClass
    corloc: PerClass
    mask_ap: Mapping[Matching, Mapping[float, PerClass]] | None = None
    abo: PerClass | None = None
    abo_per_object: float | None = None
    iou: PerClass | None = None
    classification_ap: PerClass | None = None
    classification_ap_11point: PerClass | None = None

    def figures(self) -> dict[str, PerClass]:
        """The per-class figures at hand by title, such as `mask AP 50`; IoU without background."""
        shown: dict[str, PerClass | None] = {
            "box AP": self.box_ap,
            "box AP 11-point": self.box_ap_11point,
            "CorLoc": self.corloc,
        }
        for matching, by_threshold in (self.mask_ap or {}).items():
            suffix = "" if matching is Matching.BEST else f" {matching.value}"
            for threshold, figure in by_threshold.items():
                shown[f"mask AP {100 * threshold:.0f}{suffix}"] = figure
        shown["ABO"] = self.abo
        shown["IoU"] = None if self.iou is None else PerClass(self.iou.values[1:])
        shown["class AP"] = self.classification_ap
        shown["class AP 11-point"] = self.classification_ap_11point
        return {title: figure for title, figure in shown.items() if figure is not None}

    def means(self) -> dict[str, float]:
        """The mean of every figure by title; that of IoU (mIoU) counts background too."""
        means = {title: figure.mean for title, figure in self.figures().items()}
        if self.iou is not None:
            means["IoU"] = self.iou.mean
        if self.abo_per_object is not None:
            means["ABO per object"] = self.abo_per_object
        return means

    def to_json(self) -> str:
        """All of it as JSON: counts, `means`, and `classes` with each figure; nan is null."""
        figures = self.figures()
        content: dict[str, Any] = {
            "images": self.images,
            "mask_images": self.mask_images,
            "semantic_images": self.semantic_images,
            "means": {title: _number(mean) for title, mean in self.means().items()},
            "classes": {
                name: {title: _number(figure.values[c]) for title, figure in figures.items()}
                for c, name in enumerate(self.classes)
            },
        }
        if self.iou is not None:
            content["classes"] = {
                "background": {"IoU": _number(self.iou.values[0])},
                **content["classes"],
            }
        return json.dumps(content, indent=2, allow_nan=False)

    def rows(self) -> list[list[str]]:
        """The table as text in percent: a header, a row per class, the mean last."""
        figures, means = self.figures(), self.means()
        rows = [["class", *figures]]
        if self.iou is not None:
            background = self.iou.values[0]
            rows.append(
                ["background", *(_percent(background) if t == "IoU" else DASH for t in figures)]
            )
        for c, name in enumerate(self.classes):
            rows.append([name, *(_percent(figure.values[c]) for figure in figures.values())])
        rows.append(["mean", *(_percent(means[title]) for title in figures)])
        return rows

    def table(self) -> Table:
        """The table in percent, for a terminal: `rich.print(evaluation.table())`.

        A row per figure: terminals are narrow. The columns are the mean and, where they are few,
        the classes; `markdown()` and `to_json()` have every class.
        """
        header, *rows = self.rows()
        classes = rows[:-1] if len(rows) - 1 <= _CLASSES_SHOWN else []
        table = Table(caption=self._caption())
        table.add_column("figure")
        for row in (rows[-1], *classes):
            table.add_column(Text(row[0]), justify="right")  # names may hold brackets
        for column, title in enumerate(header[1:], 1):
            table.add_row(title, *(row[column] for row in (rows[-1], *classes)))
        return table

    def markdown(self) -> str:
        """The table in percent, for a page."""
        header, *rows = self.rows()
        rule = ["---", *["---:"] * (len(header) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]
        return "\n".join([*lines, "", self._caption()])

    def _caption(self) -> str:
        parts = [f"{self.images} images"]
        if self.mask_ap is not None:
            parts.append(f"masks known in {self.mask_images}")
        if self.iou is not None:
            parts.append(f"semantic maps in {self.semantic_images}")
        if self.abo_per_object is not None:
            parts.append(f"ABO per object {_percent(self.abo_per_object)}")
        return ", ".join(parts) + f"; percent, {DASH} = no ground truth"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float) -> str:
    return DASH if math.isnan(value) else f"{100 * value:.1f}"
