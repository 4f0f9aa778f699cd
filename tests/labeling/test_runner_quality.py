"""Labelling jobs: quality is written, read back, and filtered by."""

import dataclasses
import re

import pytest
import torch
from labeling.scenes import (
    each,
    errors,
    label,
    picture,
    read_labels,
    same,
)

from labelpenet.types import Quality


def with_quality(image, tags, name):
    """Two objects: the first is good in even images and unknown in a/03, the second always bad."""
    labelling = label(image, tags, name)
    number = int(name[-1])
    first = float("nan") if number == 3 else 0.9 if number % 2 == 0 else 0.1
    quality = Quality.of(2, crf_change=torch.tensor([first, 0.2]))
    found = dataclasses.replace(labelling.instances, quality=quality)
    return dataclasses.replace(labelling, instances=found)


def test_quality_is_written_and_read_back(run, tmp_path):
    run(tmp_path / "out", each(with_quality)[0])
    _, found, _ = read_labels(tmp_path / "out")
    for i, instances in enumerate(found.values()):
        wanted = with_quality(picture(i), (0, 1), f"a/0{i}").instances.quality
        for field in dataclasses.fields(Quality):
            ours, theirs = (getattr(q, field.name) for q in (wanted, instances.quality))
            assert torch.equal(ours.nan_to_num(7), theirs.nan_to_num(7))


def test_min_quality_leaves_out_what_is_below_it_and_nothing_else(run, tmp_path):
    make = each(with_quality)[0]
    whole = run(tmp_path / "whole", make)
    assert (whole.instances, whole.filtered) == (10, 0)
    summary = run(tmp_path / "good", make, min_quality=0.5)
    assert (summary.images, summary.errors) == (5, 0)
    assert (summary.instances, summary.filtered) == (4, 6)
    assert summary.class_counts == (4, 0)
    everything = read_labels(tmp_path / "whole")[1]
    kept = read_labels(tmp_path / "good")[1]
    assert list(kept) == list(everything)  # an image without good objects stays
    for name, instances in kept.items():
        assert same(instances, everything[name].select([] if name == "a/01" else [0]))
    # nothing is left out of what says nothing of its quality
    assert run(tmp_path / "unknown", min_quality=1.0).instances == 10


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        (
            {"crf_change": torch.tensor([1.5, 0])},
            r"quality.crf_change: expected numbers in \[0, 1\]",
        ),
        ({"score_margin": torch.tensor([-2.0, 0])}, r"quality.score_margin: expected .*\[-1, 1\]"),
        ({"agreement": torch.ones(3)}, r"quality.agreement: expected \[2\], got \[3\]"),
    ],
)
def test_impossible_quality_is_an_error_of_the_image(run, tmp_path, figures, message):
    def function(image, tags, name):
        labelling = label(image, tags, name)
        found = dataclasses.replace(labelling.instances, quality=Quality.of(2, **figures))
        return dataclasses.replace(labelling, instances=found)

    assert run(tmp_path / "out", each(function)[0]).errors == 5
    assert re.search(message, errors(tmp_path / "out")[0]["reason"])
