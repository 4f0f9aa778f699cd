"""The memory of a job does not grow with its images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from labeling.scenes import CLASSES, FakePhotoLabeler, picture
from PIL import Image

from labelpenet.data.entries import Entry, Listing
from labelpenet.labeling import open_labels
from labelpenet.labeling.runner import Options, label_images

IMAGES = 10_000
ALLOWED = 24 * 2**20


def resident() -> int:
    """Bytes of this process in memory."""
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


class Watching(FakePhotoLabeler):
    """Labels, and notes the memory at every 500th image."""

    noted: list[int] = []  # noqa: RUF012 - of the one job
    done = 0

    def __call__(self, photos=None):
        if photos is None:
            return self
        for _ in photos:
            type(self).done += 1
            if self.done % 500 == 0:
                self.noted.append(resident())
        return super().__call__(photos)


def check_flat(noted: list[int]) -> None:
    """No more in the last four fifths than in the first, but for what an allocator keeps."""
    early = max(noted[: len(noted) // 5])
    print("MiB:", [round(value / 2**20) for value in noted])
    assert max(noted) - early < ALLOWED


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_thousand_images(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "x.png")
    entries = (Entry(f"{i:05}", tmp_path / "x.png", CLASSES, "here") for i in range(IMAGES))
    labeler = Watching(None)
    summary = label_images(
        labeler, Listing(tmp_path, CLASSES, entries), tmp_path / "out", job={},
        options=Options(batch=4),
    )  # fmt: skip
    assert (summary.images, summary.errors) == (IMAGES, 0)
    check_flat(labeler.noted)

    labels, noted = open_labels(tmp_path / "out"), []
    for i, image in enumerate(labels, 1):
        assert len(image.instances()) == 2
        if i % 500 == 0:
            noted.append(resident())
    check_flat(noted)
    assert i == len(labels) == IMAGES
    last = labels[f"{IMAGES - 1:05}"]
    assert np.array_equal(last.instances().masks, labels["00000"].instances().masks)
