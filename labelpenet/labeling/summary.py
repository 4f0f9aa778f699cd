"""What a labelling job tells about itself at the end."""

from __future__ import annotations

from dataclasses import dataclass

SCORE_BINS = 20
"""Bins of `LabelSummary.score_counts`."""


@dataclass(frozen=True)
class LabelSummary:
    """Figures of a finished labelling job.

    Attributes:
        images: Images in the label file, without the bad ones.
        instances: Objects in the label file.
        errors: Images that could not be labelled; they are listed in `errors.jsonl`.
        seconds: Wall time of this run.
        resumed: How many of the images an earlier, unfinished run had labelled.
        class_counts: Objects of each class.
        score_counts: Objects by score in SCORE_BINS equal bins over [0, 1].
        filtered: Objects left out of the label file, below `min_quality`.
        min_quality: The overall quality that labels had to reach.
    """

    images: int
    instances: int
    errors: int
    seconds: float
    resumed: int = 0
    class_counts: tuple[int, ...] = ()
    score_counts: tuple[int, ...] = ()
    filtered: int = 0
    min_quality: float = 0.0
