"""Labels that one module makes for the next: kept in parts, so that a stopped run goes on."""

import shutil

import pytest
from tiny_cascade import saved_state

from labelpenet.training import labels
from labelpenet.training.targets import TargetsError, TargetStore
from labelpenet.training.trainer import Trainer


class Watched:
    """A predictor that notes what it is asked for, and is interrupted at the image `stop`."""

    def __init__(self, stop: int | None = None) -> None:
        self.asked: list[int] = []
        self.stop = stop

    def __call__(self, cascade, score, teaching):
        predictor = Predictor(cascade, score, teaching=teaching)

        def answer(image, boxes, number, tags):
            if len(self.asked) == self.stop:
                raise KeyboardInterrupt
            self.asked.append(number)
            return predictor(image, boxes, number, tags)

        return answer


Predictor = labels.Predictor


@pytest.fixture
def begun(trained, tmp_path):
    """A run whose module 2 is trained and has labelled nothing."""
    for name in ("module0.pt", "module1.pt", "targets1.parquet", "module2.pt", "cascade.json"):
        shutil.copy(trained / name, tmp_path)
    return tmp_path


def stopped_at(image, begun, config, data, monkeypatch):
    monkeypatch.setattr(labels, "Predictor", Watched(image))
    with pytest.raises(KeyboardInterrupt):
        Trainer(config, *data, begun).run(3)
    assert not (begun / "targets2.parquet").exists()


def parts(folder):
    return sorted(path.name for path in folder.glob(".targets*"))


def test_a_stopped_run_finds_only_the_rest(begun, trained, config, data, monkeypatch):
    """Few images are one a part; it stops at the third."""
    wanted = len(TargetStore.open(trained / "targets2.parquet").names())
    assert wanted > 2
    stopped_at(2, begun, config, data, monkeypatch)
    assert parts(begun) == [".targets2.0.parquet", ".targets2.1.parquet"]
    rest = Watched()
    monkeypatch.setattr(labels, "Predictor", rest)
    Trainer(config, *data, begun).run(3)
    assert len(rest.asked) == wanted - 2
    assert set(rest.asked) == {2}
    assert parts(begun) == []
    ours, theirs = (TargetStore.open(out / "targets2.parquet") for out in (begun, trained))
    assert ours.names() == theirs.names()
    for name in ours.names():
        assert ours[name].boxes.equal(theirs[name].boxes)
        assert ours[name].masks.equal(theirs[name].masks)
    ours, theirs = (saved_state(out / "module3.pt") for out in (begun, trained))
    assert all(ours[key].equal(theirs[key]) for key in theirs)


def test_a_module_trained_again_labels_again(begun, trained, config, data, monkeypatch):
    stopped_at(2, begun, config, data, monkeypatch)
    (begun / "module2.pt").unlink()
    again = Watched()
    monkeypatch.setattr(labels, "Predictor", again)
    Trainer(config, *data, begun).run(3)
    assert len(again.asked) == len(TargetStore.open(trained / "targets2.parquet").names())


def test_a_damaged_part_is_told(begun, config, data, monkeypatch):
    stopped_at(2, begun, config, data, monkeypatch)
    part = begun / ".targets2.1.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    monkeypatch.undo()
    with pytest.raises(TargetsError, match=r"\.targets2\.1\.parquet: cannot be read as targets"):
        Trainer(config, *data, begun).run(3)
    assert not (begun / "targets2.parquet").exists()
    part.unlink()
    Trainer(config, *data, begun).run(3)
    assert parts(begun) == []


@pytest.mark.parametrize(("images", "size"), [(1, 1), (15, 1), (16, 2), (127, 15), (1895, 16)])
def test_few_images_make_parts_for_several_processes(images, size):
    """Parts do not depend on the number of processes that share them."""
    assert labels.part_size(images) == size
