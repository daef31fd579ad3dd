"""Parallel layer: attention and state-space heads side by side, averaged or added, projected once."""

from typing import Any, ClassVar

from torch import Tensor

from .. import spec as specs
from ..ops.plan import PlanBuilder
from ..state.batch import BatchLayerState
from .attention import Attention
from .batch import Batch
from .layer import BranchedMixer
from .linear import Linear, RmsNorm
from .mamba import Mamba
from .mamba2 import Mamba2


class Parallel(BranchedMixer):
    """Module of a `specs.Parallel`: [T, D] -> [T, D]."""

    RESIDUAL_OUTPUTS: ClassVar[tuple[str, ...]] = ("out_proj",)

    def __init__(self, spec: specs.Parallel, model: specs.ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        inner = spec.attention.inner
        self.attention = Attention(spec.attention, model, project_out=False)
        kind = Mamba if isinstance(spec.ssm, specs.Mamba) else Mamba2
        self.ssm: Mamba | Mamba2 = kind(spec.ssm, model, project_out=False)  # type: ignore[arg-type]
        self.attention_norm = RmsNorm(inner, model.norm) if spec.combine == "mean" else None
        self.ssm_norm = RmsNorm(inner, model.norm)
        self.out_proj = Linear(inner, model.width, bias=spec.ssm.proj_bias)

    def forward(self, x_TD: Tensor, state: BatchLayerState, batch: Batch) -> tuple[Tensor, BatchLayerState]:
        """Runs both branches on the same input; each changes its own part of the state and leaves the other's."""
        attended, state = self.attention.heads(x_TD, state, batch)
        if self.training and self.attention_dropped:
            attended = attended * 0  # so that its gradients are zero, whatever other sequences of the batch drew
        scanned, state = self.ssm.heads(x_TD, state, batch)
        normed = self.ssm_norm(scanned, x_TD.dtype)
        if self.attention_norm is None:
            return self.out_proj(attended + normed), state
        return self.out_proj((self.attention_norm(attended, x_TD.dtype) + normed) / 2), state

    def build_step(self, builder: PlanBuilder, source: Any, scale: float) -> None:
        """Adds the decode step to a plan: from input `source`, `scale` times the output to the residual stream."""
        inner = self.ssm_norm.size
        buffers = []
        for name, branch in (("attention", self.attention), ("ssm", self.ssm)):
            buffers.append(builder.buffer(f"branch {name}", inner))
            builder.step("norm", branch.build_step_heads(builder, source), buffers[-1])
        attended, scanned = buffers
        if self.attention_norm is None:
            combined = builder.sum(attended, scanned, self.ssm_norm)
        else:
            combined = builder.mean(attended, self.attention_norm, scanned, self.ssm_norm)
        builder.add_to_residual(combined, self.out_proj, scale)
