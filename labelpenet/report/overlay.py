"""Objects and maps drawn over a photo."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from labelpenet.types import Instances

# Okabe and Ito, "Color Universal Design" (2008): told apart with any colour vision; without black
PALETTE = np.array(
    [
        [230, 159, 0],
        [86, 180, 233],
        [0, 158, 115],
        [204, 121, 167],
        [240, 228, 66],
        [213, 94, 0],
        [0, 114, 178],
    ],
    dtype=np.uint8,
)
_FILL = 0.42
_DARK = (16, 16, 16)


def instance_color(index: int) -> tuple[int, int, int]:
    """The RGB colour of the `index`-th object of an image.

    Example:
        >>> instance_color(0) == instance_color(7) == (230, 159, 0)
        True
    """
    red, green, blue = PALETTE[index % len(PALETTE)].tolist()
    return red, green, blue


def draw_instances(image: np.ndarray, instances: Instances, classes: Sequence[str]) -> np.ndarray:
    """Draws objects: a tint and a contour (the box where there is no mask), class and score.

    The best object, the first, lies on top. A text that does not fit is shortened; where not
    even that fits, it is left out.

    Args:
        image: [H, W, 3] uint8.
        instances: The objects, with masks of the size of the image or without.
        classes: Class names.

    Returns:
        [H, W, 3] uint8, a new array.

    Raises:
        ValueError: Shapes that do not agree, or a label without a class.

    Example:
        >>> import torch
        >>> mask = torch.zeros((1, 40, 60), dtype=torch.bool)
        >>> mask[:, 10:30, 10:50] = True
        >>> box = torch.tensor([[10.0, 10.0, 50.0, 30.0]])
        >>> cat = Instances(box, torch.tensor([0]), torch.tensor([0.9]), mask)
        >>> picture = draw_instances(np.zeros((40, 60, 3), np.uint8), cat, ["cat"])
        >>> picture.shape, bool(picture[25, 30].any()), bool(picture[39, 59].any())
        ((40, 60, 3), True, False)
    """
    _check_image(image)
    height, width = image.shape[:2]
    labels = instances.labels.tolist()
    if any(not 0 <= label < len(classes) for label in labels):
        raise ValueError(f"labels: expected values in [0, {len(classes)}), got {labels}")
    if instances.masks is not None and instances.masks.shape != (len(labels), height, width):
        wanted = f"[{len(labels)}, {height}, {width}]"
        raise ValueError(f"masks: expected {wanted}, got {list(instances.masks.shape)}")
    boxes = np.clip(np.nan_to_num(instances.boxes.cpu().numpy()), 0, [width, height] * 2)
    canvas = image.copy()
    line = max(1, round(max(height, width) / 320))
    for i in reversed(range(len(labels))):
        color = instance_color(i)
        if instances.masks is None:
            corners = boxes[i][[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 1, 2)
            rings = [np.minimum(np.rint(corners), [width - 1, height - 1]).astype(np.int32)]
        else:
            mask = instances.masks[i].cpu().numpy()
            canvas[mask] = (canvas[mask] * (1 - _FILL) + np.array(color) * _FILL).astype(np.uint8)
            found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
            rings = list(found[0])
        # a dark line under the coloured one shows on any background
        for thickness, stroke in ((line + 1, _DARK), (line, color)):
            cv2.polylines(canvas, rings, True, stroke, thickness, cv2.LINE_AA)
    return _write_names(canvas, boxes, labels, instances.scores.tolist(), classes)


def draw_map(image: np.ndarray, values: np.ndarray | Tensor) -> np.ndarray:
    """Draws a map over the photo in grey, from dark (0) to bright yellow (1).

    Args:
        image: [H, W, 3] uint8.
        values: [H, W] numbers in [0, 1]; what lies outside is clipped.

    Returns:
        [H, W, 3] uint8, a new array.

    Raises:
        ValueError: Shapes that do not agree, or a value that is not finite.

    Example:
        >>> photo = np.full((2, 2, 3), 128, np.uint8)
        >>> picture = draw_map(photo, np.array([[0.0, 0.5], [0.7, 1.0]]))
        >>> bool(picture[1, 1].sum() > picture[0, 0].sum())
        True
    """
    _check_image(image)
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    array = array.astype(np.float32)
    if array.shape != image.shape[:2]:
        raise ValueError(f"map: expected {list(image.shape[:2])}, got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError("map: expected finite numbers")
    array = array.clip(0, 1)
    heat = cv2.applyColorMap((array * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None].astype(np.float32)
    weight = (0.3 + 0.55 * array)[:, :, None]
    mixed: np.ndarray = (grey * (1 - weight) + heat[:, :, ::-1] * weight).astype(np.uint8)
    return mixed


def _write_names(
    canvas: np.ndarray,
    boxes: np.ndarray,
    labels: list[int],
    scores: list[float],
    classes: Sequence[str],
) -> np.ndarray:
    height, width = canvas.shape[:2]
    size = min(max(12, round(max(height, width) / 26)), 48)
    font = ImageFont.load_default(size)
    pad = max(2, size // 5)
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    taken: list[tuple[float, float, float, float]] = []
    for i, (label, score) in enumerate(zip(labels, scores, strict=True)):
        # untrusted: any length, line breaks, code points that no font can be asked for
        name = " ".join(classes[label][:99].encode("utf-8", "replace").decode("utf-8").split())
        text = _fitting(draw, font, [f"{name} {score:.2f}", name], width - 2 * pad)
        box_height = size + 2 * pad
        if not text or box_height > height / 2:
            continue
        box_width = draw.textlength(text, font) + 2 * pad
        left = min(float(boxes[i, 0]), width - box_width)
        # above the object if there is room, else at the first free place below that
        top = max(0.0, float(boxes[i, 1]) - box_height)
        while any(_overlap((left, top, left + box_width, top + box_height), t) for t in taken):
            top += box_height
        if top + box_height > height:
            continue
        place = (left, top, left + box_width, top + box_height)
        taken.append(place)
        color = instance_color(i)
        draw.rectangle(place, fill=color)
        bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 110
        draw.text(
            (left + pad, top + box_height / 2),
            text,
            fill=_DARK if bright else (255, 255, 255),
            font=font,
            anchor="lm",
        )
    return np.array(picture)


def _fitting(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    texts: Sequence[str],
    room: float,
) -> str:
    """The first text that fits, else the last one shortened, else nothing."""
    for text in texts:
        if draw.textlength(text, font) <= room:
            return text
    for length in range(len(texts[-1]), 1, -1):
        text = texts[-1][:length].rstrip() + "…"
        if draw.textlength(text, font) <= room:
            return text
    return ""


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _check_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        came = getattr(image, "dtype", type(image).__name__)
        raise TypeError(f"image: expected [H, W, 3] uint8 array, got {came}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image: expected [H, W, 3] uint8, got {list(image.shape)}")
