"""Costs of a model by the length of the context: state of a sequence, and how fast sequences decode then."""

from typing import NamedTuple

from ..spec import ModelSpec
from ..state.sequence import Precision
from .forecast import SpeedModel
from .state import StateMemory, state_memory

_SHORTEST, _LONGEST = 256, 131072


class ContextCost(NamedTuple):
    """Cost of one length: its tokens, one sequence's state, and tokens a second of all sequences that decode at once.

    tokens_per_second: None on a machine that is not measured.
    """

    context: int
    state: StateMemory
    tokens_per_second: float | None


def costs_by_context(
    spec: ModelSpec, precision: Precision, context: int, rows: int, speed: SpeedModel | None
) -> tuple[ContextCost, ...]:
    """Costs at powers of two and at `context`, up to the declared length, where `rows` sequences decode at once."""
    return tuple(
        ContextCost(
            length,
            state_memory(spec, length, precision),
            None if speed is None else rows / speed.step_seconds(length, rows),
        )
        for length in _lengths(spec.max_positions, context)
    )


def _lengths(declared: int | None, context: int) -> list[int]:
    powers = [_SHORTEST << step for step in range((_LONGEST // _SHORTEST).bit_length())]
    longest = max(_LONGEST, context) if declared is None else declared
    return sorted({context, *(power for power in powers if power <= longest)} | ({declared} if declared else set()))
