"""The Ray engine on a cluster of this machine: same rows, whoever dies."""

import os
import warnings
from pathlib import Path

import pytest
from engines.works import Squares
from labeling.scenes import FakeLabeler, files, listing

import labelpenet
from labelpenet.engines import Engine, Workers, run
from labelpenet.labeling.runner import Options, label_images

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ray = pytest.importorskip("ray", reason="ray is not installed (extra `ray`)")
    pytest.importorskip("ray.data", reason="ray.data is not installed (extra `ray`)")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # those of Ray
]
TWO = Workers(2)


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    paths = [str(Path(labelpenet.__file__).parents[1]), str(Path(__file__).resolve().parents[1])]
    environment = {"PYTHONPATH": os.pathsep.join(paths)}
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default they are last in the queue
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
        _temp_dir=str(tmp_path_factory.mktemp("ray"))[:40],
    )
    yield
    ray.shutdown()


def test_a_worker_that_dies_is_replaced(tmp_path):
    work = Squares(tmp_path, dies_at=8)
    found = sorted(run(work, [5, 3, 8, 1], engine=Engine.RAY, workers=TWO))
    assert found == [(1, 1), (3, 9), (5, 25), (8, 64)]
    assert (tmp_path / "death-8-0").exists()


def test_same_rows_as_the_local_engine(tmp_path):
    photos = listing(tmp_path / "photos", 12)
    for name, engine in (("local", Engine.LOCAL), ("ray", Engine.RAY)):
        options = Options(engine=engine, workers=TWO if name == "ray" else Workers(), shard_size=3)
        make = FakeLabeler(tmp_path / "deaths" if name == "ray" else None)
        summary = label_images(
            make, photos(), tmp_path / name, job={"name": "test"}, options=options
        )
        assert (summary.images, summary.errors) == (12, 0)
    assert (tmp_path / "deaths").exists()  # a worker was killed
    ours, theirs = files(tmp_path / "local"), files(tmp_path / "ray")
    assert sorted(ours) == sorted(theirs)
    assert ours == theirs
