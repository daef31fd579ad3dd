"""Modules that mixers and feed-forward layers are made of: linear, embedding, norm, short convolution.

Parameters are created empty; `initialisation.randomise` or a checkpoint fills them.

Legend: T = packed tokens, C = channels, R = rows, K = taps.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..ops.linear.quantized import QuantizedWeight
from ..ops.plan import PlanBuilder
from ..spec import Norm
from .initial_values import ones, zeros
from .layer import Initialiser, Layer, initialisers

Weight = nn.Parameter | QuantizedWeight  # the second once a model has been quantized


def empty(*shape: int) -> nn.Parameter:
    """An uninitialised parameter."""
    return nn.Parameter(torch.empty(*shape))


class Adapter(nn.Module):
    """Base class of adapters: they change the product of one weight, or the state that sequences begin with.

    Their parameters are no weights of the model (see `adapters`).
    """


class Linear(Layer):
    """Linear layer, x W^T + b with W stored [out, in], changed by its adapter if it has one."""

    QUANTIZABLE: ClassVar[tuple[str, ...]] = ("weight",)
    INITIAL: ClassVar[Mapping[str, Initialiser]] = initialisers(bias=zeros)

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight: Weight = empty(outputs, inputs)
        self.bias = empty(outputs) if bias else None
        self.adapter: Adapter | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer: [..., in] -> [..., out]."""
        if self.adapter is None:
            return ops.linear(x, self.weight, self.bias)
        return self.adapter(x, ops.linear(x, self.weight), self.bias)


class Embedding(Layer):
    """Token embedding, one row a token; in a tied model the rows are the output projection too."""

    QUANTIZABLE: ClassVar[tuple[str, ...]] = ("weight",)

    def __init__(self, vocab: int, width: int) -> None:
        super().__init__()
        self.weight: Weight = empty(vocab, width)
        self.adapter: Adapter | None = None

    def forward(self, ids_T: Tensor) -> Tensor:
        """Looks up the rows of token ids: [T] int64 -> [T, width]."""
        # Not by indexing: its gradient adds rows of a token that comes twice in an order that varies between threads.
        rows = self.weight.rows(ids_T) if isinstance(self.weight, QuantizedWeight) else F.embedding(ids_T, self.weight)
        return rows if self.adapter is None else self.adapter(ids_T, rows)


class RmsNorm(Layer):
    """Root-mean-square norm in one of its two published forms; with `learned` False its weights are all one."""

    FP32_PARAMETERS: ClassVar[tuple[str, ...]] = ("weight",)
    INITIAL: ClassVar[Mapping[str, Initialiser]] = initialisers(weight=ones)

    def __init__(self, size: int, norm: Norm, *, learned: bool = True) -> None:
        super().__init__()
        self.size = size
        self.norm = norm
        self.weight = empty(size) if learned else None

    def gains(self, device: torch.device | str) -> Tensor:
        """Factors of the channels, [size]."""
        return torch.ones(self.size, device=device) if self.weight is None else self.weight

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Normalizes the last dimension of `x`, in float32; returned as `dtype`."""
        return ops.rms_norm(
            x, self.gains(x.device), self.norm.eps, eps_outside_root=self.norm.eps_outside_root, dtype=dtype
        )


class Conv(Layer):
    """Short depthwise causal convolution; its weights are [channels, 1, taps], as published."""

    INITIAL: ClassVar[Mapping[str, Initialiser]] = initialisers(bias=zeros)
    UNIFORM: ClassVar[bool] = True

    def __init__(self, channels: int, taps: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = empty(channels, 1, taps)
        self.bias = empty(channels) if bias else None

    def forward(self, x_TC: Tensor, state_RCK: Tensor, segments: ops.Segments, *, silu: bool) -> ops.Carried:
        """Convolves packed rows; see `ops.causal_conv1d`."""
        return ops.causal_conv1d(x_TC, self.weight[:, 0], self.bias, state_RCK, segments, silu=silu)

    def build_step(self, builder: PlanBuilder, x: int, y: int, *, silu: bool) -> None:
        """Adds the decode step to a plan: from buffer `x` to buffer `y`, with the block's recurrent state "conv"."""
        weight = builder.vector(self.weight[:, 0].t())
        state = builder.state("conv", "exchanged")
        builder.step("causal_conv1d", x, weight, builder.vector(self.bias), state, silu, y)
