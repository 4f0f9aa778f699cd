"""Small datasets on disk."""

from __future__ import annotations

from pathlib import Path

import fsspec
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


@pytest.fixture(params=["path", "file", "memory"])
def place(request, tmp_path):
    """Puts files somewhere, and gives where that is."""

    def put(files: dict[str, bytes]) -> str:
        if request.param == "memory":
            root = f"memory://{tmp_path.name}"
            system = fsspec.filesystem("memory")
            for name, data in files.items():
                system.pipe(f"{root}/{name}", data)
            return root
        root = tmp_path / "my photos"
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root.as_uri() if request.param == "file" else str(root)

    return put
