import dataclasses
import doctest
import importlib
import io
import json
import math
import pkgutil

import numpy as np
import pytest
import torch
from evaluation_scenes import HEIGHT, WIDTH, fill, found, known, random_dataset
from rich.console import Console

import labelpenet.evaluation as evaluation
from labelpenet.evaluation import Evaluator, Interpolation, Matching, evaluate
from labelpenet.types import Instances

CLASSES = ("cat", "dog", "owl")
SQUARE = [0, 0, 10, 10]


def test_every_figure_is_that_of_its_own_function():
    predictions, truth, *_ = random_dataset(5)
    rng = np.random.default_rng(0)
    scores = {name: rng.random(3) for name in truth}
    got = evaluate(predictions, truth, CLASSES, image_scores=scores)

    def same(ours, theirs):
        assert ours.values == pytest.approx(theirs.values, abs=0, nan_ok=True)

    inputs = (predictions, truth, 3)
    same(got.box_ap, evaluation.box_ap(*inputs))
    elevenths = evaluation.box_ap(*inputs, interpolation=Interpolation.ELEVEN_POINT)
    same(got.box_ap_11point, elevenths)
    same(got.corloc, evaluation.corloc(*inputs))
    same(got.iou, evaluation.mean_iou(*inputs))
    for matching in (Matching.BEST, Matching.GREEDY):
        for threshold in (0.25, 0.5, 0.75):
            want = evaluation.mask_ap(*inputs, iou_threshold=threshold, matching=matching)
            same(got.mask_ap[matching][threshold], want)
    abo, abo_per_object = evaluation.average_best_overlap(*inputs)
    same(got.abo, abo)
    assert got.abo_per_object == abo_per_object
    names = sorted(truth)
    labels, ignore = np.zeros((2, len(names), 3), bool)
    for i, name in enumerate(names):
        labels[i, truth[name].labels[~truth[name].difficult]] = True
        ignore[i, truth[name].labels[truth[name].difficult]] = True
    ignore &= ~labels
    stacked = np.stack([scores[n] for n in names])
    same(got.classification_ap, evaluation.classification_ap(stacked, labels, ignore=ignore))
    assert (got.images, got.mask_images, got.semantic_images) == (6, 6, 6)


def test_streaming_in_any_order_is_the_same():
    predictions, truth, *_ = random_dataset(6)
    evaluator = Evaluator(CLASSES)
    for name in reversed(sorted(truth)):
        evaluator.add(name, predictions[name], truth[name])
    assert len(evaluator) == len(truth)
    assert evaluator.result().to_json() == evaluate(predictions, truth, CLASSES).to_json()


def test_the_paint_score_changes_iou_alone():
    predictions, truth, *_ = random_dataset(6)
    results = []
    for least in (0.0, 0.5, 1.0):
        evaluator = Evaluator(CLASSES, paint_score=least)
        for name in truth:
            evaluator.add(name, predictions[name], truth[name])
        results.append(evaluator.result())
    everything, some, nothing = results
    assert everything.iou != some.iou != nothing.iou
    assert not np.nansum(nothing.iou.values[1:])  # all is background
    assert everything.box_ap == some.box_ap
    assert everything.mask_ap == some.mask_ap
    with pytest.raises(ValueError, match="paint_score: expected"):
        Evaluator(CLASSES).merge(Evaluator(CLASSES, 0.5))
    with pytest.raises(ValueError, match="paint_score: expected a number"):
        Evaluator(CLASSES, 1.5)


def test_equal_scores_rank_by_image_name():
    # a holds the object, b a false positive of the same score: a is first, however they are given
    truth = {"a": known([SQUARE]), "b": known([])}
    for names in ("ab", "ba"):
        evaluator = Evaluator(CLASSES)
        for name in names:
            evaluator.add(name, found([SQUARE], [0.5]), truth[name])
        assert evaluator.result().box_ap.mean == 1
        predictions = {name: found([SQUARE], [0.5]) for name in names}
        assert evaluation.box_ap(predictions, truth, 3).mean == 1


def test_images_with_difficult_objects_alone_are_left_out_of_classification():
    truth = {"a": known([SQUARE]), "b": known([SQUARE], difficult=[True]), "c": known([])}
    nothing = dict.fromkeys(truth, Instances.empty())
    scores = {name: np.array([s, 0, 0]) for name, s in (("a", 0.5), ("b", 0.9), ("c", 0.1))}
    figures = evaluate(nothing, truth, CLASSES, image_scores=scores)
    assert figures.classification_ap.mean == figures.classification_ap_11point.mean == 1


def test_evaluator_hands_on_what_the_bootstrap_needs():
    predictions, truth, *_ = random_dataset(6)
    evaluator = Evaluator(CLASSES)
    for name in truth:
        evaluator.add(name, predictions[name], truth[name])
    figures = evaluator.result()
    assert evaluation.mean_ap(evaluator.box_matches()) == figures.box_ap.mean
    got = evaluation.mean_ap(evaluator.mask_matches(0.75, Matching.GREEDY))
    assert got == figures.mask_ap[Matching.GREEDY][0.75].mean
    assert evaluation.mean_corloc(evaluator.corloc_hits()) == figures.corloc.mean
    with pytest.raises(ValueError, match="iou_threshold: expected one of"):
        evaluator.mask_matches(0.6)


def test_boxes_alone_give_box_figures():
    figures = evaluate({"a": found([SQUARE])}, {"a": known([SQUARE])}, CLASSES)
    assert figures.box_ap.mean == figures.corloc.mean == 1
    assert figures.mask_ap is figures.abo is figures.iou is figures.classification_ap is None
    assert list(figures.means()) == ["box AP", "box AP 11-point", "CorLoc"]


def test_predictions_without_masks_give_box_figures_in_any_order():
    masked = known([SQUARE], masks=fill([SQUARE]), semantic=np.zeros((HEIGHT, WIDTH), np.uint8))
    images = {"empty": Instances.empty(), "boxes": found([SQUARE])}
    for names in (["empty", "boxes"], ["boxes", "empty"]):
        evaluator = Evaluator(CLASSES)
        for name in names:
            evaluator.add(name, images[name], masked)
        figures = evaluator.result()
        assert figures.mask_ap is figures.iou is None
        assert (figures.mask_images, figures.semantic_images) == (0, 0)


def test_mask_figures_are_over_the_images_with_true_masks():
    predictions = {n: found([SQUARE], masks=fill([SQUARE])) for n in "ab"}
    truth = {"a": known([SQUARE], masks=fill([SQUARE])), "b": known([SQUARE])}
    figures = evaluate(predictions, truth, CLASSES)
    assert (figures.images, figures.mask_images) == (2, 1)
    assert figures.mask_ap[Matching.BEST][0.5].mean == figures.abo.mean == 1


def test_nothing_found_and_nothing_there():
    empty = {"a": Instances.empty()}
    scene = known([SQUARE], masks=fill([SQUARE]), semantic=np.ones((HEIGHT, WIDTH), np.uint8))
    figures = evaluate(empty, {"a": scene}, CLASSES)
    assert set(figures.means().values()) == {0.0}
    nothing = known([], masks=fill([]), semantic=np.zeros((HEIGHT, WIDTH), np.uint8))
    figures = evaluate(empty, {"a": nothing}, CLASSES)
    assert figures.iou.mean == 1  # all background, rightly so
    assert all(math.isnan(v) for k, v in figures.means().items() if k != "IoU")
    figures = evaluate({"a": found([SQUARE], masks=fill([SQUARE]))}, {"a": nothing}, CLASSES)
    assert math.isnan(figures.box_ap.mean)
    assert figures.iou.values[0] == pytest.approx(1 - 100 / (HEIGHT * WIDTH))
    assert math.isnan(evaluate({}, {}, CLASSES).box_ap.mean)


def test_arrays_and_tensors_of_any_float_are_taken():
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        tensors = found([SQUARE])
        tensors = dataclasses.replace(
            tensors, boxes=tensors.boxes.to(dtype), scores=tensors.scores.to(dtype)
        )
        assert evaluate({"a": tensors}, {"a": known([SQUARE])}, CLASSES).box_ap.mean == 1
    arrays = Instances(np.array([SQUARE], np.float32), np.zeros(1, np.int32), np.ones(1))
    assert evaluate({"a": arrays}, {"a": known([SQUARE])}, CLASSES).box_ap.mean == 1


def _found(**changes):
    return dataclasses.replace(found([SQUARE], masks=fill([SQUARE])), **changes)


def _known(**changes):
    return dataclasses.replace(known([SQUARE], masks=fill([SQUARE])), **changes)


BAD = {
    "not instances": ({"a": 5}, None, TypeError, "a: expected Instances, got int without boxes"),
    "not truth": (None, {"a": 5}, TypeError, "a: expected GroundTruth, got int"),
    "missing": ({}, None, ValueError, r"1 image\(s\) with truth without predictions: 'a'"),
    "extra": (
        {"a": _found(), "b": _found()}, None, ValueError,
        r"1 image\(s\) with predictions without truth: 'b'",
    ),
    "nan score": (
        {"a": _found(scores=torch.tensor([math.nan]))}, None, ValueError,
        "a: scores: expected finite numbers, got 1 NaN or infinite",
    ),
    "nan box": (
        {"a": _found(boxes=torch.full((1, 4), math.nan))}, None, ValueError,
        "a: boxes: expected finite numbers, got 4 NaN or infinite",
    ),
    "inside out": (
        {"a": _found(boxes=torch.tensor([[5.0, 0, 3, 3]]))}, None, ValueError,
        r"a: boxes: expected x1 <= x2 and y1 <= y2, got \[5.0, 0.0, 3.0, 3.0\]",
    ),
    "box shape": (
        {"a": _found(boxes=torch.zeros(4))}, None, ValueError,
        r"a: boxes: expected \[1, 4\] floating, got \[4\] float64",
    ),
    "counts differ": (
        {"a": _found(labels=torch.zeros(2, dtype=torch.int64))}, None, ValueError,
        r"a: labels: expected \[1\] integer, got \[2\] int64",
    ),
    "label dtype": (
        {"a": _found(labels=torch.zeros(1))}, None, TypeError,
        r"a: labels: expected \[1\] integer, got \[1\] float64",
    ),
    "label range": (
        {"a": _found(labels=torch.tensor([3]))}, None, ValueError,
        r"a: labels: expected classes in \[0, 3\), got \[3, 3\]",
    ),
    "mask dtype": (
        {"a": _found(masks=torch.zeros(1, HEIGHT, WIDTH))}, None, TypeError,
        r"a: masks: expected \[1, H, W\] bool",
    ),
    "mask count": (
        {"a": _found(masks=torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool))}, None, ValueError,
        r"a: masks: expected \[1, H, W\] bool",
    ),
    "mask size": (
        {"a": _found(masks=torch.zeros(1, 2, 2, dtype=torch.bool))}, None, ValueError,
        r"a: masks: expected \[12, 16\] pixels as the truth has, got \[2, 2\]",
    ),
    "true boxes": (
        None, {"a": _known(boxes=np.zeros((2, 4)))}, ValueError,
        r"a: truth boxes: expected \[1, 4\]",
    ),
    "true labels": (
        None, {"a": _known(labels=np.array([-1]))}, ValueError, "a: truth labels: expected classes",
    ),
    "true difficult": (
        None, {"a": _known(difficult=np.zeros(1))}, TypeError, "a: truth difficult: expected",
    ),
    "true semantic": (
        None, {"a": _known(semantic=np.zeros((3, 3), np.uint8))}, ValueError,
        r"a: truth semantic: expected \[12, 16\] as the masks have, got \[3, 3\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("predictions", "truth", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused(predictions, truth, error, message):
    predictions = {"a": _found()} if predictions is None else predictions
    truth = {"a": _known()} if truth is None else truth
    with pytest.raises(error, match=message):
        evaluate(predictions, truth, CLASSES)


@pytest.mark.parametrize("scores", [np.zeros(2), np.full(3, np.nan), np.zeros((1, 3))])
def test_bad_image_scores_are_refused(scores):
    with pytest.raises(ValueError, match=r"a: image scores: expected \[3\] finite numbers"):
        evaluate({"a": _found()}, {"a": _known()}, CLASSES, image_scores={"a": scores})


@pytest.mark.parametrize("classes", [(), ("cat", "cat"), "cat"])
def test_bad_classes_are_refused(classes):
    with pytest.raises(ValueError, match="classes: expected different names"):
        Evaluator(classes)


def test_evaluator_refuses_what_does_not_go_together():
    evaluator = Evaluator(CLASSES)
    evaluator.add("a", _found(), _known(), np.zeros(3))
    with pytest.raises(ValueError, match="a: this image was added before"):
        evaluator.add("a", _found(), _known(), np.zeros(3))
    with pytest.raises(ValueError, match="b: masks: expected predictions with masks as before"):
        evaluator.add("b", found([SQUARE]), _known(), np.zeros(3))
    with pytest.raises(ValueError, match="b: image_scores: expected them for all images or none"):
        evaluator.add("b", _found(), _known())
    before = evaluator.result().to_json()
    with pytest.raises(ValueError, match="truth: expected classes"):  # found late, counts nothing
        evaluator.add("b", _found(), _known(semantic=np.full((HEIGHT, WIDTH), 9)), np.zeros(3))
    assert evaluator.result().to_json() == before


def test_json_and_tables():
    predictions, truth, *_ = random_dataset(5)
    truth = {
        n: dataclasses.replace(t, semantic=np.minimum(t.semantic, 1)) for n, t in truth.items()
    }
    figures = evaluate(predictions, truth, CLASSES)
    content = json.loads(figures.to_json())
    assert content["images"] == 6
    assert content["means"]["box AP"] == figures.box_ap.mean
    assert content["means"]["IoU"] == figures.iou.mean
    assert content["classes"]["cat"]["mask AP 50"] == figures.mask_ap[Matching.BEST][0.5].values[0]
    assert content["classes"]["owl"]["IoU"] is None  # class 2 is in no semantic map
    assert content["classes"]["background"]["IoU"] == figures.iou.values[0]
    assert content["classes"]["cat"]["IoU"] == figures.iou.values[1]

    header, *rows = figures.rows()
    assert [row[0] for row in rows] == ["background", *CLASSES, "mean"]
    assert all(len(row) == len(header) for row in rows)
    mean = dict(zip(header, rows[-1], strict=True))
    assert mean["box AP"] == f"{100 * figures.box_ap.mean:.1f}"
    assert mean["IoU"] == f"{100 * figures.iou.mean:.1f}"
    assert dict(zip(header, rows[3], strict=True))["IoU"] == "–"

    lines = figures.markdown().splitlines()
    assert lines[0].startswith("| class | box AP |")
    assert lines[1].startswith("| --- | ---: |")
    assert len({line.count("|") for line in lines[: len(rows) + 2]}) == 1

    console = Console(file=io.StringIO(), width=200)
    console.print(figures.table())
    shown = console.file.getvalue()
    assert all(cell in shown for cell in (*CLASSES, mean["mask AP 25"], "masks known in 6"))
    brackets = ("a[/b]", "[red]owl", "cow")
    console.print(evaluate(predictions, truth, brackets).table())
    assert all(name in console.file.getvalue() for name in brackets)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        evaluate({}, {}, CLASSES).images = 3


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(evaluation.__path__)])
def test_examples(name):
    module = importlib.import_module(f"labelpenet.evaluation.{name}")
    assert doctest.testmod(module).failed == 0
