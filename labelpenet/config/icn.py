"""Settings of the second system, ICN (Huang et al., 2021). Defaults are the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from labelpenet.config.bounds import NUMBER, STRICT, Count, Fraction, NonNegative, Number, Positive


@dataclass(frozen=True, config=STRICT)
class PeakConfig:
    """Which peaks of the class activation maps are instances (eq. 1), and their response maps.

    Attributes:
        sigma: Deviation of the Gaussian G, in cells of the class activation map.
        reach: A peak is the largest response of the cells at most this far away in row and column.
        threshold: Peaks below this share of the class's strongest response are dropped.
        limit: At most this many peaks of a class, strongest first.
        smooth: Deviation, in pixels at the classifier's size, of a Gaussian over the response maps;
            0 takes them as they are.
        gamma: Response maps in [0, 1] are raised to this power: below 1, what fires most stands out
            less from the rest of its object.
        positive: Back-propagation through positive weights alone (Zhou et al., 2018) instead of the
            plain gradient of eq. 2.
    """

    sigma: Annotated[float, Field(gt=0, le=42), NUMBER] = 6.0
    reach: Annotated[int, Field(ge=0, le=1000), NUMBER] = 2
    threshold: Fraction = 0.3
    limit: Count = 8
    smooth: Annotated[float, Field(ge=0, le=100), NUMBER] = 0.0
    gamma: Positive = 1.0
    positive: bool = False


@dataclass(frozen=True, config=STRICT)
class MatchingConfig:
    """The matching score between a map and a segment (eq. 5).

    Attributes:
        score: `equation` is eq. 5. `overlap` is the soft IoU of map and segment, which the other
            fields do not change: eq. 5 prefers a part that a map covers well to the whole.
        alpha: Weight of the map inside the segment.
        beta: Weight of the map's contour inside it.
        gamma: Weight of the background inside it: below 0 suppresses.
        rebalance: Divide the first term by the segment's area.
        shares: Take the other terms as shares of the contour and of the segment, so that the three
            weights weigh numbers of one scale; without, they are the equation's counts of pixels.
        union: Segments that make up a pseudo label, k.
        nms: Mask IoU above which the lower scored of two instances of a class is dropped.
    """

    score: Literal["equation", "overlap"] = "equation"
    alpha: Number = 0.95
    beta: Number = 0.1
    gamma: Number = -0.8
    rebalance: bool = True
    shares: bool = True
    union: Count = 3
    nms: Fraction = 0.5


@dataclass(frozen=True, config=STRICT)
class IcnConfig:
    """The classifier of peaks, the cue-propagation network, and what both are trained with.

    The classifier's crops, their number in a batch and its trunk's rate are `train.trunk_size`,
    `train.trunk_batch` and `train.trunk_rate`.

    Attributes:
        peaks: What counts as a peak.
        matching: How a map chooses its segment.
        classifier_size: Shorter side of an image whose peaks are looked for, in pixels.
        classifier_steps: Optimiser steps of the classifier; 0 leaves it as its convex fit.
        size: Shorter side of what the cue-propagation network sees, in pixels.
        channels: Width of its fusion modules.
        fusion: Whether it has them (CFM and DFM); without, it maps the deepest features alone.
        prm_input: Whether it sees the peak response map.
        network_steps: Its optimiser steps; 0 goes without it.
        network_batch: Images in a step.
        network_rate: Learning rate of its new layers.
        network_trunk_rate: Factor on that for its trunk and stage 5.
        steps: Times that a response map is enhanced at inference; 0 matches it as it is.
        binary: Whether an enhanced map is binarised before it is fed back.
        threshold: Where it is binarised.
        class_threshold: Classes below this probability are not there, where tags are unknown.
        saliency: A dataset with instance masks, of any classes, to train the network on in place of
            pseudo labels; its images without masks teach nothing.
        attention_checkpoint: A trained ICN; what `calibration.attention` "prm" and "icn" read.
    """

    peaks: PeakConfig = PeakConfig()
    matching: MatchingConfig = MatchingConfig()
    classifier_size: Count = 448
    classifier_steps: Annotated[int, Field(ge=0), NUMBER] = 14_000
    size: Count = 448
    channels: Annotated[int, Field(ge=8, multiple_of=8), NUMBER] = 64
    fusion: bool = True
    prm_input: bool = True
    network_steps: Annotated[int, Field(ge=0), NUMBER] = 90_000
    network_batch: Count = 8
    network_rate: Positive = 1e-3
    network_trunk_rate: NonNegative = 1.0
    steps: Annotated[int, Field(ge=0), NUMBER] = 3
    binary: bool = True
    threshold: Annotated[float, Field(gt=0, lt=1), NUMBER] = 0.5
    class_threshold: Fraction = 0.3
    saliency: Path | None = None
    attention_checkpoint: Path | None = None
