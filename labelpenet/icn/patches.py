"""Gradients of several peaks as patches: each peak's own window of a layer, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Patches:
    """A window of a layer's map for each of P peaks; what lies outside the windows is zero.

    Attributes:
        values: [P, C, h, w]; zero where a window leaves the map.
        top: The row that each window begins with; may lie outside the map.
        left: Likewise its column.
    """

    values: Tensor
    top: list[int]
    left: list[int]

    def covers(self, height: int, width: int) -> bool:
        """Whether every window is the whole map."""
        whole = self.values.shape[2:] == (height, width)
        return whole and not any(self.top) and not any(self.left)

    def gather(self, layer: Tensor, fill: float = 0) -> Tensor:
        """The windows of what all peaks share, [C, H, W] -> [P or 1, C, h, w]; `fill` outside."""
        height, width = layer.shape[1:]
        if self.covers(height, width):
            return layer[None]
        count, (h, w) = len(self.top), self.values.shape[2:]
        out = layer.new_full((count, layer.shape[0], h, w), fill)
        for one, (rows, row), (columns, column) in self._shared(out, height, width):
            one[:, rows, columns] = layer[:, row, column]
        return out

    def keep_where(self, mask: Tensor) -> None:
        """Sets the rest to zero, in place.

        Args:
            mask: Of the map that all peaks share, [C, H, W] bool.
        """
        height, width = mask.shape[1:]
        for values, (rows, row), (columns, column) in self._shared(self.values, height, width):
            values[:, rows, columns] *= mask[:, row, column]

    def place(self, height: int, width: int) -> Tensor:
        """Whole maps, [P, C, height, width]."""
        if self.covers(height, width):
            return self.values
        out = self.values.new_zeros(*self.values.shape[:2], height, width)
        parts = self._shared(self.values, height, width)
        for one, (values, (rows, row), (columns, column)) in zip(out, parts, strict=True):
            one[:, row, column] = values[:, rows, columns]
        return out

    def within(self, height: int, width: int) -> Patches:
        """The same with nothing outside a map of that size; as whole maps where that is less."""
        if self.values.shape[2] >= height and self.values.shape[3] >= width:
            none = [0] * len(self.top)
            return Patches(self.place(height, width), none, none)
        for values, (rows, _), (columns, _) in self._shared(self.values, height, width):
            values[:, : rows.start] = 0
            values[:, rows.stop :] = 0
            values[:, :, : columns.start] = 0
            values[:, :, columns.stop :] = 0
        return self

    def add(self, other: Patches, height: int, width: int) -> Patches:
        """The sum of two sets of windows on one map of that size."""
        down = {a - b for a, b in zip(other.top, self.top, strict=True)}
        right = {a - b for a, b in zip(other.left, self.left, strict=True)}
        if len(down) > 1 or len(right) > 1:  # windows of one set are whole maps
            none = [0] * len(self.top)
            return Patches(self.place(height, width) + other.place(height, width), none, none)
        (y,), (x,) = down, right
        (h, w), (oh, ow) = self.values.shape[2:], other.values.shape[2:]
        top, left, bottom, edge = min(0, y), min(0, x), max(h, y + oh), max(w, x + ow)
        ours = F.pad(self.values, (-left, edge - w, -top, bottom - h))
        theirs = F.pad(other.values, (x - left, edge - x - ow, y - top, bottom - y - oh))
        return Patches(ours + theirs, [t + top for t in self.top], [v + left for v in self.left])

    def _shared(
        self, values: Tensor, height: int, width: int
    ) -> list[tuple[Tensor, tuple[slice, slice], tuple[slice, slice]]]:
        """For each peak its values, and the rows and columns that its window shares with a map."""
        h, w = int(self.values.shape[2]), int(self.values.shape[3])
        return [
            (one, _shared(top, h, height), _shared(left, w, width))
            for one, top, left in zip(values, self.top, self.left, strict=True)
        ]


def _shared(start: int, length: int, size: int) -> tuple[slice, slice]:
    """Where a window and a map meet along an axis, counted in the window and in the map."""
    first, last = max(start, 0), min(start + length, size)
    last = max(first, last)
    return slice(first - start, last - start), slice(first, last)
