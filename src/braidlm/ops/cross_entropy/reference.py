"""torch's own operations, in float32."""

import torch
from torch import Tensor


def cross_entropy(
    logits_CV: Tensor, targets_C: Tensor, scale: float, z_loss: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Reference implementation of `ops.cross_entropy`."""
    l_CV = logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32)) * scale
    sums_C1, target_C1 = l_CV.logsumexp(-1, keepdim=True), targets_C[:, None]
    plain_C = (sums_C1 - l_CV.gather(1, target_C1))[:, 0]
    if not gradient:
        return plain_C, sums_C1[:, 0], None
    dlogits_CV = l_CV.sub_(sums_C1).exp_().mul_(scale * (1 + 2 * z_loss * sums_C1))
    dlogits_CV.scatter_add_(1, target_C1, torch.full_like(sums_C1, -scale))
    return plain_C, sums_C1[:, 0], dlogits_CV.to(logits_CV.dtype)
