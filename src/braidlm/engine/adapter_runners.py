"""Runners of a model's adapters and initial states, side by side over slots of the same numbers.

A decode step is one call for each adapter in it: sequences that differ in their initial state alone share a call.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..adapters import Variants
from ..errors import InputError
from ..generation.generate import Run
from ..model.model import Model
from ..state.batch import BatchState
from ..state.sequence import Identity
from ..state.state_file import Owner
from .request import Request, as_exception
from .runner import DecodeInput, Runner

# An adapter and a learned initial state by name.
AdapterKey = tuple[str | None, str | None]
BASE: AdapterKey = (None, None)


def adapter_key_of(request: Request) -> AdapterKey:
    """Adapter and initial state that a request names."""
    return request.adapter, request.initial


class AdapterRunners:
    """Runners by adapter key; each is made when it is first needed."""

    def __init__(
        self, model: Model, run: Run, new_state: Callable[[], BatchState], slots: int, variants: Variants | None
    ) -> None:
        """`run`, `new_state` and `slots` are as for `Runner`."""
        self._model = model
        self._run = run
        self._new_state = new_state
        self._slots = slots
        self._variants = variants or Variants(model)
        self._runners = {BASE: Runner(model, run, new_state, slots)}
        self._precision = new_state().precision

    @property
    def base(self) -> Runner:
        """Runner of the model itself."""
        return self._runners[BASE]

    def require(self, adapter_key: AdapterKey) -> None:
        """`InputError` unless there are this adapter and initial state, and the model can run with them."""
        self._variants.require(*adapter_key)
        if adapter_key[0] is not None and self._run is not self._model:
            raise InputError("deterministic runs have no adapters; merge the adapter into the weights")

    def identity_of(self, adapter_key: AdapterKey) -> Identity:
        """Identity of the states of an adapter key. May be asked from any thread."""
        return self._variants.of(*adapter_key).weights.identity(self._precision.kv)

    def runner_of(self, adapter_key: AdapterKey) -> Runner:
        """Runner of an adapter key."""
        if adapter_key not in self._runners:
            model = self._variants.of(*adapter_key)
            adapter, initial = adapter_key
            # An initial state changes where a sequence begins; only adapters change how tokens are run.
            run = self._run if adapter is None else model
            shared = None if initial is None else self.runner_of((adapter, None)).slots
            kv = self._precision.kv
            self._runners[adapter_key] = Runner(model, run, lambda: model.new_state(1, kv), self._slots, shared)
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

    def decode(
        self, inputs: Sequence[tuple[AdapterKey, DecodeInput]]
    ) -> tuple[dict[int, Tensor], dict[int, Exception]]:
        """One decode step; by slot, the logits after each of its tokens, [tokens, V], or the error.

        Where a call fails, its slots go on one by one, without draft tokens: only those at fault stay where they are.
        """
        made: dict[int, Tensor] = {}
        failed: dict[int, Exception] = {}
        for adapter in dict.fromkeys(adapter for (adapter, _), _ in inputs):
            runner = self.runner_of((adapter, None))
            own = [step_input for (name, _), step_input in inputs if name == adapter]
            try:
                made |= runner.decode(own)
            except BaseException:  # a panic of a library is none of Exception
                for step_input in own:
                    try:
                        made |= runner.decode([step_input.without_draft])
                    except BaseException as error:
                        failed[step_input.slot] = as_exception(error)
        return made, failed

    def rollback(self, counts: Mapping[tuple[AdapterKey, int], int]) -> None:
        """Takes back as many of the last tokens of each slot as `counts` says."""
        for adapter in dict.fromkeys(adapter for (adapter, _), _ in counts):
            self.runner_of((adapter, None)).rollback(
                {slot: n for ((of, _), slot), n in counts.items() if of == adapter}
            )
