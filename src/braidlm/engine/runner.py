"""Runner: a step's passes, over a model with its adapters and learned initial states.

Each adapter key has a model runner, side by side over slots of the same numbers. A decode step is one call for each
adapter in it: sequences that differ in their initial state alone share a call.
"""

import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..adapters import AdapterRegistry
from ..errors import InputError, as_exception
from ..model.model import Logits, Model
from ..state.batch import BatchState
from ..state.sequence import Identity, SequenceState
from ..state.state_file import Owner
from .model_runner import ForwardFunction, ModelRunner, Part, Prefilled
from .request import BASE, AdapterKey
from .sequence import DecodeInput, Sequence
from .step import Prefill, Step


@dataclass
class Outcome:
    """Results of a step's passes by sequence: of prefill, logits of decode ([tokens, V]), and errors."""

    prefilled: dict[Sequence, Prefilled] = field(default_factory=dict)
    logits: dict[Sequence, NDArray[np.float32]] = field(default_factory=dict)
    failed: dict[Sequence, Exception] = field(default_factory=dict)
    decode_s: float = 0.0


class Runner:
    """Runner of one engine. States of sequences live here: before decode by sequence, and then in slots."""

    def __init__(
        self,
        model: Model,
        run: ForwardFunction,
        new_state: Callable[[], BatchState],
        slots: int,
        adapters: AdapterRegistry | None,
        *,
        retry_alone: bool,
    ) -> None:
        """`run`, `new_state` and `slots` are as for `ModelRunner`; its adapters and initial states are `adapters`.

        With `retry_alone`, the sequences of a decode step that failed run again one by one. Not where a signal's
        handler may raise in the midst of a step, which may then have moved some on.
        """
        self._model = model
        self._run = run
        self._slots = slots
        self._retry_alone = retry_alone
        self._adapters = adapters or AdapterRegistry(model)
        self.base = ModelRunner(model, run, new_state, slots)
        self._runners = {BASE: self.base}
        self._states: dict[Sequence, SequenceState] = {}

    def require(self, adapter_key: AdapterKey) -> None:
        """`InputError` unless there are this adapter and initial state, and the model can run with them."""
        self._adapters.require(*adapter_key)
        if adapter_key[0] is not None and self._run is not self._model:
            raise InputError("deterministic runs have no adapters; merge the adapter into the weights")

    def identity_of(self, adapter_key: AdapterKey) -> Identity:
        """Identity of the states of an adapter key. May be asked from any thread."""
        return self._adapters.of(*adapter_key).weights.identity(self.base.precision.kv)

    def runner_of(self, adapter_key: AdapterKey) -> ModelRunner:
        """Model runner of an adapter key, made when it is first needed."""
        if adapter_key not in self._runners:
            model = self._adapters.of(*adapter_key)
            adapter, initial = adapter_key
            # An initial state changes where a sequence begins; only adapters change how tokens are run.
            run = self._run if adapter is None else model
            shared = None if initial is None else self.runner_of((adapter, None)).slots
            kv = self.base.precision.kv
            self._runners[adapter_key] = ModelRunner(model, run, lambda: model.new_state(1, kv), self._slots, shared)
        return self._runners[adapter_key]

    def owner_of(self, adapter_key: AdapterKey) -> Owner:
        """Owner of the states of an adapter key."""
        return self.runner_of(adapter_key).owner

    def refresh(self) -> bool:
        """Drops runners of old weights if these have changed; whether they have."""
        if not self.base.refresh() and not any(runner.stale for runner in self._runners.values()):
            return False
        self._runners = {BASE: self.base}
        return True

    def begin(self, sequence: Sequence, state: SequenceState) -> None:
        """Begins with a state that has seen the sequence's tokens up to its position."""
        self._states[sequence] = state

    def state_of(self, sequence: Sequence) -> SequenceState:
        """State of a sequence as it is now, independent of later steps."""
        if sequence in self._states:
            return self._states[sequence]
        return self.runner_of(sequence.request.adapter_key).slots.state_of(sequence.slot)

    def free(self, sequence: Sequence) -> None:
        """Frees a sequence's state and its slot; its KV pages are not held until the slot is used again."""
        self._states.pop(sequence, None)
        self.runner_of(sequence.request.adapter_key).slots.free(sequence.slot)

    def run_prefills(self, step: Step) -> Outcome:
        """Runs a step's prefill, and gives slots the states of the sequences that begin to decode."""
        outcome = Outcome()
        for adapter_key in dict.fromkeys(prefill.sequence.request.adapter_key for prefill in step.prefills):
            alike = [prefill for prefill in step.prefills if prefill.sequence.request.adapter_key == adapter_key]
            try:
                outcome.prefilled |= self._prefill(adapter_key, alike)
            except BaseException as error:
                outcome.failed |= dict.fromkeys((prefill.sequence for prefill in alike), as_exception(error))
        for sequence in step.starts:
            if sequence not in outcome.failed:
                try:
                    self._start(sequence)
                except BaseException as error:
                    outcome.failed[sequence] = as_exception(error)
        return outcome

    def run_decodes(self, step: Step) -> Outcome:
        """Runs a step's decode, of all sequences that have not ended since it was scheduled."""
        outcome, begun = Outcome(), time.perf_counter()
        self._decode([item for item in step.decodes if not item.sequence.ended], outcome)
        outcome.decode_s = time.perf_counter() - begun
        return outcome

    def _prefill(self, adapter_key: AdapterKey, prefills: Items[Prefill]) -> dict[Sequence, Prefilled]:
        parts = [
            Part(
                self._states[sequence],
                sequence.request.ids[chunk.begin : chunk.end],
                tuple(position - chunk.begin for position in chunk.snapshot_positions),
            )
            for sequence, chunk in prefills
        ]
        made = self.runner_of(adapter_key).prefill(parts, logits=_logits_of(prefills))
        found = {prefill.sequence: result for prefill, result in zip(prefills, made, strict=True)}
        self._states |= {sequence: result.state for sequence, result in found.items()}
        return found

    def _start(self, sequence: Sequence) -> None:
        """Puts the state after a prompt's passes into the slots of the sequence and of its forks."""
        state, slots = self._states.pop(sequence), self.runner_of(sequence.request.adapter_key).slots
        for each in (sequence, *sequence.forks):
            slots.set_state(each.slot, state)

    def _decode(self, inputs: Items[DecodeInput], outcome: Outcome) -> None:
        """One decode step.

        Where a call fails and sequences may run again, they go on one by one, without draft tokens: only those at
        fault stay where they are.
        """
        for adapter in dict.fromkeys(item.sequence.request.adapter for item in inputs):
            runner = self.runner_of((adapter, None))
            own = [item for item in inputs if item.sequence.request.adapter == adapter]
            try:
                outcome.logits |= zip((item.sequence for item in own), runner.decode(own), strict=True)
            except BaseException as error:  # a panic of a library is none of Exception
                if not self._retry_alone:
                    outcome.failed |= dict.fromkeys((item.sequence for item in own), as_exception(error))
                    continue
                for item in own:
                    try:
                        (outcome.logits[item.sequence],) = runner.decode([item.without_draft])
                    except BaseException as error:
                        outcome.failed[item.sequence] = as_exception(error)

    def rollback(self, counts: Mapping[Sequence, int]) -> None:
        """Rolls back as many of the last tokens of each sequence as `counts` says."""
        for adapter in dict.fromkeys(sequence.request.adapter for sequence in counts):
            self.runner_of((adapter, None)).rollback(
                {sequence.slot: n for sequence, n in counts.items() if sequence.request.adapter == adapter}
            )


def _logits_of(prefills: Items[Prefill]) -> Logits:
    """Logits that a pass is asked for: those of all tokens, of the last ones, or none, as its sequences need them."""
    if any(sequence.request.prompt_logprobs is not None for sequence, _ in prefills):
        return "all"
    return "last" if any(chunk.end == len(sequence.request.ids) for sequence, chunk in prefills) else None
