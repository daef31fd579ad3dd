"""Attention heads and state-space heads in parallel (Hymba): both branches normed, averaged, projected once."""

from typing import Any

from torch import Tensor, nn

from .. import spec
from ..ops.plan import Draft
from ..state.batch import LayerState
from .attention import Attention
from .linear import Linear, RmsNorm
from .mamba import Mamba
from .mamba2 import Mamba2
from .mixer import Batch


class Parallel(nn.Module):
    """See `spec.Parallel`."""

    def __init__(self, form: spec.Parallel, model: spec.ModelSpec) -> None:
        super().__init__()
        inner = form.attention.inner
        self.attention = Attention(form.attention, model, project_out=False)
        kind = Mamba if isinstance(form.ssm, spec.Mamba) else Mamba2
        self.ssm: Mamba | Mamba2 = kind(form.ssm, model, project_out=False)  # type: ignore[arg-type]
        self.attention_norm = RmsNorm(inner, model.norm)
        self.ssm_norm = RmsNorm(inner, model.norm)
        self.out_proj = Linear(inner, model.width, bias=form.ssm.proj_bias)

    def forward(self, x_TD: Tensor, state: LayerState, batch: Batch) -> tuple[Tensor, LayerState]:
        """Both branches on the same input; each takes its own slots from the state and leaves the other's."""
        attended, state = self.attention.heads(x_TD, state, batch)
        scanned, state = self.ssm.heads(x_TD, state, batch)
        mean = (self.attention_norm(attended, x_TD.dtype) + self.ssm_norm(scanned, x_TD.dtype)) / 2
        return self.out_proj(mean), state

    def draft(self, draft: Draft, source: Any, scale: float) -> None:
        """One token's step, added to the residual stream."""
        inner = self.attention_norm.size
        places = []
        for name, branch in (("attention", self.attention), ("ssm", self.ssm)):
            places.append(draft.place(f"branch {name}", inner))
            draft.plan.evaluate(branch.draft_heads(draft, source), places[-1])
        mean = draft.mean(places[0], self.attention_norm, places[1], self.ssm_norm)
        draft.add(mean, self.out_proj, scale)
