"""Rows of state through the model: a part of a prompt for one row, a token for each of several.

Everything here takes and gives rows, which are immutable: nothing that is kept elsewhere can change.
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
    """What a slot is moved along by: tokens, the last `guesses` of which may be taken back."""

    slot: int
    tokens: Sequence[int]
    guesses: int = 0

    @property
    def sure(self) -> "DecodeInput":
        """Without what was guessed."""
        return DecodeInput(self.slot, self.tokens[: len(self.tokens) - self.guesses])


class Runner:
    """One model at one precision, and `slots` rows that decode together."""

    def __init__(
        self, model: Model, run: Run, new_state: Callable[[], BatchState], slots: int, shared: Slots | None = None
    ) -> None:
        """`new_state` gives one row that has seen nothing; `shared` are slots of another runner of these weights."""
        self._model = model
        self._run = run
        self._new_state = new_state
        self._count = slots
        self._empty = new_state()
        self.slots = shared or slots_of(model, self._empty, slots)

    @property
    def stale(self) -> bool:
        """Whether the weights have changed since the slots were made."""
        return self._empty.identity.fingerprint != self._model.fingerprint()

    def refresh(self) -> bool:
        """Begins anew if the weights have changed; whether they have."""
        self._model.notice_edits()
        if not self.stale:
            return False
        self._empty = self._new_state()
        self.slots = slots_of(self._model, self._empty, self._count)
        return True

    @property
    def empty(self) -> SequenceState:
        """A row that has seen nothing."""
        return self._empty.sequences[0]

    @property
    def owner(self) -> Owner:
        """Whose rows these are."""
        return self._empty.owner

    def read(
        self, row: SequenceState, ids: Sequence[int], marks: Sequence[int], *, logits: Logits
    ) -> tuple[SequenceState, tuple[SequenceState, ...], Tensor | None]:
        """`row` after `ids`, its states after each number of them in `marks`, and the logits [n, V] that are asked for.

        n is the number of `ids` for "all" and 1 for "last".
        """
        state = self._empty.fork()
        state.put(0, row)
        segments = Segments((len(ids),), (tuple(marks),))
        out = self._run(torch.tensor(ids, device=self._model.device), segments, state, logits=logits)
        return out.state.sequences[0], out.snapshots[0].sequences, out.logits

    @property
    def rewinding(self) -> bool:
        """Whether `write` takes several tokens a row, as if one came after the other, and they can be taken back."""
        return isinstance(self.slots, Decoder)

    @property
    def short(self) -> int:
        """How many tokens of a prompt `write` takes in less time than `read`; at least one."""
        return self.slots.short if isinstance(self.slots, Decoder) else 1

    def write(self, moves: Sequence[DecodeInput]) -> dict[int, Tensor]:
        """Moves slots along; by slot, the logits after each of its tokens, [tokens, V]. If it fails, none has moved."""
        ids = torch.tensor([token for move in moves for token in move.tokens])
        slots = [move.slot for move in moves for _ in move.tokens]
        if isinstance(self.slots, Decoder):
            logits = self.slots.step(ids, slots, keep=[move.slot for move in moves if move.guesses])
        else:
            logits = self.slots.step(ids, slots)
        parts = logits.split([len(move.tokens) for move in moves])
        return {move.slot: part for move, part in zip(moves, parts, strict=True)}

    def rollback(self, counts: Mapping[int, int]) -> None:
        """Takes back so many of the last tokens of each slot."""
        if counts:
            assert isinstance(self.slots, Decoder)
            self.slots.rollback(counts)


def can_be_cut(spec: ModelSpec) -> bool:
    """Whether states can be taken back to an earlier token: only keys and values, all of them held."""
    return all(isinstance(slot, (FullKV, SharedKV)) for slots in spec.state_specs for slot in slots)


def cut(row: SequenceState, length: int) -> SequenceState:
    """The row as it was after `length` of its tokens, for models that `can_be_cut`."""
    less = row.length - length
    layers = (LayerState({}, layer.kv and layer.kv.first(layer.kv.length - less)) for layer in row.layers)
    return SequenceState(length, tuple(layers), row.identity)
