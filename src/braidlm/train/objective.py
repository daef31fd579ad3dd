"""Objective of a training run: what is minimised, for one packed sequence at a time, and what it changes on the way.

The trainer knows batches, steps and checkpoints; an objective knows the loss. Another one is given to it by
`Trainer(..., objective=...)`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..model.model import Model
from ..state.sequence import SequenceState
from .data.pack import Pack

# States after the last row of a packed sequence, one of each of an objective's `state_models`.
States = tuple[SequenceState, ...]


class Sums(NamedTuple):
    """Sums over the targets of one packed sequence.

    loss: what is minimised, with its gradient. plain: `loss` of the log, such as the cross-entropy in nats. aux_loss:
    the routers' load-balancing loss, None without experts. after: states after the last row, for the document's next
    piece. metrics: one sum for each of the objective's `metric_names`, None if it has none.
    """

    loss: Tensor
    plain: Tensor
    aux_loss: Tensor | None = None
    after: States | None = None
    metrics: Tensor | None = None


class TrainingObjective(nn.Module):
    """Loss of a model over packed documents, none of which sees another; subclasses give `forward`.

    The parameters of `model` that require gradients when the objective has been made are trained. One that gets no
    gradient in a step stays as it is in that step, its moments and its decay with it. Whatever else an objective needs
    (a teacher, say) must not be a submodule, lest it be stored with each checkpoint.

    metric_names: names of `Sums.metrics`, fields of the log that hold their means over the targets. in_nats: whether
    `Sums.plain` is in nats, so that its mean over the targets has a perplexity.
    """

    metric_names: tuple[str, ...] = ()
    in_nats = True

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    @property
    def has_experts(self) -> bool:
        """Whether the model has experts, and so an auxiliary loss."""
        return False

    @property
    def state_models(self) -> tuple[Model, ...]:
        """Models whose states are carried from one piece of a document to the next, in the order of `Sums.after`."""
        return (self.model,)

    @property
    def done(self) -> bool:
        """Whether nothing is left to train, so that the run ends before its last step."""
        return False

    def begin_step(self, step: int, steps: int) -> None:
        """Prepares step `step` (from 0) of the schedule's `steps`; random numbers drawn here are the step's own."""

    def forward(self, pack: Pack, before: States | None = None, *, carry: bool = False) -> Sums:
        """Sums over the targets of this process's part of a packed sequence, in training and in evaluations.

        `before` are the states that the first row goes on from; `carry` asks for those after the last row.
        """
        raise NotImplementedError

    def after_evaluation(self, step: int, found: Mapping[str, float]) -> None:
        """Sees the evaluations after `step` steps, by their names in the log; may change what is trained from then on.

        It is called once for each evaluation, with the same numbers in every process.
        """

    def progress(self) -> dict[str, Any]:
        """JSON data of what `after_evaluation` has changed, for a checkpoint."""
        return {}

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Goes on from the `progress` of a checkpoint; weights and moments are in place already.

        It is also called with the objective's own `progress` where a group's `frozen_steps` end, since all of the
        group's parameters then require gradients: those that have been stopped by that are stopped again.
        """
