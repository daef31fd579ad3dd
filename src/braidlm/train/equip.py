"""Equipment of a model for training: adapters, initial state and implicit filters attached, dtypes set."""

import torch

from ..adapters import Adapters, attach, attach_initial
from ..errors import InputError
from ..model.model import Model
from . import implicit
from .config import Config, Run
from .world import World


def equip(model: Model, config: Config, world: World, format: str | None) -> Adapters | None:
    """Attaches adapters, initial state and implicit filters to a model, and makes what is trained float32."""
    adapters = None if config.adapter is None else attach(model, config.adapter, config.run.seed, format)
    if config.initial_state is not None:
        attach_initial(model, config.initial_state)
    _prepare(model, config.run, world)
    if config.model.filters == "implicit":
        implicit.attach(model, config.max_seq_len, config.model.seed, config.model.filter_frequency)
    return adapters


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
