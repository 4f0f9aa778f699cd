"""Progress bars, one way for the whole package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


def track(
    items: Iterable[T], title: str, total: int, console: Console | None, *, done: int = 0
) -> Iterator[T]:
    """Yields the items behind a bar with count, time spent and time left.

    On a console that is no terminal (a log file), one line stands at the end instead of a bar.

    Args:
        items: What to go through.
        title: What stands before the bar.
        total: Where the bar ends.
        console: Where it goes (the command line's is stderr); None is silent.
        done: How much of `total` an earlier run did; the items are the rest.

    Example:
        >>> sum(track(range(4), "numbers", 4, None))
        6
    """
    if console is None:
        yield from items
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as bar:
        task = bar.add_task(title, total=total, completed=done)
        for item in items:
            yield item
            bar.advance(task)
