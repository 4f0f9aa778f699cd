"""Ctrl-C during a long job: the first one asks it to end well, the second one ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console


@contextmanager
def interruptible(console: Console | None) -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether there was a first SIGINT; a second raises as usual.

    In another thread than the main one, where signals do not come, it always says no.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        if console is not None:
            console.print("[yellow]finishing the shards in hand; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
