"""A file inside a tar archive, read by its place there."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple

from labelpenet.data.locations import located

_URL = "tar://"


class TarMember(NamedTuple):
    """A file of an uncompressed tar archive.

    Attributes:
        archive: Its path or URL.
        member: The file's name in it, for messages.
        offset: Of its first byte in the archive.
        size: In bytes; below 0 where there is no such file, and `member` says why.
    """

    archive: str
    member: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes of the file.

        Raises:
            OSError: The archive cannot be read, or is shorter than it was.
        """
        if self.size < 0:  # of an archive that could not be listed to its end
            raise OSError(f"{self.archive}: {self.member}")
        with located(self.archive).open("rb") as file:
            file.seek(self.offset)
            data: bytes = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"{self.archive} ends within {self.member}")
        return data

    def __str__(self) -> str:
        """A URL that fsspec opens."""
        return f"{_URL}{self.member}::{self.archive}"


def member_of(source: str) -> tuple[str, str]:
    """The name of a file in an archive and the archive, of the text of a TarMember.

    Of any other text it is that text, and nothing.

    Example:
        >>> member_of(str(TarMember("x.tar", "a/b.png", 0, 9))), member_of("c.png")
        (('a/b.png', 'x.tar'), ('c.png', ''))
    """
    if not source.startswith(_URL):
        return source, ""
    name, _, archive = source.removeprefix(_URL).partition("::")
    return name, archive


def source_suffix(source: str) -> str:
    """The suffix of an image file, named by its path, its URL or the text of a TarMember.

    Example:
        >>> source_suffix("photos/a.jpg"), source_suffix(str(TarMember("x.tar", "a.png", 0, 9)))
        ('.jpg', '.png')
    """
    return PurePosixPath(member_of(source)[0]).suffix
