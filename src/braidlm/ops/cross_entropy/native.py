"""Cross-entropy in C++, one row at a time while it is in the cache; the gradient takes the place of the logits."""

import torch
from torch import Tensor

from ..native_loader import extension, takes
from ..threads import count
from . import reference


def cross_entropy(
    logits_CV: Tensor, targets_C: Tensor, scale: float, z_loss: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Native implementation of `ops.cross_entropy`."""
    if not (takes(logits_CV) and logits_CV.stride(-1) == 1):
        return reference.cross_entropy(logits_CV, targets_C, scale, z_loss, gradient)
    plain_C, sums_C = torch.empty(2, len(logits_CV)).unbind(0)
    extension().cross_entropy(logits_CV, targets_C.contiguous(), scale, z_loss, gradient, plain_C, sums_C, count())
    return plain_C, sums_C, logits_CV if gradient else None
