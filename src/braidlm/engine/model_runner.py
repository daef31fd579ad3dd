"""Runner of one model: prefill of parts of prompts as one ragged batch, and decode steps of several sequences.

Sequence states come in and go out, and are immutable: no snapshot that is kept elsewhere can change.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..decode.decode import Decoder
from ..decode.slots import Slots, slots_of
from ..generation.choice import as_numbers
from ..model.model import Logits, Model, Output
from ..ops import Segments
from ..state.batch import BatchState
from ..state.sequence import Precision, SequenceState
from ..state.state_file import Owner
from .sequence import DecodeInput
from .step import DecodeCapabilities

# A model, or a function that is called like one.
ForwardFunction = Callable[..., Output]


class Part(NamedTuple):
    """Part of one prompt in a prefill pass: the sequence's state before it, and the positions, in it, of snapshots."""

    state: SequenceState
    ids: Sequence[int]
    snapshot_positions: tuple[int, ...]


class Prefilled(NamedTuple):
    """Result for one part: the state after it, those at its snapshot positions, and logits [n, V] or None."""

    state: SequenceState
    snapshots: tuple[SequenceState, ...]
    logits: NDArray[np.float32] | None


class ModelRunner:
    """Runner of one model at one precision, with slots for sequences that decode together."""

    def __init__(
        self,
        model: Model,
        run: ForwardFunction,
        new_state: Callable[[], BatchState],
        slots: int,
        shared: Slots | None = None,
    ) -> None:
        """`new_state` makes the state of one empty sequence; `slots` is their number, `shared` are another runner's."""
        self._model = model
        self._run = run
        self._new_state = new_state
        self._count = slots
        self._empty = new_state()
        self.slots = shared or slots_of(model, self._empty, slots)

    @property
    def stale(self) -> bool:
        """Whether the weights have changed since the slots were made."""
        return self._empty.identity.fingerprint != self._model.weights.fingerprint()

    def refresh(self) -> bool:
        """Makes the slots anew if the weights have changed; whether they have."""
        self._model.weights.notice_edits()
        if not self.stale:
            return False
        self._empty = self._new_state()
        self.slots = slots_of(self._model, self._empty, self._count)
        return True

    @property
    def empty(self) -> SequenceState:
        """State of a sequence without tokens."""
        return self._empty.sequences[0]

    @property
    def precision(self) -> Precision:
        """Precision of the states."""
        return self._empty.precision

    @property
    def owner(self) -> Owner:
        """Owner of the states that this runner makes."""
        return self._empty.owner

    def prefill(self, parts: Sequence[Part], *, logits: Logits) -> list[Prefilled]:
        """Runs parts of several prompts in one pass; results in their order.

        Logits are those of all of a part's tokens for "all", of its last one for "last", and None for None.
        """
        state = self._empty.select([0] * len(parts))
        for row, part in enumerate(parts):
            state.set_sequence(row, part.state)
        segments = Segments(tuple(len(part.ids) for part in parts), tuple(part.snapshot_positions for part in parts))
        ids = torch.tensor([token for part in parts for token in part.ids], device=self._model.device)
        out = self._run(ids, segments, state, logits=logits)
        sizes = [1] * len(parts) if logits == "last" else segments.lengths
        logits_of = [None] * len(parts) if out.logits is None else _split(out.logits, sizes)
        return [
            Prefilled(after, snapshots.sequences, part_logits)
            for after, snapshots, part_logits in zip(out.state.sequences, out.snapshots, logits_of, strict=True)
        ]

    @property
    def capabilities(self) -> DecodeCapabilities:
        """Capabilities of the decode step."""
        if isinstance(self.slots, Decoder):
            return DecodeCapabilities(self.slots.max_decode_tokens, can_roll_back=True)
        return DecodeCapabilities(1, can_roll_back=False)

    def decode(self, inputs: Sequence[DecodeInput]) -> list[NDArray[np.float32]]:
        """One decode step; for each input, the logits after each token, [tokens, V]. If it fails, no slot changes."""
        ids = torch.tensor([token for step_input in inputs for token in step_input.tokens])
        slots = [step_input.slot for step_input in inputs for _ in step_input.tokens]
        if isinstance(self.slots, Decoder):
            logits = self.slots.step(
                ids, slots, keep=[step_input.slot for step_input in inputs if step_input.draft_count]
            )
        else:
            logits = self.slots.step(ids, slots)
        return _split(logits, [len(step_input.tokens) for step_input in inputs])

    def rollback(self, counts: Mapping[int, int]) -> None:
        """Rolls back as many of the last tokens of each slot as `counts` says."""
        if counts:
            assert isinstance(self.slots, Decoder)
            self.slots.rollback(counts)


def _split(logits: Tensor, sizes: Sequence[int]) -> list[NDArray[np.float32]]:
    """Logits of the sequences of one pass; that many tokens are each one's."""
    numbers = as_numbers(logits)
    return [numbers[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
