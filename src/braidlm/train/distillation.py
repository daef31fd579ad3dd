"""Objective of distillation: a model learns a teacher's probabilities of each next token, from the teacher's logits."""

import torch

from ..api import loading
from ..api.language_model import LanguageModel
from ..errors import InputError
from ..model.model import Model
from ..text.tokenizer import same_tokenizer
from .config import Loss, Teacher
from .data.pack import Pack
from .divergence import Predictions, divergence
from .language_model import LanguageModelObjective
from .objective import States, Sums
from .passes import Passes, head_weight


class DistillationObjective(LanguageModelObjective):
    """Divergence from a teacher over packed documents, with a share of the cross-entropy.

    metrics: `kl`, the divergence in nats; `agreement`, the share of places where both find the same token likeliest.
    """

    metric_names = ("kl", "agreement")

    def __init__(self, model: Model, teacher: Model, asked: Teacher, loss: Loss, passes: Passes | None = None) -> None:
        super().__init__(model, loss, passes)
        self._teacher = (teacher,)  # which is no part of what is trained, nor a submodule
        self._asked = asked

    @property
    def state_models(self) -> tuple[Model, ...]:
        """The model and its teacher."""
        return (self.model, *self._teacher)

    def forward(self, pack: Pack, before: States | None = None, *, carry: bool = False) -> Sums:
        """Sums over the targets of this process's part of a packed sequence.

        `before` are the states of model and teacher that the first row goes on from.
        """
        part, (teacher,) = self._passes.part(pack), self._teacher
        own, others = before or (None, None)
        with torch.no_grad():
            taught_TD, taught_after = self._passes.hidden(teacher, part, others, carry=carry)
            wanted = Predictions(taught_TD, head_weight(teacher), teacher.spec.logit_scale)
        self._aux_loss.begin()
        hidden_TD, after = self._passes.hidden(self.model, part, own, carry=carry)
        made = divergence(
            Predictions(hidden_TD, head_weight(self.model), self.model.spec.logit_scale),
            wanted,
            part.pack.targets_T,
            temperature=self._asked.temperature,
            cross_entropy=self._asked.cross_entropy,
            chunk=self._loss.chunk,
        )
        loss, aux_loss = self._with_aux_loss(made.loss, part.pack.targets_T)
        states = None if after is None or taught_after is None else (after, taught_after)
        return Sums(loss, made.plain, aux_loss, states, torch.stack([made.kl, made.agreement]))


def load_teacher(asked: Teacher, student: LanguageModel) -> Model:
    """Frozen teacher of a model; `InputError` unless both have the same tokens."""
    found = loading.load(asked.checkpoint, dtype="auto", quantize=asked.quantize)
    sizes = [language.network.spec.vocab for language in (found, student)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"teacher.checkpoint {asked.checkpoint} has a vocabulary of {sizes[0]} tokens, the model of {sizes[1]}; "
            "a teacher must have the model's own vocabulary"
        )
    if found.tokenizer is None or not same_tokenizer(found.tokenizer, student.tokenizer):
        raise InputError(
            f"teacher.checkpoint {asked.checkpoint} has another tokenizer than the model; a teacher must have the "
            "model's own tokenizer"
        )
    return found.network
