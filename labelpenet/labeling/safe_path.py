"""Files named after images, which are untrusted, inside a folder that they must not leave."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from labelpenet.files import writing


def check_image_name(name: str) -> None:
    """Raises ValueError unless `name` is a plain relative path.

    Refused: `..` and empty parts, absolute paths and drives (with either slash, so that a file
    written here is safe to unpack anywhere), and control characters.

    Example:
        >>> check_image_name("a/b")
        >>> check_image_name("../b")
        Traceback (most recent call last):
        ...
        ValueError: image name: expected a relative path inside the folder, got '../b'
    """
    parts = re.split(r"[/\\]", name)
    if (
        any(part in ("", ".", "..") for part in parts)
        or PureWindowsPath(name).drive
        or re.search(r"[\x00-\x1f\x7f]", name)
    ):
        raise ValueError(f"image name: expected a relative path inside the folder, got {name!r}")


def make_file_path(folder: Path, name: str, suffix: str) -> Path:
    """The path of `name` + `suffix` in `folder`; makes the folders on the way.

    Raises:
        ValueError: The name leads out of the folder.
        OutputError: A folder cannot be made.
    """
    check_image_name(name)
    path = folder / (name + suffix)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Writes a list of names as UTF-8, one per line; line breaks inside a name become spaces.

    Raises:
        OutputError: The file cannot be written.
    """
    text = "".join(" ".join(line.splitlines()) + "\n" for line in lines)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "replace"))
