"""Protocols of layers' specs: whoever needs sizes asks the layer's spec, and no one asks its kind.

The kinds themselves are listed once each: `mixers.Mixer` and `feed_forward.FeedForward`.
"""

from typing import Protocol

from .state import StateSpec


class MixerSpec(Protocol):
    """Spec of a sequence mixer, a frozen dataclass. `width` is that of the model."""

    def validate(self, width: int, where: str) -> None:
        """Raises `SpecError` if the mixer does not fit a model of `width`; `where` names its block."""
        ...

    def state_spec(self, width: int) -> tuple[StateSpec, ...]:
        """State that the mixer carries between tokens."""
        ...

    def flops(self, width: int, length: int) -> float:
        """FLOPs of the mixing itself, projections apart, over a prompt of `length` tokens.

        Counted on the recurrent form, a multiplication and an addition as two: what no way of computing it can do
        without.
        """
        ...


class FeedForwardSpec(Protocol):
    """Spec of a feed-forward layer, a frozen dataclass. `width` is that of the model."""

    @property
    def routed(self) -> bool:
        """Whether a token's own numbers choose which weights it uses."""
        ...

    def idle_parameters(self, width: int) -> int:
        """Number of parameters that one token does not use."""
        ...

    def read_shares(self, rows: int) -> dict[str, float]:
        """Shares of weights that one token of each of `rows` sequences reads, by name; others are read whole."""
        ...
