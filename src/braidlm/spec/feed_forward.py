"""Specs of feed-forward layers: one MLP for every token, or a mixture of experts."""

from dataclasses import dataclass
from typing import Literal

from .checks import of_kind, positive, require

Activation = Literal["silu", "gelu"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mlp:
    """Gated feed-forward layer: down(act(gate x) * up x)."""

    hidden: int
    activation: Activation = "silu"
    bias: bool = False

    def __post_init__(self) -> None:
        positive(self, "hidden")
        ok = self.activation in ("silu", "gelu")
        require(ok, "Mlp.activation", self.activation, "'silu' or 'gelu'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Moe:
    """Mixture of experts, gated feed-forward layers: the `top_k` largest router logits, softmax over those alone.

    `shared` is an expert of its own that sees every token with weight 1.
    """

    experts: int
    top_k: int
    hidden: int
    shared: Mlp | None = None

    def __post_init__(self) -> None:
        positive(self, "experts", "top_k", "hidden")
        require(self.top_k <= self.experts, "Moe.top_k", self.top_k, f"at most experts ({self.experts})")
        of_kind(self, "shared", Mlp, type(None))


FeedForward = Mlp | Moe
