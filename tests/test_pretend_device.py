"""The device that is not there refuses what a GPU refuses, and gives the CPU's numbers."""

import copy
import io

import pytest
import torch
from pretend_device import OnDevice, pretend_device


@pytest.fixture
def device():
    with pretend_device() as found:
        yield found


def test_tensors_say_where_they_are(device):
    made = [
        torch.zeros(3, device=device),
        torch.tensor([1.0, 2.0], device="cuda"),
        torch.ones(2).to(device),
        torch.full_like(torch.zeros(2, device=device), 7),
        torch.zeros(3, device=device).new_ones(2) + 1,
    ]
    assert all(isinstance(one, OnDevice) and one.device == device and one.is_cuda for one in made)
    back = (made[1].cpu(), made[1].to("cpu"), torch.zeros(2))
    assert all(type(one) is torch.Tensor and not one.is_cuda for one in back)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + torch.ones(4),
        lambda x: torch.cat([x, torch.ones(4)]),
        lambda x: torch.stack([x[0], torch.tensor(1.0)]),
        lambda x: torch.where(torch.ones(4).bool(), x, x),
        lambda x: torch.ones(4)[x.long()],
        lambda x: x.__setitem__(x > 0, torch.ones(4)),
        lambda x: x.numpy(),
        lambda x: torch.rand(2, generator=torch.Generator(), device=x.device),
        lambda x: x.uniform_(generator=torch.Generator()),
        lambda x: x.long() @ x.long(),
        lambda x: torch.nn.functional.linear(x, torch.ones(2, 4)),
    ],
)
def test_refused(device, call):
    said = "on one device|to numpy|generator of the device|CUDA has none"
    with pytest.raises((RuntimeError, TypeError), match=said):
        call(torch.zeros(4, device=device))


def test_allowed(device):
    x = torch.zeros(4, device=device)
    assert (x + torch.tensor(2.0)).tolist() == [2, 2, 2, 2]
    x[torch.tensor([0, 2])] = 5
    x[3:] = torch.ones(1)
    assert x.tolist() == [5, 0, 5, 1]
    assert torch.zeros(4).copy_(x).tolist() == [5, 0, 5, 1]
    assert float(x.sum()) == 11


def test_a_module_learns_as_on_the_cpu(device):
    torch.manual_seed(0)
    here = torch.nn.Linear(4, 2)
    there = copy.deepcopy(here).to(device)
    assert isinstance(there.weight, torch.nn.Parameter)
    assert isinstance(copy.deepcopy(there).weight, OnDevice)
    for module in (here, there):
        optimizer = torch.optim.AdamW(module.parameters())
        module(torch.ones(3, 4, device=module.weight.device)).square().sum().backward()
        optimizer.step()
    assert torch.equal(here.weight, there.weight.cpu())
    file = io.BytesIO()
    torch.save(there.state_dict(), file)
    file.seek(0)
    assert torch.load(file, map_location=device, weights_only=True)["weight"].device == device
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True)["weight"], here.weight)


def test_autocast_keeps_to_the_lists_of_cuda(device):
    x = torch.ones(2, 2, device=device)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        product = x @ x
        assert product.dtype == torch.bfloat16
        assert product.sum().dtype == product.softmax(0).dtype == torch.float32
        assert torch.relu(product).dtype == torch.bfloat16
        with pytest.raises(RuntimeError, match="unsafe"):
            torch.nn.functional.binary_cross_entropy(x, x)
