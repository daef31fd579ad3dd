"""Processes of a run: the rank of this one, and how the model and its gradients are distributed over all of them."""

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
from .objective import TrainingObjective

# gloo's threads still hold the last tensors that were sent, and let go of them by the interpreter: a process whose
# interpreter has ended by then aborts (torch 2.13).
_LET_GO_S = 0.5

Parallelism = Literal["fsdp", "ddp"]


class World(NamedTuple):
    """One process among `size` on torch devices of the same type.

    `context_parallel` processes with neighbouring ranks share the tokens of a packed sequence. `mesh` has the
    dimensions "data" and "context"; it is None where there is one process.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    context_parallel: int = 1
    mesh: DeviceMesh | None = None

    @property
    def context_rank(self) -> int:
        """Number of the part that this process has of a packed sequence's tokens."""
        return self.rank % self.context_parallel

    def share(self, count: int) -> range:
        """Numbers below `count` that fall to this process when they are dealt out in turn, one to each data rank."""
        return range(self.rank // self.context_parallel, count, self.size // self.context_parallel)

    def batch_share(self, batch_size: int) -> range:
        """Sequences of a batch that this process computes; `InputError` unless all processes get as many."""
        packs = self.size // self.context_parallel
        if batch_size % packs:
            sharers = "processes" if self.context_parallel == 1 else f"groups of {self.context_parallel} processes"
            raise InputError(f"a batch of {batch_size} sequences cannot be shared evenly by {packs} {sharers}")
        return self.share(batch_size)

    def sum(self, numbers: Tensor) -> Tensor:
        """Sum of the numbers over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def most(self, number: int) -> int:
        """Largest of the numbers of all processes."""
        if self.size == 1:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def wait(self) -> None:
        """Waits until all processes have come here."""
        if self.size > 1:
            dist.barrier()

    def leave(self) -> None:
        """Ends the process group that `join` began, once all processes have come here."""
        if self.size > 1:
            self.wait()
            dist.destroy_process_group()
            time.sleep(_LET_GO_S)


def join(device: str, context_parallel: int = 1) -> World:
    """World of this process among those that `torchrun` started; a world of one without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size % context_parallel:
        raise InputError(
            f"{size} processes cannot be groups of run.context_parallel={context_parallel}; start a multiple of it"
        )
    if size == 1:
        return World(device=device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    mesh = init_device_mesh(device, (size // context_parallel, context_parallel), mesh_dim_names=("data", "context"))
    return World(dist.get_rank(), size, device, context_parallel, mesh)


def parallelize(objective: TrainingObjective, world: World, parallelism: Parallelism) -> None:
    """Shards the weights block by block over the processes that have sequences of their own ("fsdp": Zhao et al. 2023),
    or leaves a copy on each ("ddp").
    """
    if world.mesh is None or parallelism == "ddp":
        return
    # Blocks return views among their states; nothing is ever added to them in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    for block in objective.model.blocks:
        fully_shard(block, mesh=world.mesh["data"])
    fully_shard(objective, mesh=world.mesh["data"])


def all_reduce_gradients(parameters: Iterable[nn.Parameter], world: World, parallelism: Parallelism) -> None:
    """Sums gradients over processes; those of sharded weights only over the ranks that share sequences.

    A parameter that no process has a gradient of keeps none, so that the optimizer leaves it as it is.
    """
    if world.mesh is None or (parallelism == "fsdp" and world.context_parallel == 1):
        return
    group = world.mesh.get_group("context") if parallelism == "fsdp" else None
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    used_N = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int32, device=world.device)
    dist.all_reduce(used_N, dist.ReduceOp.MAX, group=group)
    for parameter, used in zip(trained, used_N.tolist(), strict=True):
        if not used:
            continue
        if parameter.grad is None:  # none of this process's tokens used it
            parameter.grad = torch.zeros_like(parameter)
        gradient = parameter.grad
        dist.all_reduce(gradient.to_local() if isinstance(gradient, DTensor) else gradient, group=group)


def loss_scale(world: World, parallelism: Parallelism) -> float:
    """Factor of a loss that makes gradients sums over processes: sharding takes their mean."""
    return float(world.size // world.context_parallel) if parallelism == "fsdp" else 1.0
