"""Pointwise operations: gated linear units, and sums into the residual stream.

Legend: D = channels.
"""

from typing import Literal

from torch import Tensor

from .. import dispatch
from ..native_loader import why_not
from . import native, reference

Activation = Literal["silu", "gelu"]

dispatch.register("glu", "reference", reference.glu)
dispatch.register("add_scaled", "reference", reference.add_scaled)
dispatch.register("glu", "native", native.glu, why_not)
dispatch.register("add_scaled", "native", native.add_scaled, why_not)


def glu(gate_D: Tensor, up_D: Tensor, activation: Activation) -> Tensor:
    """Gated linear unit, act(gate) * up (Shazeer 2020), in the inputs' dtype; gelu is the exact (erf) form."""
    return dispatch.select("glu", gate_D.device.type)(gate_D, up_D, activation)


def add_scaled(x_D: Tensor, y_D: Tensor, scale: float) -> Tensor:
    """Scaled sum, x + scale * y, in x's dtype; `y_D` may be narrower than `x_D`."""
    return dispatch.select("add_scaled", x_D.device.type)(x_D, y_D, scale)
