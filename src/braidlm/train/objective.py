"""A model with its loss over packs: what one process computes between two exchanges of gradients.

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
from .balance import Balance
from .config import Loss
from .data.pack import Pack
from .loss import cross_entropy
from .sequence import Part, Relay, gone_on


class Sums(NamedTuple):
    """Over one pack. loss: to minimise, with its gradient. plain: cross-entropy in nats; balance: of the experts.

    after: the state after the last row, for the document's next piece.
    """

    loss: Tensor
    plain: Tensor
    balance: Tensor | None
    after: SequenceState | None


class Objective(nn.Module):
    """The loss of a model over packs of documents, none of which sees another."""

    def __init__(self, model: Model, loss: Loss, *, recompute: bool = False, relay: Relay | None = None) -> None:
        super().__init__()
        self.model = model
        self._loss = loss
        self._relay = relay
        self._run = recomputed if recompute else run_block
        self._balance = Balance(model)

    @property
    def has_experts(self) -> bool:
        """Whether there is a balance."""
        return self._balance.present

    def forward(self, pack: Pack, before: SequenceState | None = None, *, carry: bool = False) -> Sums:
        """Sums over the pack's targets, those of this process's part; the balance counts once for each of them.

        `before` is the state that the first row goes on from; `carry` asks for the one after the last row.
        """
        part = Part(pack) if self._relay is None else self._relay.part(pack)
        model, pack, segments = self.model, part.pack, Segments(part.pack.lengths)
        state = model.training_state(len(pack.lengths))
        if before is not None:
            state.put(0, before)
        if part.seen:
            state.put(0, gone_on(state.sequences[0], part.seen))
        self._balance.begin()
        run = self._run if self._relay is None else self._relay.over(part, self._run)
        hidden_TD, layers = model.hidden(pack.ids_T, segments, state, run)
        loss, plain = cross_entropy(
            hidden_TD,
            _head(model),
            pack.targets_T,
            scale=model.spec.logit_scale,
            z=self._loss.z,
            chunk=self._loss.chunk,
        )
        balance = None
        if self._balance.present:
            balance = self._balance.value()
            loss = loss + self._loss.balance * balance * (pack.targets_T >= 0).sum()
        after = None
        if carry:
            after = state.stages(len(pack.lengths) - 1, [layer.detached() for layer in layers], segments)[-1]
        return Sums(loss, plain, balance, after)


def _head(model: Model) -> Tensor:
    """What hidden states are multiplied with; a packed head is made into numbers for the pass."""
    weight = model.embed.weight if model.head is None else model.head.weight
    plain = weight.dequantize() if isinstance(weight, QuantizedWeight) else weight
    if model.head is None or model.head.adapter is None:
        return plain
    assert isinstance(model.head.adapter, LowRank)
    return model.head.adapter.merged(plain)


def recomputed(
    block: nn.Module, x_TD: Tensor, state: BatchLayerState, batch: Batch, dtype: torch.dtype
) -> tuple[Tensor, BatchLayerState]:
    """Runs a block so that its activations are made again for its gradient, instead of kept (Chen et al. 2016)."""
    return checkpoint(block, x_TD, state, batch, dtype, use_reentrant=False)
