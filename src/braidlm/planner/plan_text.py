"""A plan as plain data for JSON, and as lines for people."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from ..system.units import amount, size
from .plan import Plan
from .state import StateMemory

_NOT_MEASURED = "not known; braid plan --calibrate measures this machine"


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as plain data, for JSON; every size is a number of bytes."""
    engine, training = plan.engine, plan.training
    return {
        "model": plan.model,
        **plan.facts,
        "context": plan.context,
        "sessions": plan.sessions,
        "memory": plan.memory,
        "state": _kinds(engine.state),
        "state_by_block": [_kinds(block) for block in plan.blocks],
        "bytes_per_token": {name: count for name, count in plan.per_token._asdict().items() if name != "recurrent"},
        "engine": engine._asdict() | {"state": engine.state.total, "bytes": plan.engine_bytes},
        "flops_per_token": [each._asdict() for each in plan.flops],
        "training": training._asdict() | {"total": training.total, "checkpointed_total": training.checkpointed_total},
        "by_context": [each._asdict() | {"state": _kinds(each.state)} for each in plan.by_context],
        "resident_bytes": plan.resident_bytes,
        "speed": None if plan.speed is None else asdict(plan.speed),
        "sessions_that_fit": plan.sessions_that_fit,
    }


def plan_lines(plan: Plan, lengths: Collection[int]) -> list[tuple[str, str]]:
    """A plan as (name, value) pairs, with FLOPs at these lengths; plans of one workload have the same names in order.

    But for the forecast of speed, which comes last and only where there is one.
    """
    return [
        ("context, sessions", f"{plan.context} tokens, {plan.sessions}"),
        *_weight_lines(plan),
        *_state_lines(plan),
        *_engine_lines(plan),
        *_flops_lines(plan, lengths),
        *_training_lines(plan),
        *_forecast_lines(plan),
    ]


def table_rows(plans: Sequence[Plan]) -> list[tuple[str, ...]]:
    """Rows of a table: a name, and the value of each plan; "-" where a plan has no such line."""
    lengths = sorted({each.length for plan in plans for each in plan.flops})
    columns = [dict(plan_lines(plan, lengths)) for plan in plans]
    names = list(dict.fromkeys(name for column in columns for name in column))
    return [(name, *(column.get(name, "-") for column in columns)) for name in names]


def _weight_lines(plan: Plan) -> list[tuple[str, str]]:
    facts = plan.facts
    formats = "".join(f", {count} in {kind}" for kind, count in facts["quantized"].items())
    return [
        ("parameters", amount(facts["parameters"])),
        ("parameters of a token", amount(facts["active_parameters"])),
        ("dtype of weights, of keys and values", f"{facts['dtype']}{formats}; {facts['kv_dtype']}"),
        ("weights", size(facts["weight_bytes"])),
    ]


def _state_lines(plan: Plan) -> list[tuple[str, str]]:
    state, per_token = plan.engine.state, plan.per_token
    return [
        ("state of a sequence", size(state.total)),
        ("  keys and values", size(state.kv)),
        ("  keys and values of windows", size(state.window_kv)),
        ("  recurrent states", size(state.recurrent)),
        ("keys and values of a token", f"{size(per_token.kv)}, and {size(per_token.window_kv)} within windows"),
    ]


def _engine_lines(plan: Plan) -> list[tuple[str, str]]:
    engine = plan.engine
    return [
        ("recurrent states of all slots", size(engine.slots)),
        ("room in last pages, a sequence", size(engine.room)),
        ("speculation, a sequence", size(engine.speculation)),
        ("snapshots of a prompt", f"{engine.snapshots}, each {size(engine.snapshot)} beside shared pages"),
        ("prefix cache at most", size(engine.prefix_cache)),
        ("engine with all sessions", size(plan.engine_bytes)),
    ]


def _flops_lines(plan: Plan, lengths: Collection[int]) -> list[tuple[str, str]]:
    known = {each.length: f"prefill {amount(each.prefill)}, decode {amount(each.decode)}" for each in plan.flops}
    return [(f"FLOPs a token at {length}", known.get(length, "-")) for length in lengths]


def _training_lines(plan: Plan) -> list[tuple[str, str]]:
    training = plan.training
    return [
        ("training, weights to moments", size(training.weights + training.gradients + training.moments)),
        ("training, activations of the context", size(training.activations + training.casts)),
        ("  with activation checkpointing", size(training.checkpointed_activations)),
    ]


def _forecast_lines(plan: Plan) -> list[tuple[str, str]]:
    found = [("resident memory", _NOT_MEASURED if plan.resident_bytes is None else size(plan.resident_bytes))]
    speed = plan.speed
    if speed is not None:
        found += [
            ("time to first token", f"{speed.first_token_seconds:.3g} s"),
            ("tokens a second, one sequence", f"{speed.tokens_per_second:.3g}"),
            ("tokens a second, all sessions", f"{speed.tokens_per_second_of_all:.3g}"),
        ]
    if plan.memory is not None:
        fit = plan.sessions_that_fit
        found.append((f"sessions that fit in {size(plan.memory)}", "any number" if fit is None else str(fit)))
    return found


def _kinds(memory: StateMemory) -> dict[str, int]:
    return memory._asdict() | {"total": memory.total}
