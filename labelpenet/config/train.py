"""Settings of training (Label-PEnet 3.3, 4.2). Defaults are the paper's."""

from __future__ import annotations

import typing
from enum import Enum
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from labelpenet.config.bounds import NUMBER, STRICT, Count, Fraction, NonNegative, Positive


class Optimizer(str, Enum):
    """SGD with momentum (the paper's) or AdamW."""

    SGD = "sgd"
    ADAMW = "adamw"


@dataclass(frozen=True, config=STRICT)
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
        own_labels_at: Share of module 2's steps after which it learns from what it finds itself as
            it is (Tang et al., 2017, refine instance classifiers so) and no longer from what
            module 1 found; below 1 it does so in forward-backward learning's forward steps too. 1
            is the paper's: never.
        batch: Images per step, over all processes.
        scales: Lengths of the shorter side, one drawn per image.
        longest: Cap on the longer side.
        flip: Draw horizontal flips.
        place_images: Images on which a classifier of places, the classes and background, is fitted
            once the trunk was taught: its share of a class map bounds objects that the whole-image
            classifier blurs into their surroundings. 0 fits none.
        region_images: Images on which the class scores of module 1's proposals are fitted to the
            tags before its first step. 0 starts them from the whole-image classifier.
        fill_images: Images on which modules 3 and 4, once trained, are asked how well masks of each
            class usually fill their boxes, for `detection.mask_power`. 0 takes 0.6 for every class.
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
        warmup: Steps over which the rate rises from zero; at most a tenth of a stage's.
        weight_decay: On weights, not on biases.
        momentum: Of SGD.
        clip: Largest gradient norm.
        precision: `fp32`, or `bf16` for autocast in networks, at inference too.
        backward_iou: IoU with a detection of module 2 above which a proposal of module 1 takes its
            class in the backward phase (beta).
        instance_weights: Weigh each target's losses by its W (eq. 3, 4).
        checkpoint_every: Steps after which a training that is stopped can go on.
        tensorboard: Also write the losses for TensorBoard (needs the `tensorboard` extra).
    """

    trunk_steps: Annotated[int, Field(ge=0), NUMBER] = 0
    trunk_batch: Count = 16
    trunk_size: Count = 352
    trunk_rate: Positive = 1e-4
    steps: tuple[Count, Count, Count, Count] = (50_000, 50_000, 50_000, 50_000)
    forward_backward_steps: Annotated[int, Field(ge=0), NUMBER] = 80_000
    forward_backward_rate: Positive = 1e-4
    own_labels_at: Fraction = 1.0
    batch: Count = 2
    scales: Annotated[tuple[Count, ...], Field(min_length=1)] = (480, 576, 688, 864, 1024)
    longest: Count = 1200
    flip: bool = True
    place_images: Annotated[int, Field(ge=0), NUMBER] = 0
    region_images: Annotated[int, Field(ge=0), NUMBER] = 0
    fill_images: Annotated[int, Field(ge=0), NUMBER] = 0
    tag_loss: NonNegative = 0.0
    optimizer: Optimizer = Optimizer.SGD
    rate: Positive = 1e-3
    fc6_rate: Positive = 1.0
    fc7_rate: Positive = 1.0
    classifier_rate: Positive = 1.0
    stage5_rate: Positive = 1.0
    decay_at: Fraction = 0.8
    warmup: Annotated[int, Field(ge=0), NUMBER] = 200
    weight_decay: NonNegative = 5e-4
    momentum: Fraction = 0.9
    clip: Positive = 10.0
    precision: typing.Literal["fp32", "bf16"] = "fp32"
    backward_iou: Fraction = 0.5
    instance_weights: bool = True
    checkpoint_every: Count = 500
    tensorboard: bool = False
