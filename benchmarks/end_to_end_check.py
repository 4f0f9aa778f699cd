"""Whether each stage of two pipelines gives the same, from the same inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelpenet.calibration import proposal_maps
from labelpenet.data import load_image
from labelpenet.inference import Predictor

from .compare import near
from .peer_pipeline import PeerPipeline
from .stages import BOXES, CONVOLUTIONS, CRF, EXCITATION, GROUPING, LAYERS, MAPS, POOLING, traced

# Of the largest value. bfloat16 keeps 8 bits, and the convolutions are 13 in a row.
TOLERANCES = {
    "fp32": {CONVOLUTIONS: 1e-4, LAYERS: 1e-4, EXCITATION: 1e-4, MAPS: 2e-3},
    "bf16": {CONVOLUTIONS: 5e-2, LAYERS: 5e-2, EXCITATION: 5e-2, MAPS: 2e-3},
}
LEAST_IOU = 0.98  # of CRF masks: pixels on the brink may fall to either side


def check(
    predictor: Predictor,
    peers: PeerPipeline,
    path: Path,
    proposals: np.ndarray,
    classes: tuple[int, ...],
) -> dict[str, str]:
    """Gives every stage of the peers what ours was given, and compares what comes out.

    Returns:
        How well each stage agrees, in words.

    Raises:
        AssertionError: A stage does not.
    """
    image = load_image(path)
    size = image.shape[:2]
    ours = traced(predictor, image, proposals, classes)
    tolerances = TOLERANCES[peers.config.train.precision]
    said: dict[str, str] = {}

    def compare(stage: str, got: Any, want: Any) -> None:
        tolerance = tolerances.get(stage, 0.0)
        try:
            near(got, want, tolerance)
        except AssertionError as error:
            raise AssertionError(f"{stage}: {error}") from None
        said[stage] = f"within {tolerance:g} of the largest value" if tolerance else "equal"

    read, resized, _ = peers.read(path)
    compare("photo", read, image)
    compare(CONVOLUTIONS, peers.convolve(resized), ours.features)
    compare(POOLING, peers.pool(ours.features.float(), ours.boxes), ours.pooled)
    _, logits, second = peers.layers(ours.pooled)
    rows = ours.head.rows  # ours has a row for several proposals on the same cells
    compare(LAYERS, (logits[rows], second[rows]), (ours.output.logits, ours.output.second))
    own, start, heat = peers.choose(ours.output.logits, ours.output.second, classes)
    compare(GROUPING, own, ours.head.classes)
    head = ours.head
    for i, candidate in enumerate(ours.candidates):
        of_class = candidate.heat.numpy()
        boxes = proposals[of_class]
        heat_map = peers.heat_map(heat[of_class].numpy(), boxes, size)
        compare(MAPS, heat_map, ours.result.heat_map[i])
        compare(GROUPING, of_class[peers.group(heat_map, boxes)], candidate.members)
        members = candidate.members
        rows = [a[head.rows[members]].to(peers.dtype) for a in head.activations]
        maps = proposal_maps(head, members)
        compare(EXCITATION, peers.excite(rows, own[members], start[members]).float(), maps)
        laid = peers.project(maps.numpy(), proposals[members.numpy()], size)
        compare(MAPS, laid, ours.result.attention[i])
        mask = torch.from_numpy(peers.refine(image, ours.result.confidence[i].numpy()))
        want = ours.result.masks[i]
        iou = float((mask & want).sum() / (mask | want).sum().clamp(min=1))
        assert iou >= LEAST_IOU, f"{CRF}: IoU {iou:.4f} of the masks, expected {LEAST_IOU}"
        said[CRF] = f"IoU of the masks >= {LEAST_IOU}"
        compare(BOXES, peers.box(want.numpy()), ours.result.boxes[i])
    return said
