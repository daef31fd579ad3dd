"""Attention: full, windowed, with a pinned prefix, with another block's keys and values.

Legend: T = packed tokens, D = width, H = query heads, G = key/value heads, K, V = head sizes.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from .. import ops, spec
from ..ops.plan import Draft
from ..state.batch import LayerState
from .linear import Linear
from .mixer import Batch
from .rotary import growing_base, rope_frequencies, rope_magnitude


class Attention(nn.Module):
    """See `spec.Attention`. `project_out` False leaves the heads' outputs to the caller."""

    def __init__(self, form: spec.Attention, model: spec.ModelSpec, *, project_out: bool = True) -> None:
        super().__init__()
        self.form = form
        self.scale = form.scale if form.scale is not None else form.head_dim**-0.5
        self.q_proj = Linear(model.width, form.heads * form.head_dim, bias=form.qkv_bias)
        if form.kv_from is None:
            self.k_proj = Linear(model.width, form.kv_heads * form.head_dim, bias=form.qkv_bias)
            self.v_proj = Linear(model.width, form.kv_heads * form.v_dim, bias=form.qkv_bias)
        if project_out:
            self.o_proj = Linear(form.inner, model.width, bias=form.out_bias)

    def forward(self, x_TD: Tensor, state: LayerState, batch: Batch) -> tuple[Tensor, LayerState]:
        """Attends, projects, and returns the state with the new keys and values."""
        y, state = self.heads(x_TD, state, batch)
        return self.o_proj(y), state

    def heads(self, x_TD: Tensor, state: LayerState, batch: Batch) -> tuple[Tensor, LayerState]:
        """The heads' outputs side by side, [T, H V], before any output projection.

        A block that shares keys and values finds its owner's in `state.kv`, the new tokens'
        already among them.
        """
        form = self.form
        q = self.q_proj(x_TD).unflatten(-1, (form.heads, form.head_dim))
        if form.rope is not None:
            q = batch.rotation.rotate(q, form.rope)
        kv = state.kv
        assert kv is not None
        if form.kv_from is None:
            k = self.k_proj(x_TD).unflatten(-1, (form.kv_heads, form.head_dim))
            v = self.v_proj(x_TD).unflatten(-1, (form.kv_heads, form.v_dim))
            if form.rope is not None:
                k = batch.rotation.rotate(k, form.rope)
            kv = kv.append(k, v)
        k, v = kv.new(q.dtype)
        past = tuple(row.past(q.dtype) for row in kv.past)
        visible = ops.Visible(form.window, form.pinned)
        y = ops.attention(q, k, v, past, batch.starts, batch.segments, scale=self.scale, visible=visible)
        return y.flatten(-2), replace(state, kv=kv)

    def draft(self, draft: Draft, source: Any, scale: float) -> None:
        """One token's step, added to the residual stream."""
        draft.add(self.draft_heads(draft, source), self.o_proj, scale)

    def draft_heads(self, draft: Draft, source: Any) -> Any:
        """The step up to the heads' outputs, which the returned input reads."""
        form, owned = self.form, self.form.kv_from is None
        q, y = draft.place("q", form.heads * form.head_dim), draft.place("attended", form.inner)
        k, v = draft.place("k", form.kv_heads * form.head_dim), draft.place("v", form.kv_heads * form.v_dim)
        if owned:
            kv = draft.keys_values(form.kv_heads, form.head_dim, form.v_dim)
            draft.linear(source, (self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        else:
            assert form.kv_from is not None
            kv = draft.kv_of_block[form.kv_from]
            draft.linear(source, (self.q_proj, q))
        angles, rotated = (draft.x, draft.x), 0
        if form.rope is not None:
            rope, rotated = form.rope, form.rope.dims
            angles = draft.angles(rope, rope_frequencies(rope), rope_magnitude(rope.scaling), growing_base(rope))
        draft.plan.remember(q, k, v, form.heads, rotated, *angles, kv, owned)
        draft.plan.attend(q, form.heads, kv, self.scale, form.window or 0, form.pinned, y)
        return draft.plain(y, form.inner)
