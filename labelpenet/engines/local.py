"""Work in this process, or in several of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from labelpenet.engines import Work, WorkerDied, Workers

R = TypeVar("R")
_MOST_DEATHS = 16  # over one task, without a cause that the work will leave out


def run_here(
    work: Work[R], tasks: Sequence[int], stopped: Callable[[], bool]
) -> Iterator[tuple[int, R]]:
    """One task after another, in this process."""
    if not tasks or stopped():
        return
    do = work.start()
    for task in tasks:
        if stopped():
            return
        yield task, do(task)


def run_in_processes(
    work: Work[R],
    tasks: Sequence[int],
    workers: Workers,
    stopped: Callable[[], bool],
    blamed: Callable[[int], int],
) -> Iterator[tuple[int, R]]:
    """Each process takes the next task when it is done with one; one that dies is replaced."""
    waiting, deaths, causes = deque(tasks), Counter[int](), Counter[int]()
    pool: list[_Process[R]] = []

    def give_out() -> None:
        """A task for everyone who has none, as long as there are any."""
        for process in pool:
            if process.task is None and waiting and not stopped():
                process.give(waiting.popleft())

    try:
        count = min(workers.count, len(waiting))
        pool += [_Process(work, number, workers) for number in range(count)]
        give_out()
        while any(process.task is not None for process in pool):
            for process in _ready(pool):
                task = process.task
                assert task is not None
                try:
                    result = process.take()
                except EOFError:
                    before, causes[task] = causes[task], blamed(task)
                    deaths[task] += causes[task] <= before
                    if deaths[task] > _MOST_DEATHS:
                        raise WorkerDied(
                            f"task {task}: {deaths[task]} workers died over it, the last one "
                            f"{process.ending()}"
                        ) from None
                    waiting.appendleft(task)
                    process.replace()
                else:
                    yield task, result
            give_out()
        for process in pool:
            process.dismiss()
    finally:
        for process in pool:
            process.end()


class _Process(Generic[R]):
    """A worker process and the pipe to it."""

    def __init__(self, work: Work[R], number: int, workers: Workers) -> None:
        self.task: int | None = None
        self._arguments = (work, number, workers)
        self._context = multiprocessing.get_context("spawn")  # threads and CUDA do not survive fork
        self._begin()

    def _begin(self) -> None:
        self.pipe, theirs = self._context.Pipe()
        self._process: BaseProcess = self._context.Process(
            target=_serve, args=(*self._arguments, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def give(self, task: int) -> None:
        self.task = task
        with suppress(BrokenPipeError):  # it died; `take` notices
            self.pipe.send(task)

    def take(self) -> R:
        """The result of its task; EOFError where it died."""
        try:
            good, value = self.pipe.recv()
        except (ConnectionResetError, BrokenPipeError):
            raise EOFError from None
        self.task = None
        if not good:
            raise value
        result: R = value
        return result

    def replace(self) -> None:
        self.end()
        self.task = None
        self._begin()

    def ending(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"

    def dismiss(self) -> None:
        with suppress(OSError):
            self.pipe.send(None)
        self._process.join(10)

    def end(self) -> None:
        self.pipe.close()
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()


def _ready(pool: Sequence[_Process[R]]) -> list[_Process[R]]:
    """Those with a result, or dead: the pipe of a dead one is at its end."""
    busy: dict[Any, _Process[R]] = {p.pipe: p for p in pool if p.task is not None}
    return [busy[pipe] for pipe in wait(list(busy))]


def _serve(work: Work[Any], number: int, workers: Workers, pipe: Connection) -> None:
    """What a worker process does until it is dismissed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    end_with_parent()
    prepare_worker(workers, number)
    do: Callable[[int], Any] | None = None
    with suppress(EOFError, OSError):
        while (task := pipe.recv()) is not None:
            try:
                do = do or work.start()
                answer = (True, do(task))
            except BaseException as error:
                answer = (False, error)
            _send(pipe, answer)


def _send(pipe: Connection, answer: tuple[bool, Any]) -> None:
    try:
        pipe.send(answer)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        pipe.send((False, RuntimeError(f"{answer[1]!r:.500} cannot be sent: {error}")))


def end_with_parent() -> None:
    """In a worker process: one that outlived its parent would write beside the next run."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def prepare_worker(workers: Workers, number: int) -> None:
    """Threads and device of a worker process."""
    import torch

    torch.set_num_threads(workers.threads or max(1, (os.cpu_count() or 1) // workers.count))
    if workers.device == "cuda" and torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
