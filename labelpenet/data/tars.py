"""WebDataset: images in tar archives, beside the files that say what they show."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from labelpenet.data.entries import DatasetError, Entry, Listing, listed_path
from labelpenet.data.images import IMAGE_SUFFIXES
from labelpenet.data.locations import AnyPath, listed, located, place_of
from labelpenet.data.members import TarMember, member_of

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_ARCHIVES = 1_000_000
_MOST_BYTES = 2**20  # of a file with labels
_LABEL_SUFFIXES = (".cls", ".json")


def find_tars(source: str | AnyPath) -> list[AnyPath] | None:
    """The archives that a source names: one, `shards-{000..127}.tar`, or a folder of nothing else.

    Returns:
        The archives in order, or None where `source` is no such thing.

    Raises:
        DatasetError: A range that is turned around, or too long.

    Example:
        >>> [path.name for path in find_tars("photos/a-{8..10}.tar")]
        ['a-8.tar', 'a-9.tar', 'a-10.tar']
    """
    if str(source).endswith(".tar"):
        return [located(name) for name in _expanded(str(source))]
    path = located(source)
    found = (
        [file for file in listed(path) if not file.name.startswith(".")] if path.is_dir() else []
    )
    return found if found and all(file.suffix == ".tar" for file in found) else None


def read_tars(
    source: AnyPath, archives: Sequence[AnyPath], *, classes: Sequence[str] | None = None
) -> Listing:
    """Reads the images of WebDataset archives; the archives are not unpacked.

    Neighbours whose names are equal up to the first dot of the last part are one sample. Its labels
    are in a `.cls` (a class, by name or by number) or in the `labels` of a `.json` (names);
    without them they are unknown. Where all images of a sample have more dots in their names, as
    `2020.05.01.png` has, each is a sample of its own, named up to its last dot. Hidden files are
    left out. An archive that cannot be read, or that ends too early, is an image that cannot be
    read, behind those that are whole.

    Args:
        source: What was asked for.
        archives: Uncompressed tar files.
        classes: The class names, in order; without them, labels are not looked at.

    Returns:
        The images; a name is the sample's key.

    Raises:
        DatasetError: There is no such archive; behind a URL, while the images are gone through.
    """
    for archive in archives:
        if isinstance(archive, Path) and not os.path.exists(archive):
            raise _absent(archive)
    chosen = tuple(classes or ())
    return Listing(source, chosen, _entries(archives, chosen))


class TarIndex:
    """Where the files of the archive asked for last are: fsspec would list it for each of them."""

    def __init__(self) -> None:
        self._archive = ""
        self._members: dict[str, TarMember] = {}

    def find(self, url: str) -> TarMember | None:
        """The file that the text of a TarMember names; None where there is none, or no archive.

        Of files of one name it is the first, as in a listing.
        """
        name, archive = member_of(url)
        if not archive:
            return None
        if archive != self._archive:
            self._archive, self._members = archive, {}
            # whatever is wrong with it, who opens the URL is told
            with suppress(Exception), located(archive).open("rb") as file:
                for found in _files(file):
                    place = TarMember(archive, found.name, found.offset_data, found.size)
                    self._members.setdefault(found.name, place)
        return self._members.get(name)


def _entries(archives: Sequence[AnyPath], classes: tuple[str, ...]) -> Iterator[Entry]:
    for archive in archives:
        yield from _archive(archive, classes)


def _archive(archive: AnyPath, classes: tuple[str, ...]) -> Iterator[Entry]:
    try:
        with archive.open("rb") as file:
            yield from _samples(archive, file, classes)
    except FileNotFoundError:
        raise _absent(archive) from None
    except (OSError, tarfile.TarError) as error:
        broken = TarMember(place_of(archive), str(error) or type(error).__name__, 0, -1)
        yield Entry(f"{archive.stem}.broken", broken, (), str(archive))


def _absent(archive: AnyPath) -> DatasetError:
    return DatasetError(f"{archive}: no such file")


def _samples(archive: AnyPath, file: IO[bytes], classes: tuple[str, ...]) -> Iterator[Entry]:
    sample = _Sample(archive, file, classes, "")
    broken: Exception | None = None
    try:
        for member in _files(file):
            key, rest = _split(member.name, f"{archive}: {member.name}")
            if key != sample.key:
                yield from sample.entries()
                sample = _Sample(archive, file, classes, key)
            sample.add(rest, member)
    except (OSError, tarfile.TarError) as error:
        broken = error
    yield from sample.entries()
    if broken is not None:
        raise broken


def _files(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """The files of an archive that are not hidden, and whose bytes are all there.

    Raises:
        TarError: The archive ends too early, or is none.
    """
    with tarfile.open(fileobj=file, mode="r:") as tar:
        # not by iterating: that keeps every header of the archive in memory
        member = tar.next()
        while member is not None:
            tar.members = []  # type: ignore[attr-defined]
            hidden = PurePosixPath(member.name).name.startswith(".")
            if member.isfile() and not hidden and _is_whole(file, member):
                yield member
            member = tar.next()
        end = tar.offset
    file.seek(end)
    rest = file.read(tarfile.BLOCKSIZE)  # what tarfile takes for the end: it is empty, or zeros
    if 0 < len(rest) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("ends within a header")
    if any(rest):
        raise tarfile.ReadError(f"has a damaged header at byte {end}")


def _is_whole(file: IO[bytes], member: tarfile.TarInfo) -> bool:
    file.seek(member.offset_data + max(member.size - 1, 0))
    return member.size == 0 or len(file.read(1)) == 1


class _Sample:
    """Neighbours in an archive whose names are equal up to the first dot."""

    def __init__(
        self, archive: AnyPath, file: IO[bytes], classes: tuple[str, ...], key: str
    ) -> None:
        self.key = key
        self._archive, self._file, self._classes = archive, file, classes
        self._place = place_of(archive)
        # by what stands between key and suffix: "" for a.png, ".seg" for a.seg.png
        self._images: dict[str, TarMember] = {}
        self._labels: tuple[str, ...] = ()
        self._more: dict[str, TarMember] = {}  # .seg.json: read where it goes with an image

    def add(self, rest: str, member: tarfile.TarInfo) -> None:
        """Looks at a file; `rest` is what follows the key."""
        middle, _, ending = rest.rpartition(".")
        place = TarMember(self._place, member.name, member.offset_data, member.size)
        if f".{ending.lower()}" in IMAGE_SUFFIXES:
            self._images.setdefault(middle, place)
        elif self._classes and f".{ending}" in _LABEL_SUFFIXES:
            if middle:
                self._more.setdefault(rest, place)
            elif not self._labels:
                self._labels = self._read(place)

    def entries(self) -> Iterator[Entry]:
        """The image of the sample; or each of them, where all have more dots in their names."""
        for middle in [""] if "" in self._images else self._images:
            labels: tuple[str, ...] = ()
            for suffix in _LABEL_SUFFIXES:
                if not labels and (place := self._more.get(middle + suffix)) is not None:
                    labels = self._read(place)
            name = self.key + middle
            where = f"{self._archive}: {name}"
            yield Entry(name, self._images[middle], labels or self._labels, where)

    def _read(self, place: TarMember) -> tuple[str, ...]:
        where = f"{self._archive}: {place.member}"
        if place.size > _MOST_BYTES:
            raise DatasetError(f"{where}: expected labels of at most {_MOST_BYTES} bytes")
        self._file.seek(place.offset)
        return _labels(self._file.read(place.size), place.member, self._classes, where)


def _split(member: str, where: str) -> tuple[str, str]:
    """The sample's key and what follows: `a/b.seg.png` is `a/b` and `.seg.png`."""
    path = listed_path(member, where)
    if "::" in member:  # in the URL of a member it would start the next part
        raise DatasetError(f"{where}: expected a name without '::', which separates parts of URLs")
    stem, dot, rest = path.name.partition(".")
    return str(path.with_name(stem)), dot + rest


def _labels(data: bytes, name: str, classes: tuple[str, ...], where: str) -> tuple[str, ...]:
    try:
        text = data.decode("utf-8").strip()
        found = json.loads(text).get("labels", []) if name.endswith(".json") else [text]
    except (ValueError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{where}: expected labels: {error}") from None
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise DatasetError(f"{where}: labels: expected a list of names, got {found!r:.80}")
    return tuple(_by_number(label, classes) for label in found if label)


def _by_number(label: str, classes: tuple[str, ...]) -> str:
    if label in classes or not (label.isdecimal() and len(label) < 10):
        return label
    return classes[int(label)] if int(label) < len(classes) else label


def _expanded(pattern: str) -> list[str]:
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < _MOST_ARCHIVES:
        raise DatasetError(f"{pattern}: expected {{first..last}} with first <= last")
    before, after, width = pattern[: found.start()], pattern[found.end() :], len(found[1])
    return [
        name
        for number in range(first, last + 1)
        for name in _expanded(f"{before}{number:0{width}}{after}")
    ]
