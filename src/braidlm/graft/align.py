"""Alignment, stage 1 of a graft: every new mixer learns to give what the donor's gives, from the donor's own input.

All blocks learn in one pass of the donor, which computes inputs and targets while they are needed: stored, those of a
million tokens are tens of gigabytes. A block's loss is the mean squared error of its output over the mean square of
the donor's (Bick et al. 2024, "MOHAWK", stage 2; Goldstein et al. 2025, "RADLADS", step 1), so that blocks count alike
whatever their scale; nor do they share a bound on their gradients. A block whose error on held-out text no longer falls
stops by itself.

Legend: T = tokens of a packed sequence, D = width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..layers import Batch
from ..model.hooks import removed_after
from ..model.model import Model
from ..ops import Segments
from ..system.settings import Setting, check_settings
from ..train.config import Optimizer, ParameterGroup, Schedule, Stage
from ..train.data.pack import Pack, targets_of
from ..train.objective import States, Sums, TrainingObjective
from .compose import mixer_of
from .layout import Candidates
from .mixers.hyena import POLES

# Kinds of mixers with parameters that a donor's block does not have already.
_ALIGNED = ("mamba2", "mamba", "hyena", "parallel", "spec")
# Parameters of parallel heads that are new.
_BESIDE = ("ssm.", "ssm_norm.")


@dataclass(frozen=True, kw_only=True)
class Align:
    """Settings of the alignment."""

    stages: tuple[Stage, ...] = field(default_factory=lambda: (Stage(steps=1000, batch_size=4, seq_len=512),))
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=1e-3, weight_decay=0.0, max_grad_norm=0.0))
    schedule: Schedule = field(default_factory=lambda: Schedule(warmup=0.02, final=0.01))
    patience: Annotated[
        int, Setting("Number of evaluations in a row without progress after which a block stops.", least=1)
    ] = 3
    progress: Annotated[
        float, Setting("Share by which a block's error must fall to count as progress.", least=0, below=1)
    ] = 0.01
    evaluate: Annotated[int, Setting("Interval between evaluations in steps.", least=1)] = 50
    checkpoint: Annotated[int, Setting("Interval between checkpoints in steps.", least=1)] = 50

    def __post_init__(self) -> None:
        check_settings(self, "align")


def aligned_blocks(found: Candidates) -> list[int]:
    """Candidate blocks that have something to learn from the donor's mixer."""
    return [index for index in found.mixers if found.options[index].kind in _ALIGNED]


def is_new(options_kind: str, name: str) -> bool:
    """Whether a parameter of a mixer, by its name in the mixer, is new: of parallel heads the recurrence alone is."""
    return options_kind != "parallel" or name.startswith(_BESIDE)


def slow_groups(found: Candidates, blocks: Sequence[int]) -> tuple[ParameterGroup, ...]:
    """Groups of new parameters of some blocks that learn more slowly than the others."""
    return (POLES,) if any(found.options[index].kind == "hyena" for index in blocks) else ()


def with_slow(optimizer: Optimizer, slow: Sequence[ParameterGroup]) -> Optimizer:
    """The optimizer with these groups, unless it has some that the recipe gave it."""
    return optimizer if optimizer.groups else replace(optimizer, groups=tuple(slow))


def new_names(found: Candidates, blocks: Sequence[int]) -> list[str]:
    """Patterns of the names of new parameters in a model in which some blocks are replaced."""
    names = []
    for index in blocks:
        kind = found.options[index].kind
        parts = _BESIDE if kind == "parallel" else ("",) if kind in _ALIGNED else ()
        names += [f"blocks.{index}.mixer.{part}*" for part in parts]
    return names


class Alignment(TrainingObjective):
    """Errors of a bank of new mixers (`compose.bank_of`), of which mixer k stands for block `blocks[k]` of a donor."""

    in_nats = False

    def __init__(
        self,
        bank: Model,
        donor: Model,
        blocks: Sequence[int],
        kinds: Sequence[str],
        settings: Align,
        *,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(bank)
        self.metric_names = tuple(f"block_{index}" for index in blocks)
        self._donor = (donor,)  # in a tuple, so that it is no submodule
        self._number = {index: k for k, index in enumerate(blocks)}
        self._settings = settings
        self._checkpointing = activation_checkpointing
        self._best = [float("inf")] * len(blocks)
        self._stale = [0] * len(blocks)
        bank.requires_grad_(False)
        for k, kind in enumerate(kinds):
            for name, parameter in mixer_of(bank, k).named_parameters():
                parameter.requires_grad_(is_new(kind, name))

    @property
    def state_models(self) -> tuple[Model, ...]:
        """No model: alignment carries no states."""
        return ()

    @property
    def done(self) -> bool:
        """Whether every block has stopped."""
        return all(map(self._has_stopped, range(len(self._stale))))

    def _has_stopped(self, k: int) -> bool:
        return self._stale[k] >= self._settings.patience

    def forward(self, pack: Pack, before: States | None = None, *, carry: bool = False) -> Sums:
        """Sums over the targets of each block's relative error; in evaluations those of stopped blocks too."""
        training, (donor,) = torch.is_grad_enabled(), self._donor
        segments, errors = Segments(pack.lengths), dict[int, Tensor]()
        state = self.model.training_state(len(pack.lengths))

        def listen(k: int) -> Callable[..., None]:
            def hook(_: Any, arguments: tuple[Any, ...], output: tuple[Tensor, Any]) -> None:
                x_TD, _, batch = arguments
                if not (training and self._has_stopped(k)):
                    with torch.set_grad_enabled(training):
                        errors[k] = self._error(k, x_TD.detach(), state, batch, output[0].detach())

            return hook

        hooks = [mixer_of(donor, index).register_forward_hook(listen(k)) for index, k in self._number.items()]
        with removed_after(hooks), torch.no_grad():
            donor.hidden(pack.ids_T, segments, donor.training_state(len(pack.lengths)))
        count = targets_of(pack)
        last = [min(best, 1e9) for best in self._best]
        each = torch.stack([errors[k].detach() if k in errors else torch.tensor(last[k]) for k in range(len(last))])
        total = torch.stack(list(errors.values())).sum() if errors else torch.zeros(())
        return Sums(loss=total * count, plain=each.mean() * count, metrics=each * count)

    def _error(self, k: int, x_TD: Tensor, state: Any, batch: Batch, target_TD: Tensor) -> Tensor:
        mixer = mixer_of(self.model, k)

        def run(x_TD: Tensor) -> Tensor:
            return mixer(x_TD, state.layer(k), batch)[0]

        y_TD = checkpoint(run, x_TD, use_reentrant=False) if self._checkpointing else run(x_TD)
        return (y_TD.float() - target_TD.float()).square().sum() / target_TD.float().square().sum().clamp(min=1e-12)

    def after_evaluation(self, step: int, found: Mapping[str, float]) -> None:
        """Stops blocks whose error has not fallen for `patience` evaluations."""
        for k, name in enumerate(self.metric_names):
            error = found[f"eval_{name}"]
            better = error < self._best[k] * (1 - self._settings.progress)
            if not self._has_stopped(k):
                self._stale[k] = 0 if better else self._stale[k] + 1
                self._best[k] = min(error, self._best[k])

    def best(self) -> dict[int, float]:
        """Least error of each block on held-out text."""
        return {index: self._best[k] for index, k in self._number.items()}

    def progress(self) -> dict[str, Any]:
        """Best errors, and how many evaluations ago they were."""
        return {"best": [min(best, 1e9) for best in self._best], "stale": self._stale}

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint's progress."""
        self._best, self._stale = list(progress["best"]), list(progress["stale"])
