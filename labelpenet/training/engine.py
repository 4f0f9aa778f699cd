"""Where training runs: device, precision and processes, through Lightning Fabric.

`torchrun --nproc-per-node=N -m labelpenet train ...` makes N processes of one run; each takes its
share of every batch. Gradients are averaged once a step rather than by DDP's hooks while they are
computed: the parts of a step differ from process to process (an image may have no object at all),
which hooks, waiting for every parameter's gradient, do not forgive.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from labelpenet.config import Config
from labelpenet.labeler import usable_device


class Engine:
    """One process of a training run.

    Args:
        config: Its precision and batch.
        device: `cpu`, `cuda` or `cuda:N`. With torchrun each process takes the device of its local
            rank.

    Raises:
        ValueError: A batch that the processes cannot share evenly, or no such device.
    """

    def __init__(self, config: Config, device: str = "cpu") -> None:
        kind, _, index = device.partition(":")
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        for name in ("batch", "trunk_batch") if config.train.trunk_steps else ("batch",):
            batch = getattr(config.train, name)
            if batch % processes:
                raise ValueError(
                    f"train.{name}: expected a multiple of the {processes} processes, got {batch}"
                )
        usable_device(device)
        if kind == "cpu":
            index = ""  # torch's one CPU is cpu:0, and Lightning counts processes on it
        several = processes > 1
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        devices: int | list[int] = local if several or not index else [int(index)]
        self.fabric = Fabric(
            accelerator=kind,
            devices=devices,
            num_nodes=processes // local if several else 1,
            strategy=DDPStrategy(
                process_group_backend="nccl" if kind == "cuda" else "gloo",
                timeout=timedelta(days=7),  # the others wait while one computes proposals
            )
            if several
            else "auto",
            precision="bf16-mixed" if config.train.precision == "bf16" else "32-true",
        )
        self.fabric.launch()

    @property
    def device(self) -> torch.device:
        """This process's device."""
        return self.fabric.device

    @property
    def rank(self) -> int:
        """This process's number; 0 writes the files."""
        return self.fabric.global_rank

    @property
    def processes(self) -> int:
        """How many processes share the run."""
        return self.fabric.world_size

    def slots(self, batch: int) -> range:
        """This process's places in a batch of so many."""
        share = batch // self.processes
        return range(self.rank * share, (self.rank + 1) * share)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of matrix products and convolutions."""
        return self.fabric.autocast()

    def wait(self) -> None:
        """Until every process is here."""
        self.fabric.barrier()

    def share(self, module: nn.Module) -> None:
        """Every process gets the first one's parameters and buffers, bit for bit.

        All compute the same, but for what a process's own generator draws and for rounding.
        """
        if self.processes > 1:
            for tensor in module.state_dict().values():
                torch.distributed.broadcast(tensor, 0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        if self.processes == 1:
            return values
        reduced = self.fabric.all_reduce(values, reduce_op="mean")
        assert isinstance(reduced, Tensor)
        return reduced

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Every process gets the mean gradient; one that a process lacks counts as zero there.

        A parameter without a gradient on any of them stays without: an optimiser leaves it as it
        is, where a zero would let it move by its momentum and decay.
        """
        if self.processes == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        known = gradients[0].new_tensor([p.grad is not None for p in parameters])
        flat = self.mean(torch.cat([known, *(g.flatten() for g in gradients)]))
        known, *parts = flat.split([len(parameters), *(p.numel() for p in parameters)])
        for parameter, part, share in zip(parameters, parts, known.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if share else None
