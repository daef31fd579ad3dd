"""Rows that move along together, a token at a time: by a decode plan where there is one, else by the model itself."""

from typing import Protocol

from torch import Tensor

from ..model.model import Model
from ..ops import Segments
from ..state.batch import BatchState
from ..state.sequence import SequenceState
from . import decode


class Slots(Protocol):
    """A fixed number of places, each for one row."""

    def put(self, slot: int, row: SequenceState) -> None:
        """Takes a row in."""
        ...

    def take(self, slot: int) -> SequenceState:
        """The row as it is now, independent of what happens here later."""
        ...

    def free(self, slot: int) -> None:
        """Lets go of what a row held; the slot is good for another one."""
        ...

    def step(self, ids: Tensor, slots: list[int]) -> Tensor:
        """One token for each of `slots`; logits [len(slots), V]."""
        ...


class PlainSlots:
    """See `Slots`; every step is a pass of the model."""

    def __init__(self, model: Model, like: BatchState, capacity: int) -> None:
        self._model = model
        self._unused = like.sequences[0]
        self._state = like.take([0] * capacity)

    def put(self, slot: int, row: SequenceState) -> None:
        """See `Slots`."""
        self._state.put(slot, row)

    def take(self, slot: int) -> SequenceState:
        """See `Slots`."""
        return self._state.sequences[slot]

    def free(self, slot: int) -> None:
        """See `Slots`."""
        self._state.put(slot, self._unused)

    def step(self, ids: Tensor, slots: list[int]) -> Tensor:
        """See `Slots`."""
        live = self._state.take(slots)
        out = self._model(ids.to(self._model.device), Segments((1,) * len(slots)), live, logits="last")
        for slot, row in zip(slots, out.state.sequences, strict=True):
            self._state.put(slot, row)
        assert out.logits is not None
        return out.logits


def slots_of(model: Model, like: BatchState, capacity: int) -> Slots:
    """`capacity` slots for rows of the same model and precision as those of `like`."""
    if decode.available(model):
        return decode.Decoder(model, like.precision, capacity)
    return PlainSlots(model, like, capacity)


def put_all(slots: Slots, state: BatchState) -> None:
    """Takes in every row of a state, each into the slot of its number."""
    for slot, row in enumerate(state.sequences):
        slots.put(slot, row)


def take_all(slots: Slots, state: BatchState) -> None:
    """Brings a state whose rows were taken in up to date."""
    for slot in range(len(state)):
        state.put(slot, slots.take(slot))
