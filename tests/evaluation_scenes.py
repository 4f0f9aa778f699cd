"""Small datasets for the tests of the metrics, as the package takes them and as lists."""

from __future__ import annotations

import numpy as np
import torch

from labelpenet.reference.metrics import Object, Prediction
from labelpenet.types import GroundTruth, Instances

HEIGHT, WIDTH = 12, 16


def known(boxes, labels=None, difficult=None, masks=None, semantic=None, crowd=None) -> GroundTruth:
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    labels = [0] * len(boxes) if labels is None else labels
    difficult = [False] * len(boxes) if difficult is None else difficult
    return GroundTruth(
        boxes,
        np.asarray(labels, np.int64).reshape(-1),
        np.asarray(difficult, bool).reshape(-1),
        masks,
        semantic=semantic,
        crowd=None if crowd is None else np.asarray(crowd, bool),
    )


def found(boxes, scores=None, labels=None, masks=None) -> Instances:
    boxes = torch.as_tensor(np.asarray(boxes, np.float32).reshape(-1, 4))
    scores = np.linspace(0.9, 0.1, len(boxes)) if scores is None else scores
    return Instances(
        boxes,
        torch.as_tensor([0] * len(boxes) if labels is None else labels, dtype=torch.int64),
        torch.as_tensor(np.asarray(scores, np.float32)),
        None if masks is None else torch.as_tensor(masks),
    )


def fill(boxes) -> np.ndarray:
    """[N, HEIGHT, WIDTH] bool: the pixels of whole-numbered boxes."""
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, np.asarray(boxes, int), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """[count, 4] float32, whole-numbered so that overlaps hit the thresholds exactly at times."""
    x, y = np.sort(rng.integers(0, 9, (count, 2))), np.sort(rng.integers(0, 9, (count, 2)))
    return np.stack([x[:, 0], y[:, 0], x[:, 1] + 2, y[:, 1] + 2], 1).astype(np.float32)


def random_dataset(seed: int, images: int = 6, num_classes: int = 3, difficult: bool = True):
    """Predictions and truth by name, and the same as lists of boxes and of masks."""
    rng = np.random.default_rng(seed)
    predictions, truth = {}, {}
    objects, object_masks, guesses, guess_masks = [], [], [], []
    scores = rng.permutation(1000)  # without ties, across images too
    for i in range(images):
        name = f"{i:03d}"
        n, k = rng.integers(0, 4), rng.integers(0, 7)
        boxes, labels = random_boxes(rng, n), rng.integers(0, num_classes, n)
        hard = (rng.random(n) < 0.25) & difficult
        masks = fill(boxes) & (rng.random((n, HEIGHT, WIDTH)) < 0.9)
        semantic = rng.choice([0, 1, 2, 255], (HEIGHT, WIDTH)).astype(np.uint8)
        truth[name] = known(boxes, labels, hard, masks, semantic)
        objects += [
            Object(i, *row) for row in zip(labels.tolist(), boxes.tolist(), hard, strict=True)
        ]
        object_masks += [Object(i, *row) for row in zip(labels.tolist(), masks, strict=True)]
        near = boxes[rng.integers(0, n, k)] if n else random_boxes(rng, k)
        guess = np.where(rng.random((k, 1)) < 0.6, near, random_boxes(rng, k))
        guess[:, 2:] += rng.integers(0, 2, (k, 2))  # some moved corners
        score = (scores[10 * i : 10 * i + k] / 1000).astype(np.float32)
        guessed = rng.integers(0, num_classes, k)
        masks = fill(guess)
        predictions[name] = found(guess, score, guessed, masks)
        rows = list(zip(guessed.tolist(), score.tolist(), guess.tolist(), masks, strict=True))
        guesses += [Prediction(i, label, s, box) for label, s, box, _ in rows]
        guess_masks += [Prediction(i, label, s, mask) for label, s, _, mask in rows]
    return predictions, truth, (guesses, objects), (guess_masks, object_masks)
