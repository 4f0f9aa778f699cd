"""Dense CRF of the label maps of one photo, ten iterations, the usual settings."""

import numpy as np
import torch

from . import scenes
from .cases import Case, Peer, adapt, find, small
from .compare import near

POTENTIALS = {"gaussian": (3, 0, 3), "bilateral": (80, 13, 10)}  # sxy, srgb, compat


def _inputs(maps, labels, height=375, width=500):
    """Unary energies of soft blobs, [maps, labels, height, width]."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(maps, labels, 5, 7, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return scenes.photo(height, width), -torch.log_softmax(2 * smooth, dim=1)


def _pydensecrf(crf_class):
    def refine(image, unary):
        """A lattice for every map, as the package has it: a crf holds one map."""
        pixels = np.ascontiguousarray(image.numpy())
        refined = []
        for one in unary.numpy():
            crf = crf_class(pixels.shape[1], pixels.shape[0], one.shape[0])
            crf.setUnaryEnergy(np.ascontiguousarray(one.reshape(one.shape[0], -1)))
            sxy, _, compat = POTENTIALS["gaussian"]
            crf.addPairwiseGaussian(sxy=sxy, compat=compat)
            sxy, srgb, compat = POTENTIALS["bilateral"]
            crf.addPairwiseBilateral(sxy=sxy, srgb=srgb, rgbim=pixels, compat=compat)
            refined.append(np.array(crf.inference(10)).reshape(one.shape))
        return torch.from_numpy(np.stack(refined))

    return refine


def _lattice(reference):
    potentials = list(POTENTIALS.values())
    return lambda image, unary: reference(image.numpy(), unary.numpy(), potentials)


def case(maps, labels, height=375, width=500):
    """Label maps of one photo."""
    return Case(
        op="dense_crf",
        name=f"{maps} maps of {labels} labels, {height} x {width}",
        inputs=lambda: _inputs(maps, labels, height, width),
        check_inputs=lambda: _inputs(2, 3, 24, 32),
        ours=find("labelpenet.ops", "dense_crf"),
        reference=adapt(find("labelpenet.reference.dense_crf", "dense_crf_lattice"), _lattice),
        peer=Peer("pydensecrf", adapt(find("pydensecrf.densecrf", "DenseCRF2D"), _pydensecrf)),
        compare=lambda got, want: near(got, want, 1e-2),
    )


CASES = [
    small(case(1, 2), "2 maps of 3 labels, 24 x 32"),
    *(case(maps, labels) for maps, labels in ((1, 2), (10, 2), (1, 21))),
]


def test_dense_crf(case, column, measure):
    measure(case, column)
