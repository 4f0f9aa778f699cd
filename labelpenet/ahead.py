"""Work on what comes next while the present one is in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    count: int,
) -> Generator[Result, None, None]:
    """The results in order, of which up to `count` are worked on before they are asked for.

    Closed early, it cancels what has not begun.

    Example:
        >>> with ThreadPoolExecutor(2) as pool:
        ...     list(ahead(pool, abs, [-1, 2, -3], 1))
        [1, 2, 3]
    """
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > count:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
