"""Mamba-1 layer: short convolution, input-dependent selection, selective scan, gate.

Legend: T = packed tokens, D = width, E = inner channels, N = states a channel.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import ops
from .. import spec as specs
from ..ops.plan import PlanBuilder
from ..state.batch import BatchLayerState
from .batch import Batch
from .initial_values import log_decays, ones, time_steps
from .layer import Initialiser, Mixer, initialisers
from .linear import Conv, Linear, RmsNorm, empty


class Mamba(Mixer):
    """Module of a `specs.Mamba`: [T, D] -> [T, D]. With `project_out` False it has no output projection."""

    FP32_PARAMETERS: ClassVar[tuple[str, ...]] = ("a_log", "d", "dt_bias")
    UNQUANTIZED: ClassVar[tuple[str, ...]] = ("x_proj", "dt_proj")  # they steer the recurrence
    INITIAL: ClassVar[Mapping[str, Initialiser]] = initialisers(a_log=log_decays, d=ones, dt_bias=time_steps)
    UNIFORM: ClassVar[bool] = True
    RESIDUAL_OUTPUTS: ClassVar[tuple[str, ...]] = ("out_proj",)

    def __init__(self, spec: specs.Mamba, model: specs.ModelSpec, *, project_out: bool = True) -> None:
        super().__init__()
        self.spec = spec
        self.in_proj = Linear(model.width, 2 * spec.inner, bias=spec.proj_bias)  # rows: x, z
        self.conv = Conv(spec.inner, spec.conv, bias=spec.conv_bias)
        self.x_proj = Linear(spec.inner, spec.dt_rank + 2 * spec.d_state)  # rows: dt, B, C
        self.dt_proj = Linear(spec.dt_rank, spec.inner)
        self.dt_bias = empty(spec.inner)
        self.a_log = empty(spec.inner, spec.d_state)
        self.d = empty(spec.inner)
        if spec.inner_norms:
            norm = model.norm if spec.inner_eps is None else replace(model.norm, eps=spec.inner_eps)
            sizes = (spec.dt_rank, spec.d_state, spec.d_state)
            self.dt_norm, self.b_norm, self.c_norm = (
                RmsNorm(size, norm, learned=spec.inner_norms_learned) for size in sizes
            )
        if project_out:
            self.out_proj = Linear(spec.inner, model.width, bias=spec.proj_bias)

    def forward(self, x_TD: Tensor, state: BatchLayerState, batch: Batch) -> tuple[Tensor, BatchLayerState]:
        """Scans and projects; returns [T, D] and the state after the new tokens."""
        y, state = self.heads(x_TD, state, batch)
        return self.out_proj(y), state

    def heads(self, x_TD: Tensor, state: BatchLayerState, batch: Batch) -> tuple[Tensor, BatchLayerState]:
        """Scanned and gated channels, [T, E], before the output projection."""
        x, z = self.in_proj(x_TD).chunk(2, -1)
        conv = self.conv(x, state.recurrent["conv"], batch.segments, silu=True)
        dt, b, c = self._selection(conv.y_T)
        a = -self.a_log.exp()
        scan = ops.gated_selective_scan(
            conv.y_T, dt, self.dt_bias, a, b, c, self.d, z, state.recurrent["ssm"], batch.segments
        )
        recurrent = {"conv": conv.state_R, "ssm": scan.state_R}
        return scan.y_T, replace(state, recurrent=recurrent, snapshots={"conv": conv.snapshots, "ssm": scan.snapshots})

    def _selection(self, x_TE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The input-dependent dt [T, E] before its bias, B and C [T, N]."""
        spec = self.spec
        dt, b, c = self.x_proj(x_TE).split([spec.dt_rank, spec.d_state, spec.d_state], -1)
        if spec.inner_norms:
            dtype: torch.dtype = x_TE.dtype
            dt, b, c = self.dt_norm(dt, dtype), self.b_norm(b, dtype), self.c_norm(c, dtype)
        return self.dt_proj(dt), b, c

    def build_step(self, builder: PlanBuilder, source: Any, scale: float) -> None:
        """Adds the decode step to a plan: from input `source`, `scale` times the output to the residual stream."""
        builder.add_to_residual(self.build_step_heads(builder, source), self.out_proj, scale)

    def build_step_heads(self, builder: PlanBuilder, source: Any) -> Any:
        """Adds the decode step up to the gated channels to a plan; returns the input that reads them."""
        spec = self.spec
        xz, x = builder.buffer("xz", 2 * spec.inner), builder.buffer("x", spec.inner)
        builder.linear(source, (self.in_proj, xz))
        self.conv.build_step(builder, xz, x, silu=True)
        selected = builder.buffer("selected", spec.dt_rank + 2 * spec.d_state)
        builder.linear(builder.plain(x, spec.inner), (self.x_proj, selected))
        dt, y = builder.buffer("dt", spec.inner), builder.buffer("scanned", spec.inner)
        normed = spec.inner_norms
        rank = builder.normed(selected, self.dt_norm) if normed else builder.plain(selected, spec.dt_rank)
        builder.linear(rank, (self.dt_proj, dt))
        b, c = selected + spec.dt_rank, selected + spec.dt_rank + spec.d_state
        norms = [builder.vector(norm.gains("cpu")) for norm in (self.b_norm, self.c_norm)] if normed else [None, None]
        eps = (self.b_norm.norm.eps, self.b_norm.norm.eps_outside_root) if normed else (0.0, False)
        a = builder.vector(-self.a_log.detach().float().exp().t())
        scalars = builder.vector(self.d), builder.vector(self.dt_bias)
        state = builder.state("ssm", "exchanged")
        builder.step("selective_scan", x, dt, b, c, xz + spec.inner, a, *scalars, *norms, *eps, state, y)
        return builder.plain(y, spec.inner)
