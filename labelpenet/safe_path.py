"""Paths that a stranger may have written: relative, and staying in their folder."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from labelpenet.files import writing

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # the latter: bytes that are no UTF-8


def safe_path(text: str) -> PurePosixPath:
    r"""The path that `text` stands for, below whatever folder it is joined to.

    Links are followed: who can make them needs no list to reach a file.

    Args:
        text: The path; `\` separates like `/`, as lists written on Windows have it.

    Raises:
        ValueError: The path is empty, absolute, climbs with `..`, or holds control characters.

    Example:
        >>> str(safe_path("photos/./cat.jpg"))
        'photos/cat.jpg'
        >>> safe_path("../secret.jpg")
        Traceback (most recent call last):
        ValueError: '../secret.jpg' leaves its folder
    """
    path = PurePosixPath(text.replace("\\", "/"))
    if not path.parts:
        raise ValueError(f"expected the path of an image, got {text!r}")
    if path.is_absolute() or re.match(r"[A-Za-z]:", text):
        raise ValueError(f"{text!r} is absolute, expected a path below the list's folder")
    if ".." in path.parts:
        raise ValueError(f"{text!r} leaves its folder")
    if _UNPRINTABLE.search(text):
        raise ValueError(f"{text!r} holds control characters or is not UTF-8")
    return path


def check_image_name(name: str) -> None:
    """Raises ValueError unless `name` is a plain relative path, with which files may be named.

    Stricter than `safe_path`: no empty or `.` parts, so that two names never mean one file, and
    nothing that Windows takes for a drive, so that a folder written here is safe to unpack there.

    Example:
        >>> check_image_name("a/b")
        >>> check_image_name("../b")
        Traceback (most recent call last):
        ValueError: image name: expected a relative path inside the folder, got '../b'
    """
    try:
        plain = str(safe_path(name)) == name.replace("\\", "/")
    except ValueError:
        plain = False
    if not plain or PureWindowsPath(name).drive:
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
