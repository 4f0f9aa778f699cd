"""How good a result is: VOC's and COCO's figures, and whether a difference is one."""

from labelpenet.evaluation.bootstrap import Comparison, mean_ap, mean_corloc, paired_bootstrap
from labelpenet.evaluation.boxes import box_ap, box_matches, corloc, corloc_hits
from labelpenet.evaluation.classification import classification_ap
from labelpenet.evaluation.coco import CocoResult, coco_evaluate
from labelpenet.evaluation.evaluate import Evaluator, evaluate
from labelpenet.evaluation.masks import average_best_overlap, mask_ap, mask_iou, mask_matches
from labelpenet.evaluation.matching import Interpolation, Matches, Matching, PerClass
from labelpenet.evaluation.semantic import class_iou, confusion_matrix, mean_iou, semantic_map
from labelpenet.evaluation.summary import Evaluation
from labelpenet.overlap import box_iou

__all__ = [
    "CocoResult",
    "Comparison",
    "Evaluation",
    "Evaluator",
    "Interpolation",
    "Matches",
    "Matching",
    "PerClass",
    "average_best_overlap",
    "box_ap",
    "box_iou",
    "box_matches",
    "class_iou",
    "classification_ap",
    "coco_evaluate",
    "confusion_matrix",
    "corloc",
    "corloc_hits",
    "evaluate",
    "mask_ap",
    "mask_iou",
    "mask_matches",
    "mean_ap",
    "mean_corloc",
    "mean_iou",
    "paired_bootstrap",
    "semantic_map",
]
