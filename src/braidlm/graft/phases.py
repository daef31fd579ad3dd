"""Phases of a graft: stages that train the whole hybrid, on the donor's distributions or on text.

Each is an ordinary run of `braid train`, whose model is what the stage before has made.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated

from ..adapters import Lora
from ..system.settings import Setting, check_settings
from ..train.config import Config, Data, Optimizer, Run, Schedule, Source, Stage, Teacher


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Settings of one stage that trains the hybrid: what it learns from, for how long, and which weights.

    loss = (1 - cross_entropy) temperature^2 KL(donor || hybrid) + cross_entropy * (cross-entropy of the text), as in
    distillation (`train.config.Teacher`).
    """

    stages: tuple[Stage, ...]
    optimizer: Optimizer
    schedule: Schedule = field(default_factory=lambda: Schedule(warmup=0.05))
    cross_entropy: Annotated[
        float, Setting("Share of the text's cross-entropy in the loss; 1 leaves the donor out.", least=0, most=1)
    ] = 0.0
    temperature: Annotated[float, Setting("Temperature of the probabilities.", above=0)] = 1.0
    data: Data | None = None
    adapter: Lora | None = None
    carry_state: Annotated[
        bool, Setting("Whether a document's next piece begins with the state of the one before.")
    ] = False
    evaluate: Annotated[int, Setting("Interval between evaluations in steps; 0 for never.", least=0)] = 50
    checkpoint: Annotated[int, Setting("Interval between checkpoints in steps; 0 for never.", least=0)] = 50

    def __post_init__(self) -> None:
        check_settings(self, "phase")


def config_of(phase: Phase, *, model: str, donor: str, data: Data, run: Run) -> Config:
    """Configuration of a phase as a training run of `model`; `run` has what all stages share, and the directory."""
    teacher = None
    if phase.cross_entropy < 1:
        teacher = Teacher(checkpoint=donor, temperature=phase.temperature, cross_entropy=phase.cross_entropy)
    return Config(
        model=Source(checkpoint=model),
        teacher=teacher,
        data=phase.data or data,
        stages=phase.stages,
        optimizer=phase.optimizer,
        schedule=phase.schedule,
        adapter=phase.adapter,
        run=replace(run, carry_state=phase.carry_state, evaluate=phase.evaluate, checkpoint=phase.checkpoint),
    )
