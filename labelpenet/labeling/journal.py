"""The journal of a labelling job: one JSON line per finished image, appended as it comes."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from labelpenet.files import OutputError, writing

if sys.platform != "win32":
    import fcntl


class Journal:
    """Finished images on disk, found again by key; only their offsets are held in memory.

    Opening creates the file or reads the one that an unfinished job left. A line that a crash
    tore is dropped, so its image is simply done again. Lines reach the operating system one by
    one, and so survive the end of the process; a power failure may take the last seconds.

    Args:
        path: The journal file.
        header: What identifies the job; its first line.

    Raises:
        ValueError: The journal is of another job.
        OutputError: It cannot be written, or another process is writing it.
    """

    def __init__(self, path: Path, header: dict[str, Any]):
        self.path = path
        self._offsets: dict[str, int] = {}
        with writing(path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 (closed in close())
            try:
                self._lock()
                self._end = self._scan(header)
                if self._end == 0:
                    self._append_line({"header": header})
            except BaseException:
                self._file.close()
                raise

    def __contains__(self, key: str) -> bool:
        return key in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def append(self, key: str, value: dict[str, Any]) -> None:
        """Adds a finished image; a later line of the same key replaces an earlier one.

        Raises:
            OutputError: It cannot be written. The lines before stay readable.
        """
        with writing(self.path):
            offset = self._end
            self._append_line({"key": key, "value": value})
            self._offsets[key] = offset

    def read(self, key: str) -> dict[str, Any]:
        """The value of a key that the journal contains."""
        with open(self.path, "rb") as file:
            file.seek(self._offsets[key])
            value: dict[str, Any] = json.loads(file.readline())["value"]
        return value

    def close(self) -> None:
        """Closes the file and keeps it."""
        self._file.close()

    def remove(self) -> None:
        """Closes the file and deletes it: the job is done."""
        self._file.close()
        with writing(self.path):
            self.path.unlink(missing_ok=True)

    def _lock(self) -> None:
        if sys.platform != "win32":
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"{self.path}: another job is writing into this folder"
                raise OutputError(message) from None
            except OSError:  # a file system without locks
                pass

    def _scan(self, header: dict[str, Any]) -> int:
        """Fills the offsets from the file; returns the end of its last whole line."""
        end = 0
        with open(self.path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                row = _parse(line)
                if end == 0 and row.get("header") != header:
                    raise ValueError(
                        f"{self.path}: expected the journal of this job, got one of a job with "
                        "other classes or settings; finish that one, remove the file, or choose "
                        "another folder"
                    )
                if isinstance(row.get("key"), str) and isinstance(row.get("value"), dict):
                    self._offsets[row["key"]] = end
                end += len(line)
        self._file.truncate(end)
        return end

    def _append_line(self, row: dict[str, Any]) -> None:
        data = memoryview(json.dumps(row, allow_nan=False).encode("ascii") + b"\n")
        end = self._end + len(data)
        try:
            while data:
                data = data[os.write(self._file.fileno(), data) :]
        except BaseException:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise
        self._end = end


def _parse(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
