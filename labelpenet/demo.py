"""The whole way on synthetic scenes: what `labelpenet demo` runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from labelpenet.config import Config
from labelpenet.data import write_scenes
from labelpenet.evaluation import Evaluation, Matching
from labelpenet.evaluation.files import evaluate_files
from labelpenet.labeling.job import LabelerSettings, label_dataset
from labelpenet.labeling.runner import Options
from labelpenet.report.gallery import write_report
from labelpenet.training.run import train_cascade

LABELS = "labels"
_TRAIN_SCENES = 240
_TEST_SCENES = 40


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        evaluation: Of the held-out scenes.
        labels: The label store.
        page: The report on it.
        seconds: From start to end.
    """

    evaluation: Evaluation
    labels: Path
    page: Path
    seconds: float

    @property
    def mask_ap_50(self) -> float:
        """Mask AP at IoU 0.5."""
        assert self.evaluation.mask_ap is not None
        return self.evaluation.mask_ap[Matching.BEST][0.5].mean


def run_demo(out: Path, config: Config, console: Console | None = None) -> DemoResult:
    """Scenes, proposals, four modules, labels of held-out scenes, figures and a page.

    Args:
        out: Folder for all of it. A second run goes on behind what a stopped one finished.
        config: Settings; the preset `demo` fits the scenes.
        console: Where progress goes; None is silent.
    """
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    scenes = out / "scenes"
    if not scenes.exists():
        write_scenes(scenes, _TRAIN_SCENES, test_count=_TEST_SCENES, seed=config.seed)
    checkpoint = train_cascade(config, scenes, out / "run", split="train", console=console)

    labels = out / LABELS
    label_dataset(
        scenes,
        labels,
        LabelerSettings(checkpoint, use_tags=False),
        split="test",
        options=Options(pictures=_TEST_SCENES),
        console=console,
    )
    evaluation = evaluate_files(labels, scenes, "test", console=console)
    page = write_report(labels, figures=evaluation.means(), console=console)
    return DemoResult(evaluation, labels, page, time.monotonic() - began)
