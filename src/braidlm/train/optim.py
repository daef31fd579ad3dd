"""AdamW with its groups of parameters, the learning rate schedule, and clipping of gradients."""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

from ..layers import Layer
from ..model.model import Model
from .config import Optimizer, Schedule


def groups(model: Model, weight_decay: float) -> list[dict[str, object]]:
    """Groups of parameters: matrices decay; gains, biases, A, D, time steps, modes and prefixes do not."""
    precise = set(model.fp32_parameter_names())
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.dim() < 2 or name in precise or name == "prefix"
            (kept if plain else decayed).append(parameter)
    found = [(decayed, weight_decay), (kept, 0.0)]
    return [{"params": parameters, "weight_decay": decay} for parameters, decay in found if parameters]


def optimizer(model: Model, asked: Optimizer) -> AdamW:
    """AdamW over the parameters that require gradients; the learning rate is set at each step."""
    beta1, beta2 = asked.betas
    made = AdamW(groups(model, asked.weight_decay), lr=asked.lr, betas=(beta1, beta2), eps=asked.eps, fused=True)
    # AdamW makes moments at a parameter's first step, checkpoints want those of all: also of one without a gradient.
    for group in made.param_groups:
        for parameter in group["params"]:
            step = torch.zeros((), dtype=torch.float32, device=parameter.device)
            moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            made.state[parameter] = {"step": step, **moments}
    return made


def rate(step: int, schedule: Schedule) -> float:
    """Share of the peak learning rate at `step` (from 0), by a schedule whose `steps` are known."""
    steps = schedule.steps or 1
    warmup = schedule.warmup if not 0 < schedule.warmup < 1 else max(1, int(steps * schedule.warmup))
    if step < warmup:
        return (step + 1) / warmup
    if schedule.kind == "cosine":
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * done)) / 2
    falling = max(1, round(steps * schedule.decay))
    left = min(1.0, max(0, steps - step) / falling)
    return schedule.final + (1 - schedule.final) * left


def norm(parameters: Iterable[nn.Parameter]) -> float:
    """L2 norm of all gradients together."""
    total = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return float(total.full_tensor() if isinstance(total, DTensor) else total)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float, found: float) -> None:
    """Scales gradients whose norm is `found` down to the norm `max_norm`; 0 leaves them as they are."""
    if max_norm:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, torch.tensor(found))


def project_parameters(model: Model) -> None:
    """Projects every layer's parameters back into their range, after a step."""
    for module in model.modules():
        if isinstance(module, Layer):
            module.project_parameters()
