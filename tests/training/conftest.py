"""What every test here uses."""

import pytest
from tiny_cascade import one_thread, scene_data, tiny_config

from labelpenet.data import write_scenes
from labelpenet.training.trainer import Trainer

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Six scenes and their proposals."""
    folder = tmp_path_factory.mktemp("training")
    write_scenes(folder / "scenes", 6, seed=1, test_count=0, size=(64, 64))
    return scene_data(folder / "scenes", tiny_config())


@pytest.fixture(scope="session")
def config():
    return tiny_config()


@pytest.fixture(scope="session")
def trained(tmp_path_factory, config, data):
    """A run from start to end."""
    out = tmp_path_factory.mktemp("run")
    Trainer(config, *data, out).run()
    return out
