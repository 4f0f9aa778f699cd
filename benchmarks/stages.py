"""Where the time of labelling one photo goes: a clock that gives every moment to one stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from labelpenet import calibration, candidates, classify, views
from labelpenet.calibration import Calibrated, Candidate, Proposals
from labelpenet.inference import Predictor
from labelpenet.models import cascade, classification
from labelpenet.models.classification import HeadOutput

READ = "read and resize"
SEARCH = "proposals"
CONVOLUTIONS = "trunk and stage 5"
POOLING = "ROI pooling"
LAYERS = "fc6, fc7, fc8"
GROUPING = "grouping"
EXCITATION = "Excitation BP"
MAPS = "projection, heat-maps"
CRF = "dense CRF"
BOXES = "boxes"
REST = "rest"
STAGES = (
    READ, SEARCH, CONVOLUTIONS, POOLING, LAYERS, GROUPING, EXCITATION, MAPS, CRF, BOXES, REST,
)  # fmt: skip
MATRIX_WORK = (CONVOLUTIONS, LAYERS, EXCITATION)


class Clock:
    """Seconds by stage. A stage within a stage stops the outer one's clock."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._stages = [REST]
        self._since = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The time within belongs to `name`."""
        self._charge()
        self._stages.append(name)
        try:
            yield
        finally:
            self._charge()
            self._stages.pop()

    def stop(self) -> dict[str, float]:
        """Charges what is left, and gives the seconds of every stage."""
        self._charge()
        return self.seconds

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its time charged to `name`."""

        def call(*args: Any, **options: Any) -> Any:
            with self.stage(name):
                return function(*args, **options)

        return call

    def _charge(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stages[-1]] += now - self._since
        self._since = now


# The functions that labelpenet.classify goes through, outer ones first.
# Both trunk and stage 5 are Sequential modules, and nothing else in module 1 is.
_PLACES: tuple[tuple[str, Any, str], ...] = (
    (READ, views, "resize_image"),
    (CONVOLUTIONS, cascade.Cascade, "trunk"),
    (LAYERS, classification.ClassificationModule, "forward"),
    (CONVOLUTIONS, nn.Sequential, "forward"),
    (POOLING, classification, "pool"),
    (GROUPING, classify, "image_log_probabilities"),
    (GROUPING, classify, "tagged_proposals"),
    (GROUPING, classify, "tagged_candidates"),
    (MAPS, candidates, "heat_maps"),
    (MAPS, classify, "calibrate"),
    (EXCITATION, calibration, "proposal_maps"),
    (CRF, calibration, "refine_masks"),
    (BOXES, calibration, "tight_boxes"),
    (BOXES, calibration, "best_boxes"),
)


@contextmanager
def clocked(clock: Clock) -> Iterator[None]:
    """Within, module 1 of every Predictor charges its stages to `clock`."""
    with ExitStack() as stack:
        for stage, place, name in _PLACES:
            timed = clock.timed(stage, getattr(place, name))
            # a plain function, so that a method still gets its self
            stack.enter_context(patch.object(place, name, timed))
        yield


@dataclass(frozen=True)
class Trace:
    """What went through module 1."""

    features: Tensor  # [1, C, h, w] of stage 5
    boxes: Tensor  # [R, 4] in the resized photo
    pooled: Tensor  # [R, C, 7, 7]
    output: HeadOutput
    head: Proposals
    candidates: Sequence[Candidate]
    result: Calibrated

    @property
    def members(self) -> int:
        """Proposals in the groups."""
        return len(torch.cat([c.members for c in self.candidates]).unique())


def traced(
    predictor: Predictor,
    image: np.ndarray,
    proposals: np.ndarray,
    classes: tuple[int, ...],
) -> Trace:
    """Labels a photo with module 1 and keeps what its stages were given and gave."""
    seen: dict[str, tuple[Any, ...]] = {}

    def keep(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = function(*args)
            seen[name] = (*args, result)
            return result

        return call

    module = classification.ClassificationModule
    with ExitStack() as stack:
        places = {"pool": classification, "forward": module, "calibrate": classify}
        for name, place in places.items():
            stack.enter_context(patch.object(place, name, keep(name, getattr(place, name))))
        predictor(image, proposals, 1, classes)
    features, boxes, _, _, pooled = seen["pool"]
    _, head, candidates, _, result = seen["calibrate"]
    (output,) = seen["forward"][-1]
    return Trace(features, boxes, pooled, output, head, candidates, result)
