"""Labelling from files to files: what `labelpenet label` calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from labelpenet import __version__
from labelpenet.config import Attention
from labelpenet.data import ProposalStore, list_dataset
from labelpenet.data.locations import located
from labelpenet.engines import Engine
from labelpenet.icn.labeler import IcnLabeler
from labelpenet.icn.model import ICN
from labelpenet.labeler import Labeler
from labelpenet.labeling.photos import CascadeLabeler, IcnPhotoLabeler, PhotoLabeler
from labelpenet.labeling.runner import DEFAULTS, Options, label_images
from labelpenet.labeling.summary import LabelSummary
from labelpenet.models.cascade import CASCADE
from labelpenet.models.checkpoint import CheckpointError, method_of
from labelpenet.models.download import sha256


@dataclass(frozen=True)
class LabelerSettings:
    """What a labeler is made of; it travels to every worker.

    Attributes:
        checkpoint: Of a trained cascade, or of an ICN, which takes neither module nor proposals.
        module: Which module answers; None is the last trained one.
        use_tags: Whether the images' tags are taken as true; without, they are not looked at.
        proposals: A proposal store.
        device: Where the network runs.
        agreement: Whether modules 3 and 4 are compared, see Labeler.
        method: Refuses a checkpoint of another one, "cascade" or "icn"; None takes either.
        overrides: `section.key=value` in place of the checkpoint's settings.
        min_score: Below it objects are left out, see Labeler.
    """

    checkpoint: Path
    module: int | None = None
    use_tags: bool = True
    proposals: Path | None = None
    device: str = "cpu"
    agreement: bool = True
    method: str | None = None
    overrides: tuple[str, ...] = ()
    min_score: float | None = None

    def labeler(self) -> Labeler | IcnLabeler:
        """Loads the checkpoint; raises as Labeler."""
        own = method_of(self.checkpoint) or CASCADE
        if self.method not in (None, own):
            wrong = f"expected a checkpoint of {self.method}, got one of {own}"
            raise CheckpointError(f"{self.checkpoint}: {wrong}")
        if own == ICN:
            if self.module is not None or self.proposals is not None:
                wrong = "an ICN has no modules and finds its own segments"
                raise ValueError(f"{self.checkpoint}: {wrong}")
            return IcnLabeler(
                self.checkpoint,
                use_tags=self.use_tags,
                device=self.device,
                overrides=self.overrides,
                min_score=self.min_score,
            )
        return Labeler(
            self.checkpoint,
            module=self.module,
            use_tags=self.use_tags,
            proposals=None if self.proposals is None else ProposalStore.open(self.proposals),
            device=self.device,
            agreement=self.agreement,
            overrides=self.overrides,
            min_score=self.min_score,
        )

    def __call__(self) -> PhotoLabeler:
        """A labeler of photos."""
        return _of_photos(self.labeler())


def label_dataset(
    source: str | os.PathLike[str],
    out: Path,
    settings: LabelerSettings,
    *,
    split: str | None = None,
    options: Options = DEFAULTS,
    console: Console | None = None,
) -> LabelSummary:
    """Labels every image of a source; see label_images for the files and for what goes wrong.

    Args:
        source: As list_dataset takes it.
        out: Folder to write.
        settings: Of the labeler.
        split: Part of the source.
        options: How to run it.
        console: Where progress goes; None is silent.

    Raises:
        ValueError: `out` is the source's folder, or what label_images says.
    """
    _check_apart(source, split, out)
    labeler = settings.labeler()
    # workers may be elsewhere
    proposals = None if settings.proposals is None else Path(os.path.abspath(settings.proposals))
    checkpoint = Path(os.path.abspath(settings.checkpoint))
    settings = replace(settings, checkpoint=checkpoint, proposals=proposals)
    listing = list_dataset(source, split=split, classes=labeler.classes, tags=settings.use_tags)
    job = _job(labeler) | {"split": split}
    make: Callable[[], PhotoLabeler] = settings
    if options.engine is Engine.LOCAL and options.workers.count == 1:
        loaded = _of_photos(labeler)  # no need to load it again

        def make() -> PhotoLabeler:
            return loaded

    del labeler
    return label_images(make, listing, out, job=job, options=options, console=console)


def _check_apart(source: str | os.PathLike[str], split: str | None, out: Path) -> None:
    """The next run would take a store's own files for photos; in a folder below it does not."""
    folder = located(source)
    folders = [folder] if split is None else [folder, folder / split]
    if out.resolve() in [path.resolve() for path in folders if isinstance(path, Path)]:
        raise ValueError(f"{out}: expected another folder than that of the photos, or one in it")


def _of_photos(labeler: Labeler | IcnLabeler) -> PhotoLabeler:
    if isinstance(labeler, IcnLabeler):
        return IcnPhotoLabeler(labeler)
    return CascadeLabeler(labeler)


def _job(labeler: Labeler | IcnLabeler) -> dict[str, Any]:
    """What decides the labels."""
    common = {
        "labelpenet": __version__,
        "checkpoint": sha256(labeler.checkpoint)[:16],
        "tags": "given" if labeler.use_tags else "guessed",
        "min score": labeler.min_score,
        "settings": labeler.config.to_dict(),
    }
    if isinstance(labeler, IcnLabeler):
        return common | {"method": ICN}
    seen = labeler.config.calibration.attention is not Attention.EXCITATION
    icn = labeler.config.icn.attention_checkpoint if seen else None
    return common | {
        "attention checkpoint": None if icn is None else sha256(icn)[:16],
        "module": labeler.module,
        "compared with module": labeler._other,
        "proposals": None if labeler.proposals is None else dict(labeler.proposals.settings),
    }
