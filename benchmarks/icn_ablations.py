"""ICN's ablations: tables 1 and 4, the PRM baseline, and ICN as calibration's attention.

    python -m benchmarks.icn_ablations TRAIN DEV OUT -c icn-squeezenet --weights WEIGHTS \\
        --name voc12-mini-icn [--seed 0 --seed 1] [--cascade module1.pt --proposals dev.parquet]

TRAIN is read for its tags alone, DEV has ground truth; tags are not used on it. OUT keeps every
training and every row: the same command goes on where a stopped one was. Rows that differ behind
the classifier alone start from the full run's; those that differ at inference train nothing. With
`--set icn.saliency=MASKS` the network learns from those masks; the row "own pseudo labels" is then
the one that does not. With a cascade, its module 1 is evaluated with each source of attention.
Writes benchmarks/results/<name>.json, OUT/pictures.jpg, and prints the table: the mean over the
seeds.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from labelpenet.config import Config, load_config
from labelpenet.data import ProposalStore, load_dataset, load_image
from labelpenet.files import atomic_write
from labelpenet.icn.labeler import IcnLabeler
from labelpenet.icn.model import CLASSIFIER, Icn, load_icn, save_icn
from labelpenet.icn.training import train_icn
from labelpenet.labeler import Labeler

from .machine import describe
from .rows import RESULTS, evaluate_module, figures, markdown, settings_of
from .tool import one_line_errors

FULL = "full"
_EQUATION = ("icn.matching.score=equation",)
# By name, the settings that differ from the full run's. These train a network of their own ...
TRAINED: dict[str, tuple[str, ...]] = {
    FULL: (),
    "without CFM and DFM": ("icn.fusion=false",),
    "without the PRM": ("icn.prm_input=false",),
    "own pseudo labels": ("icn.saliency=null",),
    "equation 5": _EQUATION,
    "equation 5 without rebalance": (*_EQUATION, "icn.matching.rebalance=false"),
}
# ... and these run the full one's otherwise.
INFERRED: dict[str, tuple[str, ...]] = {
    "without ICN": ("icn.steps=0",),
    "PRM baseline": (
        *_EQUATION,
        "icn.steps=0",
        "icn.matching.rebalance=false",
        "icn.peaks.smooth=0",
    ),
    "1 step": ("icn.steps=1",),
    "2 steps": ("icn.steps=2",),
    "3 steps": ("icn.steps=3",),
    "4 steps": ("icn.steps=4",),
}
ATTENTION = ("excitation", "prm", "icn")  # sources of module 1's attention
_PICTURES, _HEIGHT = 12, 160


class Runs:
    """The trainings and evaluations of one seed, kept in a folder.

    Args:
        options: The command line.
        seed: Of all of them.
        console: Where progress goes.
    """

    def __init__(self, options: argparse.Namespace, seed: int, console: Console) -> None:
        self._options = options
        self._console = console
        self._seed = seed
        self.folder: Path = options.out / f"seed{seed}"
        self.full = self.settings()

    def settings(self, *changes: str) -> Config:
        """The full run's, with some changed."""
        named = [*self._options.overrides, f"seed={self._seed}"]
        if self._options.weights is not None:
            named.append(f"model.weights={json.dumps(str(self._options.weights))}")
        return load_config(self._options.config, [*named, *changes])

    def row(self, name: str) -> dict[str, float]:
        """The figures of an ablation: trained, evaluated, or read from an earlier call."""
        if name != FULL and self.settings(*(TRAINED | INFERRED)[name]) == self.full:
            return self.row(FULL)
        return self._kept(name, lambda: self._evaluate(name))

    def attention(self, kind: str, cascade: Path) -> dict[str, float]:
        """The figures of a cascade's module 1 whose masks come from one source of attention."""

        def evaluate() -> dict[str, float]:
            store = self._options.proposals
            labeler = Labeler(
                cascade,
                module=1,
                use_tags=False,
                min_score=0,
                proposals=None if store is None else ProposalStore.open(store),
                overrides=[
                    f"icn.attention_checkpoint={json.dumps(str(self._train(FULL)))}",
                    f"calibration.attention={kind}",
                    "calibration.combine=attention",
                ],
            )
            return self._figures(labeler)

        return self._kept(f"module 1, masks from {kind}", evaluate)

    def _kept(self, name: str, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        path = self.folder / "rows" / f"{name.replace(' ', '-').replace(',', '')}.json"
        if path.exists():
            row: dict[str, float] = json.loads(path.read_text())
            return row
        self._console.rule(f"seed {self._seed}: {name}")
        row = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            json.dump(row, file)
        return row

    def _evaluate(self, name: str) -> dict[str, float]:
        changes = (TRAINED | INFERRED)[name]
        # how segments are matched changes pseudo labels, not masks that are given
        given = self.full.icn.saliency is not None
        same = given and all(change.startswith("icn.matching.") for change in changes)
        checkpoint = self._train(FULL if name in INFERRED or same else name)
        overrides = [*self._options.overrides, *changes]
        labeler = IcnLabeler(checkpoint, use_tags=False, overrides=overrides, min_score=0)
        return self._figures(labeler)

    def _figures(self, labeler: IcnLabeler | Labeler) -> dict[str, float]:
        dev, split = self._options.dev, self._options.dev_split
        result, seconds = evaluate_module(labeler, dev, self._console, split)
        return figures(result) | {"s/image": seconds}

    def _train(self, name: str) -> Path:
        config = self.settings(*TRAINED[name])
        out = self.folder / name.replace(" ", "-")
        if name != FULL:
            self._train(FULL)
            start_from(self.folder / FULL, out, config)
        source, split = self._options.train, self._options.split
        return train_icn(config, source, out, split=split, console=self._console)

    def pictures(self, path: Path) -> None:
        """Photo, response maps, enhanced maps and segments of some images, a row each."""
        labeler = IcnLabeler(self._train(FULL), overrides=self._options.overrides)
        dev, split = self._options.dev, self._options.dev_split
        dataset = load_dataset(dev, split=split, classes=labeler.classes)
        rows = []
        for record in dataset.records[:: max(len(dataset) // _PICTURES, 1)][:_PICTURES]:
            image = load_image(record.path)
            maps = labeler(image, record.labels).maps.values()
            shown = [image, *(overlay(image, one.numpy()) for one in maps)]
            rows.append(np.concatenate([_at_height(one) for one in shown], 1))
        width = max(row.shape[1] for row in rows)
        page = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows]
        Image.fromarray(np.concatenate(page)).save(path, quality=85)


def start_from(full: Path, out: Path, config: Config) -> None:
    """Takes over the full run's classifier, and its pseudo labels where they are the same."""
    target = out / "classifier.pt"
    if target.exists() or (out / "icn.pt").exists():
        return
    source, _ = load_icn(full / "classifier.pt")
    torch.manual_seed(config.seed)
    icn = Icn(config, source.classes)
    icn.classifier.load_state_dict(source.classifier.state_dict())
    out.mkdir(parents=True, exist_ok=True)
    ours, theirs = config.icn, source.config.icn
    if (ours.matching, ours.saliency) == (theirs.matching, theirs.saliency):
        shutil.copyfile(full / "lessons.parquet", out / "lessons.parquet")
    save_icn(target, icn, CLASSIFIER)


def overlay(image: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """An image [H, W, 3] uint8 that is dark where a map [H, W] in [0, 1] is 0."""
    shown: np.ndarray = (image * (0.25 + 0.75 * strength[:, :, None])).round().astype(np.uint8)
    return shown


def _at_height(image: np.ndarray) -> np.ndarray:
    width = round(image.shape[1] * _HEIGHT / image.shape[0])
    return np.asarray(Image.fromarray(image).resize((width, _HEIGHT)))


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
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--split", help="part of TRAIN")
    parser.add_argument("--dev-split", help="part of DEV")
    parser.add_argument("--seed", dest="seeds", action="append", type=int)
    parser.add_argument("--only", action="append", choices=[*TRAINED, *INFERRED])
    parser.add_argument("--cascade", type=Path, help="a checkpoint with a trained module 1")
    parser.add_argument("--proposals", type=Path, help="of DEV, for the cascade")
    parser.add_argument("--name", required=True)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    rows: dict[str, dict[int, dict[str, float]]] = {}
    seeds = options.seeds or [0]
    for seed in seeds:
        runs = Runs(options, seed, console)
        for name in options.only or [*TRAINED, *INFERRED]:
            rows.setdefault(name, {})[seed] = runs.row(name)
        for kind in ATTENTION if options.cascade is not None else ():
            figure = runs.attention(kind, options.cascade)
            rows.setdefault(f"module 1, masks from {kind}", {})[seed] = figure
    Runs(options, seeds[0], console).pictures(options.out / "pictures.jpg")
    means = {
        name: {
            column: float(np.mean([row[column] for row in by_seed.values()]))
            for column in next(iter(by_seed.values()))
        }
        for name, by_seed in rows.items()
    }
    content = {
        "what": "each ablation of ICN on the same photos, tags not used; means over the seeds",
        "machine": describe(),
        "config": settings_of(Runs(options, seeds[0], console).full),
        "ladder": means,
        "rows": {name: {str(k): v for k, v in row.items()} for name, row in rows.items()},
    }
    options.results.mkdir(parents=True, exist_ok=True)
    with atomic_write(options.results / f"{options.name}.json") as file:
        json.dump(content, file, indent=1)
    print(markdown(means))


if __name__ == "__main__":
    raise SystemExit(main())
