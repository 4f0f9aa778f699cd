"""Non-maximum suppression."""

from __future__ import annotations

import torch
from torch import Tensor

from labelpenet.ops import _check
from labelpenet.ops._extension import kernels, launch, wants_device_kernel
from labelpenet.ops._register import Op


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keeps the boxes that no better kept box overlaps by more than a threshold.

    A drop-in for `torchvision.ops.nms` that keeps exactly the same boxes: the overlap is computed
    in float32 in the same order of operations, ties of score go to the lower index, and two boxes
    without area (IoU 0 / 0) do not suppress each other.

    Args:
        boxes: [N, 4] float32 (x1, y1, x2, y2), finite.
        scores: [N] float32; infinities are allowed, NaN is not.
        iou_threshold: In [0, 1]; a box goes where its IoU with a better kept one is above it.

    Returns:
        [K] int64, the kept boxes by falling score. Its length is data: on a CUDA device this call
        waits for the device once, for K (`nms_owners` does not). Everything runs there and takes
        N * N / 8 bytes.

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape or device, a box that is not finite, a score that is NaN, a
            threshold outside [0, 1].

    Example:
        >>> import torch
        >>> from labelpenet.ops import nms
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 1, 11, 11], [20.0, 20, 30, 30]])
        >>> nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)
        tensor([1, 2])
    """
    threshold = _check_arguments(boxes, scores, iou_threshold)
    keep: Tensor = _nms(boxes.detach(), scores.detach(), threshold)
    return keep


def nms_groups(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """NMS within each label, and which kept box suppressed each box.

    Args:
        boxes: [N, 4] float32 (x1, y1, x2, y2), finite.
        scores: [N] float32; infinities are allowed, NaN is not.
        labels: [N] int64, any values; boxes of different labels do not suppress each other.
        iou_threshold: In [0, 1]; as for `nms`.

    Returns:
        keep: [K] int64, the kept boxes of all labels by falling score, ties by index.
        owner: [N] int64; the kept box that suppressed box i, the best scored one where several
            would have, and i itself where it is kept. The boxes with one owner are its group.

        As in `nms`, a call on a CUDA device waits for the device once, for K.

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape or device, a box that is not finite, a score that is NaN, a
            threshold outside [0, 1].

    Example:
        >>> import torch
        >>> from labelpenet.ops import nms_groups
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 1, 11, 11], [0.0, 0, 10, 10]])
        >>> keep, owner = nms_groups(
        ...     boxes, torch.tensor([0.5, 0.9, 0.1]), torch.tensor([7, 7, 3]), 0.5
        ... )
        >>> keep, owner
        (tensor([1, 2]), tensor([1, 1, 2]))
    """
    threshold = _check_arguments(boxes, scores, iou_threshold)
    _check.tensor("labels", labels, (boxes.shape[0],), (torch.int64,), like=boxes)
    keep, owner = _nms_groups(boxes.detach(), scores.detach(), labels, threshold)
    return keep, owner


def nms_owners(
    boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None
) -> Tensor:
    """NMS whose result has a fixed size: which kept box each box belongs to.

    What `nms_groups` tells, without the list of the kept ones. On a CUDA device nothing is waited
    for, so a call can be captured in a graph, and nobody looks at the numbers: a box that is not
    finite neither suppresses nor is suppressed, and a NaN counts as the best of scores.

    Args:
        boxes: [N, 4] float32 (x1, y1, x2, y2), finite.
        scores: [N] float32; infinities are allowed, NaN is not.
        iou_threshold: In [0, 1]; as for `nms`.
        labels: [N] int64, any values; boxes of different labels do not suppress each other. None:
            all have one.

    Returns:
        [N] int64; the kept box that suppressed box i, the best scored one where several would have,
        and i itself where it is kept.

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape or device, a threshold outside [0, 1]; on the CPU, a box that is
            not finite or a score that is NaN.

    Example:
        >>> import torch
        >>> from labelpenet.ops import nms_owners
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 1, 11, 11], [20.0, 20, 30, 30]])
        >>> nms_owners(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)
        tensor([1, 1, 2])
    """
    threshold = _check_arguments(boxes, scores, iou_threshold)
    if labels is not None:
        _check.tensor("labels", labels, (boxes.shape[0],), (torch.int64,), like=boxes)
    owner: Tensor = _nms_owners(boxes.detach(), scores.detach(), labels, threshold)
    return owner


def _check_arguments(boxes: Tensor, scores: Tensor, iou_threshold: float) -> float:
    _check.tensor("boxes", boxes, ("N", 4), (torch.float32,))
    _check.tensor("scores", scores, (boxes.shape[0],), (torch.float32,), like=boxes)
    if boxes.shape[0] >= 2**31:
        raise ValueError(f"boxes: expected fewer than 2**31, got {boxes.shape[0]}")
    return _check.number("iou_threshold", iou_threshold, minimum=0.0, maximum=1.0)


def _run(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, iou_threshold: float
) -> tuple[Tensor, Tensor | None]:
    n = boxes.shape[0]
    keep = torch.empty(n, dtype=torch.int64, device=boxes.device)
    owner = torch.empty_like(keep)
    if n == 0:
        return keep, owner
    status = keep.new_empty(2)
    _launch(boxes, scores, labels, iou_threshold, keep, owner, status)
    count, invalid = status.tolist()
    if invalid:
        bad = int((~torch.isfinite(boxes)).sum())
        if bad:
            raise ValueError(f"boxes: expected finite numbers, got {bad} NaN or infinite")
        raise ValueError(f"scores: expected no NaN, got {int(scores.isnan().sum())}")
    return keep[:count], owner


def _launch(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    iou_threshold: float,
    keep: Tensor | None,
    owner: Tensor,
    status: Tensor,
) -> None:
    """Fills `keep` (on a device where it is wanted), `owner` and `status`; waits for nothing."""
    boxes, scores = boxes.contiguous(), scores.contiguous()
    threads, stream = launch(boxes)
    if not wants_device_kernel(boxes):
        labels = None if labels is None else labels.contiguous()
        keep = torch.empty_like(owner) if keep is None else keep
        kernels().nms(boxes, scores, labels, iou_threshold, keep, owner, status, threads)
        return
    # + 0: the device's radix sort is asked for no order between -0 and 0
    order = by_score = torch.sort(scores + 0.0, descending=True, stable=True).indices
    rank_labels = None
    if labels is not None:
        rank_labels, place = torch.sort(labels[by_score], stable=True)
        order = by_score[place]
    n = boxes.shape[0]
    mask, best = owner.new_empty((n, (n + 63) // 64)), owner.new_empty(n, dtype=torch.int32)
    kernels().nms_device(
        boxes, scores, order, by_score, rank_labels, iou_threshold, keep, owner, status, mask, best,
        stream,
    )  # fmt: skip


def _run_owners(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, iou_threshold: float
) -> Tensor:
    owner = torch.empty(boxes.shape[0], dtype=torch.int64, device=boxes.device)
    if owner.numel():
        if not wants_device_kernel(boxes):
            found = _run(boxes, scores, labels, iou_threshold)[1]
            assert found is not None
            return found
        _launch(boxes, scores, labels, iou_threshold, None, owner, owner.new_empty(2))
    return owner


def _run_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _run(boxes, scores, None, iou_threshold)[0]


def _run_groups(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    keep, owner = _run(boxes, scores, labels, iou_threshold)
    assert owner is not None
    return keep, owner


def _fake_keep(boxes: Tensor) -> Tensor:
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty(kept, dtype=torch.int64)


def _fake_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _fake_keep(boxes)


def _fake_groups(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    return _fake_keep(boxes), torch.empty_like(labels)


def _fake_owners(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, iou_threshold: float
) -> Tensor:
    return boxes.new_empty(boxes.shape[0], dtype=torch.int64)


_nms = Op("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor", _run_nms, _fake_nms)
_nms_groups = Op(
    "nms_groups(Tensor boxes, Tensor scores, Tensor labels, float iou_threshold) "
    "-> (Tensor, Tensor)",
    _run_groups,
    _fake_groups,
)
_nms_owners = Op(
    "nms_owners(Tensor boxes, Tensor scores, Tensor? labels, float iou_threshold) -> Tensor",
    _run_owners,
    _fake_owners,
)
