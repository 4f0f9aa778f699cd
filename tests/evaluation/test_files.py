"""Labels and ground truth from files: which images belong together, and what is said if not."""

import io

import pytest
import torch
from labeling.scenes import each
from rich.console import Console

from labelpenet.data import SCENE_CLASSES, DatasetError, list_dataset, load_dataset, write_scenes
from labelpenet.evaluation.files import evaluate_files
from labelpenet.labeling import open_labels
from labelpenet.labeling.coco import write_labels
from labelpenet.labeling.manifest import Manifest
from labelpenet.labeling.runner import Options, label_images
from labelpenet.labeling.store import shard_path
from labelpenet.types import Instances, Labelling

NAMES = [f"test_{number:06d}" for number in range(3)]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A devkit with the splits train (2 images) and test (3), and lists of the latter."""
    folder = write_scenes(tmp_path_factory.mktemp("files") / "scenes", 2, test_count=3, seed=1)
    rows = [f"JPEGImages/{name}.jpg,disk" for name in NAMES]
    (folder / "test.csv").write_text("\n".join(["image,labels", *rows]))
    rows = [row.replace("JPEGImages", "scenes/JPEGImages") for row in rows]
    (folder.parent / "above.csv").write_text("\n".join(["image,labels", *rows]))
    return folder


@pytest.fixture
def store(scenes, tmp_path):
    """Writes a store of one image a shard whose labels are the truth; `bad` images fail."""
    truth = {
        split: load_dataset(scenes, split=split, classes=SCENE_CLASSES).truth
        for split in ("train", "test")
    }

    def perfect(image, tags, name):
        short = name.rpartition("/")[2]
        known = truth[short.partition("_")[0]][short]
        boxes, labels = (torch.from_numpy(array) for array in (known.boxes, known.labels))
        masks = None if known.masks is None else torch.from_numpy(known.masks)
        return Labelling(Instances(boxes, labels, torch.ones(len(labels)), masks), 4)

    def write(source, split=None, bad=()):
        def label(image, tags, name):
            if name in bad:
                raise ValueError("bad")
            return perfect(image, tags, name)

        listing = list_dataset(source, split=split, classes=SCENE_CLASSES)
        make, _ = each(label)
        label_images(make, listing, tmp_path / "labels", job={}, options=Options(shard_size=1))
        return tmp_path / "labels"

    return write


def nothing_found(folder, names):
    """A label file of images in which there is nothing."""
    found, sizes = dict.fromkeys(names, Instances.empty(2, 2)), dict.fromkeys(names, (2, 2))
    write_labels(folder / "labels.json", SCENE_CLASSES, found, sizes)
    return folder / "labels.json"


def evaluated(*arguments):
    """Box AP and CorLoc, and what was printed."""
    console = Console(file=io.StringIO(), width=500)
    result = evaluate_files(*arguments, console=console)
    return (result.box_ap.mean, result.corloc.mean), console.file.getvalue()


@pytest.mark.parametrize("labelled", ["", "test.csv", "../above.csv"])
@pytest.mark.parametrize("known", ["", "test.csv", "../above.csv"])
def test_folders_in_front_of_names_may_differ(scenes, store, labelled, known):
    labels = store(scenes / labelled, None if labelled else "test")
    assert evaluated(labels, scenes / known, None if known else "test") == ((1, 1), "")


def test_labels_of_other_images_are_refused(scenes, store):
    labels = store(scenes, "train")
    message = r"expected labels .* split test, .* as 'test_000000', got .* as 'train_000000'"
    with pytest.raises(ValueError, match=message):
        evaluate_files(labels, scenes, "test")


def test_a_store_without_labels_is_refused(scenes, tmp_path):
    Manifest(SCENE_CLASSES, {}, "x", images=3, digest="", shard_size=1).write(tmp_path)
    with pytest.raises(ValueError, match="as 'test_000000', got no labels at all"):
        evaluate_files(tmp_path, scenes, "test")


@pytest.mark.parametrize(
    ("source", "split", "names"),
    [
        ("", "test", ["a/test_000000", "b/test_000000"]),  # which of them is meant?
        ("test.csv", None, ["photos/test_000000"]),  # not of JPEGImages
        ("", "test", ["a_test_000000"]),
    ],
)
def test_names_that_may_be_other_images_are_not_paired(scenes, tmp_path, source, split, names):
    with pytest.raises(ValueError, match=f"got such names as '{names[0]}'"):
        evaluate_files(nothing_found(tmp_path, names), scenes / source, split)


def test_images_without_labels_are_told(scenes, store):
    labels = store(scenes, "test", bad=NAMES[:1])
    shard_path(labels, 2).unlink()
    figures, said = evaluated(labels, scenes, "test")
    assert 0 < figures[0] < 1
    lost = f"{labels}: not complete, its job has not gone through all images\n"
    assert said == f"{lost}2 of 3 images have no labels (1 of them failed)\n"
    assert list(open_labels(labels).names()) == NAMES[1:2]
    assert list(open_labels(labels).failed()) == NAMES[:1]


def test_a_job_under_way_is_told(scenes, store):
    labels = store(scenes, "test")
    (labels / "manifest.json").write_text(
        (labels / "manifest.json").read_text().replace('"complete": true', '"complete": false')
    )
    assert evaluated(labels, scenes, "test") == (
        (1, 1),
        f"{labels}: not complete, its job has not gone through all images\n",
    )


def test_images_that_all_failed_are_evaluated(scenes, store):
    labels = store(scenes / "test.csv", bad=[f"JPEGImages/{name}" for name in NAMES])
    figures, said = evaluated(labels, scenes, "test")
    assert figures == (0, 0)
    assert said == "3 of 3 images have no labels (3 of them failed)\n"


def test_no_truth(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages" / "a.jpg").write_bytes(b"")
    (tmp_path / "list.csv").write_text("image,labels\nJPEGImages/a.jpg,disk\n")
    with pytest.raises(DatasetError, match="no image has ground truth"):
        evaluate_files(nothing_found(tmp_path, ["a"]), tmp_path / "list.csv")
