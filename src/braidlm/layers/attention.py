"""Attention layer: full, windowed, with sink tokens, or with the KV cache of another block.

Legend: T = packed tokens, D = width, H = query heads, G = key/value heads, K, V = head sizes.
"""

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from .. import ops
from .. import spec as specs
from ..ops.plan import PlanBuilder
from ..state.batch import BatchLayerState
from .batch import Batch
from .layer import Mixer
from .linear import Linear
from .rotary import growing_base, rope_frequencies, rope_magnitude


class Attention(Mixer):
    """Module of a `specs.Attention`: [T, D] -> [T, D]. With `project_out` False it has no output projection."""

    RESIDUAL_OUTPUTS: ClassVar[tuple[str, ...]] = ("o_proj",)

    def __init__(self, spec: specs.Attention, model: specs.ModelSpec, *, project_out: bool = True) -> None:
        super().__init__()
        self.spec = spec
        self.scale = spec.scale if spec.scale is not None else spec.head_dim**-0.5
        self.q_proj = Linear(model.width, spec.heads * spec.head_dim, bias=spec.qkv_bias)
        if spec.kv_from is None:
            self.k_proj = Linear(model.width, spec.kv_heads * spec.head_dim, bias=spec.qkv_bias)
            self.v_proj = Linear(model.width, spec.kv_heads * spec.v_dim, bias=spec.qkv_bias)
        if project_out:
            self.o_proj = Linear(spec.inner, model.width, bias=spec.out_bias)

    def forward(self, x_TD: Tensor, state: BatchLayerState, batch: Batch) -> tuple[Tensor, BatchLayerState]:
        """Attends and projects; returns [T, D] and the state with the new tokens' keys and values."""
        y, state = self.heads(x_TD, state, batch)
        return self.o_proj(y), state

    def heads(self, x_TD: Tensor, state: BatchLayerState, batch: Batch) -> tuple[Tensor, BatchLayerState]:
        """Outputs of all heads side by side, [T, H V], before the output projection.

        For a block that shares a KV cache, `state.kv` is its owner's, with the new tokens already in it.
        """
        spec = self.spec
        q = self.q_proj(x_TD).unflatten(-1, (spec.heads, spec.head_dim))
        if spec.rope is not None:
            q = batch.rotation.rotate(q, spec.rope)
        kv = state.kv
        assert kv is not None
        if spec.kv_from is None:
            k = self.k_proj(x_TD).unflatten(-1, (spec.kv_heads, spec.head_dim))
            v = self.v_proj(x_TD).unflatten(-1, (spec.kv_heads, spec.v_dim))
            if spec.rope is not None:
                k = batch.rotation.rotate(k, spec.rope)
            kv = kv.append(k, v)
        k, v = kv.new(q.dtype)
        past = tuple(row.past(q.dtype) for row in kv.past)
        visible = ops.Visible(spec.window, spec.sink_tokens)
        y = ops.attention(q, k, v, past, batch.starts, batch.segments, scale=self.scale, visible=visible)
        return y.flatten(-2), replace(state, kv=kv)

    def build_step(self, builder: PlanBuilder, source: Any, scale: float) -> None:
        """Adds the decode step to a plan: from input `source`, `scale` times the output to the residual stream."""
        builder.add_to_residual(self.build_step_heads(builder, source), self.o_proj, scale)

    def build_step_heads(self, builder: PlanBuilder, source: Any) -> Any:
        """Adds the decode step up to the heads' outputs to a plan; returns the input that reads them."""
        spec, owned = self.spec, self.spec.kv_from is None
        q, y = builder.buffer("q", spec.heads * spec.head_dim), builder.buffer("attended", spec.inner)
        k, v = builder.buffer("k", spec.kv_heads * spec.head_dim), builder.buffer("v", spec.kv_heads * spec.v_dim)
        if owned:
            kv = builder.keys_values(spec.kv_heads, spec.head_dim, spec.v_dim)
            builder.linear(source, (self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        else:
            assert spec.kv_from is not None
            kv = builder.kv_of_block[spec.kv_from]
            builder.linear(source, (self.q_proj, q))
        angles, rotated = (builder.x, builder.x), 0
        if spec.rope is not None:
            rope, rotated = spec.rope, spec.rope.dims
            angles = builder.angles(rope, rope_frequencies(rope), rope_magnitude(rope.scaling), growing_base(rope))
        builder.step("append_kv", q, k, v, spec.heads, rotated, *angles, kv, owned)
        builder.step("attention", q, spec.heads, kv, self.scale, spec.window or 0, spec.sink_tokens, y)
        return builder.plain(y, spec.inner)
