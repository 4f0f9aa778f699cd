"""Proposals while they are computed: kept in part files beside the store, one run at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labelpenet.data.proposals import (
    ProposalError,
    Proposals,
    ProposalStore,
    write_proposals,
)
from labelpenet.files import locked, writing

ROWS_PER_PART = 64  # images that a kill may lose, if they come faster than
SECONDS_PER_PART = 20.0


@dataclass(frozen=True)
class ImageFailure:
    """An image that gave no proposals.

    Attributes:
        name: As in ImageRecord.
        path: The image file.
        reason: What went wrong.
    """

    name: str
    path: str
    reason: str


class PartWriter:
    """Writes outcomes to part files; on leaving, the last ones too, whatever the reason."""

    def __init__(self, parts: Path, errors_path: Path, settings: Mapping[str, object]) -> None:
        self.computed = 0
        self.errors: list[ImageFailure] = []
        self._parts = parts
        self._errors_path = errors_path
        self._settings = settings
        self._pending: list[Proposals] = []
        self._written = time.monotonic()

    def __enter__(self) -> None:
        self._errors_path.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        self._flush()

    def add(self, outcome: Proposals | ImageFailure) -> None:
        """Takes the outcome of an image; a full part is written."""
        if isinstance(outcome, ImageFailure):
            self.errors.append(outcome)
            path = self._errors_path
            with writing(path), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(vars(outcome), default=str) + "\n")
            return
        self._pending.append(outcome)
        late = time.monotonic() - self._written > SECONDS_PER_PART
        if late or len(self._pending) >= ROWS_PER_PART:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            number = 1 + max((int(part.stem) for part in _part_files(self._parts)), default=-1)
            write_proposals(self._parts / f"{number:06d}.parquet", self._pending, self._settings)
            self.computed += len(self._pending)
            self._pending = []
        self._written = time.monotonic()


def _part_files(parts: Path) -> list[Path]:
    return sorted(path for path in parts.glob("*.parquet") if path.stem.isdigit())


def stores(path: Path, parts: Path, settings: Mapping[str, object]) -> Iterator[ProposalStore]:
    """What earlier runs left, after a look at their settings."""
    for file in ([path] if path.exists() else []) + _part_files(parts):
        store = ProposalStore.open(file)
        if store.settings != settings:
            raise ProposalError(
                f"{file}: was computed with other settings: {_difference(store.settings, settings)}"
                "; delete it, or choose another path"
            )
        yield store


def _difference(there: Mapping[str, object], asked: Mapping[str, object]) -> str:
    nothing = object()
    words = []
    for key in sorted(set(there) | set(asked)):
        old, new = there.get(key, nothing), asked.get(key, nothing)
        if old != new:
            before = "absent" if old is nothing else repr(old)
            words.append(f"{key} is {before}, asked for {'none' if new is nothing else repr(new)}")
    return ", ".join(words)


def merge(path: Path, parts: Path, settings: Mapping[str, object]) -> None:
    """Puts the parts into the store; what is there twice (after a crash in here) is taken once."""
    files = _part_files(parts)

    def rows() -> Iterator[Proposals]:
        seen = set[str]()
        for store in stores(path, parts, settings):
            yield from (row for row in store.rows() if row.name not in seen)
            seen.update(store)

    if files or not path.exists():
        write_proposals(path, rows(), settings)
    for file in parts.iterdir():  # leftovers of killed writes too
        file.unlink()


@contextmanager
def parts_folder(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it for this process; it stays only if there are parts in it.

    Raises:
        OutputError: Another run holds it, or it cannot be made.
    """
    with locked(folder):
        try:
            yield
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()
