"""A cascade of a few thousand weights and scenes of 64 x 64: training that takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from labelpenet.config import Config, config_from_dict
from labelpenet.data import ProposalStore, load_dataset
from labelpenet.labeler import store_proposals
from labelpenet.models.cascade import Cascade, load_checkpoint
from labelpenet.types import Dataset

CLASSES = ("box", "disk", "star")

OVERRIDES = (
    "model.backbone=tiny",
    "model.fc_width=16",
    "model.rpn_channels=8",
    "model.mask_channels=8",
    "proposals.min_side=8",
    "proposals.limit=30",
    "proposals.train_limit=20",
    "calibration.crf.iterations=2",
    "detection.anchor_sizes=[16,32]",
    "detection.rpn_pre_nms=60",
    "detection.train_boxes=30",
    "detection.test_boxes=20",
    "detection.roi_batch=16",
    "detection.rpn_batch=16",
    "train.trunk_steps=2",
    "train.trunk_batch=2",
    "train.trunk_size=48",
    "train.forward_backward_steps=1",
    "train.steps=[2,2,2,2]",
    "train.scales=[48,64]",
    "train.longest=96",
    "train.optimizer=adamw",
    "train.warmup=1",
)

CLASS_MAPS = (
    "calibration.box=own",
    "calibration.combine=class_map",
    "calibration.objects=5",
    "calibration.score=class_map",
    "detection.contrast=2.0",
    "detection.head_presence=0.5",
    "detection.image_prior=1.0",
    "detection.mask_nms=0.8",
    "detection.mask_power=2.0",
    "detection.regress=false",
    "detection.search_boxes=20",
    "detection.test_boxes=0",
    "detection.vote_power=10.0",
    "test_flip=true",
    "test_scales=[48,64]",
    "train.fill_images=4",
    "train.own_labels_at=0.0",
    "train.place_images=6",
    "train.region_images=6",
    "train.tag_loss=1",
    "train.trunk_steps=0",
)
"""What the preset `voc-squeezenet` asks for beyond the defaults, in small."""


def tiny_config(*overrides: str) -> Config:
    """Settings of the tests, as the command line would give them."""
    from labelpenet.config import load_config

    return load_config(None, [*OVERRIDES, *overrides])


def with_values(config: Config, section: str, **values: object) -> Config:
    """The settings with some of one section changed."""
    plain = config.to_dict()
    plain[section] |= values
    return config_from_dict(plain)


def random_cascade(*overrides: str, seed: int = 0) -> Cascade:
    """An untrained cascade in evaluation mode."""
    torch.manual_seed(seed)
    return Cascade(tiny_config(*overrides), CLASSES).eval()


def saved_state(path: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's weights."""
    return load_checkpoint(path)[0].state_dict()


def scene_data(folder: Path, config: Config) -> tuple[Dataset, ProposalStore]:
    """The training scenes of a folder and their proposals, computed into a file beside it."""
    dataset = load_dataset(folder, split="train")
    result = store_proposals(dataset, folder.parent / "proposals.parquet", config)
    return dataset, ProposalStore.open(result.path)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads than on one; import it to use it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
