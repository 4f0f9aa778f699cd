"""The ladder: every module of a cascade on the same photos, in the form of the paper's table.

    python -m benchmarks.ladder CHECKPOINT SOURCE --proposals BOXES --name voc12-mini

SOURCE has ground truth (see `labelpenet evaluate`). Tags are not used: each module finds what it
finds. Writes benchmarks/results/<name>.json and prints the table as markdown.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from labelpenet.data import ProposalStore, load_dataset, load_image
from labelpenet.evaluation import Evaluation, Evaluator, Matching
from labelpenet.evaluation.files import dataset_truth
from labelpenet.labeler import Labeler, propose
from labelpenet.progress import track

from .machine import describe

RESULTS = Path(__file__).parent / "results"
ROWS = ("classification", "detection", "refinement", "segmentation")


def evaluate_module(
    labeler: Labeler, source: Path, console: Console, split: str | None = None
) -> tuple[Evaluation, float]:
    """The figures of one module, and its seconds per image (proposals not counted if stored)."""
    dataset = load_dataset(source, split=split, classes=labeler.classes)
    truth = dataset_truth(source, dataset)
    evaluator = Evaluator(labeler.classes)
    seconds = 0.0
    title = f"module {labeler.module}"
    for record in track(dataset.records, title, len(dataset), console):
        image = load_image(record.path)
        began = time.perf_counter()
        found = labeler(image, (), record.name).instances
        seconds += time.perf_counter() - began
        scores = None
        if labeler.module == 1:
            store = labeler.proposals
            known = store is not None and record.name in store
            boxes = store[record.name] if known else propose(image, labeler.config)
            scores = labeler.predictor.image_scores(image, boxes).cpu()
        evaluator.add(record.name, found, truth[record.name], scores)
    return evaluator.result(), seconds / len(dataset)


def figures(result: Evaluation) -> dict[str, float]:
    """The columns of the table."""
    means = result.means()
    assert result.mask_ap is not None
    assert result.iou is not None
    row = {
        "mAP": means["box AP"],
        "CorLoc": means["CorLoc"],
        "mIoU": means["IoU"],
    }
    for threshold, figure in result.mask_ap[Matching.BEST].items():
        row[f"mAP^r {100 * threshold:.0f}"] = figure.mean
    row["ABO"] = means["ABO"]
    row["ABO per object"] = means["ABO per object"]
    if result.classification_ap is not None:
        row["image mAP"] = means["class AP"]
    return row


def main() -> None:
    """Runs the four modules and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--split", help="part of the dataset")
    parser.add_argument("--proposals", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--note", default="", help="how the checkpoint was made")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    store = None if arguments.proposals is None else ProposalStore.open(arguments.proposals)
    rows: dict[str, dict[str, float]] = {}
    details: dict[str, Any] = {}
    for number, title in enumerate(ROWS, 1):
        labeler = Labeler(arguments.checkpoint, module=number, use_tags=False, proposals=store)
        result, seconds = evaluate_module(labeler, arguments.source, console, arguments.split)
        rows[title] = figures(result) | {"s/image": seconds}
        details[title] = json.loads(result.to_json())
    content = {
        "what": "each module of one checkpoint on the same photos, tags not used",
        "note": arguments.note,
        "machine": describe(),
        "config": labeler.config.to_dict(),
        "ladder": rows,
        "details": details,
    }
    path = RESULTS / f"{arguments.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(markdown(rows))


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """The ladder in percent (seconds as they are)."""
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    lines = [["module", *columns], ["---"] + ["---:"] * len(columns)]
    for title, row in rows.items():
        cells = [
            "–" if c not in row else f"{row[c]:.2f}" if c == "s/image" else f"{100 * row[c]:.1f}"
            for c in columns
        ]
        lines.append([title, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
