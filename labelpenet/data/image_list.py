"""The images of a large job: a list on disk, from which any part is read without the rest."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa

from labelpenet.data.datasets import list_dataset
from labelpenet.data.entries import DatasetError, Entry, Listing
from labelpenet.data.locations import place_of
from labelpenet.data.members import TarMember
from labelpenet.files import atomic_write

_SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "place": pa.string(),  # a path, a URL, or that of a tar archive
        "labels": pa.list_(pa.int32()),
        "member": pa.string(),  # in the archive
        "offset": pa.int64(),
        "size": pa.int64(),
    }
)
_ROWS = 1024  # of a record batch: what is in memory at a time


class ListedImage(NamedTuple):
    """One image of a list.

    Attributes:
        name: As in ImageRecord.
        path: Where it is, as `load_image` takes it.
        labels: Class indices, sorted.
    """

    name: str
    path: str | TarMember
    labels: tuple[int, ...]


class ImageList(Sequence[ListedImage]):
    """Images in a fixed order, in an Arrow file that is mapped into memory.

    However many images there are, a batch of them is in memory. A copy by pickle maps the file
    anew.

    Args:
        path: A file that `write` wrote.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> entries = [Entry("cats/tom", Path("/photos/cats/tom.jpg"), ("cat",), "list.csv:2")]
        >>> images = ImageList.write(folder / "list", Listing(folder, ("cat", "dog"), entries))
        >>> len(images), images[0]
        (1, ListedImage(name='cats/tom', path='/photos/cats/tom.jpg', labels=(0,)))
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = self._file.num_record_batches
        last = self._file.get_batch(batches - 1).num_rows if batches else 0
        self._length: int = max(batches - 1, 0) * _ROWS + last
        self._held: tuple[int, dict[str, list[Any]]] | None = None

    @staticmethod
    def write(path: Path, listing: Listing) -> ImageList:
        """Puts a listing into a file, whole or not at all.

        Images are not looked at: one that is missing is noticed when it is loaded.

        Args:
            path: The file to write.
            listing: From `list_dataset`; it is gone through.

        Raises:
            DatasetError: It names no image, or two of one name, or is broken.
            OutputError: The file cannot be written.
        """
        digests: list[np.ndarray] = []
        with (
            atomic_write(path, binary=True) as file,
            pa.ipc.new_file(file, _SCHEMA) as writer,
        ):
            entries = iter(listing.entries)
            while part := list(islice(entries, _ROWS)):
                digests.append(np.array([_digest(entry.name) for entry in part], np.uint64))
                writer.write_batch(_batch(listing, part))
        if not digests:
            path.unlink()
            raise DatasetError(f"{listing.source}: names no images")
        images = ImageList(path)
        twice = _repeated(np.concatenate(digests), images)
        if twice is not None:
            path.unlink()
            places = " and ".join(str(image.path) for image in twice)
            raise DatasetError(
                f"{listing.source}: names two images {twice[0].name!r}: {places} (an extension is "
                "no part of a name)"
            )
        return images

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> ListedImage: ...
    @overload
    def __getitem__(self, index: slice) -> list[ListedImage]: ...

    def __getitem__(self, index: int | slice) -> ListedImage | list[ListedImage]:
        """An image, or several of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        number, row = divmod(index % self._length, _ROWS)
        held = self._held  # once: other threads may change it
        if held is None or held[0] != number:
            self._held = held = number, self._file.get_batch(number).to_pydict()
        columns = held[1]
        place, member = columns["place"][row], columns["member"][row]
        path = place
        if member is not None:
            path = TarMember(place, member, columns["offset"][row], columns["size"][row])
        return ListedImage(columns["name"][row], path, tuple(columns["labels"][row]))

    def __iter__(self) -> Iterator[ListedImage]:
        return (self[i] for i in range(self._length))

    def __reduce__(self) -> tuple[type[ImageList], tuple[Path]]:
        return type(self), (self.path,)

    def digest(self) -> str:
        """A hash of all that the list says, equal for equal lists."""
        found = hashlib.sha256()
        for number in range(self._file.num_record_batches):
            found.update(repr(self._file.get_batch(number).to_pydict()).encode())
        return found.hexdigest()[:16]


@contextmanager
def list_images(source: str | os.PathLike[str], *, split: str | None = None) -> Iterator[ImageList]:
    """A list of a source's images without their labels, in a temporary file.

    Args:
        source: As `list_dataset` takes it.
        split: Part of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        listing = list_dataset(source, split=split, tags=False)
        yield ImageList.write(Path(folder) / "images.arrow", listing)


def _batch(listing: Listing, entries: Sequence[Entry]) -> pa.RecordBatch:
    rows = []
    for entry in entries:
        row: dict[str, Any] = {"name": entry.name, "labels": listing.tags(entry)}
        if isinstance(entry.path, TarMember):
            place, member, offset, size = entry.path
            row |= {"place": place, "member": member, "offset": offset, "size": size}
        else:
            row["place"] = place_of(entry.path)
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, _SCHEMA)


def _repeated(digests: np.ndarray, images: ImageList) -> tuple[ListedImage, ListedImage] | None:
    """Two images of one name: digests take 8 bytes an image, a set of names a hundred."""
    order = np.argsort(digests, kind="stable")
    ranked = digests[order]
    for at in np.flatnonzero(ranked[1:] == ranked[:-1]):
        first, second = images[int(order[at])], images[int(order[at + 1])]
        if first.name == second.name:
            return first, second
    return None


def _digest(name: str) -> int:
    data = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
