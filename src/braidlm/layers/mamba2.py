"""Mamba-2 layer: short convolution, state-space duality, gated norm.

Legend: T = packed tokens, D = width, E = inner channels, H = heads, P = head size, G = groups, N = states.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from .. import ops
from .. import spec as specs
from ..ops.numerics import widened
from ..ops.plan import PlanBuilder
from ..state.batch import BatchLayerState
from .batch import Batch
from .initial_values import log_decays, ones, time_steps
from .layer import Initialiser, Mixer, initialisers
from .linear import Conv, Linear, RmsNorm, empty


class Mamba2(Mixer):
    """Module of a `specs.Mamba2`: [T, D] -> [T, D]. With `project_out` False it has no output projection."""

    FP32_PARAMETERS: ClassVar[tuple[str, ...]] = ("a_log", "d", "dt_bias")
    INITIAL: ClassVar[Mapping[str, Initialiser]] = initialisers(a_log=log_decays, d=ones, dt_bias=time_steps)
    UNIFORM: ClassVar[bool] = True
    RESIDUAL_OUTPUTS: ClassVar[tuple[str, ...]] = ("out_proj",)

    def __init__(self, spec: specs.Mamba2, model: specs.ModelSpec, *, project_out: bool = True) -> None:
        super().__init__()
        self.spec = spec
        self.in_proj = Linear(model.width, spec.inner + spec.conv_width + spec.heads, bias=spec.proj_bias)  # z, xBC, dt
        self.conv = Conv(spec.conv_width, spec.conv, bias=spec.conv_bias)
        self.dt_bias = empty(spec.heads)
        self.a_log = empty(spec.heads)
        self.d = empty(spec.heads)
        self.norm = RmsNorm(spec.inner, model.norm)
        if project_out:
            self.out_proj = Linear(spec.inner, model.width, bias=spec.proj_bias)

    def forward(self, x_TD: Tensor, state: BatchLayerState, batch: Batch) -> tuple[Tensor, BatchLayerState]:
        """Scans, norms and projects; returns [T, D] and the state after the new tokens."""
        y, state = self.heads(x_TD, state, batch)
        return self.out_proj(y), state

    def heads(self, x_TD: Tensor, state: BatchLayerState, batch: Batch) -> tuple[Tensor, BatchLayerState]:
        """Scanned, gated and normed channels, [T, E], before the output projection."""
        spec = self.spec
        z, xbc, dt = self.in_proj(x_TD).split([spec.inner, spec.conv_width, spec.heads], -1)
        conv = self.conv(xbc, state.recurrent["conv"], batch.segments, silu=True)
        shared = spec.groups * spec.d_state
        x, b, c = conv.y_T.split([spec.inner, shared, shared], -1)
        scan = ops.ssd(
            x.unflatten(-1, (spec.heads, spec.head_dim)),
            F.softplus(widened(dt) + self.dt_bias).clamp(spec.dt_min, spec.dt_max),
            -self.a_log.exp(),
            b.unflatten(-1, (spec.groups, spec.d_state)),
            c.unflatten(-1, (spec.groups, spec.d_state)),
            self.d,
            state.recurrent["ssm"],
            batch.segments,
        )
        eps = self.norm.norm.eps
        y = ops.gated_rms_norm(
            scan.y_T.flatten(-2), z, self.norm.gains(z.device), eps, groups=spec.groups, dtype=x_TD.dtype
        )
        recurrent = {"conv": conv.state_R, "ssm": scan.state_R}
        return y, replace(state, recurrent=recurrent, snapshots={"conv": conv.snapshots, "ssm": scan.snapshots})

    def build_step(self, builder: PlanBuilder, source: Any, scale: float) -> None:
        """Adds the decode step to a plan: from input `source`, `scale` times the output to the residual stream."""
        builder.add_to_residual(self.build_step_heads(builder, source), self.out_proj, scale)

    def build_step_heads(self, builder: PlanBuilder, source: Any) -> Any:
        """Adds the decode step up to the scanned channels to a plan; returns the input that gates and norms them."""
        spec = self.spec
        zxbcdt = builder.buffer("zxbcdt", spec.inner + spec.conv_width + spec.heads)
        x, y = builder.buffer("xbc", spec.conv_width), builder.buffer("scanned", spec.inner)
        builder.linear(source, (self.in_proj, zxbcdt))
        self.conv.build_step(builder, zxbcdt + spec.inner, x, silu=True)
        b, c = x + spec.inner, x + spec.inner + spec.groups * spec.d_state
        dt = zxbcdt + spec.inner + spec.conv_width
        a = builder.vector(-self.a_log.detach().float().exp())
        vectors = a, builder.vector(self.d), builder.vector(self.dt_bias)
        limits = spec.dt_min, math.inf if spec.dt_max is None else spec.dt_max
        sizes = spec.head_dim, spec.groups, spec.d_state
        builder.step("ssd", x, b, c, dt, *vectors, *limits, *sizes, builder.state("ssm", "same"), y)
        return builder.gated(y, zxbcdt, self.norm, spec.groups)
