"""COCO's average precision, by pycocotools, for results in COCO's JSON form."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from labelpenet.evaluation.matching import PerClass

_ANNOTATION = ("id", "image_id", "category_id", "area", "iscrowd")


@dataclass(frozen=True)
class CocoResult:
    """COCO's twelve figures in [0, 1]; nan where the truth holds no object of that size.

    Attributes:
        kind: "segm" or "bbox".
        classes: Category names, in the order of their ids.
        per_class: `ap` per category.
        ap: Mean over IoU 0.5, 0.55, ..., 0.95.
        ap50: At IoU 0.5.
        ap75: At IoU 0.75.
        ap_small: Objects under 32^2 pixels.
        ap_medium: Between 32^2 and 96^2.
        ap_large: Above 96^2.
        ar1: Average recall with 1 prediction an image.
        ar10: With 10.
        ar100: With 100.
        ar_small: Of small objects.
        ar_medium: Of medium ones.
        ar_large: Of large ones.
    """

    kind: str
    classes: tuple[str, ...]
    per_class: PerClass
    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float


def coco_evaluate(
    truth: Path | str | Mapping[str, Any],
    results: Path | str | Sequence[Mapping[str, Any]],
    kind: Literal["segm", "bbox"] = "segm",
) -> CocoResult:
    """Evaluates results as COCO's server does.

    Args:
        truth: COCO annotations: a JSON file, or its content.
        results: COCO results (image_id, category_id, score, segmentation or bbox): a JSON file, or
            its content. May be empty.
        kind: What overlaps are taken of: masks or boxes.

    Raises:
        OSError: A file that cannot be read.
        ValueError: Not COCO's form, an unknown image, a NaN or infinite score, an unknown kind.

    Source:
        Lin et al., "Microsoft COCO", ECCV 2014, and pycocotools.

    Example:
        >>> square = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81,
        ...           "iscrowd": 0}
        >>> truth = {"images": [{"id": 1, "height": 20, "width": 20}], "annotations": [square],
        ...          "categories": [{"id": 1, "name": "cat"}]}
        >>> found = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 7], "score": 0.5}
        >>> round(coco_evaluate(truth, [found], "bbox").ap, 3)  # IoU 7/9: right up to 0.75
        0.6
    """
    if kind not in ("segm", "bbox"):
        raise ValueError(f"kind: expected 'segm' or 'bbox', got {kind!r}")
    known = _load("truth", truth, dict)
    found = _load("results", results, list)
    for key in ("images", "annotations", "categories"):
        if not isinstance(known.get(key), list):
            raise ValueError(f"truth: expected COCO annotations, got no list of {key}")
    shape = "segmentation" if kind == "segm" else "bbox"
    _check_rows("truth images", known["images"], {"id", "height", "width"})
    _check_rows("truth categories", known["categories"], {"id", "name"})
    _check_rows("truth annotations", known["annotations"], {*_ANNOTATION, shape})
    _check_rows("results", found, {"image_id", "category_id", "score", shape})
    images = {image["id"] for image in known["images"]}
    for i, row in enumerate(found):
        if row["image_id"] not in images:
            raise ValueError(f"results[{i}]: image_id {row['image_id']} is not in the truth")
        if not math.isfinite(row["score"]):
            raise ValueError(f"results[{i}]: expected a finite score, got {row['score']}")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        coco = COCO()
        coco.dataset = known
        coco.createIndex()
        evaluation = COCOeval(coco, _detections(coco, found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [T, R, C]: all areas, 100 boxes
    figures = [math.nan if value < 0 else float(value) for value in evaluation.stats]
    per_class = [
        float(values[values > -1].mean()) if (values > -1).any() else math.nan
        for values in np.moveaxis(precision, 2, 0)
    ]
    names = tuple(str(c["name"]) for c in coco.loadCats(evaluation.params.catIds))
    return CocoResult(kind, names, PerClass(tuple(per_class)), *figures)


def _load(name: str, source: Any, expected: type) -> Any:
    """The JSON content; a copy, since pycocotools writes into what it is given."""
    content = source
    if isinstance(source, str | Path):
        try:
            content = json.loads(Path(source).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}: {source} is no JSON: {error}") from error
    else:
        content = copy.deepcopy(content)
    if not isinstance(content, expected):
        raise ValueError(
            f"{name}: expected a JSON {expected.__name__}, got {type(content).__name__}"
        )
    return content


def _check_rows(name: str, rows: list[Any], keys: set[str]) -> None:
    for i, row in enumerate(rows):
        if not isinstance(row, dict) or keys - row.keys():
            raise ValueError(f"{name}[{i}]: expected {', '.join(sorted(keys))}, got {row!r:.80}")


def _detections(coco: COCO, results: list[Any]) -> COCO:
    if results:
        return coco.loadRes(results)
    empty = COCO()  # loadRes reads the first row to learn the form, and fails without one
    empty.dataset = {**coco.dataset, "annotations": []}
    empty.createIndex()
    return empty
