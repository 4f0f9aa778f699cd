"""A job of a few photos."""

import multiprocessing
import os
from pathlib import Path

import pytest
from labeling.scenes import JOB, FakeLabeler, listing

import labelpenet
from labelpenet.labeling.runner import Options, label_images


@pytest.fixture
def photos(tmp_path):
    return listing(tmp_path / "photos")


@pytest.fixture
def run(photos):
    def call(out, make=None, source=None, job=JOB, console=None, **options):
        options = {"shard_size": 2} | options
        make = FakeLabeler() if make is None else make
        return label_images(
            make, source or photos(), out, job=job, options=Options(**options), console=console
        )

    return call


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Calls a function in a process that a clean server forks, so that it does not import anew."""
    paths = (Path(labelpenet.__file__).parents[1], Path(__file__).parents[1])
    # the server does not get sys.path before Python 3.13, and would do without the modules
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    monkeypatch.chdir(tmp_path)  # it would find a checkout's sources before the installed package
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["labeling.killed_job", "labeling.deadly_job"])

    def call(function, *arguments) -> int:
        process = context.Process(target=function, args=arguments)
        process.start()
        process.join()
        return process.exitcode

    return call
