import pytest
from tiny_cascade import one_thread

from labelpenet.data import write_scenes

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("icn") / "scenes"
    write_scenes(folder, 6, seed=1, test_count=3, size=(64, 64))  # which have masks
    return folder
