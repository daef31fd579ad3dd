"""The processes of a run: who this one is, and how the model and its gradients are spread over all of them."""

import os
import time
import warnings
from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from ..errors import InputError
from .objective import Objective

# gloo's threads still hold the last tensors that were exchanged, and let go of them by the interpreter: a process whose
# interpreter has ended by then aborts (torch 2.13).
_LET_GO_S = 0.5

Spread = Literal["sharded", "replicated"]


class World(NamedTuple):
    """One process among `size` on torch devices of the same type.

    `sequence` processes with neighbouring ranks share the tokens of a pack. `mesh` has the dimensions "data" and
    "sequence"; it is missing where there is one process.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    sequence: int = 1
    mesh: DeviceMesh | None = None

    @property
    def place(self) -> int:
        """Which part of a pack's tokens this process has."""
        return self.rank % self.sequence

    def share(self, count: int) -> range:
        """What this process has of `count` things that are dealt out in turn, those with the same pack alike."""
        return range(self.rank // self.sequence, count, self.size // self.sequence)

    def lanes(self, count: int) -> range:
        """The lanes of this process among all."""
        packs = self.size // self.sequence
        if count % packs:
            sharers = "processes" if self.sequence == 1 else f"groups of {self.sequence} processes"
            raise InputError(f"{count} lanes cannot be shared evenly by {packs} {sharers}")
        return self.share(count)

    def sum(self, numbers: Tensor) -> Tensor:
        """The numbers added up over all processes."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def most(self, number: int) -> int:
        """The largest of the numbers of all processes."""
        if self.size == 1:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def leave(self) -> None:
        """Ends what `join` began, once nothing more is to be exchanged."""
        if self.size > 1:
            self.wait()
            dist.destroy_process_group()
            time.sleep(_LET_GO_S)


def join(device: str, sequence: int = 1) -> World:
    """The place of this process among those that `torchrun` started; alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size % sequence:
        raise InputError(f"{size} processes cannot be groups of run.sequence={sequence}; start a multiple of it")
    if size == 1:
        return World(device=device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    mesh = init_device_mesh(device, (size // sequence, sequence), mesh_dim_names=("data", "sequence"))
    return World(dist.get_rank(), size, device, sequence, mesh)


def spread(objective: Objective, world: World, how: Spread) -> None:
    """Shards the weights block by block over the processes that have packs of their own (FSDP: Zhao et al. 2023), or
    leaves a copy on each.
    """
    if world.mesh is None or how == "replicated":
        return
    # Blocks return views among their states; nothing is ever added to them in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    for block in objective.model.blocks:
        fully_shard(block, mesh=world.mesh["data"])
    fully_shard(objective, mesh=world.mesh["data"])


def exchange(parameters: Iterable[nn.Parameter], world: World, how: Spread) -> None:
    """Adds up the gradients of replicated weights; sharded ones were added up on the way, but for parts of a pack."""
    if world.mesh is None or (how == "sharded" and world.sequence == 1):
        return
    group = world.mesh.get_group("sequence") if how == "sharded" else None
    for parameter in parameters:
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:  # none of this process's tokens used it
            parameter.grad = torch.zeros_like(parameter)
        gradient = parameter.grad
        dist.all_reduce(gradient.to_local() if isinstance(gradient, DTensor) else gradient, group=group)


def loss_scale(world: World, how: Spread) -> float:
    """What a loss is multiplied with so that gradients are sums over processes: sharding takes their mean."""
    return float(world.size // world.sequence) if how == "sharded" else 1.0
