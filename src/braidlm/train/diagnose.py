"""Diagnosis of numbers that are not finite: the first block forwards, the last one backwards."""

import torch
from torch import Tensor, nn

from ..model.hooks import removed_after
from .data.pack import Pack
from .objective import TrainingObjective


def of_loss(objective: TrainingObjective, packs: list[Pack]) -> str:
    """Names the first part of the model whose output is not finite, for the first sequence that shows it."""
    model = objective.model
    parts: list[tuple[str, nn.Module]] = [("embed", model.embed)]
    parts += [(f"blocks.{index}", block) for index, block in enumerate(model.blocks)]
    parts.append(("norm", model.norm))
    found: list[str] = []

    def watch(name: str) -> object:
        def look(_: nn.Module, __: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, Tensor) and not bool(first.isfinite().all()):
                found.append(name)

        return look

    hooks = [part.register_forward_hook(watch(name)) for name, part in parts]  # type: ignore[arg-type]
    with removed_after(hooks), torch.no_grad():
        for pack in packs:
            objective(pack)
            if found:
                return f"the output of {found[0]} is the first that is not finite"
    return "every block's output is finite, the head's is not"


def of_gradients(model: nn.Module) -> str:
    """Names the parameter nearest to the loss whose gradient is not finite."""
    names = [name for name, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    return f"the gradients of {len(names)} parameters are not, {names[-1]} nearest to the loss" if names else ""
