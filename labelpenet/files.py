"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

if sys.platform != "win32":  # where two jobs in one folder are then not noticed
    import fcntl


class OutputError(OSError):
    """A file or folder of the output could not be written; the message names it."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into an OutputError that names `path`."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(error.errno, f"cannot write {path}: {reason}") from error


@contextmanager
def atomic_write(
    path: Path, *, binary: bool = False, temporary: Path | None = None
) -> Iterator[IO[Any]]:
    r"""Opens a temporary neighbour of `path` that takes its place when the block succeeds.

    Text is UTF-8 with "\n" line ends. When the block raises, `path` stays as it was.

    Args:
        path: What to write.
        binary: Bytes in place of text.
        temporary: The neighbour; None is one fixed name, so that a killed run leaves one stray.

    Raises:
        OutputError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_write(path) as file:
        ...     _ = file.write("done")
        >>> path.read_text()
        'done'
    """
    temporary = path.with_name(f".{path.name}.tmp") if temporary is None else temporary
    with writing(path):
        # newline="" writes "\n" as it is
        text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "newline": ""}
        try:
            with open(temporary, "wb" if binary else "w", **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it for this process; a crash lets go of it too.

    Raises:
        OutputError: Another process holds it, or it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY) if sys.platform != "win32" else None
    try:
        if sys.platform != "win32" and handle is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(f"{folder}: another job is writing into this folder") from None
            except OSError:  # a file system without locks
                pass
        yield
    finally:
        if handle is not None:
            os.close(handle)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Writes a list of names as UTF-8, one per line; line breaks inside a name become spaces.

    Makes the folders on the way.

    Raises:
        OutputError: The file cannot be written.
    """
    text = "".join(" ".join(line.splitlines()) + "\n" for line in lines)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "replace"))
