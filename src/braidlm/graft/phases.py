"""Phases of a graft: stages that train the whole hybrid, on the donor's distributions or on text."""

from dataclasses import dataclass, field

from ..train.config import Data, Optimizer, Schedule, Stage


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Settings of one stage that trains the hybrid."""

    stages: tuple[Stage, ...]
    optimizer: Optimizer
    schedule: Schedule = field(default_factory=lambda: Schedule(warmup=0.05))
    data: Data | None = None
