"""A device that is not there: tensors say that they are on `cuda:0` and lie in the CPU's memory.

What a GPU would refuse is refused: tensors of two devices in one call, NumPy's view of device memory,
a CPU's generator for a device's numbers, integer matrix products. So code that forgets a
`.to(device)` fails on a machine without a GPU. It looks at calls from Python, and what they run is the
CPU's: of speed, rounding, the CUDA kernels and what happens in the backward pass this says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("cuda:0")

_PRODUCTS = {
    "__matmul__", "matmul", "mm", "bmm", "mv", "addmm", "einsum", "linear", "conv2d",
    "conv_transpose2d",
}  # fmt: skip
# What torch's autocast makes of other calls on CUDA, by its documentation; the CPU's lists differ.
_WIDEN = {
    "__pow__", "__rdiv__", "__rpow__", "__rtruediv__", "pow", "rpow", "exp", "expm1", "log", "log2",
    "log10", "log1p", "prod", "sum", "cumprod", "cumsum", "norm", "normalize", "reciprocal", "rsqrt",
    "softmax", "log_softmax", "softmin", "softplus", "cross_entropy", "nll_loss", "l1_loss",
    "mse_loss", "smooth_l1_loss", "huber_loss", "kl_div", "binary_cross_entropy_with_logits",
    "layer_norm", "group_norm", "cosine_similarity", "cdist", "dist", "tan", "acos", "asin",
}  # fmt: skip
_PROMOTE = {"cat", "stack", "addcmul", "addcdiv", "index_put", "scatter_add", "grid_sample"}
_NUMPY = {"numpy", "__array__"}
_INDEXED = {"__getitem__", "__setitem__"}
_NO_SCALARS = {"cat", "concat", "stack"} | _PRODUCTS


_ABOUT = {"_parse_to", "_has_compatible_shallow_copy_type"}  # ask, and compute nothing


class OnDevice(Tensor):
    """A tensor that says it is on the device; the mode below answers all that is asked of it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = self.detach().clone()
        made = nn.Parameter(copied, self.requires_grad) if _is_parameter(self) else copied
        memo[id(self)] = made
        return made


class _Calls(TorchFunctionMode):
    """Every call of torch from Python, as the device would have it."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = dict(options or {})
        name = getattr(function, "__name__", "")
        of = getattr(function, "__self__", None)  # a property, where this is its getter
        leaves = tree_leaves((arguments, options))
        ours = any(isinstance(leaf, OnDevice) for leaf in leaves)
        if name == "__get__" and isinstance(arguments[0], OnDevice):
            if of is Tensor.device:
                return DEVICE
            if of in (Tensor.is_cuda, Tensor.is_cpu):
                return of is Tensor.is_cuda
        if name in _ABOUT:
            return function(*arguments, **options)
        if ours:
            _refuse(name, arguments, options, [x for x in leaves if isinstance(x, Tensor)])
        if name == "__reduce_ex__":
            arguments = (arguments[0].as_subclass(Tensor), *arguments[1:])
            with torch._C.DisableTorchFunctionSubclass():
                return arguments[0].__reduce_ex__(*arguments[1:])
        wanted = _device_of(name, leaves)
        if wanted == DEVICE and isinstance(options.get("generator"), torch.Generator):
            raise RuntimeError(f"{name}: expected a generator of the device, got the CPU's")
        if name == "copy_":
            wanted = arguments[0].device
        goes_there = ours if wanted is None else wanted == DEVICE
        arguments, options = tree_map_only(
            torch.device, lambda one: torch.device("cpu"), (arguments, options)
        )
        arguments, options = tree_map_only(
            str, lambda one: "cpu" if one.startswith("cuda") else one, (arguments, options)
        )
        with torch._C.DisableTorchFunctionSubclass(), _precision(name, leaves):
            if ours and name in _WIDEN and torch.is_autocast_enabled("cpu"):
                arguments, options = tree_map_only(Tensor, _wide, (arguments, options))
            result = function(*arguments, **options)
        if goes_there:
            return tree_map_only(Tensor, _there, result)
        return tree_map_only(OnDevice, _here, result)


def _precision(name: str, leaves: list[Any]) -> AbstractContextManager[object]:
    """The CPU's autocast where CUDA has it too."""
    if not torch.is_autocast_enabled("cpu") or name in _PRODUCTS | _PROMOTE | {"autocast"}:
        return nullcontext()
    if not any(isinstance(leaf, OnDevice) for leaf in leaves):
        return nullcontext()
    if name == "binary_cross_entropy":
        raise RuntimeError(f"{name}: unsafe to autocast")
    return torch.autocast("cpu", enabled=False)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _there(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, OnDevice) else tensor.as_subclass(OnDevice)


def _here(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor).clone()


def _is_parameter(tensor: Tensor) -> bool:
    return bool(getattr(tensor, "_is_param", False))


def _device_of(name: str, leaves: list[Any]) -> torch.device | None:
    """The device that a call names, if it does."""
    if name == "cpu":
        return torch.device("cpu")
    if name == "cuda":
        return DEVICE
    for leaf in leaves:
        if isinstance(leaf, str) and leaf.partition(":")[0] in ("cpu", "cuda"):
            leaf = torch.device(leaf)
        if isinstance(leaf, torch.device):
            return DEVICE if leaf.type == "cuda" else leaf
    return None


def _refuse(name: str, arguments: Any, options: Any, tensors: list[Tensor]) -> None:
    """Raises what torch raises of a call with tensors of the device."""
    if name in _NUMPY:
        raise TypeError(f"{name}: can't convert a tensor of {DEVICE} to numpy")
    if name in _PRODUCTS and not tensors[0].is_floating_point():
        raise NotImplementedError(f"{name}: CUDA has none for {tensors[0].dtype}")
    if "generator" in options and options["generator"] is not None:
        raise RuntimeError(f"{name}: expected a generator of the device, got the CPU's")
    here = [one for one in tensors if not isinstance(one, OnDevice)]
    if name == "copy_" or (name in _INDEXED and isinstance(arguments[0], OnDevice)):
        return  # indices may lie on the CPU, and values are copied
    if any(one.dim() or name in _NO_SCALARS for one in here):
        shapes = ", ".join(
            f"{list(one.shape)} {'cuda' if isinstance(one, OnDevice) else 'cpu'}" for one in tensors
        )
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, got {shapes}")


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """Within, `cuda` is there."""
    load, autocast = torch.load, torch.autocast

    def load_there(*arguments: Any, map_location: Any = None, **options: Any) -> Any:
        content = load(*arguments, map_location="cpu", **options)
        there = map_location is not None and torch.device(map_location).type == "cuda"
        return tree_map_only(Tensor, _there, content) if there else content

    class FabricThere(Fabric):
        """Lightning's, on the CPU, that says where it would be."""

        device = DEVICE

        def __init__(self, accelerator: str, **options: Any) -> None:
            super().__init__(accelerator="cpu", **options)

    with (
        mock.patch("labelpenet.training.engine.Fabric", FabricThere),
        mock.patch("torch.load", load_there),
        mock.patch("torch.autocast", lambda _, **options: autocast("cpu", **options)),
        mock.patch("torch.cuda.is_available", return_value=True),
        _on(
            torch.__future__.set_overwrite_module_params_on_conversion,
            torch.__future__.get_overwrite_module_params_on_conversion(),
        ),
        _Calls(),
    ):
        yield DEVICE


@contextmanager
def _on(switch: Callable[[bool], None], before: bool) -> Iterator[None]:
    switch(True)
    try:
        yield
    finally:
        switch(before)
