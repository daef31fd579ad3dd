"""Experts one after the other, in the order of their numbers, each on the tokens that chose it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..linear import linear
from ..linear.packed import PackedWeight
from ..numerics import widened

# What changes an expert's product y [t, out] of the tokens x [t, in] that chose it: (x, y, expert) -> [t, out].
Changed = Callable[[Tensor, Tensor, int], Tensor]


def moe(
    x_TD: Tensor,
    router_XD: Tensor,
    gate_up_XFD: Tensor | PackedWeight,
    down_XDF: Tensor | PackedWeight,
    *,
    top_k: int,
    adapters: tuple[Changed | None, Changed | None] = (None, None),
) -> Tensor:
    """See the package."""
    if not len(x_TD):
        return torch.empty_like(x_TD)
    logits_TX = F.linear(widened(x_TD), widened(router_XD))
    kept_TK, chosen_TK = logits_TX.topk(top_k, dim=-1)
    weight_TK = kept_TK.softmax(-1)
    # Choices sorted by expert: each expert's tokens are one contiguous run.
    order = chosen_TK.flatten().argsort(stable=True)
    token_of = order // top_k
    counts = chosen_TK.flatten().bincount(minlength=router_XD.shape[0]).tolist()
    outputs, begin = [], 0
    for expert, count in enumerate(counts):
        if not count:
            continue
        x = x_TD[token_of[begin : begin + count]]
        gate, up = _product(x, gate_up_XFD, expert, adapters[0]).chunk(2, -1)
        outputs.append(_product(F.silu(gate) * up, down_XDF, expert, adapters[1]))
        begin += count
    weighted = widened(torch.cat(outputs)) * weight_TK.flatten()[order][:, None]
    y_TD = torch.zeros(x_TD.shape, dtype=weighted.dtype, device=x_TD.device)
    return y_TD.index_add(0, token_of, weighted).to(x_TD.dtype)


def _product(x: Tensor, weight: Tensor | PackedWeight, expert: int, adapter: Changed | None) -> Tensor:
    y = linear(x, weight[expert])
    return y if adapter is None else adapter(x, y, expert)
