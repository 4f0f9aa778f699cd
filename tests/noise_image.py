"""Images for selective search: textures, flat areas, ties."""

import numpy as np
import torch

from labelpenet import _C


def noise(height, width, seed=0, channels=None):
    """Random bytes, and rectangles of one color over them: textures, flat areas, ties."""
    rng = np.random.default_rng(seed)
    shape = (height, width, 3) if channels is None else (channels, height, width)
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    rows, columns = (slice(None),) * (0 if channels is None else 1), None
    for _ in range(4):
        y, x = rng.integers(0, height), rng.integers(0, width)
        columns = (slice(y, y + height // 2 + 1), slice(x, x + width // 2 + 1))
        image[rows + columns] = rng.integers(0, 256)
    return image


def planes_of(image, space):
    data = np.frombuffer(_C.selective_search_color(torch.from_numpy(image), space), np.uint8)
    return data.reshape(-1, *image.shape[:2])
