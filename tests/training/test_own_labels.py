"""Module 2 taught by what it finds itself (`train.own_labels_at`)."""

import pytest
import torch
from tiny_cascade import random_cascade, saved_state, tiny_config

from labelpenet.inference import Predictor
from labelpenet.training.engine import Engine
from labelpenet.training.examples import Example, generator_for
from labelpenet.training.forward_backward import ForwardBackward
from labelpenet.training.steps import own_labels, own_labels_loss
from labelpenet.training.trainer import Trainer
from labelpenet.types import ImageRecord


@pytest.fixture
def example():
    image = torch.randint(0, 256, (3, 48, 64), generator=generator_for(1)).float()
    return Example(ImageRecord("a", "a.png", (0, 2)), image, 1.0, False, generator_for(0))


BOXES = torch.tensor([[4.0, 4, 30, 40], [20.0, 8, 60, 44], [0.0, 0, 64, 48]])


def test_are_what_the_module_answers(example):
    """The boxes, classes and scores of its answer for the image, where only tags count."""
    cascade = random_cascade("detection.label_score=0.02")
    predictor = Predictor(cascade, cascade.config.detection.label_score, teaching=True)
    with torch.no_grad():
        found = own_labels(predictor, example, cascade.trunk(example.image), BOXES)
    assert set(found.labels.tolist()) == {0, 2}
    answer = predictor(example.pixels, BOXES.numpy(), 2, (0, 2)).instances
    ours = {tuple(round(x, 3) for x in box.tolist()) for box in found.boxes}
    theirs = {tuple(round(x, 3) for x in box.tolist()) for box in answer.boxes}
    assert theirs <= ours  # it leaves out those without a mask
    for tag in (0, 2):
        scores = found.scores[found.labels == tag]
        assert ((scores >= 0.02) | (scores == scores.max())).all()


def test_draw_no_dropout_and_leave_training_mode(example):
    """Two goes at one example find the same labels; the losses still draw their dropout."""
    cascade = random_cascade("model.dropout=0.5")
    store = {"a": BOXES.numpy()}
    loss = own_labels_loss(cascade, store)
    cascade.detection.train()
    seen, real = [], cascade.detection.loss

    def watched(trunks, goals, *rest):
        seen.append(goals[0])
        return real(trunks, goals, *rest)

    cascade.detection.loss = watched
    totals = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        totals.append(loss([Example(example.record, example.image, 1.0, False, generator_for(0))]))
    assert cascade.detection.training
    assert torch.equal(seen[0].boxes, seen[1].boxes)
    assert torch.equal(seen[0].weights, seen[1].weights)
    assert totals[0]["roi_class"] != totals[1]["roi_class"]


@pytest.mark.parametrize(("share", "labelled"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_module_1_labels_no_more_than_is_read(share, labelled, tmp_path, data):
    """Two steps of two images, of which the first share learns from module 1."""
    from labelpenet.training.targets import TargetStore

    trainer = Trainer(tiny_config(f"train.own_labels_at={share}"), *data, tmp_path)
    trainer.run(2)
    file = trainer.targets(1)
    assert file.exists() == (labelled > 0)
    if labelled:
        assert len(TargetStore.open(file).names()) == labelled


def test_change_what_module_2_learns(trained, tmp_path, data):
    Trainer(tiny_config("train.own_labels_at=0.5"), *data, tmp_path).run(2)
    before, after = saved_state(trained / "module2.pt"), saved_state(tmp_path / "module2.pt")
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert changed
    assert all(key.startswith("detection.") for key in changed), changed


def test_stopped_among_them(tmp_path, data, monkeypatch):
    """A run that was stopped goes on to the weights of an undisturbed one."""
    from labelpenet.training.optimization import Stepper

    config = tiny_config(
        "train.own_labels_at=0.25", "train.steps=[1,4,1,1]", "train.checkpoint_every=1"
    )
    Trainer(config, *data, tmp_path / "whole").run(2)
    trainer, step, taken = Trainer(config, *data, tmp_path / "stopped"), Stepper.step, []

    def stop(self):
        taken.append(1)
        if len(taken) == 2 + 1 + 3:  # trunk, module 1, and within module 2
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Stepper, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(2)
    monkeypatch.undo()
    Trainer(config, *data, tmp_path / "stopped").run(2)
    ours, theirs = (saved_state(tmp_path / name / "module2.pt") for name in ("whole", "stopped"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(("share", "teachers"), [(0.5, {2, 3}), (1.0, {1, 2, 3})])
def test_are_those_of_the_forward_step_too(share, teachers, example, monkeypatch):
    """Module 1 labels for module 2 only where module 2 does not label for itself."""
    cascade = random_cascade(f"train.own_labels_at={share}")
    whole, asked = Predictor.answer, []
    monkeypatch.setattr(
        Predictor, "answer", lambda self, s, n, *rest: asked.append(n) or whole(self, s, n, *rest)
    )
    learning = ForwardBackward(cascade, {"a": BOXES.numpy()})
    torch.manual_seed(0)
    losses, _ = learning(0, [example])
    assert sorted(asked) == sorted(teachers)
    assert {name.split("_")[1] for name in losses} == {"1", "2", "3", "4"}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("teach", ["own labels", "forward-backward"])
def test_asking_a_teacher_leaves_all_layers_learning(precision, teach, example):
    """Autocast's copies of weights from before the loss must not stand in for the weights in it."""
    config = tiny_config("train.own_labels_at=0", f"train.precision={precision}")
    cascade = random_cascade("train.own_labels_at=0", f"train.precision={precision}")
    proposals = {"a": BOXES.numpy()}
    torch.manual_seed(0)
    with Engine(config).autocast():
        if teach == "own labels":
            losses = own_labels_loss(cascade, proposals)([example])
        else:
            losses, _ = ForwardBackward(cascade, proposals)(0, [example])
    torch.stack(list(losses.values())).sum().backward()
    head = cascade.detection.named_parameters()
    still = [name for name, p in head if p.grad is None and "fc" in name]
    assert not still
