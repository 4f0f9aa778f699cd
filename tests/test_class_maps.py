"""Class maps: hand-worked places, views that agree, and what the rules make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_cascade import random_cascade

from labelpenet.class_maps import CELL, ClassMaps, class_maps
from labelpenet.config import ConfigError, load_config
from labelpenet.inference import Predictor
from labelpenet.models.backbones import Grid
from labelpenet.models.boxes import Frame
from labelpenet.models.classification import tag_loss
from labelpenet.ops import RegionMasks
from labelpenet.training.places import fit_places, seeds
from labelpenet.types import ImageRecord, Labelling
from labelpenet.whole_image import WholeImage

LOW = -20.0


def one_hot(height: int, width: int, y: int, x: int, classes: int = 2) -> torch.Tensor:
    cells = torch.full((classes, height, width), LOW)
    cells[1, y, x] = -LOW
    return cells


@pytest.mark.parametrize("offset", [0.0, 4.0])
def test_a_cell_lies_where_its_grid_says(offset):
    grid = Grid(8, offset)
    maps = class_maps([one_hot(4, 6, 2, 1)], [Frame((40, 56))], grid, (40, 56))
    assert maps.maps.shape == (2, 10, 14)
    assert maps.maps[0].max() < 1e-6
    rows, columns = torch.arange(10) + 0.5, torch.arange(14) + 0.5
    total = maps.maps[1].sum()
    centre_y = (maps.maps[1].sum(1) * rows).sum() / total * CELL
    centre_x = (maps.maps[1].sum(0) * columns).sum() / total * CELL
    assert float(centre_y) == pytest.approx(offset + 8 * 2 + 4)
    assert float(centre_x) == pytest.approx(offset + 8 * 1 + 4)


def test_views_are_laid_into_the_image_and_averaged():
    """Twice the size, and mirrored: the same place each time."""
    image, cell = (32, 64), (1, 5)
    plain = class_maps([one_hot(4, 8, *cell)], [Frame(image)], Grid(8), image)
    mirrored = one_hot(4, 8, 1, 8 - 1 - 5)
    flipped = class_maps([mirrored], [Frame(image, flipped=True)], Grid(8), image)
    torch.testing.assert_close(flipped.maps, plain.maps)
    doubled = one_hot(4, 8, *cell).repeat_interleave(2, 1).repeat_interleave(2, 2)
    large = class_maps([doubled], [Frame((64, 128), 2.0)], Grid(8), image)
    assert large.maps[1].argmax() in plain.maps[1].flatten().topk(4).indices
    both = class_maps(
        [one_hot(4, 8, *cell), mirrored],
        [Frame(image), Frame(image, flipped=True)],
        Grid(8),
        image,
    )
    torch.testing.assert_close(both.maps, plain.maps)
    # of the mean over 32 cells: (20 - 31 * 20) / 32
    assert both.probability.tolist() == pytest.approx(
        torch.sigmoid(torch.tensor([LOW, -600 / 32])).tolist()
    )


def test_the_box_around_the_object_fits_best():
    maps = torch.zeros(1, 10, 10)
    maps[0, 2:6, 3:8] = 0.8
    seen = ClassMaps(torch.ones(1), maps, (39, 38))
    boxes = torch.tensor([[12.0, 8, 32, 24], [12, 8, 20, 16], [0, 0, 38, 39]])
    fits = seen.fit(0, boxes, 1.0)
    # what is inside, over the box and the map less that
    assert fits.tolist() == pytest.approx([16 / 20, 3.2 / 16.8, 16 / 100], abs=1e-5)
    assert seen.at_full_size(0).shape == (39, 38)


def test_the_region_of_the_object_fits_best():
    """Against brute force on masks of random rectangles."""
    random = torch.Generator().manual_seed(0)
    seen = ClassMaps(torch.ones(1), torch.rand(1, 8, 12, generator=random), (30, 45))
    strength = seen.at_full_size(0) ** 1.5
    masks = torch.zeros(6, 30, 45, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[3 * i : 5 + 4 * i, 4 * i : 20 + 5 * i] = True
    counts, offsets = [], [0]
    for mask in masks:
        flat = torch.cat((torch.zeros(1, dtype=torch.bool), mask.T.flatten()))
        ends = torch.cat((flat.diff().nonzero().flatten(), torch.tensor([mask.numel()])))
        counts.append(ends.diff(prepend=torch.zeros(1, dtype=torch.int64)).int())
        offsets.append(offsets[-1] + len(counts[-1]))
    regions = RegionMasks(torch.cat(counts), torch.tensor(offsets), (30, 45))
    assert torch.equal(regions.mask(3), masks[3])
    fits = seen.fit_regions(0, regions, 1.5)
    expected = [float(strength[m].sum() / (m.sum() + strength[~m].sum())) for m in masks]
    assert fits.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_region_bounds_the_object():
    """A class map that says where, roughly; the region says how far it reaches."""
    image = np.full((80, 100, 3), 200, np.uint8)
    image[20:60, 30:70] = (30, 60, 90)
    overrides = ("train.tag_loss=1", "calibration.score=region", "proposals.min_side=8")
    predictor = Predictor(random_cascade(*overrides, "calibration.box=own"))
    rough = torch.zeros(3, 20, 25)
    rough[:, 4:16, 6:18] = 0.6  # 4 pixels too large on every side
    rough[:, 7:13, 10:15] = 1.0
    maps = ClassMaps(torch.ones(3), rough, (80, 100))
    predictor.whole.maps = lambda views, image, tags: maps
    boxes = np.array([[0, 0, 100, 80], [28, 16, 76, 66], [50, 0, 100, 40]], np.float32)
    (box,) = predictor(image, boxes, 1, (1,)).instances.boxes.tolist()
    assert box == pytest.approx([30, 20, 70, 60], abs=3)  # the search blurs an edge


def test_tag_loss_is_binary_cross_entropy():
    loss = tag_loss(torch.tensor([0.0, 2.0, -1.0]), (1,))
    expected = (np.log(2) + np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 3
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_cells_of_the_head_are_the_head_on_equal_cells():
    """A ROI of 49 equal cells and one cell of the whole-image classifier are the same to fc6."""
    module = random_cascade("train.tag_loss=1").classification.eval()
    column = torch.rand(1, module.fc.fc6.in_features // 49, 1, 1)
    hidden, _ = module.fc(column.expand(-1, -1, 7, 7))
    weight, bias = module.fc.as_cells()
    cell = torch.relu(torch.nn.functional.conv2d(column, weight, bias))
    torch.testing.assert_close(cell.flatten(), hidden.flatten(), rtol=1e-4, atol=1e-5)


RULES = ("train.tag_loss=1", "calibration.score=class_map", "calibration.combine=class_map")


@pytest.mark.parametrize("module", [2, 3])
def test_presence_lowers_scores(module):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 30, 30], [10, 10, 60, 40], [5, 20, 40, 48]], np.float32)
    scores = []
    for prior in (0, 1):
        cascade = random_cascade(
            *RULES,
            "detection.score_threshold=0.0",
            "detection.search_boxes=3",
            f"detection.image_prior={prior}",
        )
        found = Predictor(cascade)(image, boxes, module, None).instances
        assert found.masks is not None
        scores.append(float(found.scores.max()))
    assert scores[1] < scores[0]


@pytest.mark.parametrize("module", [2, 3])
def test_the_head_has_a_say_in_presence_where_tags_are_unknown(module):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 30, 30], [10, 10, 60, 40], [5, 20, 40, 48]], np.float32)
    found = {}
    for share in (0, 0.5, 1):
        cascade = random_cascade(
            *RULES,
            "detection.score_threshold=0.0",
            "detection.search_boxes=3",
            "detection.image_prior=1",
            "detection.mask_nms=1",
            "detection.limit=1000",
            f"detection.head_presence={share}",
        )
        predictor = Predictor(cascade)
        found[share] = predictor(image, boxes, module)
        tagged = predictor(image, boxes, module, (0, 2))
        assert tagged.presence is None
        first = found.setdefault("tagged", tagged)
        assert torch.equal(tagged.instances.scores, first.instances.scores)
    classifier = predictor(image, boxes, 1).presence
    assert torch.equal(found[0].presence, classifier)
    low, high = (torch.logit(found[share].presence) for share in (0, 1))
    torch.testing.assert_close(torch.logit(found[0.5].presence), (low + high) / 2)
    rest = [strengths(found[share]) for share in (0, 0.5, 1)]
    for label in set(rest[0]) & set(rest[1]) & set(rest[2]):
        assert [one[label] for one in rest] == pytest.approx([rest[0][label]] * 3, rel=1e-4)
    assert len(set(rest[0]) & set(rest[1]) & set(rest[2])) > 1


def strengths(found: Labelling) -> dict[int, float]:
    """The best score of each class, without how likely the class is."""
    best: dict[int, float] = {}
    for label, score in zip(
        found.instances.labels.tolist(), found.instances.scores.tolist(), strict=True
    ):
        best.setdefault(label, score / float(found.presence[label]))
    return best


@pytest.mark.parametrize("module", [1, 2, 3, 4])
@pytest.mark.parametrize("boxes", [0, 3])
def test_every_rule_at_once_on_any_number_of_boxes(module, boxes):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    searched = np.array([[0, 0, 30, 30], [10, 10, 60, 40], [5, 20, 40, 48]], np.float32)[:boxes]
    cascade = random_cascade(
        *RULES,
        "calibration.objects=3",
        "detection.map_weight=0.8",
        "detection.object_weight=0.1",
        "detection.map_gamma=1.5",
        "detection.tagged_gamma=0.5",
        "detection.contrast=2",
        "detection.vote_power=10",
        "detection.regress=false",
        "detection.test_boxes=0",
        "detection.search_boxes=3",
        "detection.image_prior=1",
        "detection.score_threshold=0",
    )
    for tags in (None, (1,)):
        found = Predictor(cascade)(image, searched, module, tags).instances
        assert torch.isfinite(found.scores).all()
        assert torch.isfinite(found.boxes).all()
        assert bool((found.scores.diff() <= 0).all())
        assert bool(boxes) == bool(len(found))
        if tags is not None:
            assert set(found.labels.tolist()) <= {1}


def test_the_least_score_spares_the_best_of_a_tag():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 30, 30], [34, 10, 60, 40], [5, 32, 40, 48]], np.float32)
    cascade = random_cascade(*RULES, "calibration.objects=3", "detection.score_threshold=0")
    for module in (1, 2, 3):
        every = Predictor(cascade)(image, boxes, module, (0, 1)).instances
        sure = Predictor(cascade, least=2.0)(image, boxes, module, (0, 1)).instances
        assert len(sure) <= 2 <= len(every)
        assert float(sure.scores[0]) == float(every.scores[0])


def test_searched_boxes_are_looked_at():
    """Where the RPN proposes nothing, the detections come from selective search alone."""
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    boxes = np.array([[4, 4, 40, 40], [20, 8, 60, 44]], np.float32)
    cascade = random_cascade("detection.search_boxes=2", "detection.test_boxes=1")
    found = Predictor(cascade)(image, boxes, 2, (0, 1, 2)).instances
    none = random_cascade("detection.search_boxes=0", "detection.test_boxes=1")
    without = Predictor(none)(image, boxes, 2, (0, 1, 2)).instances
    assert len(torch.unique(found.boxes, dim=0)) > len(torch.unique(without.boxes, dim=0))


@pytest.mark.parametrize(
    "override",
    [
        "calibration.score=class_map",
        "calibration.score=region",
        "calibration.combine=class_map",
        "detection.map_weight=0.5",
        "detection.image_prior=1",
    ],
)
def test_rules_without_the_classifier_are_refused(override):
    with pytest.raises(ConfigError, match="tag_loss"):
        load_config(None, [override])


def test_places_share_a_cell_among_tags_and_background():
    """Hand-worked: one cell, logits log 3 and 0 for two classes, log 2 for background."""
    logits, image = torch.zeros(2, 1, 1), (8, 8)
    places = torch.tensor([3.0, 1.0, 2.0]).log()[:, None, None]
    views = ([logits], [Frame(image)], Grid(8), image)
    both = class_maps(*views, places=[places], tags=(0, 1))
    # sigmoid 1/2, shares 3/6 and 1/6
    assert both.maps[:, 0, 0].tolist() == pytest.approx([0.5, (0.5 / 6) ** 0.5])
    one = class_maps(*views, places=[places], tags=(1,))
    assert one.maps[:, 0, 0].tolist() == pytest.approx([0, (0.5 / 3) ** 0.5])
    unknown = class_maps(*views, places=[places])
    # the other class is there with probability 1/2: shares 3 / (3 + 0.5 + 2), 1 / (1 + 1.5 + 2)
    wanted = [(0.5 * 3 / 5.5) ** 0.5, (0.5 / 4.5) ** 0.5]
    assert unknown.maps[:, 0, 0].tolist() == pytest.approx(wanted)


def test_seeds_are_exclusive_and_repeatable():
    likely = torch.rand(3, 200, generator=torch.Generator().manual_seed(0))
    cells, own = seeds(likely, torch.Generator().manual_seed(1))
    again, _ = seeds(likely, torch.Generator().manual_seed(1))
    assert torch.equal(cells, again)
    assert len(torch.unique(cells)) == len(cells)
    objects = own >= 0
    assert torch.equal(likely[:, cells[objects]].argmax(0), own[objects])
    assert float(likely[:, cells[~objects]].max()) < 0.3


def test_places_are_learned_from_tags(tmp_path):
    """Photos with a bright square on grey noise: the classifier of places finds its cells."""
    generator = np.random.default_rng(0)
    cascade = random_cascade("train.tag_loss=1", "train.place_images=8", "train.trunk_size=64")
    cascade.eval()
    records, squares = [], []
    for i in range(8):
        image = generator.integers(90, 110, (64, 64, 3), dtype=np.uint8)
        y, x = generator.integers(0, 40, 2)
        image[y : y + 24, x : x + 24] = (255, 30, 30)
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        records.append(ImageRecord(str(i), tmp_path / f"{i}.png", (0,)))
        squares.append((image, y, x))
    module = cascade.classification

    def stage5(image):
        return module.stage5(cascade.trunk(tensor(image)))

    def marked(features, layer=None):
        """A whole-image classifier that sees the square, and its surroundings a bit."""
        (image,) = [s[0] for s in squares if torch.equal(stage5(s[0]), features)]
        red = torch.from_numpy((image[..., 0] > 200).astype(np.float32))[None, None]
        cells = torch.nn.functional.adaptive_avg_pool2d(red, features.shape[-2:])[0, 0]
        return torch.stack([6 * cells - 3] * 3)

    module.tag_logits = marked
    fit_places(cascade, records)
    for image, y, x in squares:
        share = torch.softmax(module.place_logits(stage5(image)), 0)[0].detach()
        inside = share[(y + 8) // 8 : (y + 16) // 8 + 1, (x + 8) // 8 : (x + 16) // 8 + 1]
        assert float(inside.mean()) > 0.5 > float(share.mean())


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float()


@pytest.mark.parametrize(("tags", "gamma"), [(None, 0.5), ((0, 2), 3.0)])
def test_maps_are_read_by_whether_tags_are_known(tags, gamma):
    cascade = random_cascade(
        *RULES, "detection.map_weight=0.5", "detection.map_gamma=0.5", "detection.tagged_gamma=3"
    )
    whole = WholeImage(cascade)
    maps = ClassMaps(torch.ones(3), torch.rand(3, 12, 16), (48, 64))
    boxes = torch.tensor([[0.0, 0, 30, 30], [8, 8, 64, 48]])
    fit = whole.prior(maps, tags).fit
    assert fit is not None
    for label in tags or range(3):
        torch.testing.assert_close(fit(boxes)[:, label], maps.fit(label, boxes, gamma))
    assert fit(boxes)[:, 1].any() == (tags is None)
