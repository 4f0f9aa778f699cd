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
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from labelpenet.data import ProposalStore, load_dataset
from labelpenet.evaluation import (
    Comparison,
    Evaluator,
    Matches,
    mean_ap,
    paired_bootstrap,
)
from labelpenet.evaluation.files import dataset_truth
from labelpenet.files import atomic_write
from labelpenet.labeler import usable_device
from labelpenet.models.cascade import load_checkpoint
from labelpenet.training.targets import TargetStore

from .checkpoints import Task, add_kept, run_all
from .machine import describe
from .rows import (
    RESULTS,
    ROWS,
    figures,
    known_images,
    markdown,
    mean_rows,
    settings_of,
)
from .tool import one_line_errors, positive

# The checkpoints of a run that answer, and what their rows are called.
STAGES = (("module4.pt", ""), ("forward_backward.pt", ", forward-backward"))


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


def print_comparison(step: str, row: dict[str, Comparison]) -> None:
    """A line for each figure: the difference in percent and its 95 % interval."""
    for name, found in row.items():
        interval = f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
        print(f"{step}: {name} {100 * found.difference:+.1f} {interval}, p {found.p_value:.3f}")


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
            if missing := [name for name in store.names() if name not in truth]:
                raise ValueError(f"{path}: labels of {missing[0]}, which is not in {train}")
            for name in store.names():
                evaluator.add(name, store[name], truth[name])
            found[str(number)] = evaluator.result().means()["CorLoc"]
    return found


def shared_stages(runs: Sequence[Path]) -> list[tuple[str, str]]:
    """Those of STAGES that every run came to; what some lack is told.

    Raises:
        ValueError: There are none.
    """
    shared = []
    for name, suffix in STAGES:
        lacking = [str(run) for run in runs if not (run / name).exists()]
        if not lacking:
            shared.append((name, suffix))
        elif len(lacking) < len(runs):
            print(f"no rows of {name}, which is not in {', '.join(lacking)}", file=sys.stderr)
    if not shared:
        names = " or ".join(name for name, _ in STAGES)
        raise ValueError(f"expected {names} in each of {', '.join(map(str, runs))}")
    return shared


@one_line_errors
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
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; cpu by default")
    parser.add_argument("--workers", type=positive, default=1)
    add_kept(parser)
    parser.add_argument("--samples", type=positive, default=1000, help="draws of the bootstrap")
    parser.add_argument("--name", required=True)
    parser.add_argument("--note", default="", help="how the runs were made")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.proposals and len(options.proposals) != len(options.runs):
        parser.error(f"--proposals: expected one for each of {len(options.runs)} runs")
    stores = options.proposals or [None] * len(options.runs)
    stages = shared_stages(options.runs)
    cascade, _ = load_checkpoint(options.runs[0] / stages[0][0], options.overrides)
    usable_device(options.device)
    for store in options.proposals:
        ProposalStore.open(store)
    known_images(options.dev, cascade.classes, options.split)
    handed: list[dict[str, float]] | None = None
    if options.train is not None:
        handed = [handed_on(run, options.train, options.train_split) for run in options.runs]
    titles = [title + suffix for _, suffix in stages for title in ROWS]
    tasks = [
        Task(
            run / name,
            store,
            options.dev,
            options.split,
            tuple(options.overrides),
            options.workers > 1,
            options.device,
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
    if handed is not None:
        content["CorLoc of labels handed on"] = handed
    options.results.mkdir(parents=True, exist_ok=True)
    with atomic_write(options.results / f"{options.name}.json") as file:
        file.write(json.dumps(content, indent=1) + "\n")
    print(markdown(means))
    for step, row in steps.items():
        print_comparison(step, row)
    if handed is not None:
        print("CorLoc of labels handed on:", handed)


if __name__ == "__main__":
    raise SystemExit(main())
