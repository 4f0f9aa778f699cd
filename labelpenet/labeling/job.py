"""Labelling from files to files: what `labelpenet label` calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelpenet.data import ProposalStore, load_dataset, load_image
from labelpenet.labeler import Labeler
from labelpenet.labeling.runner import label_images
from labelpenet.labeling.summary import LabelSummary
from labelpenet.report.page import ReportBuilder
from labelpenet.types import Labelling


def label_dataset(
    source: Path,
    out: Path,
    checkpoint: Path,
    *,
    split: str | None = None,
    module: int | None = None,
    use_tags: bool = True,
    proposals: Path | None = None,
    pictures: int = 60,
    device: str = "cpu",
    progress: bool = True,
) -> LabelSummary:
    """Labels every image of a dataset; see label_images for the files and for what goes wrong.

    Args:
        source: As load_dataset takes it.
        out: Folder to write.
        checkpoint: Of a trained cascade.
        split: Part of the dataset.
        module: Which module answers; None is the last trained one.
        use_tags: Whether the images' tags are taken as true.
        proposals: A proposal store.
        pictures: Images on the HTML page; 0 makes none.
        device: Where the network runs.
        progress: Whether to show a bar.
    """
    store = None if proposals is None else ProposalStore.open(proposals)
    labeler = Labeler(
        checkpoint,
        module=module,
        use_tags=use_tags,
        proposals=store,
        trace=pictures > 0,
        device=device,
    )
    dataset = load_dataset(source, split=split, classes=labeler.classes)
    report = ReportBuilder(out, dataset.classes) if pictures else None
    shown = 0

    def labelled(image: np.ndarray, tags: tuple[int, ...], name: str) -> Labelling:
        nonlocal shown
        result = labeler(image, tags, name)
        if report is not None and shown < pictures:
            report.add(name, image, result)
            shown += 1
        elif labeler.trace:
            labeler.trace = False  # its second pass serves the page alone
        return result

    job = f"{labeler.config.fingerprint()} module {labeler.module} tags {use_tags}"
    summary = label_images(labelled, dataset, out, load=load_image, progress=progress, job=job)
    if report is not None:
        report.finish(summary, None)
    return summary
