"""Specs of rotary position embeddings (RoPE) and of their scalings to longer contexts."""

from dataclasses import dataclass

from ..system.settings import is_finite
from .checks import finite, positive, require


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearScaling:
    """Linear scaling: positions divided by `factor` (position interpolation, Chen et al. 2023)."""

    factor: float

    def __post_init__(self) -> None:
        finite(self, "factor")


@dataclass(frozen=True, kw_only=True, slots=True)
class NtkScaling:
    """NTK scaling: base raised to base * factor^(d / (d - 2)) for d rotated dimensions, at every length."""

    factor: float

    def __post_init__(self) -> None:
        finite(self, "factor")


@dataclass(frozen=True, kw_only=True, slots=True)
class Llama3Scaling:
    """Llama 3.1's scaling: long wavelengths divided by `factor`, short ones kept, a ramp between."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: int

    def __post_init__(self) -> None:
        finite(self, "factor", "low_freq_factor", "high_freq_factor")
        positive(self, "original_positions")
        ok = self.high_freq_factor > self.low_freq_factor
        require(ok, "Llama3Scaling.high_freq_factor", self.high_freq_factor, "above low_freq_factor")


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorScaling:
    """Scaling by factors: each pair's frequency divided by its own (as GGUF files store Llama 3's scaling)."""

    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        ok = isinstance(self.factors, tuple) and all(is_finite(factor) and factor > 0 for factor in self.factors)
        require(ok, "FactorScaling.factors", self.factors, "a tuple of positive finite numbers")


@dataclass(frozen=True, kw_only=True, slots=True)
class YarnScaling:
    """YaRN scaling: frequencies kept or divided by `factor`, by how often a pair turns (Peng et al. 2023).

    Pairs that turn more than `beta_fast` times within `original_positions` are kept, those that turn less than
    `beta_slow` times are divided; the border between them is rounded to whole pairs if `truncate`. Cosines and sines
    are multiplied by `attention_factor`.
    """

    factor: float
    original_positions: int
    attention_factor: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        finite(self, "factor", "attention_factor", "beta_fast", "beta_slow")
        positive(self, "original_positions")


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamicNtkScaling:
    """Dynamic NTK scaling: a base that grows with the position beyond `original_positions`.

    The token at position p >= `original_positions` is rotated with the base
    b * (factor (p + 1) / original_positions - (factor - 1))^(d / (d - 2)) for d rotated dimensions: what a decoder
    that reads token by token computes, however the sequence is cut here.
    """

    factor: float
    original_positions: int

    def __post_init__(self) -> None:
        finite(self, "factor")
        positive(self, "original_positions")
        require(self.factor >= 1, "DynamicNtkScaling.factor", self.factor, "1 or more")


RopeScaling = LinearScaling | NtkScaling | Llama3Scaling | FactorScaling | YarnScaling | DynamicNtkScaling


@dataclass(frozen=True, kw_only=True, slots=True)
class Rope:
    """Half-split rotary positions on the first `dims` dimensions of each head (Su et al. 2021)."""

    base: float
    dims: int
    scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        finite(self, "base")
        positive(self, "dims")
        require(self.dims % 2 == 0, "Rope.dims", self.dims, "even")
        if isinstance(self.scaling, NtkScaling | DynamicNtkScaling):
            require(self.dims > 2, "Rope.dims", self.dims, "above 2 for NTK scaling")
        if isinstance(self.scaling, FactorScaling):
            pairs = len(self.scaling.factors)
            require(2 * pairs == self.dims, "Rope.dims", self.dims, f"twice the number of factors ({pairs})")
