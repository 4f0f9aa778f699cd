"""Labelling from files to files: what `labelpenet label` calls."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from labelpenet.data import ProposalStore, load_dataset, load_image
from labelpenet.icn.labeler import IcnLabeler
from labelpenet.icn.model import METHOD, is_icn
from labelpenet.labeler import Labeler
from labelpenet.labeling.runner import label_images, pictured_names
from labelpenet.labeling.summary import LabelSummary
from labelpenet.models.cascade import CheckpointError


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
    min_quality: float = 0.0,
    agreement: bool = True,
    method: str | None = None,
    console: Console | None = None,
) -> LabelSummary:
    """Labels every image of a dataset; see label_images for the files and for what goes wrong.

    Args:
        source: As load_dataset takes it.
        out: Folder to write.
        checkpoint: Of a trained cascade, or of an ICN, which takes neither module nor proposals.
        split: Part of the dataset.
        module: Which module answers; None is the last trained one.
        use_tags: Whether the images' tags are taken as true.
        proposals: A proposal store.
        pictures: Images on the HTML page; 0 makes none.
        device: Where the network runs.
        min_quality: Objects of a lower overall quality are left out and counted.
        agreement: Whether modules 3 and 4 are compared, see Labeler.
        method: Refuses a checkpoint of another one, "cascade" or "icn"; None takes either.
        console: Where progress goes; None is silent.
    """
    own = METHOD if is_icn(checkpoint) else "cascade"
    if method not in (None, own):
        raise CheckpointError(f"{checkpoint}: expected a checkpoint of {method}, got one of {own}")
    labeler: Labeler | IcnLabeler
    if own == METHOD:
        if module is not None or proposals is not None:
            raise ValueError(f"{checkpoint}: an ICN has no modules and finds its own segments")
        labeler = IcnLabeler(checkpoint, use_tags=use_tags, device=device)
    else:
        store = None if proposals is None else ProposalStore.open(proposals)
        labeler = Labeler(
            checkpoint,
            module=module,
            use_tags=use_tags,
            proposals=store,
            device=device,
            agreement=agreement,
        )
    dataset = load_dataset(source, split=split, classes=labeler.classes)
    return label_images(
        labeler.with_trace(pictured_names(dataset, pictures)),
        dataset,
        out,
        load=load_image,
        console=console,
        pictures=pictures,
        job=labeler.job,
        min_quality=min_quality,
    )
