"""The processes of a run: who this one is, and how the model and its gradients are spread over all of them."""

import os
import warnings
from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ..errors import InputError
from .objective import Objective

Spread = Literal["sharded", "replicated"]


class World(NamedTuple):
    """One process among `size` on torch devices of the same type."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    def lanes(self, count: int) -> range:
        """The lanes of this process among all."""
        if count % self.size:
            raise InputError(f"{count} lanes cannot be shared evenly by {self.size} processes")
        return range(self.rank, count, self.size)

    def sum(self, numbers: Tensor) -> Tensor:
        """The numbers added up over all processes."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join(device: str) -> World:
    """The place of this process among those that `torchrun` started; alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(device=device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return World(dist.get_rank(), dist.get_world_size(), device)


def spread(objective: Objective, world: World, how: Spread) -> None:
    """Shards the weights block by block over all processes (FSDP: Zhao et al. 2023), or leaves a copy on each."""
    if world.size == 1 or how == "replicated":
        return
    # Blocks return views among their states; nothing is ever added to them in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    mesh = init_device_mesh(world.device, (world.size,))
    for block in objective.model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(objective, mesh=mesh)


def exchange(parameters: Iterable[nn.Parameter], world: World, how: Spread) -> None:
    """Adds up the gradients of replicated weights; sharded ones were added up on the way."""
    if world.size == 1 or how == "sharded":
        return
    for parameter in parameters:
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)


def loss_scale(world: World, how: Spread) -> float:
    """What a loss is multiplied with so that gradients are sums over processes: sharding takes their mean."""
    return float(world.size) if how == "sharded" else 1.0
