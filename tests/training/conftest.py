"""What every test here uses."""

import pytest
from tiny_cascade import one_thread, scene_data, tiny_config

from labelpenet.data import write_scenes

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Six scenes and their proposals."""
    folder = tmp_path_factory.mktemp("training")
    write_scenes(folder / "scenes", 6, seed=1, test_count=0, size=(64, 64))
    return scene_data(folder / "scenes", tiny_config())
