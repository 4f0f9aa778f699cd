"""Where files are: on this machine, or behind any URL that fsspec opens (s3://, gs://, http://)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from upath import UPath

AnyPath = Path | UPath
"""A local file as a Path, a remote one as a UPath; both have the methods of a Path."""


def is_url(source: object) -> bool:
    """Whether `source` is text such as `s3://bucket/photos`."""
    return isinstance(source, str) and "://" in source


def located(source: str | os.PathLike[str] | UPath) -> AnyPath:
    """The path of a source that a user named; `file://` is local.

    Raises:
        ValueError: A protocol that is unknown, or whose package is not installed.

    Example:
        >>> located("photos"), located("file:///data/my%20photos")
        (PosixPath('photos'), PosixPath('/data/my photos'))
        >>> str(located("memory://photos/a.jpg"))
        'memory://photos/a.jpg'
    """
    if not isinstance(source, str) or not is_url(source):
        return source if isinstance(source, UPath) else Path(source)
    if source.startswith("file://"):
        return Path(unquote(urlsplit(source).path))
    try:
        path = UPath(source)
        _ = path.fs  # imports the protocol's package, which a UPath alone leaves for later
    except ImportError as error:  # it names the package
        extra = " (pip install 'labelpenet[s3]')" if "s3://" in source else ""
        raise ValueError(f"{source}: cannot be opened: {error}{extra}") from None
    except ValueError as error:
        raise ValueError(f"{source}: cannot be opened: {error}") from None
    return path


def file_system(path: UPath) -> tuple[Any, str]:
    """Fsspec's file system of a remote path, and the path in it."""
    return path.fs, path.path


def listed(folder: AnyPath, pattern: str = "*") -> list[AnyPath]:
    """What lies in a folder under names of a pattern, sorted; nothing where there is no folder."""
    found: list[AnyPath] = [path for path in folder.glob(pattern)]
    return sorted(found, key=str)


def place_of(path: AnyPath) -> str:
    """Text that finds the file again from anywhere: an absolute path, or a URL.

    Example:
        >>> place_of(located("memory://photos/a.jpg"))
        'memory://photos/a.jpg'
    """
    return os.path.abspath(path) if isinstance(path, Path) else str(path)
