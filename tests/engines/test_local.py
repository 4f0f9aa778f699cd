"""The local engine: in this process, and in several."""

import os
import signal
import subprocess
import sys

import pytest
from engines.works import Squares

from labelpenet.engines import Workers, run

TASKS = [5, 3, 8, 1]
TWO = Workers(2, threads=1)


def test_one_worker_is_this_process(tmp_path):
    assert list(run(Squares(tmp_path), TASKS)) == [(task, task * task) for task in TASKS]
    assert [path.name for path in tmp_path.iterdir()] == [f"start-{os.getpid()}"]


def test_nothing_to_do_starts_nothing(tmp_path):
    assert list(run(Squares(tmp_path), [])) == []
    assert list(run(Squares(tmp_path), [], workers=TWO)) == []
    assert not list(tmp_path.iterdir())


def test_several_workers(tmp_path):
    assert sorted(run(Squares(tmp_path), TASKS, workers=TWO)) == [
        (task, task * task) for task in sorted(TASKS)
    ]
    started = {path.name for path in tmp_path.iterdir()}
    assert f"start-{os.getpid()}" not in started
    assert 1 <= len(started) <= 2


def test_a_worker_that_dies_is_replaced(tmp_path):
    found = sorted(run(Squares(tmp_path, dies_at=8, deaths=2), TASKS, workers=TWO))
    assert found == [(task, task * task) for task in sorted(TASKS)]
    assert len(list(tmp_path.glob("death-8-*"))) == 2


def test_what_a_task_raises_arrives(tmp_path):
    with pytest.raises(LookupError, match="task 3"):
        list(run(Squares(tmp_path, fails_at=3), TASKS))
    with pytest.raises(LookupError, match="task 3"):
        list(run(Squares(tmp_path, fails_at=3), TASKS, workers=TWO))


def test_stopping_begins_no_more_tasks(tmp_path):
    done = []
    for task, _ in run(Squares(tmp_path), TASKS, stopped=lambda: len(done) == 2):
        done.append(task)
    assert done == TASKS[:2]


def test_no_workers(tmp_path):
    with pytest.raises(ValueError, match="workers: expected at least 1, got 0"):
        list(run(Squares(tmp_path), TASKS, workers=Workers(0)))


POOL = """
import multiprocessing, os, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
from labelpenet.engines.local import end_with_parent
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_of_a_pool_ends_with_its_parent(tmp_path):
    """Its output is the worker's too and ends with it: a worker that stays is a test that hangs."""
    (tmp_path / "pool.py").write_text(POOL)
    ended = subprocess.run([sys.executable, tmp_path / "pool.py"], stdout=subprocess.PIPE)
    assert ended.returncode == -signal.SIGKILL
    assert int(ended.stdout) > 0
