"""Bytes that an engine holds beside its weights: states of sequences, slots, snapshots, speculation."""

from typing import NamedTuple

from ..engine.limits import Limits
from ..spec import ModelSpec
from ..state.sequence import Precision, can_truncate
from .state import StateMemory, last_page_room, state_memory


class EngineMemory(NamedTuple):
    """Bytes of an engine, one sequence's parts alone.

    state: the sequence's state, by kind. room: what its last pages of keys and values have free while it decodes.
    slots: the recurrent states of all slots, there from the start. speculation: the copy of a sequence's recurrent
    states while draft tokens are checked. snapshot: what a further snapshot adds (full pages are shared). snapshots:
    the number that a prompt of this length leaves in the prefix cache. prefix_cache: the most that all of them take.
    """

    state: StateMemory
    room: int
    slots: int
    speculation: int
    snapshot: int
    snapshots: int
    prefix_cache: int

    def held(self, sessions: int, limits: Limits) -> int:
        """Bytes of an engine that holds `sessions` sequences at once, snapshots apart."""
        decoding = min(sessions, limits.parallel)
        return self.slots + decoding * self._decoding + (sessions - decoding) * self.state.total

    @property
    def _decoding(self) -> int:
        """Bytes of a sequence that decodes: its recurrent states are those of its slot."""
        return self.state.kv + self.state.window_kv + self.room + self.speculation

    def sessions_in(self, memory: int, limits: Limits) -> int | None:
        """Number of sequences that fit into `memory` bytes; None if they take none."""
        full = self.held(limits.parallel, limits)
        if memory < full:
            return max(0, memory - self.slots) // self._decoding if memory >= self.slots else 0
        return limits.parallel + (memory - full) // self.state.total if self.state.total else None


def engine_memory(spec: ModelSpec, context: int, precision: Precision, limits: Limits) -> EngineMemory:
    """Bytes of an engine of these limits whose sequences have seen `context` tokens."""
    state = state_memory(spec, context, precision)
    interval = limits.snapshot_interval
    positions = {context - 1, *range(interval, context + 1, interval)} - {0, -1}
    return EngineMemory(
        state=state,
        room=last_page_room(spec, context, precision.kv),
        slots=limits.parallel * state.recurrent,
        speculation=state.recurrent if limits.speculative_tokens else 0,
        snapshot=state.recurrent,
        snapshots=1 if can_truncate(spec) else len(positions),
        prefix_cache=limits.cache_memory,
    )
