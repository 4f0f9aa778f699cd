"""Settings of proposal calibration (Label-PEnet 3.2). Defaults are the paper's."""

from __future__ import annotations

import typing
from enum import Enum
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from labelpenet.config.bounds import NUMBER, STRICT, Count, Fraction, NonNegative, Positive


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


@dataclass(frozen=True, config=STRICT)
class CrfConfig:
    """What turns a confidence map into a mask: a dense CRF (Kraehenbuehl and Koltun, 2011).

    Attributes:
        iterations: Mean-field steps; 0 thresholds the map instead.
        gaussian_sxy: Smoothness kernel's deviation, in pixels.
        gaussian_compat: Its weight.
        bilateral_sxy: Appearance kernel's deviation in space, in pixels.
        bilateral_srgb: Its deviation in colour, in grey levels.
        bilateral_compat: Its weight.
        confidence: How far a map is trusted: its probabilities are drawn into
            [1 - confidence, confidence].
        close: Reach, in pixels to each side, of the square that closes a mask's gaps behind the
            CRF; holes are filled then, and pieces below a tenth of the largest dropped. 0 leaves
            masks as they are.
    """

    iterations: Annotated[int, Field(ge=0), NUMBER] = 10
    gaussian_sxy: Positive = 3.0
    gaussian_compat: NonNegative = 3.0
    bilateral_sxy: Positive = 80.0
    bilateral_srgb: Positive = 13.0
    bilateral_compat: NonNegative = 10.0
    confidence: Annotated[float, Field(gt=0.5, lt=1), NUMBER] = 0.95
    close: Annotated[int, Field(ge=0, le=100), NUMBER] = 0


@dataclass(frozen=True, config=STRICT)
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
        class_gamma: And a class map before module 1 compares it with boxes and regions.
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
    threshold: Annotated[float, Field(gt=0, lt=1), NUMBER] = 0.35
    box: BoxRule = BoxRule.MASK
    crf: CrfConfig = CrfConfig()
