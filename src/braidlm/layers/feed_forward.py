"""Feed-forward layers: a gated MLP, and mixtures of experts.

Legend: T = packed tokens, D = width, F = hidden, X = experts.
"""

from typing import Any, ClassVar

from torch import Tensor

from .. import ops
from .. import spec as specs
from ..ops.plan import PlanBuilder
from .layer import FeedForward, RoutedFeedForward
from .linear import Adapter, Linear, empty


class Mlp(FeedForward):
    """Module of a `specs.Mlp`: down(act(gate x) * up x)."""

    RESIDUAL_OUTPUTS: ClassVar[tuple[str, ...]] = ("down_proj",)

    def __init__(self, spec: specs.Mlp, width: int) -> None:
        super().__init__()
        self.activation = spec.activation
        self.gate_proj = Linear(width, spec.hidden, bias=spec.bias)
        self.up_proj = Linear(width, spec.hidden, bias=spec.bias)
        self.down_proj = Linear(spec.hidden, width, bias=spec.bias)

    def forward(self, x_TD: Tensor) -> Tensor:
        """Applies the MLP: [T, D] -> [T, D]; gelu is the exact (erf) form."""
        return self.down_proj(ops.glu(self.gate_proj(x_TD), self.up_proj(x_TD), self.activation))

    def build_step(self, builder: PlanBuilder, source: Any, scale: float) -> None:
        """Adds the decode step to a plan: from input `source`, `scale` times the output to the residual stream."""
        builder.add_to_residual(self.build_step_hidden(builder, source), self.down_proj, scale)

    def build_step_hidden(self, builder: PlanBuilder, source: Any) -> Any:
        """Adds the decode step up to the gated hidden channels to a plan; returns the input that reads them."""
        hidden = self.gate_proj.weight.shape[0]
        y = builder.buffer("hidden", hidden)
        halves = [part for half in (self.gate_proj, self.up_proj) for part in builder.pair(half)]
        builder.step("gated_linear", source, *halves, self.activation, y)
        return builder.plain(y, hidden)


class Moe(RoutedFeedForward):
    """Module of a `specs.Moe`: [T, D] -> [T, D]. `gate_up` is [X, 2F, D]: an expert's gate rows, then its up rows."""

    QUANTIZABLE: ClassVar[tuple[str, ...]] = ("gate_up", "down")
    RESIDUAL_OUTPUTS: ClassVar[tuple[str, ...]] = ("down",)

    def __init__(self, spec: specs.Moe, width: int) -> None:
        super().__init__()
        self.top_k = spec.top_k
        self.router = empty(spec.experts, width)
        self.gate_up = empty(spec.experts, 2 * spec.hidden, width)
        self.down = empty(spec.experts, width, spec.hidden)
        self.router_adapter: Adapter | None = None
        self.gate_up_adapter: Adapter | None = None
        self.down_adapter: Adapter | None = None
        self.shared = Mlp(spec.shared, width) if spec.shared is not None else None

    def forward(self, x_TD: Tensor) -> Tensor:
        """Applies the chosen experts and, with weight 1, the shared one: [T, D] -> [T, D]."""
        router = self.router if self.router_adapter is None else self.router_adapter(self.router)
        adapters = self.gate_up_adapter, self.down_adapter
        y = ops.moe(x_TD, router, self.gate_up, self.down, top_k=self.top_k, adapters=adapters)
        return y if self.shared is None else y + self.shared(x_TD)

    def build_step(self, builder: PlanBuilder, source: Any, scale: float) -> None:
        """Adds the decode step to a plan: from input `source`, `scale` times the output to the residual stream."""
        experts, _, hidden = self.down.shape
        scores, chosen = builder.buffer("router", experts), builder.buffer("chosen", self.top_k * hidden)
        builder.scores(source, self.router, scores)
        # All that reads the residual stream comes before anything is added to it.
        shared = self.shared.build_step_hidden(builder, source) if self.shared is not None else None
        weights = builder.weight(self.gate_up), builder.weight(self.down)
        builder.step("moe", source, *weights, scores, chosen, self.top_k, builder.x, scale)
        if self.shared is not None:
            builder.add_to_residual(shared, self.shared.down_proj, scale)
