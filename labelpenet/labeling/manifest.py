"""The manifest of a label store: which job it holds, so that another one is not mixed into it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labelpenet.data.folders import STORE_FORMAT, STORE_MANIFEST
from labelpenet.files import atomic_write

MANIFEST = STORE_MANIFEST
_FORMAT = {"format": STORE_FORMAT, "version": 1}
_SHOWN = 8  # differences that an error names


class JobMismatch(ValueError):
    """A folder holds the labels of another job; the message says what differs."""


@dataclass(frozen=True)
class Manifest:
    """What identifies a job, and how far it is.

    Attributes:
        classes: Class names.
        job: What decides the labels: names and JSON values, nested.
        source: What was asked to be labelled.
        images: How many the source has.
        digest: Of the source's list: names, places, tags.
        shard_size: Images in each shard but the last.
        complete: Whether every shard is there.
    """

    classes: tuple[str, ...]
    job: Mapping[str, Any]
    source: str
    images: int
    digest: str
    shard_size: int
    complete: bool = field(default=False, compare=False)

    @property
    def shards(self) -> int:
        """How many shards the whole store has."""
        return -(-self.images // self.shard_size)

    @property
    def config(self) -> str:
        """A hash of what decides the labels, as every row has it."""
        text = json.dumps([self.job, self.classes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def identity(self) -> str:
        """A hash of all that `check_same` compares."""
        plain = {key: value for key, value in self._plain().items() if key != "complete"}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def paint_score(self) -> float:
        """Of the job's settings; 0 where they have none."""
        score: Any = self.job
        for key in ("settings", "detection", "paint_score"):
            score = score.get(key, {}) if isinstance(score, dict) else {}
        return float(score) if isinstance(score, int | float) and 0 <= score <= 1 else 0.0

    def span(self, shard: int) -> range:
        """The images of a shard, as positions in the source."""
        first = shard * self.shard_size
        return range(first, min(first + self.shard_size, self.images))

    def check_same(self, out: Path, asked: Manifest) -> None:
        """Raises JobMismatch, which names what differs, unless `asked` is the same job."""
        old, new = ({k: v for k, v in _flat(m._plain()) if k != "complete"} for m in (self, asked))
        changed = [
            f"{key}: there {_shown(old, key)}, asked for {_shown(new, key)}"
            for key in dict.fromkeys((*old, *new))
            if old.get(key, _NOTHING) != new.get(key, _NOTHING)
        ]
        if changed:
            more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            raise JobMismatch(
                f"{out}: holds the labels of another job: {'; '.join(changed[:_SHOWN])}{more}. "
                "Ask for the same, or choose another folder"
            )

    def write(self, out: Path) -> None:
        """Puts it into the store, whole or not at all."""
        with atomic_write(out / MANIFEST) as file:
            file.write(json.dumps(_FORMAT | self._plain(), indent=1, sort_keys=True) + "\n")

    @staticmethod
    def read(out: Path) -> Manifest:
        """The manifest of a store.

        Raises:
            ValueError: There is none, or a damaged one.
        """
        path = out / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{out}: no label store, it has no {MANIFEST}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not readable: {error}") from None
        if not isinstance(content, dict) or not _FORMAT.items() <= content.items():
            raise ValueError(f"{path}: no manifest of a label store that this version reads")
        try:
            manifest = Manifest(**{key: content[key] for key in Manifest.__dataclass_fields__})
            manifest = replace(manifest, classes=tuple(manifest.classes))
            numbers = (manifest.images, manifest.shard_size)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: broken manifest: {error}") from None
        if not all(type(n) is int for n in numbers) or min(numbers) < 0 or numbers[1] < 1:
            raise ValueError(f"{path}: broken manifest: images and shard_size: got {numbers}")
        return manifest

    def _plain(self) -> dict[str, Any]:
        plain = {key: getattr(self, key) for key in Manifest.__dataclass_fields__}
        result: dict[str, Any] = json.loads(json.dumps(plain))  # tuples become lists, as on disk
        return result


_NOTHING = object()


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "nothing"
    text = json.dumps(values[key])
    return text if len(text) <= 60 else f"{text[:60]}…"
