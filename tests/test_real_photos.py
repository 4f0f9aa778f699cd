"""Four real photos through a SqueezeNet cascade: every part meets real sizes and weights."""

import pytest
import torch
from labeling.scenes import read_labels

from labelpenet.config import load_config
from labelpenet.data import load_image
from labelpenet.labeler import Labeler
from labelpenet.labeling.job import LabelerSettings, label_dataset
from labelpenet.training.run import train_cascade

PHOTOS = ("2007_000032", "2007_000033", "2007_000039", "2007_000068")


@pytest.fixture(scope="module")
def run(shared, tmp_path_factory):
    """The photos' list, and the checkpoint after one step of every module."""
    folder = tmp_path_factory.mktemp("photos")
    source = shared / "data" / "voc12-mini"
    tags = dict(line.split(",") for line in (source / "train.csv").read_text().splitlines())
    (folder / "images").mkdir()
    rows = ["image,labels"]
    for name in PHOTOS:
        path = f"VOC2012/JPEGImages/{name}.jpg"
        (folder / "images" / f"{name}.jpg").symlink_to(source / path)
        rows.append(f"images/{name}.jpg,{tags[path]}")
    table = folder / "list.csv"
    table.write_text("\n".join(rows) + "\n")
    config = load_config(
        "voc-squeezenet",
        [
            f"model.weights={shared / 'weights' / 'squeezenet1_0.safetensors'}",
            "model.fc_width=64",
            "model.rpn_channels=16",
            "model.mask_channels=16",
            "proposals.limit=100",
            "proposals.train_limit=50",
            "calibration.crf.iterations=1",
            "detection.limit=4",
            "detection.test_boxes=30",
            "train.steps=[2,1,1,1]",
            "train.batch=1",
            "train.scales=[160]",
            "test_scales=[160]",
        ],
    )
    return table, train_cascade(config, table, folder / "run")


@pytest.mark.timeout(900)
def test_labels(run, tmp_path):
    table, checkpoint = run
    summary = label_dataset(table, tmp_path, LabelerSettings(checkpoint))
    assert (summary.images, summary.errors) == (4, 0)
    classes, found, sizes = read_labels(tmp_path)
    assert sorted(found) == sorted(f"images/{name}" for name in PHOTOS)
    tags = dict(row.split(",") for row in table.read_text().splitlines()[1:])
    for name, instances in found.items():
        named = {classes[label] for label in instances.labels.tolist()}
        assert named == set(tags[f"{name}.jpg"].split())
        height, width = sizes[name]
        assert instances.masks.shape[1:] == (height, width)
        assert (instances.boxes <= torch.tensor([width, height, width, height]) + 1e-3).all()


def test_earlier_modules_answer(run):
    table, checkpoint = run
    image = load_image(table.parent / "images" / f"{PHOTOS[0]}.jpg")
    for module in (1, 2):
        labelling = Labeler(checkpoint, module=module)(image, (0,))
        assert labelling.module == module
        assert set(labelling.instances.labels.tolist()) == {0}
        assert torch.isfinite(labelling.instances.boxes).all()
