"""A trained cascade as one callable: a photo and its tags in, instance masks out."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Container
from pathlib import Path

import numpy as np
import torch

from labelpenet.config import Config
from labelpenet.data.proposals import ProposalStore
from labelpenet.inference import Predictor
from labelpenet.models.cascade import CheckpointError, load_checkpoint
from labelpenet.ops import selective_search
from labelpenet.quality import with_agreement
from labelpenet.types import Labelling


def propose(image: np.ndarray, config: Config) -> np.ndarray:
    """Selective search with the settings of a run: boxes [R, 4] float32, best ranked first."""
    settings = config.proposals
    boxes = selective_search(
        torch.from_numpy(np.ascontiguousarray(image)),
        preset=settings.preset,
        min_side=settings.min_side,
        seed=config.seed,
    )
    return boxes[: settings.limit].numpy()


def proposal_settings(config: Config) -> dict[str, object]:
    """What the boxes of a proposal store depend on."""
    settings = config.proposals
    return {
        "preset": settings.preset,
        "min_side": settings.min_side,
        "limit": settings.limit,
        "seed": config.seed,
    }


class Labeler:
    """Labels images with one checkpoint.

    Args:
        checkpoint: Written by training.
        module: Which module answers, 1 to 4; None is the last trained one.
        use_tags: Whether an image's tags are taken as true: nothing else is found then. Without,
            the network guesses them.
        proposals: Stored proposals; an image that is not in it has its own computed.
        device: Where the network runs.
        agreement: Whether the other one of modules 3 and 4, where both are trained and one of them
            answers, finds its objects too: how far they agree is a figure of the labels' quality.

    Raises:
        CheckpointError: The file cannot be used, or `module` is not trained in it.
        ValueError: The device is unknown or not there.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        module: int | None = None,
        use_tags: bool = True,
        proposals: ProposalStore | None = None,
        device: str | torch.device = "cpu",
        agreement: bool = True,
    ) -> None:
        cascade, trained = load_checkpoint(checkpoint)
        if trained == 0 or (module is not None and not 1 <= module <= trained):
            has = f"modules 1 to {trained}" if trained else "no trained module"
            raise CheckpointError(f"{checkpoint}: has {has}, asked for module {module}")
        if cascade.config.train.precision == "bf16":
            cascade.round_weights()
        self.module = trained if module is None else module
        self.classes = cascade.classes
        self.config = cascade.config
        self.use_tags = use_tags
        self._other = 7 - self.module if agreement and self.module > 2 and trained == 4 else None
        self.proposals = proposals
        self.checkpoint = Path(checkpoint)
        self._traced: Container[str] = ()
        self.predictor = Predictor(cascade.to(usable_device(device)))

    @property
    def job(self) -> str:
        """What decides the labels, in words: another job's leftovers are not mixed with these."""
        digest = hashlib.sha256(self.checkpoint.read_bytes()).hexdigest()[:12]
        source = "given tags" if self.use_tags else "guessed tags"
        compared = "" if self._other is None else f", compared with module {self._other}"
        return f"checkpoint {digest}, module {self.module}, {source}{compared}"

    def with_trace(self, names: Container[str]) -> Labeler:
        """Gives module 1's attention and heat-map too, for these images (a second pass)."""
        self._traced = names
        return self

    def __call__(self, image: np.ndarray, tags: tuple[int, ...], name: str = "") -> Labelling:
        """Labels one image [H, W, 3] uint8; `name` finds its stored proposals."""
        known = tags if self.use_tags and tags else None
        boxes = np.zeros((0, 4), np.float32)
        traced = name in self._traced and self.module > 1
        if self.module == 1 or traced or self.config.detection.search_boxes:
            stored = self.proposals is not None and name in self.proposals
            boxes = self.proposals[name] if stored else propose(image, self.config)  # type: ignore[index]
        result = self.predictor(image, boxes, self.module, known)
        if self._other is not None:
            other = self.predictor(image, boxes, self._other, known).instances
            instances = with_agreement(result.instances, other)
            result = dataclasses.replace(result, instances=instances)
        if traced:
            first = self.predictor(image, boxes, 1, known)
            return Labelling(result.instances, result.module, first.maps | result.maps)
        return result


def usable_device(device: str | torch.device) -> torch.device:
    """The device, after a try: torch tells what is missing with errors of several types."""
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"device: expected cpu, cuda or cuda:N, got {device}: {why}") from None
    return found
