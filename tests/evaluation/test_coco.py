import contextlib
import dataclasses
import io
import json
import math
import re

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from labelpenet.evaluation import Matching, coco_evaluate, mask_iou
from labelpenet.evaluation.matching import match

SQUARE = {
    "id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0,
    "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]],
}  # fmt: skip
TRUTH = {
    "images": [{"id": 7, "height": 20, "width": 20}],
    "annotations": [SQUARE],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
}
FOUND = {"image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 7], "score": 0.5}


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_published_scores(shared, kind):
    """COCO's own example: 100 images and results with published scores, three decimals."""
    folder = shared / "data" / "coco-eval-oracle"
    published = (folder / "val2014_fake_eval_res.txt").read_text().split(f"type={kind}")[1]
    published = [float(v) for v in re.findall(r"\] = ([\d.]+)", published)[:12]]
    result = coco_evaluate(
        folder / "instances_val2014_100.json",
        folder / f"instances_val2014_fake{kind}100_results.json",
        kind,
    )
    measured = [v for v in dataclasses.astuple(result) if isinstance(v, float)]
    for title, ours, theirs in zip(
        (f.name for f in dataclasses.fields(result)[3:]), measured, published, strict=True
    ):
        print(f"{kind} {title}: published {theirs:.3f}, measured {ours:.6f}")
    assert [round(v, 3) for v in measured] == published
    assert len(result.per_class.values) == len(result.classes) == 80
    assert result.per_class.mean == pytest.approx(result.ap)


# pycocotools 2.0.11 decodes through an __array__ that numpy 2 calls deprecated
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("threshold_index", [0, 5], ids=["0.5", "0.75"])
def test_greedy_matching_is_pycocotools(shared, threshold_index):
    """Real masks: our overlaps and greedy matching find what COCO's evaluation finds."""
    folder = shared / "data" / "coco-eval-oracle"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "instances_val2014_100.json"))
        results = truth.loadRes(str(folder / "instances_val2014_fakesegm100_results.json"))
        oracle = COCOeval(truth, results, "segm")
        oracle.evaluate()
    compared = 0
    for image in oracle.evalImgs:
        if image is None or image["aRng"] != oracle.params.areaRng[0] or not image["dtIds"]:
            continue
        objects = truth.loadAnns(image["gtIds"])
        if not objects or any(thing["iscrowd"] for thing in objects):  # crowds are COCO's own rule
            continue
        found = np.stack([results.annToMask(a) for a in results.loadAnns(image["dtIds"])])
        iou = mask_iou(found.astype(bool), np.stack([truth.annToMask(a) for a in objects]) > 0)
        labels = [np.zeros(size, int) for size in iou.shape]
        threshold = oracle.params.iouThrs[threshold_index]
        easy = np.zeros(len(objects), bool)
        ours = match(iou, *labels, easy, threshold, Matching.GREEDY)
        assert ours.tolist() == (image["dtMatches"][threshold_index] > 0).tolist()
        compared += len(ours)
    print(f"{compared} detections compared")
    assert compared > 500


def test_by_hand(capfd):
    result = coco_evaluate(TRUTH, [FOUND], "bbox")
    # IoU 7/9 = 0.78: right at 0.5, 0.55, 0.6, 0.65, 0.7, 0.75 of ten thresholds
    assert result.ap == pytest.approx(0.6)
    assert (result.ap50, result.ap75) == (pytest.approx(1), pytest.approx(1))
    assert math.isnan(result.ap_large)
    assert result.classes == ("cat", "dog")
    assert math.isnan(result.per_class.values[1])
    assert capfd.readouterr().out == ""


def test_inputs_are_left_as_they_were():
    before = json.dumps([TRUTH, FOUND])
    coco_evaluate(TRUTH, [FOUND], "bbox")
    assert json.dumps([TRUTH, FOUND]) == before


def test_no_results_score_zero_and_no_truth_nan():
    assert coco_evaluate(TRUTH, [], "bbox").ap == 0
    assert coco_evaluate(TRUTH, [], "segm").per_class.values[0] == 0
    assert math.isnan(coco_evaluate({**TRUTH, "annotations": []}, [FOUND], "bbox").ap)


@pytest.mark.parametrize(
    ("truth", "results", "kind", "message"),
    [
        (TRUTH, [FOUND], "keypoints", "kind: expected"),
        ({"images": []}, [FOUND], "bbox", "truth: expected COCO .*, got no list of annotations"),
        (
            {**TRUTH, "annotations": [{"id": 1}]}, [FOUND], "bbox",
            r"truth annotations\[0\]: expected area, bbox, category_id, id",
        ),
        (TRUTH, {}, "bbox", "results: expected a JSON list, got dict"),
        (TRUTH, [{**FOUND, "image_id": 8}], "bbox", "image_id 8 is not in the truth"),
        (TRUTH, [{**FOUND, "score": math.nan}], "bbox", "expected a finite score, got nan"),
        (TRUTH, [FOUND], "segm", r"results\[0\]: expected category_id, image_id, score, segm"),
        (TRUTH, [5], "bbox", r"results\[0\]: expected bbox"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(truth, results, kind, message):
    with pytest.raises(ValueError, match=message):
        coco_evaluate(truth, results, kind)


def test_files(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    (tmp_path / "broken.json").write_text("[{")
    assert coco_evaluate(tmp_path / "truth.json", [FOUND], "bbox").ap == pytest.approx(0.6)
    with pytest.raises(ValueError, match=r"results: .*broken.json is no JSON"):
        coco_evaluate(TRUTH, tmp_path / "broken.json", "bbox")
    with pytest.raises(FileNotFoundError):
        coco_evaluate(tmp_path / "absent.json", [], "bbox")
