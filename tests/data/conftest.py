"""Small datasets on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def photo():
    """Writes a small plain image and returns its path."""

    def write(path: Path, size: tuple[int, int] = (6, 4), **options) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (200, 100, 50)).save(path, **options)
        return path

    return write


@pytest.fixture
def voc(tmp_path, photo):
    """A VOC folder of three images, two classes, the splits train and test."""
    root = tmp_path / "VOC2007"
    for name in ("000001", "000002", "000003"):
        photo(root / "JPEGImages" / f"{name}.jpg", (20, 10))
    lists = {
        "train": "000001\n000002\n",
        "test": "000003\n",
        "cat_train": "000001  1\n000002 -1\n",
        "train_train": "000001  0\n000002  1\n",  # the class train, difficult in the first image
        "cat_test": "000003  1\n",
        "train_test": "000003 -1\n",
    }
    main = root / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for name, text in lists.items():
        (main / f"{name}.txt").write_text(text)
    return root
