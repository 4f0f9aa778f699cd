"""What a labelling job tells about itself, from the shards that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from labelpenet.labeling.store import Counts, Shard, shard_numbers, shard_path


@dataclass(frozen=True)
class LabelSummary:
    """Figures of a label store, and of the run that went before.

    Attributes:
        images: Images with labels.
        instances: Their objects.
        errors: Images that could not be labelled; `errors.jsonl` lists them.
        class_counts: Objects of each class.
        score_counts: Objects by score in `store.SCORE_BINS` equal bins over [0, 1].
        filtered: Objects left out, below the quality asked for.
        seconds: Wall time of the run.
        resumed: Images that were there before it.
        unwritten: Shards that could not be written, such as for want of space.
        stages: Seconds by stage, summed over workers and threads; see `shard.Timing`.
        waits: Seconds that the network waited, by what for, summed over workers.
    """

    images: int
    instances: int
    errors: int
    class_counts: tuple[int, ...] = ()
    score_counts: tuple[int, ...] = ()
    filtered: int = 0
    seconds: float = 0.0
    resumed: int = 0
    unwritten: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)
    waits: Mapping[str, float] = field(default_factory=dict)


def summarize(out: Path, class_count: int) -> LabelSummary:
    """The figures of a store, from the footers of its shards.

    Raises:
        ValueError: A shard is damaged.
    """
    total = Counts.none(class_count)
    sums = [np.array(column, np.int64) for column in total]
    images = errors = 0
    for number in shard_numbers(out):
        shard = Shard(shard_path(out, number))
        images, errors = images + len(shard), errors + len(shard.errors)
        for column, values in zip(sums, shard.counts, strict=True):
            column += values
        shard.close()
    filtered, classes, scores = sums
    return LabelSummary(
        images=images,
        instances=int(classes.sum()),
        errors=errors,
        class_counts=tuple(classes.tolist()),
        score_counts=tuple(scores.tolist()),
        filtered=int(filtered[0]),
    )
