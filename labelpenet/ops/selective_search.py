"""Selective search: object proposals of an image, as boxes or as regions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from labelpenet.ops import _check
from labelpenet.ops._extension import kernels
from labelpenet.ops._register import Op

Preset = Literal["fast", "quality"]

_MAX_PIXELS = 1 << 28
_MAX_SEED = (1 << 63) - 1


class _ColorSpace(IntEnum):  # as csrc/selective_search/selective_search.hpp numbers them
    HSV = 0
    LAB = 1
    RGI = 2
    HUE = 3
    INTENSITY = 4


class _Similarity(IntFlag):
    COLOR = 1
    TEXTURE = 2
    SIZE = 4
    FILL = 8


_SHAPE = _Similarity.SIZE | _Similarity.FILL
_ALL = _Similarity.COLOR | _Similarity.TEXTURE | _SHAPE


@dataclass(frozen=True)
class _Settings:
    """One hierarchy is built for every combination of color space, k and similarity."""

    color_spaces: tuple[_ColorSpace, ...]
    ks: tuple[float, ...]
    similarities: tuple[_Similarity, ...]
    min_size: int = 100


_PRESETS: dict[str, _Settings] = {
    "fast": _Settings(
        color_spaces=(_ColorSpace.HSV, _ColorSpace.LAB),
        ks=(100, 200, 300),
        similarities=(_ALL, _Similarity.TEXTURE | _SHAPE),
    ),
    "quality": _Settings(
        color_spaces=tuple(_ColorSpace),
        ks=(150, 300, 450, 600),
        similarities=(
            _ALL,
            _Similarity.TEXTURE | _SHAPE,
            _Similarity.FILL,
            _Similarity.SIZE,
        ),
    ),
}


@dataclass(frozen=True)
class RegionMasks:
    """The masks of R regions of one image, as run lengths.

    `masks[i]` is COCO's uncompressed run-length encoding, which pycocotools takes as it is:
    `pycocotools.mask.frPyObjects(masks[i], *masks.size)` gives the compressed one.

    Attributes:
        counts: [sum of runs] int32; each mask's lengths of runs down the columns, one column after
            the other, beginning with a run of zeros (of length 0 where the first pixel is set).
        offsets: [R + 1] int64; the runs of mask i are `counts[offsets[i]:offsets[i + 1]]`.
        size: Height and width of the image in pixels.
    """

    counts: Tensor
    offsets: Tensor
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def to(self, device: torch.device | str) -> RegionMasks:
        """The same on a device."""
        return RegionMasks(self.counts.to(device), self.offsets.to(device), self.size)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Region `index` as `{"size": [height, width], "counts": [...]}`."""
        return {"size": list(self.size), "counts": self._runs(index).tolist()}

    def mask(self, index: int) -> Tensor:
        """Region `index` as a [height, width] bool tensor."""
        runs = self._runs(index)
        inside = torch.arange(len(runs), device=runs.device) % 2 == 1
        height, width = self.size
        return inside.repeat_interleave(runs).view(width, height).T.contiguous()

    def _runs(self, index: int) -> Tensor:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected one of {len(self)} regions, got {index}")
        index %= len(self)
        return self.counts[int(self.offsets[index]) : int(self.offsets[index + 1])]


def selective_search(
    image: Tensor | np.ndarray, preset: Preset = "fast", min_side: int = 20, seed: int = 0
) -> Tensor:
    """Proposes boxes that may hold an object.

    The image is cut into small regions of even color, in several color spaces and grains; in each
    of these the two most similar neighbours are joined until one region is left, by two or more
    notions of similarity. The box of every region on the way is a proposal.

    A photo of 500 x 375 has about 1,300 boxes with `fast` (12 hierarchies) and 3,700 with `quality`
    (80). The result depends on the image and the seed alone, not on the machine or on threads.

    Where one region touches thousands of others (dots on a white page), time grows with the square
    of their number: scale large images of that kind down.

    Args:
        image: [H, W, 3] uint8 RGB on the CPU, a tensor or an array, at most 2**28 pixels.
        preset: `fast` or `quality`.
        min_side: Boxes narrower or lower than this many pixels are left out.
        seed: Seeds the ranks, and so the order and nothing else; in [0, 2**63).

    Returns:
        [R, 4] float32 boxes (x1, y1, x2, y2) in pixels, x2 and y2 exclusive, no two alike, best
        rank first: the rank is a region's place counted from the top of its hierarchy times a
        random number, so that a prefix of the list is a smaller set of proposals. R is 0 for an
        image smaller than `min_side`.

    Raises:
        TypeError: An image of another dtype or type, a preset, side or seed of another type.
        ValueError: An image of another shape, without pixels or on a device; an unknown preset; a
            side or seed out of range.

    Source: Uijlings et al., Selective Search for Object Recognition, IJCV 2013, on top of
    Felzenszwalb and Huttenlocher, Efficient Graph-Based Image Segmentation, IJCV 2004.

    Example:
        >>> import torch
        >>> from labelpenet.ops import selective_search
        >>> image = torch.full((80, 100, 3), 255, dtype=torch.uint8)
        >>> image[20:60, 30:70] = 0
        >>> boxes = selective_search(image)
        >>> [30.0, 20.0, 70.0, 60.0] in boxes.tolist()
        True
    """
    return _search(image, preset, min_side, seed, regions=False)[0]


def selective_search_regions(
    image: Tensor | np.ndarray, preset: Preset = "fast", min_side: int = 20, seed: int = 0
) -> tuple[Tensor, RegionMasks]:
    """Proposes regions that may be an object: `selective_search` with the masks behind the boxes.

    Args:
        image: [H, W, 3] uint8 RGB on the CPU, a tensor or an array, at most 2**28 pixels.
        preset: `fast` or `quality`.
        min_side: Regions narrower or lower than this many pixels are left out.
        seed: Seeds the ranks; in [0, 2**63).

    Returns:
        The boxes that `selective_search` returns, and their R masks. Box i is the tight box of mask
        i. Where regions share a box, the one of the best rank stands for them.

    Raises:
        TypeError: As `selective_search`.
        ValueError: As `selective_search`.

    Source: Uijlings et al., Selective Search for Object Recognition, IJCV 2013.

    Example:
        >>> import torch
        >>> from labelpenet.ops import selective_search_regions
        >>> image = torch.full((80, 100, 3), 255, dtype=torch.uint8)
        >>> image[20:60, 30:70] = 0
        >>> boxes, regions = selective_search_regions(image)
        >>> regions.mask(boxes.tolist().index([30.0, 20.0, 70.0, 60.0])).sum()
        tensor(1600)
    """
    boxes, counts, offsets = _search(image, preset, min_side, seed, regions=True)
    return boxes, RegionMasks(counts, offsets, (image.shape[0], image.shape[1]))


def _search(
    image: Tensor | np.ndarray, preset: str, min_side: int, seed: int, *, regions: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if isinstance(image, np.ndarray):
        # torch reads neither negative strides nor, without a warning, memory that it may not write
        image = torch.from_numpy(np.array(image, order="C"))
    sizes = _check.tensor("image", image, ("H", "W", 3), (torch.uint8,))
    if image.device.type != "cpu":
        raise ValueError(f"image: expected a tensor on cpu, got one on {image.device}")
    pixels = sizes["H"] * sizes["W"]
    if not 0 < pixels <= _MAX_PIXELS:
        raise ValueError(f"image: expected 1 to {_MAX_PIXELS} pixels, got {list(image.shape)}")
    if preset not in _PRESETS:
        raise ValueError(f"preset: expected {' or '.join(_PRESETS)}, got {preset!r}")
    _whole("min_side", min_side, 1, (1 << 31) - 1)
    _whole("seed", seed, 0, _MAX_SEED)
    settings = _PRESETS[preset]
    found: tuple[Tensor, Tensor, Tensor] = _op(
        image,
        [int(space) for space in settings.color_spaces],
        [float(k) for k in settings.ks],
        [int(similarity) for similarity in settings.similarities],
        settings.min_size,
        min_side,
        seed,
        regions,
    )
    return found


def _whole(name: str, value: object, minimum: int, maximum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {_check.describe(value)}")
    if not minimum <= value <= maximum:
        raise ValueError(f"{name}: expected an int in [{minimum}, {maximum}], got {value}")


def _kernel(
    image: Tensor,
    color_spaces: list[int],
    ks: list[float],
    similarities: list[int],
    min_size: int,
    min_side: int,
    seed: int,
    regions: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    boxes, counts, offsets = kernels().selective_search(
        image.contiguous(),
        color_spaces,
        ks,
        similarities,
        min_size,
        min_side,
        seed,
        regions,
        torch.get_num_threads(),
    )
    return (
        _from_bytes(boxes, torch.float32).view(-1, 4),
        _from_bytes(counts, torch.int32),
        _from_bytes(offsets, torch.int64),
    )


def _from_bytes(data: bytearray, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _fake(
    image: Tensor,
    color_spaces: list[int],
    ks: list[float],
    similarities: list[int],
    min_size: int,
    min_side: int,
    seed: int,
    regions: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    context = torch.library.get_ctx()
    count = context.new_dynamic_size()
    runs = context.new_dynamic_size() if regions else 0
    return (
        image.new_empty((count, 4), dtype=torch.float32),
        image.new_empty((runs,), dtype=torch.int32),
        image.new_empty((count + 1 if regions else 0,), dtype=torch.int64),
    )


_op = Op(
    "selective_search(Tensor image, int[] color_spaces, float[] ks, int[] similarities, "
    "int min_size, int min_side, int seed, bool regions) -> (Tensor, Tensor, Tensor)",
    _kernel,
    _fake,
)
