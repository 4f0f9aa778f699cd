"""Module 1 from a photo to masks, stage by stage: time, and what must be moved or computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from labelpenet import calibration
from labelpenet.candidates import Seen, tagged_candidates, tagged_proposals
from labelpenet.config import load_config
from labelpenet.inference import Predictor
from labelpenet.models.cascade import Cascade
from labelpenet.models.classification import pool
from labelpenet.views import autocast, resized

from . import scenes
from .compare import io_bytes
from .device_clock import Clock

TAGS = (3, 7)  # two classes, as a photo has


@dataclass(frozen=True)
class Stage:
    """A stage's median, and the least work there is in it."""

    name: str
    seconds: float
    flops: float
    bytes_moved: int


@torch.no_grad()
def stages(
    preset: str | None,
    height: int,
    width: int,
    proposals: int,
    device: str,
    images: int,
    precision: str = "fp32",
    overrides: Sequence[str] = (),
) -> list[Stage]:
    """Every stage alone on the same photo, then whole images, by the wall clock.

    Args:
        preset: Settings of the cascade; its weights are random.
        height: Of the photo, which is not resized.
        width: Likewise.
        proposals: How many.
        device: "cuda", or "cpu" to try this out.
        images: Timed runs.
        precision: "fp32" or "bf16".
        overrides: More settings.
    """
    settings = ["model.weights=null", f"train.precision={precision}", *overrides]
    config = load_config(preset, settings)
    torch.manual_seed(0)
    predictor = Predictor(Cascade(config, tuple(f"class {i}" for i in range(20))).to(device))
    photo = scenes.photo(height, width)
    stored = scenes.boxes(proposals, height, width)
    classes, size = list(TAGS), (height, width)
    clock, found = Clock(device, images), []

    def seen() -> Any:
        return resized(photo.numpy(), config.test_scales[:1], config, predictor.device)

    def stage(name: str, call: Callable[[], Any], inputs: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            output = call()
        seconds = clock(call)
        moved = io_bytes(inputs, output if isinstance(output, torch.Tensor | tuple) else ())
        found.append(Stage(name, seconds, counter.get_total_flops(), moved))
        return output

    module, rules = predictor.cascade.classification, config.calibration
    boxes = stored.to(device)
    with autocast(config, torch.device(device)):
        image = stage("upload, resize", lambda: seen()[0][0], photo)
        trunk = stage("trunk", lambda: predictor.cascade.trunk(image), image)
        features = stage("stage 5", lambda: module.stage5(trunk), trunk)
        pooled = stage("roi_pool", lambda: pool(features, boxes, module.grid, 7), features)
        layers = stage("fc6, fc7", lambda: module.fc(pooled), (pooled, *module.fc.parameters()))
        del layers
        (output,) = module([trunk], [boxes])
        weights = predictor.classify.weights
        head = stage(
            "proposals to classes",
            lambda: tagged_proposals(output, boxes, classes, weights),
            (),
        )
        views = predictor.views([photo.numpy()])[0]
        maps = None
        if config.uses_class_maps:
            maps = stage("class maps", lambda: predictor.whole.maps(views, photo.numpy(), TAGS), ())
        seen = Seen(torch.ones(len(classes), device=boxes.device), maps)
        candidates = stage(
            "groups",
            lambda: tagged_candidates(output, head, classes, size, config, seen),
            (),
        )
        members = torch.cat([c.members for c in candidates])
        widths = sum(a[0].numel() * a.element_size() for a in head.activations)
        attention = stage(
            f"excitation, projection of {len(members)} proposals",
            lambda: calibration._attention(head, candidates, size, rules),
            (*head.weights.hidden, torch.empty(len(members) * widths, dtype=torch.uint8)),
        )
        heat = stage(
            "heat-maps",
            lambda: calibration.heat_maps(head, [c.heat for c in candidates], size, rules),
            boxes,
        )
        soft = calibration.scale_to_one(attention) * heat
        masks = stage(
            "dense CRF",
            lambda: calibration.refine_masks(photo.numpy(), soft, rules.threshold, rules.crf)[0],
            soft,
        )
        stage(
            "boxes of masks, on the host", lambda: calibration.tight_boxes(masks, boxes[:2]), masks
        )
    times = []
    for _ in range(images):
        start = time.perf_counter()
        predictor(photo.numpy(), stored.numpy(), 1, TAGS)  # its result is on the host
        times.append(time.perf_counter() - start)
    found.append(Stage("module 1, whole image", sorted(times)[len(times) // 2], 0.0, 0))
    return found
