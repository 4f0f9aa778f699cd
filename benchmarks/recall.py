"""How well proposals cover true objects: selective search, ours and OpenCV's, on photos with boxes.

    python -m benchmarks.recall SOURCE [--preset fast quality] [--limit N] [--json FILE]

SOURCE has ground truth (see `labelpenet evaluate`). Of each photo both keep the same number of
boxes, best ranked first. Prints the mean best IoU of the objects, and the share of them with one of
at least 0.5.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
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
PRESETS = ("fast", "quality")


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
    counts = []
    records = dataset.records[:limit] if limit else dataset.records
    for record in track(records, preset, len(records), Console(stderr=True)):
        image = load_image(record.path)
        found = {}
        for name, search in searches.items():
            found[name] = search(image, preset)
        counts.append(min(len(boxes) for boxes in found.values()))
        for name, boxes in found.items():
            overlaps[name].append(best_overlaps(truth[record.name].boxes, boxes[: counts[-1]]))
    figures = {}
    for name in searches:
        every = torch.cat(overlaps[name])
        figures[name] = {
            "mean best IoU": float(every.mean()),
            "recall at 0.5": float((every >= 0.5).float().mean()),
        }
    return {
        "preset": preset,
        "photos": len(records),
        "boxes": float(np.mean(counts)),
        "searches": figures,
    }


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row for each search and preset."""
    columns = ["mean best IoU", "recall at 0.5"]
    lines = [["preset", "search", "photos", "boxes each", *columns], ["---"] * 2 + ["---:"] * 4]
    for run in runs:
        for name, found in run["searches"].items():
            numbers = [f"{found[column]:.4f}" for column in columns]
            lines.append([run["preset"], name, str(run["photos"]), f"{run['boxes']:.0f}", *numbers])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Prints the figures, and writes them where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("--preset", nargs="+", choices=PRESETS, default=PRESETS)
    parser.add_argument("--limit", type=int, default=0, help="photos; 0 for all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    searches: dict[str, Search] = {"ours": ours}
    peer = opencv()
    if callable(peer):
        searches["OpenCV"] = lambda image, preset: peer(torch.from_numpy(image), preset)
    runs = [compare(options.source, searches, preset, options.limit) for preset in options.preset]
    if options.json is not None:
        content = {"machine": describe(), "source": options.source.name, "runs": runs}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    print(table(runs))


if __name__ == "__main__":
    main()
