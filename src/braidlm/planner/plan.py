"""Plan of one model: all that it costs at one context and number of sessions, as data and as lines for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..engine.limits import Limits
from ..errors import InputError
from ..model import footprint
from ..spec import ModelSpec
from ..state.sequence import Precision
from .by_context import ContextCost, costs_by_context
from .calibration import Calibration
from .engine_memory import EngineMemory, engine_memory
from .forecast import SpeedModel, covers
from .operations import TokenFlops, token_flops
from .state import StateMemory, bytes_per_token, state_by_block
from .training_memory import TrainingMemory, training_memory

USUAL_CONTEXT = 8192
_LENGTHS = (1024, 8192, 32768, 131072)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Workload to plan for: `sessions` sequences of `context` tokens, in `memory` bytes if that is given.

    A context that is not given leaves room for `generated` tokens within the declared length.
    """

    context: int | None = None
    sessions: int = 1
    memory: int | None = None
    generated: int = 0


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Forecast of speed: seconds to the first token of a prompt, tokens a second of one sequence and of all."""

    first_token_seconds: float
    tokens_per_second: float
    tokens_per_second_of_all: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Plan of one model; bytes everywhere.

    facts: see `footprint.facts`. context, sessions, memory: the workload's. rows: sessions that decode at once. blocks:
    one sequence's state, block by block. per_token: keys and values of one position. engine_bytes: what an engine holds
    for all sessions. speed and resident_bytes: None without a calibration that has these weights. sessions_that_fit:
    None without a memory, or where states take none.
    """

    model: str
    facts: Mapping[str, Any]
    context: int
    sessions: int
    memory: int | None
    rows: int
    blocks: tuple[StateMemory, ...]
    per_token: StateMemory
    engine: EngineMemory
    engine_bytes: int
    flops: tuple[TokenFlops, ...]
    training: TrainingMemory
    by_context: tuple[ContextCost, ...]
    speed: Speed | None
    resident_bytes: int | None
    sessions_that_fit: int | None


def make_plan(
    model: str,
    spec: ModelSpec,
    precision: Precision,
    kinds: Mapping[str, str],
    workload: Workload,
    calibration: Calibration | None = None,
    limits: Limits | None = None,
) -> Plan:
    """Plans a model by its spec alone; `kinds` are those of quantized weights, by name.

    `InputError` for a context beyond the model's declared length, or for what is not positive.
    """
    limits = limits or Limits()
    context = _context(model, spec, workload)
    facts = footprint.facts(spec, [context], precision, kinds)
    size = footprint.Size(facts["parameters"], facts["active_parameters"], facts["embedding_parameters"])
    engine = engine_memory(spec, context, precision, limits)
    held, rows = engine.held(workload.sessions, limits), min(workload.sessions, limits.parallel)
    of_model = _speed_model(spec, precision, kinds, calibration)
    process = calibration.process_bytes if calibration is not None else 0
    room = None if workload.memory is None else workload.memory - facts["weight_bytes"] - process
    return Plan(
        model=model,
        facts=facts,
        context=context,
        sessions=workload.sessions,
        memory=workload.memory,
        rows=rows,
        blocks=tuple(state_by_block(spec, context, precision)),
        per_token=bytes_per_token(spec, precision.kv),
        engine=engine,
        engine_bytes=held,
        flops=tuple(token_flops(spec, size, length) for length in _lengths(spec, context)),
        training=training_memory(spec, context, precision.dtype),
        by_context=costs_by_context(spec, precision, context, rows, of_model),
        speed=None if of_model is None else _speed(of_model, context, rows),
        resident_bytes=None if calibration is None else process + facts["weight_bytes"] + held,
        sessions_that_fit=None if room is None else engine.sessions_in(room, limits),
    )


def _context(model: str, spec: ModelSpec, workload: Workload) -> int:
    declared, context = spec.max_positions, workload.context
    if context is None:
        context = USUAL_CONTEXT if declared is None else max(1, min(USUAL_CONTEXT, declared - workload.generated))
    for name, number in (("context", context), ("sessions", workload.sessions), ("memory", workload.memory)):
        if number is not None and number < 1:
            raise InputError(f"{name} is {number}, but must be at least 1")
    if declared is not None and context > declared:
        raise InputError(
            f"the context of {context} tokens is beyond the declared length of {model}; plan for at most {declared}"
        )
    return context


def _lengths(spec: ModelSpec, context: int) -> list[int]:
    declared = spec.max_positions
    return sorted({context, *(length for length in _LENGTHS if declared is None or length <= declared)})


def _speed_model(
    spec: ModelSpec, precision: Precision, kinds: Mapping[str, str], calibration: Calibration | None
) -> SpeedModel | None:
    if calibration is None or not covers(calibration, spec, precision, kinds):
        return None
    return SpeedModel(spec, precision, kinds, calibration)


def _speed(of_model: SpeedModel, context: int, rows: int) -> Speed:
    return Speed(
        first_token_seconds=of_model.prefill_seconds(context),
        tokens_per_second=1 / of_model.step_seconds(context, 1),
        tokens_per_second_of_all=rows / of_model.step_seconds(context, rows),
    )
