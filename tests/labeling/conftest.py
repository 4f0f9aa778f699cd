"""A job of a few photos."""

import pytest
from labeling.scenes import JOB, FakeLabeler, listing

from labelpenet.labeling.runner import Options, label_images


@pytest.fixture
def photos(tmp_path):
    return listing(tmp_path / "photos")


@pytest.fixture
def run(photos):
    def call(out, make=None, source=None, job=JOB, console=None, **options):
        options = {"shard_size": 2} | options
        make = FakeLabeler() if make is None else make
        return label_images(
            make, source or photos(), out, job=job, options=Options(**options), console=console
        )

    return call
