"""Feed-forwards: gated, and mixtures of gated ones.

Legend: T = packed tokens, D = width, F = hidden, X = experts.
"""

from typing import Any

from torch import Tensor, nn

from .. import ops, spec
from ..ops.plan import Draft
from .linear import Adapter, Linear, empty


class Mlp(nn.Module):
    """See `spec.Mlp`."""

    def __init__(self, form: spec.Mlp, width: int) -> None:
        super().__init__()
        self.activation = form.activation
        self.gate_proj = Linear(width, form.hidden, bias=form.bias)
        self.up_proj = Linear(width, form.hidden, bias=form.bias)
        self.down_proj = Linear(form.hidden, width, bias=form.bias)

    def forward(self, x_TD: Tensor) -> Tensor:
        """[T, D] -> [T, D]; gelu is the exact (erf) form."""
        return self.down_proj(ops.glu(self.gate_proj(x_TD), self.up_proj(x_TD), self.activation))

    def draft(self, draft: Draft, source: Any, scale: float) -> None:
        """One token's step, added to the residual stream."""
        draft.add(self.draft_hidden(draft, source), self.down_proj, scale)

    def draft_hidden(self, draft: Draft, source: Any) -> Any:
        """The step up to the gated hidden numbers, which the returned input reads."""
        hidden = self.gate_proj.weight.shape[0]
        place = draft.place("hidden", hidden)
        halves = [part for half in (self.gate_proj, self.up_proj) for part in draft.pair(half)]
        draft.plan.gated_linear(source, *halves, self.activation, place)
        return draft.plain(place, hidden)


class Moe(nn.Module):
    """See `spec.Moe`. gate_up is [X, 2F, D]: an expert's gate rows, then its up rows."""

    def __init__(self, form: spec.Moe, width: int) -> None:
        super().__init__()
        self.top_k = form.top_k
        self.router = empty(form.experts, width)
        self.gate_up = empty(form.experts, 2 * form.hidden, width)
        self.down = empty(form.experts, width, form.hidden)
        self.router_adapter: Adapter | None = None
        self.gate_up_adapter: Adapter | None = None
        self.down_adapter: Adapter | None = None
        self.shared = Mlp(form.shared, width) if form.shared is not None else None

    def forward(self, x_TD: Tensor) -> Tensor:
        """[T, D] -> [T, D]: the chosen experts and, with weight 1, the shared one."""
        router = self.router if self.router_adapter is None else self.router_adapter(self.router)
        adapters = self.gate_up_adapter, self.down_adapter
        y = ops.moe(x_TD, router, self.gate_up, self.down, top_k=self.top_k, adapters=adapters)
        return y if self.shared is None else y + self.shared(x_TD)

    def draft(self, draft: Draft, source: Any, scale: float) -> None:
        """One token's step, added to the residual stream."""
        experts, _, hidden = self.down.shape
        scores, chosen = draft.place("router", experts), draft.place("chosen", self.top_k * hidden)
        draft.scores(source, self.router, scores)
        # All that reads the residual stream comes before anything is added to it.
        shared = self.shared.draft_hidden(draft, source) if self.shared is not None else None
        weights = draft.weight(self.gate_up), draft.weight(self.down)
        draft.plan.experts(source, *weights, scores, chosen, self.top_k, draft.x, scale)
        if self.shared is not None:
            draft.add(shared, self.shared.down_proj, scale)


def build(form: spec.FeedForward, width: int) -> nn.Module:
    """The module of a feed-forward spec."""
    return Mlp(form, width) if isinstance(form, spec.Mlp) else Moe(form, width)
