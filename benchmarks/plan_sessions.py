"""Sessions of a long context: planned, then held in an engine's slots, and the process's memory beside the plan.

States are filled with random numbers instead of by reading two million tokens; each session generates a few tokens from
there. The model's declared length is lifted: nothing is read, and a state of any length is laid out the same.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace

import torch

import braidlm
from braidlm import LanguageModel
from braidlm.decode.slots import Slots, slots_of
from braidlm.engine.limits import Limits
from braidlm.errors import InputError
from braidlm.families.presets import preset
from braidlm.planner.check import step_with_rollback
from braidlm.planner.plan import Plan, Workload, make_plan
from braidlm.planner.synthetic_state import synthetic_state
from braidlm.spec import ModelSpec
from braidlm.state.sequence import Precision
from braidlm.system.memory import available_memory, give_back, resident_memory
from braidlm.system.units import size

from .report import Report

MEMORY = 0.10
HEADS = ("model", "weights", "states planned", "states held", "all planned", "all held", "planned / held")
# Of the memory that is free, what the plan may take.
_SHARE = 0.9


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this part."""
    parser.add_argument("--models", nargs="*", default=["mamba2-130m", "granite-4.0-h-350m"], help="presets")
    parser.add_argument("--context", type=int, default=131072, help="tokens of each session")
    parser.add_argument("--count", type=int, default=16, help="number of sessions")
    parser.add_argument("--kv-dtype", default="int8", help="dtype of keys and values")
    parser.add_argument("--tokens", type=int, default=4, help="tokens that each session generates")


def hold(given: argparse.Namespace, report: Report) -> None:
    """Plans and holds the sessions of each model."""
    rows = []
    for name in given.models:
        found = held(name, preset(name).spec, given.context, given.count, given.kv_dtype, given.tokens)
        report.found[name] = found
        ratio = found["planned"] / found["grown"]
        rows.append([name, *(size(found[key]) for key in found), f"{ratio:.3f}"])
        report.check(f"{name}: state of {given.count} sessions of {given.context} tokens, exactly", _exact(found))
        report.check(f"{name}: planned over held memory is {ratio:.3f}, within {MEMORY:.0%}", abs(ratio - 1) <= MEMORY)
    report.table(HEADS, rows)


def held(name: str, spec: ModelSpec, context: int, sessions: int, kv_dtype: str, tokens: int) -> dict[str, int]:
    """Bytes of weights, of states and of everything beside the process itself, as planned and as held."""
    spec, limits = replace(spec, max_positions=None), Limits(parallel=sessions)
    plan = make_plan(
        name,
        spec,
        Precision.of(torch.bfloat16, kv_dtype),
        {},
        Workload(context=context, sessions=sessions),
        limits=limits,
    )
    weights = plan.facts["weight_bytes"]
    planned = weights + plan.engine_bytes
    if planned > _SHARE * available_memory():
        raise InputError(f"{name} needs {size(planned)}, but {size(available_memory())} are free; ask for less")
    _load_libraries()
    before = resident_memory()
    language = braidlm.build(spec, dtype="bfloat16")
    slots, states = _filled(language, plan)
    with torch.no_grad():
        for _ in range(tokens):
            logits = slots.step(torch.zeros(sessions, dtype=torch.int64), list(range(sessions)))
            assert bool(torch.isfinite(logits).all()), "a session has lost its numbers"
        step_with_rollback(slots, sessions)
    give_back()
    return {
        "weights": weights,
        "planned_states": sessions * plan.engine.state.total,
        "states": states,
        "planned": planned,
        "grown": resident_memory() - before,
    }


def _filled(language: LanguageModel, plan: Plan) -> tuple[Slots, int]:
    """Slots that hold all sessions of a plan, and the bytes of their states."""
    like, states = language.new_state(1, kv_dtype=plan.facts["kv_dtype"]), 0
    slots = slots_of(language.network, like, plan.sessions)
    for slot in range(plan.sessions):
        state = synthetic_state(like.sequences[0], plan.context, torch.bfloat16, slot)
        slots.set_state(slot, state)
        states += sum(layer.nbytes for layer in state.layers)
    return slots, states


def _load_libraries() -> None:
    """Runs a small model once, so that what a process holds beside a model is there."""
    spec = preset("mamba2-130m").spec
    language = braidlm.build(replace(spec, vocab=32, blocks=spec.blocks[:1]), dtype="bfloat16")
    language.forward(torch.zeros(1, 256, dtype=torch.int64), state=language.new_state())
    give_back()


def _exact(found: Mapping[str, int]) -> bool:
    return found["states"] == found["planned_states"]
