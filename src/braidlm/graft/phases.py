"""Phases of a graft: stages that train the whole hybrid, on the donor's distributions or on text.

Each is an ordinary run of `braid train`, whose model is what the stage before has made.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, NamedTuple

from ..adapters import Lora
from ..system.settings import Setting, check_settings, require_value
from ..train.config import (
    BranchDropout,
    Component,
    Config,
    Data,
    Optimizer,
    ParameterGroup,
    Run,
    Schedule,
    Source,
    Stage,
    Teacher,
)
from .align import with_slow


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
    donor_lr: Annotated[
        float,
        Setting(
            "Learning rate of the donor's own weights as a multiple of optimizer.lr, that of new ones; 0 freezes.",
            least=0,
        ),
    ] = 1.0
    branch_dropout: BranchDropout | None = None
    chats: Annotated[
        float, Setting("Share of packed sequences that are chats which the donor has answered.", least=0, most=1)
    ] = 0.0
    data: Data | None = None
    adapter: Lora | None = None
    carry_state: Annotated[
        bool, Setting("Whether a document's next piece begins with the state of the one before.")
    ] = False
    evaluate: Annotated[int, Setting("Interval between evaluations in steps; 0 for never.", least=0)] = 50
    checkpoint: Annotated[int, Setting("Interval between checkpoints in steps; 0 for never.", least=0)] = 50

    def __post_init__(self) -> None:
        check_settings(self, "phase")
        both = self.adapter is None or self.donor_lr == 1.0
        require_value(both, "donor_lr", self.donor_lr, "1 with an adapter, which alone is trained")


class New(NamedTuple):
    """Parameters that the donor has not: patterns of their names, and groups of those that learn more slowly."""

    names: tuple[str, ...] = ()
    slow: tuple[ParameterGroup, ...] = ()


def config_of(phase: Phase, *, model: str, donor: str, data: Data, chats: Path | None, new: New, run: Run) -> Config:
    """Configuration of a phase as a training run of `model`.

    `data` is the recipe's, `chats` the directory of chats' shards; `run` has what all stages share, and the directory.
    """
    data = phase.data or data
    if phase.chats:
        assert chats is not None
        data = with_chats(data, chats, phase.chats)
    teacher = None
    if phase.cross_entropy < 1:
        teacher = Teacher(checkpoint=donor, temperature=phase.temperature, cross_entropy=phase.cross_entropy)
    return Config(
        model=Source(checkpoint=model),
        teacher=teacher,
        data=data,
        stages=phase.stages,
        optimizer=_optimizer(phase, new),
        schedule=phase.schedule,
        adapter=phase.adapter,
        branch_dropout=phase.branch_dropout,
        run=replace(run, carry_state=phase.carry_state, evaluate=phase.evaluate, checkpoint=phase.checkpoint),
    )


def with_chats(data: Data, chats: Path, share: float) -> Data:
    """Data of which a share of the packed sequences is chats, never cut into pieces."""
    texts = data.components
    whole = sum(component.share for component in texts)
    parts = [replace(component, share=component.share / whole * (1 - share)) for component in texts if share < 1]
    answered = Component(shards=str(chats), share=share, packing="whole", on_too_long="truncate")
    return replace(data, shards=None, packing="stream", on_too_long="error", mixture=(*parts, answered))


def _optimizer(phase: Phase, new: New) -> Optimizer:
    """Optimizer of a phase, in which the donor's own weights may learn more slowly than the new ones."""
    optimizer = phase.optimizer if phase.adapter else with_slow(phase.optimizer, new.slow)
    if phase.donor_lr == 1.0:
        return optimizer
    own = (ParameterGroup(match=new.names),) if new.names else ()
    groups = (*optimizer.groups, *own, ParameterGroup(match=("*",), lr=phase.donor_lr))
    return replace(optimizer, groups=groups)
