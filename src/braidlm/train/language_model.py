"""Objective of language models: the cross-entropy of each next token, with a z-loss and the routers' auxiliary loss."""

from torch import Tensor

from ..model.model import Model
from .config import Loss
from .data.pack import Pack
from .loss import cross_entropy
from .objective import States, Sums, TrainingObjective
from .passes import Passes, head_weight
from .router_aux_loss import RouterAuxLoss


class LanguageModelObjective(TrainingObjective):
    """Cross-entropy of a model over packed documents, none of which sees another."""

    def __init__(self, model: Model, loss: Loss, passes: Passes | None = None) -> None:
        super().__init__(model)
        self._loss = loss
        self._passes = passes or Passes()
        self._aux_loss = RouterAuxLoss(model)

    @property
    def has_experts(self) -> bool:
        """Whether the model has experts, and so an auxiliary loss."""
        return self._aux_loss.present

    def forward(self, pack: Pack, before: States | None = None, *, carry: bool = False) -> Sums:
        """Sums over the targets of this process's part of a packed sequence; the auxiliary loss counts once for each.

        `before` is the state that the first row goes on from; `carry` asks for the one after the last row.
        """
        part = self._passes.part(pack)
        self._aux_loss.begin()
        hidden_TD, after = self._passes.hidden(self.model, part, before[0] if before else None, carry=carry)
        targets_T = part.pack.targets_T
        loss, plain = cross_entropy(
            hidden_TD,
            head_weight(self.model),
            targets_T,
            scale=self.model.spec.logit_scale,
            z_loss=self._loss.z_loss,
            chunk=self._loss.chunk,
        )
        loss, aux_loss = self._with_aux_loss(loss, targets_T)
        return Sums(loss, plain, aux_loss, None if after is None else (after,))

    def _with_aux_loss(self, loss: Tensor, targets_T: Tensor) -> tuple[Tensor, Tensor | None]:
        """Loss with the routers' of the pass since `_aux_loss.begin`, and theirs alone; None without experts."""
        if not self._aux_loss.present:
            return loss, None
        aux_loss = self._aux_loss.value()
        return loss + self._loss.router_aux_loss * aux_loss * (targets_T >= 0).sum(), aux_loss
