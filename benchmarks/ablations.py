"""Ablations: the whole training and its ladder once for each setting that is taken away.

    python -m benchmarks.ablations TRAIN DEV OUT -c voc-squeezenet --proposals train.parquet \\
        --dev-proposals dev.parquet --name voc12-mini-ablations [--only "no CRF"] [--until 1] \\
        [--set KEY=VALUE] [--device cuda] [--kept FOLDER]

TRAIN is read for its tags alone, DEV has ground truth. Every row is a folder of OUT and goes on
where a stopped run was. A row that differs behind module 1 alone starts from the full run's; with
--until 1 such rows train nothing, and show what module 1 itself gains. The last module of each row
is compared with the full run's by a paired bootstrap over the photos. Writes
benchmarks/results/<name>.json and prints it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from labelpenet.config import Config, load_config
from labelpenet.data import ProposalStore, load_dataset
from labelpenet.evaluation import Evaluator
from labelpenet.files import atomic_write
from labelpenet.models.cascade import load_checkpoint, save_checkpoint
from labelpenet.training.resume import difference, refuse_changed
from labelpenet.training.resume import settings_of as run_settings
from labelpenet.training.run import train_cascade

from .checkpoints import Task, add_kept
from .ladder import compare, print_comparison
from .machine import describe
from .rows import RESULTS, ROWS, figures, known_images, markdown, settings_of
from .tool import one_line_errors, positive

FULL = "full"
# By name: the settings that differ from the full run's.
ABLATIONS: dict[str, tuple[str, ...]] = {
    FULL: (),
    "no calibration": (
        "calibration.score=class",
        "calibration.combine=box",
        "calibration.box=own",
        "calibration.crf.iterations=0",
    ),
    "paper's groups": ("calibration.score=class",),
    "attention only": ("calibration.combine=attention",),
    "heat-map only": ("calibration.combine=heat_map",),
    "no CRF": ("calibration.crf.iterations=0",),
    "no instance weights": ("train.instance_weights=false",),
    "half fc width": (),  # from the full run's, see settings
    "half the proposals": (),
}
# What module 1 does not depend on while it learns.
_BEHIND_MODULE_1 = ("calibration.", "train.instance_weights")


def settings(source: str | None, overrides: list[str], name: str) -> Config:
    """The full run's settings with one thing changed."""
    full = load_config(source, overrides)
    changes = list(ABLATIONS[name])
    if name == "half fc width":
        changes = [f"model.fc_width={full.model.fc_width // 2}"]
    if name == "half the proposals":
        limits = full.proposals.limit // 2, full.proposals.train_limit // 2
        changes = [f"proposals.limit={limits[0]}", f"proposals.train_limit={limits[1]}"]
    return load_config(source, [*overrides, *changes])


def start_from(full: Path, out: Path, config: Config) -> None:
    """Takes over the full run's module 1, under the settings of another run.

    Raises:
        CheckpointError: They differ in what module 1 depends on.
    """
    if (full / "module1.pt").exists() and not (out / "module1.pt").exists():
        cascade, trained = load_checkpoint(full / "module1.pt")
        changed = difference(run_settings(cascade.config), run_settings(config))
        refuse_changed(
            full / "module1.pt", [one for one in changed if not one.startswith(_BEHIND_MODULE_1)]
        )
        out.mkdir(parents=True, exist_ok=True)
        cascade.config = config
        save_checkpoint(out / "module1.pt", cascade, trained)


def answers(folder: Path, options: argparse.Namespace) -> dict[str, tuple[Evaluator, float]]:
    """What every module of a run found, of the cascade and of forward-backward, and its seconds."""
    modules = min(options.until, len(ROWS))
    found = {}
    for checkpoint, suffix in (
        (f"module{modules}.pt", ""),
        ("forward_backward.pt", ", forward-backward"),
    ):
        if suffix and (options.until <= len(ROWS) or not (folder / checkpoint).exists()):
            continue
        task = Task(
            folder / checkpoint,
            options.dev_proposals,
            options.dev,
            options.dev_split,
            (),
            quiet=False,
            device=options.device,
            kept=options.kept,
            modules=modules,
        )
        found |= {title + suffix: one for title, one in zip(ROWS, task(), strict=False)}
    return found


def table(rows: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of each training the last module, which a user would ask for, and that of the cascade."""
    last = {}
    for name, row in rows.items():
        steps = row["ladder"]
        if len(steps) > len(ROWS):
            last[f"{name}, cascade only"] = steps[ROWS[-1]]
        last[name] = list(steps.values())[-1]
    return last


@one_line_errors
def main(arguments: list[str] | None = None) -> None:
    """Trains, evaluates and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("-c", "--config")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--split", help="part of TRAIN")
    parser.add_argument("--dev-split", help="part of DEV")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; cpu by default")
    parser.add_argument("--proposals", type=Path)
    parser.add_argument("--dev-proposals", type=Path)
    parser.add_argument("--only", action="append", choices=list(ABLATIONS))
    parser.add_argument(
        "--until", type=int, choices=range(1, 6), default=5, help="last stage; 5 is all"
    )
    add_kept(parser)
    parser.add_argument("--samples", type=positive, default=1000, help="draws of the bootstrap")
    parser.add_argument("--name", required=True)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    if options.dev_proposals is not None:
        ProposalStore.open(options.dev_proposals)
    classes = load_dataset(options.train, split=options.split).classes
    known_images(options.dev, classes, options.dev_split)  # what is wrong shows before a training
    rows: dict[str, Any] = {}
    last: dict[str, Evaluator] = {}
    for name in options.only or ABLATIONS:
        config = settings(options.config, options.overrides, name)
        folder = options.out / name.replace(" ", "-").replace("'", "")
        if name != FULL and all(c.startswith(_BEHIND_MODULE_1) for c in ABLATIONS[name] or ("",)):
            start_from(options.out / FULL, folder, config)
        console.rule(name)
        train_cascade(
            config,
            options.train,
            folder,
            split=options.split,
            proposals=options.proposals,
            until=options.until,
            device=options.device,
            console=console,
        )
        found = answers(folder, options)
        last[name] = [one for one, _ in found.values()][-1]
        steps = {
            title: figures(one.result()) | {"s/image": seconds}
            for title, (one, seconds) in found.items()
        }
        rows[name] = {"ladder": steps, "seed": config.seed}
    against = {
        name: compare([last[FULL]], [one], options.samples)
        for name, one in last.items()
        if FULL in last and name != FULL
    }
    content = {
        "what": "each ablation's modules on the same photos, tags not used",
        "machine": describe(),
        "config": settings_of(load_config(options.config, options.overrides)),
        "rows": rows,
        "against the full run": {
            name: {k: asdict(v) for k, v in row.items()} for name, row in against.items()
        },
    }
    options.results.mkdir(parents=True, exist_ok=True)
    with atomic_write(options.results / f"{options.name}.json") as file:
        json.dump(content, file, indent=1)
    print(markdown(table(rows)))
    for name, row in against.items():
        print_comparison(f"{FULL} -> {name}", row)


if __name__ == "__main__":
    raise SystemExit(main())
