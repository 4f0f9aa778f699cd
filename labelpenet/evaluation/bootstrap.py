"""Is one result better than another, or is it the choice of images?"""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from labelpenet.evaluation.boxes import hit_rate
from labelpenet.evaluation.matching import Matches

PerImage = TypeVar("PerImage", bound=Sized)


@dataclass(frozen=True)
class Comparison:
    """A difference b - a between two results on the same images.

    Attributes:
        difference: On the images as they are.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p_value: Two-sided: how easily resampling alone turns the sign of the difference.
        confidence: What the interval covers, such as 0.95.
        samples: The resamplings that gave a number; fewer than asked for where some held no
            object of any class.
    """

    difference: float
    low: float
    high: float
    p_value: float
    confidence: float
    samples: int


def paired_bootstrap(
    a: PerImage,
    b: PerImage,
    metric: Callable[[PerImage, np.ndarray], float],
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compares two results by drawing the same images, with replacement, for both.

    Average precision is no mean over images, so the metric is computed anew on every draw; it
    gets the per-image inputs once and how often each image was drawn, never a copy of them.

    Args:
        a: Per-image inputs of the first result, `len(a)` images: what `box_matches`,
            `mask_matches` or `corloc_hits` return, or an array with a row per image.
        b: The same of the second result, for the same images in the same order.
        metric: From such inputs and counts [images] int64 to a number: `mean_ap`,
            `mean_corloc`, or your own.
        samples: Draws.
        confidence: Of the percentile interval.
        seed: Same seed, same result.

    Returns:
        The difference b - a, its interval and its p-value, 2 * min(P(d <= 0), P(d >= 0)) with one
        draw added to either count.

    Raises:
        ValueError: Not the same images, no images, a metric that is nan on all images, or
            samples < 1 or confidence outside (0, 1).

    Source:
        Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapters 13 and 16.

    Example:
        >>> better = np.arange(20) / 20 + 0.1
        >>> found = paired_bootstrap(
        ...     np.arange(20) / 20, better, lambda x, n: float(n @ x / n.sum()), samples=99)
        >>> round(found.difference, 6), round(found.low, 6), found.p_value
        (0.1, 0.1, 0.02)
    """
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"b: expected as many images as a has, {len(a)} (not 0), got {len(b)}")
    if (
        isinstance(a, Matches)
        and isinstance(b, Matches)
        and not np.array_equal(a.positives, b.positives)
    ):
        raise ValueError("b: expected the same images as a, got other objects in them")
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, got {samples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number in (0, 1), got {confidence}")
    images = len(a)
    once = np.ones(images, np.int64)
    difference = metric(b, once) - metric(a, once)
    if np.isnan(difference):
        raise ValueError("metric: expected a number on all images, got nan")
    rng = np.random.default_rng(seed)
    draws = np.empty(samples)
    for i in range(samples):
        counts = np.bincount(rng.integers(images, size=images), minlength=images)
        draws[i] = metric(b, counts) - metric(a, counts)
    draws = draws[~np.isnan(draws)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail]) if len(draws) else (np.nan, np.nan)
    rarer = min((draws <= 0).sum(), (draws >= 0).sum())
    p_value = min(1.0, 2 * (rarer + 1) / (len(draws) + 1))
    return Comparison(
        float(difference), float(low), float(high), float(p_value), confidence, len(draws)
    )


def mean_ap(matches: Matches, counts: np.ndarray | None = None) -> float:
    """Mean AP by area, of the images drawn `counts` times: a metric for `paired_bootstrap`."""
    return matches.average_precision(counts=counts).mean


def mean_corloc(hits: np.ndarray, counts: np.ndarray | None = None) -> float:
    """Mean CorLoc of `corloc_hits`, images drawn `counts` times: for `paired_bootstrap`."""
    return hit_rate(hits, counts).mean
