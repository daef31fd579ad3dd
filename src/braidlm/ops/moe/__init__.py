"""Mixture of gated feed-forwards.

    y = sum over the K largest router logits of softmax_K(logits) * down_e(silu(gate_e x) * up_e x)

No capacity: no token is ever dropped. Legend: T = tokens, D = width, X = experts, F = expert
width, K = experts a token.
"""

from torch import Tensor

from .. import dispatch
from ..linear.packed import PackedWeight
from . import reference
from .reference import Changed

dispatch.register("moe", "reference", reference.moe)


def moe(
    x_TD: Tensor,
    router_XD: Tensor,
    gate_up_XFD: Tensor | PackedWeight,
    down_XDF: Tensor | PackedWeight,
    *,
    top_k: int,
    adapters: tuple[Changed | None, Changed | None] = (None, None),
) -> Tensor:
    """Routes each token to its `top_k` experts; gate_up [X, 2F, D] holds gate rows, then up rows.

    Router logits and weights are in float32 (float64 for float64 inputs); y is in x's dtype. Of
    packed experts only those that were chosen are dequantized. `adapters` change the two products.
    """
    twin = dispatch.select("moe", x_TD.device.type)
    return twin(x_TD, router_XD, gate_up_XFD, down_XDF, top_k=top_k, adapters=adapters)
