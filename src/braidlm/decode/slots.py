"""Slots of the decode batch: sequences that take a token each at a step, by a decode plan or by the model itself."""

from typing import Protocol

from torch import Tensor

from ..model.model import Model
from ..ops import Segments
from ..state.batch import BatchState
from ..state.sequence import SequenceState
from . import decode


class Slots(Protocol):
    """Slots of a decode batch: a fixed number of slots, each for one sequence."""

    def set_state(self, slot: int, state: SequenceState) -> None:
        """Puts a sequence into a slot."""
        ...

    def state_of(self, slot: int) -> SequenceState:
        """State of the sequence in a slot as it is now, independent of later steps."""
        ...

    def free(self, slot: int) -> None:
        """Frees a slot for another sequence."""
        ...

    def step(self, ids: Tensor, slots: list[int]) -> Tensor:
        """Runs one token of each of `slots`, ids [len(slots)]; returns logits [len(slots), V]."""
        ...


class PlainSlots:
    """Slots whose every step is a forward pass of the model, where there is no native decoder."""

    def __init__(self, model: Model, like: BatchState, capacity: int) -> None:
        self._model = model
        self._unused = like.sequences[0]
        self._state = like.select([0] * capacity)

    def set_state(self, slot: int, state: SequenceState) -> None:
        """Puts a sequence into a slot."""
        self._state.set_sequence(slot, state)

    def state_of(self, slot: int) -> SequenceState:
        """State of the sequence in a slot."""
        return self._state.sequences[slot]

    def free(self, slot: int) -> None:
        """Frees a slot for another sequence."""
        self._state.set_sequence(slot, self._unused)

    def step(self, ids: Tensor, slots: list[int]) -> Tensor:
        """Runs one token of each of `slots` by a pass of the model; returns logits [len(slots), V]."""
        live = self._state.select(slots)
        out = self._model(ids.to(self._model.device), Segments((1,) * len(slots)), live, logits="last")
        for slot, row in zip(slots, out.state.sequences, strict=True):
            self._state.set_sequence(slot, row)
        assert out.logits is not None
        return out.logits


def slots_of(model: Model, like: BatchState, capacity: int) -> Slots:
    """Makes `capacity` slots for sequences of the same model and precision as those of `like`."""
    if decode.available(model):
        return decode.Decoder(model, like.precision, capacity)
    return PlainSlots(model, like, capacity)


def copy_to_slots(slots: Slots, state: BatchState) -> None:
    """Puts every row of a state into the slot of its number."""
    for slot, row in enumerate(state.sequences):
        slots.set_state(slot, row)


def copy_from_slots(slots: Slots, state: BatchState) -> None:
    """Replaces every row of a state by the sequence in the slot of its number."""
    for slot in range(len(state)):
        state.set_sequence(slot, slots.state_of(slot))
