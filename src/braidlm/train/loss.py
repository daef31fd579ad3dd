"""Cross-entropy of next tokens without the logits of a long sequence ever existing whole.

Legend: T = tokens, D = width, V = vocabulary, C = tokens of a chunk.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import ops
from ..ops.products import mm


def cross_entropy(
    hidden_TD: Tensor, head_VD: Tensor, targets_T: Tensor, *, scale: float = 1.0, z_loss: float = 0.0, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Two sums over the tokens whose target is not negative, in float32 (float64 for float64 hidden states).

    The first is -log p(target) + z_loss log(sum exp logits)^2 with logits = scale * hidden head^T, and has gradients;
    the second is -log p(target) alone, for logs. The gradient is made in the same pass, `chunk` tokens at a time, so
    that no logits are kept; `head_VD` may be wider than `hidden_TD`, and gets its gradient in its own dtype.
    """
    places = (targets_T >= 0).nonzero()[:, 0]
    if len(places) < len(targets_T):
        hidden_TD, targets_T = hidden_TD.index_select(0, places), targets_T[places]
    return _CrossEntropy.apply(hidden_TD, head_VD, targets_T, scale, z_loss, chunk)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_TD: Tensor, head_VD: Tensor, targets_T: Tensor, scale: float, z_loss: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden_TD.dtype, torch.float32)
        head = head_VD.to(hidden_TD.dtype)
        needed = ctx.needs_input_grad
        dhidden = torch.empty_like(hidden_TD) if needed[0] else None
        dhead = None
        total, plain = hidden_TD.new_zeros((), dtype=wide), hidden_TD.new_zeros((), dtype=wide)
        for begin in range(0, len(hidden_TD), chunk):
            part = slice(begin, begin + chunk)
            hidden_CD = hidden_TD[part]
            made = ops.cross_entropy(mm(hidden_CD, head.t()), targets_T[part], scale, z_loss, gradient=any(needed[:2]))
            plain += made.plain_C.sum()
            total += made.sums_C.square().sum() * z_loss
            if made.dlogits_CV is None:
                continue
            if dhidden is not None:
                mm(made.dlogits_CV, head, out=dhidden[part])
            if needed[1]:
                more = mm(made.dlogits_CV.t(), hidden_CD)
                dhead = more.to(head_VD.dtype) if dhead is None else dhead.add_(more)
        if needed[1] and dhead is None:
            dhead = torch.zeros_like(head_VD)
        ctx.save_for_backward(dhidden, dhead)
        ctx.mark_non_differentiable(plain)
        return total + plain, plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dtotal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        dhidden, dhead = (None if t is None else t * dtotal.to(t.dtype) for t in ctx.saved_tensors)
        return dhidden, dhead, None, None, None, None
