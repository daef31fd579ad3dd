"""Cross-entropy of next tokens without the logits of a long sequence ever existing whole.

Legend: T = tokens, D = width, V = vocabulary, C = tokens of a chunk.
"""

from collections.abc import Sequence
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


class HeadGradients:
    """Gradients of hidden states and head, made of those of the logits, chunk by chunk."""

    def __init__(self, hidden_TD: Tensor, head_VD: Tensor, dtype: torch.dtype, needed: Sequence[bool]) -> None:
        """Begins with no chunk; `head_VD` has the dtype of `hidden_TD`, its gradient gets `dtype`.

        `needed` says whether the hidden states need a gradient, and whether the head does.
        """
        self.needed = any(needed[:2])
        self._hidden_TD, self._head_VD = hidden_TD, head_VD
        self._dhidden = torch.empty_like(hidden_TD) if needed[0] else None
        self._dhead = torch.zeros_like(head_VD, dtype=dtype) if needed[1] else None

    def add(self, part: slice, dlogits_CV: Tensor) -> None:
        """Adds what a chunk contributes whose logits have this gradient."""
        if self._dhidden is not None:
            mm(dlogits_CV, self._head_VD, out=self._dhidden[part])
        if self._dhead is not None:
            self._dhead.add_(mm(dlogits_CV.t(), self._hidden_TD[part]))

    def found(self) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of hidden states and head; None where none was needed."""
        return self._dhidden, self._dhead


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_TD: Tensor, head_VD: Tensor, targets_T: Tensor, scale: float, z_loss: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden_TD.dtype, torch.float32)
        head = head_VD.to(hidden_TD.dtype)
        gradients = HeadGradients(hidden_TD, head, head_VD.dtype, ctx.needs_input_grad)
        total, plain = hidden_TD.new_zeros((), dtype=wide), hidden_TD.new_zeros((), dtype=wide)
        for begin in range(0, len(hidden_TD), chunk):
            part = slice(begin, begin + chunk)
            logits_CV = mm(hidden_TD[part], head.t())
            made = ops.cross_entropy(logits_CV, targets_T[part], scale, z_loss, gradient=gradients.needed)
            plain += made.plain_C.sum()
            total += made.sums_C.square().sum() * z_loss
            if made.dlogits_CV is not None:
                gradients.add(part, made.dlogits_CV)
        ctx.save_for_backward(*gradients.found())
        ctx.mark_non_differentiable(plain)
        return total + plain, plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dtotal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        dhidden, dhead = (None if t is None else t * dtotal.to(t.dtype) for t in ctx.saved_tensors)
        return dhidden, dhead, None, None, None, None
