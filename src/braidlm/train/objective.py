"""Model with its loss over packed sequences: what one process computes between two all-reduces of gradients.

Legend: T = tokens, D = width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..adapters.low_rank import LowRank
from ..layers import Batch
from ..model.model import Model, run_block
from ..ops import Segments
from ..ops.linear.quantized import QuantizedWeight
from ..state.batch import BatchLayerState
from ..state.sequence import SequenceState
from .config import Loss
from .context_parallel import ContextParallel, Part, gone_on
from .data.pack import Pack
from .loss import cross_entropy
from .router_aux_loss import RouterAuxLoss


class Sums(NamedTuple):
    """Sums over one packed sequence.

    loss: what is minimised, with its gradient. plain: cross-entropy in nats. aux_loss: the routers' load-balancing
    loss, None without experts. after: the state after the last row, for the document's next piece.
    """

    loss: Tensor
    plain: Tensor
    aux_loss: Tensor | None
    after: SequenceState | None


class Objective(nn.Module):
    """Loss of a model over packed documents, none of which sees another."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        *,
        activation_checkpointing: bool = False,
        context_parallel: ContextParallel | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._loss = loss
        self._context_parallel = context_parallel
        self._run = run_block_checkpointed if activation_checkpointing else run_block
        self._aux_loss = RouterAuxLoss(model)

    @property
    def has_experts(self) -> bool:
        """Whether the model has experts, and so an auxiliary loss."""
        return self._aux_loss.present

    def forward(self, pack: Pack, before: SequenceState | None = None, *, carry: bool = False) -> Sums:
        """Sums over the targets of this process's part of a packed sequence; the auxiliary loss counts once for each.

        `before` is the state that the first row goes on from; `carry` asks for the one after the last row.
        """
        part = Part(pack) if self._context_parallel is None else self._context_parallel.part(pack)
        model, pack, segments = self.model, part.pack, Segments(part.pack.lengths)
        state = model.training_state(len(pack.lengths))
        if before is not None:
            state.put(0, before)
        if part.seen:
            state.put(0, gone_on(state.sequences[0], part.seen))
        self._aux_loss.begin()
        run = self._run if self._context_parallel is None else self._context_parallel.over(part, self._run)
        hidden_TD, layers = model.hidden(pack.ids_T, segments, state, run)
        loss, plain = cross_entropy(
            hidden_TD,
            _head(model),
            pack.targets_T,
            scale=model.spec.logit_scale,
            z_loss=self._loss.z_loss,
            chunk=self._loss.chunk,
        )
        aux_loss = None
        if self._aux_loss.present:
            aux_loss = self._aux_loss.value()
            loss = loss + self._loss.router_aux_loss * aux_loss * (pack.targets_T >= 0).sum()
        after = None
        if carry:
            after = state.stages(len(pack.lengths) - 1, [layer.detached() for layer in layers], segments)[-1]
        return Sums(loss, plain, aux_loss, after)


def _head(model: Model) -> Tensor:
    """Weight that hidden states are multiplied with; a quantized head is dequantized for the pass."""
    weight = model.embed.weight if model.head is None else model.head.weight
    plain = weight.dequantize() if isinstance(weight, QuantizedWeight) else weight
    if model.head is None or model.head.adapter is None:
        return plain
    assert isinstance(model.head.adapter, LowRank)
    return model.head.adapter.merged(plain)


def run_block_checkpointed(
    block: nn.Module, x_TD: Tensor, state: BatchLayerState, batch: Batch, dtype: torch.dtype
) -> tuple[Tensor, BatchLayerState]:
    """Runs a block whose activations are computed again for its gradient instead of kept (Chen et al. 2016)."""
    return checkpoint(block, x_TD, state, batch, dtype, use_reentrant=False)
