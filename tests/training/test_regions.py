"""Module 1's class scores before its first step."""

import numpy as np
import torch
from PIL import Image
from tiny_cascade import random_cascade

from labelpenet.data import Proposals, ProposalStore, write_proposals
from labelpenet.models.classification import multi_label_loss
from labelpenet.training.regions import fit_regions
from labelpenet.types import ImageRecord

COLOURS = ((220, 40, 40), (40, 220, 40), (40, 40, 220))


def test_the_fit_tells_the_classes_apart(tmp_path):
    """Photos of one colour each: eq. 2 falls far below chance, and no other layer moves."""
    cascade = random_cascade("train.region_images=9", "proposals.train_limit=4")
    noise = np.random.default_rng(0)
    boxes = np.array([[0, 0, 40, 40], [8, 8, 60, 60], [0, 0, 64, 64], [20, 4, 50, 50]], np.float32)
    records, named = [], []
    for i in range(9):
        image = np.clip(COLOURS[i % 3] + noise.normal(0, 15, (64, 64, 3)), 0, 255)
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"{i}.png")
        records.append(ImageRecord(f"{i}", tmp_path / f"{i}.png", (i % 3,)))
        named.append(Proposals(f"{i}", 64, 64, boxes))
    path = tmp_path / "proposals.parquet"
    write_proposals(path, named, {})
    before = {k: v.clone() for k, v in cascade.state_dict().items()}
    fit_regions(cascade, records, ProposalStore.open(path))
    changed = {k for k, v in cascade.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"classification.fc8c.weight", "classification.fc8c.bias"}
    losses = []
    for record in records:
        image = torch.from_numpy(np.array(Image.open(record.path))).permute(2, 0, 1).float()
        (output,) = cascade.classification([cascade.trunk(image)], [torch.from_numpy(boxes)])
        losses.append(float(multi_label_loss(output, record.labels).detach()))
    assert np.mean(losses) < 0.5 * np.log(3)
