"""Mixture of experts, one expert after the other, in the order of their numbers, each on the tokens that chose it.

Legend: C = choices (tokens times K), sorted by expert; I, O = inputs and outputs of an expert's matrix.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..linear import linear
from ..linear.quantized import QuantizedWeight
from ..numerics import widened
from ..pointwise import glu
from ..products import mm

# What changes an expert's product y [t, out] of the tokens x [t, in] that chose it: (x, y, expert) -> [t, out].
Changed = Callable[[Tensor, Tensor, int], Tensor]


def moe(
    x_TD: Tensor,
    router_XD: Tensor,
    gate_up_XFD: Tensor | QuantizedWeight,
    down_XDF: Tensor | QuantizedWeight,
    *,
    top_k: int,
    adapters: tuple[Changed | None, Changed | None] = (None, None),
) -> Tensor:
    """Reference implementation of `ops.moe`."""
    if not len(x_TD):
        return torch.empty_like(x_TD)
    logits_TX = F.linear(widened(x_TD), widened(router_XD))
    kept_TK, chosen_TK = logits_TX.topk(top_k, dim=-1)
    weight_TK = kept_TK.softmax(-1)
    # Choices sorted by expert: each expert's tokens are one contiguous run.
    order_C = chosen_TK.flatten().argsort(stable=True)
    token_of_C = order_C // top_k
    counts = chosen_TK.flatten().bincount(minlength=router_XD.shape[0]).tolist()
    # By index_select: its gradient adds rows, that of indexing adds number by number.
    gate_CF, up_CF = _by_expert(x_TD.index_select(0, token_of_C), gate_up_XFD, counts, adapters[0]).chunk(2, -1)
    y_CD = _by_expert(glu(gate_CF, up_CF, "silu"), down_XDF, counts, adapters[1])
    weighted_CD = widened(y_CD) * weight_TK.flatten()[order_C][:, None]
    y_TD = torch.zeros(x_TD.shape, dtype=weighted_CD.dtype, device=x_TD.device)
    return y_TD.index_add(0, token_of_C, weighted_CD).to(x_TD.dtype)


def _by_expert(
    x_CI: Tensor, weight_XOI: Tensor | QuantizedWeight, counts: list[int], adapter: Changed | None
) -> Tensor:
    """Each expert's matrix times its choices, of which it has `counts`, and what `adapter` makes of that: [C, O]."""
    chosen = [expert for expert, count in enumerate(counts) if count]
    sizes = [counts[expert] for expert in chosen]
    if isinstance(weight_XOI, Tensor):
        y_CO = _Products.apply(x_CI, weight_XOI, counts)
    else:
        y_CO = torch.cat([linear(x, weight_XOI[expert]) for expert, x in zip(chosen, x_CI.split(sizes), strict=True)])
    if adapter is None:
        return y_CO
    runs = zip(x_CI.split(sizes), y_CO.split(sizes), chosen, strict=True)
    return torch.cat([adapter(x, y, expert) for x, y, expert in runs])


class _Products(torch.autograd.Function):
    """Products in x's dtype, which each expert's matrix is rounded to alone.

    One gradient of all experts is filled; that of an index is a tensor of all experts for each of them.
    """

    @staticmethod
    def forward(ctx: Any, x_CI: Tensor, weight_XOI: Tensor, counts: list[int]) -> Tensor:
        ctx.save_for_backward(x_CI, weight_XOI)
        ctx.counts = counts
        runs = zip(x_CI.split(counts), weight_XOI, strict=True)
        return torch.cat([linear(x, weight_OI) for x, weight_OI in runs if len(x)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_CO: Tensor) -> tuple[Tensor | None, ...]:
        x_CI, weight_XOI = ctx.saved_tensors
        dx_CI = torch.empty_like(x_CI) if ctx.needs_input_grad[0] else None
        dweight_XOI = torch.empty_like(weight_XOI) if ctx.needs_input_grad[1] else None
        begin = 0
        for expert, count in enumerate(ctx.counts):
            run = slice(begin, begin + count)
            begin += count
            if dx_CI is not None and count:
                mm(dy_CO[run], weight_XOI[expert].to(x_CI.dtype), out=dx_CI[run])
            if dweight_XOI is not None:  # of no tokens, zero
                dweight_XOI[expert] = mm(dy_CO[run].t(), x_CI[run])
        return dx_CI, dweight_XOI, None
