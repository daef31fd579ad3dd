"""Mamba-2.

Legend: T = packed tokens, D = width, E = inner channels, H = heads, P = head size, G = groups, N = states.
"""

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops, spec
from ..ops.numerics import widened
from ..ops.plan import Draft
from ..state.batch import LayerState
from .linear import Conv, Linear, RmsNorm, empty
from .mixer import Batch


class Mamba2(nn.Module):
    """See `spec.Mamba2`. `project_out` False leaves the normed channels to the caller."""

    PRECISE: ClassVar[tuple[str, ...]] = ("a_log", "d", "dt_bias")

    def __init__(self, form: spec.Mamba2, model: spec.ModelSpec, *, project_out: bool = True) -> None:
        super().__init__()
        self.form = form
        self.in_proj = Linear(model.width, form.inner + form.conv_width + form.heads, bias=form.proj_bias)  # z, xBC, dt
        self.conv = Conv(form.conv_width, form.conv, bias=form.conv_bias)
        self.dt_bias = empty(form.heads)
        self.a_log = empty(form.heads)
        self.d = empty(form.heads)
        self.norm = RmsNorm(form.inner, model.norm)
        if project_out:
            self.out_proj = Linear(form.inner, model.width, bias=form.proj_bias)

    def forward(self, x_TD: Tensor, state: LayerState, batch: Batch) -> tuple[Tensor, LayerState]:
        """Scans, norms, projects, and returns the state after the new tokens."""
        y, state = self.heads(x_TD, state, batch)
        return self.out_proj(y), state

    def heads(self, x_TD: Tensor, state: LayerState, batch: Batch) -> tuple[Tensor, LayerState]:
        """The gated and normed channels [T, E], before any output projection."""
        form = self.form
        z, xbc, dt = self.in_proj(x_TD).split([form.inner, form.conv_width, form.heads], -1)
        conv = self.conv(xbc, state.fixed["conv"], batch.segments, silu=True)
        shared = form.groups * form.d_state
        x, b, c = conv.y_T.split([form.inner, shared, shared], -1)
        scan = ops.ssd(
            x.unflatten(-1, (form.heads, form.head_dim)),
            F.softplus(widened(dt) + self.dt_bias).clamp(form.dt_min, form.dt_max),
            -self.a_log.exp(),
            b.unflatten(-1, (form.groups, form.d_state)),
            c.unflatten(-1, (form.groups, form.d_state)),
            self.d,
            state.fixed["ssm"],
            batch.segments,
        )
        eps = self.norm.norm.eps
        y = ops.gated_rms_norm(
            scan.y_T.flatten(-2), z, self.norm.gains(z.device), eps, groups=form.groups, dtype=x_TD.dtype
        )
        fixed = {"conv": conv.state_R, "ssm": scan.state_R}
        return y, replace(state, fixed=fixed, marked={"conv": conv.marked, "ssm": scan.marked})

    def draft(self, draft: Draft, source: Any, scale: float) -> None:
        """One token's step, added to the residual stream."""
        draft.add(self.draft_heads(draft, source), self.out_proj, scale)

    def draft_heads(self, draft: Draft, source: Any) -> Any:
        """The step up to the gated and normed channels, which the returned input computes."""
        form = self.form
        zxbcdt = draft.place("zxbcdt", form.inner + form.conv_width + form.heads)
        x, y = draft.place("xbc", form.conv_width), draft.place("scanned", form.inner)
        draft.linear(source, (self.in_proj, zxbcdt))
        self.conv.draft(draft, zxbcdt + form.inner, x, silu=True)
        b, c = x + form.inner, x + form.inner + form.groups * form.d_state
        dt = zxbcdt + form.inner + form.conv_width
        a = draft.vector(-self.a_log.detach().float().exp())
        vectors = a, draft.vector(self.d), draft.vector(self.dt_bias)
        limits = form.dt_min, math.inf if form.dt_max is None else form.dt_max
        sizes = form.head_dim, form.groups, form.d_state
        draft.plan.ssd(x, b, c, dt, *vectors, *limits, *sizes, draft.state("ssm", "same"), y)
        return draft.gated(y, zxbcdt, self.norm, form.groups)
