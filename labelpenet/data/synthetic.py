"""Textured scenes with three classes: a dataset that needs no download.

A class is told by its shape, its texture and its colour together, each of which varies: boxes are
striped, disks ringed, stars dotted. Objects lie on a cluttered ground, under uneven light.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

SCENE_CLASSES = ("box", "disk", "star")

_HUES = {"box": 0.08, "disk": 0.55, "star": 0.88}  # orange, blue, pink
_ATTEMPTS = 40


@dataclass(frozen=True)
class SceneSettings:
    """What scenes look like.

    Attributes:
        objects: Fewest and most objects of a scene.
        scale: Smallest and largest length of an object, as a share of the image's shorter side.
        visible: Least share of an object that others may leave visible.
        hue_spread: Most that an object's hue differs from that of its class, in turns.
        odd_hues: Share of the objects that have any hue, so that colour alone does not tell.
        clutter: Fewest and most small shapes on the ground.
        light: How much brighter the bright side of the image is, 0 for even light.
        noise: Standard deviation of the sensor noise, of a full scale of 1.
    """

    objects: tuple[int, int] = (1, 3)
    scale: tuple[float, float] = (0.25, 0.6)
    visible: float = 0.75
    hue_spread: float = 0.06
    odd_hues: float = 0.1
    clutter: tuple[int, int] = (4, 10)
    light: float = 0.5
    noise: float = 0.02

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A value is out of range.
        """
        for name, (low, high), least, most in (
            ("objects", self.objects, 1, 100),
            ("scale", self.scale, 0.05, 0.9),
            ("clutter", self.clutter, 0, 1000),
        ):
            if not least <= low <= high <= most:
                raise ValueError(
                    f"{name}: expected a range within [{least}, {most}], got ({low}, {high})"
                )
        for name in ("visible", "hue_spread", "odd_hues", "light", "noise"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name}: expected a number in [0, 1], got {value}")


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        masks: [N, H, W] bool, the visible parts; they do not overlap, and none is empty.
        labels: [N] int64, indices into SCENE_CLASSES.
    """

    image: np.ndarray
    masks: np.ndarray
    labels: np.ndarray


def render_scene(
    seed: int | list[int],
    size: tuple[int, int] = (128, 128),
    settings: SceneSettings | None = None,
) -> Scene:
    """Draws a scene.

    Args:
        seed: The same gives the same scene.
        size: (height, width) in pixels, at least 32 each.
        settings: What it looks like.

    Returns:
        The scene.

    Raises:
        ValueError: `size` is too small.

    Example:
        >>> scene = render_scene(0, (64, 96))
        >>> scene.image.shape, len(scene.masks) == len(scene.labels)
        ((64, 96, 3), True)
    """
    height, width = size
    if min(height, width) < 32:
        raise ValueError(f"size: expected at least 32 x 32 pixels, got {height} x {width}")
    settings = settings or SceneSettings()
    rng = np.random.default_rng(seed)
    canvas = _ground(rng, height, width, settings)
    owner = np.full((height, width), -1)  # which object is seen at a pixel
    areas: list[int] = []
    labels: list[int] = []
    for number in range(int(rng.integers(settings.objects[0], settings.objects[1] + 1))):
        label = int(rng.integers(len(SCENE_CLASSES)))
        for attempt in range(_ATTEMPTS):
            # smaller from one attempt to the next, so that even many objects find a place
            longest = settings.scale[1] - attempt / _ATTEMPTS * (
                settings.scale[1] - settings.scale[0]
            )
            thing = _Thing(rng, SCENE_CLASSES[label], (settings.scale[0], longest), (height, width))
            seen = np.where(thing.cover > 0.5, number, owner)
            counts = [int((seen == n).sum()) for n in range(number)]
            shares = [count / area for count, area in zip(counts, areas, strict=True)]
            if all(share >= settings.visible for share in shares):
                thing.paint(rng, canvas, settings)
                owner = seen
                areas.append(int((owner == number).sum()))
                labels.append(label)
                break
        else:
            break
    masks = np.stack([owner == number for number in range(len(labels))])
    return Scene(_exposed(rng, canvas, settings), masks, np.array(labels, np.int64))


class _Thing:
    """An object at a random place: where it covers the canvas, and its own coordinates there."""

    def __init__(
        self,
        rng: np.random.Generator,
        kind: str,
        scale: tuple[float, float],
        size: tuple[int, int],
    ) -> None:
        height, width = size
        self.kind = kind
        self.radius = radius = rng.uniform(*scale) * min(size) / 2
        slack = 0.85 * radius  # a corner may be cut off by the image's edge
        cx, cy = rng.uniform(slack, width - slack), rng.uniform(slack, height - slack)
        angle = rng.uniform(0, 2 * math.pi)
        y, x = np.mgrid[:height, :width] + 0.5
        dx, dy = (x - cx) / radius, (y - cy) / radius
        # the object's own frame: it lies within the unit circle
        self.u = dx * math.cos(angle) + dy * math.sin(angle)
        self.v = dy * math.cos(angle) - dx * math.sin(angle)
        self.depth = radius * self._depth(rng)  # pixels from the outline inwards
        self.cover: np.ndarray = np.clip(self.depth + 0.5, 0, 1)

    def _depth(self, rng: np.random.Generator) -> np.ndarray:
        """[H, W], the distance to the outline in radii, negative outside."""
        u, v = self.u, self.v
        if self.kind == "disk":
            flat = rng.uniform(0.85, 1)
            inside = (1 - np.hypot(u, v / flat)) * flat
        elif self.kind == "box":
            slope = rng.uniform(math.radians(35), math.radians(45))
            inside = np.minimum(math.cos(slope) - abs(u), math.sin(slope) - abs(v))
        else:
            points, inner = int(rng.integers(5, 7)), rng.uniform(0.5, 0.6)
            half = math.pi / points
            # all points folded onto half of one, whose outline is the line (1, 0) to (ex, ey)
            turn = abs(np.mod(np.arctan2(v, u) + half, 2 * half) - half)
            ex, ey = inner * math.cos(half), inner * math.sin(half)
            along, across = np.hypot(u, v) * np.cos(turn), np.hypot(u, v) * np.sin(turn)
            inside = (ey * (1 - along) - (1 - ex) * across) / math.hypot(1 - ex, ey)
        depth: np.ndarray = inside
        return depth

    def paint(self, rng: np.random.Generator, canvas: np.ndarray, settings: SceneSettings) -> None:
        """Draws its shadow and itself onto the canvas, [H, W, 3]."""
        shift = max(1, round(0.12 * self.radius))
        shadow = np.clip(self.depth / (4 * shift) + 0.5, 0, 1)
        canvas[shift:, shift:] *= 1 - 0.5 * shadow[:-shift, :-shift, None]
        spread = 0.5 if rng.random() < settings.odd_hues else settings.hue_spread
        hue = _HUES[self.kind] + rng.uniform(-spread, spread)
        dark = _colour(hue, rng.uniform(0.7, 0.95), rng.uniform(0.35, 0.55))
        light = _colour(hue + rng.uniform(-0.03, 0.03), rng.uniform(0.4, 0.75), rng.uniform(0.8, 1))
        tone = self._texture(rng)[..., None]
        shade = 1.1 - 0.35 * np.hypot(self.u + 0.3, self.v + 0.3)[..., None].clip(0, 1.5)
        cover = self.cover[..., None]
        canvas += cover * ((dark + (light - dark) * tone) * shade - canvas)

    def _texture(self, rng: np.random.Generator) -> np.ndarray:
        """[H, W] in [0, 1]: stripes, rings or dots."""
        u, v = self.u, self.v
        phase = rng.uniform(0, 2 * math.pi, 2)
        if self.kind == "box":
            wave = np.sin(2 * math.pi * rng.uniform(1.8, 3) * u + phase[0])
        elif self.kind == "disk":
            wave = np.sin(2 * math.pi * rng.uniform(1.5, 2.5) * np.hypot(u, v) + phase[0])
        else:
            step = math.pi * rng.uniform(2.5, 4)
            wave = 2 * np.sin(step * u + phase[0]) * np.sin(step * v + phase[1])
        tone: np.ndarray = np.clip(0.5 + 1.2 * wave, 0, 1)
        return tone


def _ground(
    rng: np.random.Generator, height: int, width: int, settings: SceneSettings
) -> np.ndarray:
    """[H, W, 3]: a rough surface of two dull colours with small things lying on it."""
    tone = np.zeros((height, width))
    for cells, weight in ((3, 0.5), (9, 0.3), (27, 0.3), (64, 0.25)):
        tone += weight * _smooth_noise(rng, cells, height, width)
    hue = rng.random()
    first = _colour(hue, rng.uniform(0.05, 0.4), rng.uniform(0.25, 0.5))
    second = _colour(hue + rng.uniform(-0.2, 0.2), rng.uniform(0.05, 0.4), rng.uniform(0.5, 0.85))
    canvas: np.ndarray = first + (second - first) * tone.clip(0, 1)[..., None]
    for _ in range(int(rng.integers(settings.clutter[0], settings.clutter[1] + 1))):
        _litter(rng, canvas)
    return canvas


def _litter(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Draws a twig or a pebble onto the canvas, [H, W, 3]."""
    height, width = canvas.shape[:2]
    side = min(height, width)
    angle, cx, cy = rng.uniform(0, math.pi), rng.uniform(0, width), rng.uniform(0, height)
    twig = rng.random() < 0.5
    long = side * (rng.uniform(0.1, 0.3) if twig else rng.uniform(0.02, 0.06))
    thin = side * rng.uniform(0.006, 0.014) if twig else long * rng.uniform(0.5, 1)
    top, left = max(0, int(cy - long - 1)), max(0, int(cx - long - 1))
    patch = canvas[top : int(cy + long + 2), left : int(cx + long + 2)]
    y, x = np.mgrid[: patch.shape[0], : patch.shape[1]] + 0.5
    dx, dy = x + left - cx, y + top - cy
    u, v = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
    cover = np.clip((1 - np.hypot(u / long, v / thin)) * thin + 0.5, 0, 1) * rng.uniform(0.5, 1)
    patch += cover[..., None] * (
        _colour(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.9)) - patch
    )


def _exposed(rng: np.random.Generator, canvas: np.ndarray, settings: SceneSettings) -> np.ndarray:
    """[H, W, 3] uint8: the canvas under light from a side, with noise."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[:height, :width]
    angle = rng.uniform(0, 2 * math.pi)
    towards = math.cos(angle) * (x / width - 0.5) + math.sin(angle) * (y / height - 0.5)
    light = rng.uniform(0.8, 1.1) * (1 + settings.light * rng.uniform(0, 1) * towards)
    image = canvas * light[..., None] + rng.normal(0, settings.noise, canvas.shape)
    exposed: np.ndarray = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    return exposed


def _smooth_noise(rng: np.random.Generator, cells: int, height: int, width: int) -> np.ndarray:
    """[H, W] in about [0, 1], with `cells` bumps along the shorter side."""
    shape = (cells * height // min(height, width) + 1, cells * width // min(height, width) + 1)
    grid = Image.fromarray(rng.random(shape, dtype=np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), np.float64)


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))
