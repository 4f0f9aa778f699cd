"""How well proposals cover true objects: selective search, ours and OpenCV's, on photos with boxes.

    python -m benchmarks.recall SOURCE [--preset fast|quality] [--limit N] [--json FILE]

SOURCE has ground truth (see `labelpenet evaluate`). Of each photo both keep the same number of
boxes, best ranked first. Prints the mean best IoU of the objects, the share with one of at least
0.5, and the median time of a photo; the times of a machine with other work on it mean nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from labelpenet.data import load_dataset, load_image
from labelpenet.evaluation.files import dataset_truth
from labelpenet.ops import box_iou, selective_search
from labelpenet.progress import track

from .bench_selective_search import opencv
from .machine import describe

Search = Callable[[np.ndarray, str], torch.Tensor]


def ours(image: np.ndarray, preset: str) -> torch.Tensor:
    """Boxes [R, 4] of our search."""
    return selective_search(torch.from_numpy(image), preset=preset)


def best_overlaps(truth: np.ndarray, boxes: torch.Tensor) -> torch.Tensor:
    """For each true box the IoU of the nearest one of `boxes`; 0 where there is none."""
    if not len(boxes):
        return torch.zeros(len(truth))
    return box_iou(torch.from_numpy(truth), boxes.float()).amax(1)


def compare(source: Path, searches: dict[str, Search], preset: str, limit: int) -> dict[str, Any]:
    """The figures of each search over the photos of `source`."""
    dataset = load_dataset(source)
    truth = dataset_truth(source, dataset)
    overlaps: dict[str, list[torch.Tensor]] = {name: [] for name in searches}
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    counts = []
    records = dataset.records[:limit] if limit else dataset.records
    for record in track(records, preset, len(records), Console(stderr=True)):
        image = load_image(record.path)
        found = {}
        for name, search in searches.items():
            began = time.perf_counter()
            found[name] = search(image, preset)
            seconds[name].append(time.perf_counter() - began)
        counts.append(min(len(boxes) for boxes in found.values()))
        for name, boxes in found.items():
            overlaps[name].append(best_overlaps(truth[record.name].boxes, boxes[: counts[-1]]))
    figures: dict[str, Any] = {"photos": len(records), "boxes": float(np.mean(counts))}
    for name in searches:
        every = torch.cat(overlaps[name])
        figures[name] = {
            "mean best IoU": float(every.mean()),
            "recall at 0.5": float((every >= 0.5).float().mean()),
            "median ms": 1e3 * float(np.median(seconds[name])),
        }
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Prints the figures, and writes them where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("--preset", choices=("fast", "quality"), default="fast")
    parser.add_argument("--limit", type=int, default=0, help="photos; 0 for all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    searches: dict[str, Search] = {"ours": ours}
    peer = opencv()
    if callable(peer):
        searches["OpenCV"] = lambda image, preset: peer(torch.from_numpy(image), preset)
    figures = compare(options.source, searches, options.preset, options.limit)
    if options.json is not None:
        content = {"machine": describe(), "preset": options.preset} | figures
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{options.preset}: {figures['photos']} photos, {figures['boxes']:.0f} boxes each")
    for name in searches:
        row = ", ".join(f"{key} {value:.4g}" for key, value in figures[name].items())
        print(f"  {name}: {row}")


if __name__ == "__main__":
    main()
