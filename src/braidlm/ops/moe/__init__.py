"""Mixture of gated feed-forwards.

    y = sum over the K largest router logits of softmax_K(logits) * down_e(silu(gate_e x) * up_e x)

No capacity: no token is ever dropped. Legend: T = tokens, D = width, X = experts, F = expert
width, K = experts a token.
"""

from torch import Tensor

from .. import dispatch
from ..linear.quantized import QuantizedWeight
from . import reference
from .reference import Changed

dispatch.register("moe", "reference", reference.moe)


def moe(
    x_TD: Tensor,
    router_XD: Tensor,
    gate_up_XFD: Tensor | QuantizedWeight,
    down_XDF: Tensor | QuantizedWeight,
    *,
    top_k: int,
    adapters: tuple[Changed | None, Changed | None] = (None, None),
) -> Tensor:
    """Routes each token to its `top_k` experts; gate_up [X, 2F, D] holds gate rows, then up rows.

    Router logits and weights are in float32 (float64 for float64 inputs); y is in x's dtype. Of
    quantized experts only those that were chosen are dequantized. `adapters` change the two products.
    """
    implementation = dispatch.select("moe", x_TD.device.type)
    return implementation(x_TD, router_XD, gate_up_XFD, down_XDF, top_k=top_k, adapters=adapters)
