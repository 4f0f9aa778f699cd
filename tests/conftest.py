"""Fixtures and settings of every test."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from filelock import FileLock  # which torch brings
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine fails no test
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("LABELPENET_SHARED", ROOT.parent / "shared"))


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device")
        for item in items:
            if item.get_closest_marker("cuda"):  # not a folder of that name
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photos and weights, where this machine has it."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED}: real photos and weights are not part of the project")
    return SHARED


@pytest.fixture(scope="session")
def emulated_module():
    """The CUDA kernels compiled for CPU fibers; built once, kept in build/emulation."""
    import pybind11

    build = ROOT / "build" / "emulation"
    configure = [
        "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DLABELPENET_CUDA=OFF",
        "-DLABELPENET_EMULATION=ON", f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
    ]  # fmt: skip
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    build.parent.mkdir(exist_ok=True)
    with FileLock(build.with_suffix(".lock")):  # another test run in this checkout may build too
        for command in (configure, ["cmake", "--build", str(build), "--target", "_C_emu"]):
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=1500
            )
            if done.returncode:
                pytest.fail(f"building the emulated kernels failed:\n{done.stdout}{done.stderr}")
    (library,) = build.glob("_C_emu*.so")
    spec = importlib.util.spec_from_file_location("_C_emu", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["0", "1", "7"], ids=["forward", "reverse", "random"])
def emulated(request, monkeypatch, emulated_module):
    """Makes labelpenet.ops run its CUDA kernels on CPU fibers, in three thread orders."""
    from labelpenet.ops import _extension

    monkeypatch.setenv("LABELPENET_EMULATION_ORDER", request.param)
    monkeypatch.setattr(_extension, "_active", emulated_module)
    return emulated_module


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request):
    """Runs the test once for every instruction set of this processor."""
    from labelpenet import _C

    try:
        _C.force_isa(request.param)
    except RuntimeError as error:
        pytest.skip(str(error))
    yield request.param
    _C.force_isa("")


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    """A CUDA device: one that is not there everywhere, the real one where there is one."""
    from pretend_device import pretend_device

    real = nullcontext(torch.device("cuda:0"))
    with pretend_device() if request.param == "pretended" else real as found:
        yield found
