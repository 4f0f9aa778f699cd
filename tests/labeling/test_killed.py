"""kill -9 at any moment, then the same command: the store is that of an uninterrupted run."""

import random
import signal

import pyarrow.parquet as pq
import pytest
from labeling.killed_job import COUNT, job
from labeling.scenes import files, listing

KILLS = 20


@pytest.mark.timeout(900)
def test_twenty_kills(start, tmp_path):
    listing(tmp_path / "photos", COUNT)
    assert start(job, tmp_path / "photos", tmp_path / "whole", -1, tmp_path / "calls") == 0
    whole = files(tmp_path / "whole")
    calls = int((tmp_path / "calls").read_text())
    dice = random.Random(7)
    kills, jobs, moments = 0, 0, set()
    while kills < KILLS:
        out = tmp_path / f"out{jobs}"
        status = start(job, tmp_path / "photos", out, dice.randrange(1, calls))
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
    assert start(job, tmp_path / "photos", out, -1) == 0
    assert files(out) == whole
    rows = [r for s in sorted((out / "labels").iterdir()) for r in pq.read_table(s).to_pylist()]
    assert [row["image"] for row in rows] == [f"a/{i:02}" for i in range(COUNT)]
    assert len(moments) > 1  # kills early and late
