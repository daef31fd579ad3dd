"""AdamW with its groups of parameters, the learning rate schedule, and clipping of gradients."""

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

from ..errors import InputError
from ..layers import Layer
from ..model.model import Model
from .config import Optimizer, ParameterGroup, Schedule

_PLAIN = ParameterGroup(match=("*",))


def freeze(model: Model, chosen: Sequence[ParameterGroup]) -> None:
    """Freezes what `chosen` groups give the learning rate 0.

    `InputError` for a pattern that fits no parameter, and for a group all of whose parameters belong to earlier ones.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for number, group in enumerate(chosen):
        for pattern in group.match:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise InputError(
                    f"optimizer.groups.{number}.match has the pattern {pattern!r}, which fits none of the {len(names)} "
                    f"parameters that are trained, such as {names[0]}"
                )
    _require_seen(names, chosen)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not _group_of(name, chosen).lr:
            parameter.requires_grad_(False)
    if chosen and not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("optimizer.groups gives every parameter the learning rate 0, so that nothing is trained")


def _require_seen(names: Sequence[str], chosen: Sequence[ParameterGroup]) -> None:
    """`InputError` for a group that is the first to fit no parameter."""
    for number, group in enumerate(chosen):
        fitted = [name for name in names if _fits(name, group)]
        first = [next(index for index in range(number + 1) if _fits(name, chosen[index])) for name in fitted]
        if number not in first:
            raise InputError(
                f"optimizer.groups.{number} is hidden by group {first[0]}: the first group that fits a parameter "
                f"counts, which for {fitted[0]} is group {first[0]}; put the narrower group first"
            )


def _fits(name: str, group: ParameterGroup) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in group.match)


def _group_of(name: str, chosen: Sequence[ParameterGroup]) -> ParameterGroup:
    """First group that fits a parameter's name."""
    return next((group for group in chosen if _fits(name, group)), _PLAIN)


def groups(model: Model, weight_decay: float, chosen: Sequence[ParameterGroup] = ()) -> list[dict[str, Any]]:
    """Groups of parameters: matrices decay; gains, biases, A, D, time steps, modes and prefixes do not.

    Each is divided further by `chosen` groups: `factor` is that of the learning rate, `frozen_steps` the number of
    steps in which its parameters are frozen.
    """
    precise = set(model.fp32_parameter_names())
    found: dict[tuple[float, float, int], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.dim() < 2 or name in precise or name == "prefix"
            group = _group_of(name, chosen)
            decay = weight_decay if group.weight_decay is None else group.weight_decay
            found.setdefault((group.lr, 0.0 if plain else decay, group.frozen_steps), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor, "frozen_steps": frozen_steps}
        for (factor, decay, frozen_steps), parameters in found.items()
    ]


def hold_frozen(made: AdamW, step: int) -> None:
    """Freezes the groups that are still frozen in `step` (from 0), where a run begins or goes on."""
    for group in made.param_groups:
        if step < group["frozen_steps"]:
            for parameter in group["params"]:
                parameter.requires_grad_(False)


def release_frozen(made: AdamW, step: int) -> bool:
    """Lets go of the groups that are frozen until `step` (from 0); returns whether there are any."""
    released = [group for group in made.param_groups if step == group["frozen_steps"] > 0]
    for group in released:
        for parameter in group["params"]:
            parameter.requires_grad_()
    return bool(released)


def set_rate(made: AdamW, rate: float) -> None:
    """Sets the learning rate of each group: `rate` by its factor."""
    for group in made.param_groups:
        group["lr"] = rate * group["factor"]


def optimizer(model: Model, asked: Optimizer) -> AdamW:
    """AdamW over the parameters that require gradients; the learning rate is set at each step."""
    beta1, beta2 = asked.betas
    parameters = groups(model, asked.weight_decay, asked.groups)
    made = AdamW(parameters, lr=asked.lr, betas=(beta1, beta2), eps=asked.eps, fused=True)
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
    """Projects parameters that are trained back into their layers' ranges, after a step."""
    for module in model.modules():
        if isinstance(module, Layer) and any(p.requires_grad for p in module.parameters(recurse=False)):
            module.project_parameters()
