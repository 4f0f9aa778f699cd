"""Labels from a CUDA device, or from one that is not there: those of the CPU."""

import numpy as np
import pytest
import torch
from pretend_device import is_pretended, pretend_device
from tiny_cascade import CLASS_MAPS, one_thread, random_cascade

from labelpenet import Labeler
from labelpenet.models.cascade import save_checkpoint
from labelpenet.types import Labelling

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return pixels.repeat(8, 0).repeat(8, 1)


def flat(found: Labelling) -> list[torch.Tensor]:
    """All tensors of a labelling."""
    one = found.instances
    tensors = [one.boxes, one.labels, one.scores, one.masks, *vars(one.quality).values()]
    return [*tensors, *found.maps.values(), *([] if found.presence is None else [found.presence])]


@pytest.mark.parametrize("module", [1, 2, 3, 4])
@pytest.mark.parametrize("settings", [(), CLASS_MAPS, (*CLASS_MAPS, "train.precision=bf16")])
def test_as_on_the_cpu(module, settings, device, photo, tmp_path):
    path = tmp_path / "module4.pt"
    save_checkpoint(path, random_cascade(*settings), 4)
    answers = []
    for where in ("cpu", str(device)):
        labeler = Labeler(path, where, module=module).with_trace({""})
        assert labeler.predictor.device == torch.device(where)
        answers.append(labeler.label([photo, photo], [["disk", "star"], None]))
    for here, there in zip(*answers, strict=True):
        assert len(there.instances)
        assert all(type(one) is torch.Tensor and not one.is_cuda for one in flat(there))
        if is_pretended(device) and "train.precision=bf16" not in settings:  # whose lists differ
            pairs = zip(flat(here), flat(there), strict=True)
            assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def test_kernels_built_without_cuda_are_told_at_the_door(photo, tmp_path, monkeypatch):
    path = tmp_path / "module1.pt"
    save_checkpoint(path, random_cascade(), 1)
    with pretend_device():
        monkeypatch.setattr("labelpenet.labeler.without_cuda", lambda: "no nvcc found")
        with pytest.raises(ValueError, match=r"built without CUDA \(no nvcc found\); where nvcc"):
            Labeler(path, "cuda")
