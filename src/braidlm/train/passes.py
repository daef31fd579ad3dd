"""Passes of models over packed sequences: hidden states with gradients, and the state for a document's next piece.

Legend: T = tokens, D = width.
"""

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
from .config import Run
from .context_parallel import ContextParallel, Part, gone_on
from .data.pack import Pack
from .world import World


class Passes:
    """Passes of one or several models over this process's part of each packed sequence."""

    def __init__(
        self, *, activation_checkpointing: bool = False, context_parallel: ContextParallel | None = None
    ) -> None:
        self._context_parallel = context_parallel
        self._run = run_block_checkpointed if activation_checkpointing else run_block

    def part(self, pack: Pack) -> Part:
        """Part of a packed sequence that this process has."""
        return Part(pack) if self._context_parallel is None else self._context_parallel.part(pack)

    def hidden(
        self, model: Model, part: Part, before: SequenceState | None = None, *, carry: bool = False
    ) -> tuple[Tensor, SequenceState | None]:
        """Input of the head, [T, D] in the model's dtype, and the state after the last row if `carry` asks for it.

        `before` is the state that the first row goes on from.
        """
        pack, segments = part.pack, Segments(part.pack.lengths)
        state = model.training_state(len(pack.lengths))
        if before is not None:
            state.set_sequence(0, before)
        if part.seen:
            state.set_sequence(0, gone_on(state.sequences[0], part.seen))
        run = self._run if self._context_parallel is None else self._context_parallel.over(part, self._run)
        hidden_TD, layers = model.hidden(pack.ids_T, segments, state, run)
        if not carry:
            return hidden_TD, None
        # Keys and values of meta tokens have gradients too, beside those of the layers' new tokens.
        last = state.stages(len(pack.lengths) - 1, [layer.detached() for layer in layers], segments)[-1]
        return hidden_TD, last.detached()


def passes_of(run: Run, world: World) -> Passes:
    """Passes as a run asks for them."""
    channel = None
    if world.context_parallel > 1:
        channel = ContextParallel(world.rank, world.context_rank, world.context_parallel)
    return Passes(activation_checkpointing=run.activation_checkpointing, context_parallel=channel)


def head_weight(model: Model) -> Tensor:
    """Weight that hidden states are multiplied with, [V, D]; a quantized head is dequantized for the pass."""
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
