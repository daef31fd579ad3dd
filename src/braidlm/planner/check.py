"""Check of a plan: the model runs its workload here, and what was forecast stands beside what is measured."""

import statistics
import time
from typing import NamedTuple

import torch

from ..api.language_model import LanguageModel
from ..api.loading import build, load
from ..api.places import is_preset
from ..decode.decode import Decoder
from ..decode.slots import Slots, copy_to_slots, slots_of
from ..engine.limits import Limits
from ..errors import InputError
from ..ops import dispatch
from ..state.batch import BatchState
from ..system.memory import give_back, resident_memory
from .plan import Plan
from .probe import median_run

# Steps that are measured, of one sequence and of all; one more of each comes before, and one with copies at the end.
_STEPS = 16
GENERATED = 2 * (1 + _STEPS) + 1
_WARM_UP = 64


class Checked(NamedTuple):
    """One number of a plan: its forecast and its measurement."""

    name: str
    forecast: float
    measured: float

    @property
    def error(self) -> float | None:
        """Error of the forecast as a share of what was measured; None where nothing was, as memory on some systems."""
        return self.forecast / self.measured - 1 if self.measured else None


def check_plan(plan: Plan, dtype: str, quantize: str | None) -> list[Checked]:
    """Runs a plan's workload and measures it; a preset gets random weights of its shape.

    Every session reads a prompt of its own; as many decode together as an engine has slots. `InputError` without a
    forecast, and for a context that leaves no room for the generated tokens.
    """
    if plan.speed is None or plan.resident_bytes is None:
        raise InputError("there is no forecast to check; measure this machine first with braid plan --calibrate")
    language = _model(plan.model, dtype, quantize)
    declared = language.spec.max_positions
    if declared is not None and plan.context + GENERATED > declared:
        raise InputError(
            f"the check generates {GENERATED} tokens after the context; together they can be {declared} at most, "
            f"the declared length of {plan.model}"
        )
    with torch.no_grad(), dispatch.using("auto"):
        return _run(plan, language)


def _model(name: str, dtype: str, quantize: str | None) -> LanguageModel:
    if not is_preset(name):
        return load(name, dtype, quantize=quantize)
    language = build(name, dtype=dtype)
    if quantize is not None:
        language.quantize(quantize, progress=False)
    return language


def _run(plan: Plan, language: LanguageModel) -> list[Checked]:
    assert plan.speed is not None
    assert plan.resident_bytes is not None
    kv_dtype = plan.facts["kv_dtype"]
    held = language.new_state(plan.sessions, kv_dtype=kv_dtype)
    _prompt_seconds(language, held.fork(0), min(plan.context, _WARM_UP))
    first = [_prompt_seconds(language, held, plan.context, session) for session in range(plan.sessions)]
    state_bytes = held.nbytes
    parallel = Limits().parallel
    slots, rows = slots_of(language.network, held, parallel), min(plan.sessions, parallel)
    copy_to_slots(slots, held.select(range(rows)))
    held = held.select(range(rows, plan.sessions))  # those that decode are in their slots alone
    alone, together = [_step_seconds(slots, count) for count in (1, rows)]
    step_with_rollback(slots, rows)
    give_back()  # as an engine does that has nothing to do
    return [
        Checked("state, bytes", plan.sessions * plan.engine.state.total, state_bytes),
        Checked("resident memory, bytes", plan.resident_bytes, resident_memory()),
        Checked("time to first token, seconds", plan.speed.first_token_seconds, statistics.median(first)),
        Checked("tokens a second, one sequence", plan.speed.tokens_per_second, 1 / alone),
        Checked("tokens a second, all sessions", plan.speed.tokens_per_second_of_all, rows / together),
    ]


def _prompt_seconds(language: LanguageModel, held: BatchState, length: int, session: int = 0) -> float:
    """Seconds of a random prompt, whose state is `held` from then on."""
    state = language.new_state(kv_dtype=held.precision.kv)
    ids = torch.randint(language.spec.vocab, (1, length))
    begun = time.perf_counter()
    language.forward(ids, state=state, logits="last")
    seconds = time.perf_counter() - begun
    held.restore(session, state)
    return seconds


def _step_seconds(slots: Slots, count: int) -> float:
    """Median seconds of a step of one token of each of the first `count` slots."""
    return median_run(lambda: slots.step(torch.zeros(count, dtype=torch.int64), list(range(count))), _STEPS)


def step_with_rollback(slots: Slots, count: int) -> None:
    """Runs a step of the first `count` slots and keeps what a rollback needs until the next, as speculation does."""
    if isinstance(slots, Decoder):
        slots.step(torch.zeros(count, dtype=torch.int64), list(range(count)), keep=range(count))
