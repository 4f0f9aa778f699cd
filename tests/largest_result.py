"""How large a tensor torch makes in a block of code."""

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LargestResult(TorchDispatchMode):
    """Notes the bytes of the largest result of an operation that is no view of its input."""

    bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, Tensor) and not function.is_view:
            self.bytes = max(self.bytes, result.numel() * result.element_size())
        return result
