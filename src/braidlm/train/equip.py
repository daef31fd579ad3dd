"""Equipment of a model for training: adapters, initial state and implicit filters attached, dtypes set."""

import torch

from ..adapters import Adapters, attach, attach_initial
from ..errors import InputError
from ..model.model import Model
from . import implicit, optim
from .config import Config, Run
from .world import World


def equip(model: Model, config: Config, world: World, format: str | None) -> Adapters | None:
    """Attaches adapters, initial state and implicit filters to a model, and makes what is trained float32.

    What `optimizer.groups` gives the learning rate 0 is frozen.
    """
    adapters = None if config.adapter is None else attach(model, config.adapter, config.run.seed, format)
    if config.initial_state is not None:
        attach_initial(model, config.initial_state)
    _prepare(model, config.run, world)
    if config.model.filters == "implicit":
        implicit.attach(model, config.max_seq_len, config.model.seed, config.model.filter_frequency)
    optim.freeze(model, config.optimizer.groups)
    _check_frozen_steps(config, world)
    return adapters


def _check_frozen_steps(config: Config, world: World) -> None:
    """Sharded weights cannot be let go of in the middle of a run."""
    for number, group in enumerate(config.optimizer.groups):
        if group.frozen_steps and world.size > 1 and config.run.parallelism == "fsdp":
            raise InputError(
                f"optimizer.groups.{number}.frozen_steps is {group.frozen_steps}, but weights that are sharded over "
                'processes are frozen for good or not at all; set run.parallelism="ddp"'
            )


def _prepare(model: Model, run: Run, world: World) -> None:
    """Sets the dtypes: activations as asked; float32 for every weight, or for what a frozen model has attached."""
    if next(model.named_adapters(), None) is None:
        for parameter in model.parameters():
            parameter.data = parameter.data.float()
            parameter.requires_grad_()
    elif world.size > 1 and run.parallelism == "fsdp":
        raise InputError('a frozen model cannot be sharded; set run.parallelism="ddp"')
    model.compute_dtype = getattr(torch, run.dtype)
    model.train()
