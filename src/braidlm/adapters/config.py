"""Configuration of low-rank adapters."""

import math
from dataclasses import dataclass
from typing import Annotated

from ..system.settings import Setting, check_settings

ALL = "all"


def _are_names(names: tuple[str, ...]) -> bool:
    return bool(names) and all(names)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank changes of weights: W + scale B A (Hu et al. 2021, section 4.1).

    target_modules: names of projections, braidlm's or those of the published model, each the end of a module's name
    ("in_proj", "self_attn.q_proj"); or "all": every projection of mixers and feed-forwards, but not the embedding,
    the head and routers, which are named where they are wanted.
    """

    rank: Annotated[int, Setting("Rank of the adapter: rows of A.", least=1)] = 8
    alpha: Annotated[
        float,
        Setting("Scale of the adapter: its change counts alpha / rank, or with rslora alpha / sqrt(rank).", above=0),
    ] = 16.0
    target_modules: Annotated[
        tuple[str, ...],
        Setting(
            "Projection to adapt, by name.",
            valid=_are_names,
            right=f"names of projections, or {ALL!r}",
        ),
    ] = (ALL,)
    dora: Annotated[
        bool, Setting("Whether direction and magnitude of each output row are learned apart (Liu et al. 2024).")
    ] = False
    rslora: Annotated[bool, Setting("Whether the scale is that of Kalajdzievski 2023.")] = False
    dropout: Annotated[float, Setting("Share of A's inputs that is left out in training.", least=0, below=1)] = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.target_modules, str):
            object.__setattr__(self, "target_modules", (self.target_modules,))
        check_settings(self)

    @property
    def scale(self) -> float:
        """Factor of the product B A."""
        return scale_of(self.alpha, self.rank, rslora=self.rslora)


def scale_of(alpha: float, rank: int, *, rslora: bool) -> float:
    """Scale of an adapter's change: alpha / rank, or alpha / sqrt(rank) with `rslora`."""
    return alpha / (math.sqrt(rank) if rslora else rank)
