"""A device that is not there: tensors say that they are on `cuda:0` and lie in the CPU's memory.

What a GPU would refuse is refused: tensors of two devices in one call, NumPy's view of device
memory, the CPU's generator for a device's numbers, integer matrix products; and autocast keeps to
CUDA's lists. So code that forgets a `.to(device)` fails on a machine without a GPU. It looks at
calls from Python, and what they run is the CPU's: of speed, rounding, the CUDA kernels and what
happens within the backward pass this says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.fx import Proxy
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

DEVICE = torch.device("cuda:0")
CPU = torch.device("cpu")

_ABOUT = {"device", "_parse_to", "_has_compatible_shallow_copy_type"}  # ask, and compute nothing
_PRODUCTS = {
    "__matmul__", "matmul", "mm", "bmm", "mv", "addmm", "einsum", "linear", "conv2d",
    "conv_transpose2d",
}  # fmt: skip
_JOINS = {"cat", "stack"}
# What autocast widens on CUDA, by torch's documentation.
_WIDENED = {
    "__pow__", "__rdiv__", "__rpow__", "__rtruediv__", "pow", "exp", "expm1", "log", "log2",
    "log10", "log1p", "prod", "sum", "cumprod", "cumsum", "norm", "normalize", "reciprocal",
    "rsqrt", "softmax", "log_softmax", "softmin", "softplus", "cross_entropy", "nll_loss",
    "l1_loss", "mse_loss", "smooth_l1_loss", "kl_div", "binary_cross_entropy_with_logits",
    "layer_norm", "group_norm", "cosine_similarity", "cdist", "dist",
}  # fmt: skip


class OnDevice(Tensor):
    """A tensor that says it is on the device."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = self.detach().clone()
        is_parameter = getattr(self, "_is_param", False)
        memo[id(self)] = made = nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        return made


class _Calls(TorchFunctionMode):
    """Every call of torch from Python, as the device would have it."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = dict(options or {})
        name = getattr(function, "__name__", "")
        leaves = list(_flat([*arguments, *options.values()]))
        if name in _ABOUT or any(isinstance(leaf, Proxy) for leaf in leaves):
            return function(*arguments, **options)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        ours = any(isinstance(one, OnDevice) for one in tensors)
        if ours:
            if name == "__get__" and function.__self__ in (Tensor.device, Tensor.is_cuda):
                return DEVICE if function.__self__ is Tensor.device else True
            _refuse(name, arguments, tensors)
        there = _goes_there(name, arguments, leaves)
        if there and isinstance(options.get("generator"), torch.Generator):
            raise RuntimeError(f"{name}: expected a generator of the device, got the CPU's")
        leaf = there and options.pop("requires_grad", False)
        if any(isinstance(one, str | torch.device) for one in leaves):
            named = tree_map_only(torch.device, lambda _: CPU, (arguments, options))
            arguments, options = tree_map_only(str, _cpu_for_cuda, named)
        narrows = ours and torch.is_autocast_enabled("cpu")
        with torch._C.DisableTorchFunctionSubclass(), _precision(name, narrows):
            if narrows and name in _WIDENED:
                arguments, options = tree_map_only(Tensor, _widened, (arguments, options))
            if name == "__reduce_ex__":  # a file holds the memory
                return arguments[0].as_subclass(Tensor).__reduce_ex__(*arguments[1:])
            result = function(*arguments, **options)
        if there:
            result = tree_map_only(Tensor, _there, result)
            return result.requires_grad_() if leaf else result
        if not ours:
            return result
        return tree_map_only(OnDevice, lambda one: one.as_subclass(Tensor).clone(), result)


def is_pretended(device: torch.device) -> bool:
    """Whether the device is this one, which gives the CPU's bits, rather than a GPU."""
    return isinstance(torch.zeros(1, device=device), OnDevice)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _there(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, OnDevice) else tensor.as_subclass(OnDevice)


def _goes_there(name: str, arguments: Any, leaves: list[Any]) -> bool:
    """Whether results are on the device: a call may name it, or takes after its tensors."""
    if name == "copy_":
        return isinstance(arguments[0], OnDevice)
    if name == "cpu":
        return False
    for leaf in leaves:
        if isinstance(leaf, torch.device) or (isinstance(leaf, str) and _is_device(leaf)):
            return torch.device(leaf).type == "cuda"
    return any(isinstance(leaf, OnDevice) for leaf in leaves)


def _is_device(word: str) -> bool:
    return word.partition(":")[0] in ("cpu", "cuda")


def _cpu_for_cuda(word: str) -> str:
    return "cpu" if _is_device(word) else word


def _refuse(name: str, arguments: Any, tensors: list[Tensor]) -> None:
    """Raises what torch raises of a call with tensors of the device."""
    if name in ("numpy", "__array__"):
        raise TypeError(f"{name}: can't convert a tensor of {DEVICE} to numpy")
    if name in _PRODUCTS and not tensors[0].is_floating_point():
        raise RuntimeError(f"{name}: CUDA has none for {tensors[0].dtype}")
    if name == "copy_":
        return
    if name in ("__getitem__", "__setitem__") and isinstance(arguments[0], OnDevice):
        # Indices may lie on the CPU, and what is laid into a slice.
        picked = any(isinstance(one, Tensor) for one in _flat(arguments[1:2]))
        tensors = [one for one in arguments[2:] if isinstance(one, Tensor)] if picked else []
    here = [one for one in tensors if not isinstance(one, OnDevice)]
    if any(one.dim() or name in _JOINS | _PRODUCTS for one in here):
        places = (DEVICE if isinstance(one, OnDevice) else CPU for one in tensors)
        shapes = [f"{list(one.shape)} {at}" for one, at in zip(tensors, places, strict=True)]
        raise RuntimeError(f"{name}: expected all tensors on one device, got {', '.join(shapes)}")


def _precision(name: str, narrows: bool) -> AbstractContextManager[object]:
    """The CPU's autocast stands in for CUDA's where the two agree."""
    if not narrows or name in _PRODUCTS | _JOINS:
        return nullcontext()
    if name == "binary_cross_entropy":
        raise RuntimeError(f"{name}: unsafe to autocast")
    return torch.autocast("cpu", enabled=False)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """Within, `cuda` is there."""
    load, autocast = torch.load, torch.autocast

    def load_there(*arguments: Any, map_location: Any = None, **options: Any) -> Any:
        there = map_location is not None and torch.device(map_location).type == "cuda"
        content = load(*arguments, map_location=CPU if there else map_location, **options)
        return tree_map_only(Tensor, lambda one: one.to(DEVICE), content) if there else content

    class FabricThere(Fabric):
        """Lightning's, which runs on the CPU and says where it would be."""

        def __init__(self, accelerator: str, devices: Any, **options: Any) -> None:
            self.there = accelerator == "cuda"
            super().__init__(accelerator="cpu", devices=1 if self.there else devices, **options)

        @property
        def device(self) -> torch.device:
            return DEVICE if self.there else super().device

    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    with (
        mock.patch("labelpenet.training.engine.Fabric", FabricThere),
        mock.patch("labelpenet.labeler.without_cuda", return_value=""),
        mock.patch("torch.load", load_there),
        mock.patch("torch.autocast", lambda _, **options: autocast("cpu", **options)),
        mock.patch("torch.cuda.is_available", return_value=True),
        _Calls(),
    ):
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            yield DEVICE
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
