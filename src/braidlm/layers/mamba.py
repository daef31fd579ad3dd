"""Mamba-1.

Legend: T = packed tokens, D = width, E = inner channels, N = states a channel.
"""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import ops, spec
from ..ops.plan import Draft
from ..state.batch import LayerState
from .linear import Conv, Linear, RmsNorm, empty
from .mixer import Batch


class Mamba(nn.Module):
    """See `spec.Mamba`. `project_out` False leaves the gated channels to the caller."""

    PRECISE: ClassVar[tuple[str, ...]] = ("a_log", "d", "dt_bias")

    def __init__(self, form: spec.Mamba, model: spec.ModelSpec, *, project_out: bool = True) -> None:
        super().__init__()
        self.form = form
        self.in_proj = Linear(model.width, 2 * form.inner, bias=form.proj_bias)  # rows: x, z
        self.conv = Conv(form.inner, form.conv, bias=form.conv_bias)
        self.x_proj = Linear(form.inner, form.dt_rank + 2 * form.d_state)  # rows: dt, B, C
        self.dt_proj = Linear(form.dt_rank, form.inner)
        self.dt_bias = empty(form.inner)
        self.a_log = empty(form.inner, form.d_state)
        self.d = empty(form.inner)
        if form.inner_norms:
            norm = model.norm if form.inner_eps is None else replace(model.norm, eps=form.inner_eps)
            sizes = (form.dt_rank, form.d_state, form.d_state)
            self.dt_norm, self.b_norm, self.c_norm = (
                RmsNorm(size, norm, learned=form.inner_norms_learned) for size in sizes
            )
        if project_out:
            self.out_proj = Linear(form.inner, model.width, bias=form.proj_bias)

    def forward(self, x_TD: Tensor, state: LayerState, batch: Batch) -> tuple[Tensor, LayerState]:
        """Scans, projects, and returns the state after the new tokens."""
        y, state = self.heads(x_TD, state, batch)
        return self.out_proj(y), state

    def heads(self, x_TD: Tensor, state: LayerState, batch: Batch) -> tuple[Tensor, LayerState]:
        """The gated channels [T, E], before any output projection."""
        x, z = self.in_proj(x_TD).chunk(2, -1)
        conv = self.conv(x, state.fixed["conv"], batch.segments, silu=True)
        dt, b, c = self._selection(conv.y_T)
        a = -self.a_log.exp()
        scan = ops.gated_selective_scan(
            conv.y_T, dt, self.dt_bias, a, b, c, self.d, z, state.fixed["ssm"], batch.segments
        )
        fixed = {"conv": conv.state_R, "ssm": scan.state_R}
        return scan.y_T, replace(state, fixed=fixed, marked={"conv": conv.marked, "ssm": scan.marked})

    def _selection(self, x_TE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The input-dependent dt [T, E] before its bias, B and C [T, N]."""
        form = self.form
        dt, b, c = self.x_proj(x_TE).split([form.dt_rank, form.d_state, form.d_state], -1)
        if form.inner_norms:
            dtype: torch.dtype = x_TE.dtype
            dt, b, c = self.dt_norm(dt, dtype), self.b_norm(b, dtype), self.c_norm(c, dtype)
        return self.dt_proj(dt), b, c

    def draft(self, draft: Draft, source: Any, scale: float) -> None:
        """One token's step, added to the residual stream."""
        draft.add(self.draft_heads(draft, source), self.out_proj, scale)

    def draft_heads(self, draft: Draft, source: Any) -> Any:
        """The step up to the gated channels, which the returned input reads."""
        form = self.form
        xz, x = draft.place("xz", 2 * form.inner), draft.place("x", form.inner)
        draft.linear(source, (self.in_proj, xz))
        self.conv.draft(draft, xz, x, silu=True)
        selected = draft.place("selected", form.dt_rank + 2 * form.d_state)
        draft.linear(draft.plain(x, form.inner), (self.x_proj, selected))
        dt, y = draft.place("dt", form.inner), draft.place("scanned", form.inner)
        normed = form.inner_norms
        rank = draft.normed(selected, self.dt_norm) if normed else draft.plain(selected, form.dt_rank)
        draft.linear(rank, (self.dt_proj, dt))
        b, c = selected + form.dt_rank, selected + form.dt_rank + form.d_state
        norms = [draft.vector(norm.gains("cpu")) for norm in (self.b_norm, self.c_norm)] if normed else [None, None]
        eps = (self.b_norm.norm.eps, self.b_norm.norm.eps_outside_root) if normed else (0.0, False)
        a = draft.vector(-self.a_log.detach().float().exp().t())
        scalars = draft.vector(self.d), draft.vector(self.dt_bias)
        state = draft.state("ssm", "exchanged")
        draft.plan.mamba(x, dt, b, c, xz + form.inner, a, *scalars, *norms, *eps, state, y)
        return draft.plain(y, form.inner)
