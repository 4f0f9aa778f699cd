"""What a benchmark is made of: an op on inputs, its specification and a peer."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from .compare import io_bytes, near


@dataclass(frozen=True)
class Absent:
    """A dash in the table, and why."""

    reason: str
    wrong: ClassVar[bool] = False


@dataclass(frozen=True)
class Wrong(Absent):
    """A result that failed its check, and how; it was not timed."""

    wrong: ClassVar[bool] = True


Function = Callable[..., Any]


def find(module: str, name: str) -> Function | Absent:
    """`name` of `module`, or why it is not there."""
    try:
        function = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # a torchvision built for another torch ends in a RuntimeError
        return Absent(f"{module}: {error}")
    return function if callable(function) else Absent(f"{module} has no {name}")


def adapt(found: Function | Absent, wrap: Callable[[Function], Function]) -> Function | Absent:
    """Gives a function that was found the arguments and the result of the op; absent stays so."""
    return found if isinstance(found, Absent) else wrap(found)


@dataclass(frozen=True)
class Prepared:
    """A function of which a part is not to be timed, such as the forward pass of a backward one.

    Attributes:
        prepare: Takes the inputs; what it returns is called without arguments, and timed.
    """

    prepare: Callable[..., Callable[[], Any]]

    def __call__(self, *inputs: Any) -> Any:
        return self.prepare(*inputs)()


@dataclass(frozen=True)
class Peer:
    """Somebody else's implementation.

    Attributes:
        name: What the table calls it.
        function: Takes the inputs of the case.
        cuda: Whether it takes CUDA tensors too.
        agrees: False where it computes something else by design, and is timed without a check.
        compare: As that of the case, where it is allowed to be less exact than ours.
    """

    name: str
    function: Function | Absent
    cuda: bool = False
    agrees: bool = True
    compare: Callable[[Any, Any], None] | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """An op on one set of inputs.

    Attributes:
        op: Name of the op.
        name: Size and setting, such as "1,600 boxes".
        inputs: Makes the arguments, on the CPU, the same at every call.
        ours: Takes them on the CPU, and on a device where `cuda`.
        reference: The specification.
        peer: The best other implementation there is.
        check_inputs: Smaller arguments to check on, where the reference is too slow for `inputs`;
            its column is a dash then, and on `inputs` the columns are checked with each other.
        compare: (got, want) -> None or AssertionError.
        bytes_moved: (inputs, output) -> the least memory traffic; None: no such bound is of use.
        flops: (inputs) -> floating-point operations; None: memory alone bounds the op.
        flop_dtype: What the matrix ceiling is measured in.
        cuda: Whether the op has a CUDA kernel.
        dense_bytes: (inputs) -> bytes of the [R, H, W] tensor that a plain implementation holds and
            ours does without; None: there is no such thing.
    """

    op: str
    name: str
    inputs: Callable[[], tuple[Any, ...]]
    ours: Function | Absent
    reference: Function | Absent
    peer: Peer | Absent
    check_inputs: Callable[[], tuple[Any, ...]] | None = None
    compare: Callable[[Any, Any], None] = near
    bytes_moved: Callable[[Any, Any], int] | None = io_bytes
    flops: Callable[..., float] | None = None
    flop_dtype: str = "float32"
    cuda: bool = True
    dense_bytes: Callable[..., int] | None = None

    def __str__(self) -> str:
        return f"{self.op}, {self.name}"

    @property
    def beside(self) -> str:
        """The peer's name, or nothing: two cases may differ in it alone."""
        return self.peer.name if isinstance(self.peer, Peer) else ""


def small(case: Case, name: str) -> Case:
    """The case on its check inputs, where the reference can be timed too."""
    assert case.check_inputs is not None
    return dataclasses.replace(case, name=name, inputs=case.check_inputs, check_inputs=None)
