"""Rotary positions and how they are stretched."""

from dataclasses import dataclass

from .checks import finite, is_finite, positive, require


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearScaling:
    """Positions divided by `factor` (position interpolation, Chen et al. 2023)."""

    factor: float

    def __post_init__(self) -> None:
        finite(self, "factor")


@dataclass(frozen=True, kw_only=True, slots=True)
class NtkScaling:
    """Base raised to base * factor^(d / (d - 2)) for d rotated dimensions, at every length."""

    factor: float

    def __post_init__(self) -> None:
        finite(self, "factor")


@dataclass(frozen=True, kw_only=True, slots=True)
class Llama3Scaling:
    """Long wavelengths divided by `factor`, short ones kept, a ramp between (Llama 3.1)."""

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
    """Each pair's frequency divided by a factor of its own (as GGUF files store Llama 3's scaling)."""

    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        ok = isinstance(self.factors, tuple) and all(is_finite(factor) and factor > 0 for factor in self.factors)
        require(ok, "FactorScaling.factors", self.factors, "a tuple of positive finite numbers")


RopeScaling = LinearScaling | NtkScaling | Llama3Scaling | FactorScaling


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
        if isinstance(self.scaling, NtkScaling):
            require(self.dims > 2, "Rope.dims", self.dims, "above 2 for NTK scaling")
        if isinstance(self.scaling, FactorScaling):
            pairs = len(self.scaling.factors)
            require(2 * pairs == self.dims, "Rope.dims", self.dims, f"twice the number of factors ({pairs})")
