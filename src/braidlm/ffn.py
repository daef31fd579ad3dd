"""Feed-forwards: gated, and mixtures of gated ones.

Legend: T = packed tokens, D = width, F = hidden, X = experts.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from . import ops, spec
from .layers import Linear, empty


class Mlp(nn.Module):
    """See `spec.Mlp`."""

    def __init__(self, form: spec.Mlp, width: int) -> None:
        super().__init__()
        self.activation = form.activation
        self.gate_proj = Linear(width, form.hidden, bias=form.bias)
        self.up_proj = Linear(width, form.hidden, bias=form.bias)
        self.down_proj = Linear(form.hidden, width, bias=form.bias)

    def forward(self, x_TD: Tensor) -> Tensor:
        """[T, D] -> [T, D]; gelu is the exact (erf) form."""
        gate = self.gate_proj(x_TD)
        acted = F.silu(gate) if self.activation == "silu" else F.gelu(gate)
        return self.down_proj(acted * self.up_proj(x_TD))


class Moe(nn.Module):
    """See `spec.Moe`. gate_up is [X, 2F, D]: an expert's gate rows, then its up rows."""

    def __init__(self, form: spec.Moe, width: int) -> None:
        super().__init__()
        self.top_k = form.top_k
        self.router = empty(form.experts, width)
        self.gate_up = empty(form.experts, 2 * form.hidden, width)
        self.down = empty(form.experts, width, form.hidden)
        self.shared = Mlp(form.shared, width) if form.shared is not None else None

    def forward(self, x_TD: Tensor) -> Tensor:
        """[T, D] -> [T, D]: the chosen experts and, with weight 1, the shared one."""
        y = ops.moe(x_TD, self.router, self.gate_up, self.down, top_k=self.top_k)
        return y if self.shared is None else y + self.shared(x_TD)


def build(form: spec.FeedForward, width: int) -> nn.Module:
    """The module of a feed-forward spec."""
    return Mlp(form, width) if isinstance(form, spec.Mlp) else Moe(form, width)
