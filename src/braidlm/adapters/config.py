"""Configuration of low-rank adapters."""

import math
from dataclasses import dataclass

from ..errors import InputError
from ..spec import is_whole

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank changes of weights: W + scale B A (Hu et al. 2021, section 4.1).

    rank: rows of A. alpha: the change is scaled by alpha / rank, or with `rslora` by alpha / sqrt(rank) (Kalajdzievski
    2023). targets: names of projections, ours or those of the published model, each the end of a module's name
    ("in_proj", "self_attn.q_proj"); or "all": every projection of mixers and feed-forwards, but not the embedding,
    the head and routers, which are named where they are wanted. dora: direction and magnitude of each output row
    are learned apart (Liu et al. 2024). dropout: the part of inputs of A that is left out in training.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = (ALL,)
    dora: bool = False
    rslora: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.targets, str):
            object.__setattr__(self, "targets", (self.targets,))
        if not is_whole(self.rank) or self.rank < 1:
            raise InputError(f"rank is {self.rank!r}, but must be a whole number from 1")
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise InputError(f"alpha is {self.alpha!r}, but must be above 0")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout!r}, but must be from 0 to below 1")
        if not self.targets or not all(isinstance(name, str) and name for name in self.targets):
            raise InputError(f"targets are {self.targets!r}, but must be names of projections, or {ALL!r}")

    @property
    def scale(self) -> float:
        """Factor of the product B A."""
        return scale_of(self.alpha, self.rank, rslora=self.rslora)


def scale_of(alpha: float, rank: int, *, rslora: bool) -> float:
    """Scale of an adapter's change: alpha / rank, or alpha / sqrt(rank) with `rslora`."""
    return alpha / (math.sqrt(rank) if rslora else rank)
