"""Small modules over `ops`: the parts that mixers and feed-forwards are made of.

Parameters are created empty; `init.randomise` or a checkpoint fills them. A module names in
`PRECISE` the parameters that stay in float32 whatever the dtype of the weights.

Legend: T = packed tokens, H = heads, K = head size.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from . import ops
from .ops.linear.packed import PackedWeight
from .ops.numerics import widened
from .ops.plan import Draft
from .spec import FactorScaling, LinearScaling, Llama3Scaling, Norm, NtkScaling, Rope

Weight = nn.Parameter | PackedWeight  # the second once a model has been quantized


def empty(*shape: int) -> nn.Parameter:
    """An uninitialised parameter."""
    return nn.Parameter(torch.empty(*shape))


class Adapter(nn.Module):
    """What changes the result of one weight's product, or the state that sequences begin with (see `adapters`).

    Its parameters are no weights of the model.
    """


class Linear(nn.Module):
    """x W^T + b with W stored [out, in], as its adapter changes it if it has one."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight: Weight = empty(outputs, inputs)
        self.bias = empty(outputs) if bias else None
        self.adapter: Adapter | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if self.adapter is None:
            return ops.linear(x, self.weight, self.bias)
        return self.adapter(x, ops.linear(x, self.weight), self.bias)


class Embedding(nn.Module):
    """One row a token; the same rows are the output projection of a tied model."""

    def __init__(self, vocab: int, width: int) -> None:
        super().__init__()
        self.weight: Weight = empty(vocab, width)
        self.adapter: Adapter | None = None

    def forward(self, ids_T: Tensor) -> Tensor:
        """[T] int64 -> [T, width]."""
        rows = self.weight.rows(ids_T) if isinstance(self.weight, PackedWeight) else self.weight[ids_T]
        return rows if self.adapter is None else self.adapter(ids_T, rows)


class RmsNorm(nn.Module):
    """Root-mean-square norm in one of its two published forms."""

    PRECISE: ClassVar[tuple[str, ...]] = ("weight",)

    def __init__(self, size: int, norm: Norm) -> None:
        super().__init__()
        self.weight = empty(size)
        self.norm = norm

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Norm over the last dimension, computed in float32 and returned as `dtype`."""
        return ops.rms_norm(x, self.weight, self.norm.eps, eps_outside_root=self.norm.eps_outside_root, dtype=dtype)


class Conv(nn.Module):
    """Weights of a depthwise causal convolution, [channels, 1, taps] as published."""

    def __init__(self, channels: int, taps: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = empty(channels, 1, taps)
        self.bias = empty(channels) if bias else None

    def forward(self, x_TC: Tensor, state_RCK: Tensor, segments: ops.Segments, *, silu: bool) -> ops.Carried:
        """Convolves packed rows; see `ops.causal_conv1d`."""
        return ops.causal_conv1d(x_TC, self.weight[:, 0], self.bias, state_RCK, segments, silu=silu)

    def draft(self, draft: Draft, x: int, y: int, *, silu: bool) -> None:
        """One token's step from place `x` to place `y`, with the block's slot "conv"."""
        weight = draft.vector(self.weight[:, 0].t())
        draft.plan.conv(x, weight, draft.vector(self.bias), draft.state("conv", "exchanged"), silu, y)


def rope_frequencies(rope: Rope) -> Tensor:
    """Angle per position of each rotated pair, [dims / 2] float32.

    In float32 throughout, as the models were trained: at long positions the rounding of the
    frequencies is part of what a checkpoint has learned.
    """
    base = rope.base
    if isinstance(rope.scaling, NtkScaling):
        base = base * rope.scaling.factor ** (rope.dims / (rope.dims - 2))
    frequency = 1.0 / base ** (torch.arange(0, rope.dims, 2, dtype=torch.float32, device="cpu") / rope.dims)
    if isinstance(rope.scaling, LinearScaling):
        return frequency / rope.scaling.factor
    if isinstance(rope.scaling, FactorScaling):
        return frequency / torch.tensor(rope.scaling.factors)
    if isinstance(rope.scaling, Llama3Scaling):
        return _llama3(frequency, rope.scaling)
    return frequency


def _llama3(frequency: Tensor, scaling: Llama3Scaling) -> Tensor:
    turns = scaling.original_positions * frequency / (2 * math.pi)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = keep.clamp(0, 1)
    return frequency * (keep + (1 - keep) / scaling.factor)


class Rotation:
    """Cosines and sines of one packed batch, computed once for each kind of `Rope` in the model."""

    def __init__(self, positions_T: Tensor) -> None:
        self._positions_T = positions_T
        self._tables: dict[Rope, tuple[Tensor, Tensor]] = {}

    def rotate(self, x_THK: Tensor, rope: Rope) -> Tensor:
        """x with pair (i, i + dims/2) of each head turned by its position's angle; float32 inside."""
        cos, sin = self._table(rope)
        x = widened(x_THK[..., : rope.dims])
        # The partner of each dimension lies half a head away; the sign is in the table.
        turned = torch.addcmul(x * cos, x.roll(rope.dims // 2, -1), sin).to(x_THK.dtype)
        return turned if rope.dims == x_THK.shape[-1] else torch.cat([turned, x_THK[..., rope.dims :]], -1)

    def _table(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """Cosines, and sines that are negative in the first half: both [T, 1, dims]."""
        if rope not in self._tables:
            angles = self._positions_T[:, None, None] * rope_frequencies(rope).to(self._positions_T.device)
            cos, sin = angles.cos(), angles.sin()
            self._tables[rope] = (torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))
        return self._tables[rope]
