"""Every setting, as frozen dataclasses: types and bounds, checked by pydantic.

Defaults are the paper's (VGG-16, Label-PEnet 4.2) where it names a value.
"""

from __future__ import annotations

import hashlib
import json
import typing
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from labelpenet.config.bounds import STRICT as _STRICT
from labelpenet.config.bounds import Count, Fraction, NonNegative, Positive
from labelpenet.config.icn import IcnConfig


class BackboneName(str, Enum):
    """The backbones that labelpenet.models.backbones builds."""

    VGG16 = "vgg16"
    SQUEEZENET1_0 = "squeezenet1_0"
    TINY = "tiny"


class Optimizer(str, Enum):
    """SGD with momentum (the paper's) or AdamW."""

    SGD = "sgd"
    ADAMW = "adamw"


class Combine(str, Enum):
    """How an attention map and a heat-map become one confidence map (both scaled to [0, 1]).

    `box` takes neither: the object's own box, filled. `class_map` is that box times the class map
    of the whole-image classifier (see `labelpenet.class_maps`).
    """

    GEOMETRIC = "geometric"
    PRODUCT = "product"
    ATTENTION = "attention"
    HEAT_MAP = "heat_map"
    BOX = "box"
    CLASS_MAP = "class_map"


class GroupScore(str, Enum):
    """What ranks the proposals of a class: x^c (the paper), the combined x, or a map of the class.

    The first two pick the parts that tell a class apart, such as heads; `heat_map` and `class_map`
    pick the proposal of the highest soft IoU with the class's object heat-map, or with the class
    map of the whole-image classifier. `region` searches the image for regions and picks the one of
    the highest soft IoU with the class map, times that of its box.
    """

    CLASS = "class"
    COMBINED = "combined"
    HEAT_MAP = "heat_map"
    CLASS_MAP = "class_map"
    REGION = "region"


class Attention(str, Enum):
    """Where a candidate's attention map comes from.

    Excitation Backprop of its proposals (the paper), or what an ICN sees of its class inside its
    box: peak response maps, or these as enhanced by the network.
    """

    EXCITATION = "excitation"
    PRM = "prm"
    ICN = "icn"


class BoxRule(str, Enum):
    """An instance's box: tight around its mask, the proposal that fits the map best, or its own.

    Its own is the proposal that its group formed around, as NMS left it.
    """

    MASK = "mask"
    PROPOSAL = "proposal"
    OWN = "own"


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """Backbone and heads.

    Attributes:
        backbone: Which trunk and stage 5.
        weights: ImageNet weights (.pth or .safetensors, torchvision's key names), or `torchvision`
            to download those that it publishes; None starts from random ones.
        fc_width: Width of fc6 and fc7.
        dropout: Drop probability after fc6 and fc7 in training.
        rpn_channels: Width of the 3 x 3 convolution of the RPN.
        mask_channels: Width of the ASPP branches and of the mask head.
    """

    backbone: BackboneName = BackboneName.VGG16
    weights: Path | None = None
    fc_width: Count = 4096
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    rpn_channels: Count = 512
    mask_channels: Count = 256


@dataclass(frozen=True, config=_STRICT)
class ProposalConfig:
    """Selective search, and how many of its boxes are used.

    Attributes:
        preset: `fast` or `quality`.
        min_side: Smaller boxes are dropped, in pixels.
        limit: At most this many boxes of an image, best ranked first.
        train_limit: As many are drawn at random from those in a training step.
    """

    preset: typing.Literal["fast", "quality"] = "fast"
    min_side: Count = 20
    limit: Count = 1600
    train_limit: Count = 1600


@dataclass(frozen=True, config=_STRICT)
class CrfConfig:
    """Dense CRF that turns a confidence map into a mask (Kraehenbuehl and Koltun, 2011).

    Attributes:
        iterations: Mean-field steps; 0 thresholds the map instead.
        gaussian_sxy: Smoothness kernel's deviation, in pixels.
        gaussian_compat: Its weight.
        bilateral_sxy: Appearance kernel's deviation in space, in pixels.
        bilateral_srgb: Its deviation in colour, in grey levels.
        bilateral_compat: Its weight.
        confidence: How far a map is trusted: its probabilities are drawn into
            [1 - confidence, confidence].
    """

    iterations: Annotated[int, Field(ge=0)] = 10
    gaussian_sxy: Positive = 3.0
    gaussian_compat: NonNegative = 3.0
    bilateral_sxy: Positive = 80.0
    bilateral_srgb: Positive = 13.0
    bilateral_compat: NonNegative = 10.0
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


@dataclass(frozen=True, config=_STRICT)
class CalibrationConfig:
    """Proposal calibration (Label-PEnet 3.2, fig. 2).

    Attributes:
        score: What ranks the proposals of module 1; the top one's group is the object.
        nms_threshold: IoU above which the top proposal takes another into its group.
        objects: At most this many objects of a class, where class maps rank boxes; 1 is the
            paper's. Their scores and boxes follow `detection.contrast` and `detection.vote_power`.
        attention: Where the attention map comes from; `prm` and `icn` need
            `icn.attention_checkpoint`.
        projection: How a 7 x 7 map is laid into its box.
        combine: How attention and heat-map become one confidence map.
        heat_area_power: A proposal adds score / area^power to the heat-map; 0 is the paper's sum,
            more keeps large boxes from flooding it.
        gamma: The combined map is raised to this power before thresholding.
        class_gamma: And a class map before it is compared with boxes and regions.
        threshold: The map's value that counts as half object, half background.
        box: Where an instance's box comes from.
        crf: The dense CRF.
    """

    score: GroupScore = GroupScore.HEAT_MAP
    nms_threshold: Fraction = 0.3
    objects: Count = 1
    attention: Attention = Attention.EXCITATION
    projection: typing.Literal["bilinear", "mass"] = "bilinear"
    combine: Combine = Combine.GEOMETRIC
    heat_area_power: NonNegative = 0.0
    gamma: Positive = 1.0
    class_gamma: Positive = 2.0
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.35
    box: BoxRule = BoxRule.MASK
    crf: CrfConfig = CrfConfig()


@dataclass(frozen=True, config=_STRICT)
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
        map_weight: A box's strength is the weighted geometric mean of the head's probability and of
            its soft IoU with the class map; this is the map's weight, 0 is the paper's.
        contrast: A score is a strength times its share of the strongest of its class in the image,
            to this power: that tells more of images' boxes than strengths alone. 0 is the paper's.
        vote_power: A detection's box is the mean of the boxes around it, weighed by their strength
            to this power; 0, the paper's, keeps the one that NMS keeps.
        regress: Move boxes as the regressor says (paper). One that learned from boxes of selective
            search, right or wrong, moves others off the edges that they lie on.
        mask_threshold: The share of a mask confidence map's largest value that counts as half
            object, half background.
        paint_score: Objects of a lower score are left out of semantic maps, where mean IoU would
            count each of their pixels: a detector lists many that it hardly believes in.
    """

    anchor_sizes: tuple[Positive, ...] = (64.0, 128.0, 256.0)
    anchor_ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    rpn_batch: Count = 256
    rpn_positive_iou: Fraction = 0.7
    rpn_negative_iou: Fraction = 0.3
    rpn_nms: Fraction = 0.7
    rpn_pre_nms: Count = 3000
    train_boxes: Count = 2000
    test_boxes: Annotated[int, Field(ge=0)] = 300
    search_boxes: Annotated[int, Field(ge=0)] = 0
    roi_batch: Count = 128
    roi_positive: Fraction = 0.25
    roi_positive_iou: Fraction = 0.5
    score_threshold: Fraction = 0.05
    nms_threshold: Fraction = 0.3
    limit: Count = 20
    mask_nms: Fraction = 0.5
    label_score: Fraction = 0.5
    image_prior: NonNegative = 0.0
    map_weight: Fraction = 0.0
    contrast: NonNegative = 0.0
    vote_power: NonNegative = 0.0
    regress: bool = True
    mask_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    paint_score: Fraction = 0.0


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """Cascaded pre-training, then forward-backward learning (Label-PEnet 3.3, 4.2).

    Attributes:
        trunk_steps: Steps in which trunk and stage 5 first learn the tags from whole images; 0
            leaves them as they are.
        trunk_batch: Images per such step.
        trunk_size: Side of the square crops that they are, in pixels.
        trunk_rate: Learning rate of trunk, stage 5 and fc6 then; their classifier's is that of the
            classifiers.
        steps: Optimiser steps of modules 1 to 4, one after the other.
        forward_backward_steps: Iterations of forward-backward learning after them, each with a
            step of the modules 1 to 4 and one of 4 to 1; 0 ends with the cascade.
        forward_backward_rate: Learning rate of new layers then.
        batch: Images per step, over all processes.
        scales: Lengths of the shorter side, one drawn per image.
        longest: Cap on the longer side.
        flip: Draw horizontal flips.
        place_images: Images on which a classifier of places, the classes and background, is fitted
            once the trunk was taught: its share of a class map bounds objects that the whole-image
            classifier blurs into their surroundings. 0 fits none.
        region_images: Images on which the class scores of module 1's proposals are fitted to the
            tags before its first step. 0 starts them from the whole-image classifier.
        tag_loss: Weight of the loss of the whole-image classifier, which module 1 then keeps;
            class maps and priors need it. 0 is the paper's.
        optimizer: SGD (paper) or AdamW.
        rate: Learning rate of new layers.
        fc6_rate: Factor on it for fc6, whose thousands of inputs are all positive: a small step of
            every weight is a large one of its output.
        fc7_rate: Factor on it for fc7.
        classifier_rate: Factor on it for the classifiers, which start from a fitted one where the
            trunk was taught.
        stage5_rate: Factor on it for stage 5, and for the trunk where that learns too.
        decay_at: Share of the steps after which the rate drops to a tenth.
        warmup: Steps over which the rate rises from zero.
        weight_decay: On weights, not on biases.
        momentum: Of SGD.
        clip: Largest gradient norm.
        precision: `fp32`, or `bf16` for autocast in the heads.
        backward_iou: IoU with a detection of module 2 above which a proposal of module 1 takes its
            class in the backward phase (beta).
        instance_weights: Weigh each target's losses by its W (eq. 3, 4).
        checkpoint_every: Steps after which a training that is stopped can go on.
        tensorboard: Also write the losses for TensorBoard (needs the `tensorboard` extra).
    """

    trunk_steps: Annotated[int, Field(ge=0)] = 0
    trunk_batch: Count = 16
    trunk_size: Count = 352
    trunk_rate: Positive = 1e-4
    steps: tuple[Count, Count, Count, Count] = (50_000, 50_000, 50_000, 50_000)
    forward_backward_steps: Annotated[int, Field(ge=0)] = 80_000
    forward_backward_rate: Positive = 1e-4
    batch: Count = 2
    scales: tuple[Count, ...] = (480, 576, 688, 864, 1024)
    longest: Count = 1200
    flip: bool = True
    place_images: Annotated[int, Field(ge=0)] = 0
    region_images: Annotated[int, Field(ge=0)] = 0
    tag_loss: NonNegative = 0.0
    optimizer: Optimizer = Optimizer.SGD
    rate: Positive = 1e-3
    fc6_rate: Positive = 1.0
    fc7_rate: Positive = 1.0
    classifier_rate: Positive = 1.0
    stage5_rate: Positive = 1.0
    decay_at: Fraction = 0.8
    warmup: Annotated[int, Field(ge=0)] = 200
    weight_decay: NonNegative = 5e-4
    momentum: Fraction = 0.9
    clip: Positive = 10.0
    precision: typing.Literal["fp32", "bf16"] = "fp32"
    backward_iou: Fraction = 0.5
    instance_weights: bool = True
    checkpoint_every: Count = 500
    tensorboard: bool = False


@dataclass(frozen=True, config=_STRICT)
class Config:
    """All settings of one run.

    Attributes:
        seed: Every random choice follows from it.
        test_scales: Shorter sides at inference, averaged over; none keeps the image's own size.
        test_flip: Average over the mirrored image, too.
        test_longest: Cap on the longer side at inference.
        tag_scales: Shorter sides at which the whole-image classifier tells which classes are
            there, averaged over; small ones are what ImageNet taught. None takes the test scales.
    """

    model: ModelConfig = ModelConfig()
    proposals: ProposalConfig = ProposalConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    detection: DetectionConfig = DetectionConfig()
    train: TrainConfig = TrainConfig()
    icn: IcnConfig = IcnConfig()
    seed: int = 0
    test_scales: tuple[Count, ...] = ()
    test_flip: bool = False
    test_longest: Count = 1200
    tag_scales: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        rules, detection = self.calibration, self.detection
        mapped = (GroupScore.CLASS_MAP, GroupScore.REGION)
        wanted = rules.score in mapped or rules.combine is Combine.CLASS_MAP
        if (wanted or detection.image_prior or detection.map_weight) and not self.train.tag_loss:
            raise ValueError("class maps and priors need train.tag_loss above 0")
        if not detection.test_boxes and not detection.search_boxes:
            raise ValueError("detection needs test_boxes or search_boxes above 0")

    @property
    def uses_class_maps(self) -> bool:
        """Whether some rule asks for the whole-image classifier."""
        return self.train.tag_loss > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a settings file would hold them."""
        plain: dict[str, Any] = TypeAdapter(Config).dump_python(self, mode="json")
        return plain

    def fingerprint(self) -> str:
        """A short hash of every setting; results carry it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]
