"""Bytes of sequences' states by kind, from the spec alone."""

from typing import NamedTuple

from ..spec import ModelSpec
from ..spec.state import PAGE_TOKENS, FullKV, RecurrentState, SharedKV, StateSpec, WindowKV, token_bytes
from ..state.sequence import Precision


class StateMemory(NamedTuple):
    """Bytes of states by kind: keys and values of every position, those of windows, and states of constant size."""

    kv: int = 0
    window_kv: int = 0
    recurrent: int = 0

    @property
    def total(self) -> int:
        """Bytes of all kinds."""
        return sum(self)

    def plus(self, other: "StateMemory") -> "StateMemory":
        """Sum of two, kind by kind."""
        return StateMemory(*(a + b for a, b in zip(self, other, strict=True)))


def state_memory(spec: ModelSpec, length: int, precision: Precision) -> StateMemory:
    """State of one sequence after `length` user tokens, meta tokens included."""
    return _sum(state_by_block(spec, length, precision))


def state_by_block(spec: ModelSpec, length: int, precision: Precision) -> list[StateMemory]:
    """State of one sequence after `length` user tokens, block by block."""
    positions = spec.meta_tokens + length
    return [_sum([_slot_memory(slot, positions, precision) for slot in slots]) for slots in spec.state_specs]


def bytes_per_token(spec: ModelSpec, kv_dtype: str) -> StateMemory:
    """Keys and values of one position, by kind; those of a window only until it is full."""
    found = StateMemory()
    for slot in _slots(spec):
        match slot:
            case FullKV():
                found = found.plus(StateMemory(kv=token_bytes(slot, kv_dtype)))
            case WindowKV():
                found = found.plus(StateMemory(window_kv=token_bytes(slot, kv_dtype)))
            case RecurrentState() | SharedKV():
                pass
    return found


def last_page_room(spec: ModelSpec, length: int, kv_dtype: str) -> int:
    """Bytes of the last pages of one sequence behind its `length` user tokens: a decoding sequence has whole pages."""
    unused = -(spec.meta_tokens + length) % PAGE_TOKENS
    return unused * bytes_per_token(spec, kv_dtype).total


def _slots(spec: ModelSpec) -> list[StateSpec]:
    return [slot for slots in spec.state_specs for slot in slots]


def _slot_memory(slot: StateSpec, positions: int, precision: Precision) -> StateMemory:
    nbytes = slot.nbytes(positions, precision.name, precision.kv)
    match slot:
        case RecurrentState():
            return StateMemory(recurrent=nbytes)
        case FullKV():
            return StateMemory(kv=nbytes)
        case WindowKV():
            return StateMemory(window_kv=nbytes)
        case SharedKV():
            return StateMemory()


def _sum(parts: list[StateMemory]) -> StateMemory:
    total = StateMemory()
    for part in parts:
        total = total.plus(part)
    return total
