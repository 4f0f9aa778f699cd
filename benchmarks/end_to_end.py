"""Module-1 labelling of one photo, stage by stage: ours against a pipeline of other libraries.

    python -m benchmarks.end_to_end --backbone vgg16 --precision both --json FILE

Both have the same network with the same random weights (its two classifiers are scaled so that the
classes share the proposals, as trained ones do), and both go on with our proposals, so that they
find the same objects. Every stage of the others is given what ours was given, and the results are
compared, before anything is timed. Ours is labelpenet's own Predictor under a clock.

Two forms of the others are timed: plain, as these libraries are mostly used, and tuned, with what
their users could do without a new kernel (see peer_pipeline.PeerPipeline).
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from labelpenet.calibration import Candidate, calibrate, proposal_maps
from labelpenet.config import Config, load_config
from labelpenet.data import load_image
from labelpenet.inference import Predictor
from labelpenet.labeler import propose
from labelpenet.models.cascade import Cascade
from labelpenet.types import Labelling

from . import scenes
from .machine import describe, peak_memory
from .stages import MATRIX_WORK, READ, SEARCH, STAGES, Clock, clocked, traced

WIDTHS = {"vgg16": 4096, "squeezenet1_0": 1024, "tiny": 64}
PEERS = ("torchvision", "opencv-contrib-python-headless", "pydensecrf2", "numpy")
MEMBERS = (10, 25, 50, 100, 200, 400, 800, 1600)


def settings(options: argparse.Namespace, precision: str) -> Config:
    """The defaults of labelpenet, but for what the command line says."""
    values = {
        "model.backbone": options.backbone,
        "model.fc_width": WIDTHS[options.backbone],
        "test_scales": [options.shorter],
        "proposals.limit": options.proposals,
        "train.precision": precision,
    }
    return load_config(None, [f"{key}={value}" for key, value in values.items()])


def random_cascade(config: Config, classes: int, image: np.ndarray, boxes: np.ndarray) -> Cascade:
    """Random weights under which the proposals of `image` differ from each other.

    Classifiers on top of random features say nearly the same of every proposal. Here their outputs
    are brought to mean 0 and deviation 2 over the proposals.
    """
    torch.manual_seed(0)
    cascade = Cascade(config, tuple(f"class {i}" for i in range(classes))).eval()
    predictor, module = Predictor(cascade), cascade.classification
    outputs = []
    with torch.no_grad():
        hook = module.register_forward_hook(lambda _, __, output: outputs.extend(output))
        predictor(image, boxes, 1)
        hook.remove()
        for layer, said in ((module.fc8c, outputs[0].logits), (module.fc8w, outputs[0].second)):
            factor = 2 / said.std(0)
            layer.weight *= factor[:, None]
            layer.bias -= said.mean(0)
            layer.bias *= factor
    return cascade


class Ours:
    """labelpenet's own path from a file to objects."""

    def __init__(self, cascade: Cascade) -> None:
        ready = copy.deepcopy(cascade)  # as labelpenet.labeler.Labeler has it
        if cascade.config.train.precision == "bf16":
            ready.round_weights()
        self.predictor = Predictor(ready)
        self.config = cascade.config

    def __call__(
        self, path: Path, proposals: np.ndarray, classes: tuple[int, ...], clock: Clock | None
    ) -> Labelling:
        """Selective search is run; `proposals`, which are the same, are used in its place."""
        charge = (lambda _: nullcontext()) if clock is None else clock.stage
        with charge(READ):
            image = load_image(path)
        with charge(SEARCH):
            propose(image, self.config)
        with nullcontext() if clock is None else clocked(clock):
            return self.predictor(image, proposals, 1, classes)


def measure(
    pipelines: Mapping[str, Callable[..., Any]], inputs: tuple[Any, ...], repeat: int
) -> dict[str, Any]:
    """Median milliseconds of every stage and in total, in turns; and the memory of one more run."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in pipelines}
    for _ in range(repeat):
        for name, pipeline in pipelines.items():
            clock = Clock()
            pipeline(*inputs, clock)
            runs[name].append(clock.stop())
    return {
        name: {
            "stages_ms": {s: 1e3 * statistics.median(run[s] for run in found) for s in STAGES},
            "total_ms": 1e3 * statistics.median(sum(run.values()) for run in found),
            "best_ms": 1e3 * min(sum(run.values()) for run in found),
            "peak_bytes": peak_memory(partial(pipelines[name], *inputs, Clock()), "cpu")[1],
        }
        for name, found in runs.items()
    }


def without_clock(ours: Ours, inputs: tuple[Any, ...], repeat: int) -> float:
    """Median milliseconds of ours with nothing wrapped."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        ours(*inputs, None)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def by_members(
    ours: Ours, image: np.ndarray, proposals: np.ndarray, repeat: int
) -> dict[int, float]:
    """Median milliseconds of calibrating one object, by the proposals in its group.

    Without the CRF, which costs the same whatever the group.
    """
    rules = ours.config.calibration
    rules = replace(rules, crf=replace(rules.crf, iterations=0))
    head = traced(ours.predictor, image, proposals, (0,)).head
    everyone = torch.arange(len(head.boxes))
    found = {}
    every = proposal_maps(head, everyone)
    for count in dict.fromkeys(min(m, len(everyone)) for m in MEMBERS):
        same = torch.equal(proposal_maps(head, everyone[:count]), every[:count])
        assert same, f"{count} members: other bits than among all"
        group = Candidate(0, 1.0, head.boxes[0], everyone[:count], everyone)
        times = []
        for _ in range(repeat + 1):
            start = time.perf_counter()
            calibrate(image, head, [group], rules)
            times.append(time.perf_counter() - start)
        found[count] = 1e3 * statistics.median(times[1:])
    return found


def table(run: Mapping[str, Any]) -> str:
    """Markdown: a row a stage, then the sums."""
    pipelines = run["pipelines"]
    rows = {stage: {n: p["stages_ms"][stage] for n, p in pipelines.items()} for stage in STAGES}
    matrix = {n: sum(rows[stage][n] for stage in MATRIX_WORK) for n in pipelines}
    total = {n: p["total_ms"] for n, p in pipelines.items()}
    rows |= {
        "matrix work": matrix,
        "all else": {n: total[n] - matrix[n] for n in pipelines},
        "**total**": total,
    }
    others = [name for name in pipelines if name != "ours"]
    header = ["stage", "ours ms", *(f"{n} ms" for n in others), *(f"x {n}" for n in others)]
    lines = [[*header, "share of ours"], ["---"] + ["---:"] * (len(header))]
    for label, ms in rows.items():
        line = [label, *(f"{ms[name]:,.1f}" for name in ("ours", *others))]
        line += [f"{ms[n] / ms['ours']:.1f}" if ms["ours"] > 0.05 else "–" for n in others]
        lines.append([*line, f"{100 * ms['ours'] / total['ours']:.0f} %"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(run: Mapping[str, Any]) -> str:
    """The table, and what else is to be said of a run."""
    ours = run["pipelines"]["ours"]
    lines = [
        f"### {run['backbone']}, {run['precision']}: {run['proposals']:,} proposals, "
        f"{run['classes']} classes, photo {run['photo'][0]} x {run['photo'][1]} "
        f"at {run['resized'][0]} x {run['resized'][1]}",
        table(run),
        f"- ours without the clock: {run['without_clock_ms']:,.1f} ms "
        f"(with it {ours['total_ms']:,.1f})",
        f"- proposals in groups: {run['members']}",
    ]
    for name, pipeline in run["pipelines"].items():
        peak = pipeline["peak_bytes"]
        shown = "unknown" if peak is None else f"{peak / 2**20:,.0f} MiB"
        lines.append(f"- {name}: peak memory {shown}, fastest run {pipeline['best_ms']:,.1f} ms")
    lines += [f"- agree: {stage}: {found}" for stage, found in run["checks"].items()]
    if run["by_members_ms"]:
        found = ", ".join(f"{int(m):,}: {ms:,.1f}" for m, ms in run["by_members_ms"].items())
        lines.append(f"- calibration but for the CRF, members: ms (same bits as in all): {found}")
    return "\n".join(lines)


def run_one(options: argparse.Namespace, precision: str, path: Path) -> dict[str, Any]:
    """Checks, then times, one precision."""
    from .end_to_end_check import check  # with the peers
    from .peer_pipeline import PeerPipeline

    config = settings(options, precision)
    image = load_image(path)
    boxes = propose(image, config)
    if options.fill and len(boxes) < options.proposals:
        more = scenes.boxes(options.proposals - len(boxes), *image.shape[:2]).round().numpy()
        boxes = np.concatenate((boxes, more))
    cascade = random_cascade(config, options.classes, image, boxes)
    classes = tuple(range(options.classes))
    ours, plain = Ours(cascade), PeerPipeline(cascade)
    checks = check(ours.predictor, plain, path, boxes, classes)
    pipelines: dict[str, Callable[..., Any]] = {"ours": ours, "plain": plain}
    if not options.plain_only:
        pipelines["tuned"] = PeerPipeline(cascade, tuned=True)
    inputs = (path, boxes, classes)
    members = traced(ours.predictor, image, boxes, classes).members
    return {
        "backbone": options.backbone,
        "precision": precision,
        "classes": options.classes,
        "photo": image.shape[:2],
        "resized": plain.read(path)[1].shape[-2:],
        "proposals": len(boxes),
        "members": members,
        "checks": checks,
        "pipelines": measure(pipelines, inputs, options.repeat),
        "without_clock_ms": without_clock(ours, inputs, options.repeat),
        "by_members_ms": by_members(ours, image, boxes, options.repeat) if options.members else {},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables; 1 where two stages disagree, 2 where a peer is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__)
    parser.add_argument("--backbone", choices=WIDTHS, default="vgg16")
    parser.add_argument("--shorter", type=int, default=600, help="side after resizing")
    parser.add_argument("--precision", choices=("fp32", "bf16", "both"), default="both")
    parser.add_argument("--photo", type=Path, help="a file; by default a scene of 375 x 500")
    parser.add_argument("--classes", type=int, default=3, help="tags of the photo")
    parser.add_argument("--proposals", type=int, default=1600, help="at most")
    parser.add_argument("--fill", action="store_true", help="random boxes up to that number")
    parser.add_argument("--repeat", type=int, default=5, help="medians of this many runs")
    parser.add_argument("--plain-only", action="store_true", help="leave the tuned form out")
    parser.add_argument("--members", action="store_true", help="also time by size of the group")
    parser.add_argument("--json", type=Path, help="where all numbers go")
    options = parser.parse_args(arguments)
    precisions = ("fp32", "bf16") if options.precision == "both" else (options.precision,)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        path = options.photo
        if path is None:
            path = Path(folder) / "photo.png"
            cv2.imwrite(str(path), scenes.photo(375, 500).numpy()[:, :, ::-1])
        try:
            for precision in precisions:
                runs.append(run_one(options, precision, path))
                print(report(runs[-1]), flush=True)
        except ImportError as error:
            print(f"a peer is missing: {error}", file=sys.stderr)
            return 2
        except AssertionError as error:
            print(f"results differ, nothing was timed: {error}", file=sys.stderr)
            return 1
    if len(runs) == 2:
        fp32, bf16 = (run["pipelines"] for run in runs)
        for name in list(fp32)[1:]:
            ratio = fp32[name]["total_ms"] / bf16["ours"]["total_ms"]
            print(f"- ours in bf16 against {name} in fp32: x {ratio:.1f}")
    machine = describe() | {"libraries": {name: _version(name) for name in PEERS}}
    print(f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": machine, "runs": runs}, indent=1, allow_nan=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    raise SystemExit(main())
