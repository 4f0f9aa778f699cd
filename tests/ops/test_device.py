"""Every op on a real device, where what the emulation cannot show may go wrong.

Outputs are poisoned: a byte that a kernel leaves unwritten is NaN, or an index far out of range.
"""

import gc

import pytest
import torch
from tolerances import assert_near

from labelpenet.ops import (
    RegionMasks,
    accumulate_boxes,
    dense_crf,
    excitation_maps,
    find_peaks,
    matching_scores,
    nms_groups,
    nms_owners,
    positive_weights,
    project_attention,
    roi_pool,
)

pytestmark = pytest.mark.cuda


def poison() -> None:
    """Leaves 0xFF in the memory that torch hands out next: NaN as a float, -1 as an integer."""
    gc.collect()
    torch.cuda.empty_cache()
    large = torch.full((1 << 28,), 255, dtype=torch.uint8, device="cuda")
    small = [torch.full((1 << 14,), 255, dtype=torch.uint8, device="cuda") for _ in range(256)]
    torch.cuda.synchronize()
    del large, small


@pytest.fixture(autouse=True)
def _poisoned():
    poison()


def boxes_in(count, height, width, seed=0):
    """Whole and fractional boxes, some of which leave the image."""
    g = torch.Generator().manual_seed(seed)
    limit = torch.tensor([width, height], dtype=torch.float32)
    corner = torch.rand(count, 2, generator=g) * limit * 1.2 - 0.1 * limit
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=g) * limit / 2), 1)
    boxes[::3] = boxes[::3].round()
    return boxes


def stretched(tensor):
    """The same numbers, not contiguous."""
    return torch.stack((tensor, tensor), -1)[..., 0]


def on(device, values):
    if isinstance(values, torch.Tensor):
        return values.to(device)
    if isinstance(values, list):
        return [on(device, v) for v in values]
    return values


# ---- one call of every op: what it takes, made on the CPU ---------------------------------------
def roi_pool_case(count=37, size=(50, 67), channels=11, dtype=torch.float32):
    features = torch.randn(2, channels, *size).to(dtype)
    index = torch.arange(count)[:, None] % 2
    boxes = torch.cat((index, boxes_in(count, size[0] * 8, size[1] * 8)), 1)
    return roi_pool, (features, boxes, 7, 1 / 8)


def nms_case(count=333, size=(300, 400)):
    labels = torch.randint(-2, 3, (count,))
    return nms_owners, (boxes_in(count, *size), torch.randn(count), 0.3, labels)


def excitation_case(count=9, dtype=torch.float32):
    sizes = [5 * 49, 33, 17]
    activations = [torch.rand(count, n).to(dtype) for n in sizes]
    activations[0] = activations[0].reshape(count, 5, 7, 7)
    weights = [
        torch.randn(n, m).to(dtype) for m, n in zip(sizes, [33, 17, 6], strict=True)
    ]  # fmt: skip
    arguments = (activations, weights, torch.randint(6, (count,)), torch.rand(count))
    return excitation_maps, arguments


def project_case(count=61, size=(51, 83), mode="bilinear"):
    index = torch.randint(3, (count,))
    return project_attention, (
        torch.rand(count, 7, 7),
        boxes_in(count, *size),
        index,
        3,
        size,
        mode,
    )


def accumulate_case(count=61, size=(51, 83)):
    index = torch.randint(3, (count,))
    return accumulate_boxes, (torch.randn(count), boxes_in(count, *size), index, 3, size)


def responses(maps, sigma, window):
    return find_peaks(maps, sigma, window)[0]


def peaks_case(count=7, size=(23, 31)):
    return responses, (torch.randn(count, *size), 2.5, 5)


def scores(maps, counts, offsets, size):
    """An empty region's score, -inf, as zero."""
    return matching_scores(maps, RegionMasks(counts, offsets, size)).nan_to_num(neginf=0.0)


def matching_case(count=45, size=(51, 67), maps=5):
    """Regions of three runs each."""
    pixels = size[0] * size[1]
    cuts = torch.randint(pixels + 1, (count, 2)).sort(1).values
    ends = torch.cat((cuts, torch.full((count, 1), pixels)), 1)
    counts = ends.diff(dim=1, prepend=torch.zeros(count, 1, dtype=torch.int64)).int()
    offsets = 3 * torch.arange(count + 1)
    return scores, (torch.rand(maps, *size), counts.flatten(), offsets, size)


def crf_case(maps=3, labels=2, size=(23, 31)):
    image = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
    return dense_crf, (image, torch.rand(maps, labels, *size))


CASES = {
    "roi_pool": roi_pool_case,
    "nms_owners": nms_case,
    "excitation_maps": excitation_case,
    "project_attention": project_case,
    "accumulate_boxes": accumulate_case,
    "find_peaks": peaks_case,
    "matching_scores": matching_case,
    "dense_crf": crf_case,
}
every_op = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def assert_same(got, want, factor=1.0):
    if want.dtype.is_floating_point:
        assert_near(got.cpu(), want, want.dtype, factor)
    else:
        assert torch.equal(got.cpu(), want)


def check(op, arguments, factor=1.0):
    """The device against the CPU, and against itself on strided inputs and in a second run."""
    want = op(*arguments)
    device = [on("cuda", a) for a in arguments]
    poison()
    got = op(*device)
    assert got.device.type == "cuda"
    assert_same(got, want, factor)
    poison()
    assert torch.equal(op(*device), got)
    strided = [stretched(a) if isinstance(a, torch.Tensor) else a for a in device]
    assert torch.equal(op(*strided), got)


@every_op
def test_against_the_cpu(case):
    check(*case(), factor=10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("channels", [1, 8, 35])
def test_roi_pool_dtypes(dtype, channels):
    check(*roi_pool_case(channels=channels, dtype=dtype))


def test_excitation_bfloat16():
    check(*excitation_case(dtype=torch.bfloat16), factor=1e3)  # products in another order


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 1_600, 20_000])
@pytest.mark.parametrize("name", [name for name in CASES if name != "dense_crf"])
def test_counts(name, count):
    if name == "excitation_maps" and count == 20_000:
        count = 5_000  # the CPU's share of the test
    check(*CASES[name](count=count), factor=10)


@pytest.mark.parametrize("size", [(1, 1), (1, 999), (777, 1), (1023, 1025), (4000, 4000)])
def test_image_sizes(size):
    check(*project_case(count=40, size=size))
    check(*project_case(count=40, size=size, mode="mass"), factor=10)
    check(*accumulate_case(count=40, size=size))
    check(*nms_case(count=40, size=size))
    check(*matching_case(count=40, size=size, maps=2))
    check(*peaks_case(count=2, size=size))
    cells = tuple(max(1, side // 8) for side in size)  # 4000 x 4000: beyond shared memory
    check(*roi_pool_case(count=10, size=cells, channels=5))


@pytest.mark.parametrize("size", [(1, 1), (1, 99), (77, 1), (375, 500)])
@pytest.mark.parametrize(("maps", "labels"), [(1, 2), (10, 2), (33, 2), (1, 21)])
def test_crf_sizes(size, maps, labels):
    check(*crf_case(maps, labels, size), factor=20)


def test_crf_of_a_large_photo():
    """4000 x 4000 has 1.3 KB of scratch memory a pixel: 20 GiB."""
    free, _ = torch.cuda.mem_get_info()
    side = 4000 if free > 40 << 30 else 1500
    image = torch.randint(0, 256, (side, side, 3), dtype=torch.uint8, device="cuda")
    unary = torch.rand(1, 2, side, side, device="cuda")
    got = dense_crf(image, unary, iterations=1)
    assert torch.isfinite(got).all()
    assert torch.allclose(got.sum(1), torch.ones((), device="cuda"))


@pytest.mark.parametrize("shape", [(2, 5, 40, 50), (1, 3, 300, 400)])  # in shared memory, and not
def test_roi_pool_backward(shape):
    features = torch.randn(shape)
    boxes = torch.cat((torch.zeros(90, 1), boxes_in(90, shape[2] * 8, shape[3] * 8)), 1)
    grads = []
    for device in ("cpu", "cuda", "cuda"):
        leaf = features.to(device).requires_grad_()
        pooled = roi_pool(leaf, boxes.to(device), 7, 1 / 8)
        grad = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(0))
        poison()
        pooled.backward(grad.to(device))
        grads.append(leaf.grad.cpu())
    assert torch.equal(grads[1], grads[0])
    assert torch.equal(grads[1], grads[2])


# ---- torch's stream, graphs, flags, devices -----------------------------------------------------
def ready(case):
    """A call on the device with nothing left to prepare."""
    op, arguments = case()
    device = [on("cuda", a) for a in arguments]
    if op is excitation_maps:
        device[1] = positive_weights(device[1])
    return op, device


@every_op
def test_nothing_waits(case):
    """torch raises where an op of its own synchronizes; no kernel of ours can."""
    op, device = ready(case)
    op(*device)  # loads modules, makes handles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        op(*device)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@every_op
def test_graph(case):
    op, device = ready(case)
    want = op(*device)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = op(*device)
    for _ in range(2):
        got.zero_()
        graph.replay()
        assert torch.equal(got, want)


@every_op
def test_second_stream(case):
    """Inputs come late on a stream of their own: a kernel on another stream would read the old."""
    op, device = ready(case)
    want = op(*device)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    late = [torch.zeros_like(a) if isinstance(a, torch.Tensor) else a for a in device]
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        for a, b in zip(late, device, strict=True):
            if isinstance(a, torch.Tensor):
                a.copy_(b)
        got = op(*late)
    stream.synchronize()
    assert torch.equal(got, want)


@every_op
def test_deterministic_flag(case, monkeypatch):
    """The kernels have no float atomics, so the flag changes nothing."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    op, device = ready(case)
    want = op(*device)
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(3):
            assert torch.equal(op(*device), want)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
@every_op
def test_second_device(case):
    """On the tensors' device, whatever the current one is, which stays current."""
    op, arguments = case()
    want = op(*[on("cuda:0", a) for a in arguments])
    got = op(*[on("cuda:1", a) for a in arguments])
    assert got.device == torch.device("cuda:1")
    assert torch.cuda.current_device() == 0
    assert torch.equal(got.cpu(), want.cpu())


def test_sizes_of_results_are_waited_for_once():
    _, (boxes, scores, threshold, labels) = nms_case()
    want = nms_groups(boxes, scores, labels, threshold)
    got = nms_groups(boxes.cuda(), scores.cuda(), labels.cuda(), threshold)
    for g, w in zip(got, want, strict=True):
        assert torch.equal(g.cpu(), w)


def test_values_are_checked_where_the_environment_asks(monkeypatch):
    boxes = torch.full((1, 4), torch.nan, device="cuda")
    index = torch.zeros(1, dtype=torch.int64, device="cuda")
    assert not accumulate_boxes(torch.ones(1, device="cuda"), boxes, index, 1, (2, 2)).any()
    monkeypatch.setenv("LABELPENET_CHECK_DEVICE", "1")
    with pytest.raises(ValueError, match="boxes: expected finite"):
        accumulate_boxes(torch.ones(1, device="cuda"), boxes, index, 1, (2, 2))
