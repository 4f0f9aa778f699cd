"""The usual fill of modules 3 and 4: a mean over what they find, in the checkpoint."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_cascade import random_cascade, tiny_config

from labelpenet.data import load_image
from labelpenet.inference import Predictor
from labelpenet.mask_confidence import fill
from labelpenet.models.cascade import load_checkpoint, save_checkpoint
from labelpenet.training.fill import fit_fill
from labelpenet.training.trainer import Trainer

ALL = ("train.fill_images=3", "detection.score_threshold=0")


@pytest.mark.parametrize("number", [3, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_is_the_mean_by_score_and_one_object_of_the_usual_fill(data, number, precision):
    cascade = random_cascade(*ALL, f"train.precision={precision}")
    dataset, proposals = data
    fit_fill(cascade, [number], dataset.records, proposals)
    chosen = [dataset.records[i * len(dataset) // 3] for i in range(3)]
    predictor = Predictor(cascade.for_inference())
    counted: dict[int, list[tuple[float, float]]] = {0: [], 1: [], 2: []}
    for record in chosen:
        seen = predictor.sample(load_image(record.path), proposals[record.name], record.labels)
        found, masks_of = predictor.detect.masked(seen, predictor.cascade.module(number))
        for label, score, one in zip(
            found.labels.tolist(),
            found.scores.tolist(),
            fill(masks_of(found), found.boxes),
            strict=True,
        ):
            counted[label].append((score, float(one)))
    expected = [
        (0.6 + sum(s * f for s, f in own)) / (1 + sum(s for s, _ in own))
        for own in counted.values()
    ]
    assert any(counted.values())
    got = cascade.module(number).usual_fill
    tolerance = 1e-5 if precision == "fp32" else 5e-3
    torch.testing.assert_close(got, torch.tensor(expected), atol=tolerance, rtol=tolerance)
    others = cascade.module(7 - number).usual_fill
    assert others.tolist() == pytest.approx([0.6] * 3)


def test_mirrored_images_do_not_change_it(data):
    """What labels that teach are scored by is measured as they are made."""
    fills = []
    for flip in ("false", "true"):
        cascade = random_cascade(*ALL, f"test_flip={flip}")
        fit_fill(cascade, [3], data[0].records, data[1])
        fills.append(cascade.refinement.usual_fill)
    assert torch.equal(*fills)


def test_training_measures_it_and_checkpoints_keep_it(data, tmp_path):
    config = tiny_config(*ALL)
    cascade = Trainer(config, *data, tmp_path / "run").run()
    for stage, modules in (("module2", ()), ("module3", (3,)), ("module4", (3, 4))):
        kept, _ = load_checkpoint(tmp_path / "run" / f"{stage}.pt")
        for number in (3, 4):
            measured = kept.module(number).usual_fill.tolist() != [np.float32(0.6)] * 3
            assert measured == (number in modules), (stage, number)
    last, _ = load_checkpoint(tmp_path / "run" / "forward_backward.pt")
    for number in (3, 4):
        torch.testing.assert_close(
            last.module(number).usual_fill, cascade.module(number).usual_fill
        )


def test_a_class_that_is_nowhere_keeps_the_usual_one(data):
    cascade = random_cascade(*ALL)
    dataset, proposals = data
    untagged = [dataclasses.replace(r, labels=(0,)) for r in dataset.records]
    fit_fill(cascade, [3], untagged, proposals)
    fills = cascade.refinement.usual_fill.tolist()
    assert fills[1:] == pytest.approx([0.6, 0.6])
    assert fills[0] != pytest.approx(0.6)


def test_a_checkpoint_keeps_it(tmp_path):
    cascade = random_cascade()
    cascade.segmentation.usual_fill.copy_(torch.tensor([0.3, 0.5, 0.7]))
    save_checkpoint(tmp_path / "one.pt", cascade, 4)
    kept, _ = load_checkpoint(tmp_path / "one.pt")
    assert kept.segmentation.usual_fill.tolist() == pytest.approx([0.3, 0.5, 0.7])
