"""kill -9 at any moment, then the same command: the store is that of an uninterrupted run."""

import multiprocessing
import os
import random
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from labeling.killed_job import COUNT, job
from labeling.scenes import files, listing

import labelpenet

KILLS = 20


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Starts a job in a process that a clean server forks, so that it does not import anew."""
    paths = (Path(labelpenet.__file__).parents[1], Path(__file__).parents[1])
    # the server does not get sys.path before Python 3.13, and would do without the module
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    monkeypatch.chdir(tmp_path)  # it would find a checkout's sources before the installed package
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["labeling.killed_job"])

    def call(*arguments) -> int:
        process = context.Process(target=job, args=arguments)
        process.start()
        process.join()
        return process.exitcode

    return call


@pytest.mark.timeout(900)
def test_twenty_kills(start, tmp_path):
    listing(tmp_path / "photos", COUNT)
    assert start(tmp_path / "photos", tmp_path / "whole", -1, tmp_path / "calls") == 0
    whole = files(tmp_path / "whole")
    calls = int((tmp_path / "calls").read_text())
    dice = random.Random(7)
    kills, jobs, moments = 0, 0, set()
    while kills < KILLS:
        out = tmp_path / f"out{jobs}"
        status = start(tmp_path / "photos", out, dice.randrange(1, calls))
        assert status in (0, -signal.SIGKILL)
        if status:
            kills += 1
            shards = sorted((out / "labels").glob("*.parquet"))
            moments.add(len(shards))
            for shard in shards:  # none is torn
                assert shard.read_bytes() == whole[f"labels/{shard.name}"]
            continue
        jobs += 1
        assert files(out) == whole
    assert start(tmp_path / "photos", out, -1) == 0
    assert files(out) == whole
    rows = [r for s in sorted((out / "labels").iterdir()) for r in pq.read_table(s).to_pylist()]
    assert [row["image"] for row in rows] == [f"a/{i:02}" for i in range(COUNT)]
    assert len(moments) > 1  # kills early and late
