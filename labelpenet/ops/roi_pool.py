"""Max pooling of the features under each box to a fixed grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from labelpenet.ops import _check
from labelpenet.ops._extension import kernels, launch, wants_device_kernel
from labelpenet.ops._register import Op


@overload
def roi_pool(
    features: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = ...,
    *,
    return_argmax: Literal[False] = ...,
) -> Tensor: ...


@overload
def roi_pool(
    features: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = ...,
    *,
    return_argmax: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def roi_pool(
    features: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    return_argmax: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Pools the features under each box to a grid by maximum, with Caffe's rounding.

    A drop-in for `torchvision.ops.roi_pool`, equal to it bit for bit in float32, that also checks
    the image indices. Box corners times `spatial_scale` are rounded to cells, half away from zero;
    the last cell is included; a bin spans the cells from the floor of its start to the ceiling of
    its end, cut to the image. A bin outside the image is 0. A cell that is NaN or -inf never wins:
    a bin that holds nothing else is the lowest float (-inf in the 16-bit types), without gradient.

    Where no gradient is wanted (`torch.no_grad`, or features that need none) the positions of the
    maxima are neither computed nor stored, unless asked for.

    Args:
        features: [N, C, H, W] float32, float64, float16 or bfloat16.
        boxes: [R, 5], each (image index, x1, y1, x2, y2), or a list of N tensors [Ri, 4]; in
            pixels of the image, finite. Coordinates are computed in float32, in float64 where the
            features are float64.
        output_size: (h, w) of the grid, or one int for both.
        spatial_scale: Cells of the feature map per pixel, such as 1/8; above 0.
        return_argmax: Also return the cell `y * W + x` that each value came from, -1 for none.

    Returns:
        [R, C, h, w] of the dtype of `features`, differentiable in `features`; with
        `return_argmax` also [R, C, h, w] int32. Both passes are deterministic. On a CUDA device
        nothing is waited for and nobody looks at the boxes: a bad one pools to NaN, its argmax is
        -1, and nothing of its gradient is passed on.

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape or device, a box that is not finite, an image index that is no
            integer in [0, N).

    Source: R. Girshick, Fast R-CNN, ICCV 2015, section 2.1, and its Caffe layer.

    Example:
        >>> import torch
        >>> from labelpenet.ops import roi_pool
        >>> features = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> roi_pool(features, torch.tensor([[0.0, 0.0, 0.0, 3.0, 3.0]]), 2)
        tensor([[[[ 5.,  7.],
                  [13., 15.]]]])
    """
    _check.tensor("features", features, ("N", "C", "H", "W"))
    height, width = _check.size_pair("output_size", output_size)
    if height * width >= 2**24:
        raise ValueError(f"output_size: expected fewer than 2**24 bins, got {height} x {width}")
    scale = _check.number("spatial_scale", spatial_scale, minimum=0.0)
    if scale == 0:
        raise ValueError("spatial_scale: expected a number above 0, got 0")
    if features.shape[2] * features.shape[3] >= 2**31:
        raise ValueError(f"features: expected fewer than 2**31 cells, got {list(features.shape)}")
    wants_gradient = torch.is_grad_enabled() and features.requires_grad
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    pooled, argmax = _forward(
        features,
        _one_tensor(features, boxes, dtype),
        height,
        width,
        scale,
        return_argmax or wants_gradient,
    )
    return (pooled, argmax) if return_argmax else pooled


def _one_tensor(features: Tensor, boxes: Tensor | Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Boxes as [R, 5] of this dtype with the image index first."""
    if isinstance(boxes, Tensor):
        _check.tensor("boxes", boxes, ("R", 5), like=features)
        return boxes.detach().to(dtype)
    if not isinstance(boxes, list | tuple):
        raise TypeError(
            f"boxes: expected an [R, 5] tensor or a list of [Ri, 4], got {_check.describe(boxes)}"
        )
    if len(boxes) != features.shape[0]:
        raise ValueError(
            f"boxes: expected one tensor for each of {features.shape[0]} images, got {len(boxes)}"
        )
    for i, one in enumerate(boxes):
        _check.tensor(f"boxes[{i}]", one, (f"R{i}", 4), like=features)
    if not boxes:
        return features.new_zeros((0, 5), dtype=dtype)
    wide = [one.detach().to(dtype) for one in boxes]  # 16 bits would not hold every image's index
    return torch.cat([torch.cat((b.new_full((len(b), 1), i), b), 1) for i, b in enumerate(wide)])


def _check_values(boxes: Tensor, images: int) -> None:
    if not _check.readable(boxes):
        return
    index = boxes[:, 0]
    in_range = (index >= 0) & (index < images) & (index == index.floor())
    if bool(in_range.all() & torch.isfinite(boxes).all()):
        return
    _check.finite("boxes", boxes)
    bad = index[~in_range]
    raise ValueError(
        f"boxes: expected image indices that are integers in [0, {images}), "
        f"got {float(bad[0])} ({len(bad)} of {len(index)} are none)"
    )


def _pool(
    features: Tensor, boxes: Tensor, height: int, width: int, scale: float, with_argmax: bool
) -> tuple[Tensor, Tensor]:
    _check_values(boxes, features.shape[0])
    images, channels, rows, columns = features.shape
    on_device = wants_device_kernel(features)
    # The maximum of 16-bit floats is the maximum of their float32 values.
    narrow = features.dtype in (torch.float16, torch.bfloat16)
    source = (features.float() if narrow and not on_device else features).contiguous()
    pooled = source.new_empty((len(boxes), channels, height, width))
    argmax = torch.empty(
        pooled.shape if with_argmax else (0,), dtype=torch.int32, device=features.device
    )
    cells_first = source.new_empty((images, rows * columns, channels)) if on_device else None
    if source.numel() == 0:
        pooled.zero_()
        argmax.fill_(-1)
    elif pooled.numel():
        threads, stream = launch(source)
        kernels().roi_pool(
            source,
            boxes.contiguous(),
            scale,
            pooled,
            argmax if with_argmax else None,
            cells_first,
            threads,
            stream,
        )
    return pooled.to(features.dtype), argmax


def _fake_pool(
    features: Tensor, boxes: Tensor, height: int, width: int, scale: float, with_argmax: bool
) -> tuple[Tensor, Tensor]:
    pooled = features.new_empty((boxes.shape[0], features.shape[1], height, width))
    return pooled, pooled.new_empty(pooled.shape if with_argmax else (0,), dtype=torch.int32)


def _scatter(
    grad_pooled: Tensor, argmax: Tensor, boxes: Tensor, images: int, height: int, width: int
) -> Tensor:
    dtype = grad_pooled.dtype
    if not wants_device_kernel(grad_pooled) and dtype != torch.float64:
        grad_pooled = grad_pooled.float()
    # Sums are kept in float32 for the 16-bit types and rounded once.
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    shape = (images, grad_pooled.shape[1], height, width)
    if grad_pooled.numel() == 0:
        return grad_pooled.new_zeros(shape, dtype=dtype)
    grad_features = grad_pooled.new_empty(shape, dtype=wide)
    image_of = boxes[:, 0].to(torch.int32).contiguous()
    kernels().roi_pool_backward(
        grad_pooled.contiguous(), argmax, image_of, grad_features, *launch(grad_pooled)
    )
    return grad_features.to(dtype)


def _fake_scatter(
    grad_pooled: Tensor, argmax: Tensor, boxes: Tensor, images: int, height: int, width: int
) -> Tensor:
    return grad_pooled.new_empty((images, grad_pooled.shape[1], height, width))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, boxes, *_ = inputs
    argmax = output[1]
    ctx.mark_non_differentiable(argmax)
    ctx.set_materialize_grads(False)  # no zeros in the shape of argmax, as large as the result
    ctx.save_for_backward(argmax, boxes)
    ctx.shape = features.shape


def _backward(ctx: Any, grad_pooled: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if grad_pooled is None:
        return (None,) * 6
    argmax, boxes = ctx.saved_tensors
    images, _, height, width = ctx.shape
    grad = _backward_op(grad_pooled, argmax, boxes, images, height, width)
    return grad, None, None, None, None, None


def _save_places(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, argmax, boxes, *_ = inputs
    ctx.save_for_backward(argmax, boxes)


def _gather(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The scatter's own gradient: each bin reads where it had written."""
    argmax, boxes = ctx.saved_tensors
    channels, cells = grad.shape[1], grad.shape[2] * grad.shape[3]
    row = boxes[:, :1].long() * channels + torch.arange(channels, device=grad.device)
    nowhere = argmax < 0  # an empty bin, or a box of no image: its row may be any number
    at = (row[:, :, None, None] * cells + argmax).masked_fill(nowhere, 0)
    if grad.numel() == 0:
        read = grad.new_zeros(argmax.shape)
    else:
        read = grad.reshape(-1)[at].masked_fill(nowhere, 0)
    return read, None, None, None, None, None


_backward_op = Op(
    "roi_pool_backward(Tensor grad_pooled, Tensor argmax, Tensor boxes, SymInt images, "
    "SymInt height, SymInt width) -> Tensor",
    _scatter,
    _fake_scatter,
    _gather,
    _save_places,
)
_forward = Op(
    "roi_pool(Tensor features, Tensor boxes, SymInt height, SymInt width, float scale, "
    "bool with_argmax) -> (Tensor, Tensor)",
    _pool,
    _fake_pool,
    _backward,
    _save,
)
