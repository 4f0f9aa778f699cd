"""The ladder: every module of one or more trainings on the same photos, as in the paper's table.

    python -m benchmarks.ladder DEV RUN [RUN ...] --proposals BOXES [BOXES ...] --name voc12-mini

DEV has ground truth (see `labelpenet evaluate`); a RUN is the folder of a training, and several are
those of one schedule with different seeds: figures are their means. Tags are not used: each module
finds what it finds. Each step of the ladder is compared with the one before it by a paired
bootstrap over the photos. With --train, the CorLoc of the labels that the modules handed on, tags
given, is told too. Writes benchmarks/results/<name>.json and prints tables as markdown.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console

from labelpenet.config import Config
from labelpenet.data import ProposalStore, load_dataset, load_image
from labelpenet.evaluation import (
    Comparison,
    Evaluation,
    Evaluator,
    Matches,
    Matching,
    mean_ap,
    paired_bootstrap,
)
from labelpenet.evaluation.files import dataset_truth
from labelpenet.files import atomic_write
from labelpenet.icn.labeler import IcnLabeler
from labelpenet.labeler import Labeler
from labelpenet.models.cascade import load_checkpoint
from labelpenet.models.download import sha256
from labelpenet.progress import track
from labelpenet.training.targets import TargetStore
from labelpenet.views import autocast

from .machine import describe

RESULTS = Path(__file__).parent / "results"
ROWS = ("classification", "detection", "refinement", "segmentation")
_FILES = (("model", "weights"), ("icn", "saliency"), ("icn", "attention_checkpoint"))
# The checkpoints of a run that answer, and what their rows are called.
STAGES = (("module4.pt", ""), ("forward_backward.pt", ", forward-backward"))


def evaluate_module(
    labeler: Labeler | IcnLabeler, source: Path, console: Console, split: str | None = None
) -> tuple[Evaluation, float]:
    """The figures of one module, or of an ICN, and its seconds per image."""
    dataset = load_dataset(source, split=split, classes=labeler.classes)
    truth = dataset_truth(source, dataset)
    evaluator = Evaluator(labeler.classes, labeler.config.detection.paint_score)
    seconds = 0.0
    title = f"module {labeler.module}"
    for record in track(dataset.records, title, len(dataset), console):
        image = load_image(record.path)
        began = time.perf_counter()
        found = labeler(image, (), record.name).instances
        seconds += time.perf_counter() - began
        scores = None
        if isinstance(labeler, Labeler) and labeler.module == 1:
            boxes = labeler.propose(image, record.name, traced=True)
            scores = labeler.predictor.image_scores(image, boxes).cpu()
        evaluator.add(record.name, found, truth[record.name], scores)
    return evaluator.result(), seconds / len(dataset)


def evaluate_cascade(
    labeler: Labeler,
    source: Path,
    console: Console,
    split: str | None = None,
    modules: int = len(ROWS),
) -> list[tuple[Evaluator, float]]:
    """What the first modules find, one pass of the trunk for all, and their seconds per image."""
    dataset = load_dataset(source, split=split, classes=labeler.classes)
    truth = dataset_truth(source, dataset)
    paint_score = labeler.config.detection.paint_score
    evaluators = [Evaluator(labeler.classes, paint_score) for _ in range(modules)]
    seconds = [0.0] * modules
    predictor = labeler.predictor
    for record in track(dataset.records, str(labeler.checkpoint), len(dataset), console):
        image = load_image(record.path)
        boxes = labeler.propose(image, record.name, traced=True)
        began = time.perf_counter()
        with autocast(labeler.config, predictor.device):
            views = predictor.views([image])[0]
            maps = predictor.maps(views, image, None)
            shared = time.perf_counter() - began
            scores = predictor.presence(views, boxes, maps).cpu()
            for k, evaluator in enumerate(evaluators):
                began = time.perf_counter()
                found = predictor.answer(views, image, boxes, k + 1, None, maps).instances
                seconds[k] += shared + time.perf_counter() - began
                evaluator.add(record.name, found, truth[record.name], None if k else scores)
    return [(one, s / len(dataset)) for one, s in zip(evaluators, seconds, strict=True)]


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


@dataclass(frozen=True)
class Task:
    """All modules of one checkpoint on all photos."""

    checkpoint: Path
    proposals: Path | None
    source: Path
    split: str | None
    overrides: tuple[str, ...]
    quiet: bool
    kept: Path | None = None

    def __call__(self) -> list[tuple[Evaluator, float]]:
        """Runs it, unless a run before kept the answer."""
        if self.kept is None:
            return self._run()
        asked = (sha256(self.checkpoint), self.proposals, self.source, self.split, self.overrides)
        path = self.kept / f"{self.checkpoint.parent.name}-{self.checkpoint.stem}.pickle"
        if path.exists():
            key, answer = pickle.loads(path.read_bytes())
            if key == asked:
                return cast("list[tuple[Evaluator, float]]", answer)
        answer = self._run()
        self.kept.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, binary=True) as file:
            pickle.dump((asked, answer), file)
        return answer

    def _run(self) -> list[tuple[Evaluator, float]]:
        """One thread where it is not alone."""
        if self.quiet:
            torch.set_num_threads(1)
        store = None if self.proposals is None else ProposalStore.open(self.proposals)
        labeler = Labeler(
            self.checkpoint,
            use_tags=False,
            proposals=store,
            overrides=self.overrides,
            min_score=0,
        )
        return evaluate_cascade(
            labeler, self.source, Console(stderr=True, quiet=self.quiet), self.split
        )


def run_all(tasks: Sequence[Task], workers: int) -> list[list[tuple[Evaluator, float]]]:
    """Their answers, in order."""
    if workers == 1:
        return [task() for task in tasks]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return [answer.result() for answer in [pool.submit(task) for task in tasks]]


class Seeds:
    """What the bootstrap draws from: the outcomes of several seeds on the same images."""

    def __init__(self, outcomes: Sequence[Matches]) -> None:
        self.outcomes = outcomes

    def __len__(self) -> int:
        return len(self.outcomes[0])

    def mean(self, counts: np.ndarray) -> float:
        """Their mean AP, averaged, of the images drawn `counts` times."""
        return float(np.mean([mean_ap(one, counts) for one in self.outcomes]))


def compare(
    before: Sequence[Evaluator], after: Sequence[Evaluator], samples: int
) -> dict[str, Comparison]:
    """Whether a step of the ladder rises, by box AP and by mask AP at 0.5."""
    kinds: dict[str, Callable[[Evaluator], Matches]] = {
        "mAP": Evaluator.box_matches,
        "mAP^r 50": Evaluator.mask_matches,
    }
    found = {}
    for name, outcomes in kinds.items():
        a, b = (Seeds([outcomes(one) for one in side]) for side in (before, after))
        found[name] = paired_bootstrap(a, b, Seeds.mean, samples=samples)
    return found


def handed_on(run: Path, train: Path, split: str | None = None) -> dict[str, float]:
    """CorLoc of the labels that each module gave the next one, tags known, by module."""
    cascade, _ = load_checkpoint(run / "module4.pt")
    dataset = load_dataset(train, split=split, classes=cascade.classes)
    truth = dataset_truth(train, dataset)
    found = {}
    for number in (1, 2, 3):
        path = run / f"targets{number}.parquet"
        if path.exists():
            store, evaluator = TargetStore.open(path), Evaluator(cascade.classes)
            for name in store.names():
                evaluator.add(name, store[name], truth[name])
            found[str(number)] = evaluator.result().means()["CorLoc"]
    return found


def settings_of(config: Config) -> dict[str, Any]:
    """Settings as a result keeps them: of files their names, not where they lay."""
    values = config.to_dict()
    for section, key in _FILES:
        path = values[section][key]
        values[section][key] = path and Path(path).name
    return values


def mean_rows(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each column."""
    return {column: float(np.mean([row[column] for row in rows])) for column in rows[0]}


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


def main(arguments: list[str] | None = None) -> None:
    """Runs every module of every training and writes the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("dev", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--split", help="part of DEV")
    parser.add_argument("--proposals", type=Path, nargs="*", default=[], help="of DEV, by run")
    parser.add_argument("--train", type=Path, help="what the runs learned from, with boxes")
    parser.add_argument("--train-split", help="part of TRAIN")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        help="section.key=value in place of the checkpoints' settings",
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--kept",
        type=Path,
        help="folder for the answers of each checkpoint, from which a stopped run goes on\n"
        "(pickles: one of your own; empty it when the code has changed)",
    )
    parser.add_argument("--samples", type=int, default=1000, help="draws of the bootstrap")
    parser.add_argument("--name", required=True)
    parser.add_argument("--note", default="", help="how the runs were made")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.proposals and len(options.proposals) != len(options.runs):
        parser.error(f"--proposals: expected one for each of {len(options.runs)} runs")
    stores = options.proposals or [None] * len(options.runs)
    stages = [s for s in STAGES if all((run / s[0]).exists() for run in options.runs)]
    titles = [title + suffix for _, suffix in stages for title in ROWS]
    tasks = [
        Task(
            run / name,
            store,
            options.dev,
            options.split,
            tuple(options.overrides),
            options.workers > 1,
            options.kept,
        )
        for run, store in zip(options.runs, stores, strict=True)
        for name, _ in stages
    ]
    answers = run_all(tasks, options.workers)
    by_run = [
        [row for one in answers[i : i + len(stages)] for row in one]
        for i in range(0, len(answers), len(stages))
    ]
    rows = {
        title: [figures(run[k][0].result()) | {"s/image": run[k][1]} for run in by_run]
        for k, title in enumerate(titles)
    }
    ends = [*pairwise(range(4)), *([(3, 7)] if len(titles) > 4 else [])]
    steps = {
        f"{titles[a]} -> {titles[b]}": compare(
            [run[a][0] for run in by_run], [run[b][0] for run in by_run], options.samples
        )
        for a, b in ends
    }
    means = {title: mean_rows(row) for title, row in rows.items()}
    cascade, _ = load_checkpoint(options.runs[0] / stages[0][0], options.overrides)
    content: dict[str, Any] = {
        "what": "each module on the same photos, tags not used; means over the runs",
        "note": options.note,
        "machine": describe(),
        "config": settings_of(cascade.config),
        "ladder": means,
        "runs": rows,
        "steps": {step: {k: asdict(v) for k, v in row.items()} for step, row in steps.items()},
        "details": {
            title: [json.loads(run[k][0].result().to_json()) for run in by_run]
            for k, title in enumerate(titles)
        },
    }
    if options.train is not None:
        content["CorLoc of labels handed on"] = [
            handed_on(run, options.train, options.train_split) for run in options.runs
        ]
    options.results.mkdir(parents=True, exist_ok=True)
    with atomic_write(options.results / f"{options.name}.json") as file:
        file.write(json.dumps(content, indent=1) + "\n")
    print(markdown(means))
    for step, row in steps.items():
        for name, found in row.items():
            interval = f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
            print(f"{step}: {name} {100 * found.difference:+.1f} {interval}, p {found.p_value:.3f}")
    if options.train is not None:
        print("CorLoc of labels handed on:", content["CorLoc of labels handed on"])


if __name__ == "__main__":
    main()
