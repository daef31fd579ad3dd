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

    @property
    def routed(self) -> bool:
        """Whether a token's own numbers choose which weights it uses: never, it uses every one."""
        return False

    def idle_parameters(self, width: int) -> int:
        """Number of parameters that one token does not use: none."""
        return 0

    def read_shares(self, rows: int) -> dict[str, float]:
        """Shares of weights that are read in part, by name: none, each is read whole."""
        return {}


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

    @property
    def routed(self) -> bool:
        """Whether a token's own numbers choose which weights it uses: always, by its router logits."""
        return True

    def idle_parameters(self, width: int) -> int:
        """Parameters of the experts that a token does not choose."""
        return (self.experts - self.top_k) * 3 * width * self.hidden

    def read_shares(self, rows: int) -> dict[str, float]:
        """Shares of the experts' weights that are read on average, by name.

        Of X experts of which each row takes k, X(1 - (1 - k/X)^rows) are used on average.
        """
        share = 1 - (1 - self.top_k / self.experts) ** rows
        return {"gate_up": share, "down": share}


# The table of feed-forward layers: every kind that a block may have. `layers` has their modules.
FeedForward = Mlp | Moe
