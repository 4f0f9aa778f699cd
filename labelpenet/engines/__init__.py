"""Running the same work on many tasks: in this process, in several, or on a Ray cluster.

Work is an object that travels to where it is done. `start` is called once there, loads what takes
long, such as a network, and returns the function that does one task. Tasks are independent of each
other; a task whose worker died is done again, so doing one twice must do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Work(Protocol[R_co]):
    """What is to be done; it and its results can be pickled."""

    def start(self) -> Callable[[int], R_co]:
        """Called once in every worker; returns the function that does a task."""
        ...


class Engine(str, Enum):
    """Where work is done: on this machine, or on the machines of a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class Workers:
    """How many workers there are, and what each of them has.

    Attributes:
        count: Of them; one of the local engine is this very process.
        device: Of each; `cuda` with several of the local engine is one device after another.
        threads: Of each, for the kernels; None shares the cores among them.
    """

    count: int = 1
    device: str = "cpu"
    threads: int | None = None


ONE = Workers()


class WorkerDied(RuntimeError):
    """A worker ended without a word while it did a task: killed, or crashed."""


def run(
    work: Work[R],
    tasks: Sequence[int],
    *,
    engine: Engine = Engine.LOCAL,
    workers: Workers = ONE,
    stopped: Callable[[], bool] = lambda: False,
    blamed: Callable[[int], int] = lambda task: 0,
) -> Generator[tuple[int, R], None, None]:
    """Does every task once and yields (task, result) as they are finished, in any order.

    Args:
        work: What to do.
        tasks: Numbers of the tasks.
        engine: Where.
        workers: By how many.
        stopped: Asked before a task is begun; once it says yes, those under way are finished.
        blamed: Asked for a task over which a worker died: how much the work has found that kills
            workers, and will leave out. Only deaths that do not add to it are counted against
            the task.

    Raises:
        ValueError: `workers.count` is below 1, or Ray is asked for and not installed.
        WorkerDied: Workers die over the same task again and again.
        Exception: What a task or `start` raised.

    Example:
        >>> class Squares:
        ...     def start(self):
        ...         return lambda task: task * task
        >>> sorted(run(Squares(), [3, 4]))
        [(3, 9), (4, 16)]
    """
    if workers.count < 1:
        raise ValueError(f"workers: expected at least 1, got {workers.count}")
    if engine is Engine.RAY:
        from labelpenet.engines.ray import run_on_ray

        yield from run_on_ray(work, tasks, workers, stopped)
        return
    from labelpenet.engines.local import run_here, run_in_processes

    if workers.count == 1:
        yield from run_here(work, tasks, stopped)
    else:
        yield from run_in_processes(work, tasks, workers, stopped, blamed)
