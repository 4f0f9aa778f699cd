"""Images a second from files to stored labels: ours against a pipeline of other libraries.

    python -m benchmarks.throughput --photos FOLDER --count 32 --json FILE

Both label the same photos (by default made-up scenes) with module 1 of the same network with the
same random weights, in the same run. Ours is `labelpenet label` itself: it decodes, proposes,
labels and writes its store. The others' read with OpenCV, propose with OpenCV's selective search
(opencv-contrib), pool with torchvision, propagate one proposal after another by Excitation BP, and
refine one object after another with pydensecrf; what they find stays in memory.

Images a second are marginal: the time of all photos less that of a quarter of them, so that what is
done once (imports, weights, worker processes) does not count. Scaling is between one worker and two
of one thread each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from labelpenet.data import load_image
from labelpenet.data.images import IMAGE_SUFFIXES
from labelpenet.engines import Workers
from labelpenet.labeler import propose
from labelpenet.labeling.job import LabelerSettings, label_dataset
from labelpenet.labeling.runner import Options
from labelpenet.labeling.summary import LabelSummary
from labelpenet.models.cascade import Cascade, save_checkpoint

from . import scenes
from .end_to_end import WIDTHS, random_cascade, settings
from .machine import describe
from .stages import STAGES, Clock, clocked

SHARD = 4  # images: so that workers have several each


@dataclass
class Pipeline:
    """One way of labelling, measured.

    Attributes:
        images_per_second: Marginal.
        seconds: For all photos, with what is done once.
        stages_ms: Time spent on an image by stage; stages of ours overlap.
        waits_ms: Time that ours' network waited on an image, by what for.
    """

    images_per_second: float
    seconds: float
    stages_ms: dict[str, float]
    waits_ms: dict[str, float] = field(default_factory=dict)


class Job:
    """The photos, their tags, and the checkpoint, in a folder."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.folder, self.options = folder, options
        self.config = settings(options, options.precision)
        self.classes = tuple(range(options.classes))
        self.photos = find_photos(options.photos, options.count, folder)
        image = load_image(self.photos[0])
        boxes = propose(image, self.config)
        self.cascade = random_cascade(self.config, options.classes, image, boxes)
        self.checkpoint = folder / "module1.pt"
        save_checkpoint(self.checkpoint, self.cascade, trained=1)
        self._runs = 0

    def ours(self, count: int, workers: int, threads: int) -> LabelSummary:
        """Labels the first `count` photos into a store."""
        self._runs += 1
        names = "|".join(self.cascade.classes)
        table = self.folder / f"{self._runs}.csv"
        rows = [f"{photo.name},{names}" for photo in self.photos[:count]]
        table.write_text("\n".join(["image,labels", *rows]) + "\n")
        torch.set_num_threads(threads)
        summary = label_dataset(
            table,
            self.folder / f"out{self._runs}",
            LabelerSettings(self.checkpoint),
            options=Options(
                workers=Workers(workers, threads=threads),
                batch=self.options.batch,
                shard_size=SHARD,
            ),
        )
        if summary.errors or summary.images != count:
            raise AssertionError(f"{summary.errors} of {count} photos failed")
        return summary


def find_photos(source: Path | None, count: int, folder: Path) -> list[Path]:
    """Photos in `folder`: links to those of `source`, or made-up scenes."""
    if source is None:
        photos = [folder / f"{i:05}.png" for i in range(count)]
        for i, path in enumerate(photos):
            cv2.imwrite(str(path), scenes.photo(375, 500, seed=i).numpy()[:, :, ::-1])
        return photos
    found = sorted(p for p in source.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if len(found) < count:
        raise ValueError(f"--photos: expected {count} in {source}, got {len(found)}")
    photos = []
    for i, path in enumerate(found[:count]):
        photos.append(folder / f"{i:05}{path.suffix}")
        photos[-1].symlink_to(path.resolve())
    return photos


def one_by_one(cascade: Cascade) -> Any:
    """The pipeline of other libraries, with Excitation BP as it is published: a pass a proposal."""
    from .peer_pipeline import PeerPipeline

    class OneByOne(PeerPipeline):
        def excite(self, activations: list[Tensor], classes: Tensor, start: Tensor) -> Tensor:
            every = [
                PeerPipeline.excite(
                    self, [a[i : i + 1] for a in activations], classes[i : i + 1], start[i : i + 1]
                )
                for i in range(len(start))
            ]
            return torch.cat(every)

    return OneByOne(cascade)


def measure_ours(job: Job, workers: int, threads: int) -> Pipeline:
    """All photos, and a quarter of them."""
    count = len(job.photos)
    few = max(SHARD, count // 4)
    short, long = (job.ours(n, workers, threads) for n in (few, count))
    return Pipeline(
        (count - few) / (long.seconds - short.seconds),
        long.seconds,
        {name: 1e3 * value / count for name, value in long.stages.items()},
        {name: 1e3 * value / count for name, value in long.waits.items()},
    )


def network_stages(job: Job, threads: int) -> dict[str, float]:
    """Milliseconds an image of ours' network by stage, from a run of its own under a clock."""
    clock = Clock()
    with clocked(clock):
        summary = job.ours(len(job.photos), 1, threads)
    found = {name: 1e3 * value / summary.images for name, value in clock.stop().items()}
    return {name: value for name, value in found.items() if name in STAGES[:-1] and value > 0}


def measure_peers(job: Job, pipeline: Callable[..., Any], threads: int) -> Pipeline:
    """Every photo. Theirs go on with our proposals, after a search of their own that is timed."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    total: Counter[str] = Counter()
    for photo in job.photos:
        boxes = propose(load_image(photo), job.config)  # not charged: theirs is run and timed
        clock = Clock()
        pipeline(photo, boxes, job.classes, clock)
        total.update(clock.stop())
    seconds = sum(total.values())
    stages = {name: 1e3 * value / len(job.photos) for name, value in total.items()}
    return Pipeline(len(job.photos) / seconds, seconds, stages)


def report(run: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [
        f"{run['backbone']}, {run['precision']}, {run['count']} photos, {run['classes']} classes, "
        f"{run['proposals']} proposals at most"
    ]
    for name, one in run["pipelines"].items():
        lines.append(f"{name}: {one['images_per_second']:.3f} images/s, {one['seconds']:.1f} s")
        lines += [f"    {stage:24}{ms:10.1f} ms" for stage, ms in one["stages_ms"].items() if ms]
        lines += [f"    waits for {what:14}{ms:10.1f} ms" for what, ms in one["waits_ms"].items()]
    lines.append("of the network, from a run of its own:")
    lines += [f"    {stage:24}{ms:10.1f} ms" for stage, ms in run["network_ms"].items()]
    lines += [f"{name}: x {value:.2f}" for name, value in run["ratios"].items()]
    return "\n".join(lines)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every pipeline, in turns."""
    threads = torch.get_num_threads()
    job = Job(options, folder)
    found: dict[str, Pipeline] = {
        f"ours, 1 worker of {threads} threads": measure_ours(job, 1, threads),
        "ours, 1 worker of 1 thread": measure_ours(job, 1, 1),
        "ours, 2 workers of 1 thread": measure_ours(job, 2, 1),
    }
    best = max(one.images_per_second for one in found.values())
    rates = [one.images_per_second for one in found.values()]
    ratios = {"2 workers against 1": rates[2] / rates[1]}
    network = network_stages(job, threads)
    if not options.ours_only:
        theirs = measure_peers(job, one_by_one(job.cascade), threads)
        found["other libraries"] = theirs
        ratios["ours at its best against other libraries"] = best / theirs.images_per_second
    return {
        "backbone": options.backbone,
        "precision": options.precision,
        "count": len(job.photos),
        "classes": options.classes,
        "proposals": options.proposals,
        "pipelines": {name: asdict(one) for name, one in found.items()},
        "network_ms": network,
        "ratios": ratios,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures; 2 where a peer is missing or an argument is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--photos", type=Path, help="a folder; by default scenes of 375 x 500")
    parser.add_argument("--count", type=int, default=32, help="photos")
    parser.add_argument("--backbone", choices=WIDTHS, default="squeezenet1_0")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--shorter", type=int, default=600, help="side after resizing")
    parser.add_argument("--classes", type=int, default=2, help="tags of each photo")
    parser.add_argument("--proposals", type=int, default=1600, help="at most")
    parser.add_argument("--batch", type=int, default=1, help="photos of ours at a time")
    parser.add_argument("--ours-only", action="store_true", help="leave the others out")
    parser.add_argument("--json", type=Path, help="where all figures go")
    options = parser.parse_args(arguments)
    if options.count < 2 * SHARD:
        parser.error(f"--count: expected at least {2 * SHARD}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = measure(options, Path(folder))
    except (ImportError, ValueError, AttributeError) as error:  # cv2 without contrib lacks ximgproc
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(run))
    machine = describe()
    print(f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine} | run, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
