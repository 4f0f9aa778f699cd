"""Selective search, plainly: loops over pixels, sets of neighbours, a search for the best pair.

Color conversion is in float64 and may differ from the kernel's integers by rounding; every later
stage takes byte planes [C, H, W] and states the exact integers, so that its result is the result.
"""

from __future__ import annotations

import itertools

import numpy as np

WEIGHT_SCALE = 128
"""Edge weights are in 1/128 of a grey level."""
COLOR_BINS = 25
TEXTURE_BINS = 10
UNIT = 32767
"""Histograms are compared as shares of a region's pixels, in 1 / UNIT."""
COLOR, TEXTURE, SIZE, FILL = 1, 2, 4, 8

_EDGES = ((1, 0), (-1, 1), (0, 1), (1, 1))
_BLUR = (6, 58, 128, 58, 6)
_SMOOTH = (4, 15, 26, 15, 4)
_SLOPE = (-8, -18, 0, 18, 8)
_BIN_WIDTH = 8.0
_MASK = (1 << 64) - 1


# ---- color (table 1 of the paper) ----------------------------------------------------------------


def hsv(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 RGB to hue in [0, 256), saturation and value in [0, 255]: [3, H, W]."""
    rgb = image.astype(np.float64)
    red, green, blue = np.moveaxis(rgb, 2, 0)
    top, low = rgb.max(2), rgb.min(2)
    spread = np.maximum(top - low, 1)
    sixth = np.where(
        top == red,
        (green - blue) / spread,
        np.where(top == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    saturation = np.where(top > 0, 255 * (top - low) / np.maximum(top, 1), 0)
    return np.stack([sixth % 6 * 256 / 6 * (top > low), saturation, top])


def lab(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 sRGB to CIE Lab (D65) as L * 2.55, a + 128, b + 128: [3, H, W]."""
    v = image / 255
    light = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    t = light @ (matrix / matrix.sum(1, keepdims=True)).T
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    x, y, z = np.moveaxis(f, 2, 0)
    planes = [(116 * y - 16) * 2.55, 500 * (x - y) + 128, 200 * (y - z) + 128]
    return np.stack(planes).clip(0, 255)


def intensity(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 RGB to luma (ITU-R BT.601): [1, H, W]."""
    return np.asarray(image @ np.array([0.299, 0.587, 0.114]))[None]


def rgi(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 RGB to the shares of red and green, and luma: [3, H, W]."""
    total = image.sum(2, dtype=np.float64)
    share = image[:, :, :2] / np.maximum(total, 1)[:, :, None]
    share[total == 0] = 1 / 3
    return np.concatenate([255 * np.moveaxis(share, 2, 0), intensity(image)])


# ---- base segmentation ---------------------------------------------------------------------------


def filter_planes(planes: np.ndarray, down: tuple[int, ...], across: tuple[int, ...]) -> np.ndarray:
    """Correlates [C, H, W] with two 5-tap filters; border pixels are repeated. int64."""
    height, width = planes.shape[1:]
    padded = np.pad(planes.astype(np.int64), ((0, 0), (2, 2), (2, 2)), mode="edge")
    columns = np.stack([padded[:, i : i + height] for i in range(5)], axis=-1) @ down
    return np.asarray(np.stack([columns[:, :, i : i + width] for i in range(5)], axis=-1) @ across)


def sorted_edges(planes: np.ndarray) -> list[tuple[int, int, int]]:
    """(weight, pixel, pixel) of the 8-connected grid; ties by direction, then reading order."""
    _, height, width = planes.shape
    smooth = (filter_planes(planes, _BLUR, _BLUR) + (1 << 7)) >> 8  # in 1/256 levels
    edges = []
    for dx, dy in _EDGES:
        for y, x in itertools.product(range(height), range(width)):
            if 0 <= x + dx < width and y + dy < height:
                apart = (smooth[:, y, x] - smooth[:, y + dy, x + dx]).astype(np.float32)
                squares = np.add.accumulate(apart * apart)[-1]
                weight = int(np.sqrt(squares) * np.float32(0.5))
                edges.append((weight, y * width + x, (y + dy) * width + x + dx))
    return sorted(edges, key=lambda edge: edge[0])


def graph_segmentation(planes: np.ndarray, k: float, min_size: int) -> np.ndarray:
    """Felzenszwalb and Huttenlocher's segmentation of [C, H, W] uint8: labels [H, W] int32.

    Labels count up in reading order. Source: algorithm 1, equations 1 to 5, of "Efficient
    Graph-Based Image Segmentation", IJCV 2004; then, as in their program, regions below `min_size`
    join a neighbour in the order of the edges.
    """
    _, height, width = planes.shape
    edges = sorted_edges(planes)
    component = [{i} for i in range(height * width)]  # shared by the pixels of a component
    internal = {id(c): np.float32(0) for c in component}
    scale = np.float32(k) * np.float32(WEIGHT_SCALE)

    def join(a: set[int], b: set[int], weight: int) -> None:
        a |= b
        for pixel in b:
            component[pixel] = a
        internal[id(a)] = np.float32(weight)

    for weight, p, q in edges:
        a, b = component[p], component[q]
        if a is not b and all(
            np.float32(weight) <= internal[id(c)] + scale / np.float32(len(c)) for c in (a, b)
        ):
            join(a, b, weight)
    for _, p, q in edges:
        a, b = component[p], component[q]
        if a is not b and min(len(a), len(b)) < min_size:
            join(a, b, 0)

    label: dict[int, int] = {}
    labels = [label.setdefault(id(c), len(label)) for c in component]
    return np.array(labels, np.int32).reshape(height, width)


# ---- features ------------------------------------------------------------------------------------


def texture_bins(planes: np.ndarray) -> np.ndarray:
    """[C, H, W] uint8 to the bin in each of eight orientations: [C, 8, H, W].

    Gaussian derivatives of sigma 1 in four directions; a falling one counts for the opposite
    orientation, and each is 0 where the other is not.
    """
    dx = filter_planes(planes, _SMOOTH, _SLOPE).astype(np.float32)
    dy = filter_planes(planes, _SLOPE, _SMOOTH).astype(np.float32)
    unit = np.float32(1) / np.float32(_BIN_WIDTH * 64 * 68)
    diagonal = unit * np.float32(0.70710678)
    responses = (dx * unit, (dx + dy) * diagonal, dy * unit, (dy - dx) * diagonal)
    parts = (part for response in responses for part in (response, -response))
    bins = [np.minimum(part.clip(0).astype(int), TEXTURE_BINS - 1) for part in parts]
    return np.stack(bins, axis=1)


def _shares(histogram: np.ndarray, size: int) -> np.ndarray:
    scale = np.float32(UNIT) / np.float32(size)
    return np.asarray(histogram.astype(np.float32) * scale).astype(np.int64)


class _Region:
    def __init__(self, color: np.ndarray, texture: np.ndarray, size: int, box: list[int]) -> None:
        self.color, self.texture, self.size, self.box = color, texture, size, box
        self.neighbors: set[int] = set()

    def joined(self, other: _Region) -> _Region:
        return _Region(
            self.color + other.color,
            self.texture + other.texture,
            self.size + other.size,
            self.hull(other),
        )

    def hull(self, other: _Region) -> list[int]:
        pairs = list(zip(self.box, other.box, strict=True))
        return [min(pairs[0]), min(pairs[1]), max(pairs[2]), max(pairs[3])]


def _similarity(a: _Region, b: _Region, terms: int, image_size: int) -> float:
    total = 0.0
    for term, name in ((COLOR, "color"), (TEXTURE, "texture")):
        if terms & term:  # equations 2 and 3; a histogram per channel (and orientation)
            one, other = getattr(a, name), getattr(b, name)
            shared = np.minimum(_shares(one, a.size), _shares(other, b.size)).sum()
            total += int(shared) / (float(UNIT) * len(one))
    if terms & SIZE:  # equation 4
        total += 1 - (a.size + b.size) / image_size
    if terms & FILL:  # equation 5
        x1, y1, x2, y2 = a.hull(b)
        total += 1 - ((x2 - x1) * (y2 - y1) - a.size - b.size) / image_size
    return total


# ---- grouping ------------------------------------------------------------------------------------


def group(planes: np.ndarray, labels: np.ndarray, terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1 of selective search: joins the most similar neighbours until one region is left.

    Args:
        planes: [C, H, W] uint8.
        labels: [H, W] base regions 0, 1, ...
        terms: Sum of COLOR, TEXTURE, SIZE, FILL.

    Returns:
        [2n - 1, 4] boxes of the n base regions and of the merges in their order, and [n - 1, 2] the
        two nodes of every merge. Of equal similarities the pair of the lowest numbers goes first.
    """
    texture = texture_bins(planes)
    nodes = []
    for label in range(int(labels.max()) + 1):
        ys, xs = np.nonzero(labels == label)
        color = [
            np.bincount(p[ys, xs].astype(int) * COLOR_BINS >> 8, minlength=COLOR_BINS)
            for p in planes
        ]
        edges = [
            np.bincount(bins[ys, xs], minlength=TEXTURE_BINS)
            for bins in texture.reshape(-1, *labels.shape)
        ]
        box = [int(v) for v in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)]
        nodes.append(_Region(np.stack(color), np.stack(edges), len(ys), box))
    for here, there in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        apart = here != there
        for one, other in zip(here[apart].tolist(), there[apart].tolist(), strict=True):
            nodes[one].neighbors.add(other)
            nodes[other].neighbors.add(one)

    pairs = {
        (a, b): _similarity(nodes[a], nodes[b], terms, labels.size)
        for a in range(len(nodes))
        for b in nodes[a].neighbors
        if a < b
    }
    children = []
    while pairs:
        a, b = min(pairs, key=lambda pair: (-pairs[pair], pair))
        new = len(nodes)
        children.append((a, b))
        nodes.append(nodes[a].joined(nodes[b]))
        nodes[new].neighbors = (nodes[a].neighbors | nodes[b].neighbors) - {a, b}
        pairs = {pair: value for pair, value in pairs.items() if not {a, b} & set(pair)}
        for other in nodes[new].neighbors:
            nodes[other].neighbors = nodes[other].neighbors - {a, b} | {new}
            pairs[other, new] = _similarity(nodes[other], nodes[new], terms, labels.size)
    return np.array([n.box for n in nodes]), np.array(children, int).reshape(-1, 2)


# ---- ranking -------------------------------------------------------------------------------------


def random_number(seed: int, hierarchy: int, node: int) -> float:
    """A number in [0, 1) for a node of a hierarchy: splitmix64's finaliser, twice."""
    z = seed + 0x9E3779B97F4A7C15 * (hierarchy + 1) & _MASK
    for _ in range(2):
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        z ^= z >> 31
        z = z + 0x9E3779B97F4A7C15 * (node + 1) & _MASK
    return float((z ^ z >> 31) >> 11) * 2.0**-53


def rank(hierarchies: list[np.ndarray], min_side: int, seed: int) -> np.ndarray:
    """The boxes of all hierarchies, best rank first, each once: [R, 4] (section 4.2.3)."""
    ranked = []
    for h, boxes in enumerate(hierarchies):
        for node, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            if min(x2 - x1, y2 - y1) >= min_side:
                place = len(boxes) - node
                ranked.append((place * random_number(seed, h, node), h, node, (x1, y1, x2, y2)))
    best = dict.fromkeys(box for *_, box in sorted(ranked))
    return np.array(list(best), np.float32).reshape(-1, 4)


def selective_search(
    images: list[np.ndarray],
    ks: list[float],
    terms: list[int],
    min_size: int,
    min_side: int,
    seed: int,
) -> np.ndarray:
    """Boxes [R, 4] of the planes of an image in several color spaces, best rank first."""
    hierarchies = []
    for planes, k in itertools.product(images, ks):
        labels = graph_segmentation(planes, k, min_size)
        hierarchies += [group(planes, labels, t)[0] for t in terms]
    return rank(hierarchies, min_side, seed)
