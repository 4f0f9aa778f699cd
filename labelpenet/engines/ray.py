"""Work by actors of a Ray cluster, handed out by Ray Data."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from labelpenet.engines import Work, Workers

R = TypeVar("R")


def run_on_ray(
    work: Work[R], tasks: Sequence[int], workers: Workers, stopped: Callable[[], bool]
) -> Iterator[tuple[int, R]]:
    """An actor per GPU or CPU slot; Ray starts a dead one again and repeats its task.

    The cluster is the one that `ray.init` finds (RAY_ADDRESS), else one of this machine alone. The
    files that work reads and writes must lie where all machines see them.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        hint = "pip install 'labelpenet[ray]'"
        raise ValueError(f"engine: ray is not installed ({hint}): {error}") from error

    if not tasks or stopped():
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False

    class Actor:
        def __init__(self) -> None:
            import torch

            torch.set_num_threads(workers.threads or 1)
            self.do = work.start()

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            results = [pickle.dumps((int(task), self.do(int(task)))) for task in batch["task"]]
            return {"result": results}

    rows = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=len(tasks))
    done = rows.map_batches(
        Actor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers.count, len(tasks))),
        num_cpus=workers.threads or 1,
        num_gpus=1 if workers.device.startswith("cuda") else 0,
    )
    for row in done.iter_rows():
        yield pickle.loads(row["result"])  # of our own actors
        if stopped():
            return
