"""Settings of the detection parts of modules 2 to 4. Defaults are the paper's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from labelpenet.config.bounds import NUMBER, STRICT, Count, Fraction, NonNegative, Positive


@dataclass(frozen=True, config=STRICT)
class DetectionConfig:
    """Faster R-CNN parts of modules 2 to 4 (Ren et al., 2015).

    Attributes:
        anchor_sizes: Square roots of the anchors' areas, in pixels.
        anchor_ratios: Heights over widths.
        rpn_batch: Anchors sampled per image for the RPN's losses.
        rpn_positive_iou: At or above it an anchor is an object; the best anchor of each is one too.
        rpn_negative_iou: Below it an anchor is background.
        rpn_nms: IoU threshold among RPN boxes.
        rpn_pre_nms: Boxes kept before that NMS, best objectness first.
        train_boxes: RPN boxes handed to the ROI head in training.
        test_boxes: And at inference; 0 looks at boxes of selective search alone.
        search_boxes: Beside them at most this many boxes of selective search: an RPN that learned
            from few pseudo labels misses much. 0 is the paper's.
        roi_batch: ROIs sampled per image for the head's losses.
        roi_positive: Share of objects among them.
        roi_positive_iou: At or above it a ROI takes its target's class.
        score_threshold: Detections below it are dropped.
        nms_threshold: IoU threshold among detections of a class.
        limit: At most this many detections of an image.
        mask_nms: Mask IoU above which a detection of the same class is dropped: boxes around parts
            of one object survive box NMS and end in the same mask.
        label_score: A module's detection becomes the next one's target at or above this score; the
            best one of every tag always does.
        image_prior: A score is multiplied by the whole-image classifier's probability of its class,
            where tags are unknown, to this power; 0 is the paper's.
        head_presence: Share of the head's surest box in that probability, in log odds: boxes show
            objects that are lost in the whole image. 0 leaves it to the classifier.
        map_weight: A box's strength is the weighted geometric mean of the head's probability and of
            its soft IoU with the class map; this is the map's weight, 0 is the paper's.
        object_weight: Where tags are known, so much of the map's weight goes to the head's
            probability that the box is an object of any class: which class is not the question
            then, and all pseudo labels teach it. 0 is the paper's.
        map_gamma: A class map is raised to this power before boxes are compared with it, where tags
            are unknown;
        tagged_gamma: and to this one where they are known: fewer classes then compete for places,
            and maps reach further.
        contrast: A score is a strength times its share of the strongest of its class in the image,
            to this power: that tells more of images' boxes than strengths alone. 0 is the paper's.
        vote_power: A detection's box is the mean of the boxes around it, weighed by their strength
            to this power; 0, the paper's, keeps the one that NMS keeps.
        regress: Move boxes as the regressor says (paper). One that learned from boxes of selective
            search, right or wrong, moves others off the edges that they lie on.
        mask_power: Modules 3 and 4 multiply a score by how well the mask fills its box, soft IoU
            over the class's usual one (`train.fill_images`), 1 at most, to this power; 0 is the
            paper's.
        box_share: What the CRF sees of an object in modules 3 and 4 is to this share its box, and
            the mask part's confidence to the rest: learned from pseudo labels, that is unsure at an
            object's ends, where a CRF then cuts. 0 is the paper's. Masks that teach a next module
            go without: they would grow from module to module.
        mask_threshold: The share of that map's largest value that counts as half object, half
            background.
        paint_score: Objects of a lower score are left out of labels, unless all are asked for, and
            of semantic maps, where mean IoU would count each of their pixels: a detector lists many
            that it hardly believes in.
    """

    anchor_sizes: Annotated[tuple[Positive, ...], Field(min_length=1)] = (64.0, 128.0, 256.0)
    anchor_ratios: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    rpn_batch: Count = 256
    rpn_positive_iou: Fraction = 0.7
    rpn_negative_iou: Fraction = 0.3
    rpn_nms: Fraction = 0.7
    rpn_pre_nms: Count = 3000
    train_boxes: Count = 2000
    test_boxes: Annotated[int, Field(ge=0), NUMBER] = 300
    search_boxes: Annotated[int, Field(ge=0), NUMBER] = 0
    roi_batch: Count = 128
    roi_positive: Fraction = 0.25
    roi_positive_iou: Fraction = 0.5
    score_threshold: Fraction = 0.05
    nms_threshold: Fraction = 0.3
    limit: Count = 20
    mask_nms: Fraction = 0.5
    label_score: Fraction = 0.5
    image_prior: NonNegative = 0.0
    head_presence: Fraction = 0.0
    map_weight: Fraction = 0.0
    object_weight: Fraction = 0.0
    map_gamma: Positive = 1.0
    tagged_gamma: Positive = 1.0
    contrast: NonNegative = 0.0
    vote_power: NonNegative = 0.0
    regress: bool = True
    mask_power: NonNegative = 0.0
    box_share: Fraction = 0.0
    mask_threshold: Annotated[float, Field(gt=0, lt=1), NUMBER] = 0.5
    paint_score: Fraction = 0.0
