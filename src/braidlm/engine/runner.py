"""Runner of a model: prefill of a part of one prompt, and decode steps of several sequences.

Sequence states come in and go out, and are immutable: no snapshot that is kept elsewhere can change.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..decode.decode import Decoder
from ..decode.slots import Slots, slots_of
from ..generation.generate import Run
from ..model.model import Logits, Model
from ..ops import Segments
from ..spec import ModelSpec
from ..spec.state import FullKV, SharedKV
from ..state.batch import BatchState
from ..state.sequence import LayerState, SequenceState
from ..state.state_file import Owner


class DecodeInput(NamedTuple):
    """Input of one slot to a decode step: tokens, the last `draft_count` of which may be rolled back."""

    slot: int
    tokens: Sequence[int]
    draft_count: int = 0

    @property
    def without_draft(self) -> "DecodeInput":
        """The input without its draft tokens."""
        return DecodeInput(self.slot, self.tokens[: len(self.tokens) - self.draft_count])


class Runner:
    """Runner of one model at one precision, with slots for sequences that decode together."""

    def __init__(
        self, model: Model, run: Run, new_state: Callable[[], BatchState], slots: int, shared: Slots | None = None
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
    def owner(self) -> Owner:
        """Owner of the states that this runner makes."""
        return self._empty.owner

    def prefill(
        self, row: SequenceState, ids: Sequence[int], snapshot_positions: Sequence[int], *, logits: Logits
    ) -> tuple[SequenceState, tuple[SequenceState, ...], Tensor | None]:
        """The state after `ids`, those after each number of them in `snapshot_positions`, and logits [n, V].

        n is the number of `ids` for `logits` "all" and 1 for "last"; None for None.
        """
        state = self._empty.fork()
        state.put(0, row)
        segments = Segments((len(ids),), (tuple(snapshot_positions),))
        out = self._run(torch.tensor(ids, device=self._model.device), segments, state, logits=logits)
        return out.state.sequences[0], out.snapshots[0].sequences, out.logits

    @property
    def can_roll_back(self) -> bool:
        """Whether a decode step takes several tokens of a sequence, which can be rolled back."""
        return isinstance(self.slots, Decoder)

    @property
    def max_decode_tokens(self) -> int:
        """Number of a prompt's tokens up to which a decode step takes less time than a prefill pass; at least one."""
        return self.slots.max_decode_tokens if isinstance(self.slots, Decoder) else 1

    def decode(self, inputs: Sequence[DecodeInput]) -> dict[int, Tensor]:
        """One decode step; by slot, the logits after each of its tokens, [tokens, V]. If it fails, no slot changes."""
        ids = torch.tensor([token for step_input in inputs for token in step_input.tokens])
        slots = [step_input.slot for step_input in inputs for _ in step_input.tokens]
        if isinstance(self.slots, Decoder):
            logits = self.slots.step(
                ids, slots, keep=[step_input.slot for step_input in inputs if step_input.draft_count]
            )
        else:
            logits = self.slots.step(ids, slots)
        parts = logits.split([len(step_input.tokens) for step_input in inputs])
        return {step_input.slot: part for step_input, part in zip(inputs, parts, strict=True)}

    def rollback(self, counts: Mapping[int, int]) -> None:
        """Takes back as many of the last tokens of each slot as `counts` says."""
        if counts:
            assert isinstance(self.slots, Decoder)
            self.slots.rollback(counts)


def can_truncate(spec: ModelSpec) -> bool:
    """Whether states can be truncated to an earlier token: they are keys and values of all positions alone."""
    return all(isinstance(slot, (FullKV, SharedKV)) for slots in spec.state_specs for slot in slots)


def truncate(row: SequenceState, length: int) -> SequenceState:
    """The state as it was after `length` of its tokens, for models that `can_truncate`."""
    less = row.length - length
    layers = (LayerState({}, layer.kv and layer.kv.first(layer.kv.length - less)) for layer in row.layers)
    return SequenceState(length, tuple(layers), row.identity)
